//! Facts about rows of an outbox.

use postrider_domain::{DeadLetterReason, Tenant};
use proptest::prelude::*;

use super::*;
use crate::event::{self, DecodeRule};
use crate::testing::record;

const ID: &str = "406c07f3-26f0-4eea-a50c-109940064b8f";

fn row(headers: &[(&str, &str)], value: Option<&str>) -> Record {
    let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_bytes())).collect();
    let mut record = record(&headers, value.map(str::as_bytes));
    record.origin.topic = "outbox.event.Order".into();
    record.key = Some(Bytes::from_static(b"order-1"));
    record
}

fn read(record: &Record) -> Result<Event, Undeliverable> {
    event::decode(record, &DecodeRule::Outbox(OutboxMapping::default()))
}

fn data(value: &str) -> String {
    let event = read(&row(&[("id", ID)], Some(value))).unwrap();
    String::from_utf8(event.data.to_vec()).unwrap()
}

#[test]
fn a_row_has_its_attributes_where_the_outbox_event_router_puts_them() {
    let headers = [
        ("id", ID),
        ("eventType", "OrderCreated"),
        ("tenant", "acme"),
    ];
    let record = row(&headers, Some(r#"{"total": 10.50}"#));
    let event = read(&record).unwrap();
    assert_eq!((&*event.id, &*event.event_type), (ID, "OrderCreated"));
    assert_eq!(event.tenant.as_str(), "acme");
    assert_eq!(&*event.source, "outbox.event.Order");
    assert_eq!(event.ordering_key.as_deref(), Some("order-1"));
    assert_eq!(event.content_type.as_deref(), Some("application/json"));
    assert_eq!(event.time, None);
    let (data, value) = (event.data.as_ptr(), record.value.as_ref().unwrap().as_ptr());
    assert_eq!(data, value, "shared, not copied");
}

#[test]
fn the_type_is_the_aggregates_where_no_header_says_more() {
    let typed = |headers: &[(&str, &str)], topic: &str| {
        let mut record = row(headers, Some("{}"));
        record.origin.topic = topic.into();
        read(&record).map(|event| event.event_type.to_string())
    };
    let topic = "outbox.event.Order";
    assert_eq!(typed(&[("id", ID), ("type", "b")], topic).unwrap(), "b");
    assert_eq!(typed(&[("id", ID), ("type", "")], topic).unwrap(), "Order");
    assert_eq!(
        typed(&[("id", ID)], "shop.outbox.event.a.b").unwrap(),
        "a.b"
    );
    let none = typed(&[("id", ID)], "orders").unwrap_err();
    assert_eq!(none.reason, DeadLetterReason::Unmappable);
    assert!(none.message.contains("eventType"), "{none}");
}

#[test]
fn a_json_converters_wrappings_are_taken_off() {
    let quoted = format!("\"{ID}\"");
    let wrapped = r#"{"schema":{"type":"string","optional":false},"payload":"acme"}"#;
    let mut record = row(&[("id", &quoted), ("tenant", wrapped)], Some("{}"));
    record.key = Some(Bytes::from_static(br#""order-1""#));
    let event = read(&record).unwrap();
    assert_eq!((&*event.id, event.tenant.as_str()), (ID, "acme"));
    assert_eq!(event.ordering_key.as_deref(), Some("order-1"));
    record.key = Some(Bytes::from_static(
        br#"{"schema":{"type":"int64"},"payload":9007199254740993}"#,
    ));
    let event = read(&record).unwrap();
    assert_eq!(event.ordering_key.as_deref(), Some("9007199254740993"));
}

#[test]
fn an_aggregate_whose_id_is_no_text_has_its_order_too() {
    let mut record = row(&[("id", ID)], Some("{}"));
    record.key = Some(Bytes::from_static(&[0xff, 0x01]));
    let event = read(&record).unwrap();
    assert_eq!(event.ordering_key.as_deref(), Some("ff01"));
}

#[test]
fn escaped_json_is_forwarded_as_json() {
    assert_eq!(data(r#""{\"total\": 10.50}""#), r#"{"total": 10.50}"#);
    assert_eq!(
        data(r#"{"schema":{"type":"string"},"payload":"[1, 2]"}"#),
        "[1, 2]"
    );
    assert_eq!(
        data(r#"{"schema":{"type":"struct"},"payload":{"a": 1.0}}"#),
        r#"{"a": 1.0}"#
    );
    assert_eq!(
        data(r#"{"schema":{"type":"string"},"payload":"<a/>"}"#),
        "<a/>"
    );
}

#[test]
fn what_only_looks_wrapped_is_forwarded_as_it_stands() {
    for value in [
        r#""just text""#,
        r#""{broken""#,
        r#"{"schema": "v1", "payload": 1}"#,
        r#"{"schema": {}, "payload": 1, "id": 2}"#,
        " [1] ",
        "<xml/>",
        "",
    ] {
        assert_eq!(data(value), value);
    }
    let event = read(&row(&[("id", ID)], Some("<xml/>"))).unwrap();
    assert_eq!(event.content_type, None);
}

#[test]
fn a_row_with_an_empty_payload_is_an_event_without_data() {
    for value in [None, Some(r#"{"schema":null,"payload":null}"#)] {
        let event = read(&row(&[("id", ID)], value)).unwrap();
        assert_eq!((&*event.event_type, event.data.len()), ("Order", 0));
    }
}

#[test]
fn a_mapping_says_where_else_attributes_are() {
    let field = |text| Some(FieldRef::parse(text).unwrap());
    let rule = DecodeRule::Outbox(OutboxMapping {
        event_type: field("header:kind"),
        id: field("/id"),
        tenant: field("/merchant"),
        time: field("/at"),
        ordering_key: field("/customer"),
    });
    let value = r#""{\"id\": 7, \"merchant\": \"acme\", \"at\": \"now\", \"customer\": \"c1\"}""#;
    let event = event::decode(&row(&[("kind", "\"paid\"")], Some(value)), &rule).unwrap();
    assert_eq!((&*event.id, &*event.event_type), ("7", "paid"));
    assert_eq!(event.tenant.as_str(), "acme");
    assert_eq!(event.time.as_deref(), Some("now"));
    assert_eq!(event.ordering_key.as_deref(), Some("c1"));
    let none = event::decode(&row(&[("kind", "paid")], Some("{\"id\":7}")), &rule).unwrap_err();
    assert_eq!(none.reason, DeadLetterReason::Unmappable, "{none}");
    assert!(none.message.contains("no tenant"), "{none}");
}

#[test]
fn auto_takes_a_row_by_topic_and_id_unless_its_source_has_a_mapping() {
    let auto = |record: &Record| event::decode(record, &DecodeRule::Auto(None));
    let event = auto(&row(&[("id", ID)], Some("{}"))).unwrap();
    assert_eq!(event.tenant, Tenant::default());
    assert!(auto(&row(&[("id", "7")], Some("{}"))).is_err());
    assert!(auto(&row(&[], Some("{}"))).is_err());
    let mut elsewhere = row(&[("id", ID)], Some("{}"));
    elsewhere.origin.topic = "notoutbox.event.Order".into();
    assert!(auto(&elsewhere).is_err());
}

#[test]
fn a_record_without_an_id_is_no_row_of_an_outbox() {
    for headers in [&[][..], &[("id", "")]] {
        let none = read(&row(headers, Some("{}"))).unwrap_err();
        assert_eq!(none.reason, DeadLetterReason::Undecodable);
        assert!(none.message.contains("header id"), "{none}");
    }
}

proptest! {
    #[test]
    fn arbitrary_rows_never_panic(
        id in ".{0,40}",
        key in prop::collection::vec(any::<u8>(), 0..40),
        value in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..100),
            "[\\[{\"a:,}\\]schemapyload\\\\ ]{0,60}".prop_map(String::into_bytes),
        ],
    ) {
        let mut record = row(&[("id", &id)], None);
        record.key = Some(key.into());
        record.value = Some(value.into());
        drop(read(&record));
    }
}
