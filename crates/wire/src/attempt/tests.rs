//! Facts about attempt records.

use postrider_domain::{AttemptError, DeadLetterReason, DiscardReason, ErrorKind};
use proptest::prelude::*;

use super::*;
use crate::testing::{self, record};

fn report(result: AttemptResult) -> AttemptReport {
    AttemptReport {
        started_at: Timestamp::from_micros(1_674_087_232_000_999),
        phases: Phases {
            dns: None,
            connect: Some(Duration::from_micros(1_250)),
            tls: Some(Duration::from_millis(3)),
            first_byte: Some(Duration::from_micros(20_001)),
            total: Duration::from_micros(24_300),
        },
        request: RequestSummary {
            url: "https://acme.example/webhooks".into(),
            headers: Fields::from_iter([
                ("webhook-id", "dlv_c343"),
                ("webhook-signature", "[redacted]"),
            ]),
        },
        result,
    }
}

fn response(body: &[u8], truncated: bool) -> AttemptResult {
    AttemptResult::Response(Response {
        status: 503,
        headers: Fields::from_iter([("set-cookie", "a=1"), ("set-cookie", "b=\"2\"")]),
        body: Bytes::copy_from_slice(body),
        truncated,
    })
}

/// The record of attempt 2.
fn encoded(report: Option<&AttemptReport>, outcome: Outcome) -> NewRecord {
    let attempt = Attempt {
        delivery: &testing::delivery(),
        attempt: 2,
        report,
        at: Timestamp::from_secs(1_674_087_240),
        outcome,
        unmet: None,
        next_attempt_at: (outcome == Outcome::Retry)
            .then(|| Timestamp::from_millis(1_674_087_532_000)),
        origin: &record(&[], None).origin,
        worker: "worker-a",
        slice: Slice(5),
        epoch: 9,
    };
    encode(&attempt, "postrider.attempts".into())
}

fn text_of(record: &NewRecord) -> &str {
    std::str::from_utf8(record.value.as_ref().unwrap()).unwrap()
}

#[test]
fn the_record_is_that_of_the_contract() {
    let golden = include_str!("../../tests/golden/attempts.jsonl");
    let failed = AttemptResult::Error(AttemptError {
        kind: ErrorKind::TimeoutHead,
        message: "no answer within 15s".into(),
        ambiguous: true,
    });
    let exhausted = Outcome::DeadLettered(DeadLetterReason::AttemptsExhausted);
    let deleted = Outcome::Discarded(DiscardReason::EndpointDeleted);
    let records = [
        encoded(
            Some(&report(response("später\n".as_bytes(), false))),
            Outcome::Retry,
        ),
        encoded(Some(&report(failed)), exhausted),
        encoded(None, deleted),
    ];
    for (record, golden) in records.iter().zip(golden.lines()) {
        assert_eq!(text_of(record), golden);
    }
    assert_eq!(golden.lines().count(), records.len());
    assert_eq!(records[0].key.as_deref(), Some(&b"ep_acme"[..]));
    assert_eq!(records[0].partition, 5);
}

#[test]
fn what_a_response_did_not_meet_is_told() {
    let delivery = testing::delivery();
    let origin = record(&[], None).origin;
    let report = report(response(b"ok", false));
    for unmet in [None, Some(Unmet::Status), Some(Unmet::Body)] {
        let attempt = Attempt {
            delivery: &delivery,
            attempt: 1,
            report: Some(&report),
            at: Timestamp::default(),
            outcome: Outcome::Retry,
            unmet,
            next_attempt_at: None,
            origin: &origin,
            worker: "w",
            slice: Slice(0),
            epoch: 1,
        };
        let written = encode(&attempt, "t".into());
        let read = decode(written.value.as_ref().unwrap()).unwrap();
        assert_eq!(read.unmet.as_deref(), unmet.map(Unmet::as_str));
    }
}

#[test]
fn a_body_is_text_where_it_can_be() {
    let body = |bytes: &[u8], truncated| {
        let record = encoded(
            Some(&report(response(bytes, truncated))),
            Outcome::Delivered,
        );
        let response = decode(record.value.as_ref().unwrap())
            .unwrap()
            .response
            .unwrap();
        (response.body.map(Cow::into_owned), response.body_base64)
    };
    let text = |text: &str| (Some(text.to_owned()), None);
    assert_eq!(body(b"", false), text(""));
    assert_eq!(body("\0\u{2028}é".as_bytes(), false), text("\0\u{2028}é"));
    assert_eq!(body(b"caf\xc3", true), text("caf"));
    assert_eq!(body(b"caf\xc3", false), (None, Some("Y2Fmww==".to_owned())));
    assert_eq!(body(b"\xff\x00", true), (None, Some("/wA=".to_owned())));
}

#[test]
fn records_of_other_versions_are_read() {
    let short = br#"{"v":9,"delivery_id":"d","event":{"id":"i","source":"s","type":"t",
        "tenant":"a","new":1},"endpoint_id":"e","attempt":1,"started_at":"x",
        "outcome":"eaten","new":{}}"#;
    let read = decode(short).unwrap();
    assert_eq!((read.v, &*read.outcome), (9, "eaten"));
    assert!(read.response.is_none() && read.record.is_none());
    for bad in [&b""[..], b"[]", b"{}", b"\xff"] {
        assert!(decode(bad).is_err());
    }
}

#[test]
fn every_field_is_in_the_schema() {
    let schemas = crate::schemas::all();
    let (_, schema) = schemas
        .iter()
        .find(|(name, _)| *name == "attempt.json")
        .unwrap();
    let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
    let record = encoded(None, Outcome::Delivered);
    let record: serde_json::Value = serde_json::from_str(text_of(&record)).unwrap();
    let names = |value: &serde_json::Value| -> Vec<String> {
        value.as_object().unwrap().keys().cloned().collect()
    };
    let (mut fields, mut known) = (names(&record), names(&schema["properties"]));
    fields.sort_unstable();
    known.sort_unstable();
    assert_eq!(fields, known);
}

proptest! {
    #[test]
    fn an_attempt_is_read_as_it_was_written(
        body in proptest::collection::vec(any::<u8>(), 0..50),
        header in (".{0,10}", ".{0,20}"),
        message in ".{0,50}",
        total in 0..60_000_000_u64,
        failed in any::<bool>(),
        truncated in any::<bool>(),
    ) {
        let mut report = report(if failed {
            AttemptResult::Error(AttemptError {
                kind: ErrorKind::ResetHead,
                message: message.into(),
                ambiguous: truncated,
            })
        } else {
            response(&body, truncated)
        });
        report.phases.total = Duration::from_micros(total);
        report.request.headers.push(&header.0, &header.1);
        let delivery = testing::delivery();
        let origin = record(&[], None).origin;
        let attempt = Attempt {
            delivery: &delivery,
            attempt: 1,
            report: Some(&report),
            at: Timestamp::default(),
            outcome: Outcome::Delivered,
            unmet: None,
            next_attempt_at: None,
            origin: &origin,
            worker: "w",
            slice: Slice(0),
            epoch: u64::MAX,
        };
        let written = encode(&attempt, "t".into());
        let read = decode(written.value.as_ref().unwrap()).unwrap();
        prop_assert_eq!(read, AttemptRecord::of(&attempt));
    }
}

#[test]
fn a_record_that_is_printed_shows_no_response_and_no_path() {
    for body in [&b"canary"[..], b"\xffcanary"] {
        let mut report = report(response(body, false));
        report.request.url = "https://acme.example/canary?canary".into();
        let written = encoded(Some(&report), Outcome::Delivered);
        let read = decode(written.value.as_deref().unwrap()).unwrap();
        let shown = format!("{read:?}");
        for hidden in ["canary", "Y2FuYXJ5", "[redacted]", "a=1"] {
            assert!(!shown.contains(hidden), "{shown}");
        }
        for seen in ["https://acme.example/…", "set-cookie", "bytes"] {
            assert!(shown.contains(seen), "{shown}");
        }
    }
}
