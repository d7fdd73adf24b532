//! Hostile answers to a name, each with the kind of error that ends the attempt.
//!
//! All of them are refused by the resolver: no socket is opened to any of their addresses, not even
//! to the public ones among them.

use std::net::IpAddr;

use hickory_resolver::proto::op::ResponseCode;
use postrider_domain::ErrorKind;

use crate::name_server::Zone;
use crate::namespace::NAME_IN_HOSTS;
use crate::ranges::ranges;

/// An address that answers, should anybody connect to it.
const PUBLIC: &str = "93.184.0.1";
const PUBLIC_V6: &str = "2606:4700:4700::1111";

/// A name, what it answers (`None`: nothing, it is not asked for), and what comes of it.
pub struct Row {
    /// The host of the URL.
    pub name: String,
    /// The name server's answer.
    pub zone: Option<Zone>,
    /// How the attempt ends.
    pub kind: ErrorKind,
}

fn has(addresses: &[&str]) -> Zone {
    Zone::Has(parsed(addresses))
}

fn parsed(addresses: &[&str]) -> Vec<IpAddr> {
    let addresses = addresses.iter().map(|address| address.parse());
    addresses
        .map(|address| address.expect("an address"))
        .collect()
}

/// All rows.
#[must_use]
pub fn answers() -> Vec<Row> {
    use ErrorKind::{DeniedAnswer, Dns};
    let many = |count: u16| -> Vec<IpAddr> {
        let each = |n: u16| IpAddr::from([93, 184, n.to_be_bytes()[0], n.to_be_bytes()[1]]);
        (1..=count).map(each).collect()
    };
    let mut last_is_private = many(33);
    last_is_private[32] = IpAddr::from([10, 0, 0, 1]);
    let mut rows = vec![
        ("private-a", has(&["10.0.0.1"]), DeniedAnswer),
        ("private-aaaa", has(&["fd00::1"]), DeniedAnswer),
        ("metadata", has(&["169.254.169.254"]), DeniedAnswer),
        ("metadata-aaaa", has(&["fd00:ec2::254"]), DeniedAnswer),
        ("azure", has(&["168.63.129.16"]), DeniedAnswer),
        ("loopback", has(&["127.0.0.1"]), DeniedAnswer),
        ("loopback-aaaa", has(&["::1"]), DeniedAnswer),
        ("unspecified", has(&["0.0.0.0"]), DeniedAnswer),
        ("unspecified-aaaa", has(&["::"]), DeniedAnswer),
        (
            "public-then-private",
            has(&[PUBLIC, "10.0.0.1"]),
            DeniedAnswer,
        ),
        (
            "private-then-public",
            has(&["10.0.0.1", PUBLIC]),
            DeniedAnswer,
        ),
        (
            "public-a-private-aaaa",
            has(&[PUBLIC, "fd00::1"]),
            DeniedAnswer,
        ),
        (
            "private-a-public-aaaa",
            has(&["192.168.0.1", PUBLIC_V6]),
            DeniedAnswer,
        ),
        (
            "one-of-many",
            has(&[PUBLIC, PUBLIC_V6, "93.184.0.2", "::1"]),
            DeniedAnswer,
        ),
        ("mapped", has(&["::ffff:169.254.169.254"]), DeniedAnswer),
        ("compatible", has(&["::10.0.0.1"]), DeniedAnswer),
        ("translated", has(&["::ffff:0:10.0.0.1"]), DeniedAnswer),
        ("nat64", has(&["64:ff9b::a00:1"]), DeniedAnswer),
        (
            "nat64-of-a-public-one",
            has(&[PUBLIC, "64:ff9b::5db8:1"]),
            DeniedAnswer,
        ),
        ("nat64-local", has(&["64:ff9b:1::a00:1"]), DeniedAnswer),
        ("sixtofour", has(&["2002:a00:1::1"]), DeniedAnswer),
        (
            "teredo",
            has(&["2001:0:4136:e378:8000:63bf:3fff:fdd2"]),
            DeniedAnswer,
        ),
        ("isatap", has(&["2606:4700::5efe:10.0.0.1"]), DeniedAnswer),
        (
            "alias-of-an-inner-name",
            Zone::Is("db.corp.internal.", parsed(&["10.0.0.7"])),
            DeniedAnswer,
        ),
        (
            "alias-of-the-metadata-server",
            Zone::Is("metadata.google.internal.", parsed(&["169.254.169.254"])),
            DeniedAnswer,
        ),
        (
            "alias-to-be-asked-for",
            Zone::Is("private-a.example.", vec![]),
            DeniedAnswer,
        ),
        (
            "alias-of-localhost",
            Zone::Is("localhost.", vec![]),
            DeniedAnswer,
        ),
        (
            "alias-of-itself",
            Zone::Is("alias-of-itself.example.", vec![]),
            Dns,
        ),
        (
            "alias-of-nothing",
            Zone::Is("nowhere.example.", vec![]),
            Dns,
        ),
        (
            "over-tcp",
            Zone::HasOverTcp(parsed(&[PUBLIC, "10.0.0.1"])),
            DeniedAnswer,
        ),
        ("too-many", Zone::Has(many(33)), Dns),
        (
            "too-many-and-a-private-one",
            Zone::Has(last_is_private),
            Dns,
        ),
        // more than a datagram holds
        ("a-thousand", Zone::HasOverTcp(many(1_000)), Dns),
        ("no-address", has(&[]), Dns),
        ("no-such-name", Zone::Fails(ResponseCode::NXDomain), Dns),
        ("refused", Zone::Fails(ResponseCode::Refused), Dns),
        ("server-failure", Zone::Fails(ResponseCode::ServFail), Dns),
        ("silent", Zone::Silent, ErrorKind::TimeoutDns),
    ]
    .into_iter()
    .map(|(name, zone, kind)| Row {
        name: format!("{name}.example"),
        zone: Some(zone),
        kind,
    })
    .collect::<Vec<_>>();
    for (number, range) in ranges().into_iter().enumerate() {
        for (end, address) in [("first", range.network()), ("last", range.broadcast())] {
            rows.push(Row {
                name: format!("{end}-of-{number}.example"),
                zone: Some(Zone::Has(vec![address])),
                kind: DeniedAnswer,
            });
        }
    }
    for (name, kind) in [
        (NAME_IN_HOSTS.to_owned(), DeniedAnswer),
        ("localhost.localdomain".to_owned(), DeniedAnswer),
        ("service.namespace.svc".to_owned(), Dns),
    ] {
        rows.push(Row {
            name,
            zone: None,
            kind,
        });
    }
    rows
}
