//! Tokens for and against an issuer of JWTs: those that must be believed, and those that must not, class by class.
#![expect(clippy::unwrap_used, reason = "it fails by panicking, like the tests that use it")]

use crate::issuer::{Signer, base64url};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

/// An issuer with keys for three algorithms, whose tokens may name the tenants `42` and `acme`.
pub const ISSUER: &str = "https://issuer.example";
/// An issuer that signs with RS256 alone, and may name every tenant.
pub const NARROW: &str = "https://narrow.example";
/// An issuer that signs with HS256, and may name every tenant.
pub const SHARED: &str = "https://shared.example";
/// Whom all of them issue tokens for.
pub const AUDIENCE: &str = "countersign";
/// The id of the secret that [`SHARED`] signs with.
pub const SECRET_ID: &str = "shared";
/// The tenant that the tokens name.
pub const TENANT: &str = "42";
/// The longest token that is looked at, in bytes.
const LONGEST: usize = 8 * 1024;

/// The keys of the three issuers, and a stranger's.
#[derive(Debug)]
pub struct Kit {
    /// `rsa` at [`ISSUER`].
    pub rsa: Signer,
    /// `ec` at [`ISSUER`].
    pub p256: Signer,
    /// `ec-2` at [`ISSUER`].
    pub second_p256: Signer,
    /// `ed` at [`ISSUER`].
    pub ed25519: Signer,
    /// `rsa` at [`NARROW`].
    pub narrow_rsa: Signer,
    /// `ec` at [`NARROW`], which may not sign with it.
    pub narrow_p256: Signer,
    /// What [`SHARED`] signs with.
    pub secret: Signer,
    /// Nobody's.
    pub stranger: Signer,
}

/// A token and what it is.
#[derive(Clone, Debug)]
pub struct Case {
    /// What is special about it.
    pub name: String,
    /// The token.
    pub token: String,
    /// Whether it was right once.
    pub expired: bool,
}

impl Kit {
    /// New keys.
    #[must_use]
    pub fn generate() -> Self {
        Self {
            rsa: Signer::rsa(),
            p256: Signer::p256(),
            second_p256: Signer::p256(),
            ed25519: Signer::ed25519(),
            narrow_rsa: Signer::rsa(),
            narrow_p256: Signer::p256(),
            secret: Signer::Secret(b"a secret of more than 32 bytes, shared".to_vec()),
            stranger: Signer::p256(),
        }
    }

    /// The text of the shared secret.
    #[must_use]
    pub fn secret_text(&self) -> String {
        String::from_utf8(self.secret.public_der()).unwrap_or_default()
    }

    /// What [`ISSUER`] publishes.
    #[must_use]
    pub fn jwks(&self) -> Vec<Value> {
        vec![self.rsa.jwk("rsa"), self.p256.jwk("ec"), self.second_p256.jwk("ec-2"), self.ed25519.jwk("ed")]
    }

    /// What [`NARROW`] publishes.
    #[must_use]
    pub fn narrow_jwks(&self) -> Vec<Value> {
        vec![self.narrow_rsa.jwk("rsa"), self.narrow_p256.jwk("ec")]
    }

    /// `COUNTERSIGN_ISSUERS` with all three.
    #[must_use]
    pub fn configuration(jwks_url: &str, narrow_jwks_url: &str) -> String {
        json!([
            { "issuer": ISSUER, "audience": AUDIENCE, "jwks_url": jwks_url, "algorithms": ["RS256", "ES256", "EdDSA"],
              "tenants": [TENANT, "acme"] },
            { "issuer": NARROW, "audience": AUDIENCE, "jwks_url": narrow_jwks_url, "algorithms": ["RS256"],
              "tenants": "*" },
            { "issuer": SHARED, "audience": AUDIENCE, "hs256_secret_id": SECRET_ID, "algorithms": ["HS256"],
              "tenants": "*" },
        ])
        .to_string()
    }

    /// What a token of [`ISSUER`] that was issued at `now` says.
    #[must_use]
    pub fn claims(now: i64) -> Claims {
        Claims(json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": "7", "iat": now, "exp": now + 3600,
            "tenant_id": TENANT, "organization_id": 42, "user_id": 7, "role": "admin", "roles": ["admin"],
        }))
    }

    /// Tokens that must be believed at `now`: what is next to a hostile one and right.
    #[must_use]
    pub fn believed(&self, now: i64) -> Vec<Case> {
        let mut cases = Cases::new(self, now);
        cases.right_keys();
        cases.right_headers();
        cases.right_claims();
        cases.right_encodings();
        cases.cases
    }

    /// Tokens that must not be believed at `now`.
    #[must_use]
    pub fn hostile(&self, now: i64) -> Vec<Case> {
        let mut cases = Cases::new(self, now);
        cases.public_keys_as_secrets();
        cases.swapped_algorithms();
        cases.misspelt_algorithms();
        cases.no_signature_wanted();
        cases.wrong_issuers();
        cases.wrong_audiences();
        cases.wrong_types();
        cases.wrong_subjects();
        cases.duplicates();
        cases.over();
        cases.wrong_times();
        cases.key_ids();
        cases.keys_of_their_own();
        cases.cut_apart();
        cases.written_otherwise();
        cases.forged_signatures();
        cases.tampered();
        cases.payloads();
        cases.tenants();
        cases.sizes();
        cases.cases
    }
}

/// Claims that tests change.
#[derive(Clone, Debug)]
pub struct Claims(pub Value);

impl Claims {
    /// The same with this claim.
    #[must_use]
    pub fn with(&self, name: &str, value: impl Into<Value>) -> Self {
        let mut claims = self.0.clone();
        claims[name] = value.into();
        Self(claims)
    }

    /// The same without this claim.
    #[must_use]
    pub fn without(&self, name: &str) -> Self {
        Self(
            self.0
                .as_object()
                .unwrap()
                .clone()
                .into_iter()
                .filter(|(key, _)| key != name)
                .collect::<Map<_, _>>()
                .into(),
        )
    }

    /// As JSON text.
    #[must_use]
    pub fn text(&self) -> String {
        self.0.to_string()
    }
}

fn header(algorithm: &str, kid: &str) -> Claims {
    Claims(json!({ "alg": algorithm, "typ": "JWT", "kid": kid }))
}

/// JSON text with another field in front.
fn prefixed(object: &str, field: &str) -> String {
    format!("{{{field},{}", &object[1..])
}

/// JSON text with another field behind.
fn suffixed(object: &str, field: &str) -> String {
    format!("{},{field}}}", &object[..object.len() - 1])
}

struct Cases<'a> {
    kit: &'a Kit,
    now: i64,
    claims: Claims,
    cases: Vec<Case>,
}

impl<'a> Cases<'a> {
    fn new(kit: &'a Kit, now: i64) -> Self {
        Self { kit, now, claims: Kit::claims(now), cases: Vec::new() }
    }

    fn add(&mut self, name: impl Into<String>, token: impl Into<String>) {
        self.cases.push(Case { name: name.into(), token: token.into(), expired: false });
    }

    /// With these claims and a header and signature that are right.
    fn claiming(&mut self, name: impl Into<String>, claims: impl AsRef<[u8]>) {
        let token = self.kit.p256.token(header("ES256", "ec").text(), claims);
        self.add(name, token);
    }

    /// With this header, claims that are right, and the right signature of the key `ec`.
    fn headed(&mut self, name: impl Into<String>, header: impl AsRef<[u8]>) {
        let token = self.kit.p256.token(header, self.claims.text());
        self.add(name, token);
    }

    /// A claim that has this value instead.
    fn with(&mut self, claim: &str, value: impl Into<Value>) {
        let value = value.into();
        let shown: String = value.to_string().chars().take(40).collect();
        let claims = self.claims.with(claim, value).text();
        self.claiming(format!("{claim}: {shown}"), claims);
    }

    /// A token that is right, in its three parts.
    fn right(&self) -> [String; 3] {
        let token = self.kit.p256.token(header("ES256", "ec").text(), self.claims.text());
        let parts: Vec<_> = token.split('.').map(str::to_owned).collect();
        parts.try_into().unwrap()
    }

    fn right_keys(&mut self) {
        let kit = self.kit;
        let text = self.claims.text();
        for (signer, kid) in [(&kit.rsa, "rsa"), (&kit.p256, "ec"), (&kit.second_p256, "ec-2"), (&kit.ed25519, "ed")] {
            let algorithm = signer.algorithm();
            self.add(format!("{algorithm} with {kid}"), signer.token(header(algorithm, kid).text(), &text));
        }
        for signer in [&kit.rsa, &kit.ed25519] {
            let header = json!({ "alg": signer.algorithm() }).to_string();
            self.add(format!("{} without kid, of which there is one", signer.algorithm()), signer.token(header, &text));
        }
        let narrow = self.claims.with("iss", NARROW).with("tenant_id", "43").with("organization_id", 43).text();
        self.add("another issuer", kit.narrow_rsa.token(header("RS256", "rsa").text(), narrow));
        let shared = self.claims.with("iss", SHARED).text();
        self.add("HS256", kit.secret.token(r#"{"alg":"HS256"}"#, &shared));
        self.add("HS256 with a kid", kit.secret.token(header("HS256", "any").text(), &shared));
    }

    fn right_headers(&mut self) {
        for typ in ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", "application/JWT"] {
            self.headed(format!("typ {typ}"), header("ES256", "ec").with("typ", typ).text());
        }
        self.headed("no typ", header("ES256", "ec").without("typ").text());
        self.headed("a header that means nothing here", header("ES256", "ec").with("x5t", "abc").with("new", 1).text());
        self.headed("blanks in the header", "\n{ \"alg\" : \"ES256\",\t\"kid\":\"ec\" }\r\n");
    }

    fn right_claims(&mut self) {
        self.with("aud", json!([AUDIENCE]));
        self.with("aud", json!(["other", AUDIENCE]));
        self.with("sub", "ü".repeat(255));
        for (claim, seconds) in [("exp", 1), ("exp", -29), ("nbf", 0), ("nbf", 30), ("iat", 30), ("iat", -100_000)] {
            self.with(claim, self.now + seconds);
        }
        self.with("exp", json!(self.now as f64 + 0.5));
        self.with("exp", 250_000_000_000_i64);
        self.with("jti", json!({ "deep": [[[1.5, null, true, "x"]]] }));
        self.claiming("no iat", self.claims.without("iat").text());
        self.claiming("no tenant_id", self.claims.without("tenant_id").text());
        self.claiming("no organization_id", self.claims.without("organization_id").text());
        let deep = format!(r#""x":{}{}"#, "[".repeat(127), "]".repeat(127));
        self.claiming("nested 128 levels", suffixed(&self.claims.text(), &deep));
        self.claiming("blanks in the claims", format!(" {}\n", serde_json::to_string_pretty(&self.claims.0).unwrap()));
        self.claiming("escapes in a name", self.claims.text().replace("\"sub\"", "\"\\u0073ub\""));
        self.claiming("the same key in two objects", suffixed(&self.claims.text(), r#""x":{"sub":"1"}"#));
        let longest = self.of_length(LONGEST);
        self.add("8192 bytes", longest);
    }

    fn right_encodings(&mut self) {
        let [header, claims, signature] = self.right();
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
        let twin = base64url(other_s(&signature));
        // One of the two is above half the order; both are ECDSA signatures of the message.
        self.add("the other s", format!("{header}.{claims}.{twin}"));
    }

    fn public_keys_as_secrets(&mut self) {
        let kit = self.kit;
        for (signer, kid, coordinate) in [(&kit.rsa, "rsa", "n"), (&kit.p256, "ec", "x"), (&kit.ed25519, "ed", "x")] {
            let der = signer.public_der();
            let jwk = signer.jwk(kid);
            let text = jwk[coordinate].as_str().unwrap().to_owned();
            let raw = BASE64_URL_SAFE_NO_PAD.decode(&text).unwrap();
            for (spelling, secret) in [
                ("PEM", pem(&der).into_bytes()),
                ("PEM without its last line feed", pem(&der).trim_end().as_bytes().to_vec()),
                ("DER", der.clone()),
                ("DER in base64", BASE64_STANDARD.encode(&der).into_bytes()),
                ("JWK", jwk.to_string().into_bytes()),
                ("a coordinate's text", text.into_bytes()),
                ("a coordinate's bytes", raw),
            ] {
                let token = Signer::Secret(secret).token(header("HS256", kid).text(), self.claims.text());
                self.add(format!("HS256 with the public key {kid} as secret: {spelling}"), token);
            }
        }
        let empty = Signer::Secret(Vec::new());
        let text = self.claims.text();
        self.add("HS256 with no secret", empty.token(header("HS256", "ec").text(), &text));
        let shared = self.claims.with("iss", SHARED).text();
        self.add("HS256 with no secret where HS256 is right", empty.token(header("HS256", "ec").text(), shared));
        let secret = &self.kit.secret;
        self.add("HS256 with another issuer's secret", secret.token(header("HS256", "ec").text(), text));
    }

    fn swapped_algorithms(&mut self) {
        let kit = self.kit;
        let keys = [(&kit.rsa, "rsa"), (&kit.p256, "ec"), (&kit.ed25519, "ed")];
        for (signer, kid) in keys {
            for (other, other_kid) in keys.into_iter().filter(|(_, other)| *other != kid) {
                let algorithm = other.algorithm();
                let token = signer.token(header(algorithm, kid).text(), self.claims.text());
                self.add(format!("{algorithm} although {kid} signed"), token);
                let token = signer.token(header(algorithm, other_kid).text(), self.claims.text());
                self.add(format!("{algorithm} with {other_kid} although {kid} signed"), token);
            }
            let token = signer.token(header(signer.algorithm(), "ec-2").text(), self.claims.text());
            self.add(format!("{} signed by {kid} in another key's name", signer.algorithm()), token);
        }
        let shared = self.claims.with("iss", SHARED).text();
        for algorithm in ["RS256", "ES256", "HS384", "HS512"] {
            let token = kit.secret.token(header(algorithm, "ec").text(), &shared);
            self.add(format!("{algorithm} where HS256 is pinned"), token);
        }
        let narrow = self.claims.with("iss", NARROW).text();
        let token = kit.narrow_p256.token(header("ES256", "ec").text(), narrow);
        self.add("ES256 by a published key where RS256 is pinned", token);
    }

    fn misspelt_algorithms(&mut self) {
        for algorithm in [
            json!("es256"),
            json!("Es256"),
            json!("ES256 "),
            json!("ES256\u{0}"),
            json!("ES256K"),
            json!("ES384"),
            json!("ES512"),
            json!("PS256"),
            json!("RS384"),
            json!("Ed25519"),
            json!(""),
            json!(["ES256"]),
            json!({ "ES256": 1 }),
            json!(256),
            json!(true),
            json!(null),
        ] {
            self.headed(format!("alg: {algorithm}"), header("ES256", "ec").with("alg", algorithm).text());
        }
        self.headed("no alg", header("ES256", "ec").without("alg").text());
        for algorithm in ["RS384", "RS512", "PS256"] {
            let token = self.kit.rsa.token(header(algorithm, "rsa").text(), self.claims.text());
            self.add(format!("{algorithm} although signed with RS256"), token);
        }
    }

    fn no_signature_wanted(&mut self) {
        let claims = base64url(self.claims.text());
        for none in ["none", "None", "NONE", "nOnE", "none ", " none", "null"] {
            let with_kid = header(none, "ec").text();
            self.add(format!("alg {none}, no signature"), format!("{}.{claims}.", base64url(&with_kid)));
            self.headed(format!("alg {none}, signed all the same"), with_kid);
        }
        let bare = base64url(r#"{"alg":"none"}"#);
        self.add("alg none and nothing else", format!("{bare}.{claims}."));
        self.add("alg none, two parts", format!("{bare}.{claims}"));
        self.add("alg none, some signature", format!("{bare}.{claims}.AAAA"));
        let shared = base64url(self.claims.with("iss", SHARED).text());
        self.add("alg none where HS256 is pinned", format!("{bare}.{shared}."));
    }

    fn wrong_issuers(&mut self) {
        self.claiming("no iss", self.claims.without("iss").text());
        for issuer in [
            json!("https://other.example"),
            json!("https://issuer.example/"),
            json!("HTTPS://ISSUER.EXAMPLE"),
            json!("https://issuer.example "),
            json!("http://issuer.example"),
            json!("https://issuer.exampl"),
            json!("countersign-local"),
            json!("*"),
            json!(""),
            json!([ISSUER]),
            json!({ "iss": ISSUER }),
            json!(1),
            json!(null),
        ] {
            self.with("iss", issuer);
        }
        let kit = self.kit;
        let narrow = self.claims.with("iss", NARROW).text();
        self.add("another issuer's name", kit.rsa.token(header("RS256", "rsa").text(), narrow));
        let token = kit.narrow_rsa.token(header("RS256", "rsa").text(), self.claims.text());
        self.add("another issuer's key", token);
    }

    fn wrong_audiences(&mut self) {
        self.claiming("no aud", self.claims.without("aud").text());
        for audience in [
            json!("other"),
            json!("Countersign"),
            json!("countersign "),
            json!("countersign/"),
            json!(""),
            json!("*"),
            json!([]),
            json!(["other"]),
            json!(["other", ["countersign"]]),
            json!(["countersign,other"]),
            json!({ "countersign": true }),
            json!(1),
            json!(true),
            json!(null),
        ] {
            self.with("aud", audience);
        }
    }

    fn wrong_types(&mut self) {
        for typ in [
            json!("JWE"),
            json!("dpop+jwt"),
            json!("logout+jwt"),
            json!("application/dpop+jwt"),
            json!("application/application/jwt"),
            json!("text/jwt"),
            json!("JWT "),
            json!(""),
            json!(["JWT"]),
            json!(1),
            json!(null),
        ] {
            self.headed(format!("typ: {typ}"), header("ES256", "ec").with("typ", typ).text());
        }
    }

    fn wrong_subjects(&mut self) {
        self.claiming("no sub", self.claims.without("sub").text());
        for subject in
            [json!(""), json!(7), json!(["7"]), json!(null), json!("7\u{0}"), json!("7\r\nX: y"), json!("7\u{1b}[2J")]
        {
            self.with("sub", subject);
        }
        self.with("sub", "ü".repeat(256));
    }

    fn duplicates(&mut self) {
        let text = self.claims.text();
        for claim in ["iss", "aud", "exp", "sub", "iat", "tenant_id", "organization_id"] {
            let value = self.claims.0[claim].clone();
            let escaped = format!("\\u{:04x}{}", claim.as_bytes()[0], &claim[1..]);
            self.claiming(format!("{claim} twice"), suffixed(&text, &format!(r#""{claim}":{value}"#)));
            self.claiming(format!("{claim} twice, first wrong"), prefixed(&text, &format!(r#""{claim}":"x""#)));
            self.claiming(format!("{claim} twice, then wrong"), suffixed(&text, &format!(r#""{claim}":null"#)));
            self.claiming(format!("{claim} twice, escaped"), suffixed(&text, &format!(r#""{escaped}":{value}"#)));
        }
        self.claiming("a key twice further inside", suffixed(&text, r#""x":[{"a":{"b":1,"b":1}}]"#));
        let header = header("ES256", "ec");
        for field in ["alg", "typ", "kid"] {
            let value = header.0[field].clone();
            let escaped = format!("\\u{:04x}{}", field.as_bytes()[0], &field[1..]);
            self.headed(format!("{field} twice"), suffixed(&header.text(), &format!(r#""{field}":{value}"#)));
            self.headed(
                format!("{field} twice, escaped"),
                prefixed(&header.text(), &format!(r#""{escaped}":{value}"#)),
            );
        }
        self.headed("alg twice, first none", prefixed(&header.text(), r#""alg":"none""#));
        self.headed("alg twice, then none", suffixed(&header.text(), r#""alg":"none""#));
    }

    fn over(&mut self) {
        let first = self.cases.len();
        for seconds in [-30, -31, -100_000] {
            self.with("exp", self.now + seconds);
        }
        for expires in [json!(0), json!(-1), json!(-0.5), json!(1.5), json!(-1_000_000)] {
            self.with("exp", expires);
        }
        for case in &mut self.cases[first..] {
            case.expired = true;
        }
    }

    fn wrong_times(&mut self) {
        self.claiming("no exp", self.claims.without("exp").text());
        let soon = self.now + 60;
        for (claim, good) in [("exp", soon), ("nbf", self.now), ("iat", self.now)] {
            for time in [
                json!(good.to_string()),
                json!("NaN"),
                json!("2027-01-01T00:00:00Z"),
                json!(""),
                json!([good]),
                json!({ "at": good }),
                json!(true),
                json!(null),
                json!(1e300),
                json!(i64::MAX),
                json!(u64::MAX),
                json!(-1e300),
            ] {
                self.with(claim, time);
            }
            for literal in ["NaN", "Infinity", "-Infinity", "1e999", "0x7fffffff", "+1", "01", "1."] {
                let text = self.claims.without(claim).text();
                self.claiming(format!("{claim}: {literal}"), suffixed(&text, &format!(r#""{claim}":{literal}"#)));
            }
        }
        for claim in ["nbf", "iat"] {
            for seconds in [31, 3600] {
                self.with(claim, self.now + seconds);
            }
        }
        // Wrong in two ways: that it is over is not what is said of a token that was never right.
        let over = self.claims.with("exp", self.now - 3600);
        self.claiming("expired, for someone else", over.with("aud", "other").text());
        let token = self.kit.stranger.token(header("ES256", "ec").text(), over.text());
        self.add("expired, and signed by a stranger", token);
    }

    fn key_ids(&mut self) {
        for kid in [
            json!("unknown"),
            json!(""),
            json!("EC"),
            json!(" ec"),
            json!("ec\u{0}"),
            json!("ec-3"),
            json!("../../../../dev/null"),
            json!("/etc/passwd"),
            json!("' OR '1'='1"),
            json!("ec' UNION SELECT 'x"),
            json!("ec; rm -rf /"),
            json!("$(id)"),
            json!("https://evil.example/keys"),
            json!("\u{202e}ce"),
            json!("k".repeat(5000)),
            json!(1),
            json!(1.5),
            json!(["ec"]),
            json!({ "kid": "ec" }),
            json!(true),
            json!(null),
        ] {
            let shown: String = kid.to_string().chars().take(40).collect();
            self.headed(format!("kid: {shown}"), header("ES256", "ec").with("kid", kid).text());
        }
        self.headed("no kid where there are two keys", header("ES256", "ec").without("kid").text());
        // What a kid that is read as a file might give.
        for (kid, secret) in [("/dev/null", ""), ("/proc/sys/kernel/randomize_va_space", "2\n")] {
            let token =
                Signer::Secret(secret.as_bytes().to_vec()).token(header("HS256", kid).text(), self.claims.text());
            self.add(format!("HS256 with the file {kid} as secret"), token);
        }
    }

    fn keys_of_their_own(&mut self) {
        let stranger = &self.kit.stranger;
        let url = "http://127.0.0.1:9/keys";
        let own = stranger.jwk("ec");
        let certificate = BASE64_STANDARD.encode(stranger.public_der());
        for (field, value) in [
            ("jku", json!(url)),
            ("x5u", json!(url)),
            ("jwk", own),
            ("x5c", json!([certificate])),
            ("crit", json!(["exp"])),
            ("crit", json!([])),
            ("b64", json!(false)),
            ("b64", json!(true)),
            ("zip", json!("DEF")),
        ] {
            let header = header("ES256", "ec").with(field, value.clone()).text();
            let shown: String = value.to_string().chars().take(20).collect();
            let token = stranger.token(&header, self.claims.text());
            self.add(format!("{field} {shown}, by a stranger"), token);
            self.headed(format!("{field} {shown}, otherwise right"), header);
        }
        let token = stranger.token(header("ES256", "ec").text(), self.claims.text());
        self.add("a stranger's key", token);
        let unencoded = format!("{}.{}", base64url(r#"{"alg":"ES256","kid":"ec","b64":false,"crit":["b64"]}"#), "x");
        let signature = base64url(self.kit.p256.sign(unencoded.as_bytes()));
        self.add("an unencoded payload", format!("{unencoded}.{signature}"));
    }

    fn cut_apart(&mut self) {
        let [header, claims, signature] = self.right();
        for (name, token) in [
            ("one dot", ".".to_owned()),
            ("two dots", "..".to_owned()),
            ("a word", "token".to_owned()),
            ("the header alone", header.clone()),
            ("the header and a dot", format!("{header}.")),
            ("no signature", format!("{header}.{claims}")),
            ("an empty signature", format!("{header}.{claims}.")),
            ("empty claims", format!("{header}..{signature}")),
            ("an empty header", format!(".{claims}.{signature}")),
            ("no header", format!("{claims}.{signature}")),
            ("a fourth part", format!("{header}.{claims}.{signature}.{signature}")),
            ("an empty fourth part", format!("{header}.{claims}.{signature}.")),
            ("a part in front", format!(".{header}.{claims}.{signature}")),
            ("five parts", format!("{header}.{claims}.{claims}.{claims}.{signature}")),
            ("twice", format!("{header}.{claims}.{signature}.{header}.{claims}.{signature}")),
            ("claims before the header", format!("{claims}.{header}.{signature}")),
            ("a header that is cut off", format!("{}.{claims}.{signature}", cut(&header, 4))),
            ("claims that are cut off", format!("{header}.{}.{signature}", cut(&claims, 4))),
            ("a signature that is cut off", format!("{header}.{claims}.{}", cut(&signature, 4))),
            ("a signature without its last character", format!("{header}.{claims}.{}", cut(&signature, 1))),
            ("half a signature", format!("{header}.{claims}.{}", cut(&signature, 43))),
            ("a blank inside", format!("{header}. {claims}.{signature}")),
            ("a tab inside", format!("{header}.{claims}.\t{signature}")),
            ("quoted", format!("\"{header}.{claims}.{signature}\"")),
            ("a scheme before it", format!("Bearer {header}.{claims}.{signature}")),
            ("a list", format!("{header}.{claims}.{signature}, {header}.{claims}.{signature}")),
            ("a parameter behind it", format!("{header}.{claims}.{signature};q=1")),
            ("percent-encoded dots", format!("{header}%2e{claims}%2e{signature}")),
        ] {
            self.add(name, token);
        }
    }

    fn written_otherwise(&mut self) {
        let [header, claims, signature] = self.right();
        let bytes = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap();
        for (name, token) in [
            ("a padded signature", format!("{header}.{claims}.{}", BASE64_URL_SAFE.encode(bytes(&signature)))),
            ("one sign of padding", format!("{header}.{claims}.{signature}=")),
            ("a signature in hexadecimal", format!("{header}.{claims}.{}", hex(&bytes(&signature)))),
            ("a signature in DER", format!("{header}.{claims}.{}", base64url(der(&bytes(&signature))))),
            ("trailing bits", format!("{header}.{claims}.{}", with_trailing_bits(&signature))),
            ("a signature in capitals", format!("{header}.{claims}.{}", signature.to_ascii_uppercase())),
            ("a line feed's escape", format!("{header}.{claims}.{signature}\\n")),
        ] {
            self.add(name, token);
        }
        // Padding and alphabet of the parts that are signed as they stand, so that the signature is right.
        let p256 = &self.kit.p256;
        let padded = |text: String| BASE64_URL_SAFE.encode(text);
        let signed = |header: String, claims: String| {
            let message = format!("{header}.{claims}");
            let signature = base64url(p256.sign(message.as_bytes()));
            format!("{message}.{signature}")
        };
        let texts = (self::header("ES256", "ec").with("pad", "x"), self.claims.with("pad", "?>?>?>~~~"));
        let one_byte_over = |text: String| format!("{text}{}", " ".repeat((4 - text.len() % 3) % 3));
        let (header_text, claims_text) = (one_byte_over(texts.0.text()), one_byte_over(texts.1.text()));
        let right = (base64url(&header_text), base64url(&claims_text));
        let others = [
            ("a padded header", signed(padded(header_text), right.1.clone())),
            ("padded claims", signed(right.0.clone(), padded(claims_text.clone()))),
            ("claims in the standard alphabet", signed(right.0.clone(), BASE64_STANDARD_NO_PAD.encode(&claims_text))),
            ("claims with trailing bits", signed(right.0.clone(), with_trailing_bits(&right.1))),
            ("claims as they are", signed(right.0.clone(), claims_text)),
        ];
        for (name, token) in others {
            self.add(name, token);
        }
        let message = format!("{header}.{claims}");
        let standard = (0..100).map(|_| BASE64_STANDARD_NO_PAD.encode(p256.sign(message.as_bytes())));
        let standard = standard.into_iter().find(|text| text.contains(['+', '/'])).unwrap();
        self.add("a signature in the standard alphabet", format!("{message}.{standard}"));
    }

    fn forged_signatures(&mut self) {
        let [header, claims, signature] = self.right();
        let real = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
        let mut flipped = real.clone();
        flipped[40] ^= 1;
        let swapped = [&real[32..], &real[..32]].concat();
        for (name, signature) in [
            ("of zeros", vec![0; 64]),
            ("r and s are 1", [[0; 31].as_slice(), &[1], &[0; 31], &[1]].concat()),
            ("r and s are the order", [ORDER, ORDER].concat()),
            ("of ones", vec![0xff; 64]),
            ("one bit flipped", flipped),
            ("r and s swapped", swapped),
            ("a byte in front", [&[0], real.as_slice()].concat()),
            ("a byte behind", [real.as_slice(), &[0]].concat()),
            ("twice", [real.as_slice(), &real].concat()),
            ("one byte", vec![1]),
        ] {
            self.add(format!("a signature {name}"), format!("{header}.{claims}.{}", base64url(signature)));
        }
        let text = self.claims.text();
        for (signer, kid) in [(&self.kit.rsa, "rsa"), (&self.kit.ed25519, "ed")] {
            let token = signer.token(self::header(signer.algorithm(), kid).text(), &text);
            let (message, signature) = token.rsplit_once('.').unwrap();
            let length = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap().len();
            for (name, byte) in [("zeros", 0), ("ones", 0xff)] {
                let forged = base64url(vec![byte; length]);
                self.add(format!("a signature of {name} for {kid}"), format!("{message}.{forged}"));
            }
        }
        let shared = self.kit.secret.token(r#"{"alg":"HS256"}"#, self.claims.with("iss", SHARED).text());
        let (message, signature) = shared.rsplit_once('.').unwrap();
        self.add("a code of zeros", format!("{message}.{}", base64url([0; 32])));
        self.add(
            "half a code",
            format!("{message}.{}", base64url(&BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap()[..16])),
        );
    }

    fn tampered(&mut self) {
        let [header, claims, signature] = self.right();
        for (name, claim, value) in [
            ("another tenant", "tenant_id", json!("acme")),
            ("another subject", "sub", json!("8")),
            ("another role", "role", json!("owner")),
            ("a longer life", "exp", json!(self.now + 7200)),
        ] {
            let other = base64url(self.claims.with(claim, value).text());
            self.add(format!("{name} under an old signature"), format!("{header}.{other}.{signature}"));
        }
        let second = base64url(self::header("ES256", "ec-2").text());
        self.add("another kid under an old signature", format!("{second}.{claims}.{signature}"));
        let blank = base64url(format!("{} ", self.claims.text()));
        self.add("a blank more under an old signature", format!("{header}.{blank}.{signature}"));
        let other = self.kit.p256.token(self::header("ES256", "ec").text(), self.claims.with("sub", "9").text());
        let other = other.rsplit_once('.').unwrap().1;
        self.add("another token's signature", format!("{header}.{claims}.{other}"));
    }

    fn payloads(&mut self) {
        let text = self.claims.text();
        let deep = format!(r#""x":{}{}"#, "[".repeat(128), "]".repeat(128));
        let unclosed = "[".repeat(5000);
        let mut latin = text.clone().into_bytes();
        let at = text.find("admin").unwrap();
        latin[at] = 0xff;
        let lone = suffixed(&text, r#""x":"\ud800""#);
        for (name, payload) in [
            ("a list", format!("[{text}]").into_bytes()),
            ("a text", serde_json::to_vec(&text).unwrap()),
            ("a number", b"1".to_vec()),
            ("null", b"null".to_vec()),
            ("nothing", Vec::new()),
            ("an empty object", b"{}".to_vec()),
            ("two objects", format!("{text}{text}").into_bytes()),
            ("an object and a comma", format!("{text},").into_bytes()),
            ("an unclosed object", cut(&text, 1).as_bytes().to_vec()),
            ("a comment", format!("/* */{text}").into_bytes()),
            ("single quotes", text.replace('"', "'").into_bytes()),
            ("a trailing comma", suffixed(&text, "").into_bytes()),
            ("a byte order mark", format!("\u{feff}{text}").into_bytes()),
            ("no UTF-8", latin),
            ("UTF-16", text.encode_utf16().flat_map(u16::to_le_bytes).collect()),
            ("a lone surrogate", lone.into_bytes()),
            ("a zero byte behind", format!("{text}\0").into_bytes()),
            ("nested 129 levels", suffixed(&text, &deep).into_bytes()),
            ("nested 5000 levels", unclosed.into_bytes()),
            ("a token", self.right().join(".").into_bytes()),
        ] {
            self.claiming(format!("claims that are {name}"), payload);
        }
        let right = header("ES256", "ec").text();
        for (name, header) in [
            ("a list", format!("[{right}]")),
            ("a text", "\"ES256\"".to_owned()),
            ("null", "null".to_owned()),
            ("nothing", String::new()),
            ("an empty object", "{}".to_owned()),
            ("two objects", format!("{right}{right}")),
            ("nested 129 levels", suffixed(&right, &deep)),
        ] {
            self.headed(format!("a header that is {name}"), header);
        }
    }

    fn tenants(&mut self) {
        let neither = self.claims.without("tenant_id").without("organization_id");
        self.claiming("no tenant", neither.text());
        for tenant in [
            json!("7"),
            json!("042"),
            json!("acme"),
            json!("42 "),
            json!("+42"),
            json!("42.0"),
            json!("４２"),
            json!(42),
            json!(["42"]),
            json!(null),
            json!(""),
        ] {
            self.with("tenant_id", tenant);
        }
        for tenant in [
            "", "../acme", "a b", "a#b", "a%23b", ".acme", "-acme", "acmé", "acme\n", "acme\0", "*", "43", "ACME",
            "ac me",
        ] {
            self.claiming(format!("tenant_id alone: {tenant:?}"), neither.with("tenant_id", tenant).text());
        }
        self.claiming("tenant_id alone: 129 characters", neither.with("tenant_id", "a".repeat(129)).text());
        for organization in [
            json!("42"),
            json!(42.0),
            json!(42.5),
            json!(43),
            json!(-42),
            json!(1_u64 << 53),
            json!(u64::MAX),
            json!([42]),
            json!(true),
            json!(null),
        ] {
            self.with("organization_id", organization.clone());
            let shown = format!("organization_id alone: {organization}");
            self.claiming(shown, neither.with("organization_id", organization).text());
        }
        for literal in ["4.2e1", "42e0", "-0", "042", "1e400"] {
            let field = format!(r#""organization_id":{literal}"#);
            self.claiming(format!("organization_id alone: {literal}"), suffixed(&neither.text(), &field));
        }
        // Where every tenant may be named: that these are none does not depend on a list.
        let anyone = self.claims.with("iss", NARROW).without("organization_id");
        for tenant in [json!(""), json!("a/b"), json!("a".repeat(129)), json!(["42"])] {
            let shown: String = tenant.to_string().chars().take(20).collect();
            let token =
                self.kit.narrow_rsa.token(header("RS256", "rsa").text(), anyone.with("tenant_id", tenant).text());
            self.add(format!("no tenant where every one may be named: {shown}"), token);
        }
    }

    fn sizes(&mut self) {
        let token = self.of_length(LONGEST + 1);
        self.add("8193 bytes", token);
        let padded = self.claims.with("pad", "x".repeat(30_000)).text();
        self.claiming("40 KB of claims", padded);
        self.headed("40 KB of header", header("ES256", "ec").with("pad", "x".repeat(30_000)).text());
        let message = self.right();
        self.add("40 KB of signature", format!("{}.{}.{}", message[0], message[1], "A".repeat(40_000)));
        self.add("8000 dots", ".".repeat(8000));
        self.add("8000 letters", "A".repeat(8000));
    }

    /// A token that is right and has exactly this length in bytes.
    fn of_length(&self, length: usize) -> String {
        let sized = |blanks: usize, letters: usize| {
            let header = format!("{}{}", header("ES256", "ec").text(), " ".repeat(blanks));
            let claims = self.claims.with("pad", "x".repeat(letters)).text();
            (header, claims)
        };
        let encoded = |bytes: usize| (bytes * 4).div_ceil(3);
        let of = |(header, claims): &(String, String)| encoded(header.len()) + encoded(claims.len()) + 2 + encoded(64);
        let about = length * 3 / 4 - 400;
        let mut all = (0..3).flat_map(|blanks| (about..about + 800).map(move |letters| (blanks, letters)));
        let (blanks, letters) = all.find(|(blanks, letters)| of(&sized(*blanks, *letters)) == length).unwrap();
        let (header, claims) = sized(blanks, letters);
        self.kit.p256.token(header, claims)
    }
}

fn cut(text: &str, characters: usize) -> &str {
    &text[..text.len() - characters]
}

fn pem(der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The same bits, and after them some that no encoder would have written.
fn with_trailing_bits(text: &str) -> String {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (front, last) = text.split_at(text.len() - 1);
    let at = ALPHABET.find(last).unwrap();
    format!("{front}{}", &ALPHABET[at + 1..=at + 1])
}

/// The order of P-256's group (SEC 2, 2.4.2).
const ORDER: &[u8] = &[
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
    0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// The signature with the order minus s in place of s, which signs the same.
fn other_s(signature: &[u8]) -> Vec<u8> {
    let mut other = signature.to_vec();
    let mut borrow = 0;
    for at in (0..32).rev() {
        let difference = i16::from(ORDER[at]) - i16::from(signature[32 + at]) - borrow;
        borrow = i16::from(difference < 0);
        other[32 + at] = difference.rem_euclid(256) as u8;
    }
    other
}

/// An ECDSA signature as X.509 writes it.
fn der(signature: &[u8]) -> Vec<u8> {
    let integer = |bytes: &[u8]| {
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        let sign = if bytes[zeros] >= 0x80 { vec![0] } else { Vec::new() };
        let value = [sign.as_slice(), &bytes[zeros..]].concat();
        [&[2, value.len() as u8], value.as_slice()].concat()
    };
    let both = [integer(&signature[..32]), integer(&signature[32..])].concat();
    [&[0x30, both.len() as u8], both.as_slice()].concat()
}
