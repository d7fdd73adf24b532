//! A URL of any text, and addresses of any bits.
//!
//! Input: lines, each a URL; the bytes of the body as an IPv4 or IPv6 address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use postrider_guard::Policy;

use crate::text::head_and_body;

/// What is allowed is allowed again in the form in which it is sent, has a host that is a public
/// address or a name of several labels, and a port of the policy. An IPv4 address that is denied
/// is denied in every IPv6 form that carries it.
pub(crate) fn address(input: &[u8]) {
    let policy = Policy::default();
    let (lines, bits) = head_and_body(input);
    for line in &lines {
        check_url(&policy, line);
    }
    if let Some(bits) = bits.first_chunk::<4>() {
        check_forms(&policy, Ipv4Addr::from(*bits));
    }
    if let Some(bits) = bits.first_chunk::<16>() {
        check_ipv6(&policy, Ipv6Addr::from(*bits));
    }
}

fn check_url(policy: &Policy, text: &str) {
    let Ok(url) = policy.check_url(text) else {
        return;
    };
    let sent = url.as_str();
    let again = policy.check_url(sent);
    assert_eq!(
        again.as_ref().map(|url| url.as_str()),
        Ok(sent),
        "of {text:?}"
    );
    assert_eq!(url.scheme(), "https", "{text:?}");
    assert!(matches!(url.port(), None | Some(8443)), "{text:?}");
    assert!(
        url.username().is_empty() && url.password().is_none(),
        "{text:?}"
    );
    assert!(url.fragment().is_none(), "{text:?}");
    let host = url.host_str().expect("an https URL has a host");
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(address) => assert_eq!(policy.check_address(address), Ok(()), "{text:?}"),
        // what a resolver of the system would take for an address is no name
        Err(_) => {
            let last = host.rsplit('.').next().unwrap_or(host);
            assert!(last.bytes().any(|byte| !byte.is_ascii_digit()), "{text:?}");
            assert!(host.contains('.') && !host.ends_with('.'), "{text:?}");
        }
    }
}

fn check_forms(policy: &Policy, address: Ipv4Addr) {
    let denied = policy.check_address(address.into()).is_err();
    let [a, b, c, d] = address.octets();
    let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    let mapped = address.to_ipv6_mapped();
    assert_eq!(
        policy.check_address(mapped.into()).is_err(),
        denied,
        "{mapped}"
    );
    // every other form that carries an address leads through a gateway that nobody checked
    let forms = [
        Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low),
        Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low),
        Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
        Ipv6Addr::new(0x64, 0xff9b, 1, high, low, 0, 0, 0),
        Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 0),
        Ipv6Addr::new(0x2001, 0, high, low, 0, 0, 0, 0),
    ];
    for form in forms {
        assert!(policy.check_address(form.into()).is_err(), "{form}");
    }
}

fn check_ipv6(policy: &Policy, address: Ipv6Addr) {
    if policy.check_address(address.into()).is_ok() && address.to_ipv4_mapped().is_none() {
        let unicast = address.segments()[0] & 0xe000 == 0x2000;
        assert!(unicast, "{address} is not global unicast");
    }
}
