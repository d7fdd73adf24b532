//! Facts about dead letters.

use proptest::prelude::*;

use super::*;
use crate::testing::{self, header_lines, read_back, record};

fn given_up() -> NewRecord {
    of_delivery(
        &testing::delivery(),
        10,
        DeadLetterReason::AttemptsExhausted,
        Some(503),
        &record(&[], None).origin,
        "postrider.dead-letters".into(),
        5,
    )
}

fn unreadable(record: &Record) -> NewRecord {
    let slices = SliceCount::new(2).unwrap();
    let topic = "postrider.dead-letters".into();
    of_record(
        record,
        DeadLetterReason::Undecodable,
        "not an event",
        topic,
        slices,
    )
}

#[test]
fn headers_are_those_of_the_contract() {
    let written = given_up();
    assert_eq!(
        header_lines(&written),
        include_str!("../../tests/golden/dead-letter-headers.txt")
    );
    assert_eq!(written.key.as_deref(), Some(&b"ep_acme"[..]));
    assert_eq!(written.partition, 5);
}

#[test]
fn a_delivery_given_up_is_read_back() {
    let read = decode(&read_back(given_up())).unwrap();
    let mut delivery = testing::delivery();
    delivery.attempts = 10;
    assert_eq!(read.content, Content::Delivery(delivery.into()));
    assert_eq!(&*read.reason, "attempts_exhausted");
    assert_eq!((read.attempts, read.last_status), (10, Some(503)));
    assert_eq!(read.origin, Some(record(&[], None).origin));
    let summary = serde_json::to_value(read.summary()).unwrap();
    assert_eq!(summary["endpoint_id"], "ep_acme");
    assert_eq!(summary["event"]["type"], "payment.captured");
    assert_eq!(summary["origin"]["offset"], 42);
    assert_eq!(summary["dead_lettered_at"], "2023-01-19T00:14:59.000Z");
}

#[test]
fn input_goes_to_the_partition_of_its_origin() {
    let mut input = record(&[], Some(b"x"));
    input.key = Some("k".into());
    let written = unreadable(&input);
    assert_eq!((written.key.as_deref(), written.partition), (None, 1));
    assert_eq!(
        written.value.as_ref().unwrap().as_ptr(),
        input.value.as_ref().unwrap().as_ptr(),
        "shared, not copied"
    );
}

#[test]
fn input_that_pretends_to_be_a_dead_letter_is_only_input() {
    let mut input = record(
        &[
            ("pr_v", b"1"),
            ("pr_delivery", b"dlv_00000000000000000000000000000000"),
            ("pr_reason", b"forged"),
            ("pr_key", b"forged"),
            ("pr_attempts", b"7"),
        ],
        None,
    );
    input.key = None;
    let read = decode(&read_back(unreadable(&input))).unwrap();
    assert_eq!((&*read.reason, read.attempts), ("undecodable", 0));
    assert_eq!(
        read.content,
        Content::Input {
            key: None,
            value: None,
            headers: input.headers,
        }
    );
}

#[test]
fn what_is_no_dead_letter_says_so() {
    let error = decode(&record(&[("pr_origin", b"a/1/2")], None)).unwrap_err();
    assert!(error.message.contains("pr_reason"));
    let odd = decode(&record(
        &[("pr_reason", b"\xff"), ("pr_origin", b"a/b")],
        None,
    ))
    .unwrap();
    assert_eq!((&*odd.reason, odd.origin), ("\u{fffd}", None));
}

#[test]
fn every_field_is_in_the_schema() {
    let schemas = crate::schemas::all();
    let (_, schema) = schemas
        .iter()
        .find(|(name, _)| *name == "dead-letter.json")
        .unwrap();
    let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
    let letter = decode(&read_back(given_up())).unwrap();
    let summary = serde_json::to_value(letter.summary()).unwrap();
    let names = |value: &serde_json::Value| -> Vec<String> {
        value.as_object().unwrap().keys().cloned().collect()
    };
    let (mut fields, mut known) = (names(&summary), names(&schema["properties"]));
    fields.sort_unstable();
    known.sort_unstable();
    assert_eq!(fields, known);
}

#[test]
fn more_headers_than_are_read_are_left_out_and_the_value_is_kept() {
    let letter = |headers: Vec<(Arc<str>, Option<Bytes>)>| {
        let mut input = record(&[], Some(b"\xff value"));
        input.key = Some(Bytes::from_static(b"key"));
        input.headers = headers;
        let why = crate::event::decode(&input, &crate::DecodeRule::CloudEvents).unwrap_err();
        let slices = SliceCount::new(64).unwrap();
        of_record(&input, why.reason, &why.message, "t".into(), slices)
    };
    let value = Some(Bytes::from_static(b"\xff value"));
    let most = letter(vec![("".into(), None); 1_000]);
    assert_eq!((most.headers.len(), &most.value), (1_004, &value));
    for (headers, message) in [
        (vec![("".into(), None); 1_001], "1001 headers of 0 bytes"),
        (
            vec![("x".into(), Some(vec![0; 65_536].into()))],
            "1 headers of 65537 bytes",
        ),
    ] {
        let omitted = headers.len().to_string();
        let written = letter(headers);
        let names: Vec<&str> = written.headers.iter().map(|(name, _)| &**name).collect();
        let ours = [
            "pr_reason",
            "pr_origin",
            "pr_message",
            "pr_key",
            "pr_headers_omitted",
        ];
        assert_eq!((&names[..], &written.value), (&ours[..], &value));
        assert_eq!(written.headers[4].1.as_deref(), Some(omitted.as_bytes()));
        let read = decode(&read_back(written)).unwrap();
        assert_eq!(&*read.reason, "oversized");
        assert!(read.message.unwrap().starts_with(message));
    }
}

fn any_bytes() -> impl Strategy<Value = Option<Bytes>> {
    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..30).prop_map(Bytes::from))
}

proptest! {
    #[test]
    fn input_is_kept_byte_for_byte(
        key in any_bytes(),
        value in any_bytes(),
        headers in proptest::collection::vec(("(pr_[a-z]{1,8}|\\PC{0,5})", any_bytes()), 0..6),
        message in ".{0,2000}",
        partition in 0..1_000_i32,
    ) {
        let mut input = record(&[], None);
        input.origin.partition = partition;
        input.key = key.clone();
        input.value = value.clone();
        input.headers = headers.into_iter().map(|(name, value)| (name.into(), value)).collect();
        let slices = SliceCount::new(64).unwrap();
        let reason = DeadLetterReason::Oversized;
        let written = of_record(&input, reason, &message, "t".into(), slices);
        prop_assert_eq!(written.partition, partition % 64);
        let read = decode(&read_back(written)).unwrap();
        prop_assert_eq!(&*read.reason, "oversized");
        prop_assert_eq!(read.origin, Some(input.origin));
        prop_assert!(message.starts_with(&*read.message.unwrap()));
        prop_assert_eq!(read.content, Content::Input { key, value, headers: input.headers });
    }
}

fn large_letter(headers: Vec<(&'static str, usize)>) -> NewRecord {
    let header = |(name, size)| (Cow::Borrowed(name), Some(Bytes::from(vec![b'x'; size])));
    NewRecord {
        topic: "dead-letters".into(),
        partition: 0,
        key: None,
        value: Some(Bytes::from_static(b"value")),
        headers: headers.into_iter().map(header).collect(),
    }
}

fn names(letter: &NewRecord) -> Vec<&str> {
    letter.headers.iter().map(|(name, _)| &**name).collect()
}

#[test]
fn a_letter_that_is_too_large_loses_its_value_and_says_so() {
    let shorter = without_value(&large_letter(vec![("theirs", 9), ("pr_reason", 9)]));
    assert_eq!(shorter.value, None);
    assert_eq!(names(&shorter), ["theirs", "pr_reason", "pr_value_omitted"]);
    assert_eq!(shorter.headers[2].1.as_deref(), Some(&b"5"[..]));
}

#[test]
fn headers_that_are_too_large_go_as_well() {
    let headers = vec![("pr_reason", 70_000), ("pr_reason", 9), ("pr_key", 70_000)];
    assert_eq!(
        names(&without_value(&large_letter(headers))),
        ["pr_reason", "pr_value_omitted"]
    );
}

#[test]
fn a_letter_that_is_printed_shows_none_of_its_content() {
    let input = record(&[("x", b"canary")], Some(b"canary"));
    for written in [unreadable(&input), given_up()] {
        let shown = format!("{:?}", decode(&read_back(written)).unwrap());
        assert!(!shown.contains("canary"), "{shown}");
        assert!(!shown.contains("pay_1"), "{shown}");
        assert!(shown.contains("bytes"), "{shown}");
    }
}
