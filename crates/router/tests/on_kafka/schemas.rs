//! Values that are framed for a schema registry become JSON; what needs a schema that nobody can
//! tell waits, and nothing else does. The registry is a stub that can be away.

use std::thread;
use std::time::{Duration, Instant};

use crate::common::{Installation, PATIENCE, json, named, text};
use postrider_domain::Record;
use postrider_telemetry::Metrics;
use postrider_test_support::{Broker, SchemaRegistry};
use postrider_wire::{DecodeRule, OutboxMapping};
use serde_json::json as value;

const AVRO: u32 = 1;
const JSON: u32 = 2;
const PROTOBUF: u32 = 3;
const UNHEARD_OF: u32 = 4;

fn installation(name: &str) -> Installation {
    let at = Installation::new(Broker::shared().bootstrap(), name);
    at.endpoint("ep_all", "acme", "[]");
    at
}

fn registry() -> SchemaRegistry {
    let registry = SchemaRegistry::start();
    let none = value!([]);
    let field = |name: &str| value!({"name": name, "type": "string"});
    let record = value!({"type": "record", "name": "Payment", "fields": [
        field("id"), field("type"), field("shop"),
        {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
    ]});
    registry.keep(AVRO, "AVRO", &record.to_string(), &none);
    registry.keep(JSON, "JSON", "{}", &none);
    let message = "syntax = \"proto3\"; message A {}
        message Payment { string id = 1; string type = 2; string shop = 3; int64 amount = 4; }";
    registry.keep(PROTOBUF, "PROTOBUF", message, &none);
    registry
}

fn framed(schema: u32, body: &[u8]) -> Vec<u8> {
    [&[0], &schema.to_be_bytes()[..], body].concat()
}

fn avro(id: &str) -> Vec<u8> {
    let texts = [id, "payment.captured", "acme"];
    let texts = texts.map(|text| [&[(text.len() * 2) as u8], text.as_bytes()].concat());
    framed(AVRO, &[texts.concat().as_slice(), &[4, 4, 0xce]].concat())
}

fn as_json(id: &str) -> Vec<u8> {
    let event = value!({"id": id, "type": "payment.captured", "shop": "acme"});
    framed(JSON, event.to_string().as_bytes())
}

fn protobuf(id: &str) -> Vec<u8> {
    let texts = [(0x0a, id), (0x12, "payment.captured"), (0x1a, "acme")];
    let texts = texts.map(|(tag, text)| [&[tag, text.len() as u8], text.as_bytes()].concat());
    framed(
        PROTOBUF,
        &[&[2, 2], texts.concat().as_slice(), &[0x20, 5]].concat(),
    )
}

fn ids(records: &[Record]) -> Vec<&str> {
    records.iter().map(|r| text(r, "ce_id").unwrap()).collect()
}

fn wait_until_standing(metrics: &Metrics, partitions: usize) {
    let deadline = Instant::now() + PATIENCE;
    let line = format!("postrider_partitions_awaiting_schema {partitions}\n");
    while !metrics.render().contains(&line) {
        assert!(
            Instant::now() < deadline,
            "not {partitions} partitions stand"
        );
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn values_of_each_kind_are_forwarded_as_json() {
    let at = installation("framed");
    let registry = registry();
    let (mapped, outbox) = (at.create_intake("mapped", 1), at.create_intake("outbox", 1));
    at.kcat_bytes(
        &mapped,
        &["-H", "content-type=application/avro"],
        &avro("e1"),
    );
    at.kcat_bytes(&mapped, &[], &as_json("e2"));
    at.kcat_bytes(&mapped, &[], &protobuf("e3"));
    at.kcat_bytes(&mapped, &[], &as_json("e4")[5..]);
    let headers = [
        "-k",
        "order-1",
        "-H",
        "id=e5",
        "-H",
        "type=order.paid",
        "-H",
        "tenant=acme",
    ];
    at.kcat_bytes(&outbox, &headers, &avro("x"));
    let mut sources = json(&[&mapped]);
    sources.push(named(
        &[&outbox],
        DecodeRule::Outbox(OutboxMapping::default()),
    ));
    let (router, _) = at.route_framed(sources, &registry.url());
    let mut found = at.read_some(at.topics.deliveries(), 5);
    assert!(router.stop(PATIENCE));
    found.sort_by_key(|record| text(record, "ce_id").unwrap().to_owned());
    let data: Vec<_> = found
        .iter()
        .map(|record| String::from_utf8(record.value.as_ref().unwrap().to_vec()).unwrap())
        .collect();
    assert_eq!(
        data,
        [
            r#"{"id":"e1","type":"payment.captured","shop":"acme","amount":"12.30"}"#,
            r#"{"id":"e2","shop":"acme","type":"payment.captured"}"#,
            r#"{"id":"e3","type":"payment.captured","shop":"acme","amount":"5"}"#,
            r#"{"id":"e4","shop":"acme","type":"payment.captured"}"#,
            r#"{"id":"x","type":"payment.captured","shop":"acme","amount":"12.30"}"#,
        ]
    );
    for record in &found {
        assert_eq!(text(record, "content-type"), Some("application/json"));
    }
    assert_eq!(text(&found[4], "ce_type"), Some("order.paid"));
    assert_eq!(text(&found[4], "ce_partitionkey"), Some("order-1"));
    assert_eq!(
        registry.requests().len(),
        3,
        "each schema is asked for once"
    );
}

#[test]
fn with_the_registry_away_known_schemas_go_on_and_others_stand_in_their_order() {
    let at = installation("away");
    let mut registry = registry();
    let intake = at.create_intake("", 3);
    at.kcat_bytes(&intake, &["-p", "0"], &as_json("e0"));
    let (router, metrics) = at.route_framed(json(&[&intake]), &registry.url());
    at.read_some(at.topics.deliveries(), 1);
    registry.go_away();

    let known = |partition: &str, id: &str| {
        at.kcat_bytes(&intake, &["-p", partition], &as_json(id));
    };
    at.kcat_bytes(&intake, &["-p", "1"], &avro("e10"));
    for id in ["e11", "e12"] {
        known("1", id);
    }
    wait_until_standing(&metrics, 1);
    at.kcat_bytes(&intake, &["-p", "1"], &protobuf("e13"));
    known("1", "e14");
    for id in ["e20", "e21", "e22"] {
        known("0", id);
    }
    at.kcat_bytes(&intake, &["-p", "2"], &as_json("e30")[5..]);
    let seen = at.read_some(at.topics.deliveries(), 5);
    let mut seen = ids(&seen);
    seen.sort_unstable();
    assert_eq!(seen, ["e0", "e20", "e21", "e22", "e30"]);

    registry.come_back();
    let all = at.read_some(at.topics.deliveries(), 10);
    let stood: Vec<_> = ids(&all)
        .into_iter()
        .filter(|id| id.starts_with("e1"))
        .collect();
    assert_eq!(stood, ["e10", "e11", "e12", "e13", "e14"]);
    wait_until_standing(&metrics, 0);
    assert!(router.stop(PATIENCE));
    assert_eq!(at.read_all(at.topics.deliveries()).len(), 10, "none twice");
    assert_eq!(at.read_all(at.topics.dead_letters()).len(), 0);
}

#[test]
fn partitions_that_stand_move_and_a_router_with_some_stops_at_once() {
    let at = installation("moves");
    let mut registry = registry();
    registry.go_away();
    let intake = at.create_intake("", 4);
    for partition in ["0", "1", "2", "3"] {
        at.kcat_bytes(&intake, &["-p", partition], &avro(&format!("e{partition}")));
        at.kcat_bytes(
            &intake,
            &["-p", partition],
            &as_json(&format!("f{partition}")),
        );
    }
    let start = || at.route_framed(json(&[&intake]), &registry.url());
    let (first, metrics) = start();
    wait_until_standing(&metrics, 4);
    let (second, of_second) = start();
    wait_until_standing(&of_second, 2);
    wait_until_standing(&metrics, 2);
    let told = Instant::now();
    assert!(second.stop(PATIENCE));
    assert!(
        told.elapsed() < PATIENCE / 2,
        "it waited for what it had not begun"
    );
    wait_until_standing(&metrics, 4);
    registry.come_back();
    let all = at.read_some(at.topics.deliveries(), 8);
    let mut all = ids(&all);
    for partition in 0..4 {
        let place = |id: String| all.iter().position(|found| *found == id);
        assert!(place(format!("e{partition}")) < place(format!("f{partition}")));
    }
    assert!(first.stop(PATIENCE));
    all.sort_unstable();
    assert_eq!(all, ["e0", "e1", "e2", "e3", "f0", "f1", "f2", "f3"]);
    assert_eq!(at.read_all(at.topics.deliveries()).len(), 8, "none twice");
}

#[test]
fn what_cannot_be_read_becomes_a_dead_letter_as_it_was() {
    let at = installation("unread");
    let registry = registry();
    registry.keep(9, "THRIFT", "", &value!([]));
    let intake = at.create_intake("", 3);
    let broken = avro("e1")[..9].to_vec();
    at.kcat_bytes(&intake, &["-p", "0"], &broken);
    at.kcat_bytes(&intake, &["-p", "1"], &framed(9, b"x"));
    at.kcat_bytes(&intake, &["-p", "2"], &framed(UNHEARD_OF, b"x"));
    at.kcat_bytes(&intake, &["-p", "2"], &as_json("e2"));
    let (router, _) = at.route_framed(json(&[&intake]), &registry.url());
    let letters = at.read_some(at.topics.dead_letters(), 3);
    at.read_some(at.topics.deliveries(), 1);
    assert!(router.stop(PATIENCE));
    let expected = [
        (broken, "too early"),
        (framed(9, b"x"), "THRIFT"),
        (framed(UNHEARD_OF, b"x"), "40403"),
    ];
    for (bytes, why) in expected {
        let letter = letters.iter().find(|l| l.value.as_deref() == Some(&bytes));
        let letter = letter.unwrap();
        assert_eq!(text(letter, "pr_reason"), Some("undecodable"));
        let message = text(letter, "pr_message").unwrap();
        assert!(message.contains(why), "{message}");
    }
}

#[test]
fn without_a_registry_a_framed_value_says_what_is_missing() {
    let at = installation("unconfigured");
    let intake = at.create_intake("", 1);
    at.kcat_bytes(&intake, &[], &avro("e1"));
    let (router, _) = at.route(json(&[&intake]));
    let letters = at.read_some(at.topics.dead_letters(), 1);
    assert!(router.stop(PATIENCE));
    let message = text(&letters[0], "pr_message").unwrap();
    assert!(message.contains("schema_registry.url"), "{message}");
}
