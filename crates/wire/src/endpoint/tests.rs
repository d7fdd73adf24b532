//! Facts about endpoints in files and records.

mod auth;
mod filter_and_success;
mod records;
mod sealed;

use std::time::Duration;

use postrider_domain::{
    EndpointState, Format, Jws, OnExhausted, OpenBanking, Ordering, RateLimit, RetryPolicy,
    RetryPreset, Scheme, Secret, Signing, SigningKey, SigningSecret, Template, TypePattern,
};
use postrider_guard::Policy;
use postrider_signing::{NONCE_BYTES, Nonces, generate_key};
use proptest::prelude::*;

use super::*;

const SECRET: &str = "whsec_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";

fn parse(yaml: &str) -> Result<Vec<Endpoint>, Vec<FieldError>> {
    parse_file(yaml.as_bytes(), FileFormat::Yaml, &Policy::default())
}

fn parse_file(
    bytes: &[u8],
    format: FileFormat,
    policy: &Policy,
) -> Result<Vec<Endpoint>, Vec<FieldError>> {
    super::parse_file(bytes, format, policy, &KeyRing::default())
}

fn from_record(key: &[u8], value: &[u8]) -> Result<Endpoint, InvalidEndpoint> {
    let recorded = super::from_record(key, value, &KeyRing::default())?;
    assert_eq!(recorded.unopened, []);
    Ok(recorded.endpoint)
}

fn to_record(endpoint: &Endpoint, updated_at: Timestamp) -> Vec<u8> {
    let nonces = Nonces::new([0; NONCE_BYTES]);
    super::to_record(
        endpoint,
        updated_at,
        Sealing::new(&KeyRing::default(), nonces),
    )
}

/// The mistakes of a file that must have some, as lines.
fn mistakes(yaml: &str) -> Vec<String> {
    let errors = parse(yaml).expect_err("must have mistakes");
    errors.iter().map(FieldError::to_string).collect()
}

#[track_caller]
fn assert_one(extra: &str, start: &str) {
    let yaml = format!("id: ep_1\nurl: https://a.example/\n{extra}\n");
    let signing = if extra.contains("signing") {
        ""
    } else {
        "signing: {scheme: none}\n"
    };
    let found = mistakes(&format!("{yaml}{signing}"));
    let start = format!("document 1: {start}");
    assert!(
        found.len() == 1 && found[0].starts_with(&start),
        "{extra}\nexpected {start}\nfound    {found:?}"
    );
}

#[test]
fn a_full_file_is_read() {
    let yaml = format!(
        r#"
id: ep_acme_orders
tenant: acme
url: https://ACME.example:443/webhooks
state: paused
description: order service
types: ["payment.*", refund.created]
format: template
template: '{{"id": {{{{ data.id }}}}}}'
content_type: application/vnd.acme+json
rate_limit: {{ attempts: 100, per: 1s, smooth: true }}
ordering: key
on_exhausted: block
signing:
  scheme: standard
  secrets:
    - {{ id: s2, value: {SECRET} }}
    - {{ id: s1, value: {SECRET}, not_after: 2026-12-01T00:00:00Z }}
concurrency: 32
timeout: 1500ms
retry: {{ schedule: [5s, 5m, 30m, 2h], window: 72h, jitter: 0.25 }}
headers: {{ X-Shop: "42" }}
metadata: {{ plan: gold }}
"#
    );
    let endpoints = parse(&yaml).unwrap();
    let [endpoint] = &endpoints[..] else {
        panic!("one document is one endpoint");
    };
    assert_eq!(endpoint.id.as_str(), "ep_acme_orders");
    assert_eq!(endpoint.tenant.as_str(), "acme");
    assert_eq!(&*endpoint.url, "https://acme.example/webhooks");
    assert_eq!(endpoint.state, EndpointState::Paused);
    assert!(endpoint.wants("payment.captured") && !endpoint.wants("refund.failed"));
    assert_eq!(endpoint.signing.secrets.len(), 2);
    let key: Vec<u8> = (1..=32).collect();
    let key = SigningKey::Shared(Secret::new(key));
    assert!(endpoint.signing.secrets[0].key == key);
    assert_eq!(
        endpoint.signing.secrets[1].not_after,
        Some(Timestamp::from_secs(1_796_083_200))
    );
    assert_eq!(endpoint.concurrency, Some(32));
    assert_eq!(endpoint.timeout, Some(Duration::from_millis(1_500)));
    let retry = endpoint.retry.as_ref().unwrap();
    assert_eq!(retry.schedule.len(), 4);
    assert_eq!(retry.window, Duration::from_secs(72 * 3_600));
    assert_eq!(retry.jitter_permille, 250);
    let limit = RateLimit {
        attempts: 100,
        per: Duration::from_secs(1),
        smooth: true,
    };
    assert_eq!(endpoint.rate_limit, Some(limit));
    let template = Template {
        source: r#"{"id": {{ data.id }}}"#.into(),
        content_type: "application/vnd.acme+json".into(),
    };
    assert_eq!(endpoint.format, Format::Template(template));
    assert_eq!(endpoint.ordering, Ordering::Key);
    assert_eq!(endpoint.on_exhausted, OnExhausted::Block);
    assert_eq!(endpoint.headers, [("x-shop".into(), "42".into())]);
    assert_eq!(endpoint.metadata, [("plan".into(), "gold".into())]);
    assert_eq!(&*endpoint.description, "order service");
}

#[test]
fn a_short_file_gets_the_defaults() {
    let yaml = "---\nid: a\nurl: https://a.example/\nsigning: {scheme: none}\n---\n\
                id: b\nurl: https://b.example/\nretry: corefy\nsigning: {scheme: none}\n---\n";
    let endpoints = parse(yaml).unwrap();
    assert_eq!(endpoints.len(), 2);
    assert_eq!(endpoints[0].tenant.as_str(), "default");
    assert_eq!(endpoints[0].state, EndpointState::Active);
    assert!(endpoints[0].types.is_empty() && endpoints[0].retry.is_none());
    assert_eq!(endpoints[0].format, Format::Raw);
    assert_eq!(endpoints[0].rate_limit, None);
    assert_eq!(endpoints[0].ordering, Ordering::None);
    assert_eq!(endpoints[0].on_exhausted, OnExhausted::Continue);
    assert_eq!(endpoints[1].retry, Some(RetryPreset::Corefy.policy()));
    let json = br#"{"id":"a","url":"https://a.example/","signing":{"scheme":"none"}} "#;
    let json = parse_file(json, FileFormat::Json, &Policy::default()).unwrap();
    assert_eq!(json[0], endpoints[0]);
}

#[test]
fn every_mistake_is_reported_at_once() {
    let yaml = "
id: a.b
tennant: acme
url: https://127.0.0.1/
state: 5
types: [pay*]
signing:
  scheme: standard
  secret: x
  secrets:
    - { id: s1, value: whsec_AAAA }
    - { id: 7, value: 8 }
timeout: 2m
concurrency: -1
retry: { schedule: [5s, 1y], windw: 1h }
rate_limit: { attempts: 0, per: 1w, burst: 5 }
ordering: tenant
on_exhausted: block
format: xml
headers: { Host: evil, webhook-id: x }
---
url: https://b.example/
";
    let found = mistakes(yaml);
    let has = |start: &str| found.iter().filter(|line| line.starts_with(start)).count();
    for start in [
        "document 1: id: an endpoint id must be",
        "document 1: tennant: there is no such field",
        "document 1: url: the URL's host is denied",
        "document 1: state: expected a string, found a number",
        "document 1: types[0]: expected an event type",
        "document 1: signing.secret: there is no such field",
        "document 1: signing.secrets[0].value: a signing secret",
        "document 1: signing.secrets[1].id: expected a string, found a number",
        "document 1: signing.secrets[1].value: expected a string, found a number",
        "document 1: timeout: expected 1s to 1m",
        "document 1: concurrency: expected a whole number, found a negative number",
        "document 1: retry.schedule[1]: expected 100ms to 30days",
        "document 1: retry.windw: there is no such field",
        "document 1: rate_limit.per: expected 1s to 1day",
        "document 1: rate_limit.burst: there is no such field",
        "document 1: ordering: expected none, key or endpoint, found \"tenant\"",
        "document 1: format: expected raw, standard, cloudevents, cloudevents-binary, form or",
        "document 1: headers.Host: is set by",
        "document 1: headers.webhook-id: is set by",
        "document 2: id: is required",
        "document 2: signing: is required",
    ] {
        assert_eq!(has(start), 1, "{start}\n{found:#?}");
    }
    assert_eq!(found.len(), 21, "{found:#?}");
}

#[test]
fn an_unknown_scheme_is_never_ignored() {
    assert_one(
        "signing: {scheme: paypal}",
        "signing.scheme: expected one of standard, standard-ed25519, stripe,",
    );
}

#[test]
fn bounds_are_kept() {
    let many = |n: usize, item: &str| vec![item; n].join(", ");
    assert_one("concurrency: 0", "concurrency: expected 1 to 1000");
    assert_one("concurrency: 1001", "concurrency: expected 1 to 1000");
    assert_one("timeout: 999ms", "timeout: expected 1s to 1m");
    assert_one("timeout: 15", "timeout: expected a string");
    assert_one("tenant: ''", "tenant: a tenant must be");
    assert_one(
        &format!("types: [{}]", many(101, "a")),
        "types: at most 100",
    );
    assert_one("retry: never", "retry: expected one of standard, stripe");
    assert_one(
        "retry: [5s]",
        "retry: expected a preset's name, or schedule",
    );
    assert_one("retry: {window: 1h}", "retry.schedule: is required");
    assert_one(
        "retry: {schedule: [1h], window: 31d}",
        "retry.window: expected",
    );
    assert_one(
        "retry: {schedule: [2h], window: 1h}",
        "retry.schedule: its waits",
    );
    assert_one(
        "retry: {schedule: [1h], jitter: 0.6}",
        "retry.jitter: expected 0 to",
    );
    assert_one(
        &format!("retry: {{schedule: [{}]}}", many(201, "1s")),
        "retry.schedule: at most 200",
    );
    assert_one(
        &format!("description: {}", "x".repeat(1_025)),
        "description: at most",
    );
    assert_one(
        "headers: {x-a: \"a\\r\\nb\"}",
        "headers.x-a: expected visible",
    );
    assert_one("headers: {x-a: é}", "headers.x-a: expected visible");
    assert_one("headers: {\"x a\": b}", "headers.…: is not a header name");
    assert_one("headers: {X-A: b, x-a: c}", "headers.x-a: is there twice");
    assert_one("metadata: {\"\": b}", "metadata.: expected a name");
    assert_one("signing: [none]", "signing: expected scheme and secrets");
    assert_one(
        &format!("signing: {{secrets: [[a, {SECRET}]]}}"),
        "signing.secrets[0]: expected id and value",
    );
    for scheme in scheme_names().filter(|name| *name != "none") {
        assert_one(
            &format!("signing: {{scheme: {scheme}}}"),
            "signing.secrets: at least one",
        );
    }
    assert_one(
        "signing: {scheme: slack, secrets: [{id: a, value: \"\"}]}",
        "signing.secrets[0].value: a signing secret of this scheme has 6 to 256 bytes",
    );
    assert_one(
        &format!("signing: {{jws: {{b64: false}}, secrets: [{{id: a, value: {SECRET}}}]}}"),
        "signing.jws: is for scheme: jws alone",
    );
    for (jws, path) in [
        ("[false]", "signing.jws"),
        ("{open_banking: [a, b]}", "signing.jws.open_banking"),
    ] {
        assert_one(
            &format!("signing: {{scheme: jws, secrets: [{{id: a, value: {SECRET}}}], jws: {jws}}}"),
            &format!("{path}: expected"),
        );
    }
    assert_one(
        &format!(
            "signing: {{scheme: jws, secrets: [{{id: a, value: {SECRET}}}], \
             jws: {{open_banking: {{issuer: x}}}}}}"
        ),
        "signing.jws.open_banking.trust_anchor: is required",
    );
    assert_one(
        "signing: whsec_secret",
        "signing: expected scheme and secrets",
    );
    assert_one(
        &format!("signing: {{secrets: [{{id: a, value: {SECRET}, not_after: soon}}]}}"),
        "signing.secrets[0].not_after: expected a time",
    );
    assert_one(
        &format!(
            "signing: {{secrets: [{}]}}",
            many(2, &format!("{{id: a, value: {SECRET}}}"))
        ),
        "signing.secrets[1].id: \"a\" is there twice",
    );
}

#[test]
fn a_rate_limit_is_from_one_a_day_to_10_000_a_second() {
    let limit = |fields: &str| {
        let yaml = format!(
            "id: a\nurl: https://a.example/\nsigning: {{scheme: none}}\nrate_limit: {fields}"
        );
        parse(&yaml).unwrap()[0].rate_limit.unwrap()
    };
    assert_eq!(limit("{attempts: 1, per: 1d}").per, RateLimit::PER_MAX);
    assert!(!limit("{attempts: 1, per: 1d, smooth: false}").smooth);
    assert_eq!(limit("{attempts: 10000, per: 1s}").attempts, 10_000);
    assert_eq!(limit("{attempts: 15000, per: 1500ms}").attempts, 15_000);
    assert_eq!(
        limit("{attempts: 100000000, per: 1d}").attempts,
        100_000_000
    );
    for (fields, start) in [
        (
            "{attempts: 0, per: 1s}",
            ".attempts: expected 1 to 10000 for 1s, found 0",
        ),
        (
            "{attempts: 10001, per: 1s}",
            ".attempts: expected 1 to 10000 for 1s",
        ),
        (
            "{attempts: 15001, per: 1500ms}",
            ".attempts: expected 1 to 15000 for 1s 500ms",
        ),
        (
            "{attempts: 100000001, per: 1d}",
            ".attempts: expected 1 to 100000000 for 1day",
        ),
        (
            "{attempts: 4294967297, per: 1d}",
            ".attempts: expected 1 to 100000000 for 1day",
        ),
        (
            "{attempts: 1.5, per: 1s}",
            ".attempts: expected a whole number",
        ),
        (
            "{attempts: '1', per: 1s}",
            ".attempts: expected a whole number, found a string",
        ),
        ("{attempts: 1, per: 999ms}", ".per: expected 1s to 1day"),
        ("{attempts: 1, per: 25h}", ".per: expected 1s to 1day"),
        ("{attempts: 1, per: 1}", ".per: expected a string"),
        ("{attempts: 1}", ".per: is required"),
        ("{per: 1s}", ".attempts: is required"),
        (
            "{attempts: 1, per: 1s, smooth: yes please}",
            ".smooth: expected a boolean",
        ),
        (
            "{attempts: 1, per: 1s, every: 1s}",
            ".every: there is no such field",
        ),
        ("[1, 1s]", ": expected attempts and per, found a list"),
        ("100/s", ": expected attempts and per, found a string"),
    ] {
        assert_one(
            &format!("rate_limit: {fields}"),
            &format!("rate_limit{start}"),
        );
    }
}

#[test]
fn a_template_goes_with_its_format_and_is_read_before_it_is_used() {
    for format in [
        "raw",
        "standard",
        "cloudevents",
        "cloudevents-binary",
        "form",
    ] {
        let yaml = format!(
            "id: a\nurl: https://a.example/\nsigning: {{scheme: none}}\nformat: {format}\n"
        );
        let endpoint = &parse(&yaml).unwrap()[0];
        let shown = serde_json::to_value(EndpointForm::of(endpoint)).unwrap();
        let expected = (format != "raw").then_some(format);
        assert_eq!(shown["format"].as_str(), expected);
        assert_one(
            &format!("format: {format}\ntemplate: x"),
            "template: goes with format: template alone",
        );
    }
    assert_one(
        "content_type: text/plain",
        "content_type: goes with format: template alone",
    );
    assert_one("format: template", "template: is required");
    assert_one(
        "format: template\ntemplate: x\ncontent_type: json",
        "content_type: expected a media type",
    );
    assert_one(
        &format!("format: template\ntemplate: {}", "x".repeat(65_537)),
        "template: at most 65536 bytes, found 65537",
    );
    for (template, mistake) in [
        ("{{ data.id", "line 1: unexpected end of input"),
        ("{{ paylod.id }}", "line 1: there is no \"paylod\""),
        (
            "{{ data.id | hmac_sha256(\\\"s1\\\") }}",
            "line 1: hmac_sha256 names the secret 's1'",
        ),
    ] {
        assert_one(
            &format!("format: template\ntemplate: \"{template}\""),
            &format!("template: {mistake}"),
        );
    }
    // A newer version may know more: who sends it says what is wrong.
    let record = br#"{"id":"a","url":"https://a/","signing":{"scheme":"none"},
        "format":"template","template":"{{ data | tobeinvented }}"}"#;
    assert!(from_record(b"a", record).is_ok());
}

#[test]
fn block_needs_an_order() {
    let order = |fields: &str| {
        let yaml = format!("id: a\nurl: https://a.example/\nsigning: {{scheme: none}}\n{fields}\n");
        let endpoint = &parse(&yaml).unwrap()[0];
        (endpoint.ordering, endpoint.on_exhausted)
    };
    let block = OnExhausted::Block;
    assert_eq!(
        order("ordering: key\non_exhausted: block"),
        (Ordering::Key, block)
    );
    assert_eq!(
        order("ordering: endpoint\non_exhausted: block"),
        (Ordering::Endpoint, block)
    );
    assert_eq!(
        order("ordering: none\non_exhausted: continue"),
        (Ordering::None, OnExhausted::Continue)
    );
    for unordered in ["on_exhausted: block", "ordering: none\non_exhausted: block"] {
        assert_one(unordered, "on_exhausted: block holds back");
        let found = mistakes(&format!(
            "id: a\nurl: https://a.example/\nsigning: {{scheme: none}}\n{unordered}\n"
        ));
        assert!(
            found[0].contains("needs ordering: key or ordering: endpoint"),
            "{found:?}"
        );
    }
    assert_one(
        "on_exhausted: stop",
        "on_exhausted: expected continue or block",
    );
    assert_one(
        "ordering: true",
        "ordering: expected a string, found true or false",
    );
}

#[test]
fn files_that_are_none_say_so() {
    for (yaml, start) in [
        ("", "there is no endpoint"),
        ("a: [", "not YAML"),
        ("id: a\nid: b", "not YAML"),
        (
            "- id: a",
            "document 1: expected the fields of an endpoint, found a list",
        ),
        (
            "x",
            "document 1: expected the fields of an endpoint, found a string",
        ),
        ("jitter: .nan", "not YAML"),
        ("&a [*a]", "not YAML"),
    ] {
        let found = mistakes(yaml);
        assert!(found[0].starts_with(start), "{yaml:?}: {found:?}");
    }
    let endpoint = "id: a\nurl: https://a.example/\nsigning: {scheme: none}\n";
    let twice = mistakes(&format!("{endpoint}---\n{endpoint}"));
    assert_eq!(twice, ["document 2: id: is also the id of document 1"]);
    let not_json = parse_file(b"{", FileFormat::Json, &Policy::default()).unwrap_err();
    assert!(not_json[0].to_string().starts_with("not JSON"));
    let laughs = format!(
        "a: &a [{}]\nb: &b [{}]\nc: &c [{}]\nd: &d [{}]\ne: [{}]\n",
        ["x"; 10].join(","),
        ["*a"; 10].join(","),
        ["*b"; 10].join(","),
        ["*c"; 10].join(","),
        ["*d"; 200].join(","),
    );
    assert!(
        mistakes(&laughs)[0].starts_with("not YAML"),
        "aliases are bounded"
    );
}

#[test]
fn no_message_repeats_a_secret() {
    let marker = "c2VjcmV0c2VjcmV0";
    for yaml in [
        format!("signing: whsec_{marker}"),
        format!("signing: {{secrets: whsec_{marker}}}"),
        format!("signing: {{secrets: [whsec_{marker}]}}"),
        format!("signing: {{secrets: [{{id: a, value: whsec_{marker}}}]}}"),
        format!("signing: {{secrets: [{{id: \"whsec_{marker}=\", value: s1}}]}}"),
        format!("signing: {{secrets: [{{id: a, value: [whsec_{marker}]}}]}}"),
        format!("signing:\n  secrets:\n  - value: whsec_{marker}\n - bad"),
    ] {
        let found = mistakes(&yaml).join("\n");
        assert!(!found.contains(marker), "{found}");
    }
    let record = format!(r#"{{"id":"a","signing":{{"secrets":["whsec_{marker}"]}}}}"#);
    let error = from_record(b"a", record.as_bytes()).unwrap_err();
    assert!(!error.to_string().contains(marker), "{error}");
}

#[test]
fn open_banking_goes_with_rsa_keys() {
    let pem = include_str!("../../../signing/src/tests/rsa2048.pem");
    let with = |value: &str| {
        let value = serde_json::to_string(value).unwrap();
        format!(
            "id: a\nurl: https://a.example/\nsigning: {{scheme: jws, jws: {{b64: false, open_banking: \
             {{issuer: \"CN=\\\"A\\\"\", trust_anchor: t}}}}, secrets: [{{id: s1, value: {value}}}]}}"
        )
    };
    let endpoint = &parse(&with(pem)).unwrap()[0];
    let bank = OpenBanking {
        issuer: "CN=\"A\"".into(),
        trust_anchor: "t".into(),
    };
    let expected = Scheme::Jws(Jws {
        encoded: false,
        open_banking: Some(bank),
    });
    assert_eq!(endpoint.signing.scheme, expected);
    let record = to_record(endpoint, Timestamp::from_secs(1));
    assert_eq!(&from_record(b"a", &record).unwrap(), endpoint);
    let found = mistakes(&with(SECRET));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("signing.jws.open_banking: asks for RSA keys"));
}

#[test]
fn the_display_form_masks_secrets() {
    let yaml = format!(
        "id: a\nurl: https://a.example/\nsigning: {{secrets: [{{id: s1, value: {SECRET}}}]}}\n\
         headers: {{x-pass: of-the-shop}}"
    );
    let endpoint = &parse(&yaml).unwrap()[0];
    let shown = to_display_json(endpoint, &to_record(endpoint, Timestamp::default())).unwrap();
    assert_eq!(shown["signing"]["secrets"][0]["value"], "whsec_…");
    assert_eq!(shown["signing"]["secrets"][0]["id"], "s1");
    assert_eq!(shown["headers"], serde_json::json!({"x-pass": "…"}));
}

#[test]
fn a_secret_that_became_a_name_is_not_repeated() {
    for signing in [
        format!("{{ secrets: [{{ id: s1, value {SECRET} }}] }}"),
        format!("{{ secrets: [{{ id: s1, value:{SECRET} }}] }}"),
        format!("{{ {SECRET}: s1 }}"),
    ] {
        let told = mistakes(&format!(
            "id: a\nurl: https://a.example/\nsigning: {signing}"
        ));
        assert!(
            told.iter()
                .any(|line| line.contains("…: there is no such field")),
            "{told:?}"
        );
        assert!(!told.concat().contains(SECRET), "{told:?}");
    }
}
