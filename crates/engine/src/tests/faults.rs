//! Mistakes that were made once: interleavings, bounds and loops that nobody thought of at first.

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use postrider_domain::{
    Delivery, DeliveryId, Endpoint, EndpointState, ErrorKind, Lane, Outcome, RateLimit,
    RetryPolicy, Timestamp,
};

use super::harness::{Answer, Harness, SLICE, Sent, plain, retry, settings};
use crate::io::{StateEntry, Write};
use crate::worker::Worker;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const QUICK: Duration = Duration::from_millis(10);

fn sent_to(world: &Harness, endpoint: &str) -> usize {
    let to = |sent: &&Sent| sent.endpoint.as_str() == endpoint;
    world.sent.iter().filter(to).count()
}

/// Asks for a delivery to `endpoint` once more, under an id of its own.
fn replay(world: &mut Harness, like: &Delivery, endpoint: &str, id: u128) {
    let delivery = Delivery {
        id: DeliveryId::from_bytes(id.to_be_bytes()),
        endpoint: endpoint.parse().unwrap(),
        ..like.clone()
    };
    world.append(Lane::Redeliveries, Arc::new(delivery));
}

fn backlog_reads(world: &Harness) -> usize {
    let of = |(lane, _): &&(Lane, Option<i64>)| *lane == Lane::Backlog;
    world.read_from.iter().filter(of).count()
}

/// Backlogs of paused endpoints, that many deliveries each, and behind all of them ten of `well`.
fn backlogs_before_a_well_one(
    world: &mut Harness,
    slow: &[String],
    each: usize,
    change: impl Fn(&mut Endpoint),
) {
    for name in slow {
        world.endpoint(name, |e| {
            e.state = EndpointState::Paused;
            change(e);
        });
    }
    world.endpoint("well", |e| e.state = EndpointState::Paused);
    for _ in 0..each {
        for name in slow {
            world.deliver(name);
        }
        world.run_for(QUICK);
    }
    for _ in 0..10 {
        world.deliver("well");
    }
    world.run_for(SECOND);
}

fn slow_ones(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("slow{n}")).collect()
}

const fn one_per(per: Duration) -> Option<RateLimit> {
    Some(RateLimit {
        attempts: 1,
        per,
        smooth: false,
    })
}

/// A pass longer than `PASS_MAX` is replaced by one that begins at the lowest of those
/// *behind*; those still following it are taken along, though what they want lies below.
#[test]
fn a_new_pass_does_not_jump_over_what_followers_still_want() {
    let mut world = Harness::owning();
    world.backlog_pace = Duration::from_millis(5);
    for name in ["skipped", "a", "z"] {
        world.endpoint(name, |e| e.state = EndpointState::Paused);
    }
    world.deliver("a");
    world.run_for(QUICK);
    for _ in 0..600 {
        world.deliver("skipped");
    }
    world.run_for(SECOND);
    for _ in 0..20 {
        world.deliver("a");
    }
    world.run_for(SECOND);
    // Reading takes three seconds; meanwhile another one gets a backlog and wants it.
    world.endpoint("a", |e| e.state = EndpointState::Active);
    world.run_for(SECOND / 2);
    world.deliver("z");
    world.run_for(SECOND / 10);
    world.endpoint("z", |e| e.state = EndpointState::Active);
    world.run_for(60 * SECOND);
    assert_eq!((sent_to(&world, "a"), sent_to(&world, "z")), (21, 1));
}

/// `end_without_attempt` (discard) leaves the entry's hold timer running.
#[test]
fn a_discard_that_cannot_be_written_in_time_does_not_panic() {
    let mut world = Harness::owning();
    let a = world.endpoint("a", |e| e.state = EndpointState::Paused);
    let broken = Rc::new(Cell::new(false));
    let fails = Rc::clone(&broken);
    world.write_fails = Box::new(move || fails.get());
    world.answer = Box::new(|_| Answer::Status(200, 5 * SECOND));
    for _ in 0..20 {
        world.deliver("a");
    }
    world.run_for(SECOND);
    world.endpoint("a", |e| {
        e.state = EndpointState::Active;
        e.concurrency = Some(1);
    });
    world.run_for(SECOND);
    broken.set(true);
    world.delete_endpoint(&a);
    world.run_for(60 * SECOND);
    broken.set(false);
    world.run_for(60 * SECOND);
    assert!(world.remembers_nothing());
}

/// A record for which there is no room by bytes while the endpoint holds one is read again
/// and again, without a pause.
#[test]
fn a_large_record_is_not_read_in_a_loop() {
    let mut world = Harness::owning();
    world.endpoint("a", |e| e.state = EndpointState::Paused);
    for _ in 0..4 {
        world.deliver_sized("a", 300 << 10);
    }
    world.run_for(SECOND);
    world.answer = Box::new(|_| Answer::Status(200, 10 * SECOND));
    world.endpoint("a", |e| e.state = EndpointState::Active);
    world.run_for(5 * SECOND);
    let reads = backlog_reads(&world);
    assert!(reads < 50, "{reads} readings in 5 s");
}

/// An event whose producer's clock is ahead: its window has passed for `stays_unread` and not
/// for `is_past_window`.
#[test]
fn a_producer_clock_that_is_ahead_makes_no_loop() {
    let mut world = Harness::owning();
    world.endpoint("a", |e| {
        e.state = EndpointState::Paused;
        e.retry = retry(&[]).map(|policy| RetryPolicy {
            window: HOUR,
            ..policy
        });
    });
    world.deliver("x");
    world.run_for(QUICK);
    let like = Arc::clone(&world.last_delivery());
    let mut event = like.event.clone();
    event.accepted_at = world.now + HOUR;
    world.append(
        Lane::Deliveries,
        Arc::new(Delivery {
            id: DeliveryId::from_bytes([7; 16]),
            endpoint: "a".parse().unwrap(),
            event,
            attempts: 0,
            due: None,
            test: false,
        }),
    );
    world.run_for(HOUR);
    let before = backlog_reads(&world);
    world.run_for(10 * SECOND);
    let reads = backlog_reads(&world) - before;
    assert!(reads < 50, "{reads} readings in 10 s");
}

/// A former owner that woke wrote late; compaction kept that record and dropped the one that
/// counts. The next owner ignores it, and knows of no backlog any more.
#[test]
fn a_former_owner_s_late_record_and_compaction_lose_no_backlog() {
    let mut world = Harness::owning();
    world.endpoint("a", |e| e.state = EndpointState::Paused);
    for _ in 0..10 {
        world.deliver("a");
    }
    world.run_for(SECOND);
    let late = world.state.last().cloned().expect("a has a backlog");
    assert!(matches!(late.1, StateEntry::Endpoint { .. }));
    world.crash([SLICE]);
    world.run_for(2 * SECOND);
    // The frozen process wakes and writes what it had to write; then the log is compacted.
    world.write_state(late);
    world.run_for(SECOND);
    world.compact_state();
    world.crash([SLICE]);
    world.run_for(2 * SECOND);
    world.endpoint("a", |e| e.state = EndpointState::Active);
    world.run_for(60 * SECOND);
    assert_eq!(world.sent.len(), 10);
}

/// Endpoints that take their deliveries slowly hold more than half of the room for backlogs;
/// then no other backlog is read, however well its endpoint is.
#[test]
fn slow_backlogs_do_not_keep_another_from_being_read() {
    let mut world = Harness::owning();
    let slow = slow_ones(100);
    backlogs_before_a_well_one(&mut world, &slow, 60, |e| e.rate_limit = one_per(HOUR));
    for name in &slow {
        world.endpoint(name, |e| e.state = EndpointState::Active);
    }
    world.run_for(60 * SECOND);
    world.endpoint("well", |e| e.state = EndpointState::Active);
    world.run_for(HOUR);
    assert_eq!(sent_to(&world, "well"), 10, "in an hour");
}

/// What waits in memory for its second attempt takes the lane's holes: many endpoints that
/// fail stop the lane for those that do not.
#[test]
fn endpoints_that_fail_do_not_stop_the_lane() {
    let mut world = Harness::owning();
    for n in 0..600 {
        world.endpoint(&format!("dead{n}"), |e| e.retry = retry(&[20, 20, 20]));
    }
    world.endpoint("well", |_| {});
    world.answer = Box::new(|sent| match sent.endpoint.as_str() {
        "well" => Answer::Status(200, QUICK),
        _ => Answer::Status(500, QUICK),
    });
    world.deliver("well");
    world.run_for(SECOND);
    for n in 0..1_200 {
        world.deliver(&format!("dead{}", n % 600));
        world.run_for(Duration::from_millis(4));
    }
    let asked_at = world.now;
    let id = world.deliver("well");
    world.run_for(60 * SECOND);
    let sent = world.sent.iter().find(|sent| sent.delivery == id);
    let waited = sent.expect("it was sent").at.since(asked_at);
    assert!(waited < SECOND, "{waited:?}");
}

/// A membership that is lost and found again at once: a limit of two seconds is not reserved,
/// and what was started before counts no more.
#[test]
fn a_limit_holds_when_membership_is_lost_and_regained_at_once() {
    let mut world = Harness::owning();
    world.endpoint("a", |e| {
        e.concurrency = Some(100);
        e.rate_limit = Some(RateLimit {
            attempts: 3,
            per: 2 * SECOND,
            smooth: false,
        });
    });
    for _ in 0..20 {
        world.deliver("a");
    }
    world.run_for(10 * SECOND + SECOND / 2);
    // Right after a group of starts.
    let before = world.sent.len();
    while world.sent.len() == before {
        world.run_for(Duration::from_millis(1));
    }
    world.run_for(QUICK);
    world.worker.handle_lost(world.now);
    world.assign([SLICE]);
    world.run_for(20 * SECOND);
    let starts: Vec<Timestamp> = world.sent.iter().map(|sent| sent.at).collect();
    for four in starts.windows(4) {
        let within = four[3].since(four[0]);
        assert!(within >= 2 * SECOND, "4 starts in {within:?}");
    }
}

/// An attempt decided without a limit did not start; it gives back another's place.
#[test]
fn what_was_not_counted_is_not_given_back() {
    let mut world = Harness::owning();
    world.endpoint("a", |e| e.concurrency = Some(100));
    let none = Rc::new(Cell::new(true));
    let not = Rc::clone(&none);
    world.not_started = Box::new(move |_| not.get().then_some(SECOND / 2));
    for _ in 0..3 {
        world.deliver("a");
    }
    world.run_for(QUICK);
    none.set(false);
    world.endpoint("a", |e| {
        e.rate_limit = Some(RateLimit {
            attempts: 3,
            per: 2 * SECOND,
            smooth: false,
        });
    });
    for _ in 0..10 {
        world.deliver("a");
    }
    world.run_for(20 * SECOND);
    let starts: Vec<Timestamp> = world.sent.iter().map(|sent| sent.at).collect();
    assert_eq!(starts.len(), 13);
    for four in starts.windows(4) {
        let within = four[3].since(four[0]);
        assert!(within >= 2 * SECOND, "4 starts in {within:?}");
    }
}

/// A replay that was asked for twice is taken for a copy the second time, and so is the retry
/// of a replay when the first life of the delivery had one: no attempt, no outcome.
#[test]
fn a_replay_comes_to_an_end_of_its_own() {
    let mut world = Harness::owning();
    world.endpoint("a", |e| e.retry = retry(&[40, 40]));
    world.answer =
        Box::new(|sent| Answer::Status(if sent.attempt == 1 { 500 } else { 200 }, QUICK));
    world.deliver("a");
    let delivery = world.last_delivery();
    world.run_for(120 * SECOND);
    assert_eq!(world.sent.len(), 2);
    world.append(Lane::Redeliveries, delivery);
    world.run_for(300 * SECOND);
    let ends = world
        .attempts
        .iter()
        .filter(|a| a.outcome != Outcome::Retry);
    assert_eq!(ends.count(), 2, "the replay's own");
}

/// A record of a paused endpoint that stays unread moves no cursor: after retention the next
/// reading begins below the log, and the slice's backlog stands still for all.
#[test]
fn a_cursor_does_not_stay_behind_the_first_unread_record() {
    let mut world = Harness::owning();
    let day = 24 * HOUR;
    world.endpoint("a", |e| {
        e.state = EndpointState::Paused;
        e.retry = retry(&[]).map(|policy| RetryPolicy {
            window: 30 * day,
            ..policy
        });
    });
    world.endpoint("b", |e| e.state = EndpointState::Paused);
    world.deliver("a");
    world.run_for(SECOND);
    let old = world.log_end(Lane::Backlog);
    for _ in 0..50 {
        world.deliver("b");
    }
    world.run_for(29 * day);
    let first_unread = world.log_end(Lane::Backlog);
    world.deliver("a");
    world.run_for(2 * day);
    assert_eq!(
        world.dead.len(),
        51,
        "its first one, and those of the other"
    );
    world.read_from.clear();
    // Retention (31 days) has long deleted what lies below by now.
    world.run_for(27 * day);
    world.endpoint("a", |e| e.state = EndpointState::Active);
    world.run_for(SECOND);
    let from = world.read_from.last().copied();
    assert_eq!(
        from,
        Some((Lane::Backlog, Some(first_unread))),
        "{old} is 58 days old"
    );
}

/// One record that no topic takes closes admission for every endpoint of the slice, for ever.
#[test]
fn one_record_too_large_for_dead_letters_stops_no_other_endpoint() {
    let mut world = Harness::owning();
    world.endpoint("a", |e| e.retry = retry(&[]));
    world.endpoint("b", |_| {});
    world.too_large = |write| matches!(write, Write::DeadLetter { .. });
    world.answer = Box::new(|sent| {
        Answer::Status(
            if sent.endpoint.as_str() == "a" {
                500
            } else {
                200
            },
            QUICK,
        )
    });
    world.deliver("a");
    world.run_for(5 * SECOND);
    world.deliver("b");
    world.run_for(600 * SECOND);
    assert_eq!(sent_to(&world, "b"), 1);
}

/// With many slow endpoints in front, each pass is cut after a second and begins anew there:
/// what lies further than that is not reached.
#[test]
fn a_far_backlog_is_reached_in_spite_of_many_slow_ones() {
    let mut world = Harness::owning();
    world.backlog_pace = Duration::from_millis(1);
    let slow = slow_ones(40);
    backlogs_before_a_well_one(&mut world, &slow, 400, |e| {
        e.rate_limit = one_per(SECOND);
        e.concurrency = Some(1);
    });
    world.answer = Box::new(|_| Answer::Status(200, QUICK));
    for name in &slow {
        world.endpoint(name, |e| e.state = EndpointState::Active);
        world.run_for(SECOND / 10);
    }
    world.run_for(10 * SECOND);
    world.endpoint("well", |e| e.state = EndpointState::Active);
    world.run_for(180 * SECOND);
    assert_eq!(sent_to(&world, "well"), 10, "16 s of reading away");
}

/// Replays have spare capacity only; what got none in time goes to the backlog, where it is as
/// good as a first attempt, and fresh deliveries queue up behind it.
#[test]
fn a_replay_that_waits_does_not_hold_up_fresh_deliveries() {
    let mut world = Harness::owning();
    world.endpoint("a", |e| e.concurrency = Some(1));
    for n in 0..40 {
        world.endpoint(&format!("b{n}"), |_| {});
    }
    world.answer = Box::new(|sent| match sent.endpoint.as_str() {
        "a" => Answer::Status(200, SECOND / 20),
        _ => Answer::Status(200, 2 * SECOND),
    });
    world.deliver("a");
    for n in 0..40 {
        world.deliver(&format!("b{n}"));
    }
    let like = world.last_delivery();
    world.run_for(10 * SECOND);
    for n in 0..50 {
        replay(&mut world, &like, "a", 1_000 + n);
    }
    // Half of the worker's room is taken all the time.
    for _ in 0..60 {
        for n in 0..40 {
            world.deliver(&format!("b{n}"));
        }
        world.run_for(SECOND);
    }
    assert_eq!(world.log_len(Lane::Backlog), 0, "of a healthy endpoint");
}

/// Replays that take all of the machine's time make others late, long before they take its room.
#[test]
fn where_attempts_start_late_replays_go_one_by_one() {
    let mut world = Harness::owning();
    world.endpoint("a", |e| e.concurrency = Some(1_000));
    world.answer = Box::new(|_| Answer::Status(200, SECOND / 10));
    world.deliver("a");
    let like = world.last_delivery();
    world.run_for(SECOND);
    let replays = |world: &mut Harness, ids: Range<u128>| {
        ids.for_each(|id| replay(world, &like, "a", id));
    };
    let most = |world: &mut Harness| {
        world.in_flight_high.clear();
        world.run_for(SECOND);
        world.in_flight_high.values().copied().max().unwrap_or(0)
    };
    replays(&mut world, 1_000..1_100);
    assert!(most(&mut world) > 10);
    world.start_delay = SECOND / 200;
    replays(&mut world, 1_100..1_400);
    world.run_for(2 * SECOND);
    assert_eq!(most(&mut world), 1);
    world.start_delay = Duration::ZERO;
    world.run_for(60 * SECOND);
    replays(&mut world, 1_400..1_600);
    assert!(most(&mut world) > 10, "they have the room back");
}

/// A slice that goes away with replays in flight takes none of the room with it.
#[test]
fn replays_of_a_slice_that_was_lost_leave_their_room() {
    let mut world = Harness::owning();
    world.endpoint("a", |e| e.concurrency = Some(1_000));
    world.answer = Box::new(|_| Answer::Status(200, SECOND / 10));
    world.deliver("a");
    let like = world.last_delivery();
    world.run_for(SECOND);
    for time in 0..20 {
        for n in 0..30 {
            replay(&mut world, &like, "a", 1_000 + 100 * time + n);
        }
        world.in_flight_high.clear();
        world.run_for(SECOND / 20);
        world.lose([SLICE]);
        assert!(!world.in_flight_high.is_empty(), "some were in flight");
        world.run_for(5 * SECOND);
    }
    world.run_for(60 * SECOND);
    let sent = world.sent.iter().map(|sent| sent.delivery);
    let sent: std::collections::BTreeSet<_> = sent.collect();
    assert_eq!(sent.len(), 601, "each was sent");
}

/// With endpoint "a", which is unproven: its one delivery failed. Others will hang for `hang`.
fn with_one_unproven(hang: Duration, window: Duration) -> (Harness, Arc<Delivery>) {
    let mut world = Harness::new();
    world.worker = Worker::new(settings(2_048, 1));
    world.assign([SLICE]);
    world.run_for(2 * SECOND);
    let failed = Cell::new(false);
    world.answer = Box::new(move |sent| match sent.endpoint.as_str() {
        "a" if failed.replace(true) => Answer::Status(200, 3 * SECOND),
        "a" => Answer::Fails(ErrorKind::TimeoutConnect, SECOND),
        _ => Answer::Fails(ErrorKind::TimeoutConnect, hang),
    });
    let once = retry(&[]).map(|policy| RetryPolicy { window, ..policy });
    for name in ["a".to_owned()].into_iter().chain((0..400).map(hanging)) {
        world.endpoint(&name, |e| e.retry = once.clone());
    }
    world.deliver("a");
    let like = world.last_delivery();
    world.run_for(60 * SECOND);
    assert_eq!(sent_to(&world, "a"), 1);
    (world, like)
}

fn hanging(n: usize) -> String {
    format!("h{n}")
}

/// The others take all room for unproven endpoints.
fn take_the_room(world: &mut Harness) {
    for n in 0..400 {
        world.deliver(&hanging(n));
    }
    world.run_for(SECOND);
    let hanging = world.in_flight.values().sum::<u32>();
    assert!(hanging > 300, "{hanging} hang");
}

/// A replay whose turn comes while all room for unproven endpoints is taken has one when there is
/// room again, though its endpoint has nothing else.
#[test]
fn a_replay_waits_for_the_room_of_unproven_endpoints() {
    let (mut world, like) = with_one_unproven(10 * SECOND, HOUR);
    take_the_room(&mut world);
    replay(&mut world, &like, "a", 1_000);
    world.run_for(SECOND);
    assert_eq!(sent_to(&world, "a"), 1, "there is no room");
    world.run_for(60 * SECOND);
    assert_eq!(sent_to(&world, "a"), 2);
}

/// It waits for that room no longer when its endpoint answers well.
#[test]
fn a_replay_of_an_endpoint_that_proved_itself_needs_no_room_for_unproven_ones() {
    let (mut world, like) = with_one_unproven(60 * SECOND, HOUR);
    world.deliver("a");
    take_the_room(&mut world);
    replay(&mut world, &like, "a", 1_000);
    world.run_for(SECOND);
    assert_eq!(sent_to(&world, "a"), 2, "the answer is not there yet");
    world.run_for(5 * SECOND);
    assert_eq!(sent_to(&world, "a"), 3);
}

/// A replay gave way to a delivery of its endpoint that then came to its end without an attempt.
#[test]
fn a_replay_has_its_turn_after_what_it_gave_way_to_is_gone() {
    let (mut world, like) = with_one_unproven(60 * SECOND, 40 * SECOND);
    take_the_room(&mut world);
    let fresh = world.deliver("a");
    world.run_for(30 * SECOND);
    replay(&mut world, &like, "a", 1_000);
    world.run_for(20 * SECOND);
    assert!(world.dead.iter().any(|(id, ..)| *id == fresh));
    assert_eq!(sent_to(&world, "a"), 1, "there was no room");
    world.run_for(15 * SECOND);
    assert_eq!(sent_to(&world, "a"), 2, "the replay");
}

/// Whoever has a replay waiting is put into the list of replays once more with every delivery.
#[test]
fn the_list_of_replays_does_not_grow_with_each_delivery() {
    let mut world = Harness::owning();
    world.endpoint("a", |_| {});
    for n in 0..40 {
        world.endpoint(&format!("b{n}"), |_| {});
    }
    world.answer = Box::new(|sent| match sent.endpoint.as_str() {
        "a" => Answer::Status(200, Duration::from_millis(1)),
        _ => Answer::Status(200, 2 * SECOND),
    });
    world.deliver("a");
    for n in 0..40 {
        world.deliver(&format!("b{n}"));
    }
    let like = world.last_delivery();
    world.run_for(10 * SECOND);
    let mut listed = 0;
    for second in 0..30 {
        for n in 0..22 {
            world.deliver(&format!("b{n}"));
        }
        if second == 2 {
            replay(&mut world, &like, "a", 1_000);
        }
        for _ in 0..100 {
            world.deliver("a");
            world.run_for(QUICK);
            listed = listed.max(world.worker.replays_listed(SLICE));
        }
    }
    assert!(listed <= 2, "{listed} places in the list");
}

/// While a slice is drained, a pass that is overdue stays due: the shell spins.
#[test]
fn no_deadline_stays_due_while_a_slice_is_drained() {
    let mut world = Harness::owning();
    world.backlog_pace = Duration::from_millis(5);
    for name in ["skipped", "a", "z"] {
        world.endpoint(name, |e| e.state = EndpointState::Paused);
    }
    world.answer = Box::new(|_| Answer::Status(200, 10 * SECOND));
    world.deliver("a");
    world.run_for(QUICK);
    for _ in 0..600 {
        world.deliver("skipped");
    }
    world.run_for(SECOND);
    world.deliver("a");
    world.run_for(SECOND);
    world.endpoint("a", |e| e.state = EndpointState::Active);
    world.run_for(SECOND / 2);
    world.deliver("z");
    world.run_for(SECOND / 10);
    world.endpoint("z", |e| e.state = EndpointState::Active);
    world.run_for(SECOND / 2);
    world.revoke([SLICE]);
    // The harness asserts that no deadline stays due.
    world.run_for(60 * SECOND);
    assert_eq!(world.hand_backs, 1);
}

/// A turn that was put off for want of room for unproven endpoints stays put off when the
/// endpoint proves itself meanwhile.
#[test]
fn an_endpoint_that_proved_itself_waits_no_longer_for_those_that_hang() {
    let mut world = Harness::owning();
    for n in 0..40 {
        world.endpoint(&format!("hangs{n}"), |_| {});
    }
    world.endpoint("well", |_| {});
    world.endpoint("warm", |_| {});
    world.answer = Box::new(|sent| match sent.endpoint.as_str() {
        "well" | "warm" => Answer::Status(200, SECOND / 10),
        _ => Answer::Fails(ErrorKind::TimeoutHead, 15 * SECOND),
    });
    world.deliver("warm");
    world.run_for(3 * SECOND);
    world.deliver("well");
    world.run_for(Duration::from_millis(2));
    for n in 0..40 {
        world.deliver(&format!("hangs{n}"));
    }
    world.run_for(SECOND / 20);
    world.deliver("well");
    world.run_for(3 * SECOND);
    world.deliver("well");
    world.run_for(3 * SECOND);
    assert!(world.worker.in_flight() < 64, "there is room");
    assert_eq!(sent_to(&world, "well"), 3);
}

/// Right after an acquisition every endpoint is unproven: those that hang are in front of
/// those of which nothing is known.
#[test]
fn endpoints_that_hang_do_not_delay_the_first_delivery_of_another() {
    let mut world = Harness::owning();
    for n in 0..100 {
        world.endpoint(&format!("hangs{n}"), |_| {});
    }
    world.endpoint("well", |_| {});
    world.answer = Box::new(|sent| match sent.endpoint.as_str() {
        "well" => Answer::Status(200, QUICK),
        _ => Answer::Fails(ErrorKind::TimeoutHead, 15 * SECOND),
    });
    // They are known to hang.
    for _ in 0..3 {
        for n in 0..100 {
            world.deliver(&format!("hangs{n}"));
        }
        world.run_for(60 * SECOND);
    }
    let asked_at = world.now;
    let id = world.deliver("well");
    world.run_for(200 * SECOND);
    let sent = world.sent.iter().find(|sent| sent.delivery == id);
    let waited = sent.expect("it was sent").at.since(asked_at);
    assert!(waited < 5 * SECOND, "{waited:?}");
}

/// At a hand-over waits shorter than any rung go to the shortest one, in no order: what is
/// due soon is read only when what waits before it is due.
#[test]
fn a_retry_is_not_late_because_of_a_hand_over() {
    let mut world = Harness::owning();
    for n in 0..100 {
        world.endpoint(&format!("a{n}"), |e| e.retry = retry(&[29]));
    }
    world.endpoint("b", |e| e.retry = retry(&[8]));
    world.answer =
        Box::new(|sent| Answer::Status(if sent.attempt == 1 { 500 } else { 200 }, QUICK));
    for n in 0..100 {
        world.deliver(&format!("a{n}"));
    }
    world.run_for(SECOND);
    world.deliver("b");
    world.run_for(SECOND);
    world.revoke([SLICE]);
    world.run_for(SECOND);
    world.assign([SLICE]);
    world.run_for(60 * SECOND);
    let of_b: Vec<_> = world
        .sent
        .iter()
        .filter(|sent| sent.endpoint.as_str() == "b")
        .map(|sent| sent.at)
        .collect();
    assert_eq!(of_b.len(), 2);
    let late = of_b[1].since(of_b[0] + 8 * SECOND);
    assert!(late <= 5 * SECOND, "{late:?} late");
}

/// The only record of a backlog was too large for it: nobody looks at the backlog again, and
/// it is remembered for ever.
#[test]
fn a_backlog_whose_only_record_went_elsewhere_is_forgotten() {
    let mut world = Harness::owning();
    world.endpoint("a", |e| e.state = EndpointState::Paused);
    world.too_large = |write| matches!(write, Write::Backlog { .. });
    world.deliver("a");
    world.run_for(2 * HOUR);
    assert_eq!(world.dead.len(), 1);
    assert!(world.remembers_nothing());
}

/// A fence that was written twice (the first acknowledgement was lost) and read back in one
/// batch, before the committed offsets came: the second one brings an empty memory.
#[test]
fn a_fence_that_was_written_twice_forgets_nothing() {
    use crate::io::{Claim, Epoch, Order};
    let mut world = Harness::owning();
    world.endpoint("a", |e| e.state = EndpointState::Paused);
    for _ in 0..5 {
        world.deliver("a");
    }
    world.run_for(SECOND);
    let backlog = world.state.last().cloned().expect("a has a backlog").1;
    let mut settings = settings(64, 9);
    settings.claimant = 9;
    let mut worker = Worker::new(settings);
    let (now, claim) = (world.now, Claim(1));
    worker.handle_assigned([SLICE]);
    let first = StateEntry::Fence {
        epoch: Epoch(1),
        claimant: 0,
    };
    worker.handle_state(now, SLICE, claim, first);
    worker.handle_state(now, SLICE, claim, backlog);
    worker.handle_state_loaded(SLICE, claim);
    // Its acknowledgement is lost, it is written again: both are on the log.
    let ours = StateEntry::Fence {
        epoch: Epoch(2),
        claimant: 9,
    };
    worker.handle_state(now, SLICE, claim, ours.clone());
    worker.handle_state(now, SLICE, claim, ours);
    let committed = std::array::from_fn(|_| Some((45, String::new())));
    worker.handle_offsets(now, SLICE, claim, committed, 45, &[]);
    let id = "a".parse().unwrap();
    worker.handle_endpoint(now, SLICE, id, Some(plain(&"a".parse().unwrap())));
    worker.handle_endpoints_loaded(now, SLICE, claim);
    let orders: Vec<Order> = std::iter::from_fn(|| worker.poll_order()).collect();
    let reads = |order: &Order| matches!(order, Order::Read { reading, from: Some(_) } if reading.lane == Lane::Backlog);
    assert!(orders.iter().any(reads), "its backlog is read: {orders:#?}");
}
