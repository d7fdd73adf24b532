//! What a verifier believes, and what it does not.

use super::*;

#[test]
fn a_timestamp_is_good_for_five_minutes_either_way() {
    for (scheme, key) in [
        (Scheme::Standard, KEY_A),
        (Scheme::StandardEd25519, ED25519),
        (Scheme::Stripe, "whsec_test_payhook_1"),
        (Scheme::Slack, "s3cr3t"),
        (Scheme::Rfc9421, KEY_A),
        (open_banking(true), KEY_A),
    ] {
        let headers = sign(&signing(&scheme, &[key]), &MESSAGE).expect("a valid key");
        let at = |now| {
            check(
                &scheme,
                &[key],
                &MESSAGE,
                &headers,
                Timestamp::from_secs(now),
            )
        };
        assert_eq!(at(1_674_087_231 + 300), Ok(()));
        assert_eq!(at(1_674_087_231 - 300), Ok(()));
        let (old, new) = (at(1_674_087_231 + 301), at(1_674_087_231 - 301));
        assert_eq!(old, Err(VerifyError::TooOld { seconds: 301 }), "{scheme:?}");
        assert_eq!(new, Err(VerifyError::TooNew { seconds: 301 }), "{scheme:?}");
    }
}

#[test]
fn a_timestamp_is_digits() {
    let keys = [VerifyingKey::parse(&Scheme::Standard, KEY_A).expect("a key")];
    for bad in [
        "",
        "+1674087231",
        "-1",
        " 1674087231",
        "1674087231.0",
        "99999999999999999999",
    ] {
        let headers = [
            (ID_HEADER, ID),
            (TIMESTAMP_HEADER, bad),
            ("webhook-signature", SIGNED_A),
        ];
        let received = received(&headers, &MESSAGE);
        assert_eq!(
            verify(&Scheme::Standard, &keys, &received, NOW, TOLERANCE),
            Err(VerifyError::Timestamp(TIMESTAMP_HEADER)),
            "{bad:?}"
        );
    }
}

#[test]
fn unknown_versions_are_skipped_and_broken_items_do_not_match() {
    let name = "webhook-signature";
    let at = |value: &str| {
        check(
            &Scheme::Standard,
            &[KEY_A],
            &MESSAGE,
            &[(name, value.to_owned())],
            NOW,
        )
    };
    assert_eq!(at(&format!("v1a,AAAA v2,x {SIGNED_A}")), Ok(()));
    assert_eq!(at(&format!("v1,AAAA  {SIGNED_A}")), Ok(()));
    for none in ["", "v1a,AAAA", "v1", SIGNED_A.trim_start_matches("v1,")] {
        assert_eq!(at(none), Err(VerifyError::NoSignature(name)), "{none:?}");
    }
    let unpadded = SIGNED_A.trim_end_matches('=');
    let prefix = &SIGNED_A[..20];
    let longer = format!("{SIGNED_A}AAAA");
    let huge = format!("v1,{}", "A".repeat(100_000));
    for broken in ["v1,", "v1,é", unpadded, prefix, &longer, &huge] {
        assert_eq!(
            at(broken),
            Err(VerifyError::Mismatch(name)),
            "{broken:.40?}"
        );
    }
}

#[test]
fn a_header_that_is_there_twice_is_not_believed() {
    let keys = [VerifyingKey::parse(&Scheme::Standard, KEY_A).expect("a key")];
    let once = [
        (ID_HEADER, ID),
        (TIMESTAMP_HEADER, "1674087231"),
        ("webhook-signature", SIGNED_A),
    ];
    for (name, value) in once {
        let twice = [once[0], once[1], once[2], (name, value)];
        let received = received(&twice, &MESSAGE);
        assert_eq!(
            verify(&Scheme::Standard, &keys, &received, NOW, TOLERANCE),
            Err(VerifyError::Repeated(name))
        );
    }
}

#[test]
fn of_very_many_signatures_the_first_are_looked_at() {
    let name = "webhook-signature";
    let after = |n: usize| format!("{}{SIGNED_A}", "v1,AAAA ".repeat(n));
    let at = |value: String| check(&Scheme::Standard, &[KEY_A], &MESSAGE, &[(name, value)], NOW);
    assert_eq!(at(after(31)), Ok(()));
    assert_eq!(at(after(32)), Err(VerifyError::Mismatch(name)));
}

#[test]
fn a_label_of_another_time_does_not_spoil_the_others() {
    let headers = sign(&signing(&Scheme::Rfc9421, &[KEY_A]), &MESSAGE).expect("a valid key");
    let with = |input: &str, signature: &str| {
        let (own, value) = (
            value_of(&headers, "signature-input"),
            value_of(&headers, "signature"),
        );
        let both = [
            ("content-digest", value_of(&headers, "content-digest")),
            ("signature-input", format!("{input}, {own}")),
            ("signature", format!("{signature}, {value}")),
        ];
        check(&Scheme::Rfc9421, &[KEY_A], &MESSAGE, &both, NOW)
    };
    let covered = value_of(&headers, "signature-input");
    let covered = covered
        .trim_start_matches("sig1=")
        .split(';')
        .next()
        .expect("components");
    assert_eq!(
        with(&format!("old={covered};created=1"), "old=:AAAA:"),
        Ok(())
    );
    assert_eq!(with("other=(\"@path\");created=x", "other=:AAAA:"), Ok(()));
    // Its own time is said once.
    let own = |parameters: &str| {
        let SigningKey::Shared(key) = key(&Scheme::Rfc9421, KEY_A) else {
            panic!("a shared key")
        };
        let digest = value_of(&headers, "content-digest");
        let parameters = format!("{covered}{parameters}");
        let base = format!(
            "\"@method\": POST\n\"@target-uri\": {URL}\n\"content-type\": application/json\n\
             \"content-digest\": {digest}\n\"webhook-id\": {ID}\n\
             \"@signature-params\": {parameters}"
        );
        let mut mac = String::new();
        mac::push_base64(&mut mac, &mac::hmac_sha256(&key, &[base.as_bytes()]));
        let headers = [
            ("content-digest", digest),
            ("signature-input", format!("sig1={parameters}")),
            ("signature", format!("sig1=:{mac}:")),
        ];
        check(&Scheme::Rfc9421, &[KEY_A], &MESSAGE, &headers, NOW)
    };
    assert_eq!(own(";created=1674087231"), Ok(()));
    assert_eq!(own(";created=1674087231;expires=1674087232"), Ok(()));
    assert!(own("").is_err());
    assert!(own(";created=1;created=1674087231").is_err());
    assert!(own(";created=1674087231;created=1").is_err());
    assert!(own(";created=1674087231;expires=1674086000").is_err());
}

#[test]
fn what_a_jws_does_not_say_it_is_not_believed_for() {
    let jws = |header: &str| {
        use base64::Engine as _;
        let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let header = engine.encode(header);
        let text = format!("{header}.{}", engine.encode(BODY));
        let SigningKey::Shared(key) = key(&JWS, KEY_A) else {
            panic!("a shared key")
        };
        let mac = engine.encode(mac::hmac_sha256(&key, &[text.as_bytes()]));
        [("x-jws-signature", format!("{header}..{mac}"))]
    };
    let at = |header: &str| check(&JWS, &[KEY_A], &MESSAGE, &jws(header), NOW);
    assert_eq!(at(r#"{"alg":"HS256","typ":"JOSE"}"#), Ok(()));
    // The name of the algorithm is not what is believed: the key is.
    assert_eq!(at(r#"{"alg":"none"}"#), Ok(()));
    assert_eq!(at(r#"{"alg":"HS256","kid":"\u0061\/b"}"#), Ok(()));
    assert!(at(r#"{"alg":"HS256","exp":1,"crit":["exp"]}"#).is_err());
    assert!(at(r#"{"alg":"HS256","crit":["http://openbanking.org.uk/iat"]}"#).is_err());
    assert!(at(r#"{"alg":"HS256","b64":false}"#).is_err());
    assert!(at(r#"{"alg":7}"#).is_err());
    assert!(at("no JSON").is_err());
}

#[test]
fn open_banking_says_when_and_by_whom() {
    use base64::Engine as _;
    for encoded in [true, false] {
        let with = signing_with(&open_banking(encoded), &[(RSA, "kid-1", None)]);
        let headers = sign(&with, &MESSAGE).expect("a valid key");
        let value = value_of(&headers, "x-jws-signature");
        let (header, _) = value.split_once("..").expect("detached");
        let json = base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(header)
            .expect("base64url");
        let b64 = if encoded { "" } else { r#""b64":false,"# };
        let crit = if encoded { "" } else { r#""b64","# };
        let expected = format!(
            r#"{{"alg":"PS256","kid":"kid-1",{b64}"http://openbanking.org.uk/iat":1674087231,"http://openbanking.org.uk/iss":"CN=0015800001041RHAAY","http://openbanking.org.uk/tan":"openbanking.org.uk","crit":[{crit}"http://openbanking.org.uk/iat","http://openbanking.org.uk/iss","http://openbanking.org.uk/tan"]}}"#
        );
        assert_eq!(String::from_utf8(json).expect("UTF-8"), expected);
    }
}
