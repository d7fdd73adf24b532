//! Which URLs and addresses a request may go to (`docs/security.md`).
//!
//! Decides, from values alone: the deny list (`ranges`), its exceptions, and what a URL must look
//! like before anything is sent to it, and whether its receiver agreed ([`consent`]). Leaves to `egress` asking at every point where an address
//! turns up (URL, resolver, connected socket), and to `config` and `wire` telling the person who
//! wrote the URL.
#![warn(missing_docs)]

pub mod consent;
mod ranges;
mod url_rules;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

pub use url::{Position, Url};
pub use url_rules::{URL_LENGTH_MAX, UrlRefusal, normalise};

/// What an installation permits. The default is the strict one: `https`, ports 443 and 8443, no
/// exception to the deny list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whether `http` URLs are fine beside `https`.
    pub allow_http: bool,
    /// The ports a URL may name, or mean by its scheme. Add 80 to send to `http` URLs without a
    /// port.
    pub ports: Vec<u16>,
    /// Exceptions to the deny list. An address literal in one of them may have any port but 0:
    /// whoever lists a private range means the services there. IPv4 addresses written as IPv6
    /// (`::ffff:a.b.c.d`) are looked up as IPv4.
    pub allow_ranges: Vec<IpNet>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            allow_http: false,
            ports: vec![443, 8443],
            allow_ranges: Vec::new(),
        }
    }
}

impl Policy {
    /// Whether a connection may go to this address: an exception wins over the deny list, and what
    /// is on neither is public.
    ///
    /// # Errors
    /// [`DeniedAddress`] names the range of the deny list.
    pub fn check_address(&self, address: IpAddr) -> Result<(), DeniedAddress> {
        if self.is_excepted(address) {
            return Ok(());
        }
        match ranges::denying(address.to_canonical()) {
            Some((range, what)) => Err(DeniedAddress {
                address,
                range,
                what,
            }),
            None => Ok(()),
        }
    }

    /// Whether `allow_ranges` covers this address.
    fn is_excepted(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.allow_ranges
            .iter()
            .any(|range| range.contains(&address))
    }

    /// Whether `allow_ranges` covers a loopback address, so that `localhost` can mean something.
    fn excepts_loopback(&self) -> bool {
        self.is_excepted(Ipv4Addr::LOCALHOST.into()) || self.is_excepted(Ipv6Addr::LOCALHOST.into())
    }
}

/// An address no request may go to, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{address} is in {range} ({what}), which is on the deny list; \
     egress.allow_ranges can make an exception"
)]
pub struct DeniedAddress {
    /// The address as it was asked for.
    pub address: IpAddr,
    /// The range of the deny list it lies in.
    pub range: IpNet,
    /// What that range is for.
    pub what: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowing(ranges: &[&str]) -> Policy {
        Policy {
            allow_ranges: ranges.iter().map(|r| r.parse().unwrap()).collect(),
            ..Policy::default()
        }
    }

    #[test]
    fn an_exception_wins_over_the_deny_list() {
        let policy = allowing(&["10.1.0.0/16", "fd00::/64"]);
        for fine in ["10.1.2.3", "::ffff:10.1.2.3", "fd00::1", "93.184.215.14"] {
            assert_eq!(
                policy.check_address(fine.parse().unwrap()),
                Ok(()),
                "{fine}"
            );
        }
        for denied in ["10.2.0.1", "::ffff:10.2.0.1", "fd00:0:0:1::1", "127.0.0.1"] {
            assert!(
                policy.check_address(denied.parse().unwrap()).is_err(),
                "{denied}"
            );
        }
    }

    #[test]
    fn a_mapped_address_is_excepted_as_ipv4_only() {
        let policy = allowing(&["::/0"]);
        assert!(policy.check_address("::1".parse().unwrap()).is_ok());
        assert!(
            policy
                .check_address("::ffff:127.0.0.1".parse().unwrap())
                .is_err()
        );
    }

    #[test]
    fn a_denial_names_address_and_range() {
        let denied = Policy::default()
            .check_address("::ffff:169.254.169.254".parse().unwrap())
            .unwrap_err();
        let text = denied.to_string();
        assert!(text.contains("::ffff:169.254.169.254"), "{text}");
        assert!(text.contains("169.254.0.0/16 (link local"), "{text}");
    }
}
