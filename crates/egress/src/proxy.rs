//! The egress proxy of a network that lets nothing out directly.
//!
//! Decides how it is asked: by CONNECT, with an address that was looked up and checked here, so that
//! the proxy has no name to resolve (ADR 0035). The proxy itself is the operator's, not checked.
//! Leaves the tunnel to the library, and TLS runs through it from end to end.

use std::error::Error;
use std::net::{IpAddr, SocketAddr};

use http::HeaderValue;
use postrider_domain::ProxyServer;

use crate::ended::Ended;
use crate::gate::Stopped;
use crate::names::Names;
use crate::tokens::basic;

/// Addresses of one name that the proxy is asked for, one after the other.
const TRIES: usize = 3;

/// Who is asked.
pub(crate) struct Proxy {
    host: Box<str>,
    port: u16,
    authorization: Option<HeaderValue>,
}

impl Proxy {
    pub(crate) fn new(server: &ProxyServer) -> Self {
        let credentials = server.credentials.as_ref();
        let authorization = credentials.and_then(|pair| basic(pair.expose()).ok());
        Self {
            host: server.host.clone(),
            port: server.port,
            authorization,
        }
    }

    pub(crate) const fn tries(&self) -> usize {
        TRIES
    }

    pub(crate) fn authorization(&self) -> Option<HeaderValue> {
        self.authorization.clone()
    }

    pub(crate) async fn addresses(&self, names: &Names) -> Result<Vec<SocketAddr>, Ended> {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, self.port)]);
        }
        let found = names.addresses(&self.host, self.port).await;
        found.map_err(|stopped| match stopped {
            Stopped::LookupTimeout => Ended::Proxy("its name was not answered in time".to_owned()),
            _ => Ended::Proxy("its name does not resolve".to_owned()),
        })
    }

    /// What a failed tunnel is, in the library's words, which repeat nothing of the proxy's: a
    /// merchant may read them.
    pub(crate) fn ended(error: &(dyn Error + 'static)) -> Ended {
        Ended::Proxy(error.to_string())
    }
}
