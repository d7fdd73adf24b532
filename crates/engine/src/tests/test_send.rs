//! Tests of an endpoint: one attempt at most, and nothing left behind.

use std::time::Duration;

use postrider_domain::{
    DeliveryId, DiscardReason, EndpointState, ErrorKind, Lane, Ordering, Outcome, RateLimit,
};

use super::harness::{Answer, Harness, SLICE};
use crate::slice::HOLD_MAX;

const SECOND: Duration = Duration::from_secs(1);
const QUICK: Duration = Duration::from_millis(10);
const FAILED: Outcome = Outcome::Discarded(DiscardReason::TestFailed);
const TOO_SOON: Outcome = Outcome::Discarded(DiscardReason::TestTooSoon);

/// What the records of a delivery say: the outcome, and whether there was a request.
fn outcomes(world: &Harness, id: DeliveryId) -> Vec<(Outcome, bool)> {
    let of = world.attempts.iter().filter(|a| a.delivery.id == id);
    of.map(|a| (a.outcome, a.report.is_some())).collect()
}

fn leaves_nothing_behind(world: &Harness) {
    assert_eq!(world.dead, []);
    assert_eq!(world.retries, []);
    assert_eq!(world.log_len(Lane::Backlog), 0);
    assert!(world.all_committed());
}

#[test]
fn a_test_that_is_taken_is_delivered() {
    let mut world = Harness::owning();
    world.endpoint("a", |_| {});
    let id = world.test("a");
    world.run_for(2 * SECOND);
    assert_eq!(outcomes(&world, id), [(Outcome::Delivered, true)]);
    leaves_nothing_behind(&world);
}

#[test]
fn a_test_that_fails_is_not_tried_again() {
    for answer in [
        Answer::Status(500, QUICK),
        Answer::Status(429, QUICK),
        Answer::Status(410, QUICK),
        Answer::Fails(ErrorKind::TimeoutHead, 15 * SECOND),
        Answer::Fails(ErrorKind::DeniedUrl, QUICK),
    ] {
        let mut world = Harness::owning();
        world.endpoint("a", |_| {});
        world.answer = Box::new(move |_| answer);
        let id = world.test("a");
        world.run_for(200 * SECOND);
        assert_eq!(world.sent.len(), 1);
        assert_eq!(outcomes(&world, id), [(FAILED, true)]);
        leaves_nothing_behind(&world);
    }
}

#[test]
fn a_test_passes_a_backlog_and_waits_for_no_key() {
    let mut world = Harness::owning();
    world.endpoint("a", |e| e.ordering = Ordering::Endpoint);
    world.answer = Box::new(|_| Answer::Status(500, QUICK));
    for _ in 0..3 {
        world.deliver("a");
    }
    world.run_for(20 * SECOND);
    assert!(world.log_len(Lane::Backlog) > 0, "its order is there");
    world.answer = Box::new(|_| Answer::Status(200, QUICK));
    let id = world.test("a");
    world.run_for(SECOND);
    assert_eq!(outcomes(&world, id), [(Outcome::Delivered, true)]);
}

#[test]
fn a_test_of_an_endpoint_that_takes_nothing_ends_without_a_request() {
    let mut world = Harness::owning();
    world.endpoint("paused", |e| e.state = EndpointState::Paused);
    world.endpoint("off", |e| e.state = EndpointState::Disabled);
    let tests = ["paused", "off"].map(|id| world.test(id));
    world.run_for(2 * SECOND);
    for id in tests {
        assert_eq!(outcomes(&world, id), [(FAILED, false)]);
    }
    leaves_nothing_behind(&world);
}

#[test]
fn a_test_waits_for_the_rate_limit_as_long_as_a_lane_may() {
    let mut world = Harness::owning();
    world.endpoint("a", |e| {
        e.rate_limit = Some(RateLimit {
            attempts: 1,
            per: Duration::from_secs(3_600),
            smooth: false,
        });
    });
    world.deliver("a");
    world.run_for(5 * SECOND);
    let id = world.test("a");
    world.run_for(HOLD_MAX - 5 * SECOND);
    assert_eq!(outcomes(&world, id), []);
    world.run_for(10 * SECOND);
    assert_eq!(outcomes(&world, id), [(FAILED, false)]);
    assert_eq!(world.sent.len(), 1, "the limit holds for tests too");
    leaves_nothing_behind(&world);
}

#[test]
fn tests_of_an_endpoint_are_ten_seconds_apart() {
    let mut world = Harness::owning();
    world.endpoint("a", |_| {});
    world.endpoint("b", |_| {});
    let first = world.test("a");
    let other = world.test("b");
    world.run_for(5 * SECOND);
    let soon = world.test("a");
    world.run_for(6 * SECOND);
    let later = world.test("a");
    world.run_for(2 * SECOND);
    for id in [first, other, later] {
        assert_eq!(outcomes(&world, id), [(Outcome::Delivered, true)]);
    }
    assert_eq!(outcomes(&world, soon), [(TOO_SOON, false)]);
    leaves_nothing_behind(&world);
}

#[test]
fn a_test_that_nobody_waits_for_any_more_is_not_sent() {
    let mut world = Harness::new();
    world.endpoint("a", |_| {});
    let id = world.test("a");
    world.run_for(130 * SECOND);
    world.assign([SLICE]);
    world.run_for(10 * SECOND);
    assert_eq!(outcomes(&world, id), [(FAILED, false)]);
    assert_eq!(world.sent.len(), 0);
    leaves_nothing_behind(&world);
}
