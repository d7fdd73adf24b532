//! Events of every form, written by kcat, become deliveries; what is no event becomes a dead
//! letter, byte for byte.

use std::collections::HashMap;

use crate::common::{Installation, json, mapping, named, text};
use bytes::Bytes;
use postrider_domain::{EndpointId, Record};
use postrider_router::{Source, SourceTopics};
use postrider_test_support::Broker;
use postrider_wire::{DecodeRule, delivery};

fn installation(name: &str) -> Installation {
    Installation::new(Broker::shared().bootstrap(), name)
}

fn by_endpoint(records: Vec<Record>) -> HashMap<(String, String), Record> {
    let key = |record: &Record| {
        let endpoint = String::from_utf8(record.key.clone().unwrap().to_vec()).unwrap();
        (endpoint, text(record, "ce_id").unwrap().to_owned())
    };
    records
        .into_iter()
        .map(|record| (key(&record), record))
        .collect()
}

#[test]
fn events_of_each_form_become_deliveries() {
    let at = installation("forms");
    at.endpoint("ep_all", "acme", "[]");
    at.endpoint("ep_payments", "acme", r#"["payment.*"]"#);
    at.endpoint("ep_refunds", "acme", r#"["refund.created"]"#);
    at.endpoint("ep_other", "other", "[]");
    let cloud = at.create_intake("cloud", 3);
    let plain = at.create_intake("plain", 3);
    let binary = [
        "-p",
        "1",
        "-k",
        "k",
        "-H",
        "ce_specversion=1.0",
        "-H",
        "ce_id=e1",
        "-H",
        "ce_source=/pay",
        "-H",
        "ce_type=payment.captured",
        "-H",
        "ce_tenant=acme",
        "-H",
        "ce_partitionkey=pay_7",
        "-H",
        "content-type=application/octet-stream",
        "-H",
        "traceparent=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ];
    let bytes = b"\x00\xff not \xfe UTF-8\n\n";
    at.kcat_bytes(&cloud, &binary, bytes);
    let structured = br#"{"specversion":"1.0","id":"e2","source":"/pay","type":"refund.created",
        "tenant":"acme","data":{"b": 1, "a":  2}}"#;
    let header = ["-H", "content-type=application/cloudevents+json"];
    at.kcat_bytes(&cloud, &header, structured);
    let mapped = br#" {"id":"e3", "type":"payment.failed", "shop":"acme", "amount": 1.00} "#;
    at.kcat_bytes(&plain, &["-k", "pay_9"], mapped);

    let sources = vec![
        named(&[&cloud], DecodeRule::Auto(None)),
        Source {
            topics: SourceTopics::Pattern(format!("^{}.*", at.intake("pl").replace('.', "\\."))),
            rule: DecodeRule::Json(mapping()),
        },
    ];
    let (router, metrics) = at.route(sources);
    let found = by_endpoint(at.read_some(at.topics.deliveries(), 6));
    assert!(router.stop(crate::common::PATIENCE));

    let mut keys: Vec<_> = found.keys().map(|(e, id)| format!("{e} {id}")).collect();
    keys.sort();
    assert_eq!(
        keys,
        [
            "ep_all e1",
            "ep_all e2",
            "ep_all e3",
            "ep_payments e1",
            "ep_payments e3",
            "ep_refunds e2"
        ]
    );
    for ((endpoint, event), record) in &found {
        let endpoint: EndpointId = endpoint.parse().unwrap();
        assert_eq!(
            record.origin.partition,
            at.partition_of(&endpoint),
            "{endpoint}"
        );
        let delivery = delivery::decode(record).unwrap();
        let source = &delivery.event.source;
        assert_eq!(delivery.id, delivery::delivery_id(source, event, &endpoint));
        assert_eq!((delivery.attempts, delivery.due), (0, None));
        assert_eq!(text(record, "pr_v"), Some("1"));
        let value: &[u8] = match &**event {
            "e1" => bytes,
            "e2" => br#"{"b": 1, "a":  2}"#,
            _ => mapped,
        };
        assert_eq!(record.value.as_deref(), Some(value), "{event}");
    }
    let first = delivery::decode(&found[&("ep_all".to_owned(), "e1".to_owned())]).unwrap();
    assert_eq!(
        first.event.content_type.as_deref(),
        Some("application/octet-stream")
    );
    assert_eq!(first.event.ordering_key.as_deref(), Some("pay_7"));
    assert!(first.event.traceparent.is_some());
    let third = delivery::decode(&found[&("ep_all".to_owned(), "e3".to_owned())]).unwrap();
    assert_eq!(third.event.ordering_key.as_deref(), Some("pay_9"));
    let rendered = metrics.render();
    assert!(
        rendered.contains("postrider_events_consumed_total 3\n"),
        "{rendered}"
    );
    assert!(
        rendered.contains("postrider_deliveries_written_total 6\n"),
        "{rendered}"
    );
}

#[test]
fn what_is_no_event_is_dead_lettered_byte_for_byte() {
    let at = installation("letters");
    at.endpoint("ep", "acme", "[]");
    let intake = at.create_intake("mixed", 1);
    let large = vec![b'x'; 3 << 20];
    let inputs: [&[u8]; 3] = [b"\x00\xff\xfe\n", b"{\"id\": \"e\"}", &large];
    for input in inputs {
        at.kcat_bytes(&intake, &["-k", "\x01key", "-H", "note=kept"], input);
    }
    at.kcat(&intake, &["-Z", "-K", ":"], b"tombstone:\n");
    at.kcat_json(&intake, 0..1);

    let (router, metrics) = at.route(json(&[&intake]));
    let delivered = at.read_some(at.topics.deliveries(), 1);
    assert_eq!(
        text(&delivered[0], "ce_id"),
        Some("evt_0"),
        "the partition did not stop"
    );
    let mut letters = at.read_some(at.topics.dead_letters(), 4);
    assert!(router.stop(crate::common::PATIENCE));
    letters.sort_by_key(|letter| text(letter, "pr_origin").map(str::to_owned));
    let found: Vec<_> = letters
        .iter()
        .map(|l| {
            (
                text(l, "pr_reason").unwrap(),
                l.value.clone(),
                l.origin.partition,
            )
        })
        .collect();
    let value = |input: &[u8]| Some(Bytes::copy_from_slice(input));
    assert_eq!(
        found,
        [
            ("undecodable", value(inputs[0]), 0),
            ("unmappable", value(inputs[1]), 0),
            ("oversized", value(inputs[2]), 0),
            ("undecodable", None, 0),
        ]
    );
    for (offset, letter) in letters.iter().enumerate() {
        assert_eq!(
            text(letter, "pr_origin"),
            Some(&*format!("{intake}/0/{offset}"))
        );
    }
    assert_eq!(text(&letters[0], "note"), Some("kept"));
    let rendered = metrics.render();
    let line = "postrider_events_rejected_total{reason=\"undecodable\"} 2\n";
    assert!(rendered.contains(line), "{rendered}");
}

#[test]
fn what_no_topic_takes_is_dead_lettered_without_its_value() {
    let limits = [("deliveries", 4_000), ("dead-letters", 20_000)];
    let at = Installation::with_limits(Broker::shared().bootstrap(), "limits", &limits);
    at.endpoint("ep", "acme", "[]");
    let intake = at.create_intake("in", 1);
    let mut random = 1_u64;
    let mut incompressible = |size: usize| -> Vec<u8> {
        let byte = |_| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (random >> 56) as u8
        };
        (0..size).map(byte).collect()
    };
    let headers = ["-H", "ce_id=e", "-H", "ce_type=t", "-H", "ce_tenant=acme"];
    let (fits, does_not) = (incompressible(10_000), incompressible(40_000));
    let (router, _) = at.route(vec![named(&[&intake], DecodeRule::Auto(None))]);
    // One by one, or they share a batch and with it the broker's verdict.
    at.kcat_bytes(&intake, &headers, &fits);
    at.read_some(at.topics.dead_letters(), 1);
    at.kcat_bytes(&intake, &headers, &does_not);
    at.read_some(at.topics.dead_letters(), 2);
    at.kcat_bytes(&intake, &[], &does_not);
    let mut letters = at.read_some(at.topics.dead_letters(), 3);
    at.kcat_bytes(&intake, &headers, b"small");
    let delivered = at.read_some(at.topics.deliveries(), 1);
    assert!(
        router.stop(crate::common::PATIENCE),
        "everything is settled"
    );
    assert_eq!(delivered[0].value.as_deref(), Some(&b"small"[..]));
    letters.sort_by_key(|letter| text(letter, "pr_origin").map(str::to_owned));
    let said = |letter: &Record| {
        let header = |name| text(letter, name).map(str::to_owned);
        (header("pr_reason").unwrap(), header("pr_value_omitted"))
    };
    assert_eq!(said(&letters[0]), ("oversized".to_owned(), None));
    assert_eq!(letters[0].value.as_deref(), Some(&fits[..]));
    assert_eq!(letters[0].key.as_deref(), Some(&b"ep"[..]), "a delivery");
    let omitted = || Some("40000".to_owned());
    assert_eq!(said(&letters[1]), ("oversized".to_owned(), omitted()));
    assert_eq!(said(&letters[2]), ("undecodable".to_owned(), omitted()));
    assert!(letters[1..].iter().all(|letter| letter.value.is_none()));
}

#[test]
fn an_endpoint_in_the_wrong_partition_gets_nothing() {
    let at = installation("misplaced");
    at.endpoint("ep_home", "acme", "[]");
    let away =
        (at.partition_of(&"ep_away".parse().unwrap()) + 1) % i32::from(crate::common::SLICES);
    let value = r#"{"id":"ep_away","tenant":"acme","url":"https://a.example/","signing":{"scheme":"none"},"version":1}"#;
    let line = format!("ep_away\t{value}\n");
    let endpoints = at.topics.endpoints().to_string();
    at.kcat(
        &endpoints,
        &["-K", "\\t", "-p", &away.to_string()],
        line.as_bytes(),
    );
    let intake = at.create_intake("one", 1);
    at.kcat_json(&intake, 0..10);
    let (router, metrics) = at.route(json(&[&intake]));
    let delivered = at.read_some(at.topics.deliveries(), 10);
    assert!(router.stop(crate::common::PATIENCE));
    assert!(
        delivered
            .iter()
            .all(|record| record.key.as_deref() == Some(b"ep_home"))
    );
    assert_eq!(at.read_all(at.topics.deliveries()).len(), 10);
    let line = "postrider_endpoint_records_ignored_total{reason=\"wrong_partition\"} 1\n";
    assert!(metrics.render().contains(line));
}

#[test]
fn an_event_for_ten_thousand_endpoints_becomes_as_many_deliveries() {
    let at = installation("fan");
    let mut lines = String::new();
    for n in 0..10_000 {
        lines.push_str(&format!(
            "ep_{n}\t{{\"id\":\"ep_{n}\",\"tenant\":\"acme\",\"url\":\"https://a.example/\",\
             \"signing\":{{\"scheme\":\"none\"}},\"version\":1}}\n"
        ));
    }
    // kcat finds the partition of each by itself, as any Java client would.
    let endpoints = at.topics.endpoints().to_string();
    at.kcat(
        &endpoints,
        &["-K", "\\t", "-X", "topic.partitioner=murmur2_random"],
        lines.as_bytes(),
    );
    let intake = at.create_intake("fan", 1);
    at.kcat_json(&intake, 0..3);
    let (router, _) = at.route(json(&[&intake]));
    let delivered = at.read_distinct(30_000);
    assert!(router.stop(crate::common::PATIENCE));
    assert_eq!(delivered.len(), 30_000, "none twice");
}

#[test]
fn an_event_that_outweighs_the_room_with_its_endpoints_reaches_them_all() {
    const ENDPOINTS: usize = 80;
    let at = installation("weight");
    for n in 0..ENDPOINTS {
        at.endpoint(&format!("ep_{n}"), "acme", "[]");
    }
    let intake = at.create_intake("weight", 1);
    let headers = ["-H", "ce_id=e", "-H", "ce_type=t", "-H", "ce_tenant=acme"];
    let data = vec![b'x'; 1 << 20];
    at.kcat_bytes(&intake, &headers, &data);
    at.kcat_bytes(&intake, &headers, b"small");
    let (router, _) = at.route(vec![named(&[&intake], DecodeRule::Auto(None))]);
    let delivered = at.read_some(at.topics.deliveries(), 2 * ENDPOINTS);
    assert!(
        router.stop(crate::common::PATIENCE),
        "everything is settled"
    );
    let large = delivered
        .iter()
        .filter(|record| record.value.as_deref() == Some(&data[..]));
    assert_eq!((large.count(), delivered.len()), (ENDPOINTS, 2 * ENDPOINTS));
}
