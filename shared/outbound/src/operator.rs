//! The client for addresses that the operator configured, such as an issuer's keys.

use bytes::{Bytes, BytesMut};
use reqwest::redirect::Policy;
use std::time::Duration;
use url::{Host, Url};

/// How long one call may take, from the look-up of the name to the last byte.
const WITHIN: Duration = Duration::from_secs(5);
/// The longest answer that is read, in bytes.
const LIMIT: usize = 256 * 1024;

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

/// Fetches what the operator's configuration points to: no redirects, no proxy, bounded in time and size.
#[derive(Clone, Debug)]
pub struct Fetcher(reqwest::Client);

/// Nothing usable came.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FetchError(String);

impl Fetcher {
    /// A client of its own.
    ///
    /// # Errors
    /// The system has no TLS roots.
    pub fn new() -> Result<Self, FetchError> {
        let client = reqwest::Client::builder().redirect(Policy::none()).no_proxy().timeout(WITHIN).build();
        client.map(Self).map_err(|error| FetchError(error.to_string()))
    }

    /// The body of a 200 answer.
    ///
    /// # Errors
    /// No answer in time, another status, or a body beyond 256 KiB.
    pub async fn fetch(&self, url: &OperatorUrl) -> Result<Bytes, FetchError> {
        // An error of reqwest's names the address, which is the operator's own; it holds no secret.
        let failed = |error: reqwest::Error| FetchError(error.to_string());
        let mut answer = self.0.get(url.0.clone()).send().await.map_err(failed)?;
        if answer.status() != reqwest::StatusCode::OK {
            return Err(FetchError(format!("{} answers {}", url.0, answer.status())));
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > LIMIT {
                return Err(FetchError(format!("{} answers with more than {LIMIT} bytes", url.0)));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
