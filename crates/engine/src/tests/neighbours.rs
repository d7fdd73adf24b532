//! One endpoint under pressure: what its neighbours, the log and the worker feel of it.

use std::time::Duration;

use postrider_domain::{DeadLetterReason, EndpointState, Lane, Ordering, RateLimit, RetryPolicy};

use super::harness::{Answer, Harness, SLICE, Sent, retry};
use crate::io::{Epoch, Observation, StateEntry};
use crate::offsets::HOLES_MAX;

const SECOND: Duration = Duration::from_secs(1);
const QUICK: Duration = Duration::from_millis(10);

fn backlog_reads(world: &Harness) -> usize {
    let of_backlog = |(lane, _): &&(Lane, Option<i64>)| *lane == Lane::Backlog;
    world.read_from.iter().filter(of_backlog).count()
}

/// How long a delivery waits that comes now for an endpoint at which all is well.
fn wait_of_a_well_one(world: &mut Harness) -> Duration {
    let (id, came) = (world.deliver("well"), world.now);
    world.run_for(60 * SECOND);
    let first = world.sent.iter().find(|sent| sent.delivery == id);
    first.expect("it was sent").at.since(came)
}

/// As many heads as may be left in the log fail, and one more delivery waits behind them.
fn as_many_left_as_may_be() -> Harness {
    let mut world = Harness::owning();
    world.endpoint("a", |e| {
        e.ordering = Ordering::Key;
        e.retry = retry(&[3_600]);
    });
    // A refusal of each request: the receiver is there, and no breaker opens.
    world.answer = Box::new(|_| Answer::Status(422, QUICK));
    for n in 0..=HOLES_MAX {
        world.deliver_keyed("a", &format!("k{n}"));
        world.run_for(QUICK);
    }
    world.run_for(60 * SECOND);
    assert_eq!(world.sent.len(), HOLES_MAX);
    world
}

#[test]
fn who_may_leave_no_more_behind_is_not_read_in_a_loop() {
    let mut world = as_many_left_as_may_be();
    let before = backlog_reads(&world);
    world.run_for(600 * SECOND);
    assert_eq!(backlog_reads(&world), before, "nothing changed");
    world.answer = Box::new(|_| Answer::Status(200, QUICK));
    world.run_for(3_600 * SECOND);
    assert!(world.every_key_is_through());
    world.assert_ordered();
    assert!(world.all_committed() && world.remembers_nothing());
}

#[test]
fn who_may_leave_no_more_behind_does_not_keep_a_backlog_from_another() {
    let mut world = as_many_left_as_may_be();
    world.endpoint("b", |e| e.ordering = Ordering::Endpoint);
    world.answer = Box::new(|_| Answer::Status(200, QUICK));
    let (id, came) = (world.deliver("b"), world.now);
    world.run_for(SECOND);
    let sent = world.sent.iter().find(|sent| sent.delivery == id);
    assert!(sent.expect("it was sent").at.since(came) < Duration::from_millis(50));
}

#[test]
fn failed_heads_of_an_endpoint_that_takes_nothing_leave_memory() {
    let mut world = Harness::owning();
    world.endpoint("a", |e| {
        e.ordering = Ordering::Key;
        e.retry = retry(&[5, 60]);
    });
    world.answer = Box::new(|_| Answer::Status(422, QUICK));
    for n in 0..64 {
        world.deliver_keyed("a", &format!("k{n}"));
        world.deliver_keyed("a", &format!("k{n}"));
    }
    world.run_for(2 * SECOND);
    let failed = world.sent.len();
    assert!(failed >= 16, "{failed} heads wait in memory");
    world.endpoint("a", |e| e.state = EndpointState::Paused);
    world.run_for(20 * SECOND);
    // The world's own records of attempts hold them too.
    world.attempts.clear();
    assert_eq!(world.held_bytes(Lane::Backlog), 0, "all is in the log");
    world.answer = Box::new(|_| Answer::Status(200, QUICK));
    world.endpoint("a", |e| e.state = EndpointState::Active);
    world.run_for(20 * SECOND);
    assert_eq!(world.sent.len(), failed + 128);
    let second = |sent: &&Sent| sent.attempt == 2;
    let second = world.sent.iter().filter(second).count();
    assert_eq!(second, failed, "counts stay");
    world.assert_ordered();
    assert!(world.all_committed() && world.remembers_nothing());
}

#[test]
fn what_comes_for_one_that_is_gone_or_deleted_takes_no_room() {
    for deleted in [false, true] {
        let mut world = Harness::owning();
        let gone = world.endpoint("gone", |e| e.retry = retry(&[20, 20, 20, 20, 20, 20]));
        world.endpoint("well", |_| {});
        world.answer = Box::new(|sent| match sent.endpoint.as_str() {
            "gone" => Answer::Status(410, QUICK),
            _ => Answer::Status(200, QUICK),
        });
        world.deliver("gone");
        world.run_for(300 * SECOND);
        if deleted {
            world.delete_endpoint(&gone);
        }
        for _ in 0..3 * HOLES_MAX {
            world.deliver("gone");
        }
        let waited = wait_of_a_well_one(&mut world);
        assert!(waited < SECOND, "{waited:?}, deleted: {deleted}");
        world.run_for(600 * SECOND);
        let ended = world.ended().len();
        assert_eq!(ended, 3 * HOLES_MAX + 2, "each by name, deleted: {deleted}");
        assert!(world.all_committed() && world.repeats() == 0);
    }
}

#[test]
fn keys_of_an_ordered_endpoint_do_not_wait_for_each_other_s_copies() {
    let mut world = Harness::owning();
    world.endpoint("a", |e| e.ordering = Ordering::Key);
    world.endpoint("well", |_| {});
    for n in 0..2 * HOLES_MAX {
        world.deliver_keyed("a", &format!("k{n}"));
    }
    let waited = wait_of_a_well_one(&mut world);
    assert!(waited < Duration::from_millis(100), "{waited:?}");
    world.run_for(60 * SECOND);
    world.assert_ordered();
    assert!(world.every_key_is_through() && world.all_committed());
}

#[test]
fn slow_answers_of_one_leave_requests_to_others() {
    let mut world = Harness::owning();
    world.endpoint("slow", |e| e.concurrency = Some(1_000));
    world.endpoint("well", |_| {});
    world.answer = Box::new(|sent| match sent.endpoint.as_str() {
        "slow" => Answer::Status(200, 14 * SECOND),
        _ => Answer::Status(200, QUICK),
    });
    for _ in 0..3_000 {
        world.deliver("slow");
    }
    world.run_for(200 * SECOND);
    let waited = wait_of_a_well_one(&mut world);
    assert!(waited < QUICK, "{waited:?}");
}

#[test]
fn attempts_that_come_too_late_to_the_network_are_not_decided_in_a_loop() {
    let mut world = Harness::owning();
    world.endpoint("a", |e| {
        e.rate_limit = Some(RateLimit {
            attempts: 1_000,
            per: SECOND,
            smooth: false,
        });
    });
    let until = world.now + SECOND;
    world.not_started =
        Box::new(move |sent| (sent.at < until).then_some(Duration::from_micros(100)));
    for _ in 0..4 {
        world.deliver("a");
    }
    world.run_for(10 * SECOND);
    let in_vain = |seen: &&Observation| matches!(seen, Observation::NotStarted);
    let in_vain = world.observed.iter().filter(in_vain).count();
    assert!(in_vain <= 4 * 25, "{in_vain} times in a second");
    assert_eq!(world.ended().len(), 4);
}

/// Of somebody who woke up late: what we write from then on does not count.
fn late_fence() -> StateEntry {
    StateEntry::Fence {
        epoch: Epoch(100),
        claimant: 99,
    }
}

#[test]
fn a_backlog_that_no_successor_would_know_of_takes_nothing() {
    let mut world = Harness::owning();
    world.endpoint("a", |e| e.state = EndpointState::Paused);
    let id = world.deliver("a");
    world.run_for(Duration::from_micros(1_100));
    world.write_state((SLICE, late_fence()));
    let committed = |world: &Harness| world.committed_to(Lane::Deliveries) == Some(41);
    while !committed(&world) {
        world.run_for(Duration::from_micros(500));
    }
    world.crash([SLICE]);
    world.run_for(10 * SECOND);
    world.endpoint("a", |e| e.state = EndpointState::Active);
    world.run_for(60 * SECOND);
    assert!(world.sent.iter().any(|sent| sent.delivery == id), "lost");
    assert!(world.all_committed() && world.remembers_nothing());
}

#[test]
fn last_words_behind_a_late_fence_are_said_again() {
    let mut world = Harness::owning();
    world.endpoint("a", |e| {
        e.rate_limit = Some(RateLimit {
            attempts: 2,
            per: 3_600 * SECOND,
            smooth: false,
        });
    });
    for _ in 0..2 {
        world.deliver("a");
    }
    world.run_for(10 * SECOND);
    assert_eq!(world.sent.len(), 2);
    world.revoke([SLICE]);
    world.write_state((SLICE, late_fence()));
    assert_eq!(world.hand_backs, 0);
    world.run_for(60 * SECOND);
    assert_eq!(world.hand_backs, 1);
    world.deliver("a");
    world.assign([SLICE]);
    world.run_for(60 * SECOND);
    assert_eq!(world.sent.len(), 2, "the limit is used up");
    world.run_for(3_600 * SECOND);
    assert_eq!(world.sent.len(), 3);
}

#[test]
fn who_found_no_room_is_served_though_others_never_leave_half_of_it() {
    let mut world = Harness::owning();
    for name in ["x", "y", "z"] {
        world.endpoint(name, |e| e.ordering = Ordering::Endpoint);
    }
    world.endpoint("late", |e| e.state = EndpointState::Paused);
    for _ in 0..200 {
        world.deliver("late");
    }
    world.run_for(SECOND);
    world.answer = Box::new(|sent| match sent.endpoint.as_str() {
        "late" => Answer::Status(200, QUICK),
        _ => Answer::Status(200, 14 * SECOND),
    });
    // A third of all room each, and never two of them idle; each is new to the backlog each time.
    for turn in 0..30 {
        world.deliver_sized(["x", "y", "z"][turn % 3], 600 << 10);
        world.run_for(SECOND * 14 / 3 + QUICK);
        if turn == 3 {
            world.endpoint("late", |e| e.state = EndpointState::Active);
        }
    }
    let of_late = |sent: &&Sent| sent.endpoint.as_str() == "late";
    assert_eq!(world.sent.iter().filter(of_late).count(), 200);
}

#[test]
fn a_failed_head_over_its_limit_comes_back_when_the_limit_allows() {
    let mut world = Harness::owning();
    world.endpoint("a", |e| {
        e.ordering = Ordering::Endpoint;
        e.rate_limit = Some(RateLimit {
            attempts: 1,
            per: 600 * SECOND,
            smooth: false,
        });
    });
    world.answer = Box::new(|sent| {
        let status = if sent.attempt == 1 { 500 } else { 200 };
        Answer::Status(status, QUICK)
    });
    for _ in 0..3 {
        world.deliver("a");
    }
    world.run_for(3_700 * SECOND);
    assert_eq!(world.sent.len(), 6);
    assert!(world.all_committed() && world.remembers_nothing());
}

#[test]
fn the_window_of_a_failed_head_ends_though_its_endpoint_takes_nothing() {
    let mut world = Harness::owning();
    let day = 86_400 * SECOND;
    world.endpoint("a", |e| {
        e.ordering = Ordering::Endpoint;
        e.retry = retry(&[5, 600]);
    });
    world.answer = Box::new(|_| Answer::Status(422, QUICK));
    let first = world.deliver("a");
    world.run_for(60 * SECOND);
    assert_eq!(world.sent.len(), 2, "it waits in the log");
    world.endpoint("a", |e| e.state = EndpointState::Paused);
    world.run_for(day / 2);
    let second = world.deliver("a");
    world.run_for(day / 2 + SECOND);
    assert_eq!(world.dead, [(first, DeadLetterReason::WindowPassed, 2)]);
    world.run_for(day / 2 + 5 * SECOND);
    let (id, reason, _) = world.dead[1];
    assert_eq!((id, reason), (second, DeadLetterReason::WindowPassed));
    assert!(world.all_committed() && world.remembers_nothing());
}

#[test]
fn what_comes_for_one_that_comes_back_is_sent() {
    let mut world = Harness::owning();
    let a = world.endpoint("a", |e| e.state = EndpointState::Disabled);
    for deleted in [false, true] {
        // The router knows already that it is back.
        for _ in 0..2 * HOLES_MAX {
            world.deliver("a");
        }
        world.run_for(3 * SECOND);
        world.endpoint("a", |e| e.state = EndpointState::Active);
        world.run_for(60 * SECOND);
        let sent = std::mem::take(&mut world.sent).len();
        assert_eq!(sent, 2 * HOLES_MAX, "deleted: {deleted}");
        world.delete_endpoint(&a);
    }
    assert!(world.all_committed() && world.remembers_nothing());
}

#[test]
fn what_comes_for_an_ordered_one_that_comes_back_keeps_its_order() {
    for deleted in [false, true] {
        let mut world = Harness::owning();
        let a = world.endpoint("a", |e| {
            e.ordering = Ordering::Endpoint;
            e.state = EndpointState::Disabled;
        });
        if deleted {
            world.delete_endpoint(&a);
        }
        for _ in 0..40 {
            world.deliver_keyed("a", "k");
        }
        world.run_for(3 * SECOND);
        world.endpoint("a", |e| {
            e.ordering = Ordering::Endpoint;
            e.state = EndpointState::Active;
        });
        world.run_for(60 * SECOND);
        world.assert_ordered();
        assert_eq!(world.sent.len(), 40, "deleted: {deleted}");
    }
}

#[test]
fn a_neighbour_s_pass_does_not_put_off_the_end_of_a_window() {
    let mut world = Harness::owning();
    let hour = 3_600 * SECOND;
    world.endpoint("a", |e| {
        e.state = EndpointState::Paused;
        e.retry = retry(&[]).map(|policy| RetryPolicy {
            window: 2 * hour,
            ..policy
        });
    });
    world.endpoint("b", |e| e.ordering = Ordering::Endpoint);
    let began = world.now;
    let mut made = Vec::new();
    for _ in 0..30 {
        // It reads past what there is of the other.
        world.deliver("b");
        made.push((world.deliver("a"), world.now));
        world.deliver("b");
        world.run_for(hour / 6);
    }
    let ended = world.dead.len();
    let due = made
        .iter()
        .filter(|(_, at)| *at + 2 * hour + 5 * SECOND < world.now);
    assert_eq!(ended, due.count(), "{:?}", world.now.since(began));
}
