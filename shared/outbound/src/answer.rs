//! What became of an attempt: what the receiver said, as far as anyone may know it.

use crate::target::TargetRefused;
use http::response::Parts;
use http::{HeaderMap, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use rustls::CertificateError;
use std::error::Error;
use std::io;
use std::time::{Duration, SystemTime};

/// How much of the head of an answer is read, in bytes.
pub(crate) const HEAD: usize = 16 * 1024;
/// How much of the body of an answer is read, in bytes, if nothing but an excerpt of it is wanted.
pub(crate) const EXCERPTED: usize = 4 * 1024;
/// How much of the body of a failed attempt is kept, in characters.
const EXCERPT: usize = 200;

/// What became of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempted {
    /// The status of the answer, if one came whose head could be read.
    pub status: Option<u16>,
    /// From the look-up of the name to the last byte that was read.
    pub took: Duration,
    /// Why it failed, in a short sentence for people; none if it succeeded.
    pub error: Option<String>,
    /// Whether time ran out.
    pub timed_out: bool,
    /// How long the receiver asks to be left alone; more than zero.
    pub retry_after: Option<Duration>,
    /// The beginning of what a receiver said that did not answer with a 2xx: at most 200 characters, on one line.
    pub excerpt: Option<String>,
}

impl Attempted {
    /// Whether it was answered with a 2xx and a body that ended, or went beyond what is read, in time.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.error.is_none()
    }

    pub(crate) fn new(heard: Heard, ended: Ended, took: Duration) -> Self {
        let timed_out = matches!(ended, Ended::Late { .. });
        let error = match (ended, heard.status) {
            (Ended::Late { within }, _) => Some(format!("no complete answer within {}", in_words(within))),
            (Ended::Failed(failure), None) => Some(failure.to_string()),
            (Ended::Complete | Ended::Failed(_), Some(status)) if status.is_redirection() => {
                Some(format!("HTTP {}: redirects are not followed", status.as_u16()))
            }
            (Ended::Complete | Ended::Failed(_), Some(status)) if !status.is_success() => {
                Some(format!("HTTP {}", status.as_u16()))
            }
            (Ended::Failed(failure), Some(_)) => Some(failure.to_string()),
            (Ended::Complete, Some(_)) => None,
            (Ended::Complete, None) => Some(Failure::NoAnswer.to_string()),
        };
        let excerpt = heard.status.filter(|status| !status.is_success()).and_then(|_| excerpt(&heard.body));
        let status = heard.status.map(|status| status.as_u16());
        Self { status, took, error, timed_out, retry_after: heard.retry_after, excerpt }
    }
}

/// How an attempt came to its end.
pub(crate) enum Ended {
    Complete,
    Failed(Failure),
    Late { within: Duration },
}

/// Why no complete answer came, other than for want of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Refused(#[from] TargetRefused),
    #[error("the name of the host does not resolve")]
    Unresolved,
    #[error("the connection was refused")]
    ConnectionRefused,
    #[error("the host cannot be reached")]
    Unreachable,
    #[error("the certificate is not valid for this host")]
    WrongName,
    #[error("the certificate has expired, or is not valid yet")]
    Expired,
    #[error("the certificate was not issued by a known authority")]
    UnknownIssuer,
    #[error("the certificate is not valid")]
    Certificate,
    #[error("the TLS handshake failed")]
    Handshake,
    #[error("the connection was reset")]
    Reset,
    #[error("the connection was closed before an answer came")]
    NoAnswer,
    #[error("the answer is not HTTP/1.1, or its headers are longer than 16 KiB")]
    NotHttp,
    #[error("the headers of the answer are longer than 16 KiB")]
    LongHead,
    #[error("the body of the answer broke off")]
    BrokenBody,
}

impl Failure {
    pub(crate) fn of_connecting(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::ConnectionRefused { Self::ConnectionRefused } else { Self::Unreachable }
    }

    pub(crate) fn of_handshake(error: &io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(rustls::Error::InvalidCertificate(fault)) = inner {
            Self::of_certificate(fault)
        } else if error.kind() == io::ErrorKind::ConnectionReset {
            Self::Reset
        } else {
            Self::Handshake
        }
    }

    fn of_certificate(fault: &CertificateError) -> Self {
        use CertificateError as Fault;
        if matches!(fault, Fault::NotValidForName | Fault::NotValidForNameContext { .. }) {
            Self::WrongName
        } else if matches!(
            fault,
            Fault::Expired | Fault::ExpiredContext { .. } | Fault::NotValidYet | Fault::NotValidYetContext { .. }
        ) {
            Self::Expired
        } else if matches!(fault, Fault::UnknownIssuer) {
            Self::UnknownIssuer
        } else {
            Self::Certificate
        }
    }

    /// Of the time between the connection and the end of the answer's head.
    pub(crate) fn of_exchange(error: &hyper::Error) -> Self {
        let inner = error.source().and_then(|inner| inner.downcast_ref::<io::Error>());
        if error.is_parse() {
            Self::NotHttp
        } else if inner.is_some_and(|inner| inner.kind() == io::ErrorKind::ConnectionReset) {
            Self::Reset
        } else {
            Self::NoAnswer
        }
    }
}

/// What has been heard from the receiver so far, also when nothing more comes.
pub(crate) struct Heard {
    limit: usize,
    status: Option<StatusCode>,
    retry_after: Option<Duration>,
    body: Vec<u8>,
}

impl Heard {
    /// Nothing yet; of the body, so many bytes will be read at most.
    pub(crate) fn up_to(limit: usize) -> Self {
        Self { limit, status: None, retry_after: None, body: Vec::new() }
    }

    /// What was read of the body; nothing is left.
    pub(crate) fn take_body(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.body)
    }

    /// Listens to an answer up to its end or to what is read of it at most.
    pub(crate) async fn listen(
        &mut self,
        answer: impl Future<Output = hyper::Result<Response<Incoming>>>,
    ) -> Result<(), Failure> {
        let (head, mut body) = answer.await.map_err(|error| Failure::of_exchange(&error))?.into_parts();
        // What the HTTP library reads at a time may end beyond the limit.
        if length(&head) > HEAD {
            return Err(Failure::LongHead);
        }
        self.status = Some(head.status);
        self.retry_after = asked_to_wait(&head.headers, SystemTime::now());
        while self.body.len() < self.limit {
            let Some(frame) = body.frame().await else { break };
            let frame = frame.map_err(|_| Failure::BrokenBody)?;
            let data = frame.data_ref().map_or(&[][..], |data| data);
            self.body.extend(data.iter().take(self.limit - self.body.len()));
        }
        Ok(())
    }
}

/// The bytes of a head as it was sent, at least.
fn length(head: &Parts) -> usize {
    let reason = head.extensions.get::<ReasonPhrase>().map_or(0, |reason| reason.as_bytes().len());
    let lines = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    "HTTP/1.1 200 \r\n\r\n".len() + reason + lines.sum::<usize>()
}

fn asked_to_wait(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    retry_after(headers.get(header::RETRY_AFTER)?.to_str().ok()?, now)
}

/// What a `Retry-After` header asks for at this time, in seconds or as an HTTP date (RFC 9110, 10.2.3); none if it asks
/// for nothing, for a time that is over, or for what cannot be read.
#[must_use]
pub fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    let wait = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        Duration::from_secs(value.parse().ok()?)
    } else {
        httpdate::parse_http_date(value).ok()?.duration_since(now).ok()?
    };
    (!wait.is_zero()).then_some(wait)
}

/// The beginning of a text that anyone may have written, fit to be shown on one line.
fn excerpt(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let excerpt: String = text.chars().take(EXCERPT).map(|c| if is_visible(c) { c } else { ' ' }).collect();
    (!excerpt.is_empty()).then_some(excerpt)
}

/// Neither a control character nor one that breaks a line or changes the direction of what stands around it.
fn is_visible(c: char) -> bool {
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !c.is_control() && !turns
}

fn in_words(time: Duration) -> String {
    if time.subsec_millis() == 0 { format!("{} s", time.as_secs()) } else { format!("{} ms", time.as_millis()) }
}
