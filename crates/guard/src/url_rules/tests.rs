//! The URL rules, one fact a test.

use super::*;

fn strict(text: &str) -> Result<String, UrlRefusal> {
    Policy::default().check_url(text).map(String::from)
}

fn dev() -> Policy {
    Policy {
        allow_http: true,
        ports: vec![443, 80],
        allow_ranges: vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
    }
}

#[test]
fn a_public_url_comes_back_normalised() {
    for (text, normal) in [
        (
            "https://Example.COM/Hooks?x=1",
            "https://example.com/Hooks?x=1",
        ),
        ("https://example.com", "https://example.com/"),
        ("https://example.com./a", "https://example.com/a"),
        ("https://example.com:443/", "https://example.com/"),
        ("https://example.com:8443/", "https://example.com:8443/"),
        ("https://bücher.example/", "https://xn--bcher-kva.example/"),
        ("https://93.184.215.14/", "https://93.184.215.14/"),
        ("https://0x5d.12113678/", "https://93.184.215.14/"),
        (
            "https://[2606:4700:4700:0::1111]/",
            "https://[2606:4700:4700::1111]/",
        ),
        (
            "https://example.com/a@b?c=d@e",
            "https://example.com/a@b?c=d@e",
        ),
    ] {
        assert_eq!(strict(text).as_deref(), Ok(normal), "{text}");
    }
}

#[test]
fn addresses_in_disguise_are_denied() {
    for text in [
        "https://127.0.0.1/",
        "https://127.0.0.1./",
        "https://127.1/",
        "https://0x7f.1/",
        "https://0x7f000001/",
        "https://2130706433/",
        "https://017700000001/",
        "https://0177.0.0.1/",
        "https://127.0.0.%31/",
        "https://①②⑦.0.0.1/",
        "https://169.254.169.254/latest/meta-data/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:a9fe:a9fe]/",
        "https://[::127.0.0.1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://[2002:7f00:1::]/",
        "https://[fd00:ec2::254]/",
        "https://0/",
    ] {
        let refusal = strict(text).unwrap_err();
        assert!(
            matches!(refusal, UrlRefusal::Denied(_)),
            "{text}: {refusal}"
        );
    }
}

#[test]
fn inner_names_are_refused() {
    for text in [
        "https://localhost/",
        "https://LOCALHOST./",
        "https://a.localhost/",
        "https://metadata.google.internal/",
        "https://metadata.google.internal./",
        "https://printer.local/",
        "https://kubernetes/",
        "https://ｌocalhost/",
    ] {
        let refusal = strict(text).unwrap_err();
        assert!(
            matches!(refusal, UrlRefusal::InnerName { .. }),
            "{text}: {refusal}"
        );
    }
}

#[test]
fn empty_labels_are_refused() {
    for text in [
        "https://./",
        "https://a..example/",
        "https://example.com../",
        "https://.example.com/",
    ] {
        let refusal = strict(text).unwrap_err();
        assert!(
            matches!(
                refusal,
                UrlRefusal::Host { .. } | UrlRefusal::Unparsable { .. }
            ),
            "{text}: {refusal}"
        );
    }
}

#[test]
fn userinfo_is_refused_wherever_the_parser_would_find_it() {
    for text in [
        "https://user@example.com/",
        "https://user:secret@example.com/",
        "https://@example.com/",
        "https://:@example.com/",
        "https://example.com@127.0.0.1/",
        "https://user@example.com?x",
    ] {
        assert_eq!(strict(text), Err(UrlRefusal::Userinfo), "{text}");
    }
}

#[test]
fn text_the_parser_would_rewrite_is_refused_before() {
    for (text, found) in [
        ("https://example.com/a\r\nx: y", '\r'),
        ("https://exam\tple.com/", '\t'),
        (" https://example.com/", ' '),
        ("https://example.com/\u{a0}", '\u{a0}'),
        ("https://example.com/\u{7f}", '\u{7f}'),
        ("https://example.com\\@127.0.0.1/", '\\'),
    ] {
        let refusal = strict(text).unwrap_err();
        let UrlRefusal::Character { found: named, .. } = refusal else {
            panic!("{text:?}: {refusal}");
        };
        assert_eq!(named, found, "{text:?}");
    }
    assert_eq!(strict("https://example.com/#a"), Err(UrlRefusal::Fragment));
    assert_eq!(strict("https://example.com/#"), Err(UrlRefusal::Fragment));
    for text in [
        "https:example.com",
        "https:/example.com",
        "https:///example.com",
        "https:user@example.com//",
        "//example.com/",
        "example.com",
        "/x://example.com",
        "https://",
        "",
    ] {
        let refusal = strict(text).unwrap_err();
        assert!(
            matches!(refusal, UrlRefusal::Unparsable { .. }),
            "{text}: {refusal}"
        );
    }
}

#[test]
fn a_url_has_at_most_2048_bytes() {
    let stem = "https://example.com/";
    let longest = format!("{stem}{}", "a".repeat(URL_LENGTH_MAX - stem.len()));
    assert!(strict(&longest).is_ok());
    let refusal = strict(&format!("{longest}a"));
    assert_eq!(refusal, Err(UrlRefusal::TooLong { length: 2049 }));
}

#[test]
fn only_https_unless_http_is_allowed() {
    for text in [
        "http://example.com:443/",
        "ftp://example.com/",
        "file://example.com/",
    ] {
        let refusal = strict(text).unwrap_err();
        assert!(
            matches!(refusal, UrlRefusal::Scheme { .. }),
            "{text}: {refusal}"
        );
    }
    assert!(dev().check_url("http://example.com/").is_ok());
    assert!(dev().check_url("ws://example.com/").is_err());
}

#[test]
fn ports_are_those_listed_and_never_zero() {
    for text in [
        "https://example.com:80/",
        "https://example.com:0/",
        "https://example.com:22/",
    ] {
        let refusal = strict(text).unwrap_err();
        assert!(
            matches!(refusal, UrlRefusal::Port { .. }),
            "{text}: {refusal}"
        );
        assert!(refusal.to_string().ends_with("443, 8443"), "{refusal}");
    }
    let without_80 = Policy {
        allow_http: true,
        ..Policy::default()
    };
    assert!(without_80.check_url("http://example.com/").is_err());
}

#[test]
fn an_excepted_literal_may_have_any_port_but_zero() {
    for text in [
        "http://127.0.0.1:9000/",
        "http://[::1]:9000/",
        "http://localhost:9000/",
        "http://[::ffff:127.0.0.1]:9000/",
    ] {
        assert!(dev().check_url(text).is_ok(), "{text}");
    }
    for text in [
        "http://127.0.0.1:0/",
        "http://localhost:0/",
        "http://example.com:9000/",
    ] {
        let refusal = dev().check_url(text).unwrap_err();
        assert!(
            matches!(refusal, UrlRefusal::Port { .. }),
            "{text}: {refusal}"
        );
    }
    assert!(dev().check_url("http://10.0.0.1/").is_err());
    assert!(dev().check_url("http://a.localhost/").is_err());
    let https_only = Policy {
        allow_http: false,
        ..dev()
    };
    assert!(https_only.check_url("http://127.0.0.1:9000/").is_err());
}

#[test]
fn a_refusal_does_not_repeat_secrets() {
    for text in [
        "https://user:hunter2@example.com/",
        "https://localhost/?token=hunter2",
        "https://example.com/?hunter2#x",
        "https://example.com:1/?hunter2",
        "ftp://example.com/hunter2",
    ] {
        let said = strict(text).unwrap_err().to_string();
        assert!(!said.contains("hunter2"), "{said}");
    }
}
