//! Endpoints that do not take their deliveries now: one copy each, in order, at no neighbour's cost.

use std::time::Duration;

use postrider_domain::{DeadLetterReason, EndpointState, ErrorKind, Lane, RetryPolicy};

use super::harness::{Answer, Harness, SLICE, retry};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const QUICK: Duration = Duration::from_millis(10);

fn backlogged(world: &Harness) -> usize {
    world.log_len(Lane::Backlog)
}

#[test]
fn deliveries_of_a_paused_endpoint_wait_in_the_backlog_at_one_copy_each() {
    let mut world = Harness::owning();
    world.endpoint("a", |e| e.state = EndpointState::Paused);
    for _ in 0..500 {
        world.deliver("a");
        world.run_for(QUICK);
    }
    world.run_for(20 * HOUR);
    assert_eq!((backlogged(&world), world.sent.len()), (500, 0));
    assert!(world.retries.is_empty());
    assert!(world.all_committed(), "their source is free");
    world.endpoint("a", |e| e.state = EndpointState::Active);
    world.run_for(10 * SECOND);
    assert_eq!(world.sent.len(), 500);
    assert!(
        world.sent.is_sorted_by_key(|sent| sent.delivery),
        "in order"
    );
    assert_eq!(backlogged(&world), 500, "none was copied again");
    assert!(world.remembers_nothing());
}

#[test]
fn what_comes_while_a_backlog_drains_queues_up_behind_it() {
    let mut world = Harness::owning();
    world.endpoint("a", |e| e.state = EndpointState::Paused);
    for _ in 0..100 {
        world.deliver("a");
    }
    world.run_for(SECOND);
    world.endpoint("a", |e| {
        e.state = EndpointState::Active;
        e.concurrency = Some(1);
    });
    for _ in 0..100 {
        world.run_for(QUICK);
        world.deliver("a");
    }
    world.run_for(60 * SECOND);
    assert_eq!(world.sent.len(), 200);
    assert!(world.sent.is_sorted_by_key(|sent| sent.delivery));
    assert!(world.all_committed() && world.remembers_nothing());
    let appended = backlogged(&world);
    world.deliver("a");
    world.run_for(SECOND);
    assert_eq!(
        backlogged(&world),
        appended,
        "past its end they go directly"
    );
}

#[test]
fn one_busy_endpoint_delays_no_other() {
    let mut world = Harness::owning();
    world.endpoint("hangs", |_| {});
    world.endpoint("well", |_| {});
    world.answer = Box::new(|sent| match sent.endpoint.as_str() {
        "hangs" => Answer::Fails(ErrorKind::TimeoutHead, 15 * SECOND),
        _ => Answer::Status(200, QUICK),
    });
    for _ in 0..2_000 {
        world.deliver("hangs");
    }
    world.run_for(SECOND);
    let id = world.deliver("well");
    let asked_at = world.now;
    world.run_for(SECOND);
    let sent = world.sent.iter().find(|sent| sent.delivery == id);
    let waited = sent.expect("it was sent").at.since(asked_at);
    assert!(waited < QUICK, "{waited:?}");
}

#[test]
fn a_backlog_survives_hand_over_and_crash() {
    let mut world = Harness::owning();
    world.endpoint("a", |e| e.state = EndpointState::Paused);
    for _ in 0..300 {
        world.deliver("a");
    }
    world.run_for(SECOND);
    world.revoke([SLICE]);
    world.run_for(SECOND);
    assert_eq!(world.hand_backs, 1);
    world.assign([SLICE]);
    world.run_for(SECOND);
    world.crash([SLICE]);
    world.run_for(SECOND);
    world.endpoint("a", |e| e.state = EndpointState::Active);
    world.run_for(10 * SECOND);
    assert_eq!(world.sent.len(), 300, "each once");
    assert_eq!(backlogged(&world), 300);
    assert!(world.remembers_nothing());
}

#[test]
fn a_crash_while_it_drains_repeats_what_was_not_yet_remembered() {
    let mut world = Harness::owning();
    world.endpoint("a", |e| {
        e.state = EndpointState::Paused;
        e.concurrency = Some(1);
    });
    for _ in 0..1_000 {
        world.deliver("a");
    }
    world.run_for(SECOND);
    world.endpoint("a", |e| e.state = EndpointState::Active);
    world.run_for(5 * SECOND);
    let before = world.sent.len();
    assert!((300..900).contains(&before), "{before}: it drains");
    world.crash([SLICE]);
    world.run_for(30 * SECOND);
    let repeated = world.sent.len() - 1_000;
    assert!(repeated <= 105, "{repeated}: one second of work");
    assert!(world.remembers_nothing());
}

#[test]
fn a_slow_endpoint_does_not_hold_up_another_that_drains_beside_it() {
    let mut world = Harness::owning();
    for name in ["slow", "fast"] {
        world.endpoint(name, |e| e.state = EndpointState::Paused);
    }
    world.answer = Box::new(|sent| match sent.endpoint.as_str() {
        "slow" => Answer::Status(200, SECOND),
        _ => Answer::Status(200, QUICK),
    });
    for _ in 0..2_000 {
        world.deliver("slow");
        world.deliver("fast");
    }
    world.run_for(10 * SECOND);
    for name in ["slow", "fast"] {
        world.endpoint(name, |e| e.state = EndpointState::Active);
    }
    world.run_for(20 * SECOND);
    let of = |world: &Harness, name: &str| {
        let sent = world
            .sent
            .iter()
            .filter(|sent| sent.endpoint.as_str() == name);
        sent.count()
    };
    assert_eq!(of(&world, "fast"), 2_000);
    assert!(of(&world, "slow") < 200);
    world.run_for(600 * SECOND);
    assert_eq!(of(&world, "slow"), 2_000);
    assert!(world.remembers_nothing());
}

#[test]
fn a_backlog_of_a_deleted_endpoint_is_discarded_by_name() {
    let mut world = Harness::owning();
    let a = world.endpoint("a", |e| e.state = EndpointState::Paused);
    for _ in 0..20 {
        world.deliver("a");
    }
    world.run_for(SECOND);
    world.delete_endpoint(&a);
    world.run_for(20 * SECOND);
    let discarded = world
        .attempts
        .iter()
        .filter(|attempt| attempt.outcome.reason() == Some("endpoint_deleted"));
    assert_eq!(discarded.count(), 20);
    assert!(world.remembers_nothing());
}

#[test]
fn what_waits_past_its_window_is_a_dead_letter_even_while_paused() {
    let mut world = Harness::owning();
    world.endpoint("a", |e| {
        e.state = EndpointState::Paused;
        e.retry = retry(&[]).map(|policy| RetryPolicy {
            window: 2 * HOUR,
            ..policy
        });
    });
    let first = world.deliver("a");
    world.run_for(HOUR);
    let second = world.deliver("a");
    world.run_for(HOUR + 2 * SECOND);
    assert_eq!(world.dead, [(first, DeadLetterReason::WindowPassed, 0)]);
    world.run_for(HOUR);
    assert_eq!(
        world.dead[1..],
        [(second, DeadLetterReason::WindowPassed, 0)]
    );
    assert!(world.all_committed() && world.remembers_nothing());
}

#[test]
fn a_dead_endpoint_costs_one_copy_per_delivery_and_few_attempts() {
    let mut world = Harness::owning();
    world.endpoint("a", |e| e.retry = retry(&[30; 100]));
    world.answer = Box::new(|_| Answer::Status(500, QUICK));
    for _ in 0..3_000 {
        world.deliver("a");
        world.run_for(QUICK);
    }
    world.run_for(HOUR);
    let copies = backlogged(&world);
    assert!(copies <= 3_000 + world.sent.len(), "{copies} copies");
    assert!(world.sent.len() < 200, "{} attempts", world.sent.len());
    world.answer = Box::new(|_| Answer::Status(200, QUICK));
    world.run_for(300 * SECOND);
    let ends = world.sent.iter().filter(|sent| sent.taken).count();
    assert_eq!(ends, 3_000);
    assert!(world.all_committed() && world.remembers_nothing());
}
