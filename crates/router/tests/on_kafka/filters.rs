//! Endpoints' filters: who gets an event, what becomes of one that cannot be decided on, and that the
//! offset moves all the same.

use std::time::{Duration, Instant};

use postrider_domain::Record;
use postrider_kafka::GroupProtocol;
use postrider_kafka::intake::{Intake, IntakeEvent, IntakeSettings};
use postrider_test_support::Broker;

use crate::common::{Installation, PATIENCE, json, text};

fn installation(name: &str) -> Installation {
    Installation::new(Broker::shared().bootstrap(), name)
}

fn filtered(at: &Installation, id: &str, filter: &str) {
    at.endpoint_with(id, "acme", &format!("\"filter\":{filter:?}"));
}

fn payment(at: &Installation, topic: &str, id: &str, amount: &str) {
    let event =
        format!(r#"{{"id":"{id}","type":"payment.captured","shop":"acme","amount":{amount}}}"#);
    at.kcat_bytes(topic, &[], event.as_bytes());
}

/// Endpoint and event of each.
fn pairs(records: &[Record]) -> Vec<String> {
    let pair = |record: &Record| {
        let endpoint = String::from_utf8_lossy(record.key.as_deref().unwrap()).into_owned();
        format!("{endpoint} {}", text(record, "ce_id").unwrap())
    };
    let mut pairs: Vec<String> = records.iter().map(pair).collect();
    pairs.sort();
    pairs
}

/// The offset at which the router's group goes on reading, once there is something to read.
fn next_offset(at: &Installation, topic: &str) -> i64 {
    let settings = IntakeSettings {
        group: at.topics.router_group().to_string(),
        topics: vec![topic.to_owned()],
        patterns: Vec::new(),
        protocol: GroupProtocol::Consumer,
    };
    let mut intake = Intake::subscribe(&at.client, settings).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let offset = loop {
        assert!(Instant::now() < deadline, "nothing to read");
        if let Some(IntakeEvent::Record(record)) = intake.poll(Duration::from_millis(100)) {
            break record.origin.offset;
        }
    };
    assert!(intake.close(PATIENCE));
    offset
}

#[test]
fn an_event_goes_to_those_whose_filter_it_matches_and_what_is_undecided_is_a_dead_letter() {
    let at = installation("filters");
    at.endpoint("ep_all", "acme", "[]");
    filtered(&at, "ep_large", "data.amount > 1000");
    filtered(&at, "ep_typed", "type == 'payment.captured' && id != 'e3'");
    filtered(&at, "ep_other", "data.currency == 'EUR'");
    let intake = at.create_intake("in", 1);
    payment(&at, &intake, "e1", "1500");
    payment(&at, &intake, "e2", "999");
    payment(&at, &intake, "e3", "\"1500\"");

    let (router, metrics) = at.route(json(&[&intake]));
    let delivered = at.read_some(at.topics.deliveries(), 6);
    let letters = at.read_some(at.topics.dead_letters(), 1);
    assert!(router.stop(PATIENCE), "everything is settled");

    let expected = [
        "ep_all e1",
        "ep_all e2",
        "ep_all e3",
        "ep_large e1",
        "ep_typed e1",
        "ep_typed e2",
    ];
    assert_eq!(pairs(&delivered), expected);
    assert_eq!(pairs(&letters), ["ep_large e3"]);
    let letter = &letters[0];
    assert_eq!(text(letter, "pr_reason"), Some("filter_failed"));
    let said = text(letter, "pr_message").unwrap();
    assert!(said.contains("'_>_' applied to '(string, int)'"), "{said}");
    let endpoint = "ep_large".parse().unwrap();
    assert_eq!(letter.origin.partition, at.partition_of(&endpoint));
    assert_eq!(text(letter, "pr_origin"), Some(&*format!("{intake}/0/2")));
    assert!(letter.value.as_deref().unwrap().ends_with(b"\"1500\"}"));
    let rendered = metrics.render();
    for line in [
        "postrider_filter_decisions_total{decision=\"matched\"} 3\n",
        "postrider_filter_decisions_total{decision=\"differed\"} 5\n",
        "postrider_filter_decisions_total{decision=\"undecided\"} 1\n",
        "postrider_dead_letters_total{reason=\"filter_failed\"} 1\n",
        "postrider_events_unmatched_total 0\n",
    ] {
        assert!(rendered.contains(line), "{line}{rendered}");
    }
}

#[test]
fn when_no_filter_matches_the_offset_is_committed_all_the_same() {
    let at = installation("nobody");
    filtered(&at, "ep_1", "data.amount > 1000");
    filtered(&at, "ep_2", "data.currency == 'EUR'");
    let intake = at.create_intake("in", 1);
    for n in 0..5 {
        payment(&at, &intake, &format!("e{n}"), "1");
    }
    let (router, metrics) = at.route(json(&[&intake]));
    let deadline = Instant::now() + PATIENCE;
    while !metrics
        .render()
        .contains("postrider_events_unmatched_total 5\n")
    {
        assert!(Instant::now() < deadline, "{}", metrics.render());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(router.stop(PATIENCE), "everything is settled");
    payment(&at, &intake, "e5", "1");
    assert_eq!(next_offset(&at, &intake), 5);
    assert!(at.read_all(at.topics.deliveries()).is_empty());
    assert!(at.read_all(at.topics.dead_letters()).is_empty());
}

#[test]
fn filters_that_take_too_long_hold_up_their_event_and_lose_nothing() {
    const ENDPOINTS: usize = 40;
    let at = installation("slow");
    for n in 0..ENDPOINTS {
        let filter = format!("data.l.all(x, data.l.all(y, x == y && {n} == {n}))");
        filtered(&at, &format!("ep_{n:02}"), &filter);
    }
    at.endpoint("ep_plain", "acme", "[]");
    let intake = at.create_intake("in", 1);
    let list = vec!["1"; 2_000].join(",");
    let event = format!(r#"{{"id":"slow","type":"t","shop":"acme","l":[{list}]}}"#);
    at.kcat_bytes(&intake, &[], event.as_bytes());
    payment(&at, &intake, "next", "1");
    let (router, _) = at.route(json(&[&intake]));
    let letters = at.read_some(at.topics.dead_letters(), ENDPOINTS);
    let delivered = at.read_some(at.topics.deliveries(), 2);
    assert!(router.stop(PATIENCE), "everything is settled");
    assert_eq!(pairs(&delivered), ["ep_plain next", "ep_plain slow"]);
    for letter in &letters {
        assert_eq!(text(letter, "pr_reason"), Some("filter_failed"));
        let said = text(letter, "pr_message").unwrap();
        assert!(said.contains("takes too long"), "{said}");
    }
    assert_eq!(at.read_all(at.topics.dead_letters()).len(), ENDPOINTS);
}

#[test]
fn a_record_whose_filter_is_none_is_not_used_and_the_one_before_it_stays() {
    let at = installation("badfilter");
    filtered(&at, "ep_1", "data.amount > 1000");
    filtered(&at, "ep_1", "data.amount >");
    let intake = at.create_intake("in", 1);
    payment(&at, &intake, "e1", "1500");
    payment(&at, &intake, "e2", "1");
    let (router, metrics) = at.route(json(&[&intake]));
    let delivered = at.read_some(at.topics.deliveries(), 1);
    assert!(router.stop(PATIENCE), "everything is settled");
    assert_eq!(pairs(&delivered), ["ep_1 e1"]);
    let line = "postrider_endpoint_records_ignored_total{reason=\"unreadable\"} 1\n";
    assert!(metrics.render().contains(line));
}
