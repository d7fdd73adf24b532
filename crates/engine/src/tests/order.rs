//! Ordered endpoints: one after the other per key, through failures, hand-overs and crashes.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use postrider_domain::{
    DeadLetterReason, Endpoint, EndpointState, ErrorKind, Lane, OnExhausted, Ordering,
};

use super::harness::{Answer, Harness, SLICE, retry};

const SECOND: Duration = Duration::from_secs(1);
const QUICK: Duration = Duration::from_millis(10);

fn ordered() -> Harness {
    let mut world = Harness::owning();
    world.endpoint("a", |e| {
        e.ordering = Ordering::Key;
        e.retry = retry(&[5, 60, 600]);
    });
    world
}

#[test]
fn deliveries_of_a_key_follow_each_other_and_keys_go_side_by_side() {
    let mut world = ordered();
    world.answer = Box::new(|_| Answer::Status(200, SECOND));
    for _ in 0..5 {
        for key in ["k1", "k2", "k3", "k4"] {
            world.deliver_keyed("a", key);
        }
    }
    world.run_for(6 * SECOND);
    assert_eq!(world.sent.len(), 20, "four at a time");
    world.run_for(5 * SECOND);
    world.assert_ordered();
    assert!(world.all_committed() && world.remembers_nothing());
}

#[test]
fn a_failing_head_holds_its_key_and_no_other() {
    let mut world = ordered();
    let mut failures = 2;
    let first = world.deliver_keyed("a", "bad");
    world.answer = Box::new(move |sent| {
        if sent.delivery == first && failures > 0 {
            failures -= 1;
            return Answer::Status(500, QUICK);
        }
        Answer::Status(200, QUICK)
    });
    for n in 0..100 {
        world.deliver_keyed("a", "bad");
        world.deliver_keyed("a", &format!("k{n}"));
    }
    world.run_for(30 * SECOND);
    let of = |world: &Harness, key: &str| world.sent_of_key(key);
    assert_eq!(of(&world, "bad"), 2, "the head, tried twice");
    assert_eq!(world.sent.len(), 102, "all other keys are through");
    world.run_for(60 * SECOND);
    assert_eq!(of(&world, "bad"), 103);
    let waited = world.sent[world.sent.len() - 101]
        .at
        .since(world.sent[0].at);
    assert!(waited >= 65 * SECOND, "its schedule was kept: {waited:?}");
    world.assert_ordered();
    assert_eq!(world.log_len(Lane::Backlog), 201, "one copy each");
    assert!(world.retries.is_empty(), "never over rungs");
    assert!(world.all_committed() && world.remembers_nothing());
}

#[test]
fn order_holds_through_hand_overs_and_crashes() {
    for seed in 0..60 {
        let rng = Rc::new(RefCell::new(fastrand::Rng::with_seed(seed)));
        let mut world = ordered();
        let dice = Rc::clone(&rng);
        let healed = Rc::new(std::cell::Cell::new(false));
        let well = Rc::clone(&healed);
        world.answer = Box::new(move |_| {
            let mut dice = dice.borrow_mut();
            let latency = Duration::from_millis(dice.u64(1..300));
            let status = if dice.u8(..100) < 12 && !well.get() {
                500
            } else {
                200
            };
            Answer::Status(status, latency)
        });
        for _ in 0..40 {
            let count = rng.borrow_mut().usize(1..40);
            for _ in 0..count {
                let key = rng.borrow_mut().u8(..12);
                world.deliver_keyed("a", &format!("k{key}"));
            }
            let pause = rng.borrow_mut().u64(1..4_000);
            world.run_for(Duration::from_millis(pause));
            let action = rng.borrow_mut().u8(..100);
            match action {
                0..8 => {
                    world.revoke([SLICE]);
                    world.run_for(20 * SECOND);
                    world.assign([SLICE]);
                }
                8..16 => world.crash([SLICE]),
                16..20 => {
                    world.endpoint("a", |e| e.state = EndpointState::Paused);
                    world.run_for(3 * SECOND);
                    world.endpoint("a", |e| e.state = EndpointState::Active);
                }
                _ => {}
            }
        }
        healed.set(true);
        world.run_for(3_600 * SECOND);
        world.assert_ordered();
        assert!(world.all_committed(), "seed {seed}");
        assert!(world.remembers_nothing(), "seed {seed}");
        assert!(world.every_key_is_through(), "seed {seed}");
    }
}

#[test]
fn a_head_that_is_given_up_lets_the_next_follow_or_blocks_until_released() {
    let mut world = ordered();
    world.endpoint("a", |e| {
        e.retry = retry(&[5]);
        e.on_exhausted = OnExhausted::Block;
    });
    let bad = world.deliver_keyed("a", "k");
    world.answer = Box::new(move |sent| {
        let status = if sent.delivery == bad { 500 } else { 200 };
        Answer::Status(status, QUICK)
    });
    world.deliver_keyed("a", "k");
    world.run_for(3_600 * SECOND);
    assert_eq!((world.sent.len(), world.dead.len()), (2, 0), "it blocks");
    world.revoke([SLICE]);
    world.run_for(SECOND);
    world.assign([SLICE]);
    world.run_for(3_600 * SECOND);
    assert_eq!((world.sent.len(), world.dead.len()), (2, 0), "there too");
    world.endpoint("a", |e| e.on_exhausted = OnExhausted::Continue);
    world.run_for(10 * SECOND);
    assert_eq!(world.dead, [(bad, DeadLetterReason::AttemptsExhausted, 2)]);
    assert_eq!(world.sent.len(), 3);
    world.assert_ordered();
    assert!(world.all_committed() && world.remembers_nothing());
}

#[test]
fn an_event_its_format_cannot_be_made_of_is_a_dead_letter_or_blocks_until_released() {
    for on_exhausted in [OnExhausted::Continue, OnExhausted::Block] {
        let mut world = ordered();
        world.endpoint("a", |e| e.on_exhausted = on_exhausted);
        let bad = world.deliver_keyed("a", "k");
        world.answer = Box::new(move |sent| {
            if sent.delivery == bad {
                Answer::Fails(ErrorKind::Unrenderable, QUICK)
            } else {
                Answer::Status(200, QUICK)
            }
        });
        world.deliver_keyed("a", "k");
        world.run_for(3_600 * SECOND);
        if on_exhausted == OnExhausted::Block {
            assert_eq!((world.sent.len(), world.dead.len()), (1, 0), "it blocks");
            world.revoke([SLICE]);
            world.run_for(SECOND);
            world.assign([SLICE]);
            world.run_for(3_600 * SECOND);
            assert_eq!((world.sent.len(), world.dead.len()), (1, 0), "there too");
            // The format was changed as well.
            world.endpoint("a", |e| e.on_exhausted = OnExhausted::Continue);
            world.answer = Box::new(|_| Answer::Status(200, QUICK));
            world.run_for(10 * SECOND);
            assert_eq!((world.sent.len(), world.dead.len()), (3, 0));
        } else {
            assert_eq!(world.dead, [(bad, DeadLetterReason::Unrenderable, 1)]);
            assert_eq!(world.sent.len(), 2);
        }
        world.assert_ordered();
        assert!(world.all_committed() && world.remembers_nothing());
    }
}

#[test]
fn one_that_cannot_be_made_is_tried_on_release_though_its_schedule_is_over() {
    let mut world = ordered();
    world.endpoint("a", |e| {
        e.retry = retry(&[]);
        e.on_exhausted = OnExhausted::Block;
    });
    world.answer = Box::new(|_| Answer::Fails(ErrorKind::Unrenderable, QUICK));
    world.deliver_keyed("a", "k");
    world.run_for(60 * SECOND);
    assert_eq!((world.sent.len(), world.dead.len()), (1, 0), "it blocks");
    world.endpoint("a", |e| e.on_exhausted = OnExhausted::Continue);
    world.answer = Box::new(|_| Answer::Status(200, QUICK));
    world.run_for(10 * SECOND);
    assert_eq!((world.sent.len(), world.dead.len()), (2, 0));
    assert!(world.all_committed() && world.remembers_nothing());
}

#[test]
fn one_that_cannot_be_made_does_not_wait_for_what_is_over() {
    type Change = fn(&mut Endpoint);
    let changes: [(Change, usize); 2] = [
        (|e| e.ordering = Ordering::None, 1),
        (|e| e.state = EndpointState::Disabled, 0),
    ];
    for (change, dead) in changes {
        let mut world = ordered();
        world.endpoint("a", |e| e.on_exhausted = OnExhausted::Block);
        world.answer = Box::new(|_| Answer::Fails(ErrorKind::Unrenderable, 2 * SECOND));
        world.deliver_keyed("a", "k");
        world.run_for(SECOND);
        assert_eq!(world.sent.len(), 1, "in flight");
        world.endpoint("a", change);
        world.run_for(60 * SECOND);
        assert_eq!((world.sent.len(), world.dead.len()), (1, dead));
        assert!(world.all_committed() && world.remembers_nothing());
    }
}

#[test]
fn who_follows_one_that_ends_unattempted_waits_until_that_is_written() {
    let mut world = ordered();
    world.endpoint("a", |e| {
        e.retry = retry(&[]);
        e.on_exhausted = OnExhausted::Block;
    });
    let bad = world.deliver_keyed("a", "k");
    world.answer = Box::new(move |sent| {
        let status = if sent.delivery == bad { 500 } else { 200 };
        Answer::Status(status, QUICK)
    });
    let next = world.deliver_keyed("a", "k");
    world.run_for(60 * SECOND);
    assert_eq!((world.sent.len(), world.dead.len()), (1, 0), "it blocks");
    world.endpoint("a", |e| e.on_exhausted = OnExhausted::Continue);
    for _ in 0..20_000 {
        world.run_for(Duration::from_micros(500));
        let followed = world.sent.len() > 1;
        assert!(!followed || world.dead.len() == 1, "its end came too late");
    }
    assert_eq!(world.sent[1].delivery, next);
    assert!(world.all_committed() && world.remembers_nothing());
}

#[test]
fn a_head_that_was_released_while_nobody_owned_it_goes() {
    let mut world = ordered();
    world.endpoint("a", |e| {
        e.retry = retry(&[]);
        e.on_exhausted = OnExhausted::Block;
    });
    let bad = world.deliver_keyed("a", "k");
    world.deliver_keyed("a", "k");
    world.answer = Box::new(move |sent| {
        let status = if sent.delivery == bad { 500 } else { 200 };
        Answer::Status(status, QUICK)
    });
    world.run_for(60 * SECOND);
    world.revoke([SLICE]);
    world.run_for(SECOND);
    world.endpoint("a", |e| e.on_exhausted = OnExhausted::Continue);
    world.assign([SLICE]);
    world.run_for(60 * SECOND);
    assert_eq!(world.dead, [(bad, DeadLetterReason::AttemptsExhausted, 1)]);
    assert_eq!(world.sent.len(), 2);
    assert!(world.all_committed() && world.remembers_nothing());
}

#[test]
fn what_was_attempted_in_order_keeps_its_count_and_due_time_without_one() {
    let mut world = ordered();
    world.endpoint("a", |e| e.retry = retry(&[1, 300, 600]));
    let bad = world.deliver_keyed("a", "k");
    world.answer = Box::new(move |sent| {
        let failed = sent.delivery == bad && sent.attempt < 3;
        Answer::Status(if failed { 500 } else { 200 }, QUICK)
    });
    world.run_for(30 * SECOND);
    world.endpoint("a", |e| e.ordering = Ordering::None);
    world.run_for(200 * SECOND);
    world.revoke([SLICE]);
    world.run_for(SECOND);
    world.assign([SLICE]);
    world.run_for(3_600 * SECOND);
    let attempts: Vec<u32> = world.sent.iter().map(|sent| sent.attempt).collect();
    assert_eq!(attempts, [1, 2, 3]);
    let waited = world.sent[2].at.since(world.sent[1].at);
    assert!(waited >= 300 * SECOND, "early: {waited:?}");
    assert!(world.all_committed() && world.remembers_nothing());
}

#[test]
fn a_blocked_head_is_kept_though_its_window_passes_while_its_receiver_asks_to_wait() {
    let mut world = ordered();
    world.endpoint("a", |e| {
        e.retry = retry(&[5, 10]);
        e.on_exhausted = OnExhausted::Block;
    });
    let mut attempts = 0;
    world.answer = Box::new(move |_| {
        attempts += 1;
        match attempts {
            1 => Answer::Status(500, QUICK),
            _ => Answer::RetryAfter(3_000, QUICK),
        }
    });
    world.deliver_keyed("a", "k");
    world.run_for(25 * 3_600 * SECOND);
    assert!(world.dead.is_empty(), "it blocks");
    world.endpoint("a", |e| e.on_exhausted = OnExhausted::Continue);
    world.run_for(3_600 * SECOND);
    assert_eq!(world.dead.len(), 1);
    assert_eq!(world.dead[0].1, DeadLetterReason::WindowPassed);
    assert!(world.all_committed() && world.remembers_nothing());
}

#[test]
fn heads_of_a_disabled_endpoint_are_discarded() {
    for (schedule, rule) in [
        (vec![], OnExhausted::Block),
        (vec![60], OnExhausted::Continue),
    ] {
        let mut world = ordered();
        world.endpoint("a", |e| {
            e.retry = retry(&schedule);
            e.on_exhausted = rule;
        });
        world.answer = Box::new(|_| Answer::Status(500, QUICK));
        world.deliver_keyed("a", "k");
        world.deliver_keyed("a", "k");
        world.run_for(30 * SECOND);
        world.endpoint("a", |e| e.state = EndpointState::Disabled);
        world.run_for(120 * SECOND);
        assert_eq!((world.sent.len(), world.dead.len()), (1, 0), "{rule:?}");
        assert!(world.all_committed() && world.remembers_nothing());
    }
}

#[test]
fn what_comes_while_an_endpoint_is_disabled_for_a_moment_is_ordered() {
    let mut world = ordered();
    world.answer = Box::new(|_| Answer::Status(200, SECOND));
    world.endpoint("a", |e| e.state = EndpointState::Disabled);
    for _ in 0..3 {
        world.deliver_keyed("a", "k");
    }
    world.run_for(SECOND);
    world.endpoint("a", |e| e.state = EndpointState::Active);
    world.run_for(60 * SECOND);
    assert_eq!(world.sent.len(), 3);
    world.assert_ordered();
    let apart = world.sent[1].at.since(world.sent[0].at);
    assert!(apart >= SECOND, "side by side");
}

#[test]
fn a_hundred_thousand_keys_of_one_endpoint_cost_no_more_memory_than_few() {
    let mut world = ordered();
    world.endpoint("a", |e| e.concurrency = Some(1_000));
    world.answer = Box::new(|_| Answer::Status(200, SECOND / 10));
    for n in 0..100_000 {
        world.deliver_keyed("a", &format!("k{n}"));
    }
    world.run_for(600 * SECOND);
    assert_eq!(world.sent.len(), 100_000);
    assert!(world.all_committed() && world.remembers_nothing());
}

#[test]
fn ordered_as_a_whole_one_goes_at_a_time() {
    let mut world = Harness::owning();
    world.endpoint("a", |e| e.ordering = Ordering::Endpoint);
    world.answer = Box::new(|_| Answer::Status(200, SECOND));
    for n in 0..5 {
        world.deliver_keyed("a", &format!("k{n}"));
    }
    world.run_for(3 * SECOND);
    assert!((2..=3).contains(&world.sent.len()));
    world.run_for(5 * SECOND);
    assert!(world.sent.is_sorted_by_key(|sent| sent.delivery));
    assert_eq!(world.sent.len(), 5);
}

#[test]
fn an_append_that_fails_once_keeps_its_place() {
    for failing in 1..=6 {
        let mut world = ordered();
        let mut n = 0;
        world.write_fails = Box::new(move || {
            n += 1;
            n == failing
        });
        let ids: Vec<_> = (0..3).map(|_| world.deliver_keyed("a", "k")).collect();
        world.run_for(30 * SECOND);
        let sent: Vec<_> = world.sent.iter().map(|sent| sent.delivery).collect();
        assert_eq!(sent, ids, "failing write {failing}");
    }
}
