//! Libraries that others wrote accept what we sign, and refuse another body.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use postrider_domain::{Jws, OpenBanking, Scheme, Signing, SigningSecret, Timestamp};
use postrider_signing::{ID_HEADER, Message, TIMESTAMP_HEADER, parse_key, sign};
use serde_json::{Value, json};

const SHARED: &str = "whsec_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";
const ED25519: &str =
    "whsk_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8DoQe/884Qvh1w3RjnS8CZZ+TWMJulDV8d3IZkElUxuA==";
const ED25519_PUBLIC: &str = "whpk_A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=";
const ID: &str = "dlv_0123456789abcdef0123456789abcdef";
const URL: &str = "https://merchant.example/hooks/pay?x=1";
const KEY_ID: &str = "key-1";
/// Not ASCII, for libraries that take the body as text.
const BODY: &str = r#"{"type":"payment.captured","data":{"id":"pay_1","note":"café €"}}"#;
const OTHER_BODY: &str = r#"{"type":"payment.captured","data":{"id":"pay_2","note":"café €"}}"#;

/// A key as we have it, of which kind it is, and what a receiver is given of it.
struct Key {
    kind: &'static str,
    secret: &'static str,
    public: &'static str,
}

macro_rules! pem {
    ($name:literal) => {
        include_str!(concat!("../../../crates/signing/src/tests/", $name))
    };
}

const KEYS: [Key; 4] = [
    text_key(SHARED),
    Key {
        kind: "ed25519",
        secret: pem!("ed25519.pem"),
        public: pem!("ed25519.pub.pem"),
    },
    Key {
        kind: "p256",
        secret: pem!("p256.pem"),
        public: pem!("p256.pub.pem"),
    },
    Key {
        kind: "rsa",
        secret: pem!("rsa2048.pem"),
        public: pem!("rsa2048.pub.pem"),
    },
];

const fn text_key(secret: &'static str) -> Key {
    Key {
        kind: "shared",
        secret,
        public: "",
    }
}

fn jws(encoded: bool, open_banking: bool) -> Scheme {
    Scheme::Jws(Jws {
        encoded,
        open_banking: open_banking.then(|| OpenBanking {
            issuer: "0015800001041RHAAY".into(),
            trust_anchor: "openbanking.org.uk".into(),
        }),
    })
}

/// A request of each scheme with each kind of key; the name of the scheme as the scripts know it.
fn cases() -> Vec<Value> {
    let with_text = [
        ("standard", Scheme::Standard, text_key(SHARED)),
        ("stripe", Scheme::Stripe, text_key("whsec_test_payhook_1")),
        ("github", Scheme::Github, text_key("s3cr3t")),
        ("shopify", Scheme::Shopify, text_key("s3cr3t")),
        ("slack", Scheme::Slack, text_key("s3cr3t")),
        ("corefy", Scheme::Corefy, text_key("s3cr3t")),
        (
            "standard-ed25519",
            Scheme::StandardEd25519,
            Key {
                kind: "ed25519",
                secret: ED25519,
                public: ED25519_PUBLIC,
            },
        ),
    ];
    let mut cases: Vec<Value> = with_text
        .iter()
        .map(|(name, scheme, key)| case(name, scheme, key, None))
        .collect();
    let asymmetric = [
        ("rfc9421", Scheme::Rfc9421),
        ("jws", jws(true, false)),
        ("jws-unencoded", jws(false, false)),
        ("jws-open-banking", jws(true, true)),
    ];
    for (name, scheme) in &asymmetric {
        cases.extend(KEYS.iter().map(|key| case(name, scheme, key, None)));
    }
    // While a secret is changed, a receiver that has only the old one accepts.
    let newer = "whsec_ISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+P0A=";
    let rolled = [
        ("standard", Scheme::Standard, SHARED),
        ("stripe", Scheme::Stripe, "whsec_test_payhook_1"),
        ("github", Scheme::Github, "s3cr3t"),
        ("slack", Scheme::Slack, "s3cr3t"),
        ("rfc9421", Scheme::Rfc9421, SHARED),
        ("jws", jws(true, false), SHARED),
    ];
    for (name, scheme, old) in rolled {
        cases.push(case(name, &scheme, &text_key(old), Some(newer)));
    }
    cases
}

fn case(name: &str, scheme: &Scheme, key: &Key, newer: Option<&str>) -> Value {
    let secrets = newer.into_iter().chain([key.secret]);
    let signing = Signing {
        scheme: scheme.clone(),
        secrets: secrets
            .map(|text| SigningSecret {
                id: KEY_ID.into(),
                key: parse_key(scheme, text).expect("a key of the scheme"),
                not_after: None,
            })
            .collect(),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.expect("after 1970").as_secs();
    let message = Message {
        id: ID,
        at: Timestamp::from_secs(now),
        url: URL,
        content_type: "application/json",
        body: BODY.as_bytes(),
    };
    let mut headers: BTreeMap<&str, String> = BTreeMap::from([
        ("content-type", "application/json".to_owned()),
        (ID_HEADER, ID.to_owned()),
        (TIMESTAMP_HEADER, now.to_string()),
    ]);
    headers.extend(sign(&signing, &message).expect("valid keys"));
    let rolled = if newer.is_some() { ", rolled" } else { "" };
    json!({
        "name": format!("{name}, {}{rolled}", key.kind),
        "scheme": name,
        "kind": key.kind,
        "key_id": KEY_ID,
        "secret": key.secret,
        "public": key.public,
        "unencoded": matches!(scheme, Scheme::Jws(form) if !form.encoded),
        "url": URL,
        "headers": headers,
        "body": STANDARD.encode(BODY),
        "other_body": STANDARD.encode(OTHER_BODY),
    })
}

/// Has a script verify every case; library and case of each verdict.
fn verify(script: &str, program: &str) -> BTreeSet<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
    let mut child = Command::new(path)
        .arg(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the script is there");
    let cases = cases();
    let mut input = child.stdin.take().expect("it is piped");
    for case in &cases {
        writeln!(input, "{case}").expect("it reads");
    }
    drop(input);
    let output = child.wait_with_output().expect("it was started");
    assert!(output.status.success(), "{script} failed; see above");
    let lines = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    let mut seen = BTreeSet::new();
    for line in lines.lines() {
        let verdict: Value = serde_json::from_str(line).expect("a verdict on each line");
        assert_eq!(verdict["accepts"], true, "{verdict}");
        assert_eq!(verdict["refuses"], true, "{verdict}");
        let text = |name: &str| verdict[name].as_str().expect("a text").to_owned();
        seen.insert((text("library"), text("case")));
    }
    let judged: BTreeSet<&str> = seen.iter().map(|(_, case)| case.as_str()).collect();
    let asked: BTreeSet<&str> = cases
        .iter()
        .filter_map(|case| case["name"].as_str())
        .collect();
    assert_eq!(judged, asked, "every case has a verdict");
    seen
}

#[test]
fn libraries_in_python_accept_what_we_sign() {
    let seen = verify("python.sh", "verify.py");
    assert_eq!(seen.len(), 36, "{seen:#?}");
}

#[test]
fn libraries_in_node_accept_what_we_sign() {
    let seen = verify("node.sh", "verify.mjs");
    assert_eq!(seen.len(), 31, "{seen:#?}");
}
