//! Which of our own addresses a connection comes from.
//!
//! Decides that they take turns, each family for itself, and that an address this machine does not
//! have is an error at start, not at every attempt.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper_util::client::legacy::connect::HttpConnector;

/// None of a family = the operating system chooses.
#[derive(Default)]
pub(crate) struct Sources {
    v4: Vec<Ipv4Addr>,
    v6: Vec<Ipv6Addr>,
    turn: AtomicUsize,
}

impl Sources {
    /// # Errors
    /// The first address that is not one of this machine, and why.
    pub(crate) fn new(addresses: &[IpAddr]) -> Result<Self, (IpAddr, io::Error)> {
        let mut sources = Self::default();
        for &address in addresses {
            UdpSocket::bind(SocketAddr::new(address, 0)).map_err(|error| (address, error))?;
            match address {
                IpAddr::V4(address) => sources.v4.push(address),
                IpAddr::V6(address) => sources.v6.push(address),
            }
        }
        Ok(sources)
    }

    /// The next connection of this connector comes from the next addresses.
    pub(crate) fn bind<R>(&self, connector: &mut HttpConnector<R>) {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let v4 = self.v4.get(turn.checked_rem(self.v4.len()).unwrap_or(0));
        let v6 = self.v6.get(turn.checked_rem(self.v6.len()).unwrap_or(0));
        match (v4, v6) {
            (Some(&v4), Some(&v6)) => connector.set_local_addresses(v4, v6),
            (Some(&v4), None) => connector.set_local_address(Some(v4.into())),
            (None, Some(&v6)) => connector.set_local_address(Some(v6.into())),
            (None, None) => {}
        }
    }
}
