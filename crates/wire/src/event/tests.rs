//! Facts about reading events.

use postrider_domain::{Record, Tenant, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::mapping::FieldRef;
use crate::testing::record;

const STRUCTURED: &[(&str, &[u8])] = &[("content-type", b"application/cloudevents+json")];

fn cloud(record: &Record) -> Result<Event, Undeliverable> {
    decode(record, &DecodeRule::Auto(None))
}

fn structured(envelope: &str) -> Result<Event, Undeliverable> {
    cloud(&record(STRUCTURED, Some(envelope.as_bytes())))
}

fn reason(result: Result<Event, Undeliverable>) -> DeadLetterReason {
    result.expect_err("must not be an event").reason
}

fn mapping() -> Mapping {
    let field = |text| FieldRef::parse(text).expect("a valid reference");
    Mapping {
        event_type: field("/type"),
        id: Some(field("/data/id")),
        tenant: Some(field("header:merchant")),
        time: Some(field("/created")),
        ordering_key: Some(field("key")),
    }
}

#[test]
fn a_binary_event_keeps_its_attributes_and_its_bytes() {
    let record = record(
        &[
            ("ce_specversion", b"1.0"),
            ("ce_id", b"evt.1"),
            ("ce_source", "/payments/é".as_bytes()),
            ("ce_type", b"payment.captured"),
            ("ce_time", b"2023-01-19T00:13:51.1+02:00"),
            ("ce_tenant", b"acme"),
            ("ce_partitionkey", b"pay_1"),
            ("ce_subject", b"pay_1 50%"),
            ("ce_Upper", b"no attribute"),
            ("unrelated", b"\xff"),
            ("content-type", b"application/octet-stream"),
            (
                "traceparent",
                b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            ),
        ],
        Some(b"\xff\x00 not text"),
    );
    let event = cloud(&record).unwrap();
    assert_eq!((&*event.id, &*event.source), ("evt.1", "/payments/é"));
    assert_eq!(&*event.event_type, "payment.captured");
    assert_eq!(event.time.as_deref(), Some("2023-01-19T00:13:51.1+02:00"));
    assert_eq!(event.tenant.as_str(), "acme");
    assert_eq!(event.ordering_key.as_deref(), Some("pay_1"));
    assert_eq!(
        event.content_type.as_deref(),
        Some("application/octet-stream")
    );
    assert!(event.traceparent.is_some());
    assert_eq!(event.extensions, [("subject".into(), "pay_1 50%".into())]);
    assert_eq!(&*event.data, b"\xff\x00 not text");
    assert_eq!(event.accepted_at, Timestamp::from_millis(1_674_087_231_456));
    let original = record.value.unwrap();
    assert_eq!(event.data.as_ptr(), original.as_ptr(), "shared, not copied");
}

#[test]
fn id_source_and_tenant_have_defaults() {
    let event = cloud(&record(
        &[
            ("ce_specversion", b"1.0"),
            ("ce_type", b"a.b"),
            ("ce_id", b""),
        ],
        None,
    ))
    .unwrap();
    assert_eq!(&*event.id, "payments.events/3/42@1674087231456");
    assert_eq!(&*event.source, "payments.events");
    assert_eq!(event.tenant, Tenant::default());
    assert!(event.data.is_empty(), "no data is legal");
    assert_eq!(event.content_type, None);
}

#[test]
fn what_is_no_event_has_a_named_reason() {
    use DeadLetterReason::{Oversized, Undecodable, Unmappable};
    let binary =
        |headers: &[(&str, &[u8])], value: &[u8]| reason(cloud(&record(headers, Some(value))));
    assert_eq!(binary(&[], b"{}"), Undecodable);
    assert_eq!(binary(&[("ce_id", b"1")], b"{}"), Undecodable);
    assert_eq!(binary(&[("ce_specversion", b"1.0")], b""), Undecodable);
    let typed = ("ce_type", &b"t"[..]);
    assert_eq!(
        binary(&[typed, ("ce_specversion", b"0.3")], b""),
        Undecodable
    );
    assert_eq!(binary(&[typed, ("ce_id", b"\xff")], b""), Undecodable);
    let id = ("ce_id", &b"1"[..]);
    assert_eq!(binary(&[typed, id, ("ce_tenant", b"")], b""), Unmappable);
    assert_eq!(
        binary(&[typed, id, ("ce_tenant", b"a\nb")], b""),
        Unmappable
    );
    assert_eq!(
        binary(&[typed, id, ("content-type", b"a/b\r\nx: y")], b""),
        Undecodable
    );
    assert_eq!(
        binary(&[typed, id], &vec![0; EVENT_BYTES_MAX + 1]),
        Oversized
    );
    assert!(cloud(&record(&[typed, id], Some(&vec![0; EVENT_BYTES_MAX]))).is_ok());
    assert_eq!(
        binary(&[typed, id, ("ce_subject", &[b'x'; 70_000])], b""),
        Oversized
    );
    let names: Vec<String> = (0..200).map(|n| format!("ce_x{n}")).collect();
    let mut many: Vec<(&str, &[u8])> = names.iter().map(|n| (&**n, &b""[..])).collect();
    many.extend([typed, id]);
    assert_eq!(binary(&many, b""), Oversized);
}

#[test]
fn structured_json_data_is_cut_out_byte_for_byte() {
    let event = structured(
        r#" {"specversion" : "1.0", "id":"A\u00e9", "source":"/s", "type":"t", "tenant":null,
            "sequence": 7, "flag":true, "Odd-Name": {}, "data" :  {"a" : 1.10, "b":"\u00e9"}  } "#,
    )
    .unwrap();
    assert_eq!(&*event.data, br#"{"a" : 1.10, "b":"\u00e9"}"#);
    assert_eq!(&*event.id, "Aé");
    assert_eq!(event.content_type.as_deref(), Some("application/json"));
    assert_eq!(
        event.extensions,
        [
            ("sequence".into(), "7".into()),
            ("flag".into(), "true".into())
        ]
    );
}

#[test]
fn structured_text_and_binary_data_are_decoded() {
    let data = |rest: &str| {
        structured(&format!(r#"{{"type":"t",{rest}}}"#))
            .unwrap()
            .data
    };
    assert_eq!(
        &*data(r#""data":"<a>\n</a>","datacontenttype":"text/xml""#),
        b"<a>\n</a>"
    );
    assert_eq!(
        &*data(r#""datacontenttype":"application/vnd.x+JSON; charset=utf-8","data":"a\n""#),
        br#""a\n""#
    );
    assert_eq!(&*data(r#""data_base64":"/wAB""#), b"\xff\x00\x01");
    assert_eq!(&*data(r#""data_base64":"/w""#), b"\xff");
    assert_eq!(&*data(r#""data":null"#), b"null");
    assert_eq!(&*data(r#""subject":"x""#), b"");
}

#[test]
fn structured_mode_is_seen_in_any_case_and_only_json_is_read() {
    let by = |content_type: &str| {
        cloud(&record(
            &[("content-type", content_type.as_bytes())],
            Some(br#"{"type":"t"}"#),
        ))
    };
    assert!(by("Application/CloudEvents+JSON; charset=UTF-8").is_ok());
    assert!(by("application/cloudevents").is_ok());
    for other in [
        "application/cloudevents-batch+json",
        "application/cloudevents+avro",
    ] {
        assert!(by(other).unwrap_err().message.contains(other));
    }
}

#[test]
fn broken_envelopes_are_undecodable() {
    for envelope in [
        "",
        "[]",
        "{",
        "\u{feff}{}",
        r#"{"id":"1"}"#,
        r#"{"type":{"a":1}}"#,
        r#"{"type":"t","specversion":"2.0"}"#,
        r#"{"type":"t","data":1,"data_base64":""}"#,
        r#"{"type":"t","data_base64":5}"#,
        r#"{"type":"t","data_base64":"*"}"#,
        r#"{"type":"t","subject":"\udc00"}"#,
        r#"{"type":"t","\udc00":1}"#,
    ] {
        assert_eq!(
            reason(structured(envelope)),
            DeadLetterReason::Undecodable,
            "{envelope}"
        );
    }
    assert_eq!(
        reason(cloud(&record(STRUCTURED, None))),
        DeadLetterReason::Undecodable
    );
    assert_eq!(
        reason(cloud(&record(STRUCTURED, Some(b"{\"type\":\"\xff\"}")))),
        DeadLetterReason::Undecodable
    );
}

#[test]
fn deep_json_is_carried_not_parsed() {
    let deep = format!("{}{}", "[".repeat(300_000), "]".repeat(300_000));
    let event = structured(&format!(r#"{{"type":"t","data":{deep}}}"#)).unwrap();
    assert_eq!(event.data.len(), 600_000);
    let mapped = format!(r#"{{"type":"t","data":{{"id":1,"deep":{deep}}}}}"#);
    let input = record(&[("merchant", b"acme")], Some(mapped.as_bytes()));
    assert_eq!(
        &*decode(&input, &DecodeRule::Json(mapping())).unwrap().id,
        "1"
    );
}

#[test]
fn json_is_mapped() {
    let body = br#"{"type":"payment.captured","data":{"id":12345678901234567890},"created":1.50}"#;
    let mut input = record(&[("merchant", b"acme")], Some(body));
    input.key = Some("pay_1".into());
    for rule in [
        DecodeRule::Json(mapping()),
        DecodeRule::Auto(Some(mapping())),
    ] {
        let event = decode(&input, &rule).unwrap();
        assert_eq!(&*event.event_type, "payment.captured");
        assert_eq!(&*event.id, "12345678901234567890");
        assert_eq!(&*event.source, "payments.events");
        assert_eq!(event.tenant.as_str(), "acme");
        assert_eq!(event.time.as_deref(), Some("1.50"));
        assert_eq!(event.ordering_key.as_deref(), Some("pay_1"));
        assert_eq!(event.content_type.as_deref(), Some("application/json"));
        assert_eq!(&*event.data, body);
    }
}

#[test]
fn an_event_never_reaches_a_guessed_merchant() {
    let map = |headers: &[(&str, &[u8])], value: &str| {
        let input = record(headers, Some(value.as_bytes()));
        decode(&input, &DecodeRule::Json(mapping()))
    };
    let merchant: &[(&str, &[u8])] = &[("merchant", b"acme")];
    let missing = map(&[], r#"{"type":"t"}"#).unwrap_err();
    assert_eq!(missing.reason, DeadLetterReason::Unmappable);
    assert!(missing.message.contains("header:merchant"), "{missing}");
    assert_eq!(reason(map(merchant, "{}")), DeadLetterReason::Unmappable);
    assert_eq!(
        reason(map(merchant, r#"{"type":null}"#)),
        DeadLetterReason::Unmappable
    );
    assert_eq!(
        reason(map(merchant, r#"{"type":["t"]}"#)),
        DeadLetterReason::Unmappable
    );
    assert_eq!(reason(map(merchant, "")), DeadLetterReason::Undecodable);
    assert_eq!(reason(map(merchant, "nope")), DeadLetterReason::Undecodable);
    let derived = map(merchant, r#"{"type":"t"}"#).unwrap();
    assert_eq!(&*derived.id, "payments.events/3/42@1674087231456");
    assert_eq!(derived.time, None);
}

#[test]
fn references_have_three_forms() {
    for good in ["key", "header:x", "/a", "/a/0/b~1c~0", "/"] {
        assert_eq!(FieldRef::parse(good).unwrap().to_string(), good);
    }
    for bad in ["", "id", "header:", "$.id", "/a~2", "/a~"] {
        assert!(FieldRef::parse(bad).is_err(), "{bad:?}");
    }
    let escaped = record(&[], Some(br#"{"a/b~":"t"}"#));
    let rule = DecodeRule::Json(Mapping {
        event_type: FieldRef::parse("/a~1b~0").unwrap(),
        id: None,
        tenant: None,
        time: None,
        ordering_key: None,
    });
    assert_eq!(&*decode(&escaped, &rule).unwrap().event_type, "t");
}

proptest! {
    #[test]
    fn any_bytes_are_an_event_or_a_reason(
        value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200)),
        headers in proptest::collection::vec(
            ("(ce_(id|type|specversion|tenant|x)|content-type|[a-z_]{0,8})",
             prop_oneof![
                 proptest::collection::vec(any::<u8>(), 0..20),
                 Just(b"1.0".to_vec()),
                 Just(b"application/cloudevents+json".to_vec()),
             ]),
            0..8,
        ),
    ) {
        let headers: Vec<(&str, &[u8])> =
            headers.iter().map(|(n, v)| (n.as_str(), v.as_slice())).collect();
        let input = record(&headers, value.as_deref());
        for rule in [
            DecodeRule::Auto(Some(mapping())),
            DecodeRule::CloudEvents,
            DecodeRule::Json(mapping()),
        ] {
            if let Ok(event) = decode(&input, &rule) {
                prop_assert!(!event.event_type.is_empty() && !event.id.is_empty());
            }
        }
    }

    #[test]
    fn any_json_like_text_is_an_event_or_a_reason(
        envelope in r#"\{("(type|data|id|data_base64|x)":("[a-z\\"]{0,4}"|\{\}|\[1\]|null|1e5),?){0,5}\}?"#,
    ) {
        if let Ok(event) = structured(&envelope) {
            prop_assert!(!event.event_type.is_empty());
        }
    }
}

#[test]
fn frames_are_taken_where_a_record_is_not_a_cloud_event() {
    let plain = record(
        &[("content-type", b"application/avro")],
        Some(b"\0\0\0\0\x07"),
    );
    let cloud = record(&[("ce_id", b"1"), ("ce_type", b"a")], Some(b"\0\0\0\0\x07"));
    let auto = DecodeRule::Auto(Some(mapping()));
    assert!(takes_frames(&plain, &auto) && !takes_frames(&cloud, &auto));
    assert!(takes_frames(&cloud, &DecodeRule::Json(mapping())));
    assert!(takes_frames(
        &plain,
        &DecodeRule::Outbox(OutboxMapping::default())
    ));
    assert!(!takes_frames(&plain, &DecodeRule::Auto(None)));
    assert!(!takes_frames(&plain, &DecodeRule::CloudEvents));
    assert!(reads_key(&auto) && !reads_key(&DecodeRule::CloudEvents));
    let elsewhere = Mapping {
        ordering_key: None,
        ..mapping()
    };
    assert!(!reads_key(&DecodeRule::Json(elsewhere)));
}

#[test]
fn what_was_framed_is_json_whatever_its_content_type_said() {
    let framed = record(
        &[("content-type", b"application/avro"), ("merchant", b"acme")],
        Some(b"\0\0\0\0\x07"),
    );
    let json = Bytes::from_static(b"{\"type\":\"a.b\"}");
    let record = unframed(
        &framed,
        Some(json.clone()),
        Some(Bytes::from_static(b"\"k\"")),
    );
    let event = decode(&record, &DecodeRule::Json(mapping())).unwrap();
    assert_eq!(event.content_type.as_deref(), Some("application/json"));
    assert_eq!((&event.data, event.tenant.as_str()), (&json, "acme"));
    assert_eq!(event.ordering_key.as_deref(), Some("k"));
}
