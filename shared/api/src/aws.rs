//! How a function reaches AWS: with the few certificate authorities that AWS's own endpoints are signed by.
//!
//! Reading all authorities of the system is nine tenths of the work of a start. Nothing that tenants or operators have
//! configured is called through this.

use aws_config::{BehaviorVersion, SdkConfig};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::ffi::OsStr;
use std::fs;

/// The authorities of AWS's public endpoints.
const ROOTS: &[u8] = include_bytes!("aws_roots.pem");

/// AWS cannot be reached as the variables say.
#[derive(Debug, thiserror::Error)]
#[error("AWS_CA_BUNDLE: {0}")]
pub(crate) struct BadBundle(String);

/// Where AWS is and who we are there, by the SDK's own variables. `bundle` is the path of a PEM file whose authorities
/// are trusted instead, e.g. for an emulator, a proxy that reads along, or another partition of AWS.
///
/// # Errors
/// The file cannot be read, or holds no certificate or something else.
pub(crate) async fn config(bundle: Option<&OsStr>) -> Result<SdkConfig, BadBundle> {
    let roots = bundle.map(read).transpose()?.unwrap_or_else(|| ROOTS.to_vec());
    let trusted = TrustStore::empty().with_pem_certificate(roots);
    let tls = TlsContext::builder().with_trust_store(trusted).build();
    let tls = tls.map_err(|error| BadBundle(error.to_string()))?;
    let client = Builder::new().tls_provider(Provider::Rustls(CryptoMode::AwsLc)).tls_context(tls).build_https();
    Ok(aws_config::defaults(BehaviorVersion::latest()).http_client(client).load().await)
}

/// The client panics at what it cannot read.
fn read(path: &OsStr) -> Result<Vec<u8>, BadBundle> {
    let wrong = |what: &dyn std::fmt::Display| BadBundle(format!("{}: {what}", path.display()));
    let pem = fs::read(path).map_err(|error| wrong(&error))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| wrong(&error))?;
        roots.add(certificate).map_err(|error| wrong(&error))?;
    }
    if roots.is_empty() { Err(wrong(&"it holds no certificate")) } else { Ok(pem) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::NamedTempFile;

    #[test]
    fn the_authorities_of_aws_are_those_that_every_system_knows() {
        let ours: Vec<_> = CertificateDer::pem_slice_iter(ROOTS).collect::<Result<_, _>>().unwrap();
        assert_eq!(ours.len(), 5);
        for root in &ours {
            assert!(webpki_root_certs::TLS_SERVER_ROOT_CERTS.contains(root));
        }
    }

    #[tokio::test]
    async fn a_bundle_is_trusted_instead_and_one_that_is_none_is_refused_with_its_name() {
        for (pem, wrong) in [
            (ROOTS.to_vec(), None),
            (Vec::new(), Some("no certificate")),
            (b"neither".to_vec(), Some("no certificate")),
            (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec(), Some("")),
        ] {
            let file = NamedTempFile::new().unwrap();
            fs::write(&file, pem).unwrap();
            let read = config(Some(file.path().as_os_str())).await.map(|_| ()).map_err(|error| error.to_string());
            match wrong {
                None => assert_eq!(read, Ok(())),
                Some(wrong) => {
                    let refused = read.unwrap_err();
                    assert!(refused.contains(wrong) && refused.contains(&*file.path().to_string_lossy()), "{refused}");
                }
            }
        }
        assert!(config(Some(OsStr::new("/nowhere/at/all.pem"))).await.is_err());
    }
}
