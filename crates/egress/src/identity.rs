//! What is shown and trusted in TLS handshakes.
//!
//! Decides that TLS is 1.2 or later and offers HTTP/2 before HTTP/1.1; that there is one set of
//! settings for each client certificate and private authority, by their content, so that endpoints
//! with the same ones share connections and no others do; and how many sets are kept, how long. Their
//! sessions are not resumed: a receiver's tickets would be in memory for each of them. Leaves how many
//! of the system's set are kept to `sessions`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

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
use crate::sessions::Sessions;

/// Sets kept beside the system's; the least lately used goes first.
const KEPT_MAX: usize = 1024;

/// One that nobody used for so long is let go.
const KEPT_FOR: Duration = Duration::from_secs(300);

/// What could not be made is not tried again before.
const PAUSE: Duration = Duration::from_secs(30);

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

/// One set, or why there is none.
type Set = Result<Arc<ClientConfig>, Box<str>>;

struct Made {
    set: Set,
    at: Instant,
    used: Instant,
}

/// Sets by their content.
#[derive(Default)]
struct Kept {
    made: HashMap<IdentityId, Made>,
    /// When what was old was let go last.
    swept: Option<Instant>,
}

impl Kept {
    fn find(&mut self, id: IdentityId, now: Instant) -> Option<Set> {
        let since = |then: Instant| now.saturating_duration_since(then);
        if self.swept.is_none_or(|then| since(then) >= PAUSE) {
            self.swept = Some(now);
            self.made.retain(|_, made| since(made.used) < KEPT_FOR);
        }
        let found = self.made.get_mut(&id)?;
        if found.set.is_err() && since(found.at) >= PAUSE {
            return None;
        }
        found.used = now;
        Some(found.set.clone())
    }

    fn keep(&mut self, id: IdentityId, set: Set, now: Instant) {
        if self.made.len() >= KEPT_MAX && !self.made.contains_key(&id) {
            let oldest = self.made.iter().min_by_key(|(_, made)| made.used);
            if let Some(oldest) = oldest.map(|(id, _)| *id) {
                self.made.remove(&oldest);
            }
        }
        let (at, used) = (now, now);
        self.made.insert(id, Made { set, at, used });
    }
}

/// All sets.
pub(crate) struct Identities {
    verifier: Arc<dyn ServerCertVerifier>,
    system: Arc<ClientConfig>,
    kept: Mutex<Kept>,
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
        let mut system = with_protocols(builder.with_no_client_auth());
        system.resumption = Resumption::store(Arc::new(Sessions::default()));
        Ok(Self {
            verifier,
            system: Arc::new(system),
            kept: Mutex::default(),
        })
    }

    /// The set an endpoint asks for.
    pub(crate) fn of(&self, auth: &Auth) -> Result<Identity, Ended> {
        let id = IdentityId::of(auth);
        if id == IdentityId::SYSTEM {
            let tls = Arc::clone(&self.system);
            return Ok(Identity { id, tls });
        }
        let found = self.kept().find(id, Instant::now());
        let set = found.unwrap_or_else(|| {
            // Two may make the same one: better than that all others wait.
            let set = self.make(auth).map(Arc::new).map_err(Into::into);
            self.kept().keep(id, set.clone(), Instant::now());
            set
        });
        let tls = set.map_err(|reason| Ended::Identity(reason.into()))?;
        Ok(Identity { id, tls })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make(&self, auth: &Auth) -> Result<ClientConfig, String> {
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
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

fn unusable(error: rustls::Error) -> String {
    error.to_string()
}

fn roots(pem: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(unusable)?;
    }
    Ok(roots)
}

fn certificate(
    shown: &ClientCertificate,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let malformed = |error: pem::Error| error.to_string();
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

#[cfg(test)]
mod tests {
    use postrider_domain::Secret;

    use super::*;

    fn unusable(n: usize) -> Auth {
        let certificate = ClientCertificate {
            chain: format!("no certificate {n}").into(),
            key: Secret::new(*b"no key"),
        };
        Auth {
            certificate: Some(certificate),
            ..Auth::NONE
        }
    }

    fn identities() -> Identities {
        Identities::of_system().expect("the system's certificates")
    }

    #[test]
    fn a_certificate_that_cannot_be_used_is_not_read_at_every_attempt() {
        let identities = identities();
        let auth = unusable(0);
        let id = IdentityId::of(&auth);
        let failed = identities.of(&auth).err().map(|e| e.to_string());
        let now = Instant::now();
        let found = identities.kept().find(id, now).expect("remembered");
        assert!(failed.is_some() && found.is_err());
        assert_eq!(identities.of(&auth).err().map(|e| e.to_string()), failed);
        let later = identities.kept().find(id, now + PAUSE);
        assert!(later.is_none(), "it is read again");
    }

    #[test]
    fn tickets_of_receivers_are_kept_for_the_systems_set_alone() {
        let identities = identities();
        let nothing = IdentityId::of(&Auth::NONE);
        assert!(nothing == IdentityId::SYSTEM);
        let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).expect("made");
        let auth = Auth {
            ca: Some(made.cert.pem().into()),
            ..Auth::NONE
        };
        let set = identities.of(&auth).expect("usable");
        let resumption = format!("{:?}", set.tls.resumption);
        assert!(
            resumption.contains("NoClientSessionStorage"),
            "{resumption}"
        );
    }

    #[test]
    fn sets_that_nobody_uses_are_let_go_and_they_are_bounded() {
        let identities = identities();
        for n in 0..=KEPT_MAX {
            drop(identities.of(&unusable(n)));
        }
        let mut kept = identities.kept();
        assert_eq!(kept.made.len(), KEPT_MAX);
        let other = IdentityId::of(&unusable(KEPT_MAX + 1));
        assert!(kept.find(other, Instant::now() + KEPT_FOR).is_none());
        assert!(kept.made.is_empty());
    }
}
