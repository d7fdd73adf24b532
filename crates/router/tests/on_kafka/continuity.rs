//! Nothing is lost when routers stop, start, share, lose their broker, or start before their topic
//! exists.

use std::collections::HashSet;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{Installation, PATIENCE, distinct, json, mapping, named, text};
use postrider_kafka::GroupProtocol;
use postrider_router::{Router, RouterHandle, Source, SourceTopics};
use postrider_telemetry::Metrics;
use postrider_test_support::Broker;
use postrider_wire::DecodeRule;

fn installation(name: &str) -> Installation {
    let at = Installation::new(Broker::shared().bootstrap(), name);
    at.endpoint("ep_a", "acme", "[]");
    at.endpoint("ep_b", "acme", "[]");
    at
}

#[test]
fn a_second_run_goes_on_where_the_first_stopped() {
    let at = installation("restart");
    let intake = at.create_intake("in", 4);
    at.kcat_json(&intake, 0..500);
    let (first, _) = at.route(json(&[&intake]));
    at.read_some(at.topics.deliveries(), 300);
    assert!(first.stop(PATIENCE), "in the middle of the work");
    at.kcat_json(&intake, 500..1_000);
    let (second, _) = at.route(json(&[&intake]));
    at.read_distinct(2_000);
    assert!(second.stop(PATIENCE));
    assert_eq!(
        at.read_all(at.topics.deliveries()).len(),
        2_000,
        "a clean stop repeats nothing"
    );
}

#[test]
fn a_dropped_router_is_repeated_with_the_same_ids() {
    let at = installation("crash");
    let intake = at.create_intake("in", 4);
    at.kcat_json(&intake, 0..3_000);
    let (first, _) = at.route(json(&[&intake]));
    at.read_some(at.topics.deliveries(), 200);
    drop(first);
    let (second, _) = at.route(json(&[&intake]));
    let delivered = at.read_distinct(6_000);
    assert!(second.stop(PATIENCE));
    assert_eq!(distinct(&delivered), 6_000);
    let pair = |r| {
        (
            text(r, "ce_id").unwrap().to_owned(),
            text(r, "pr_endpoint").unwrap().to_owned(),
        )
    };
    let pairs: HashSet<_> = delivered.iter().map(pair).collect();
    assert_eq!(
        pairs.len(),
        6_000,
        "every event for every endpoint, one id each"
    );
}

#[test]
fn a_topic_created_after_the_start_is_read() {
    let at = installation("later");
    let (named_topic, matched) = (at.intake("named"), at.intake("matched.1"));
    let sources = vec![
        named(&[&named_topic], DecodeRule::Json(mapping())),
        Source {
            topics: SourceTopics::Pattern(format!("{}matched\\..*", at.intake(""))),
            rule: DecodeRule::Json(mapping()),
        },
    ];
    let there = at.create_intake("matched.0", 1);
    at.kcat_json(&there, 0..1);
    let (router, _) = at.route(sources);
    at.read_distinct(2);
    at.create_intake("named", 2);
    at.create_intake("matched.1", 2);
    at.kcat_json(&named_topic, 1..11);
    at.kcat_json(&matched, 11..21);
    let delivered = at.read_distinct(42);
    assert!(router.stop(PATIENCE));
    assert_eq!(delivered.len(), 42);
}

#[test]
fn two_routers_share_and_one_leaves_without_loss_or_repetition() {
    share(GroupProtocol::Consumer);
}

#[test]
fn the_classic_protocol_shares_as_well() {
    share(GroupProtocol::Classic);
}

fn share(protocol: GroupProtocol) {
    let at = installation("share");
    let intake = at.create_intake("in", 8);
    let start = || {
        let metrics = Metrics::new("test");
        let mut settings = at.settings(json(&[&intake]));
        settings.protocol = protocol;
        (Router::start(settings, metrics.clone()).unwrap(), metrics)
    };
    let (first, _) = start();
    at.kcat_json(&intake, 0..100);
    at.read_distinct(200);
    let (second, second_metrics) = start();
    // Partitions move while events come; the second has some once it has routed something.
    let mut next = 100;
    while !second_metrics.render().lines().any(|line| {
        line.strip_prefix("postrider_deliveries_written_total ")
            .is_some_and(|n| n != "0")
    }) {
        at.kcat_json(&intake, next..next + 100);
        next += 100;
        assert!(next < 100_000, "the second router gets nothing");
    }
    assert!(first.stop(PATIENCE));
    at.kcat_json(&intake, next..next + 500);
    next += 500;
    at.read_distinct(2 * next);
    assert!(second.stop(PATIENCE));
    assert_eq!(
        at.read_all(at.topics.deliveries()).len(),
        2 * next,
        "nothing twice either"
    );
}

#[test]
fn writes_into_a_topic_that_is_not_there_yet_are_made_again() {
    let at = Installation::without_topics(Broker::shared().bootstrap(), "absent");
    at.create(&["endpoints", "dead-letters"], &[]);
    at.endpoint("ep_a", "acme", "[]");
    let intake = at.create_intake("in", 2);
    at.kcat_json(&intake, 0..1_000);
    let (router, metrics) = with_properties(&at, &intake, &["topic.metadata.propagation.max.ms"]);
    let deadline = Instant::now() + PATIENCE;
    while !has_failed_writes(&metrics) {
        assert!(Instant::now() < deadline, "no write failed");
        thread::park_timeout(Duration::from_millis(20));
    }
    at.create(&["deliveries"], &[]);
    let delivered = at.read_distinct(1_000);
    assert!(router.stop(PATIENCE));
    assert_eq!(distinct(&delivered), 1_000);
}

/// More than is routed before the broker is frozen.
const EVENTS: usize = 60_000;

#[test]
fn the_order_of_an_intake_partition_outlasts_an_outage() {
    let mut broker = Broker::own();
    let at = Installation::new(broker.bootstrap(), "outage");
    at.endpoint("ep_a", "acme", "[]");
    let intake = at.create_intake("in", 1);
    at.kcat_json(&intake, 0..EVENTS);
    // Were a write given up because a user says so, it would be made again behind younger ones.
    let impatience = ["socket.timeout.ms", "message.timeout.ms"];
    let (router, metrics) = with_properties(&at, &intake, &impatience);
    at.read_some(at.topics.deliveries(), 100);
    broker.freeze();
    // The outage lasts for several times what the user's properties allow.
    let thaw_at = Instant::now() + Duration::from_secs(5);
    while Instant::now() < thaw_at {
        thread::park_timeout(Duration::from_millis(100));
    }
    broker.thaw();
    let delivered = at.read_distinct(EVENTS);
    assert!(router.stop(PATIENCE));
    assert_eq!(distinct(&delivered), EVENTS);
    let ids = delivered
        .iter()
        .map(|record| text(record, "ce_id").unwrap());
    let mut seen = HashSet::new();
    for (place, id) in ids.filter(|id| seen.insert(*id)).enumerate() {
        assert_eq!(id, format!("evt_{place}"), "for the first time");
    }
    assert!(!has_failed_writes(&metrics));
}

#[test]
fn a_stop_keeps_its_time_while_nothing_can_be_written() {
    let mut broker = Broker::own();
    let at = Installation::new(broker.bootstrap(), "stop");
    at.endpoint("ep_a", "acme", "[]");
    let intake = at.create_intake("in", 2);
    at.kcat_json(&intake, 0..EVENTS);
    let (router, _) = at.route(json(&[&intake]));
    at.read_some(at.topics.deliveries(), 100);
    broker.freeze();
    let told = Instant::now();
    assert!(router.stop(Duration::from_secs(2)), "it had not failed");
    let took = told.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    broker.thaw();
    let (next, _) = at.route(json(&[&intake]));
    assert_eq!(distinct(&at.read_distinct(EVENTS)), EVENTS);
    assert!(next.stop(PATIENCE));
}

/// A router whose client has these set to one second.
fn with_properties(at: &Installation, intake: &str, names: &[&str]) -> (RouterHandle, Metrics) {
    let mut settings = at.settings(json(&[intake]));
    for name in names {
        let property = ((*name).to_owned(), "1000".to_owned());
        settings.client.properties.push(property);
    }
    let metrics = Metrics::new("test");
    (Router::start(settings, metrics.clone()).unwrap(), metrics)
}

fn has_failed_writes(metrics: &Metrics) -> bool {
    let failed = r#"write_failures_total{topic="deliveries"}"#;
    metrics.render().contains(failed)
}
