//! The certificates of hostile receivers, and of honest ones.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, Issuer, KeyPair, date_time_ymd,
};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// What is wrong with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Certificate {
    /// Nothing.
    Good,
    /// It ended.
    Expired,
    /// It has not begun.
    NotYet,
    /// It is for another name.
    WrongName,
    /// It is its own authority.
    SelfSigned,
    /// Its authority is not known.
    UnknownAuthority,
}

/// The authority that the client trusts.
pub struct Authority {
    key: KeyPair,
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// No key can be made.
    pub fn new() -> Result<Self> {
        let key = KeyPair::generate()?;
        Ok(Self { key })
    }

    /// Where [`Self::write`] puts its certificate.
    #[must_use]
    pub fn file(folder: &Path) -> PathBuf {
        folder.join("authority.pem")
    }

    /// Writes certificate and key.
    ///
    /// # Errors
    /// They cannot be made, or written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let certificate = params()?.self_signed(&self.key)?;
        std::fs::write(Self::file(folder), certificate.pem())?;
        std::fs::write(folder.join("key.pem"), self.key.serialize_pem())?;
        Ok(())
    }

    /// What [`Self::write`] wrote.
    ///
    /// # Errors
    /// It is not there.
    pub fn read(folder: &Path) -> Result<Self> {
        let key = std::fs::read_to_string(folder.join("key.pem"))?;
        let key = KeyPair::from_pem(&key)?;
        Ok(Self { key })
    }

    /// The server side of TLS for all names under `domain`, which speaks `protocol`.
    ///
    /// # Errors
    /// A certificate cannot be made.
    pub fn acceptor(
        &self,
        domain: &str,
        certificate: Certificate,
        protocol: &[u8],
    ) -> Result<TlsAcceptor> {
        let key = KeyPair::generate()?;
        let domain = match certificate {
            Certificate::WrongName => "elsewhere.example",
            _ => domain,
        };
        let mut leaf = CertificateParams::new([format!("*.{domain}")])?;
        match certificate {
            Certificate::Expired => leaf.not_after = date_time_ymd(2020, 1, 1),
            Certificate::NotYet => leaf.not_before = date_time_ymd(4000, 1, 1),
            _ => {}
        }
        let leaf = match certificate {
            Certificate::SelfSigned => leaf.self_signed(&key)?,
            Certificate::UnknownAuthority => {
                let mut other = params()?;
                other.distinguished_name = rcgen::DistinguishedName::new();
                let other = CertifiedIssuer::self_signed(other, KeyPair::generate()?)?;
                leaf.signed_by(&key, &other)?
            }
            _ => leaf.signed_by(&key, &Issuer::new(params()?, &self.key))?,
        };
        let private = PrivateKeyDer::try_from(key.serialize_der());
        let private = private.map_err(anyhow::Error::msg).context("a key")?;
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], private)?;
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

fn params() -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Ok(params)
}
