//! Rules of the type `http`: a service that the tenant chose is told a request's context and names users.

use crate::unanswered::Reason;
use bytes::Bytes;
use countersign_api::read_json;
use countersign_outbound::Outbound;
use http::{HeaderMap, HeaderValue, header};
use std::time::Duration;
use tokio::time::Instant;

/// How long one service may take, from the look-up of its name to the last byte.
const WITHIN: Duration = Duration::from_secs(5);
/// The longest answer that is read, in bytes.
const LIMIT: usize = 256 * 1024;
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Whom the service at this URL names.
pub(crate) async fn ask(client: &Outbound, url: &str, body: Bytes, deadline: Instant) -> Result<Vec<String>, Reason> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(Reason::Late);
    }
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, JSON), (header::ACCEPT, JSON)]);
    let answer = client.ask(url, headers, body, WITHIN.min(left), LIMIT).await;
    let answer = answer.map_err(|unheard| Reason::Service(unheard.to_string()))?;
    // What is wrong with it may quote it.
    named(&answer).ok_or_else(|| Reason::Service("it is not JSON like {\"user_ids\": [\"...\"]}".to_owned()))
}

fn named(answer: &[u8]) -> Option<Vec<String>> {
    let answer = read_json(answer).ok()?;
    let users = answer.get("user_ids")?.as_array()?.iter();
    users.map(|user| user.as_str().map(str::to_owned)).collect()
}
