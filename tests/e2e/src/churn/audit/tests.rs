//! The audit finds what is wrong, and only that: journals made by hand.

use postrider_test_support::Receipt;

use super::super::journal::{
    Action, Attempted, Committed, Event, Journal, Place, Said, Saying, Setting, What, event_id,
};
use super::{Audit, Cause, Verdict};

mod limit;
mod order;

/// The beginning, ms: a whole second.
const T0: u64 = 1_700_000_000_000;

/// One slice, an event every 100 ms, each delivered at once by worker 1 until told otherwise.
struct Story {
    journal: Journal,
}

impl Story {
    /// Events for so many seconds.
    fn of(seconds: u64) -> Self {
        let events = (0..seconds * 10).map(|n| Event {
            number: n as usize,
            slice: 0,
            subject: None,
            sent_ms: T0 + n * 100,
            acked_ms: Some(T0 + n * 100),
            tries: 1,
        });
        let start = |worker| What::Start {
            worker,
            pid: 100 + worker,
        };
        let mut story = Self {
            journal: Journal {
                setting: Setting {
                    name: "story".into(),
                    session_ms: 6_000,
                    heartbeat_ms: 1_000,
                    timeout_ms: 1_000,
                    slices: 1,
                    endpoints: 1,
                    events_per_second: 10,
                    subject: None,
                },
                actions: Vec::new(),
                events: events.collect(),
                requests: Vec::new(),
                attempts: Vec::new(),
                commits: Vec::new(),
                sayings: Vec::new(),
            },
        };
        for worker in 1..=3 {
            story.action(0, start(worker));
        }
        story
    }

    fn action(&mut self, at: u64, what: What) {
        let at_ms = T0 + at;
        self.journal.actions.push(Action { at_ms, what });
    }

    /// A worker delivers the events of a span, each as soon as it is there and not before `from`.
    fn delivers(&mut self, worker: u32, events: std::ops::Range<usize>, from: u64) {
        for event in events {
            let at = from.max(event as u64 * 100);
            self.requests(worker, event, at);
            self.recorded(worker, event, at);
        }
    }

    fn requests(&mut self, worker: u32, event: usize, at: u64) {
        self.journal.requests.push(Receipt {
            arrived_ms: T0 + at + 2,
            path: "/".into(),
            id: Some(format!("d{event}")),
            timestamp: Some(((T0 + at) / 1_000).to_string()),
            attempt: Some("1".into()),
            verdict: "ok".into(),
            sha256: String::new(),
            sender: Some(100 + worker),
            event: Some(event_id(event).into()),
            status: 200,
        });
    }

    fn recorded(&mut self, worker: u32, event: usize, at: u64) {
        self.journal.attempts.push(Attempted {
            event,
            attempt: 1,
            started_ms: T0 + at,
            ended_ms: T0 + at + 5,
            written_ms: T0 + at + 6,
            outcome: "delivered".into(),
            pid: 100 + worker,
            slice: 0,
            epoch: u64::from(worker),
        });
    }

    fn audit(&self) -> Audit {
        Audit::of(&self.journal)
    }
}

#[test]
fn a_hand_over_in_order_is_nothing() {
    let mut story = Story::of(20);
    story.action(10_000, What::Terminate { worker: 1 });
    let ended = What::Ended {
        worker: 1,
        code: Some(0),
        signal: None,
    };
    story.action(10_200, ended);
    story.delivers(1, 0..100, 0);
    story.delivers(2, 100..200, 11_500);
    let audit = story.audit();
    assert!(audit.lost.is_empty() && audit.unrecorded.is_empty());
    assert!(audit.overlaps.is_empty() && audit.failed.is_empty());
    assert_eq!((audit.repeats.requests, audit.repeats.bound), (0, 0));
    let [gap] = audit.gaps.as_slice() else {
        panic!("{:?}", audit.gaps)
    };
    // event 100 was due at 10.0 s
    assert_eq!((gap.cause, gap.ms()), (Cause::Clean, 1_500));
    assert_eq!((gap.old, gap.new, gap.verdict), (1, 2, Verdict::Within));
}

#[test]
fn a_slow_hand_over_without_a_cause_is_beyond() {
    let mut story = Story::of(20);
    story.delivers(1, 0..100, 0);
    story.delivers(2, 100..200, 13_100);
    let audit = story.audit();
    assert_eq!(audit.gaps[0].verdict, Verdict::Beyond);
    assert_eq!(audit.gaps[0].ms(), 3_100);
}

#[test]
fn a_standstill_of_one_owner_is_found_too() {
    let mut story = Story::of(20);
    story.delivers(1, 0..100, 0);
    story.delivers(1, 100..200, 14_000);
    let audit = story.audit();
    assert_eq!(audit.gaps.len(), 1, "{:?}", audit.gaps);
    assert!(!audit.gaps[0].handed_over);
    assert_eq!(audit.gaps[0].verdict, Verdict::Beyond);
}

#[test]
fn what_waits_for_its_turn_is_not_due() {
    let mut story = Story::of(20);
    story.delivers(1, 0..100, 0);
    story.delivers(1, 100..200, 14_000);
    for (place, event) in story.journal.events[100..].iter_mut().enumerate() {
        event.subject = Some(place);
    }
    assert!(story.audit().gaps.is_empty());
}

#[test]
fn a_crash_has_its_bound_and_two_of_them_have_theirs() {
    for (second_kill, taken_over, verdict) in [
        (None, 20_900, Verdict::Within),
        (None, 21_100, Verdict::Beyond),
        (Some(16_000), 20_900, Verdict::Within),
        (Some(16_000), 26_900, Verdict::Stacked),
        (Some(16_000), 27_100, Verdict::Beyond),
    ] {
        let mut story = Story::of(40);
        story.action(10_000, What::Kill { worker: 1 });
        if let Some(at) = second_kill {
            story.action(at, What::Kill { worker: 3 });
        }
        story.delivers(1, 0..100, 0);
        story.delivers(2, 100..400, taken_over);
        let audit = story.audit();
        let gap = &audit.gaps[0];
        assert_eq!((gap.cause, gap.verdict), (Cause::Crash, verdict), "{gap:?}");
    }
}

#[test]
fn an_outage_adds_its_length_and_ten_seconds() {
    let mut story = Story::of(60);
    story.action(10_000, What::Kill { worker: 1 });
    story.action(12_000, What::KillBroker);
    story.action(17_000, What::BrokerReady);
    story.delivers(1, 0..100, 0);
    story.delivers(2, 100..600, 35_900);
    let gap = &story.audit().gaps[0];
    assert_eq!((gap.cause, gap.verdict), (Cause::Outage, Verdict::Within));
}

#[test]
fn a_coordinator_that_comes_back_gives_the_dead_a_new_session() {
    for (taken_over, verdict) in [(37_900, Verdict::Stacked), (38_100, Verdict::Beyond)] {
        let mut story = Story::of(60);
        story.action(10_000, What::Kill { worker: 1 });
        story.action(16_000, What::KillBroker);
        story.action(17_000, What::BrokerReady);
        story.delivers(1, 0..100, 0);
        story.delivers(2, 100..600, taken_over);
        let gap = &story.audit().gaps[0];
        assert_eq!(gap.verdict, verdict, "{gap:?}");
    }
}

#[test]
fn an_owner_that_starts_after_its_successor_is_a_double_owner() {
    let mut story = Story::of(20);
    story.delivers(1, 0..100, 0);
    story.delivers(2, 100..150, 0);
    story.delivers(1, 150..152, 0);
    story.delivers(2, 152..200, 0);
    let audit = story.audit();
    assert_eq!(audit.overlaps.len(), 1, "{:?}", audit.overlaps);
    let overlap = &audit.overlaps[0];
    assert_eq!((overlap.old, overlap.new, overlap.requests), (1, 2, 2));
    assert_eq!(overlap.for_ms, 5_100);
}

#[test]
fn what_a_woken_worker_had_in_hand_differs_from_what_it_starts() {
    let mut story = Story::of(40);
    story.action(10_000, What::Freeze { worker: 1 });
    story.action(22_000, What::Thaw { worker: 1 });
    story.delivers(1, 0..100, 0);
    story.delivers(2, 100..400, 17_000);
    // signed before it froze, read after it woke, and no record
    story.requests(1, 100, 10_000);
    let late = story.journal.requests.last_mut().expect("one");
    late.arrived_ms = T0 + 22_010;
    let audit = story.audit();
    let woken = &audit.woken[0];
    assert!(woken.past_session);
    assert_eq!((woken.in_hand, woken.started, woken.taken_over), (1, 0, 0));
    assert!(audit.repeats.unexcused.is_empty(), "{:?}", audit.repeats);

    // made after it woke
    story.requests(1, 101, 22_020);
    let audit = story.audit();
    let woken = &audit.woken[0];
    assert_eq!((woken.in_hand, woken.started, woken.taken_over), (1, 1, 1));
    assert_eq!(audit.overlaps.len(), 1);
    assert_eq!(audit.repeats.unexcused.len(), 1);
}

#[test]
fn what_the_group_takes_of_a_woken_worker_is_counted_until_it_is_a_member_again() {
    let mut story = Story::of(40);
    story.action(10_000, What::Freeze { worker: 1 });
    story.action(22_000, What::Thaw { worker: 1 });
    story.delivers(1, 0..100, 0);
    story.delivers(2, 100..400, 17_000);
    for (worker, at, what, offset) in [
        (1, 9_900, Said::CommitAccepted, 1),
        // taken before it froze, heard afterwards
        (1, 22_005, Said::CommitAccepted, 2),
        (1, 22_010, Said::CommitRefused, 3),
        (1, 22_020, Said::CommitAccepted, 4),
        // taken, and nobody knows when
        (1, 22_030, Said::CommitAccepted, 5),
        (1, 22_500, Said::Assigned, 0),
        (1, 22_600, Said::CommitAccepted, 6),
        (2, 22_015, Said::CommitAccepted, 7),
    ] {
        let place = Place {
            topic: "t".to_owned(),
            partition: 0,
            offset,
        };
        story.journal.sayings.push(Saying {
            at_ms: T0 + at,
            worker,
            what,
            place: (what == Said::CommitAccepted).then_some(place),
        });
    }
    for (at, offset) in [
        (9_890, 1),
        (9_990, 2),
        (22_018, 4),
        (22_590, 6),
        (22_010, 7),
    ] {
        story.journal.commits.push(Committed {
            at_ms: T0 + at,
            topic: "t".to_owned(),
            partition: 0,
            offset,
        });
    }
    let audit = story.audit();
    let woken = &audit.woken[0];
    assert_eq!((woken.refused, woken.accepted), (1, 2));
}

#[test]
fn a_kill_excuses_what_was_not_committed_and_no_more() {
    let mut story = Story::of(40);
    story.action(10_000, What::Kill { worker: 1 });
    story.delivers(1, 0..100, 0);
    // finished 1 s before, and 5 s before
    story.delivers(2, 90..91, 16_000);
    story.delivers(2, 50..51, 16_000);
    story.delivers(2, 100..400, 16_000);
    let audit = story.audit();
    assert_eq!(audit.repeats.requests, 2);
    assert_eq!(audit.repeats.unexcused, [(50, T0 + 5_000)]);
}

/// A signal takes a while on a busy machine, and a slice is lost when the broker is back.
#[test]
fn what_was_done_until_a_worker_was_gone_or_the_broker_back_may_be_repeated() {
    let repeated = |actions: &[(u64, What)]| {
        let mut story = Story::of(40);
        for (at, what) in actions {
            story.action(*at, *what);
        }
        // finished 9.805 s after the beginning
        story.delivers(1, 0..99, 0);
        story.delivers(2, 98..400, 25_000);
        story.audit().repeats.unexcused.len()
    };
    let ended = What::Ended {
        worker: 1,
        code: None,
        signal: Some(9),
    };
    let killed = What::Kill { worker: 1 };
    assert_eq!(repeated(&[(7_000, killed), (7_010, ended)]), 1);
    assert_eq!(repeated(&[(7_000, killed), (10_500, ended)]), 0);
    assert_eq!(
        repeated(&[(5_000, What::FreezeBroker), (7_000, What::ThawBroker)]),
        1
    );
    assert_eq!(
        repeated(&[(5_000, What::FreezeBroker), (10_500, What::ThawBroker)]),
        0
    );
}

#[test]
fn a_count_that_died_with_its_worker_is_no_repeat_and_one_that_did_not_is() {
    for (killed_at, unexcused) in [(Some(10_000), 0), (Some(52_000), 1), (None, 1)] {
        let mut story = Story::of(60);
        if let Some(at) = killed_at {
            story.action(at, What::Kill { worker: 1 });
        }
        story.delivers(1, 0..51, 0);
        // taken, and the answer came too late
        let late = story.journal.attempts.last_mut().expect("one");
        late.outcome = "retry".into();
        story.delivers(2, 50..51, 55_000);
        let repeats = story.audit().repeats;
        assert_eq!((repeats.requests, repeats.unexcused.len()), (1, unexcused));
    }
}

#[test]
fn losses_and_requests_without_records_are_named() {
    let mut story = Story::of(10);
    story.delivers(1, 0..98, 0);
    story.requests(1, 98, 9_800);
    let audit = story.audit();
    assert_eq!(audit.lost, [99]);
    assert_eq!(audit.unrecorded, [98]);
}

#[test]
fn an_offset_below_an_earlier_one_is_found() {
    let mut story = Story::of(1);
    let commit = |partition, offset| Committed {
        at_ms: T0,
        topic: "deliveries".into(),
        partition,
        offset,
    };
    story.journal.commits = vec![commit(0, 5), commit(1, 3), commit(0, 5), commit(0, 4)];
    let backwards = story.audit().backwards;
    assert_eq!(backwards, [(commit(0, 4), commit(0, 5))]);
}

#[test]
fn a_worker_that_ends_unasked_is_named() {
    let mut story = Story::of(1);
    let ended = |worker, code, signal| What::Ended {
        worker,
        code,
        signal,
    };
    story.action(100, What::Terminate { worker: 1 });
    story.action(200, ended(1, Some(0), None));
    story.action(300, What::Kill { worker: 2 });
    story.action(400, ended(2, None, Some(9)));
    story.action(500, ended(3, None, Some(6)));
    assert_eq!(story.audit().failed, [ended(3, None, Some(6))]);
}
