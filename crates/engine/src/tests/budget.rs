//! Bounds: concurrency, holes, bytes, and what a failed write stops.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use postrider_domain::{DeadLetterReason, ErrorKind, Lane, Ordering, Origin, Record, Slice};

use super::harness::{Answer, Harness, SLICE, Sent, retry};
use crate::backlog;
use crate::io::{Claim, Content, LaneRecord, Observation, Reading};
use crate::lane::LOOK_AHEAD_BYTES_MAX;
use crate::offsets::{HOLES_MAX, SPAN_MAX};
use crate::slice::HELD_BYTES_MAX;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn an_endpoint_keeps_to_its_concurrency() {
    let mut world = Harness::owning();
    let a = world.endpoint("a", |e| e.concurrency = Some(2));
    let b = world.endpoint("b", |_| {});
    world.answer = Box::new(|_| Answer::Status(200, SECOND));
    for _ in 0..10 {
        world.deliver("a");
        world.deliver("b");
    }
    world.run_for(20 * SECOND);
    assert_eq!(world.in_flight_high[&a], 2);
    assert_eq!(world.in_flight_high[&b], 4, "the default");
    assert_eq!(world.sent.len(), 20);
}

#[test]
fn the_worker_keeps_to_its_requests_in_flight() {
    let mut world = Harness::owning();
    for endpoint in 0..40 {
        let id = format!("e{endpoint}");
        world.endpoint(&id, |_| {});
        world.deliver(&id);
    }
    world.answer = Box::new(|_| Answer::Status(200, SECOND));
    world.run_for(SECOND / 2);
    assert_eq!(world.worker.in_flight(), 40, "a quarter stays free");
    world.run_for(5 * SECOND);
    for endpoint in 0..40 {
        for _ in 0..4 {
            world.deliver(&format!("e{endpoint}"));
        }
    }
    world.run_for(SECOND / 2);
    assert_eq!(world.worker.in_flight(), 64);
    world.run_for(10 * SECOND);
    assert_eq!(world.sent.len(), 200);
}

#[test]
fn endpoints_that_hang_leave_half_of_the_room_to_those_that_answer() {
    let mut world = Harness::owning();
    for endpoint in 0..40 {
        world.endpoint(&format!("hangs{endpoint}"), |_| {});
        world.endpoint(&format!("well{endpoint}"), |_| {});
        world.deliver(&format!("well{endpoint}"));
    }
    world.answer = Box::new(|sent| match sent.endpoint.as_str() {
        hangs if hangs.starts_with("hangs") => Answer::Fails(ErrorKind::TimeoutHead, 15 * SECOND),
        _ => Answer::Status(200, SECOND / 100),
    });
    world.run_for(SECOND);
    for endpoint in 0..40 {
        for _ in 0..10 {
            world.deliver(&format!("hangs{endpoint}"));
        }
    }
    world.run_for(SECOND);
    assert_eq!(world.worker.in_flight(), 48, "never tried: a quarter more");
    world.run_for(90 * SECOND);
    let hanging = world.worker.in_flight();
    assert!(hanging <= 32, "{hanging} hang");
    for endpoint in 0..40 {
        world.deliver(&format!("well{endpoint}"));
    }
    world.run_for(SECOND / 10);
    let well = |sent: &&Sent| sent.endpoint.as_str().starts_with("well");
    assert_eq!(world.sent.iter().filter(well).count(), 80);
}

#[test]
fn a_lane_stops_at_its_bound_and_goes_on_where_it_stopped() {
    let mut world = Harness::owning();
    world.endpoint("a", |_| {});
    world.answer = Box::new(|_| Answer::Status(200, SECOND / 10));
    for _ in 0..3 * HOLES_MAX {
        world.deliver("a");
    }
    world.run_for(SECOND / 20);
    assert_eq!(world.sent.len(), 4);
    world.run_for(40 * SECOND);
    let starts: Vec<i64> = world
        .read_from
        .iter()
        .filter(|(lane, _)| *lane == Lane::Deliveries)
        .filter_map(|(_, from)| *from)
        .collect();
    assert_eq!(starts[0], 40);
    assert!(starts.is_sorted());
    world.run_for(200 * SECOND);
    assert_eq!(world.sent.len(), 3 * HOLES_MAX);
    assert!(world.all_committed());
}

#[test]
fn large_records_stop_a_lane_by_their_bytes() {
    let mut world = Harness::owning();
    world.endpoint("a", |e| e.concurrency = Some(1));
    world.answer = Box::new(|_| Answer::Status(200, SECOND));
    for _ in 0..40 {
        world.deliver_sized("a", 1 << 20);
    }
    world.run_for(SECOND / 2);
    let first = world
        .stopped
        .iter()
        .find(|(lane, _)| *lane == Lane::Deliveries);
    let held = HELD_BYTES_MAX as i64 / (1 << 20);
    assert_eq!(first.map(|(_, next)| *next), Some(40 + held));
    world.run_for(60 * SECOND);
    assert!(world.stopped.len() > 1, "it went on and stopped again");
    world.run_for(600 * SECOND);
    assert_eq!(world.sent.len(), 40);
    assert!(world.all_committed());
}

#[test]
fn large_records_stop_a_rung_by_their_bytes() {
    let mut world = Harness::owning();
    world.endpoint("a", |e| e.retry = retry(&[300]));
    world.answer =
        Box::new(|sent| Answer::Status(if sent.is_first_of(3) { 500 } else { 200 }, SECOND / 100));
    for _ in 0..60 {
        world.deliver_sized("a", LOOK_AHEAD_BYTES_MAX / 4);
    }
    world.run_for(10 * SECOND);
    assert!(
        world
            .stopped
            .iter()
            .any(|(lane, _)| matches!(lane, Lane::Retry(_)))
    );
    world.run_for(400 * SECOND);
    assert_eq!(world.sent.len(), 80);
    assert!(world.all_committed());
}

#[test]
fn a_failed_write_settles_nothing_and_stops_new_attempts() {
    let mut world = Harness::owning();
    world.endpoint("a", |_| {});
    let broken = Rc::new(Cell::new(true));
    let fails = Rc::clone(&broken);
    world.write_fails = Box::new(move || fails.get());
    for _ in 0..20 {
        world.deliver("a");
    }
    world.run_for(30 * SECOND);
    assert_eq!(
        world.sent.len(),
        8,
        "only what was started before the first failure was known"
    );
    assert!(
        world
            .committed_to(Lane::Deliveries)
            .is_none_or(|to| to == 40)
    );
    assert!(world.observed.contains(&Observation::AdmissionClosed));
    broken.set(false);
    world.run_for(5 * SECOND);
    assert_eq!(world.sent.len(), 20);
    assert!(world.observed.contains(&Observation::AdmissionOpened));
    assert!(world.all_committed());
}

#[test]
fn slices_take_turns_for_the_worker_s_requests() {
    let mut world = Harness::owning();
    world.assign([Slice(1)]);
    let names: Vec<String> = (0..64).map(|n| format!("e{n}")).collect();
    for name in &names {
        world.endpoint(name, |e| e.concurrency = Some(1_000));
    }
    let (of_first, of_second) = names.split_at(32);
    let deliver = |world: &mut Harness, times| {
        for _ in 0..times {
            for name in of_first {
                world.deliver(name);
            }
            for name in of_second {
                world.deliver_in(Slice(1), name);
            }
        }
    };
    deliver(&mut world, 7);
    world.run_for(10 * SECOND);
    world.sent.clear();
    world.answer = Box::new(|_| Answer::Status(200, SECOND));
    deliver(&mut world, 10);
    world.run_for(SECOND * 7 / 2);
    let first = |sent: &&Sent| of_first.iter().any(|name| sent.endpoint.as_str() == name);
    let of_a = world.sent.iter().filter(first).count();
    let of_b = world.sent.len() - of_a;
    assert_eq!(world.sent.len(), 4 * 64);
    assert!(of_a.abs_diff(of_b) <= 64, "{of_a} and {of_b}");
}

#[test]
fn an_unreadable_record_is_settled_by_its_dead_letter_alone() {
    let mut world = Harness::owning();
    world.run_for(SECOND / 10);
    let broken = Rc::new(Cell::new(true));
    let fails = Rc::clone(&broken);
    world.write_fails = Box::new(move || fails.get());
    let origin = Origin {
        topic: "deliveries".into(),
        partition: 0,
        offset: 47,
    };
    let record = Record {
        origin,
        timestamp: world.now,
        key: None,
        value: None,
        headers: Vec::new(),
    };
    world.hand(LaneRecord {
        reading: Reading {
            slice: SLICE,
            claim: Claim(1),
            lane: Lane::Deliveries,
            number: 1,
        },
        offset: 47,
        appended_at: world.now,
        bytes: 1,
        content: Content::Unreadable {
            record: Arc::new(record),
            reason: DeadLetterReason::Undecodable,
            message: "".into(),
        },
    });
    world.run_for(5 * SECOND);
    assert!(world.committed_to(Lane::Deliveries) <= Some(47));
    broken.set(false);
    world.run_for(5 * SECOND);
    assert_eq!(world.garbage, [DeadLetterReason::Undecodable]);
    assert_eq!(world.committed_to(Lane::Deliveries), Some(48));
}

/// How long a delivery to an endpoint that is well waits behind what is held of others.
fn wait_of_a_well_one(world: &mut Harness) -> Duration {
    let asked_at = world.now;
    let id = world.deliver("well");
    world.run_for(60 * SECOND);
    let sent = world.sent.iter().find(|sent| sent.delivery == id);
    sent.expect("it was sent").at.since(asked_at)
}

/// Offsets pass without records, until the lane's span has no room for one more.
fn reach_the_span(world: &mut Harness) {
    world.gap = SPAN_MAX / 4;
    for _ in 0..3 {
        world.deliver("well");
    }
}

#[test]
fn large_deliveries_that_wait_for_an_attempt_do_not_keep_the_lane_from_others() {
    let mut world = Harness::owning();
    world.endpoint("well", |_| {});
    world.answer = Box::new(|sent| match sent.endpoint.as_str() {
        "well" => Answer::Status(200, SECOND / 100),
        _ => Answer::Status(500, SECOND / 100),
    });
    for endpoint in 0..60 {
        let id = format!("fails{endpoint}");
        world.endpoint(&id, |e| e.retry = retry(&[20, 20]));
        world.deliver_sized(&id, 400 << 10);
    }
    let waited = wait_of_a_well_one(&mut world);
    assert!(waited < SECOND, "{waited:?}");
    world.run_for(100 * SECOND);
    assert_eq!(world.dead.len(), 60);
    assert!(world.all_committed());
}

#[test]
fn an_endpoint_that_asks_to_wait_does_not_keep_a_long_lane_from_others() {
    let mut world = Harness::owning();
    world.endpoint("well", |_| {});
    world.endpoint("asks", |_| {});
    world.answer = Box::new(|sent| match sent.endpoint.as_str() {
        "well" => Answer::Status(200, SECOND / 100),
        _ => Answer::RetryAfter(600, SECOND),
    });
    for _ in 0..8 {
        world.deliver("asks");
    }
    // It is reached while nobody knows yet that the others will wait.
    reach_the_span(&mut world);
    let waited = wait_of_a_well_one(&mut world);
    assert!(waited < 2 * SECOND, "{waited:?}");
    assert_eq!(world.log_len(Lane::Backlog), 8, "one copy each");
    assert!(world.all_committed());
}

#[test]
fn what_waits_for_an_attempt_leaves_a_lane_that_reaches_its_span() {
    let mut world = Harness::owning();
    world.endpoint("well", |_| {});
    world.endpoint("fails", |e| e.retry = retry(&[20, 20]));
    world.answer = Box::new(|sent| match sent.endpoint.as_str() {
        "well" => Answer::Status(200, SECOND / 100),
        _ => Answer::Status(500, SECOND / 100),
    });
    world.deliver("fails");
    world.run_for(SECOND);
    reach_the_span(&mut world);
    let waited = wait_of_a_well_one(&mut world);
    assert!(waited < SECOND, "{waited:?}");
    let failed = world.attempts.iter().map(|a| a.attempt).max();
    assert_eq!(failed, Some(3), "it was tried again at its times");
    assert!(world.all_committed());
}

#[test]
fn a_head_that_left_memory_keeps_its_room_until_its_attempt_is_written() {
    const RECORD: usize = 400 << 10;
    let mut world = Harness::owning();
    let broken = Rc::new(Cell::new(false));
    let fails = Rc::clone(&broken);
    world.write_fails = Box::new(move || fails.get());
    world.answer = Box::new(|_| Answer::Status(500, SECOND));
    for endpoint in 0..16 {
        let id = format!("e{endpoint}");
        world.endpoint(&id, |e| {
            e.ordering = Ordering::Endpoint;
            e.retry = retry(&[600]);
        });
        world.deliver_sized(&id, RECORD);
    }
    world.run_for(SECOND / 2);
    let tried = world.sent.len();
    assert_eq!(tried, 6, "as many as there is room for");
    broken.set(true);
    world.run_for(10 * SECOND);
    assert_eq!(world.sent.len(), tried, "nothing starts");
    let held = world.held_bytes(Lane::Backlog);
    assert!(held < backlog::HELD_BYTES_MAX + RECORD, "{held} bytes");
    broken.set(false);
    world.run_for(30 * SECOND);
    assert_eq!(world.sent.len(), 16, "the others follow");
}
