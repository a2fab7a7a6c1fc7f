//! How a function reaches AWS: with the few certificate authorities that AWS's own endpoints are signed by.
//!
//! Reading all authorities of the system is nine tenths of the work of a start. Nothing that tenants or operators have
//! configured is called through this.

use aws_config::default_provider::endpoint_url::endpoint_url_provider;
use aws_config::default_provider::use_dual_stack::use_dual_stack_provider;
use aws_config::default_provider::use_fips::use_fips_provider;
use aws_config::environment::{EnvironmentVariableCredentialsProvider, EnvironmentVariableRegionProvider};
use aws_config::meta::region::ProvideRegion;
use aws_config::provider_config::ProviderConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_secretsmanager::config::SharedCredentialsProvider;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::env;
use std::ffi::OsStr;
use std::fs;

/// The authorities of AWS's public endpoints.
const ROOTS: &[u8] = include_bytes!("aws_roots.pem");

/// AWS cannot be reached as the variables say.
#[derive(Debug, thiserror::Error)]
#[error("AWS_CA_BUNDLE: {0}")]
pub(crate) struct BadBundle(String);

/// Settings of single services.
#[derive(Debug)]
struct Variables;

impl LoadServiceConfig for Variables {
    /// For SQS and `AWS_ENDPOINT_URL` that is `AWS_ENDPOINT_URL_SQS`.
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        let service = key.service_id().to_ascii_uppercase().replace(' ', "_");
        env::var(format!("{}_{service}", key.env())).ok()
    }
}

/// Where AWS is and who we are there: by the SDK's own variables for the region, the credentials, `AWS_ENDPOINT_URL` of
/// all services or of one, `AWS_USE_FIPS_ENDPOINT` and `AWS_USE_DUALSTACK_ENDPOINT`. `bundle` is the path of a PEM file
/// whose authorities are trusted instead, e.g. for an emulator, a proxy that reads along, or another partition of AWS.
///
/// # Errors
/// The file cannot be read, or holds no certificate or something else.
pub(crate) async fn config(bundle: Option<&OsStr>) -> Result<SdkConfig, BadBundle> {
    let roots = bundle.map(read).transpose()?.unwrap_or_else(|| ROOTS.to_vec());
    let trusted = TrustStore::empty().with_pem_certificate(roots);
    let tls = TlsContext::builder().with_trust_store(trusted).build();
    let tls = tls.map_err(|error| BadBundle(error.to_string()))?;
    let client = Builder::new().tls_provider(Provider::Rustls(CryptoMode::AwsLc)).tls_context(tls).build_https();
    // The runtime gives a function its credentials in variables. The SDK's own chain would look in five places more, and
    // every function would carry, and make, a client of STS for one of them.
    let credentials = SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new());
    let variables = ProviderConfig::without_region();
    let mut config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(EnvironmentVariableRegionProvider::new().region().await)
        .credentials_provider(credentials)
        .service_config(Variables)
        .http_client(client);
    config.set_endpoint_url(endpoint_url_provider(&variables).await);
    config.set_use_fips(use_fips_provider(&variables).await);
    config.set_use_dual_stack(use_dual_stack_provider(&variables).await);
    Ok(config.build())
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
