//! Everything that can be set from outside, read once at the start.

use crate::lambda::Need;
use countersign_domain::retry::Schedule;
use countersign_domain::{Tenant, seconds};
use countersign_outbound::{Allowed, OperatorUrl, Place};
use ipnet::IpNet;
use jiff::SignedDuration;
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde_json::Value;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The variables that countersign reads, parsed.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `COUNTERSIGN_RATE`: requests per second, caller and process; 0 is no limit.
    pub rate: u32,
    /// `COUNTERSIGN_ISSUERS`: whose JWTs are trusted; `None` if it is not set.
    pub issuers: Option<Vec<IssuerConfig>>,
    /// How webhooks are sent.
    pub webhooks: Webhooks,
    /// How the approvers of workflows are found.
    pub approvers: Approvers,
    /// `COUNTERSIGN_SLA_INTERVAL`: how often the clock looks.
    pub sla_interval: Duration,
    /// Where the process runs: `aws` or `local`.
    pub environment: &'static str,
}

/// How webhooks are sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Webhooks {
    /// `COUNTERSIGN_RETRY_DELAYS`, `COUNTERSIGN_RETRY_JITTER` and `COUNTERSIGN_WEBHOOK_TIMEOUT`: when attempts are made.
    pub schedule: Schedule,
    /// `COUNTERSIGN_WEBHOOK_ALLOW`: networks that may be called although not public.
    pub allow: Vec<IpNet>,
    /// `COUNTERSIGN_EVENT_BUS`: the EventBridge bus that hears of remediations, by name or ARN.
    pub event_bus: Option<String>,
}

/// How the approvers of workflows are found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Approvers {
    /// `COUNTERSIGN_DIRECTORY`: who knows the members of roles and groups.
    pub directory: Option<Directory>,
    /// `COUNTERSIGN_RESOLVER_ALLOW`: places that `http` rules may call although not public.
    pub allow: Vec<Place>,
}

/// Who knows the members of roles and groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Directory {
    /// The table in this file.
    Table(PathBuf),
    /// A realm of Keycloak.
    Keycloak(Keycloak),
}

/// A realm of Keycloak whose members all tenants share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keycloak {
    /// Where Keycloak is.
    pub url: OperatorUrl,
    /// The realm.
    pub realm: String,
    /// The client that we are there.
    pub client_id: String,
    /// The id of the client's secret.
    pub secret_id: String,
}

/// One issuer of JWTs, as `COUNTERSIGN_ISSUERS` describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerConfig {
    /// Its name, the `iss` of its tokens.
    pub issuer: String,
    /// Whom its tokens for us are for, their `aud`.
    pub audience: String,
    /// What its tokens are verified with.
    pub keys: IssuerKeys,
    /// The algorithms that it signs with.
    pub algorithms: Vec<Algorithm>,
    /// The tenants that its tokens may name.
    pub tenants: Tenants,
    /// The tenant of a token that names none, where a door knows such a thing.
    pub default_tenant: Option<Tenant>,
}

/// What an issuer's tokens are verified with; never with both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IssuerKeys {
    /// The public keys at this address.
    Jwks(OperatorUrl),
    /// The secret with this id, shared with the issuer.
    Hs256(String),
}

/// Which tenants an issuer may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tenants {
    /// Every one.
    All,
    /// These.
    Some(Vec<Tenant>),
}

impl Tenants {
    /// Whether `tenant` is one of them.
    #[must_use]
    pub fn allow(&self, tenant: &Tenant) -> bool {
        match self {
            Self::All => true,
            Self::Some(tenants) => tenants.contains(tenant),
        }
    }
}

/// What a function in Lambda reads on top.
#[derive(Clone, Debug, PartialEq)]
pub struct Lambda {
    /// What every process reads.
    pub config: Config,
    /// `COUNTERSIGN_TABLE`: the table's name.
    pub table: String,
    /// `COUNTERSIGN_QUEUE_URL`: where the worker is told what there is to do.
    pub queue_url: String,
    /// `COUNTERSIGN_SLOW_QUEUE_URL`: the queue of slow targets; the same one if there is no other.
    pub slow_queue_url: String,
    /// `COUNTERSIGN_OVERRIDE_SECRET_ID`: name or ARN of the override secret in Secrets Manager.
    pub override_secret_id: Option<String>,
    /// `COUNTERSIGN_CALLBACK_SECRET_ID`: name or ARN of the secret in Secrets Manager that signs callbacks for which their
    /// tenant has none.
    pub callback_secret_id: Option<String>,
    /// `COUNTERSIGN_ROOT_KEY_ID`: name or ARN of the root key in Secrets Manager.
    pub root_key_id: String,
    /// `COUNTERSIGN_DEPLOYMENT`: the deployment's name, by which its metrics are told from another one's.
    pub deployment: Option<String>,
}

/// What the local runner reads on top.
#[derive(Clone, Debug, PartialEq)]
pub struct Local {
    /// What every process reads.
    pub config: Config,
    /// `COUNTERSIGN_LISTEN`: where the public doors listen.
    pub listen: SocketAddr,
    /// `COUNTERSIGN_MANAGEMENT_LISTEN`: where the management plane listens; loopback only.
    pub management_listen: SocketAddr,
    /// `COUNTERSIGN_DATA`: the directory of the embedded table and the secrets.
    pub data: PathBuf,
    /// `COUNTERSIGN_TABLE`: a table in DynamoDB or an emulator instead of the embedded one.
    pub table: Option<String>,
    /// `COUNTERSIGN_QUEUE_URL` and `COUNTERSIGN_SLOW_QUEUE_URL`: SQS queues instead of channels in the process.
    pub queue_urls: Option<(String, String)>,
    /// `COUNTERSIGN_OVERRIDE_SECRET`: instead of the generated one.
    pub override_secret: Option<String>,
    /// `COUNTERSIGN_OVERRIDE_SECRET_PREVIOUS`: still accepted by verify.
    pub override_secret_previous: Option<String>,
    /// `COUNTERSIGN_CALLBACK_SECRET`: instead of the generated one.
    pub callback_secret: Option<String>,
}

/// A variable is missing or makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable} {message}")]
pub struct ConfigError {
    variable: &'static str,
    message: String,
}

impl ConfigError {
    /// What is wrong with the variable, in words that follow its name.
    pub fn new(variable: &'static str, message: impl Into<String>) -> Self {
        Self { variable, message: message.into() }
    }
}

/// How many attempts may follow the first.
const MAX_DELAYS: usize = 20;
/// The longest that one attempt may take, in seconds: a worker in AWS has to end before its function is stopped.
const MAX_TIMEOUT: i64 = 30;

/// The text is no length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a whole number with s, m, h or d, like 8h")]
pub struct InvalidDuration;

/// Reads a length of time, a whole number with its unit.
///
/// # Errors
/// It is something else.
pub fn duration(text: &str) -> Result<Duration, InvalidDuration> {
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 86_400,
        Some(_) | None => return Err(InvalidDuration),
    };
    let number = text[..text.len() - 1].parse::<u32>().map_err(|_| InvalidDuration)?;
    Ok(Duration::from_secs(u64::from(number) * unit))
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

/// Looks a variable up; one that is set but empty counts as unset.
struct Variables<F>(F);

impl<F: Fn(&str) -> Option<OsString>> Variables<F> {
    fn get(&self, name: &'static str) -> Result<Option<String>, ConfigError> {
        match (self.0)(name).filter(|value| !value.is_empty()).map(OsString::into_string) {
            None => Ok(None),
            Some(Ok(value)) => Ok(Some(value)),
            Some(Err(_)) => Err(ConfigError::new(name, "must be UTF-8")),
        }
    }

    fn required(&self, name: &'static str) -> Result<String, ConfigError> {
        self.get(name)?.ok_or_else(|| ConfigError::new(name, "must be set"))
    }

    fn parsed<T: std::str::FromStr>(&self, name: &'static str, default: T, what: &str) -> Result<T, ConfigError> {
        match self.get(name)? {
            None => Ok(default),
            Some(value) => value.parse().map_err(|_| ConfigError::new(name, format!("must be {what}, not `{value}`"))),
        }
    }

    fn config(&self, environment: &'static str, rate: u32) -> Result<Config, ConfigError> {
        let rate = self.parsed("COUNTERSIGN_RATE", rate, "a whole number of requests per second")?;
        let issuers = match self.get("COUNTERSIGN_ISSUERS")? {
            None => None,
            Some(text) => {
                Some(read_issuers(&text).map_err(|message| ConfigError::new("COUNTERSIGN_ISSUERS", message))?)
            }
        };
        let webhooks = self.webhooks(environment)?;
        let approvers = self.approvers(environment)?;
        let sla_interval = self.sla_interval(if environment == "local" { 1 } else { 60 })?;
        Ok(Config { rate, issuers, webhooks, approvers, sla_interval, environment })
    }

    fn sla_interval(&self, seconds: u64) -> Result<Duration, ConfigError> {
        let Some(text) = self.get("COUNTERSIGN_SLA_INTERVAL")? else { return Ok(Duration::from_secs(seconds)) };
        match duration(&text) {
            Ok(interval) if !interval.is_zero() => Ok(interval),
            Ok(_) | Err(InvalidDuration) => {
                let message = format!("must be {InvalidDuration} and more than 0, not `{text}`");
                Err(ConfigError::new("COUNTERSIGN_SLA_INTERVAL", message))
            }
        }
    }

    fn approvers(&self, environment: &str) -> Result<Approvers, ConfigError> {
        let directory = match self.get("COUNTERSIGN_DIRECTORY")? {
            None => None,
            Some(text) if text.trim_start().starts_with('{') => {
                let wrong = |message| ConfigError::new("COUNTERSIGN_DIRECTORY", message);
                Some(Directory::Keycloak(read_keycloak(&text).map_err(wrong)?))
            }
            Some(path) => Some(Directory::Table(path.into())),
        };
        let allow = self.list("COUNTERSIGN_RESOLVER_ALLOW", if environment == "local" { "127.0.0.1:*" } else { "" })?;
        let allow = Place::parse_list(&allow)
            .map_err(|error| ConfigError::new("COUNTERSIGN_RESOLVER_ALLOW", error.to_string()))?;
        Ok(Approvers { directory, allow })
    }

    /// A list; set but empty means that nothing is in it.
    fn list(&self, name: &'static str, default: &str) -> Result<String, ConfigError> {
        match (self.0)(name).map(OsString::into_string) {
            None => Ok(default.to_owned()),
            Some(Ok(text)) => Ok(text),
            Some(Err(_)) => Err(ConfigError::new(name, "must be UTF-8")),
        }
    }

    fn webhooks(&self, environment: &str) -> Result<Webhooks, ConfigError> {
        let default = Schedule::documented();
        let delays = match self.get("COUNTERSIGN_RETRY_DELAYS")? {
            None => default.delays,
            Some(text) => {
                let delays: Result<Vec<_>, _> =
                    text.split(',').map(|delay| duration(delay.trim()).map(signed)).collect();
                let wrong = |_| {
                    let message = format!("must be up to {MAX_DELAYS} delays, each {InvalidDuration}, not `{text}`");
                    ConfigError::new("COUNTERSIGN_RETRY_DELAYS", message)
                };
                let delays = delays.map_err(wrong)?;
                if delays.len() > MAX_DELAYS {
                    return Err(wrong(InvalidDuration));
                }
                delays
            }
        };
        let jitter = self.parsed("COUNTERSIGN_RETRY_JITTER", default.jitter, "a fraction from 0 to 1")?;
        if !(0.0..=1.0).contains(&jitter) {
            let message = format!("must be a fraction from 0 to 1, not `{jitter}`");
            return Err(ConfigError::new("COUNTERSIGN_RETRY_JITTER", message));
        }
        let timeout = match self.get("COUNTERSIGN_WEBHOOK_TIMEOUT")? {
            None => default.timeout,
            Some(text) => match duration(&text).map(signed) {
                Ok(timeout) if (1..=MAX_TIMEOUT).contains(&timeout.as_secs()) => timeout,
                Ok(_) | Err(InvalidDuration) => {
                    let message = format!("must be from 1s to {MAX_TIMEOUT}s, not `{text}`");
                    return Err(ConfigError::new("COUNTERSIGN_WEBHOOK_TIMEOUT", message));
                }
            },
        };
        let allow = self.list("COUNTERSIGN_WEBHOOK_ALLOW", if environment == "local" { "127.0.0.0/8" } else { "" })?;
        let allow = Allowed::parse_networks(&allow)
            .map_err(|error| ConfigError::new("COUNTERSIGN_WEBHOOK_ALLOW", error.to_string()))?;
        let schedule = Schedule { delays, jitter, timeout, ..default };
        // The queue on a laptop holds nothing back, and refuses what is too much: its clock looks every second.
        let schedule = match environment {
            "local" => Schedule { rides: seconds(0), lead: seconds(0), slack: seconds(10), ..schedule },
            _ => schedule,
        };
        Ok(Webhooks { schedule, allow, event_bus: self.get("COUNTERSIGN_EVENT_BUS")? })
    }
}

fn read_keycloak(text: &str) -> Result<Keycloak, String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Raw {
        keycloak_url: String,
        realm: String,
        client_id: String,
        secret_id: String,
    }
    let raw: Raw = serde_json::from_str(text).map_err(|error| {
        format!("must be the path of a table or {{keycloak_url, realm, client_id, secret_id}}: {error}")
    })?;
    let url: OperatorUrl = raw.keycloak_url.parse().map_err(|error| format!("keycloak_url {error}"))?;
    url.below(&[&raw.realm], &[]).map_err(|error| format!("realm {error}"))?;
    if raw.client_id.is_empty() || raw.secret_id.is_empty() {
        return Err("has an empty client_id or secret_id".to_owned());
    }
    Ok(Keycloak { url, realm: raw.realm, client_id: raw.client_id, secret_id: raw.secret_id })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawIssuer {
    issuer: String,
    audience: String,
    jwks_url: Option<String>,
    hs256_secret_id: Option<String>,
    algorithms: Vec<String>,
    tenants: Value,
    default_tenant: Option<Tenant>,
}

fn read_issuers(text: &str) -> Result<Vec<IssuerConfig>, String> {
    let raw: Vec<RawIssuer> =
        serde_json::from_str(text).map_err(|error| format!("must be a JSON array of issuers: {error}"))?;
    let mut issuers: Vec<IssuerConfig> = Vec::new();
    for raw in raw {
        let issuer = read_issuer(raw)?;
        if issuers.iter().any(|other| other.issuer == issuer.issuer) {
            return Err(format!("describes the issuer `{}` twice", issuer.issuer));
        }
        issuers.push(issuer);
    }
    Ok(issuers)
}

fn read_issuer(raw: RawIssuer) -> Result<IssuerConfig, String> {
    let of = format!("of the issuer `{}`", raw.issuer);
    if raw.issuer.is_empty() || raw.audience.is_empty() {
        return Err("has an issuer without a name or an audience".to_owned());
    }
    let (keys, able): (_, &[Algorithm]) = match (raw.jwks_url, raw.hs256_secret_id) {
        (Some(url), None) => {
            let url = url.parse().map_err(|error| format!("jwks_url {of} {error}"))?;
            (IssuerKeys::Jwks(url), &[Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA])
        }
        (None, Some(id)) if id.is_empty() => return Err(format!("has an empty hs256_secret_id {of}")),
        (None, Some(id)) => (IssuerKeys::Hs256(id), &[Algorithm::HS256]),
        (None, None) | (Some(_), Some(_)) => return Err(format!("needs either jwks_url or hs256_secret_id {of}")),
    };
    let algorithms = raw.algorithms.iter().map(|name| {
        let known = able.iter().find(|algorithm| format!("{algorithm:?}") == *name);
        known.copied().ok_or_else(|| format!("has the algorithm `{name}` {of}, which must be one of {able:?}"))
    });
    let algorithms: Vec<_> = algorithms.collect::<Result<_, _>>()?;
    if algorithms.is_empty() {
        return Err(format!("has no algorithms {of}"));
    }
    let tenants = if raw.tenants == "*" {
        Tenants::All
    } else {
        let wrong = |_| format!("has tenants {of} that are neither \"*\" nor a list of tenants");
        Tenants::Some(serde_json::from_value(raw.tenants).map_err(wrong)?)
    };
    if tenants == Tenants::Some(Vec::new()) {
        return Err(format!("has no tenants {of}"));
    }
    let default_tenant = raw.default_tenant;
    if default_tenant.as_ref().is_some_and(|tenant| !tenants.allow(tenant)) {
        return Err(format!("has a default_tenant {of} that its tokens may not name"));
    }
    Ok(IssuerConfig { issuer: raw.issuer, audience: raw.audience, keys, algorithms, tenants, default_tenant })
}

impl Lambda {
    /// Reads the variables of a function.
    ///
    /// # Errors
    /// The first variable that is missing or makes no sense.
    pub fn read(variable: impl Fn(&str) -> Option<OsString>, needs: &[Need]) -> Result<Self, ConfigError> {
        let variables = Variables(variable);
        for need in needs {
            variables.required(match need {
                Need::OverrideSecret => "COUNTERSIGN_OVERRIDE_SECRET_ID",
                Need::Issuers => "COUNTERSIGN_ISSUERS",
                Need::SlowQueue => "COUNTERSIGN_SLOW_QUEUE_URL",
            })?;
        }
        Ok(Self {
            config: variables.config("aws", 100)?,
            table: variables.required("COUNTERSIGN_TABLE")?,
            slow_queue_url: match variables.get("COUNTERSIGN_SLOW_QUEUE_URL")? {
                Some(url) => url,
                None => variables.required("COUNTERSIGN_QUEUE_URL")?,
            },
            queue_url: variables.required("COUNTERSIGN_QUEUE_URL")?,
            override_secret_id: variables.get("COUNTERSIGN_OVERRIDE_SECRET_ID")?,
            callback_secret_id: variables.get("COUNTERSIGN_CALLBACK_SECRET_ID")?,
            deployment: variables.get("COUNTERSIGN_DEPLOYMENT")?,
            root_key_id: variables.required("COUNTERSIGN_ROOT_KEY_ID")?,
        })
    }
}

impl Local {
    /// Reads the variables of the local runner.
    ///
    /// # Errors
    /// The first variable that makes no sense, or that this is Lambda, where secrets are not kept in files.
    pub fn read(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, ConfigError> {
        let variables = Variables(variable);
        if variables.get("AWS_LAMBDA_RUNTIME_API")?.is_some() {
            let message = "is set: the local runner keeps its secrets in files and does not run in Lambda";
            return Err(ConfigError::new("AWS_LAMBDA_RUNTIME_API", message));
        }
        let address = "an address and a port, like 127.0.0.1:8080";
        let local = Self {
            config: variables.config("local", 0)?,
            listen: variables.parsed("COUNTERSIGN_LISTEN", SocketAddr::from(([127, 0, 0, 1], 8080)), address)?,
            management_listen: variables.parsed(
                "COUNTERSIGN_MANAGEMENT_LISTEN",
                SocketAddr::from(([127, 0, 0, 1], 8001)),
                address,
            )?,
            data: variables.get("COUNTERSIGN_DATA")?.unwrap_or_else(|| "./data".to_owned()).into(),
            table: variables.get("COUNTERSIGN_TABLE")?,
            queue_urls: match variables.get("COUNTERSIGN_QUEUE_URL")? {
                None => None,
                Some(url) => Some((url.clone(), variables.get("COUNTERSIGN_SLOW_QUEUE_URL")?.unwrap_or(url))),
            },
            override_secret: variables.get("COUNTERSIGN_OVERRIDE_SECRET")?,
            override_secret_previous: variables.get("COUNTERSIGN_OVERRIDE_SECRET_PREVIOUS")?,
            callback_secret: variables.get("COUNTERSIGN_CALLBACK_SECRET")?,
        };
        if !local.management_listen.ip().is_loopback() {
            let message = "must be a loopback address: nothing on the management plane asks who is calling";
            return Err(ConfigError::new("COUNTERSIGN_MANAGEMENT_LISTEN", message));
        }
        Ok(local)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(set: &[(&str, &str)]) -> Result<Local, String> {
        Local::read(lookup(set)).map_err(|error| error.to_string())
    }

    fn lookup(set: &[(&str, &str)]) -> impl Fn(&str) -> Option<OsString> {
        move |name| set.iter().find(|(set, _)| *set == name).map(|(_, value)| OsString::from(value))
    }

    #[test]
    fn without_variables_the_local_runner_has_the_documented_defaults() {
        let local = local(&[]).unwrap();
        assert_eq!(local.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(local.management_listen.to_string(), "127.0.0.1:8001");
        assert_eq!(local.data, PathBuf::from("./data"));
        assert_eq!((local.config.rate, local.table), (0, None));
        assert_eq!((local.override_secret, local.callback_secret), (None, None));
    }

    #[test]
    fn webhooks_are_sent_as_the_variables_say() {
        let webhooks = |set: &[(&str, &str)]| local(set).unwrap().config.webhooks;
        let default = webhooks(&[]);
        assert_eq!(default.schedule.delays, Schedule::documented().delays);
        assert_eq!((default.schedule.jitter, default.schedule.timeout), (0.1, seconds(10)));
        assert_eq!((default.allow, default.event_bus), (vec!["127.0.0.0/8".parse().unwrap()], None));
        assert_eq!(webhooks(&[("COUNTERSIGN_WEBHOOK_ALLOW", "")]).allow, [], "set but empty means none");
        let set = webhooks(&[
            ("COUNTERSIGN_RETRY_DELAYS", "1s, 2m"),
            ("COUNTERSIGN_RETRY_JITTER", "0"),
            ("COUNTERSIGN_WEBHOOK_TIMEOUT", "3s"),
            ("COUNTERSIGN_WEBHOOK_ALLOW", "10.0.0.0/8,192.168.1.1"),
            ("COUNTERSIGN_EVENT_BUS", "bus"),
        ]);
        assert_eq!(set.schedule.delays, [seconds(1), seconds(120)]);
        assert_eq!((set.schedule.jitter, set.schedule.timeout), (0.0, seconds(3)));
        assert_eq!((set.allow.len(), set.event_bus.as_deref()), (2, Some("bus")));
        let function = [("COUNTERSIGN_TABLE", "t"), ("COUNTERSIGN_QUEUE_URL", "q"), ("COUNTERSIGN_ROOT_KEY_ID", "r")];
        let function = Lambda::read(lookup(&function), &[]).unwrap().config.webhooks;
        assert_eq!((function.allow, function.schedule), (Vec::new(), Schedule::documented()));
    }

    #[test]
    fn a_length_of_time_is_a_number_with_a_unit() {
        let seconds = |text| duration(text).map(|duration| duration.as_secs());
        assert_eq!((seconds("90s"), seconds("30m"), seconds("7d")), (Ok(90), Ok(1800), Ok(604_800)));
        for text in ["", "8", "h", "1.5h", "-1h", "8 h", "é", "4294967296d"] {
            assert_eq!(seconds(text), Err(InvalidDuration), "{text}");
        }
    }

    #[test]
    fn a_wrong_variable_is_named() {
        for (name, value) in [
            ("COUNTERSIGN_LISTEN", "8080"),
            ("COUNTERSIGN_MANAGEMENT_LISTEN", "localhost"),
            ("COUNTERSIGN_MANAGEMENT_LISTEN", "0.0.0.0:8001"),
            ("COUNTERSIGN_MANAGEMENT_LISTEN", "10.0.0.1:8001"),
            ("COUNTERSIGN_RATE", "-1"),
            ("COUNTERSIGN_RATE", "fast"),
            ("COUNTERSIGN_SLA_INTERVAL", "often"),
            ("COUNTERSIGN_SLA_INTERVAL", "0s"),
            ("COUNTERSIGN_RETRY_DELAYS", "1m,"),
            ("COUNTERSIGN_RETRY_DELAYS", "60"),
            ("COUNTERSIGN_RETRY_DELAYS", "1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s"),
            ("COUNTERSIGN_RETRY_JITTER", "1.1"),
            ("COUNTERSIGN_RETRY_JITTER", "-0.1"),
            ("COUNTERSIGN_RETRY_JITTER", "NaN"),
            ("COUNTERSIGN_RETRY_JITTER", "some"),
            ("COUNTERSIGN_WEBHOOK_TIMEOUT", "0s"),
            ("COUNTERSIGN_WEBHOOK_TIMEOUT", "31s"),
            ("COUNTERSIGN_WEBHOOK_TIMEOUT", "1m"),
            ("COUNTERSIGN_WEBHOOK_ALLOW", "localhost"),
            ("COUNTERSIGN_WEBHOOK_ALLOW", "10.0.0.0/8,"),
            ("COUNTERSIGN_RESOLVER_ALLOW", "127.0.0.1"),
            ("COUNTERSIGN_RESOLVER_ALLOW", "127.0.0.0/8:80"),
            ("COUNTERSIGN_RESOLVER_ALLOW", "resolver.internal:8080,"),
            ("COUNTERSIGN_DIRECTORY", "{}"),
            ("COUNTERSIGN_DIRECTORY", "{"),
            ("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001"),
        ] {
            assert!(local(&[(name, value)]).unwrap_err().starts_with(name), "{name}={value}");
        }
    }

    fn approvers(set: &[(&str, &str)]) -> Result<Approvers, String> {
        Ok(local(set)?.config.approvers)
    }

    #[test]
    fn approvers_are_found_as_the_variables_say() {
        let places = |text| Place::parse_list(text).unwrap();
        let default = approvers(&[]).unwrap();
        assert_eq!((default.directory, default.allow), (None, places("127.0.0.1:*")));
        let empty = approvers(&[("COUNTERSIGN_DIRECTORY", ""), ("COUNTERSIGN_RESOLVER_ALLOW", "")]).unwrap();
        assert_eq!((empty.directory, empty.allow), (None, Vec::new()), "set but empty means none");
        let set =
            [("COUNTERSIGN_DIRECTORY", "people.json"), ("COUNTERSIGN_RESOLVER_ALLOW", "a.internal:80, 10.0.0.7:*")];
        let set = approvers(&set).unwrap();
        assert_eq!(set.directory, Some(Directory::Table("people.json".into())));
        assert_eq!(set.allow, places("a.internal:80,10.0.0.7:*"));
        let keycloak = r#" {"keycloak_url":"http://127.0.0.1:9/auth","realm":"r","client_id":"c","secret_id":"s"}"#;
        let read = approvers(&[("COUNTERSIGN_DIRECTORY", keycloak)]).unwrap().directory;
        let expected = Keycloak {
            url: "http://127.0.0.1:9/auth".parse().unwrap(),
            realm: "r".to_owned(),
            client_id: "c".to_owned(),
            secret_id: "s".to_owned(),
        };
        assert_eq!(read, Some(Directory::Keycloak(expected)));
        let function = [("COUNTERSIGN_TABLE", "t"), ("COUNTERSIGN_QUEUE_URL", "q"), ("COUNTERSIGN_ROOT_KEY_ID", "r")];
        assert_eq!(Lambda::read(lookup(&function), &[]).unwrap().config.approvers, Approvers::default());
    }

    #[test]
    fn a_wrong_realm_is_refused_with_a_sentence() {
        let url = r#""keycloak_url":"https://id.example""#;
        let client = r#""client_id":"c","secret_id":"s""#;
        for (fields, said) in [
            (format!(r#""realm":"r",{client}"#), "missing field `keycloak_url`"),
            (format!(r#"{url},{client}"#), "missing field `realm`"),
            (
                format!(r#""keycloak_url":"http://id.example","realm":"r",{client}"#),
                "keycloak_url must be an https address",
            ),
            (format!(r#"{url},"realm":"a/b",{client}"#), "realm must not be empty"),
            (format!(r#"{url},"realm":"",{client}"#), "realm must not be empty"),
            (format!(r#"{url},"realm":"r",{client},"secret":"x""#), "unknown field `secret`"),
            (format!(r#"{url},"realm":"r","client_id":"","secret_id":"s""#), "has an empty client_id or secret_id"),
        ] {
            let error = approvers(&[("COUNTERSIGN_DIRECTORY", &format!("{{{fields}}}"))]).unwrap_err();
            assert!(error.starts_with("COUNTERSIGN_DIRECTORY ") && error.contains(said), "{error}");
        }
    }

    const JWKS: &str = r#""jwks_url":"https://i.example/keys","algorithms":["RS256"]"#;
    const HS256: &str = r#""hs256_secret_id":"s","algorithms":["HS256"]"#;

    fn issuers(fields: &str) -> Result<Vec<IssuerConfig>, String> {
        let value = format!(r#"[{{"issuer":"i","audience":"a",{fields}}}]"#);
        Ok(local(&[("COUNTERSIGN_ISSUERS", &value)])?.config.issuers.unwrap())
    }

    #[test]
    fn issuers_are_read_as_documented() {
        let read = issuers(&format!(r#"{JWKS},"tenants":"*""#)).unwrap();
        assert_eq!((read[0].issuer.as_str(), read[0].audience.as_str()), ("i", "a"));
        assert_eq!((&read[0].tenants, &read[0].algorithms), (&Tenants::All, &vec![Algorithm::RS256]));
        let read = issuers(&format!(r#"{HS256},"tenants":["t","42"],"default_tenant":"t""#)).unwrap();
        assert_eq!(read[0].keys, IssuerKeys::Hs256("s".to_owned()));
        assert!(read[0].tenants.allow(&"42".parse().unwrap()) && !read[0].tenants.allow(&"43".parse().unwrap()));
        assert_eq!(read[0].default_tenant, Some("t".parse().unwrap()));
        let all = r#""jwks_url":"http://[::1]:9/k","algorithms":["RS256","ES256","EdDSA"],"tenants":"*""#;
        assert_eq!(issuers(all).unwrap()[0].algorithms, [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA]);
        assert_eq!(local(&[("COUNTERSIGN_ISSUERS", "[]")]).unwrap().config.issuers, Some(Vec::new()));
        assert_eq!(local(&[("COUNTERSIGN_ISSUERS", "")]).unwrap().config.issuers, None);
    }

    #[test]
    fn wrong_issuers_are_refused_with_a_sentence() {
        for (fields, said) in [
            (r#""tenants":"*""#, "missing field `algorithms`"),
            (r#""algorithms":["RS256"],"tenants":"*""#, "needs either jwks_url or hs256_secret_id of the issuer `i`"),
            (&format!(r#"{JWKS},"hs256_secret_id":"s","tenants":"*""#), "needs either jwks_url or hs256_secret_id"),
            (r#""hs256_secret_id":"","algorithms":["HS256"],"tenants":"*""#, "has an empty hs256_secret_id"),
            (JWKS, "missing field `tenants`"),
            (&format!(r#"{JWKS},"tenants":"all""#), "neither \"*\" nor a list of tenants"),
            (&format!(r#"{JWKS},"tenants":null"#), "neither \"*\" nor a list of tenants"),
            (&format!(r#"{JWKS},"tenants":["a/b"]"#), "neither \"*\" nor a list of tenants"),
            (&format!(r#"{JWKS},"tenants":["*"]"#), "neither \"*\" nor a list of tenants"),
            (&format!(r#"{JWKS},"tenants":[42]"#), "neither \"*\" nor a list of tenants"),
            (&format!(r#"{JWKS},"tenants":[]"#), "has no tenants of the issuer `i`"),
            (&format!(r#"{JWKS},"tenants":["t"],"default_tenant":"u""#), "default_tenant of the issuer `i` that its"),
            (&format!(r#"{JWKS},"tenants":"*","default_tenant":"a b""#), "must be 1 to 128 of"),
            (&format!(r#"{JWKS},"tenants":"*","jwks":"x""#), "unknown field `jwks`"),
            (&format!(r#"{JWKS},"tenants":"*","tenants":"*""#), "duplicate field `tenants`"),
            (&format!(r#"{JWKS},"tenants":"*","issuer":"j""#), "duplicate field `issuer`"),
        ] {
            let error = issuers(fields).unwrap_err();
            assert!(error.starts_with("COUNTERSIGN_ISSUERS ") && error.contains(said), "{fields}: {error}");
        }
        for algorithm in ["none", "HS256", "HS512", "rs256", "RS384", "RS512", "PS256", "ES384", ""] {
            let fields = format!(r#""jwks_url":"https://i.example/k","algorithms":["{algorithm}"],"tenants":"*""#);
            assert!(issuers(&fields).unwrap_err().contains(&format!("has the algorithm `{algorithm}`")), "{algorithm}");
        }
        for algorithm in ["none", "RS256", "ES256", "HS384"] {
            let fields = format!(r#""hs256_secret_id":"s","algorithms":["HS256","{algorithm}"],"tenants":"*""#);
            assert!(issuers(&fields).unwrap_err().contains("must be one of [HS256]"), "{algorithm}");
        }
        let none = r#""jwks_url":"https://i.example/k","algorithms":[],"tenants":"*""#;
        assert!(issuers(none).unwrap_err().contains("has no algorithms of the issuer `i`"));
        for url in ["", "i.example", "http://i.example/k", "http://169.254.169.254/k", "https://u:p@i.example/k"] {
            let fields = format!(r#""jwks_url":"{url}","algorithms":["RS256"],"tenants":"*""#);
            let error = issuers(&fields).unwrap_err();
            assert!(error.starts_with("COUNTERSIGN_ISSUERS jwks_url of the issuer `i` must be an https"), "{error}");
        }
    }

    #[test]
    fn what_is_no_list_of_issuers_is_refused_with_a_sentence() {
        let one = |issuer: &str, audience: &str| {
            format!(r#"{{"issuer":"{issuer}","audience":"{audience}",{JWKS},"tenants":"*"}}"#)
        };
        for (value, said) in [
            (" ".to_owned(), "must be a JSON array of issuers"),
            ("local".to_owned(), "must be a JSON array of issuers"),
            (one("i", "a"), "must be a JSON array of issuers"),
            ("[null]".to_owned(), "must be a JSON array of issuers"),
            (format!("[{},]", one("i", "a")), "must be a JSON array of issuers"),
            (format!("[{}] []", one("i", "a")), "must be a JSON array of issuers"),
            (format!("[{},{}]", one("i", "a"), one("i", "b")), "describes the issuer `i` twice"),
            (format!("[{}]", one("", "a")), "has an issuer without a name or an audience"),
            (format!("[{}]", one("i", "")), "has an issuer without a name or an audience"),
        ] {
            let error = local(&[("COUNTERSIGN_ISSUERS", &value)]).unwrap_err();
            assert!(error.starts_with("COUNTERSIGN_ISSUERS ") && error.contains(said), "{value}: {error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_variable_that_is_not_text_is_named_rather_than_ignored() {
        use std::os::unix::ffi::OsStringExt;
        let latin =
            |name: &str| (name == "COUNTERSIGN_OVERRIDE_SECRET").then(|| OsString::from_vec(b"caf\xe9".to_vec()));
        assert_eq!(Local::read(latin).unwrap_err().to_string(), "COUNTERSIGN_OVERRIDE_SECRET must be UTF-8");
    }

    #[test]
    fn a_function_needs_its_table_and_secrets() {
        let all = [
            ("COUNTERSIGN_TABLE", "t"),
            ("COUNTERSIGN_QUEUE_URL", "q"),
            ("COUNTERSIGN_OVERRIDE_SECRET_ID", "o"),
            ("COUNTERSIGN_ROOT_KEY_ID", "r"),
        ];
        let needs = [Need::OverrideSecret];
        let read = Lambda::read(lookup(&all), &needs).unwrap();
        assert_eq!((read.config.rate, read.callback_secret_id), (100, None), "one that only some deployments have");
        assert_eq!(
            Lambda::read(lookup(&all[..2]), &[]).unwrap_err().to_string(),
            "COUNTERSIGN_ROOT_KEY_ID must be set"
        );
        let error = Lambda::read(lookup(&all), &[Need::Issuers]).unwrap_err().to_string();
        assert_eq!(error, "COUNTERSIGN_ISSUERS must be set");
        assert_eq!(Lambda::read(lookup(&all), &[]).unwrap().slow_queue_url, "q", "where there is only one queue");
        let error = Lambda::read(lookup(&all), &[Need::SlowQueue]).unwrap_err().to_string();
        assert_eq!(error, "COUNTERSIGN_SLOW_QUEUE_URL must be set");
        for (missing, _) in all {
            let rest: Vec<_> = all.into_iter().filter(|(name, _)| *name != missing).collect();
            let error = Lambda::read(lookup(&rest), &needs).unwrap_err().to_string();
            assert_eq!(error, format!("{missing} must be set"));
        }
    }
}
