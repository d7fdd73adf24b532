//! How requests leave this machine.
//!
//! Decides nothing; `config` reads it and `egress` keeps to it.

use std::fmt;
use std::net::IpAddr;

use crate::secret::Secret;

/// By default directly, from the address the operating system chooses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Everything goes through it.
    pub proxy: Option<ProxyServer>,
    /// Addresses of this machine that requests come from, in turns. A family without one is not
    /// used when the other has one.
    pub source_addresses: Vec<IpAddr>,
}

/// An HTTP proxy that is asked for tunnels (`CONNECT`).
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyServer {
    /// A name, an IPv4 address, or an IPv6 address in brackets.
    pub host: Box<str>,
    /// Its port.
    pub port: u16,
    /// User name, colon, password.
    pub credentials: Option<Secret>,
}

/// Shows where it is, nothing of the credentials.
impl fmt::Debug for ProxyServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProxyServer({}:{})", self.host, self.port)
    }
}
