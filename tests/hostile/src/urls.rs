//! Hostile URLs, each with the rule that refuses it.
//!
//! All of them are refused by the URL alone: no name is looked up, no socket is opened. What a name
//! answers is in [`crate::answers`].

use std::net::IpAddr;

use postrider_guard::{URL_LENGTH_MAX, UrlRefusal};

use crate::ranges::{holding, ranges};

/// The rule that refuses a URL; the names are those of [`UrlRefusal`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Too many bytes.
    TooLong,
    /// This character.
    Character(char),
    /// `#`.
    Fragment,
    /// `user@`.
    Userinfo,
    /// Not a URL with a host.
    Unparsable,
    /// Not `https`.
    Scheme,
    /// This port.
    Port(u16),
    /// No domain name.
    Host,
    /// A name of an inner network.
    InnerName,
    /// A literal in this range.
    Denied(String),
}

impl From<&UrlRefusal> for Rule {
    fn from(refusal: &UrlRefusal) -> Self {
        match refusal {
            UrlRefusal::TooLong { .. } => Self::TooLong,
            UrlRefusal::Character { found, .. } => Self::Character(*found),
            UrlRefusal::Fragment => Self::Fragment,
            UrlRefusal::Userinfo => Self::Userinfo,
            UrlRefusal::Unparsable { .. } => Self::Unparsable,
            UrlRefusal::Scheme { .. } => Self::Scheme,
            UrlRefusal::Port { found, .. } => Self::Port(*found),
            UrlRefusal::Host { .. } => Self::Host,
            UrlRefusal::InnerName { .. } => Self::InnerName,
            UrlRefusal::Denied(denied) => Self::Denied(denied.range.to_string()),
        }
    }
}

/// Hosts that are a denied address in some notation, by the range they lie in.
const LITERALS: &[(&str, &[&str])] = &[
    (
        "127.0.0.0/8",
        &[
            "127.0.0.1",
            "127.0.0.1.",
            "127.0.0.1:443",
            "127.0.0.1:",
            "127.0.0.1:22",
            "127.1",
            "127.0.1",
            "0x7f.1",
            "0x7F.0x0.0x0.0x1",
            "0x7f000001",
            "0x000000007f000001",
            "2130706433",
            "017700000001",
            "0177.0.0.1",
            "0177.0.0.01",
            "0000177.0.0.1",
            "127.000.000.001",
            "0x7f.0.1",
            "0177.0x0.1",
            "127.0.0.%31",
            "%31%32%37.0.0.1",
            "127%2e0%2e0%2e1",
            "①②⑦.0.0.1",
            "１２７.０.０.１",
            "𝟏𝟐𝟕.𝟎.𝟎.𝟏",
            "127。0。0。1",
            "127．0．0．1",
            "127.0.0.1\u{feff}",
            "12\u{200b}7.0.0.1",
            "12\u{ad}7.0.0.1",
            "127.255.255.254",
            "[::ffff:127.0.0.1]",
            "[::FFFF:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[0:0:0:0:0:ffff:127.0.0.1]",
            "[0000:0000:0000:0000:0000:ffff:7f00:0001]",
        ],
    ),
    ("0.0.0.0/8", &["0", "0x0", "00", "0.0", "[::ffff:0:0]"]),
    (
        "169.254.0.0/16",
        &[
            "169.254.169.254",
            "169.254.169.254.",
            "169.254.169.254%2e",
            "2852039166",
            "0xa9fea9fe",
            "0xa9.0xfe.0xa9.0xfe",
            "0251.0376.0251.0376",
            "025177524776",
            "169.254.43518",
            "169.16689662",
            "169.254.170.2",
            "169.254.169.123",
            "[::ffff:169.254.169.254]",
            "[::ffff:a9fe:a9fe]",
        ],
    ),
    (
        "168.63.129.16/32",
        &["168.63.129.16.", "2822734096", "0xa83f8110"],
    ),
    ("100.64.0.0/10", &["100.100.100.200", "0x646464c8"]),
    ("192.0.0.0/24", &["192.0.0.192", "192.0.0.170"]),
    (
        "10.0.0.0/8",
        &["10.0.0.1", "012.0.0.1", "0xa.1", "167772161", "10.1"],
    ),
    ("172.16.0.0/12", &["172.16.0.1", "0xac.0x10.1"]),
    (
        "192.168.0.0/16",
        &["192.168.1.1", "3232235777", "0xc0a80101", "192.168.257"],
    ),
    ("224.0.0.0/4", &["224.0.0.1", "239.255.255.250"]),
    ("240.0.0.0/4", &["4294967295", "0xffffffff", "037777777777"]),
    (
        "::/96",
        &[
            "[::1]",
            "[0000::1]",
            "[0:0:0:0:0:0:0:1]",
            "[::127.0.0.1]",
            "[::7f00:1]",
            "[::169.254.169.254]",
            "[::93.184.215.14]",
        ],
    ),
    (
        "::ffff:0:0:0/96",
        &[
            "[::ffff:0:127.0.0.1]",
            "[::ffff:0:a00:1]",
            "[::ffff:0:93.184.215.14]",
        ],
    ),
    (
        "64:ff9b::/96",
        &[
            "[64:ff9b::127.0.0.1]",
            "[64:ff9b::a9fe:a9fe]",
            "[64:ff9b::8.8.8.8]",
        ],
    ),
    (
        "64:ff9b:1::/48",
        &["[64:ff9b:1::10.0.0.1]", "[64:ff9b:1:ffff::a9fe:a9fe]"],
    ),
    (
        "2002::/16",
        &["[2002:7f00:1::]", "[2002:a9fe:a9fe::1]", "[2002:a00:1::]"],
    ),
    (
        "2001::/23",
        &[
            "[2001:0:4136:e378:8000:63bf:3fff:fdd2]",
            "[2001:0:7f00:1::]",
            "[2001:20::1]",
        ],
    ),
    ("2606:4700::5efe:0:0/96", &["[2606:4700::5efe:10.0.0.1]"]),
    (
        "2606:4700::200:5efe:0:0/96",
        &["[2606:4700::200:5efe:169.254.169.254]"],
    ),
    (
        "fc00::/7",
        &["[fd00:ec2::254]", "[fd20:ce::254]", "[fd00::1]"],
    ),
    ("fe80::/10", &["[fe80::1]", "[fe80::a9fe:a9fe]"]),
    ("fec0::/10", &["[fec0::1]"]),
    ("ff00::/8", &["[ff02::1]"]),
];

/// Names of inner networks.
const INNER: &[&str] = &[
    "localhost",
    "LOCALHOST.",
    "localhost:8443",
    "ｌocalhost",
    "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
    "lo\u{200b}calhost",
    "lo\u{ad}calhost",
    "loc%61lhost",
    "localhoſt",
    "a.localhost",
    "127.0.0.1.localhost",
    "metadata.google.internal",
    "metadata.google.internal.",
    "METADATA.GOOGLE.INTERNAL",
    "metadata.google。internal",
    "host.docker.internal",
    "ip-10-0-0-1.ec2.internal",
    "printer.local",
    "printer.local.",
    "printer.ｌocal",
    "kubernetes",
    "metadata",
    "instance-data",
    "ip6-localhost",
    "broadcasthost",
    "xn--bcher-kva",
];

/// What is no host at all.
const NO_HOSTS: &[&str] = &[
    "[127.0.0.1]",
    "[::1",
    "::1",
    "[::1]]",
    "[[::1]]",
    "[]",
    "[fe80::1%25eth0]",
    "[fe80::1%eth0]",
    "[::1%25lo]",
    "[::ffff:127.0.0.256]",
    "[::ffff:0x7f.0.0.1]",
    "[1::2::3]",
    "4294967296",
    "256.256.256.256",
    "127.0.0.0.1",
    "127.0.0.08",
    "127.0.0.0x100",
    "0x100000000",
    "xn--localhost-",
    "xn--",
    "exa<mple.com",
    "exa%00mple.com",
    "example.com%2f.example",
    "example.com%0d%0a",
    "example.com:65536",
    "example.com:99999999999",
    "example.com:-1",
    "example.com:https",
    "example.com:0x1bb",
    "example.com:443:443",
    "example.com:%34%34%33",
];

/// The rest, as it stands.
const WHOLE: &[(&str, Rule)] = &[
    ("https://user@example.com/", Rule::Userinfo),
    ("https://user:secret@example.com/", Rule::Userinfo),
    ("https://@example.com/", Rule::Userinfo),
    ("https://:@example.com/", Rule::Userinfo),
    ("https://example.com@127.0.0.1/", Rule::Userinfo),
    ("https://example.com:443@169.254.169.254/", Rule::Userinfo),
    ("https://user@example.com?x", Rule::Userinfo),
    ("https://a@b@example.com/", Rule::Userinfo),
    ("https://127.0.0.1%2f@example.com/", Rule::Userinfo),
    ("https://example.com:0/", Rule::Port(0)),
    ("https://example.com:22/", Rule::Port(22)),
    ("https://example.com:25/", Rule::Port(25)),
    ("https://example.com:80/", Rule::Port(80)),
    ("https://example.com:2375/", Rule::Port(2375)),
    ("https://example.com:6379/", Rule::Port(6379)),
    ("https://example.com:9092/", Rule::Port(9092)),
    ("https://example.com:65535/", Rule::Port(65535)),
    ("https://example.com:00022/", Rule::Port(22)),
    ("https://93.184.215.14:22/", Rule::Port(22)),
    ("https://[2606:4700:4700::1111]:6379/", Rule::Port(6379)),
    ("http://example.com/", Rule::Scheme),
    ("http://example.com:443/", Rule::Scheme),
    ("hTtP://169.254.169.254/", Rule::Scheme),
    ("ftp://example.com/", Rule::Scheme),
    ("ftps://example.com/", Rule::Scheme),
    ("sftp://example.com/", Rule::Scheme),
    ("file://example.com/etc/passwd", Rule::Scheme),
    ("gopher://example.com:6379/_FLUSHALL", Rule::Scheme),
    ("dict://example.com:6379/info", Rule::Scheme),
    ("ldap://example.com/", Rule::Scheme),
    ("ws://example.com/", Rule::Scheme),
    ("wss://example.com/", Rule::Scheme),
    ("tftp://example.com/a", Rule::Scheme),
    ("ssh://example.com/", Rule::Scheme),
    ("jar:https://example.com/a!/b", Rule::Scheme),
    ("blob:https://example.com/a", Rule::Scheme),
    ("view-source:https://example.com/", Rule::Scheme),
    ("file:///etc/passwd", Rule::Unparsable),
    ("unix:///var/run/docker.sock", Rule::Unparsable),
    ("data:text/plain,a", Rule::Unparsable),
    ("javascript:alert(1)", Rule::Unparsable),
    ("https:example.com", Rule::Unparsable),
    ("https:/example.com", Rule::Unparsable),
    ("https:///example.com", Rule::Unparsable),
    ("https:////127.0.0.1", Rule::Unparsable),
    ("https:user@example.com//", Rule::Unparsable),
    ("//169.254.169.254/", Rule::Unparsable),
    ("example.com", Rule::Unparsable),
    ("/x://example.com", Rule::Unparsable),
    ("://example.com", Rule::Unparsable),
    ("https://", Rule::Unparsable),
    ("https://?x", Rule::Unparsable),
    ("https://:443/", Rule::Unparsable),
    ("", Rule::Unparsable),
    ("https://example.com/#a", Rule::Fragment),
    ("https://example.com/#", Rule::Fragment),
    ("https://example.com#@127.0.0.1/", Rule::Fragment),
    ("https://127.0.0.1#.example.com/", Rule::Fragment),
    ("https://example.com\\@127.0.0.1/", Rule::Character('\\')),
    ("https://127.0.0.1\\.example.com/", Rule::Character('\\')),
    ("https:\\\\127.0.0.1\\", Rule::Character('\\')),
    ("https://example.com/a\r\nx: y", Rule::Character('\r')),
    ("https://example.com/a\nHost: b", Rule::Character('\n')),
    ("https://exam\tple.com/", Rule::Character('\t')),
    ("ht\ntps://127.0.0.1/", Rule::Character('\n')),
    (" https://example.com/", Rule::Character(' ')),
    ("https://example.com/ HTTP/1.1", Rule::Character(' ')),
    ("https://example.com/\0", Rule::Character('\0')),
    ("\u{1}https://example.com/", Rule::Character('\u{1}')),
    ("https://example.com/\u{1b}[2J", Rule::Character('\u{1b}')),
    ("https://example.com/\u{7f}", Rule::Character('\u{7f}')),
    ("https://example.com/\u{85}", Rule::Character('\u{85}')),
    ("https://example.com/\u{a0}", Rule::Character('\u{a0}')),
    ("https://example.com/\u{2028}", Rule::Character('\u{2028}')),
    ("https://example.com/\u{3000}", Rule::Character('\u{3000}')),
    ("https://./", Rule::Host),
    ("https://a..example/", Rule::Host),
    ("https://example.com../", Rule::Host),
    ("https://.example.com/", Rule::Host),
    ("https://..localhost/", Rule::Host),
];

/// All rows.
#[must_use]
pub fn urls() -> Vec<(String, Rule)> {
    let on = |host: &str| format!("https://{host}/hooks");
    let mut rows = Vec::new();
    for (range, hosts) in LITERALS {
        let denied = Rule::Denied((*range).to_owned());
        rows.extend(hosts.iter().map(|host| (on(host), denied.clone())));
    }
    rows.extend(INNER.iter().map(|host| (on(host), Rule::InnerName)));
    rows.extend(NO_HOSTS.iter().map(|host| (on(host), Rule::Unparsable)));
    rows.extend(
        WHOLE
            .iter()
            .map(|(url, rule)| ((*url).to_owned(), rule.clone())),
    );
    rows.extend(edges());
    for (host, path, rule) in [
        ("example.com", "a".repeat(URL_LENGTH_MAX), Rule::TooLong),
        (
            &*format!("{}.example", "a".repeat(64)),
            String::new(),
            Rule::Host,
        ),
        (
            &*format!("{}.example", "a.".repeat(123) + "a"),
            String::new(),
            Rule::Host,
        ),
    ] {
        rows.push((format!("https://{host}/{path}"), rule));
    }
    rows
}

/// First and last address of every range, as it is and, of IPv4, as an IPv6 address.
fn edges() -> Vec<(String, Rule)> {
    let mut ends: Vec<IpAddr> = ranges()
        .iter()
        .flat_map(|range| [range.network(), range.broadcast()])
        .collect();
    ends.sort_unstable();
    ends.dedup();
    let mut rows = Vec::new();
    for address in ends {
        let denied = holding(address).map_or_else(String::new, |range| range.to_string());
        let mut add = |host: String| {
            rows.push((
                format!("https://{host}/hooks"),
                Rule::Denied(denied.clone()),
            ));
        };
        match address {
            IpAddr::V4(v4) => {
                add(v4.to_string());
                add(format!("[{}]", v4.to_ipv6_mapped()));
            }
            IpAddr::V6(v6) => add(format!("[{v6}]")),
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use postrider_guard::Policy;

    use super::*;

    #[test]
    fn every_hostile_url_is_refused_by_its_own_rule() {
        let policy = Policy::default();
        let mut wrong = Vec::new();
        for (url, rule) in urls() {
            match policy.check_url(&url) {
                Ok(taken) => wrong.push(format!("{url:?} is taken as {taken}")),
                Err(refusal) if Rule::from(&refusal) != rule => {
                    wrong.push(format!("{url:?}: {rule:?} expected, but {refusal}"));
                }
                Err(_) => {}
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn every_row_stands_once_and_there_are_many() {
        let rows = urls();
        let distinct: BTreeSet<&str> = rows.iter().map(|(url, _)| url.as_str()).collect();
        let mut seen = BTreeSet::new();
        let twice: Vec<_> = rows.iter().filter(|(url, _)| !seen.insert(url)).collect();
        assert!(twice.is_empty(), "{twice:?}");
        assert!(distinct.len() >= 300, "{}", distinct.len());
    }
}
