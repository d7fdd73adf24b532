//! The certificates of the sink: one authority, one certificate for each host.
//!
//! Decides that all hosts share a key, so that a new one costs a signature and no more, and that
//! each has a certificate with its own address alone, as short as a merchant's. It is made when
//! the host is first asked for.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::{Ticketer, default_provider, sign};
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::server::{NoServerSessionStorage, ResolvesServerCertUsingSni};
use tokio_rustls::rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};

/// Where the authority's certificate is, by the log.
pub(super) fn file(log: &Path) -> PathBuf {
    log.with_file_name("authority.pem")
}

/// All of them.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    key: KeyPair,
    signer: Arc<dyn SigningKey>,
    /// Stateless tickets, good at every host's settings.
    with_sessions: ServerConfig,
    without_sessions: ServerConfig,
    made: RefCell<HashMap<IpAddr, Settings>>,
}

/// A host's TLS settings.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) with_sessions: Arc<ServerConfig>,
    pub(super) without_sessions: Arc<ServerConfig>,
}

impl Authority {
    /// A new one; its certificate is in `file` then.
    ///
    /// # Errors
    /// A key cannot be made, or the file not written.
    pub(super) fn new(file: &Path) -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = KeyPair::generate()?;
        fs::write(file, params.self_signed(&authority)?.pem())?;
        let key = KeyPair::generate()?;
        let private = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        let signer = sign::any_supported_type(&private)?;
        let mut with_sessions = ServerConfig::builder_with_provider(default_provider().into())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            // each host has a certificate in place of none
            .with_cert_resolver(Arc::new(ResolvesServerCertUsingSni::new()));
        with_sessions.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut without_sessions = with_sessions.clone();
        with_sessions.ticketer = Ticketer::new()?;
        without_sessions.session_storage = Arc::new(NoServerSessionStorage {});
        without_sessions.send_tls13_tickets = 0;
        Ok(Self {
            issuer: Issuer::new(params, authority),
            key,
            signer,
            with_sessions,
            without_sessions,
            made: RefCell::default(),
        })
    }

    /// The settings of the host with this address.
    ///
    /// # Errors
    /// A certificate cannot be made.
    pub(super) fn settings(&self, host: IpAddr) -> anyhow::Result<Settings> {
        if let Some(made) = self.made.borrow().get(&host) {
            return Ok(made.clone());
        }
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::IpAddress(host)];
        let certificate = params.signed_by(&self.key, &self.issuer);
        let certificate = certificate.with_context(|| format!("a certificate for {host}"))?;
        let chain = vec![certificate.der().clone()];
        let certified = CertifiedKey::new(chain, Arc::clone(&self.signer));
        let resolver = Arc::new(SingleCertAndKey::from(certified));
        let own = |config: &ServerConfig| {
            let mut config = config.clone();
            config.cert_resolver = Arc::clone(&resolver) as _;
            Arc::new(config)
        };
        let made = Settings {
            with_sessions: own(&self.with_sessions),
            without_sessions: own(&self.without_sessions),
        };
        self.made.borrow_mut().insert(host, made.clone());
        Ok(made)
    }
}
