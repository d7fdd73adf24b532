//! What passes the URL rules, and how; what does not is the table of `tests/hostile`.

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
fn a_url_has_at_most_2048_bytes() {
    let stem = "https://example.com/";
    let longest = format!("{stem}{}", "a".repeat(URL_LENGTH_MAX - stem.len()));
    assert!(strict(&longest).is_ok());
    let refusal = strict(&format!("{longest}a"));
    assert_eq!(refusal, Err(UrlRefusal::TooLong { length: 2049 }));
}

#[test]
fn http_passes_where_it_is_allowed_and_its_port_is_listed() {
    assert!(dev().check_url("http://example.com/").is_ok());
    assert!(dev().check_url("ws://example.com/").is_err());
    let without_80 = Policy {
        allow_http: true,
        ..Policy::default()
    };
    let refusal = without_80.check_url("http://example.com/").unwrap_err();
    assert!(refusal.to_string().ends_with("443, 8443"), "{refusal}");
}

#[test]
fn the_longest_name_of_dns_passes() {
    let longest = [
        &*"a".repeat(63),
        &"b".repeat(63),
        &"c".repeat(63),
        &"d".repeat(61),
    ]
    .join(".");
    assert_eq!(longest.len(), NAME_LENGTH_MAX);
    assert!(strict(&format!("https://{longest}/")).is_ok());
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
