//! Who Postrider is to a receiver, and whom it takes the receiver for.
//!
//! Decides nothing: `wire` checks, `egress` presents.

use std::fmt;

use crate::secret::Secret;

/// What an endpoint asks of its callers beside the signature. Empty = nothing, and the system's
/// certificate authorities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// Sent as the `authorization` header.
    pub credentials: Option<Credentials>,
    /// Shown in the TLS handshake to a receiver that asks.
    pub certificate: Option<ClientCertificate>,
    /// Certificate authorities in PEM that are trusted in place of the system's.
    pub ca: Option<Box<str>>,
}

impl Auth {
    /// Nothing is asked.
    pub const NONE: Self = Self {
        credentials: None,
        certificate: None,
        ca: None,
    };
}

impl Default for Auth {
    fn default() -> Self {
        Self::NONE
    }
}

/// What goes into the `authorization` header.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// RFC 7617.
    Basic {
        /// Without a colon.
        username: Box<str>,
        /// UTF-8.
        password: Secret,
    },
    /// RFC 6750; visible ASCII.
    Bearer(Secret),
    /// A bearer token that a token endpoint gives for client credentials (RFC 6749, 4.4).
    OAuth2(OAuth2),
}

/// Where access tokens come from.
#[derive(Clone, PartialEq, Eq)]
pub struct OAuth2 {
    /// Checked as the endpoint's URL is.
    pub token_url: Box<str>,
    /// Who asks.
    pub client_id: Box<str>,
    /// UTF-8.
    pub client_secret: Secret,
    /// Each without spaces.
    pub scopes: Vec<Box<str>>,
    /// Sent as the parameter `audience`, which several providers ask for.
    pub audience: Option<Box<str>>,
}

/// A certificate of ours.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// PEM, our own first.
    pub chain: Box<str>,
    /// PEM: PKCS#8, PKCS#1 or SEC 1.
    pub key: Secret,
}

/// Shows which it is, nothing of the secret.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Basic { .. } => "Basic",
            Self::Bearer(_) => "Bearer",
            Self::OAuth2(_) => "OAuth2",
        })
    }
}

/// Shows that there is one.
impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientCertificate")
    }
}
