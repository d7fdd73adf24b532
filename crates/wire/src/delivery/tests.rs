//! Facts about delivery records.

use std::time::Duration;

use postrider_domain::{DeadLetterReason, Tenant};
use proptest::prelude::*;

use super::*;
use crate::testing::{delivery, header_lines, read_back};

fn written(delivery: &Delivery) -> NewRecord {
    encode(delivery, delivery.attempts, delivery.due, "t".into(), 5)
}

/// SHA-256 by hand (Python's hashlib) over the three length-prefixed parts.
#[test]
fn the_delivery_id_is_what_others_compute() {
    let endpoint: EndpointId = "ep_acme".parse().unwrap();
    assert_eq!(
        delivery_id("/payments", "evt_1", &endpoint).to_string(),
        "dlv_c343af11272f1b4a1a5fa92619fcc50f"
    );
}

#[test]
fn headers_are_those_of_the_contract() {
    let due = Timestamp::from_micros(1_674_087_500_000_001);
    let record = encode(&delivery(), 3, Some(due), "postrider.retry.30s".into(), 5);
    assert_eq!(
        header_lines(&record),
        include_str!("../../tests/golden/delivery-headers.txt")
    );
    assert_eq!(
        (&*record.topic, record.partition),
        ("postrider.retry.30s", 5)
    );
    assert_eq!(record.key.as_deref(), Some(&b"ep_acme"[..]));
    let read = decode(&read_back(record)).unwrap();
    assert_eq!(read.attempts, 3);
    let read_due = read.due.unwrap();
    assert!(read_due >= due && read_due.since(due) < Duration::from_millis(1));
}

#[test]
fn the_data_is_shared() {
    let delivery = delivery();
    let record = written(&delivery);
    assert_eq!(record.value.unwrap().as_ptr(), delivery.event.data.as_ptr());
}

#[test]
fn what_is_no_delivery_is_undecodable() {
    let change = |header: &str, value: Option<&'static str>| {
        let mut record = read_back(written(&delivery()));
        record.headers.retain(|(name, _)| &**name != header);
        if let Some(value) = value {
            record.headers.push((header.into(), Some(value.into())));
        }
        decode(&record).map_err(|undeliverable| {
            assert_eq!(undeliverable.reason, DeadLetterReason::Undecodable);
            undeliverable.message
        })
    };
    assert!(change("unknown", Some("is ignored")).is_ok());
    assert!(change("pr_due", None).is_ok());
    for required in [
        "pr_v",
        "pr_delivery",
        "pr_endpoint",
        "pr_attempt",
        "pr_accepted",
        "ce_id",
        "ce_source",
        "ce_type",
        "ce_tenant",
    ] {
        assert!(change(required, None).unwrap_err().contains(required));
    }
    for (header, value) in [
        ("pr_v", "2"),
        ("pr_delivery", "msg_1"),
        ("pr_endpoint", "a.b"),
        ("pr_endpoint", "another"),
        ("pr_attempt", "-1"),
        ("pr_due", "99999999999999999999"),
        ("pr_accepted", ""),
        ("ce_tenant", "a\nb"),
    ] {
        assert!(change(header, Some(value)).is_err(), "{header}");
    }
}

prop_compose! {
    fn any_event()(
        required in ("\\PC{1,20}", ".{1,20}", ".{1,20}"),
        tenant in "[^\\pC]{1,30}",
        optional in proptest::collection::vec(proptest::option::of(".{0,20}"), 4),
        extensions in proptest::collection::btree_map("x[a-z0-9]{0,10}", ".{0,20}", 0..5),
        data in proptest::collection::vec(any::<u8>(), 0..100),
        accepted in 0..u64::MAX / 1_000,
    ) -> Event {
        let mut optional = optional.into_iter().map(|text| text.map(Into::into));
        let mut next = || optional.next().flatten();
        Event {
            id: required.0.into(),
            source: required.1.into(),
            event_type: required.2.into(),
            tenant: tenant.parse::<Tenant>().unwrap_or_default(),
            time: next(),
            ordering_key: next(),
            content_type: next(),
            traceparent: next(),
            extensions: extensions.into_iter().map(|(n, v)| (n.into(), v.into())).collect(),
            data: data.into(),
            accepted_at: Timestamp::from_millis(accepted),
        }
    }
}

#[test]
fn a_test_says_so_in_a_header() {
    let mut delivery = delivery();
    assert!(!header_lines(&written(&delivery)).contains("pr_test"));
    delivery.test = true;
    assert!(header_lines(&written(&delivery)).contains("\npr_test: 1\n"));
}

proptest! {
    #[test]
    fn a_delivery_is_read_as_it_was_written(
        event in any_event(),
        id in any::<[u8; 16]>(),
        endpoint in "[A-Za-z0-9_-]{1,64}",
        attempts in any::<u32>(),
        due in proptest::option::of(0..u64::MAX / 1_000),
        test: bool,
    ) {
        let delivery = Delivery {
            id: DeliveryId::from_bytes(id),
            endpoint: endpoint.parse().unwrap(),
            event,
            attempts,
            due: due.map(Timestamp::from_millis),
            test,
        };
        prop_assert_eq!(decode(&read_back(written(&delivery))), Ok(delivery));
    }

    #[test]
    fn moving_a_byte_between_parts_changes_the_id(source in ".{0,8}", id in ".{1,8}") {
        let endpoint: EndpointId = "e".parse().unwrap();
        let moved = format!("{source}{}", id.chars().next().unwrap());
        let rest: String = id.chars().skip(1).collect();
        prop_assert_ne!(
            delivery_id(&source, &id, &endpoint),
            delivery_id(&moved, &rest, &endpoint)
        );
    }
}
