//! Signatures against vectors made elsewhere, and against our own verifier.

use std::time::Duration;

use super::*;
use postrider_domain::SigningSecret;

const KEY_A: &str = "whsec_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";
const KEY_B: &str = "whsec_ISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+P0A=";
const ID: &str = "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W";
const NOW: Timestamp = Timestamp::from_secs(1_674_087_231);
const BODY: &str = r#"{"type":"payment.captured","timestamp":"2023-01-19T00:13:51Z","data":{"id":"pay_1","amount":"10.50","currency":"EUR","note":"café €"}}"#;
const SIGNED_A: &str = "v1,Slw4Ss2KcysxCBAbvGFxsI4tOoqAe/yYxLRKGjaExNI=";
const SIGNED_B: &str = "v1,xHHwPWkXRX1q+RlpDtq8rYPcXgvG3yVqjh2EFffin5A=";

fn key(text: &str) -> Secret {
    parse_secret(text).expect("a valid secret")
}

fn signing(secrets: &[(&str, Option<Timestamp>)]) -> Signing {
    Signing {
        scheme: Scheme::Standard,
        secrets: secrets
            .iter()
            .map(|(text, not_after)| SigningSecret {
                id: "s".into(),
                key: key(text),
                not_after: *not_after,
            })
            .collect(),
    }
}

fn signature(signing: &Signing, now: Timestamp) -> Result<Option<String>, SignError> {
    sign_as(signing, ID, now, BODY.as_bytes()).map(|headers| headers.signature)
}

fn check(
    secrets: &[&str],
    timestamp: &str,
    header: &str,
    now: Timestamp,
) -> Result<(), VerifyError> {
    let secrets: Vec<Secret> = secrets.iter().map(|text| key(text)).collect();
    verify(
        &secrets,
        ID,
        timestamp,
        header,
        BODY.as_bytes(),
        now,
        TOLERANCE,
    )
}

#[test]
fn vectors_of_other_implementations_agree() {
    assert_eq!(BODY.len(), 137);
    // The last one is from the official Rust library's own tests.
    for (secret, id, secs, body, expected) in [
        (KEY_A, ID, 1_674_087_231, BODY, SIGNED_A),
        (KEY_B, ID, 1_674_087_231, BODY, SIGNED_B),
        (
            "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
            "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
            1_649_367_553,
            r#"{"email":"test@example.com","username":"test_user"}"#,
            "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
        ),
    ] {
        let now = Timestamp::from_secs(secs);
        let headers =
            sign_as(&signing(&[(secret, None)]), id, now, body.as_bytes()).expect("a valid secret");
        assert_eq!(headers.id, id);
        assert_eq!(headers.timestamp, secs.to_string());
        assert_eq!(headers.signature.as_deref(), Some(expected));
        let verdict = verify(
            &[key(secret)],
            id,
            &headers.timestamp,
            expected,
            body.as_bytes(),
            now,
            TOLERANCE,
        );
        assert_eq!(verdict, Ok(()));
    }
}

#[test]
fn during_a_roll_both_secrets_sign_newest_first() {
    let end = NOW + Duration::from_secs(3600);
    let rolled = signing(&[(KEY_B, None), (KEY_A, Some(end))]);
    let both = format!("{SIGNED_B} {SIGNED_A}");
    assert_eq!(signature(&rolled, NOW), Ok(Some(both.clone())));
    for old_and_new in [KEY_A, KEY_B] {
        assert_eq!(check(&[old_and_new], "1674087231", &both, NOW), Ok(()));
    }
}

#[test]
fn an_expired_secret_no_longer_signs() {
    let rolled = |end| signing(&[(KEY_B, None), (KEY_A, Some(end))]);
    assert_eq!(signature(&rolled(NOW), NOW), Ok(Some(SIGNED_B.to_owned())));
    let last_moment = NOW + Duration::from_micros(1);
    let both = format!("{SIGNED_B} {SIGNED_A}");
    assert_eq!(signature(&rolled(last_moment), NOW), Ok(Some(both)));
}

#[test]
fn without_a_valid_secret_nothing_is_signed() {
    let none = signing(&[]);
    assert_eq!(signature(&none, NOW), Err(SignError::NoValidSecret));
    let expired = signing(&[(KEY_A, Some(NOW))]);
    assert_eq!(signature(&expired, NOW), Err(SignError::NoValidSecret));
}

#[test]
fn an_unsigned_request_still_has_id_and_timestamp() {
    let unsigned = Signing {
        scheme: Scheme::None,
        secrets: Vec::new(),
    };
    let id = DeliveryId::from_bytes([0xab; 16]);
    let headers = sign(&unsigned, id, NOW, b"").expect("nothing to sign");
    assert_eq!(headers.id, id.to_string());
    assert_eq!(headers.timestamp, "1674087231");
    assert_eq!(headers.signature, None);
}

#[test]
fn a_delivery_id_is_signed_as_printed() {
    let id = DeliveryId::from_bytes([1; 16]);
    let with = signing(&[(KEY_A, None)]);
    let by_id = sign(&with, id, NOW, b"{}").expect("a valid secret");
    let by_text = sign_as(&with, id.to_string(), NOW, b"{}").expect("a valid secret");
    assert!(by_id == by_text);
    assert!(!by_id.id.contains('.'));
}

#[test]
fn a_changed_request_does_not_verify() {
    let verdict = |id, timestamp, body: &[u8]| {
        verify(&[key(KEY_A)], id, timestamp, SIGNED_A, body, NOW, TOLERANCE)
    };
    let body = BODY.as_bytes();
    assert_eq!(verdict(ID, "1674087231", body), Ok(()));
    assert_eq!(
        verdict("msg_other", "1674087231", body),
        Err(VerifyError::Mismatch)
    );
    assert_eq!(verdict(ID, "1674087232", body), Err(VerifyError::Mismatch));
    assert_eq!(verdict(ID, "1674087231", b"{}"), Err(VerifyError::Mismatch));
    assert_eq!(
        check(&[KEY_B], "1674087231", SIGNED_A, NOW),
        Err(VerifyError::Mismatch)
    );
    assert_eq!(
        check(&[], "1674087231", SIGNED_A, NOW),
        Err(VerifyError::Mismatch)
    );
}

#[test]
fn a_timestamp_is_good_for_five_minutes_either_way() {
    let at = |now| check(&[KEY_A], "1674087231", SIGNED_A, Timestamp::from_secs(now));
    assert_eq!(at(1_674_087_231 + 300), Ok(()));
    assert_eq!(at(1_674_087_231 - 300), Ok(()));
    assert_eq!(
        at(1_674_087_231 + 301),
        Err(VerifyError::TooOld { seconds: 301 })
    );
    assert_eq!(
        at(1_674_087_231 - 301),
        Err(VerifyError::TooNew { seconds: 301 })
    );
}

#[test]
fn a_timestamp_is_digits() {
    for bad in [
        "",
        "+1674087231",
        "-1",
        " 1674087231",
        "1674087231.0",
        "99999999999999999999",
    ] {
        assert_eq!(
            check(&[KEY_A], bad, SIGNED_A, NOW),
            Err(VerifyError::Timestamp),
            "{bad:?}"
        );
    }
}

#[test]
fn unknown_versions_are_skipped_and_broken_items_do_not_match() {
    let at = |header: &str| check(&[KEY_A], "1674087231", header, NOW);
    assert_eq!(at(&format!("v1a,AAAA v2,x {SIGNED_A}")), Ok(()));
    assert_eq!(at(&format!("v1,AAAA  {SIGNED_A}")), Ok(()));
    for none in ["", "v1a,AAAA", "v1", SIGNED_A.trim_start_matches("v1,")] {
        assert_eq!(at(none), Err(VerifyError::NoSignature), "{none:?}");
    }
    let unpadded = SIGNED_A.trim_end_matches('=');
    let prefix = &SIGNED_A[..20];
    let longer = format!("{SIGNED_A}AAAA");
    let huge = format!("v1,{}", "A".repeat(100_000));
    for broken in ["v1,", "v1,é", unpadded, prefix, &longer, &huge] {
        assert_eq!(at(broken), Err(VerifyError::Mismatch), "{broken:.40?}");
    }
}
