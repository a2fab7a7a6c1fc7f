//! The client for addresses that others chose: it connects to what it has checked, and to nothing else.

use crate::address::Allowed;
use crate::answer::{Attempted, EXCERPTED, Ended, Failure, HEAD, Heard};
use crate::resolver::Resolver;
use crate::target::{Host, Target, TargetRefused};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, header};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls_platform_verifier::Verifier;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// How long a look-up may take while somebody waits for a target to be registered.
const LOOK_UP: Duration = Duration::from_secs(2);
/// How many addresses of one host are tried; a name with many would make us many connections.
const TRIED: usize = 4;
const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("countersign/", env!("CARGO_PKG_VERSION")));
const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// Calls what others chose: no redirects, no proxy, no cookies, no compression, one connection per attempt, and only to
/// addresses that were checked.
#[derive(Clone, Debug)]
pub struct Outbound {
    allowed: Arc<Allowed>,
    resolver: Resolver,
    tls: Arc<ClientConfig>,
}

/// No client can be made.
#[derive(Debug, thiserror::Error)]
#[error("TLS cannot be verified with this system's authorities: {0}")]
pub struct OutboundError(#[from] rustls::Error);

/// No usable answer came; why, in a short sentence that repeats nothing of what was answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unheard(String);

/// A target that has no address which may be called now.
enum NoAddress {
    Refused(TargetRefused),
    Unresolved,
}

impl Outbound {
    /// A client that trusts the authorities of the system.
    ///
    /// # Errors
    /// The system knows no certificate authority.
    pub fn new(allowed: Allowed, resolver: Resolver) -> Result<Self, OutboundError> {
        Self::with_roots(allowed, resolver, [])
    }

    /// A client that trusts these authorities too, for tests.
    ///
    /// # Errors
    /// One of them is no certificate.
    pub fn with_roots(
        allowed: Allowed,
        resolver: Resolver,
        roots: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Result<Self, OutboundError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = Verifier::new_with_extra_roots(roots, Arc::clone(&provider))?;
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        // A resumed session would not be verified again.
        tls.resumption = Resumption::disabled();
        Ok(Self { allowed: Arc::new(allowed), resolver, tls: Arc::new(tls) })
    }

    /// Whether the target may be registered. A name that does not resolve now may: it is checked at every attempt.
    ///
    /// # Errors
    /// The target may not be called, as it is written or by what its name resolves to.
    pub async fn check(&self, url: &str) -> Result<(), TargetRefused> {
        let target = url.parse()?;
        match timeout(LOOK_UP, self.addresses(&target)).await {
            Ok(Err(NoAddress::Refused(refused))) => Err(refused),
            Ok(Ok(_) | Err(NoAddress::Unresolved)) | Err(_) => Ok(()),
        }
    }

    /// One attempt: looks the name up once, refuses if any answer may not be called, connects only to what was checked,
    /// posts, and reads at most 4 KiB of the answer's body, all within the time given. Our own `Host`, `User-Agent` and
    /// framing headers replace any in `headers`.
    pub async fn post(&self, url: &str, headers: HeaderMap, body: Bytes, within: Duration) -> Attempted {
        let mut heard = Heard::up_to(EXCERPTED);
        let (ended, took) = self.attempt(url, headers, body, within, &mut heard).await;
        Attempted::new(heard, ended, took)
    }

    /// One attempt whose answer is needed: the body of a 2xx, all of it, of at most `limit` bytes.
    ///
    /// # Errors
    /// As for [`Attempted::error`], or the body is longer.
    pub async fn ask(
        &self,
        url: &str,
        headers: HeaderMap,
        body: Bytes,
        within: Duration,
        limit: usize,
    ) -> Result<Bytes, Unheard> {
        let mut heard = Heard::up_to(limit.saturating_add(1));
        let (ended, took) = self.attempt(url, headers, body, within, &mut heard).await;
        let body = heard.take_body();
        match Attempted::new(heard, ended, took).error {
            Some(error) => Err(Unheard(error)),
            None if body.len() > limit => Err(Unheard(format!("the answer has more than {limit} bytes"))),
            None => Ok(body.into()),
        }
    }

    async fn attempt(
        &self,
        url: &str,
        headers: HeaderMap,
        body: Bytes,
        within: Duration,
        heard: &mut Heard,
    ) -> (Ended, Duration) {
        let begun = Instant::now();
        let ended = match timeout(within, self.exchange(url, headers, body, within, heard)).await {
            Ok(Ok(())) => Ended::Complete,
            Ok(Err(failure)) => Ended::Failed(failure),
            Err(_) => Ended::Late { within },
        };
        (ended, begun.elapsed())
    }

    async fn exchange(
        &self,
        url: &str,
        headers: HeaderMap,
        body: Bytes,
        within: Duration,
        heard: &mut Heard,
    ) -> Result<(), Failure> {
        let target: Target = url.parse()?;
        let addresses = self.addresses(&target).await?;
        let stream = connect(&addresses, within).await?;
        let request = request(&target, headers, body);
        if target.https {
            let tls = TlsConnector::from(Arc::clone(&self.tls));
            let stream = tls.connect(target.server, stream).await.map_err(|error| Failure::of_handshake(&error))?;
            converse(TokioIo::new(stream), request, heard).await
        } else {
            converse(TokioIo::new(stream), request, heard).await
        }
    }

    /// The only place that addresses come from; each of them is checked.
    async fn addresses(&self, target: &Target) -> Result<Vec<SocketAddr>, NoAddress> {
        if !self.allowed.permits(target.manner()) {
            return Err(NoAddress::Refused(TargetRefused::unusual()));
        }
        let answers = match &target.host {
            Host::Address(address) => vec![*address],
            Host::Name(name) => self.resolver.look_up(name).await.map_err(|_| NoAddress::Unresolved)?,
        };
        if answers.is_empty() {
            return Err(NoAddress::Unresolved);
        }
        let fit = self.fit(target, answers).map_err(NoAddress::Refused)?;
        Ok(fit.into_iter().map(|address| SocketAddr::new(address, target.port)).collect())
    }

    /// All answers, if all of them may be called.
    fn fit(&self, target: &Target, answers: Vec<IpAddr>) -> Result<Vec<IpAddr>, TargetRefused> {
        let judge = |address: &IpAddr| self.allowed.judge(&target.host, *address, target.port, target.manner());
        // Many systems know localhost by both families; allowing one of them is enough.
        if target.host.is_localhost() && answers.iter().all(IpAddr::is_loopback) {
            let fit: Vec<_> = answers.iter().copied().filter(|address| judge(address).is_ok()).collect();
            if !fit.is_empty() {
                return Ok(fit);
            }
        }
        answers.iter().try_for_each(judge).map_err(|unfit| TargetRefused::unfit(&target.host, unfit))?;
        Ok(answers)
    }
}

impl From<NoAddress> for Failure {
    fn from(none: NoAddress) -> Self {
        match none {
            NoAddress::Refused(refused) => Self::Refused(refused),
            NoAddress::Unresolved => Self::Unresolved,
        }
    }
}

/// Connects to the first address that answers; none but the last may use up the time that is left for the others.
async fn connect(addresses: &[SocketAddr], within: Duration) -> Result<TcpStream, Failure> {
    let begun = Instant::now();
    let tried = addresses.get(..TRIED).unwrap_or(addresses);
    let Some((last, others)) = tried.split_last() else { return Err(Failure::Unresolved) };
    for (left, address) in (2u32..=tried.len().try_into().unwrap_or(u32::MAX)).rev().zip(others) {
        let share = within.saturating_sub(begun.elapsed()) / left;
        if let Ok(Ok(stream)) = timeout(share, TcpStream::connect(address)).await {
            return Ok(stream);
        }
    }
    TcpStream::connect(last).await.map_err(|error| Failure::of_connecting(&error))
}

fn request(target: &Target, mut headers: HeaderMap, body: Bytes) -> Request<Full<Bytes>> {
    headers.remove(header::TRANSFER_ENCODING);
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::HOST, target.authority.clone());
    headers.insert(header::USER_AGENT, USER_AGENT);
    headers.insert(header::CONNECTION, CLOSE);
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = target.path.clone().into();
    *request.headers_mut() = headers;
    request
}

/// Sends the request and listens to the answer, on a connection that ends with it: nothing runs on in the background.
async fn converse<S>(stream: S, request: Request<Full<Bytes>>, heard: &mut Heard) -> Result<(), Failure>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin,
{
    let handshake = http1::Builder::new().max_buf_size(HEAD).handshake(stream).await;
    let (mut sender, connection) = handshake.map_err(|error| Failure::of_exchange(&error))?;
    let mut answered = pin!(heard.listen(sender.send_request(request)));
    tokio::select! {
        biased;
        outcome = &mut answered => outcome,
        // The last words of a connection may be heard after its end; its error is also that of the answer.
        _ = connection => answered.await,
    }
}
