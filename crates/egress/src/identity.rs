//! What is shown and trusted in TLS handshakes.
//!
//! Decides that TLS is 1.2 or later and offers HTTP/2 before HTTP/1.1; that there is one set of
//! settings for each client certificate and private authority, by their content, so that endpoints
//! with the same ones share connections and no others do; and how many sets are kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use postrider_domain::{Auth, ClientCertificate};
use rustls_platform_verifier::Verifier;
use sha2::{Digest, Sha256};
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::client::danger::ServerCertVerifier;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};

use crate::ended::Ended;

/// Sets kept beside the system's; the least lately used goes first.
const KEPT_MAX: usize = 1024;

/// Hosts of one such set whose sessions may be resumed.
const SESSIONS_MAX: usize = 8;

/// Names a set by its content; [`IdentityId::SYSTEM`] is that of endpoints that ask for nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct IdentityId([u8; 32]);

impl IdentityId {
    pub(crate) const SYSTEM: Self = Self([0; 32]);

    pub(crate) const fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn of(auth: &Auth) -> Self {
        if auth.certificate.is_none() && auth.ca.is_none() {
            return Self::SYSTEM;
        }
        let mut hash = Sha256::new();
        let mut part = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        let certificate = auth.certificate.as_ref();
        part(certificate.map_or(&[], |shown| shown.chain.as_bytes()));
        part(certificate.map_or(&[], |shown| shown.key.expose()));
        part(auth.ca.as_deref().unwrap_or_default().as_bytes());
        Self(hash.finalize().into())
    }
}

/// A set and its name.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) id: IdentityId,
    pub(crate) tls: Arc<ClientConfig>,
}

struct Made {
    tls: Arc<ClientConfig>,
    used: Instant,
}

/// All sets.
pub(crate) struct Identities {
    verifier: Arc<dyn ServerCertVerifier>,
    system: Arc<ClientConfig>,
    made: Mutex<HashMap<IdentityId, Made>>,
}

impl Identities {
    /// The system's certificate authorities are trusted.
    ///
    /// # Errors
    /// The TLS library did not start, or the system has no certificates.
    pub(crate) fn of_system() -> Result<Self, rustls::Error> {
        Self::trusting(Arc::new(Verifier::new(provider())?))
    }

    /// Endpoints that ask for nothing trust whom `verifier` trusts.
    pub(crate) fn trusting(verifier: Arc<dyn ServerCertVerifier>) -> Result<Self, rustls::Error> {
        let builder = tls_builder()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier));
        Ok(Self {
            verifier,
            system: Arc::new(with_protocols(builder.with_no_client_auth())),
            made: Mutex::default(),
        })
    }

    /// The set an endpoint asks for.
    pub(crate) fn of(&self, auth: &Auth) -> Result<Identity, Ended> {
        let id = IdentityId::of(auth);
        if id == IdentityId::SYSTEM {
            let tls = Arc::clone(&self.system);
            return Ok(Identity { id, tls });
        }
        let used = Instant::now();
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = made.get_mut(&id) {
            found.used = used;
            let tls = Arc::clone(&found.tls);
            return Ok(Identity { id, tls });
        }
        let tls = Arc::new(self.make(auth)?);
        if made.len() >= KEPT_MAX {
            let oldest = made.iter().min_by_key(|(_, made)| made.used);
            if let Some(oldest) = oldest.map(|(id, _)| *id) {
                made.remove(&oldest);
            }
        }
        let kept = Made {
            tls: Arc::clone(&tls),
            used,
        };
        made.insert(id, kept);
        Ok(Identity { id, tls })
    }

    fn make(&self, auth: &Auth) -> Result<ClientConfig, Ended> {
        let builder = tls_builder().map_err(unusable)?;
        let builder = match &auth.ca {
            Some(pem) => builder.with_root_certificates(roots(pem)?),
            // One verifier for all: the system's authorities are in memory once.
            None => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::clone(&self.verifier)),
        };
        let config = match &auth.certificate {
            Some(shown) => {
                let (chain, key) = certificate(shown)?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(unusable)?
            }
            None => builder.with_no_client_auth(),
        };
        let mut config = with_protocols(config);
        config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
        Ok(config)
    }
}

fn unusable(error: rustls::Error) -> Ended {
    Ended::Identity(error.to_string())
}

fn roots(pem: &str) -> Result<RootCertStore, Ended> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| Ended::Identity(error.to_string()))?;
        roots.add(certificate).map_err(unusable)?;
    }
    Ok(roots)
}

fn certificate(
    shown: &ClientCertificate,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Ended> {
    let malformed = |error: pem::Error| Ended::Identity(error.to_string());
    let chain = CertificateDer::pem_slice_iter(shown.chain.as_bytes());
    let chain = chain.collect::<Result<Vec<_>, _>>().map_err(malformed)?;
    let key = PrivateKeyDer::from_pem_slice(shown.key.expose()).map_err(malformed)?;
    Ok((chain, key))
}

/// Named, for another crate of the build may bring a second one.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// TLS of which it is not said yet whom it trusts.
fn tls_builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, rustls::Error> {
    ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()
}

fn with_protocols(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}
