//! Who is calling a public door: a person with a JWT, or a program with an API key.

use crate::app::App;
use crate::problem::Problem;
use countersign_domain::api_key::{KeyId, Scope, Scopes, looks_like_a_key};
use countersign_domain::{Actor, Tenant};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, header};
use serde_json::{Map, Value};

/// Everything that a door may know of its caller, established before anything else of a request is looked at.
pub trait Caller: Sized + Send {
    /// Who is calling, or why this door does not let them in.
    fn establish(parts: &Parts, app: &App) -> impl Future<Output = Result<Self, Problem>> + Send;
    /// The caller, as entries name them.
    fn actor(&self) -> Actor;
    /// Whose records they may see; `None` for an operator, who acts for all.
    fn tenant(&self) -> Option<&Tenant>;
}

/// The credentials that a request carries, not yet checked.
#[derive(Clone)]
pub struct Credentials<'a> {
    /// What was sent as `Authorization: Bearer`, if it is not an API key.
    pub token: Option<&'a str>,
    /// What was sent as `X-API-Key`, or as a bearer that is an API key.
    pub key: Option<&'a str>,
}

/// Why credentials do not say who is calling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// There are none.
    Missing,
    /// The JWT is not one of ours to trust, or contradicts the API key beside it.
    Token,
    /// The JWT is right, but its time is over.
    Expired,
    /// The API key is nobody's, or no longer works.
    Key,
    /// Whoever has to be asked does not answer.
    Unavailable(Problem),
}

/// A caller whose credentials were found right.
#[derive(Clone, Debug)]
pub enum Presented {
    /// A person, or a program in a person's name.
    Person(Person),
    /// The holder of an API key.
    Holder(Holder),
}

/// A subject that an issuer vouches for.
#[derive(Clone, Debug, PartialEq)]
pub struct Person {
    /// Who vouches.
    pub issuer: String,
    /// For whom.
    pub subject: String,
    /// Whose records they may see.
    pub tenant: Tenant,
    /// Whether the token names the tenant, rather than leaving it to what the configuration says of its issuer.
    pub(crate) is_named: bool,
    pub(crate) claims: Map<String, Value>,
}

/// The holder of an API key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Which key.
    pub id: KeyId,
    /// Whose records they may see.
    pub tenant: Tenant,
    /// The user in whose name they act.
    pub owner: Option<u64>,
    scopes: Scopes,
}

impl std::fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(..)")
    }
}

impl<'a> Credentials<'a> {
    /// Reads the credentials of a request.
    ///
    /// # Errors
    /// A header comes twice or is no text, or two different API keys were sent.
    pub fn read(headers: &'a HeaderMap) -> Result<Self, Denied> {
        let header_key = single(headers, "x-api-key").map_err(|()| Denied::Key)?;
        let authorization = single(headers, header::AUTHORIZATION.as_str()).map_err(|()| Denied::Token)?;
        let bearer = authorization.and_then(|value| {
            let (scheme, credential) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| credential.trim_matches(' '))
        });
        let (token, bearer_key) = match bearer {
            Some(text) if looks_like_a_key(text) => (None, Some(text)),
            Some(text) => (Some(text), None),
            None => (None, None),
        };
        if header_key.is_some() && bearer_key.is_some() && header_key != bearer_key {
            return Err(Denied::Key);
        }
        Ok(Self { token, key: header_key.or(bearer_key) })
    }

    /// Who they are of. With both a JWT and an API key, both must be right and of one tenant; the JWT is the caller. A JWT
    /// must name its tenant.
    ///
    /// # Errors
    /// They are missing or wrong.
    pub async fn check(&self, app: &App) -> Result<Presented, Denied> {
        match self.check_with_default_tenant(app).await? {
            Presented::Person(person) if !person.is_named => Err(Denied::Token),
            presented @ (Presented::Person(_) | Presented::Holder(_)) => Ok(presented),
        }
    }

    /// The same where a JWT may leave its tenant to what the configuration says of its issuer.
    ///
    /// # Errors
    /// They are missing or wrong.
    pub async fn check_with_default_tenant(&self, app: &App) -> Result<Presented, Denied> {
        let person = match self.token {
            Some(token) => Some(app.issuers.verify(token, app.clock.now()).await?),
            None => None,
        };
        let holder = match self.key {
            Some(key) => Some(app.keys.holder(&app.store, key).await?),
            None => None,
        };
        match (person, holder) {
            (None, None) => Err(Denied::Missing),
            (None, Some(holder)) => Ok(Presented::Holder(holder)),
            (Some(person), None) => Ok(Presented::Person(person)),
            (Some(person), Some(holder)) if person.tenant == holder.tenant => Ok(Presented::Person(person)),
            (Some(_), Some(_)) => Err(Denied::Token),
        }
    }
}

impl Presented {
    /// The person that a JWT is about, at a door that takes no API keys.
    ///
    /// # Errors
    /// There is no JWT alone, it is not believed, or its issuer's keys cannot be had.
    pub fn person(presented: Result<Self, Denied>) -> Result<Person, Problem> {
        let unauthorized = |message| Err(Problem::unauthorized("unauthorized", message));
        match presented {
            Ok(Self::Person(person)) => Ok(person),
            Ok(Self::Holder(_)) | Err(Denied::Key) => unauthorized("API keys are not taken here; send a JWT alone"),
            Err(Denied::Missing) => unauthorized("send a JWT as Authorization: Bearer <token>"),
            Err(Denied::Token) => unauthorized("the JWT is not valid"),
            Err(Denied::Expired) => unauthorized("the JWT has expired; get a new one"),
            Err(Denied::Unavailable(problem)) => Err(problem),
        }
    }
}

impl Person {
    /// The caller, as entries name them.
    #[must_use]
    pub fn actor(&self) -> Actor {
        Actor::User { issuer: self.issuer.clone(), subject: self.subject.clone() }
    }

    /// A claim, whose meaning is the door's; one that is null says nothing.
    #[must_use]
    pub fn claim(&self, name: &str) -> Option<&Value> {
        self.claims.get(name).filter(|claim| !claim.is_null())
    }
}

impl Holder {
    pub(crate) fn new(id: KeyId, tenant: Tenant, owner: Option<u64>, scopes: Scopes) -> Self {
        Self { id, tenant, owner, scopes }
    }

    /// The caller, as entries name them.
    #[must_use]
    pub fn actor(&self) -> Actor {
        Actor::Key { id: self.id.to_string() }
    }

    /// Whether the key may be used for this.
    #[must_use]
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(scope)
    }
}

/// The one value of a header, if it is there.
fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, ()> {
    let mut values = headers.get_all(name).iter().map(HeaderValue::to_str);
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(Ok(value)), None) => Ok(Some(value)),
        (Some(_), _) => Err(()),
    }
}

/// An operator, on the management plane: placement is the guard.
#[derive(Clone, Debug)]
pub struct Operator {
    principal: String,
}

impl Caller for Operator {
    async fn establish(parts: &Parts, _: &App) -> Result<Self, Problem> {
        Ok(Self { principal: crate::call::principal(parts) })
    }

    fn actor(&self) -> Actor {
        Actor::Operator { principal: self.principal.clone() }
    }

    fn tenant(&self) -> Option<&Tenant> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(&'static str, &'static str)]) -> Result<(Option<String>, Option<String>), Denied> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        let read = Credentials::read(&map)?;
        Ok((read.token.map(str::to_owned), read.key.map(str::to_owned)))
    }

    fn both(token: Option<&str>, key: Option<&str>) -> Result<(Option<String>, Option<String>), Denied> {
        Ok((token.map(str::to_owned), key.map(str::to_owned)))
    }

    #[test]
    fn a_bearer_is_a_key_if_it_looks_like_one() {
        assert_eq!(read(&[]), both(None, None));
        assert_eq!(read(&[("authorization", "Bearer a.b.c")]), both(Some("a.b.c"), None));
        assert_eq!(read(&[("authorization", "bearer  a.b.c ")]), both(Some("a.b.c"), None));
        assert_eq!(read(&[("authorization", "Bearer cs_live_x_y")]), both(None, Some("cs_live_x_y")));
        assert_eq!(read(&[("authorization", "Basic dTpw")]), both(None, None));
        assert_eq!(read(&[("authorization", "Bearer")]), both(None, None));
        assert_eq!(read(&[("x-api-key", "a.b.c")]), both(None, Some("a.b.c")));
    }

    #[test]
    fn two_keys_must_be_one() {
        let bearer = ("authorization", "Bearer cs_live_x_y");
        assert_eq!(read(&[("x-api-key", "cs_live_x_y"), bearer]), both(None, Some("cs_live_x_y")));
        assert_eq!(read(&[("x-api-key", "cs_live_x_z"), bearer]), Err(Denied::Key));
        assert_eq!(read(&[("x-api-key", "k"), ("authorization", "Bearer t")]), both(Some("t"), Some("k")));
    }

    #[test]
    fn a_header_that_comes_twice_or_is_no_text_is_refused() {
        assert_eq!(read(&[("x-api-key", "k"), ("x-api-key", "k")]), Err(Denied::Key));
        assert_eq!(read(&[("authorization", "Bearer t"), ("authorization", "Bearer t")]), Err(Denied::Token));
        let map = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_bytes(b"Bearer \xff").unwrap())]);
        assert_eq!(Credentials::read(&map).err(), Some(Denied::Token));
    }
}
