//! What is not public, written out from the registries and apart from the lists of `guard`.
//!
//! IANA's special-purpose registries of IPv4 and IPv6 addresses, multicast and reserved space,
//! the forms of IPv6 that carry an IPv4 address, metadata addresses of clouds outside these, and all
//! of IPv6 but 2000::/3, the only space of which anything was given out.

use std::net::IpAddr;

use ipnet::IpNet;

/// Each range once; those that hold others come after them.
pub const RANGES: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "168.63.129.16/32",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "192.175.48.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/96",
    "::ffff:0:0:0/96",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "100::/64",
    "100:0:0:1::/64",
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "2620:4f:8000::/48",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
    "::/3",
    "4000::/2",
    "8000::/1",
];

/// [`RANGES`], parsed.
///
/// # Panics
/// One of them is none.
#[must_use]
pub fn ranges() -> Vec<IpNet> {
    let parsed = RANGES.iter().map(|range| range.parse());
    parsed.map(|range| range.expect("a range")).collect()
}

/// The first of [`ranges`] that holds the address.
#[must_use]
pub fn holding(address: IpAddr) -> Option<IpNet> {
    let address = address.to_canonical();
    ranges().into_iter().find(|range| range.contains(&address))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use postrider_guard::Policy;

    use super::*;

    fn denied(address: IpAddr) -> Option<IpNet> {
        let refusal = Policy::default().check_address(address).err()?;
        Some(refusal.range)
    }

    fn next(address: IpAddr) -> Option<IpAddr> {
        match address {
            IpAddr::V4(a) => a.to_bits().checked_add(1).map(|n| Ipv4Addr::from(n).into()),
            IpAddr::V6(a) => a.to_bits().checked_add(1).map(|n| Ipv6Addr::from(n).into()),
        }
    }

    fn previous(address: IpAddr) -> Option<IpAddr> {
        match address {
            IpAddr::V4(a) => a.to_bits().checked_sub(1).map(|n| Ipv4Addr::from(n).into()),
            IpAddr::V6(a) => a.to_bits().checked_sub(1).map(|n| Ipv6Addr::from(n).into()),
        }
    }

    #[test]
    fn ranges_are_denied_from_first_to_last_address_and_not_beyond() {
        for range in ranges() {
            let ends = [range.network(), range.broadcast()];
            let neighbours = [previous(range.network()), next(range.broadcast())];
            let neighbours = neighbours.into_iter().flatten();
            for address in ends.into_iter().chain(neighbours) {
                assert_eq!(denied(address), holding(address), "{address} at {range}");
            }
            assert!(ends.iter().all(|end| denied(*end).is_some()), "{range}");
        }
    }
}
