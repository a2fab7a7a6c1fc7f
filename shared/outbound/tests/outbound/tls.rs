//! Whose certificate is believed.

use crate::receiver::{AMPLE, BRIEF, Receiver, Script, answering, post, read_request};
use countersign_outbound::{Allowed, Attempted, Outbound};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new([]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn certificate(name: &str) -> CertificateParams {
    CertificateParams::new([name.to_owned()]).unwrap()
}

/// A receiver that shows this certificate and answers with 204, if it is asked.
async fn receiver(params: CertificateParams, issuer: Option<&Authority>, protocols: &[&str]) -> SocketAddr {
    let key = KeyPair::generate().unwrap();
    let certificate = match issuer {
        Some(issuer) => params.signed_by(&key, issuer).unwrap(),
        None => params.self_signed(&key).unwrap(),
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            if read_request(&mut stream).await.is_ok() {
                let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
                let _ = stream.shutdown().await;
            }
        }
    });
    address
}

fn client(roots: &[&Authority]) -> Outbound {
    let allowed = Allowed::new(Allowed::parse_networks("127.0.0.0/8").unwrap(), Vec::new());
    let resolver = answering(&[Ipv4Addr::LOCALHOST.into()]).0;
    let roots: Vec<CertificateDer<'static>> = roots.iter().map(|root| root.der().clone()).collect();
    Outbound::with_roots(allowed, resolver, roots).unwrap()
}

async fn attempt(client: &Outbound, host: &str, receiver: SocketAddr) -> Attempted {
    post(client, &format!("https://{host}:{}/hook", receiver.port()), AMPLE).await
}

fn failed(attempted: &Attempted, error: &str) {
    assert_eq!((attempted.status, attempted.error.as_deref(), attempted.timed_out), (None, Some(error), false));
}

#[tokio::test]
async fn a_certificate_of_the_host_from_a_known_authority_is_believed() {
    let authority = authority("known");
    let client = client(&[&authority]);
    for (host, subject) in [
        ("hooks.example", "hooks.example"),
        ("HOOKS.example", "hooks.example"),
        ("a.hooks.example", "*.hooks.example"),
        ("127.0.0.1", "127.0.0.1"),
    ] {
        for protocols in [&[][..], &["http/1.1"], &["h2", "http/1.1"]] {
            let address = receiver(certificate(subject), Some(&authority), protocols).await;
            let attempted = attempt(&client, host, address).await;
            assert!(attempted.succeeded(), "{host} {subject}: {attempted:?}");
        }
    }
}

#[tokio::test]
async fn a_certificate_of_another_host_is_not() {
    let authority = authority("known");
    for (host, subject) in
        [("hooks.example", "other.example"), ("127.0.0.1", "hooks.example"), ("a.b.hooks.example", "*.hooks.example")]
    {
        let address = receiver(certificate(subject), Some(&authority), &[]).await;
        failed(&attempt(&client(&[&authority]), host, address).await, "the certificate is not valid for this host");
    }
}

#[tokio::test]
async fn a_certificate_that_only_its_owner_or_a_stranger_vouches_for_is_not() {
    let (known, stranger) = (authority("known"), authority("stranger"));
    for issuer in [None, Some(&stranger)] {
        let address = receiver(certificate("hooks.example"), issuer, &[]).await;
        let attempted = attempt(&client(&[&known]), "hooks.example", address).await;
        failed(&attempted, "the certificate was not issued by a known authority");
    }
    let address = receiver(certificate("hooks.example"), Some(&known), &[]).await;
    let attempted = attempt(&client(&[&stranger]), "hooks.example", address).await;
    assert!(attempted.error.is_some_and(|error| error.starts_with("the certificate ")));
}

#[tokio::test]
async fn a_certificate_out_of_its_time_is_not() {
    let authority = authority("known");
    let mut expired = certificate("hooks.example");
    expired.not_after = date_time_ymd(2020, 1, 1);
    let mut early = certificate("hooks.example");
    early.not_before = date_time_ymd(4000, 1, 1);
    for params in [expired, early] {
        let address = receiver(params, Some(&authority), &[]).await;
        let attempted = attempt(&client(&[&authority]), "hooks.example", address).await;
        failed(&attempted, "the certificate has expired, or is not valid yet");
    }
}

#[tokio::test]
async fn what_speaks_another_protocol_is_not_spoken_to() {
    let authority = authority("known");
    let client = client(&[&authority]);
    let address = receiver(certificate("hooks.example"), Some(&authority), &["h2"]).await;
    failed(&attempt(&client, "hooks.example", address).await, "the TLS handshake failed");
    let left = Receiver::start(Script::Leave).await;
    let error = attempt(&client, "hooks.example", left.address).await.error.unwrap();
    assert!(["the TLS handshake failed", "the connection was reset"].contains(&error.as_str()), "{error}");
    let silent = Receiver::start(Script::Hang(Vec::new())).await;
    let url = format!("https://hooks.example:{}/", silent.port());
    assert!(post(&client, &url, BRIEF).await.timed_out);
    assert_eq!(silent.requests(), [""; 0]);
}
