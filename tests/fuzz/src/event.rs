//! An intake record of any headers, key and value.
//!
//! Input: lines `rule: auto|cloudevents|json|outbox`, `topic: …`, `map: type=/a, tenant=header:x, …`, `key: …`, and
//! `NAME: VALUE` for headers; the value.

use bytes::Bytes;
use postrider_domain::{NewRecord, Origin, Record, Timestamp};
use postrider_wire::delivery;
use postrider_wire::event::{DecodeRule, EVENT_BYTES_MAX, decode};
use postrider_wire::mapping::{FieldRef, Mapping};
use postrider_wire::outbox::OutboxMapping;

use crate::text::head_and_body;

/// An event that is read fits its bounds, is read alike again, and its delivery is read back as
/// it was written.
pub(crate) fn event(input: &[u8]) {
    let (record, rule) = record(input);
    let Ok(event) = decode(&record, &rule) else {
        return;
    };
    assert!(
        event.data.len() <= EVENT_BYTES_MAX,
        "too large: {}",
        event.data.len()
    );
    assert_eq!(
        decode(&record, &rule).as_ref(),
        Ok(&event),
        "decided otherwise"
    );
    let endpoint = "ep_fuzz".parse().expect("an id");
    let written = postrider_domain::Delivery {
        id: delivery::delivery_id(&event.source, &event.id, &endpoint),
        endpoint,
        event,
        attempts: 0,
        due: None,
        test: false,
    };
    let sent = delivery::encode(&written, 0, None, "deliveries".into(), 0);
    let read = delivery::decode(&read_back(sent)).expect("a delivery that was just written");
    assert_eq!(read, written);
}

fn record(input: &[u8]) -> (Record, DecodeRule) {
    let (lines, value) = head_and_body(input);
    let mut mapping = None;
    let mut rule = String::new();
    let mut topic = "payments.events".to_owned();
    let mut key = None;
    let mut headers = Vec::new();
    for line in &lines {
        match line.split_once(": ") {
            Some(("rule", text)) => text.clone_into(&mut rule),
            Some(("topic", text)) => text.clone_into(&mut topic),
            Some(("map", text)) => mapping = mapping_of(text),
            Some(("key", text)) => key = Some(Bytes::copy_from_slice(text.as_bytes())),
            Some((name, text)) => {
                headers.push((name.into(), Some(Bytes::copy_from_slice(text.as_bytes()))));
            }
            None => headers.push((line.as_str().into(), None)),
        }
    }
    let record = Record {
        origin: Origin {
            topic: topic.into(),
            partition: 3,
            offset: 42,
        },
        timestamp: Timestamp::from_millis(1_674_087_231_456),
        key,
        value: Some(Bytes::copy_from_slice(value)),
        headers,
    };
    let rule = match (rule.as_str(), mapping) {
        ("cloudevents", _) => DecodeRule::CloudEvents,
        ("outbox", None) => DecodeRule::Outbox(OutboxMapping::default()),
        ("outbox", Some(mapping)) => DecodeRule::Outbox(OutboxMapping {
            event_type: Some(mapping.event_type),
            id: mapping.id,
            tenant: mapping.tenant,
            time: mapping.time,
            ordering_key: mapping.ordering_key,
        }),
        ("json", Some(mapping)) => DecodeRule::Json(mapping),
        (_, mapping) => DecodeRule::Auto(mapping),
    };
    (record, rule)
}

fn mapping_of(text: &str) -> Option<Mapping> {
    let find = |wanted: &str| {
        let mut parts = text.split(", ").filter_map(|part| part.split_once('='));
        let (_, place) = parts.find(|(name, _)| *name == wanted)?;
        FieldRef::parse(place).ok()
    };
    Some(Mapping {
        event_type: find("type")?,
        id: find("id"),
        tenant: find("tenant"),
        time: find("time"),
        ordering_key: find("ordering_key"),
    })
}

fn read_back(sent: NewRecord) -> Record {
    let headers = sent.headers.into_iter();
    Record {
        origin: Origin {
            topic: sent.topic,
            partition: sent.partition,
            offset: 7,
        },
        timestamp: Timestamp::from_millis(1_674_087_231_999),
        key: sent.key,
        value: sent.value,
        headers: headers
            .map(|(name, value)| (name.into_owned().into(), value))
            .collect(),
    }
}
