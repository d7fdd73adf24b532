//! Signatures against vectors made elsewhere, and against our own verifier.

mod verifying;

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use postrider_domain::{Jws, OpenBanking, Secret, SigningKey};

const KEY_A: &str = "whsec_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";
const KEY_B: &str = "whsec_ISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+P0A=";
const ED25519: &str =
    "whsk_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8DoQe/884Qvh1w3RjnS8CZZ+TWMJulDV8d3IZkElUxuA==";
const ED25519_PUBLIC: &str = "whpk_A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=";
/// Made with `openssl genpkey`.
const P256: &str = include_str!("tests/p256.pem");
const RSA: &str = include_str!("tests/rsa2048.pem");
const ID: &str = "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W";
const NOW: Timestamp = Timestamp::from_secs(1_674_087_231);
const URL: &str = "https://merchant.example/hooks/pay?x=1";
const BODY: &str = r#"{"type":"payment.captured","timestamp":"2023-01-19T00:13:51Z","data":{"id":"pay_1","amount":"10.50","currency":"EUR","note":"café €"}}"#;
const SIGNED_A: &str = "v1,Slw4Ss2KcysxCBAbvGFxsI4tOoqAe/yYxLRKGjaExNI=";
const SIGNED_B: &str = "v1,xHHwPWkXRX1q+RlpDtq8rYPcXgvG3yVqjh2EFffin5A=";

fn key(scheme: &Scheme, text: &str) -> SigningKey {
    parse_key(scheme, text).unwrap_or_else(|error| panic!("{scheme:?}: {error}"))
}

/// One secret for each text, newest first, with an id and an end.
fn signing_with(scheme: &Scheme, secrets: &[(&str, &str, Option<Timestamp>)]) -> Signing {
    let secrets = secrets.iter().map(|(text, id, not_after)| SigningSecret {
        id: (*id).into(),
        key: key(scheme, text),
        not_after: *not_after,
    });
    Signing {
        scheme: scheme.clone(),
        secrets: secrets.collect(),
    }
}

fn signing(scheme: &Scheme, texts: &[&str]) -> Signing {
    let secrets: Vec<_> = texts.iter().map(|text| (*text, "", None)).collect();
    signing_with(scheme, &secrets)
}

const MESSAGE: Message<'static> = Message {
    id: ID,
    at: NOW,
    url: URL,
    content_type: "application/json",
    body: BODY.as_bytes(),
};

const JWS: Scheme = Scheme::Jws(Jws {
    encoded: true,
    open_banking: None,
});
const JWS_UNENCODED: Scheme = Scheme::Jws(Jws {
    encoded: false,
    open_banking: None,
});

fn open_banking(encoded: bool) -> Scheme {
    Scheme::Jws(Jws {
        encoded,
        open_banking: Some(OpenBanking {
            issuer: "CN=0015800001041RHAAY".into(),
            trust_anchor: "openbanking.org.uk".into(),
        }),
    })
}

fn value_of(headers: &[Header], name: &str) -> String {
    let found = headers.iter().find(|(other, _)| *other == name);
    found.unwrap_or_else(|| panic!("no {name}")).1.clone()
}

/// Every kind of key that a scheme takes.
fn schemes_and_keys() -> Vec<(Scheme, Vec<&'static str>)> {
    let asymmetric = vec![KEY_A, ED25519, P256, RSA];
    vec![
        (Scheme::Standard, vec![KEY_A]),
        (Scheme::StandardEd25519, vec![ED25519]),
        (Scheme::Stripe, vec!["whsec_test_payhook_1"]),
        (Scheme::Github, vec!["s3cr3t"]),
        (Scheme::Shopify, vec!["s3cr3t"]),
        (Scheme::Slack, vec!["s3cr3t"]),
        (Scheme::Corefy, vec!["s3cr3t"]),
        (Scheme::Rfc9421, asymmetric.clone()),
        (JWS, asymmetric.clone()),
        (JWS_UNENCODED, asymmetric.clone()),
        (open_banking(true), asymmetric.clone()),
        (open_banking(false), asymmetric),
    ]
}

fn received<'a>(headers: &'a [(&'a str, &'a str)], message: &Message<'a>) -> Received<'a> {
    Received {
        url: message.url,
        headers,
        body: message.body,
    }
}

/// Whether a message that has these headers holds against a key.
fn check(
    scheme: &Scheme,
    keys: &[&str],
    message: &Message<'_>,
    signatures: &[Header],
    now: Timestamp,
) -> Result<(), VerifyError> {
    let keys = keys.iter().map(|text| VerifyingKey::parse(scheme, text));
    let keys: Vec<VerifyingKey> = keys.collect::<Result<_, _>>().expect("keys");
    let timestamp = message.at.as_secs().to_string();
    let mut headers = vec![
        ("Content-Type", message.content_type),
        ("Webhook-Id", message.id),
        ("Webhook-Timestamp", &timestamp),
    ];
    headers.extend(
        signatures
            .iter()
            .map(|(name, value)| (*name, value.as_str())),
    );
    verify(scheme, &keys, &received(&headers, message), now, TOLERANCE)
}

#[test]
fn vectors_of_other_implementations_agree() {
    assert_eq!(BODY.len(), 137);
    let with = |at: u64, id: &'static str, body: &'static str| Message {
        at: Timestamp::from_secs(at),
        id,
        body: body.as_bytes(),
        ..MESSAGE
    };
    let shared = "s3cr3t";
    let vectors: Vec<(Scheme, &str, Message<'_>, &str, &str)> = vec![
        (
            Scheme::Standard,
            KEY_A,
            MESSAGE,
            "webhook-signature",
            SIGNED_A,
        ),
        (
            Scheme::Standard,
            KEY_B,
            MESSAGE,
            "webhook-signature",
            SIGNED_B,
        ),
        // The official Rust library's own.
        (
            Scheme::Standard,
            "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
            with(
                1_649_367_553,
                "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
                r#"{"email":"test@example.com","username":"test_user"}"#,
            ),
            "webhook-signature",
            "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
        ),
        (
            Scheme::StandardEd25519,
            ED25519,
            MESSAGE,
            "webhook-signature",
            "v1a,YFREABkSTKQHC9dCd0/vHtSkOxoqR+n1qzA952+33o5KLdPAKiD+0HyBt4Krgn2DdkvSWEfuotBXo0KKJbEvDg==",
        ),
        // svix's own.
        (
            Scheme::StandardEd25519,
            "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==",
            with(
                1_614_265_330,
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                r#"{"test": 2432232314}"#,
            ),
            "webhook-signature",
            "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==",
        ),
        (
            Scheme::Stripe,
            "whsec_test_payhook_1",
            MESSAGE,
            "stripe-signature",
            "t=1674087231,v1=82f3602986607c0bcb3dd4c9a68d72239f0a557c75b06f79f5af6785e80b8432",
        ),
        (
            Scheme::Github,
            shared,
            MESSAGE,
            "x-hub-signature-256",
            "sha256=0b4f998e2af9af96e4c1c9de92ea79bf23335e621da0d8d1c22ff62ab553c56f",
        ),
        // GitHub's documentation.
        (
            Scheme::Github,
            "It's a Secret to Everybody",
            with(0, ID, "Hello, World!"),
            "x-hub-signature-256",
            "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
        ),
        (
            Scheme::Shopify,
            shared,
            MESSAGE,
            "x-shopify-hmac-sha256",
            "C0+Zjir5r5bkwcnekup5vyMzXmIdoNjRwi/2KrVTxW8=",
        ),
        (
            Scheme::Slack,
            shared,
            MESSAGE,
            "x-slack-signature",
            "v0=4888aca66beed6dbf7a9b7e5672b746efe0e600256f2feea1f8efb46314d170b",
        ),
        // Slack's documentation.
        (
            Scheme::Slack,
            "8f742231b10e8888abcd99yyyzzz85a5",
            with(
                1_531_420_618,
                ID,
                "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&\
                 channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&\
                 command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2F\
                 commands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=\
                 398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c",
            ),
            "x-slack-signature",
            "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
        ),
        (
            Scheme::Corefy,
            shared,
            MESSAGE,
            "x-signature",
            "ufGukUD1keUVki/vmzqyV8Eo0W4=",
        ),
        (
            Scheme::Rfc9421,
            KEY_A,
            MESSAGE,
            "content-digest",
            "sha-256=:KV2KEMTRowkCG7M9szHSHx9mrLrngIGN629YQvvi7u8=:",
        ),
        (
            JWS,
            KEY_A,
            MESSAGE,
            "x-jws-signature",
            "eyJhbGciOiJIUzI1NiJ9..b_0dv5ka2hvN4JKq6CCG27aaRRYAkeAlXJOy5aOCbtQ",
        ),
        (
            JWS_UNENCODED,
            KEY_A,
            MESSAGE,
            "x-jws-signature",
            "eyJhbGciOiJIUzI1NiIsImI2NCI6ZmFsc2UsImNyaXQiOlsiYjY0Il19..u-YzqwfaYNtmDJOTTvoZlw_vtWrJQPAblgHzOnUekGY",
        ),
    ];
    for (scheme, secret, message, name, expected) in vectors {
        let headers = sign(&signing(&scheme, &[secret]), &message).expect("a valid key");
        assert_eq!(value_of(&headers, name), expected, "{scheme:?}");
        let verdict = check(&scheme, &[secret], &message, &headers, message.at);
        assert_eq!(verdict, Ok(()), "{scheme:?}");
    }
}

#[test]
fn message_signatures_of_other_implementations_agree() {
    for (secret, id, algorithm, expected) in [
        (
            ED25519,
            "k-ed",
            "ed25519",
            "XC7X3EtxTsmSbXe5T1gK/F26bOMGP+2F8d19VOxmq1DTBDSGX7kTSlpIMb4h7Bv4zbcji/bXHhngaZjcj+aeCg==",
        ),
        (
            KEY_A,
            "k-hm",
            "hmac-sha256",
            "y81QUmsACEFGsCNwgTYN5SZ6auSWnYTMR7I5J6vAkDs=",
        ),
    ] {
        let with = signing_with(&Scheme::Rfc9421, &[(secret, id, None)]);
        let headers = sign(&with, &MESSAGE).expect("a valid key");
        assert_eq!(
            value_of(&headers, "signature"),
            format!("sig1=:{expected}:")
        );
        assert_eq!(
            value_of(&headers, "signature-input"),
            format!(
                "sig1=(\"@method\" \"@target-uri\" \"content-type\" \"content-digest\" \
                 \"webhook-id\");created=1674087231;alg=\"{algorithm}\";keyid=\"{id}\""
            )
        );
    }
}

#[test]
fn every_scheme_verifies_what_it_signed_and_nothing_else() {
    let other_body = Message {
        body: b"{}",
        ..MESSAGE
    };
    for (scheme, keys) in schemes_and_keys() {
        for text in keys {
            let headers = sign(&signing(&scheme, &[text]), &MESSAGE).expect("a valid key");
            let verdict = |message: &Message<'_>| check(&scheme, &[text], message, &headers, NOW);
            assert_eq!(verdict(&MESSAGE), Ok(()), "{scheme:?} {text:.8}");
            let mismatch = verdict(&other_body);
            assert!(
                matches!(mismatch, Err(VerifyError::Mismatch(_))),
                "{scheme:?} {text:.8}: {mismatch:?}"
            );
            assert!(check(&scheme, &[], &MESSAGE, &headers, NOW).is_err());
            let other = generate_key(&scheme, [9; 32]);
            let other = format_key(&scheme, &other);
            let verdict = check(&scheme, &[&other], &MESSAGE, &headers, NOW);
            assert!(
                matches!(
                    verdict,
                    Err(VerifyError::Mismatch(_) | VerifyError::NoSignature(_))
                ),
                "{scheme:?} {text:.8}: {verdict:?}"
            );
        }
    }
}

#[test]
fn a_public_key_is_enough_to_verify() {
    for (scheme, key) in [
        (Scheme::StandardEd25519, ED25519),
        (Scheme::Rfc9421, ED25519),
        (JWS, ED25519),
    ] {
        let headers = sign(&signing(&scheme, &[key]), &MESSAGE).expect("a valid key");
        let verdict = check(&scheme, &[ED25519_PUBLIC], &MESSAGE, &headers, NOW);
        assert_eq!(verdict, Ok(()), "{scheme:?}");
    }
    for (private, public) in [
        (P256, include_str!("tests/p256.pub.pem")),
        (RSA, include_str!("tests/rsa2048.pub.pem")),
        (
            include_str!("tests/ed25519.pem"),
            include_str!("tests/ed25519.pub.pem"),
        ),
    ] {
        for scheme in [Scheme::Rfc9421, JWS, JWS_UNENCODED] {
            let headers = sign(&signing(&scheme, &[private]), &MESSAGE).expect("a valid key");
            let verdict = check(&scheme, &[public], &MESSAGE, &headers, NOW);
            assert_eq!(verdict, Ok(()), "{scheme:?}");
        }
    }
}

#[test]
fn a_public_key_is_written_as_others_write_it() {
    let public = |scheme: &Scheme, text: &str| format_public_key(scheme, &key(scheme, text));
    let standard = public(&Scheme::StandardEd25519, ED25519);
    assert_eq!(standard.as_deref(), Some(ED25519_PUBLIC));
    let p256 = public(&Scheme::Rfc9421, P256);
    assert_eq!(p256.as_deref(), Some(include_str!("tests/p256.pub.pem")));
    let rsa = public(&JWS, RSA);
    assert_eq!(rsa.as_deref(), Some(include_str!("tests/rsa2048.pub.pem")));
    assert_eq!(public(&JWS, KEY_A), None);
}

#[test]
fn a_new_key_is_of_the_kind_of_the_old_one_and_signs() {
    for (scheme, keys) in schemes_and_keys() {
        for text in keys {
            let old = key(&scheme, text);
            let new = generate_key_like(&scheme, &old, [7; 32]).expect("a key");
            let kind = std::mem::discriminant::<SigningKey>;
            assert_eq!(kind(&new), kind(&old), "{scheme:?}");
            assert!(new != old);
            let written = format_key(&scheme, &new);
            assert!(
                parse_key(&scheme, &written) == Ok(new.clone()),
                "{scheme:?}"
            );
            let signed = signing(&scheme, &[&written]);
            let headers = sign(&signed, &MESSAGE).expect("signed");
            let public = format_public_key(&scheme, &new);
            let verifying = public.as_deref().unwrap_or(&written);
            let outcome = check(&scheme, &[verifying], &MESSAGE, &headers, NOW);
            assert_eq!(outcome, Ok(()), "{scheme:?}");
        }
    }
}

#[test]
fn during_a_roll_all_sign_newest_first_where_there_is_room() {
    let end = NOW + Duration::from_secs(3_600);
    for (scheme, keys) in schemes_and_keys() {
        let (old, new) = (keys[0], generate_key(&scheme, [3; 32]));
        let new = format_key(&scheme, &new);
        let rolled = signing_with(&scheme, &[(&new, "new", None), (old, "old", Some(end))]);
        let headers = sign(&rolled, &MESSAGE).expect("two valid keys");
        let holds = |key: &str| check(&scheme, &[key], &MESSAGE, &headers, NOW).is_ok();
        // With room for one, the old one signs until its end.
        let both = (holds(old), holds(&new));
        let has_room = matches!(
            scheme,
            Scheme::Standard | Scheme::StandardEd25519 | Scheme::Stripe
        );
        assert_eq!(both, (true, has_room), "{scheme:?}");
        let later = Message { at: end, ..MESSAGE };
        let headers = sign(&rolled, &later).expect("one valid key");
        let holds = |key: &str| check(&scheme, &[key], &later, &headers, end).is_ok();
        assert_eq!((holds(old), holds(&new)), (false, true), "{scheme:?}");
    }
    let rolled = signing(&Scheme::Standard, &[KEY_B, KEY_A]);
    let headers = sign(&rolled, &MESSAGE).expect("two valid keys");
    let both = format!("{SIGNED_B} {SIGNED_A}");
    assert_eq!(value_of(&headers, "webhook-signature"), both);
}

#[test]
fn who_carries_several_signatures_is_verified_with_the_older_and_the_newer_key() {
    for (scheme, keys) in schemes_and_keys() {
        let new = generate_key_like(&scheme, &key(&scheme, keys[0]), [7; 32]).expect("a key");
        let new = format_key(&scheme, &new);
        let headers = sign(&signing(&scheme, &[&new, keys[0]]), &MESSAGE).expect("signed");
        let holds = |text: &str| check(&scheme, &[text], &MESSAGE, &headers, NOW).is_ok();
        assert!(holds(keys[0]), "{scheme:?}");
        assert_eq!(holds(&new), carries_several(&scheme), "{scheme:?}");
    }
}

#[test]
fn an_expired_secret_no_longer_signs() {
    let standard = &Scheme::Standard;
    let at = |end| {
        let rolled = signing_with(standard, &[(KEY_B, "b", None), (KEY_A, "a", Some(end))]);
        value_of(
            &sign(&rolled, &MESSAGE).expect("one is valid"),
            "webhook-signature",
        )
    };
    assert_eq!(at(NOW), SIGNED_B);
    assert_eq!(
        at(NOW + Duration::from_micros(1)),
        format!("{SIGNED_B} {SIGNED_A}")
    );
}

#[test]
fn without_a_valid_secret_nothing_is_signed() {
    for (scheme, keys) in schemes_and_keys() {
        let none = signing(&scheme, &[]);
        assert_eq!(sign(&none, &MESSAGE), Err(SignError::NoValidSecret));
        let expired = signing_with(&scheme, &[(keys[0], "s", Some(NOW))]);
        assert_eq!(sign(&expired, &MESSAGE), Err(SignError::NoValidSecret));
    }
    let unsigned = signing(&Scheme::None, &[]);
    assert_eq!(sign(&unsigned, &MESSAGE), Ok(Vec::new()));
}

#[test]
fn a_key_of_another_kind_is_refused_and_not_used() {
    let damaged = |key: fn(Secret) -> SigningKey| key(Secret::new([1, 2, 3]));
    for scheme in [Scheme::Stripe, Scheme::Rfc9421, JWS, Scheme::Standard] {
        for key in [SigningKey::Ed25519, SigningKey::P256, SigningKey::Rsa] {
            let signing = Signing {
                scheme: scheme.clone(),
                secrets: vec![SigningSecret {
                    id: "s".into(),
                    key: damaged(key),
                    not_after: None,
                }],
            };
            assert_eq!(
                sign(&signing, &MESSAGE),
                Err(SignError::WrongKey),
                "{scheme:?}"
            );
        }
    }
}

#[test]
fn keys_are_read_and_written_back() {
    for (scheme, keys) in schemes_and_keys() {
        for text in keys {
            let key = key(&scheme, text);
            assert_eq!(format_key(&scheme, &key).trim(), text.trim(), "{scheme:?}");
        }
        let made = generate_key(&scheme, [5; 32]);
        assert!(key(&scheme, &format_key(&scheme, &made)) == made);
    }
    // A seed alone becomes a pair, and so does PEM.
    let seed = "whsk_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    assert!(key(&Scheme::StandardEd25519, seed) == key(&Scheme::StandardEd25519, ED25519));
    let pem = key(&JWS, include_str!("tests/ed25519.pem"));
    assert!(matches!(pem, SigningKey::Ed25519(_)));
    for length in 24..=64 {
        let bytes: Vec<u8> = (0..length).map(|n| n ^ 0xa5).collect();
        let shared = SigningKey::Shared(Secret::new(bytes));
        let text = format_key(&Scheme::Standard, &shared);
        assert!(key(&Scheme::Standard, &text) == shared);
    }
}

#[test]
fn other_texts_are_refused_by_the_rule_they_break() {
    let of_length = |length| {
        let shared = SigningKey::Shared(Secret::new(vec![7; length]));
        format_key(&Scheme::Standard, &shared).to_string()
    };
    let prefix = InvalidKey::Prefix("whsec_");
    let encoding = InvalidKey::Encoding("whsec_");
    for (text, error) in [
        (String::new(), prefix),
        ("whsk_AAAA".to_owned(), prefix),
        (" whsec_AAAA".to_owned(), prefix),
        ("whsec_".to_owned(), InvalidKey::Length),
        (of_length(23), InvalidKey::Length),
        (of_length(65), InvalidKey::Length),
        (of_length(10_000), InvalidKey::Length),
        (of_length(32).trim_end_matches('=').to_owned(), encoding),
        (format!("{}\n", of_length(24)), encoding),
        (format!("whsec_{}", "-_".repeat(20)), encoding),
        ("whsec_é".to_owned(), encoding),
    ] {
        let found = parse_key(&Scheme::Standard, &text).err();
        assert_eq!(found, Some(error), "{text:?}");
    }
    let long = "x".repeat(key::TEXT_BYTES_MAX + 1);
    let other_public = ED25519.replace("DoQe", "DoQf");
    let long_pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----",
        "A".repeat(100_000)
    );
    for (scheme, text, error) in [
        (Scheme::StandardEd25519, KEY_A, InvalidKey::Prefix("whsk_")),
        (Scheme::StandardEd25519, "whsk_AAAA", InvalidKey::Ed25519),
        (Scheme::StandardEd25519, &other_public, InvalidKey::Ed25519),
        (Scheme::Stripe, "", InvalidKey::Text),
        (Scheme::Stripe, "12345", InvalidKey::Text),
        (Scheme::Stripe, "line\nline", InvalidKey::Text),
        (
            JWS,
            "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
            InvalidKey::Jws,
        ),
        (Scheme::Stripe, &long, InvalidKey::Text),
        (JWS, "-----BEGIN PRIVATE KEY-----", InvalidKey::Private),
        (JWS, &long_pem, InvalidKey::Private),
        (JWS, include_str!("tests/rsa1024.pem"), InvalidKey::Private),
        (
            Scheme::Rfc9421,
            include_str!("tests/p256.pub.pem"),
            InvalidKey::Private,
        ),
    ] {
        let found = parse_key(&scheme, text).err();
        assert_eq!(found, Some(error), "{scheme:?} {text:.40?}");
    }
}

proptest! {
    #[test]
    fn no_text_is_too_much_for_a_parser(text in "(whs[ec]{1,2}k?_|whpk_|-----BEGIN PRIVATE KEY-----)?.{0,120}") {
        for (scheme, _) in schemes_and_keys() {
            let _key = parse_key(&scheme, &text);
            let _key = VerifyingKey::parse(&scheme, &text);
        }
    }

    #[test]
    fn no_header_is_too_much_for_a_verifier(
        value in "(v1,|v1a,|t=1674087231,v1=|sha256=|v0=|sig1=|eyJhbGciOiJIUzI1NiJ9\\.\\.)?.{0,80}",
        second in "(sig1=:)?.{0,40}",
    ) {
        for (scheme, keys) in schemes_and_keys() {
            let names = [
                "webhook-signature", "stripe-signature", "x-hub-signature-256",
                "x-shopify-hmac-sha256", "x-slack-signature", "x-signature",
                "signature-input", "x-jws-signature", "content-digest",
            ];
            let mut headers: Vec<Header> = names.iter().map(|name| (*name, value.clone())).collect();
            headers.push(("signature", second.clone()));
            headers.push(("x-slack-request-timestamp", "1674087231".to_owned()));
            let verdict = check(&scheme, &keys[..1], &MESSAGE, &headers, NOW);
            prop_assert!(verdict.is_err(), "{:?}", scheme);
        }
    }
}
