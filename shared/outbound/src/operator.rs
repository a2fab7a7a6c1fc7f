//! The client for addresses that the operator configured, such as an issuer's keys.

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, StatusCode, header};
use reqwest::redirect::Policy;
use reqwest::{RequestBuilder, Response};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use url::form_urlencoded::Serializer;
use url::{Host, Url};

/// How long one call may take, from the look-up of the name to the last byte.
const WITHIN: Duration = Duration::from_secs(5);
/// The longest answer that is read, in bytes.
const LIMIT: usize = 256 * 1024;
/// How long a connection waits for the next call: one that a function kept while it stood still may be dead.
const IDLE: Duration = Duration::from_secs(2);

/// An address that the operator configured: HTTPS, or plain HTTP to this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorUrl(Url);

/// The text is no address that an operator may configure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be an https address without user and password, or an http address of this machine")]
pub struct InvalidOperatorUrl;

impl std::str::FromStr for OperatorUrl {
    type Err = InvalidOperatorUrl;

    fn from_str(text: &str) -> Result<Self, InvalidOperatorUrl> {
        let url: Url = text.parse().map_err(|_| InvalidOperatorUrl)?;
        let loopback = match url.host() {
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            Some(Host::Domain(name)) => name == "localhost",
            None => return Err(InvalidOperatorUrl),
        };
        let allowed = url.scheme() == "https" || (url.scheme() == "http" && loopback);
        let bare = url.username().is_empty() && url.password().is_none();
        if allowed && bare { Ok(Self(url)) } else { Err(InvalidOperatorUrl) }
    }
}

/// The text is no part of a path: a server, or what stands in front of it, might take it for several, or for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must not be empty, . or .., nor contain / or \\ or ; or a control character")]
pub struct UnfitPart;

impl OperatorUrl {
    /// The address below this one with these parts of a path and this query, both of which others may have chosen.
    ///
    /// # Errors
    /// A part is none.
    pub fn below(&self, parts: &[&str], query: &[(&str, &str)]) -> Result<Self, UnfitPart> {
        let is_fit = |part: &str| {
            !matches!(part, "" | "." | "..") && !part.chars().any(|c| c.is_control() || matches!(c, '/' | '\\' | ';'))
        };
        if !parts.iter().all(|part| is_fit(part)) {
            return Err(UnfitPart);
        }
        let mut url = self.0.clone();
        url.path_segments_mut().map_err(|()| UnfitPart)?.pop_if_empty().extend(parts);
        url.set_query(None);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(Self(url))
    }
}

/// An answer, whatever its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Its status.
    pub status: StatusCode,
    /// Its body.
    pub body: Bytes,
}

/// Fetches what the operator's configuration points to: no redirects, no proxy, bounded in time and size.
///
/// The client is made when it is first needed: reading the system's authorities takes longer than all else at a
/// function's start.
#[derive(Clone, Debug, Default)]
pub struct Fetcher(Arc<OnceLock<reqwest::Client>>);

/// Nothing usable came.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FetchError(String);

impl Fetcher {
    fn client(&self) -> Result<&reqwest::Client, FetchError> {
        if let Some(made) = self.0.get() {
            return Ok(made);
        }
        let builder = reqwest::Client::builder().redirect(Policy::none()).no_proxy();
        let made = builder.timeout(WITHIN).pool_idle_timeout(IDLE).build().map_err(failed)?;
        Ok(self.0.get_or_init(|| made))
    }

    /// The body of a 200 answer.
    ///
    /// # Errors
    /// No answer in time, another status, a body beyond 256 KiB, or a system without authorities.
    pub async fn fetch(&self, url: &OperatorUrl) -> Result<Bytes, FetchError> {
        let answer = self.client()?.get(url.0.clone()).send().await.map_err(failed)?;
        if answer.status() != StatusCode::OK {
            return Err(FetchError(format!("{} answers {}", url.0, answer.status())));
        }
        read(answer).await
    }

    /// What is there for the bearer of a token; `authorization` is the whole header, marked as sensitive.
    ///
    /// # Errors
    /// No answer in time, a body beyond 256 KiB, or a system without authorities.
    pub async fn get(&self, url: &OperatorUrl, authorization: &HeaderValue) -> Result<Fetched, FetchError> {
        self.send(self.client()?.get(url.0.clone()).header(header::AUTHORIZATION, authorization)).await
    }

    /// What a form is answered with.
    ///
    /// # Errors
    /// No answer in time, a body beyond 256 KiB, or a system without authorities.
    pub async fn post_form(&self, url: &OperatorUrl, fields: &[(&str, &str)]) -> Result<Fetched, FetchError> {
        let form = Serializer::new(String::new()).extend_pairs(fields).finish();
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        self.send(self.client()?.post(url.0.clone()).header(header::CONTENT_TYPE, form_type).body(form)).await
    }

    async fn send(&self, request: RequestBuilder) -> Result<Fetched, FetchError> {
        let json = HeaderValue::from_static("application/json");
        let answer = request.header(header::ACCEPT, json).send().await.map_err(failed)?;
        Ok(Fetched { status: answer.status(), body: read(answer).await? })
    }
}

/// An error of reqwest's names the address, which is the operator's own; it holds no secret.
fn failed(error: reqwest::Error) -> FetchError {
    FetchError(error.to_string())
}

async fn read(mut answer: Response) -> Result<Bytes, FetchError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > LIMIT {
            return Err(FetchError(format!("{} answers with more than {LIMIT} bytes", answer.url())));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_chose_is_one_part_of_a_path_or_refused() {
        let below = |base: &str, parts: &[&str], query: &[(&str, &str)]| {
            base.parse::<OperatorUrl>().unwrap().below(parts, query).map(|url| url.0.to_string())
        };
        for base in ["https://id.example/auth", "https://id.example/auth/"] {
            let url = below(base, &["roles", "a b%2f?#ü", "users"], &[("first", "0"), ("q", "a&b=c")]).unwrap();
            assert_eq!(url, "https://id.example/auth/roles/a%20b%252f%3F%23%C3%BC/users?first=0&q=a%26b%3Dc");
        }
        assert_eq!(below("https://id.example", &["x"], &[]).unwrap(), "https://id.example/x");
        for part in ["", ".", "..", "../users", "a/b", "a\\b", "a;b", "a\0", "a\n", "a\u{85}"] {
            assert_eq!(below("https://id.example", &["roles", part], &[]), Err(UnfitPart), "{part:?}");
        }
    }

    #[test]
    fn operators_configure_https_or_this_machine() {
        for url in ["https://issuer.example/jwks", "http://127.0.0.1:1/k", "http://[::1]/k", "http://localhost:9/k"] {
            assert!(url.parse::<OperatorUrl>().is_ok(), "{url}");
        }
        for url in [
            "",
            "issuer.example",
            "http://issuer.example/jwks",
            "http://10.0.0.1/",
            "http://127.0.0.1.nip.io/",
            "https://user@issuer.example/",
            "https://:secret@issuer.example/",
            "ftp://127.0.0.1/",
            "file:///etc/passwd",
        ] {
            assert!(url.parse::<OperatorUrl>().is_err(), "{url}");
        }
    }
}
