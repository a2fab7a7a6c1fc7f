//! Who is calling, with what idempotency key, and until when: what a handler knows of a request besides its body.

use crate::app::App;
use crate::caller::{Caller, Operator};
use crate::problem::{Detail, Place, Problem};
use axum::extract::{ConnectInfo, FromRequestParts, OriginalUri, Path};
use countersign_domain::{Actor, Tenant};
use countersign_store::{CALL_BUDGET, Once};
use http::request::Parts;
use http::{Method, Uri, header};
use lambda_http::request::RequestContext;
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// How long a stored answer is replayed.
const ONCE_LIFETIME: Duration = Duration::from_hours(24);
/// How long before a function is stopped it stops trying, to answer in time.
const MARGIN: Duration = Duration::from_secs(2);

/// A call whose caller the door lets in.
#[derive(Clone, Debug)]
pub struct Call<C = Operator> {
    /// What the door knows of its caller.
    pub caller: C,
    /// The caller, as entries name them.
    pub actor: Actor,
    /// Where the call came from.
    pub client: Client,
    /// When the function is stopped, less what it takes to answer before.
    stopped_at: Option<Instant>,
    /// Judged only when the request is found well-formed.
    idempotency_key: Result<Option<String>, Problem>,
    /// Method and path: an idempotency key is good for one of them.
    target: String,
}

/// Where a call came from, as far as anyone can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The address that was connected from.
    pub ip_address: Option<String>,
    /// What the client calls itself, its first 500 characters.
    pub user_agent: Option<String>,
}

impl<C: Caller> FromRequestParts<App> for Call<C> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let caller = C::establish(parts, app).await?;
        let actor = caller.actor();
        app.rate.check(caller.tenant(), &actor)?;
        let path = percent_decode_str(uri(parts).path()).decode_utf8_lossy();
        let call = Self {
            actor,
            client: Client::of(parts),
            stopped_at: stopped_at(parts),
            idempotency_key: idempotency_key(parts),
            target: format!("{} {path}", parts.method),
            caller,
        };
        if let Some(tenant) = call.caller.tenant() {
            call.about(tenant);
        }
        Ok(call)
    }
}

impl Client {
    fn of(parts: &Parts) -> Self {
        let ip_address = match parts.extensions.get::<RequestContext>() {
            Some(RequestContext::ApiGatewayV1(context)) => context.identity.source_ip.clone(),
            Some(RequestContext::ApiGatewayV2(context)) => context.http.source_ip.clone(),
            Some(_) => None,
            None => parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.ip().to_string()),
        };
        let user_agent = parts.headers.get(header::USER_AGENT).map(|name| {
            let name = String::from_utf8_lossy(name.as_bytes());
            name.chars().filter(|c| !c.is_control()).take(500).collect()
        });
        Self { ip_address, user_agent }
    }
}

impl<C: Caller> Call<C> {
    /// Until when the table may take its time, counted from now: a body that came slowly takes nothing from it.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.within(CALL_BUDGET)
    }

    /// The end of so much time from now on, or when the function has to end its work, if that is before.
    #[must_use]
    pub fn within(&self, time: Duration) -> Instant {
        let end = Instant::now() + time;
        self.stopped_at.map_or(end, |stopped_at| end.min(stopped_at))
    }

    /// So much time, or what is left until the function has to end its work, if that is less.
    #[must_use]
    pub fn at_most(&self, time: Duration) -> Duration {
        self.stopped_at.map_or(time, |stopped_at| time.min(stopped_at.saturating_duration_since(Instant::now())))
    }

    /// Whether the idempotency key is one, for a handler that may refuse before it changes anything.
    ///
    /// # Errors
    /// It is not.
    pub fn check_idempotency_key(&self) -> Result<(), Problem> {
        self.idempotency_key.as_ref().map(|_| ()).map_err(Clone::clone)
    }

    /// Names the tenant that the call is about, for the request's log line.
    pub fn about(&self, tenant: &Tenant) {
        tracing::Span::current().record("tenant", tenant.as_str());
    }

    /// The idempotency key that was sent, bound to its caller, method and path and to the body it came with, and to
    /// one `item` of a call that changes many.
    ///
    /// # Errors
    /// It is not a key.
    pub(crate) fn once(&self, body: &Value, item: Option<&str>) -> Result<Option<Once>, Problem> {
        let Some(key) = self.idempotency_key.clone()? else { return Ok(None) };
        let scope = match item {
            None => serde_json::json!([self.actor, self.target, key]),
            Some(item) => serde_json::json!([self.actor, self.target, key, item]),
        };
        Ok(Some(Once {
            // `_` is no tenant's name: an operator acts for all of them.
            pk: format!(
                "once#{}#{}",
                self.caller.tenant().map_or("_", Tenant::as_str),
                hex::encode(Sha256::digest(scope.to_string()))
            ),
            // No body is an empty object, wherever one may be missing.
            fingerprint: Sha256::digest(if body.is_null() { "{}".to_owned() } else { same_numbers(body).to_string() })
                .into(),
            lifetime: ONCE_LIFETIME,
        }))
    }
}

impl<C: Clone> Call<C> {
    /// The same call for a change that it makes on its way, which is not the one that its idempotency key is for.
    #[must_use]
    pub fn without_idempotency_key(&self) -> Self {
        Self { idempotency_key: Ok(None), ..self.clone() }
    }
}

/// The value with every whole number written as one, so that `5` and `5.0` are the same JSON value. Keys are sorted
/// already.
fn same_numbers(value: &Value) -> Value {
    match value {
        Value::Number(number) => match number.as_f64() {
            // Beyond 2^53 a float does not tell which whole number was meant.
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_992.0 => {
                format!("{float:.0}").parse::<i64>().map_or_else(|_| value.clone(), Value::from)
            }
            _ => value.clone(),
        },
        Value::Array(values) => values.iter().map(same_numbers).collect(),
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), same_numbers(value))).collect(),
        Value::Null | Value::Bool(_) | Value::String(_) => value.clone(),
    }
}

/// The IAM principal in AWS, `network` where the private API asks for none, `local` outside Lambda.
pub(crate) fn principal(parts: &Parts) -> String {
    let arn = match parts.extensions.get::<RequestContext>() {
        None => return "local".to_owned(),
        Some(RequestContext::ApiGatewayV1(context)) => context.identity.user_arn.clone(),
        Some(RequestContext::ApiGatewayV2(context)) => {
            let iam = context.authorizer.as_ref().and_then(|authorizer| authorizer.iam.as_ref());
            iam.and_then(|iam| iam.user_arn.clone())
        }
        Some(_) => None,
    };
    arn.unwrap_or_else(|| "network".to_owned())
}

fn stopped_at(parts: &Parts) -> Option<Instant> {
    let context = parts.extensions.get::<lambda_http::Context>()?;
    let left = context.deadline().duration_since(SystemTime::now()).unwrap_or_default();
    Some(Instant::now() + left.saturating_sub(MARGIN))
}

fn idempotency_key(parts: &Parts) -> Result<Option<String>, Problem> {
    if parts.method != Method::POST {
        return Ok(None);
    }
    let mut values = parts.headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else { return Ok(None) };
    let valid = (1..=255).contains(&value.len()) && value.as_bytes().iter().all(|b| (0x20..=0x7e).contains(b));
    match value.to_str() {
        Ok(key) if valid && values.next().is_none() => Ok(Some(key.to_owned())),
        _ => {
            let message = "must be given once, as 1 to 255 printable ASCII characters";
            Err(Problem::invalid(vec![Detail::at(Place::Header, "Idempotency-Key", message)]))
        }
    }
}

/// The URI as it was called: the routes of a door with a base path see only what follows that.
fn uri(parts: &Parts) -> &Uri {
    parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |original| &original.0)
}

/// The variable part of a path, percent-decoded; as a tuple, all of several.
#[derive(Debug)]
pub struct PathText<T = String>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<App> for PathText<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        match Path::<T>::from_request_parts(parts, app).await {
            Ok(Path(text)) => Ok(Self(text)),
            Err(_) => Err(Problem::invalid(vec![Detail::at(Place::Path, "path", "must be UTF-8, percent-encoded")])),
        }
    }
}

/// The query string as it was sent.
#[derive(Debug)]
pub struct QueryText(pub String);

/// The path and the query string of a list that is read by offset.
#[derive(Debug)]
pub struct Target {
    path: String,
    /// The query string as it was sent.
    pub query: String,
}

impl Target {
    /// The same path and query with another `offset`.
    #[must_use]
    pub fn with_offset(&self, offset: usize) -> String {
        let others = form_urlencoded::parse(self.query.as_bytes()).filter(|(name, _)| name != "offset");
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(others)
            .append_pair("offset", &offset.to_string())
            .finish();
        format!("{}?{query}", self.path)
    }
}

impl FromRequestParts<App> for QueryText {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        Ok(Self(parts.uri.query().unwrap_or_default().to_owned()))
    }
}

impl FromRequestParts<App> for Target {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        let path = uri(parts).path().to_owned();
        Ok(Self { path, query: parts.uri.query().unwrap_or_default().to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn bodies_are_compared_as_json_values() {
        let text = |text: &str| same_numbers(&serde_json::from_str(text).unwrap()).to_string();
        assert_eq!(text(r#"{"a": 5.0, "b": [1e2]}"#), text(r#"{"b":[100],"a":5}"#));
        assert_eq!(same_numbers(&json!(-0.0)), json!(0));
        assert_ne!(text("5.5"), text("5"));
        assert_ne!(text("9007199254740993"), text("9007199254740992.0"));
        assert_ne!(text(r#""5""#), text("5"));
    }
}
