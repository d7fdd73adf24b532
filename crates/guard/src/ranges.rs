//! The deny list.
//!
//! Decides which addresses are not public: IANA's special-purpose registries, multicast and
//! reserved space, every transition form that carries an IPv4 address in an IPv6 one, and cloud
//! metadata addresses outside those. Leaves exceptions to [`crate::Policy`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

const fn v4(a: u8, b: u8, c: u8, d: u8, length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

/// From the first four groups; the ranges below need no more.
const fn v6(a: u16, b: u16, c: u16, d: u16, length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0), length)
}

const IPV4: &[(Ipv4Net, &str)] = &[
    (v4(0, 0, 0, 0, 8), "this network"),
    (v4(10, 0, 0, 0, 8), "private use"),
    (v4(100, 64, 0, 0, 10), "carrier NAT, some clouds' metadata"),
    (v4(127, 0, 0, 0, 8), "loopback"),
    (v4(168, 63, 129, 16, 32), "Azure host"),
    (v4(169, 254, 0, 0, 16), "link local, cloud metadata"),
    (v4(172, 16, 0, 0, 12), "private use"),
    (v4(192, 0, 0, 0, 24), "protocol assignments"),
    (v4(192, 0, 2, 0, 24), "documentation"),
    (v4(192, 31, 196, 0, 24), "AS112"),
    (v4(192, 52, 193, 0, 24), "AMT"),
    (v4(192, 88, 99, 0, 24), "6to4 relay"),
    (v4(192, 168, 0, 0, 16), "private use"),
    (v4(192, 175, 48, 0, 24), "AS112"),
    (v4(198, 18, 0, 0, 15), "benchmarking"),
    (v4(198, 51, 100, 0, 24), "documentation"),
    (v4(203, 0, 113, 0, 24), "documentation"),
    (v4(224, 0, 0, 0, 4), "multicast"),
    (v4(240, 0, 0, 0, 4), "reserved, broadcast"),
];

/// `::ffff:0:0/96` is not here: such an address is asked for as IPv4. The first range that holds an
/// address is named.
const IPV6: &[(Ipv6Net, &str)] = &[
    (
        v6(0, 0, 0, 0, 96),
        "unspecified, loopback, IPv4-compatible IPv6",
    ),
    (
        Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, 0, 0), 96),
        "IPv4-translated IPv6",
    ),
    (v6(0x64, 0xff9b, 0, 0, 96), "NAT64"),
    (v6(0x64, 0xff9b, 1, 0, 48), "local NAT64"),
    (v6(0x100, 0, 0, 0, 64), "discard"),
    (v6(0x100, 0, 0, 1, 64), "dummy prefix"),
    (v6(0x2001, 0, 0, 0, 23), "protocol assignments, Teredo"),
    (v6(0x2001, 0xdb8, 0, 0, 32), "documentation"),
    (v6(0x2002, 0, 0, 0, 16), "6to4"),
    (v6(0x2620, 0x4f, 0x8000, 0, 48), "AS112"),
    (v6(0x3fff, 0, 0, 0, 20), "documentation"),
    (v6(0x5f00, 0, 0, 0, 16), "segment routing"),
    (v6(0xfc00, 0, 0, 0, 7), "unique local, cloud metadata"),
    (v6(0xfe80, 0, 0, 0, 10), "link local"),
    (v6(0xfec0, 0, 0, 0, 10), "site local"),
    (v6(0xff00, 0, 0, 0, 8), "multicast"),
    // all but 2000::/3, the only space of which IANA has given anything out for global unicast
    (v6(0, 0, 0, 0, 3), "reserved by the IETF"),
    (v6(0x4000, 0, 0, 0, 2), "reserved by the IETF"),
    (v6(0x8000, 0, 0, 0, 1), "reserved by the IETF"),
];

/// The range of the deny list that holds `address`, and what it is for. `address` is canonical
/// ([`IpAddr::to_canonical`]).
pub(crate) fn denying(address: IpAddr) -> Option<(IpNet, &'static str)> {
    match address {
        IpAddr::V4(address) => IPV4
            .iter()
            .find(|(range, _)| range.contains(&address))
            .map(|(range, what)| (IpNet::V4(*range), *what)),
        IpAddr::V6(address) => IPV6
            .iter()
            .find(|(range, _)| range.contains(&address))
            .map(|(range, what)| (IpNet::V6(*range), *what))
            .or_else(|| isatap(address)),
    }
}

/// ISATAP (RFC 5214) hides an IPv4 address in the interface id under any prefix, so it is no one
/// range: the group before the address is `5efe`, the one before that 0 or 0x200.
fn isatap(address: Ipv6Addr) -> Option<(IpNet, &'static str)> {
    let [.., flags, marker, _, _] = address.segments();
    let carried = matches!(flags, 0 | 0x200) && marker == 0x5efe;
    let range = Ipv6Net::new(address, 96).ok().filter(|_| carried)?;
    Some((IpNet::V6(range.trunc()), "ISATAP"))
}

/// First and last addresses, and those of clouds, are in the table of `tests/hostile`.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::Policy;

    fn denied(address: IpAddr) -> bool {
        Policy::default().check_address(address).is_err()
    }

    #[test]
    fn public_addresses_pass() {
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "93.184.215.14",
            "::ffff:93.184.215.14",
            "168.63.129.15",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2a00:1450:4001:830::200e",
            "2001:4860:4860::8888",
            "2606:4700::1:5efe:a00:1",
        ] {
            assert!(!denied(address.parse().unwrap()), "{address}");
        }
    }
}
