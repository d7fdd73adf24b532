//! Slices come and go: hand-over without a repeat, crashes within the bound.

use std::cell::Cell;
use std::time::Duration;

use postrider_domain::{EndpointState, Lane, Outcome, Slice, Timestamp};

use super::harness::{Answer, Harness, SLICE, retry};
use crate::fence::Claimed;
use crate::io::{Claim, Epoch, Reading, StateEntry};
use crate::slice::{Acquired, SliceEngine};
use crate::worker::{CommitAnswer, DRAIN_MAX};

const SECOND: Duration = Duration::from_secs(1);
const QUICK: Duration = Duration::from_millis(10);

#[test]
fn a_revoked_slice_is_drained_committed_and_handed_back() {
    let mut world = Harness::owning();
    world.endpoint("a", |_| {});
    world.answer = Box::new(|_| Answer::Status(200, 3 * SECOND));
    for _ in 0..10 {
        world.deliver("a");
    }
    world.run_for(SECOND);
    world.revoke([SLICE]);
    assert_eq!(world.hand_backs, 0, "attempts are in flight");
    world.run_for(5 * SECOND);
    assert_eq!(world.hand_backs, 1);
    assert_eq!(world.sent.len(), 4, "nothing new was started");
    assert_eq!(world.committed_to(Lane::Deliveries), Some(44));
    world.assign([SLICE]);
    world.run_for(20 * SECOND);
    assert_eq!(world.sent.len(), 10, "a clean hand-over repeats nothing");
    assert!(world.all_committed());
}

#[test]
fn a_report_of_an_earlier_ownership_says_nothing_of_the_request_that_is_made_now() {
    let mut world = Harness::owning();
    world.endpoint("a", |_| {});
    let first = Cell::new(true);
    world.answer = Box::new(move |_| {
        let status = if first.take() { 500 } else { 200 };
        Answer::Status(status, 6 * SECOND)
    });
    world.deliver("a");
    world.run_for(SECOND);
    assert_eq!(world.sent.len(), 1);
    world.lose([SLICE]);
    world.run_for(4 * SECOND);
    assert_eq!(
        world.sent.len(),
        2,
        "made again before the first is heard of"
    );
    world.run_for(60 * SECOND);
    let outcomes: Vec<Outcome> = world.attempts.iter().map(|a| a.outcome).collect();
    assert_eq!(outcomes, [Outcome::Delivered], "one record, of the second");
    assert_eq!(world.sent.len(), 2);
    assert!(world.all_committed());
}

#[test]
fn revocations_that_come_while_one_is_open_are_answered_together() {
    let mut world = Harness::owning();
    world.endpoint("a", |_| {});
    world.assign([Slice(1)]);
    world.answer = Box::new(|_| Answer::Status(200, 3 * SECOND));
    world.deliver("a");
    world.run_for(SECOND);
    world.revoke([SLICE]);
    world.revoke([Slice(1)]);
    assert_eq!(world.hand_backs, 0);
    world.run_for(5 * SECOND);
    assert_eq!(world.hand_backs, 1);
    assert_eq!(world.worker.owned().count(), 0);
}

#[test]
fn a_retry_that_waits_in_memory_survives_a_hand_over() {
    let mut world = Harness::owning();
    world.endpoint("a", |e| e.retry = retry(&[20]));
    world.answer =
        Box::new(|sent| Answer::Status(if sent.attempt == 1 { 500 } else { 200 }, QUICK));
    world.deliver("a");
    world.run_for(5 * SECOND);
    world.revoke([SLICE]);
    world.run_for(SECOND);
    assert_eq!(world.hand_backs, 1);
    world.assign([SLICE]);
    world.run_for(60 * SECOND);
    let waited = world.sent[1].at.since(world.sent[0].at);
    assert_eq!(waited, 20 * SECOND + QUICK, "neither early nor late");
    assert_eq!(world.sent[1].attempt, 2);
    assert!(world.all_committed());
}

#[test]
fn a_slice_that_cannot_drain_is_handed_back_after_the_deadline() {
    let mut world = Harness::owning();
    world.endpoint("a", |_| {});
    world.write_fails = Box::new(|| true);
    world.deliver("a");
    world.run_for(SECOND);
    world.revoke([SLICE]);
    world.run_for(DRAIN_MAX - SECOND);
    assert_eq!(world.hand_backs, 0);
    world.run_for(2 * SECOND);
    assert_eq!(world.hand_backs, 1);
    assert!(
        world
            .committed_to(Lane::Deliveries)
            .is_none_or(|to| to == 40)
    );
}

#[test]
fn the_last_commit_is_sent_again_until_it_is_accepted() {
    let mut world = Harness::owning();
    world.endpoint("a", |_| {});
    world.deliver("a");
    world.run_for(2 * SECOND);
    let mut refusals = 5;
    world.commit_fails = Box::new(move || {
        refusals -= 1;
        refusals >= 0
    });
    world.deliver("a");
    world.run_for(SECOND / 2);
    world.revoke([SLICE]);
    // 3.1 s of pauses
    world.run_for(4 * SECOND);
    assert_eq!(world.hand_backs, 1);
    assert!(world.all_committed());
}

#[test]
fn a_lost_membership_drops_everything_and_commits_nothing() {
    let mut world = Harness::owning();
    world.endpoint("a", |_| {});
    world.answer = Box::new(|_| Answer::Status(200, SECOND));
    world.deliver("a");
    world.run_for(SECOND / 2);
    world.worker.handle_lost(world.now);
    world.run_for(5 * SECOND);
    assert_eq!(world.hand_backs, 1);
    assert_eq!(world.committed_to(Lane::Deliveries), Some(40));
    assert_eq!(
        world.worker.in_flight(),
        0,
        "the late report gave its room back"
    );
}

#[test]
fn a_shutdown_drains_and_leaves() {
    let mut world = Harness::owning();
    world.endpoint("a", |_| {});
    world.answer = Box::new(|_| Answer::Status(200, SECOND));
    for _ in 0..9 {
        world.deliver("a");
    }
    world.run_for(SECOND / 2);
    world.shut_down();
    world.assign([Slice(5)]);
    world.run_for(5 * SECOND);
    assert!(world.left);
    assert_eq!(world.worker.owned().count(), 0);
    assert_eq!(world.committed_to(Lane::Deliveries), Some(44));
}

#[test]
fn a_crash_repeats_at_most_what_no_accepted_commit_covers() {
    let mut world = Harness::owning();
    world.endpoint("a", |e| e.concurrency = Some(10));
    world.answer = Box::new(|_| Answer::Status(200, SECOND / 10));
    for _ in 0..1_000 {
        world.deliver("a");
    }
    world.run_for(Duration::from_millis(4_950));
    let (before, repeatable) = (world.sent.len(), world.repeatable());
    // In flight, and one second at 100 per second with the commit that was under way.
    assert!(repeatable <= 10 + 110, "{repeatable}");
    world.crash([SLICE]);
    world.run_for(100 * SECOND);
    assert!(before < 1_000);
    assert_eq!(
        world.sent.len() - 1_000,
        repeatable,
        "sent twice: what no commit covered"
    );
    assert!(world.all_committed());
}

#[test]
fn a_damaged_map_is_replayed_not_trusted() {
    let mut world = Harness::owning();
    world.endpoint("a", |e| e.retry = retry(&[20]));
    world.answer = Box::new(|sent| {
        let head = sent.delivery.to_string().ends_with("01");
        Answer::Status(if head && sent.attempt == 1 { 500 } else { 200 }, QUICK)
    });
    for _ in 0..5 {
        world.deliver("a");
    }
    world.run_for(3 * SECOND);
    let (offset, metadata) = world.committed[&(SLICE, Lane::Deliveries)].clone();
    assert_eq!(offset, 40);
    assert!(!metadata.is_empty());
    world
        .committed
        .insert((SLICE, Lane::Deliveries), (offset, format!("{metadata}AA")));
    world.crash([SLICE]);
    world.run_for(60 * SECOND);
    assert_eq!(world.sent.len(), 10 + 1, "all five again, and one retry");
    assert!(world.all_committed());
}

#[test]
fn an_engine_reads_nothing_before_its_endpoints_are_loaded() {
    let committed = std::array::from_fn(|_| None);
    let defaults = crate::io::Defaults {
        concurrency: 1,
        timeout: SECOND,
        retry: retry(&[1]).expect("a policy"),
    };
    let acquired = Acquired {
        slice: SLICE,
        claim: Claim(1),
        claimant: 0,
        committed,
        backlog_end: 0,
        faulty: Vec::new(),
        claimed: Claimed::default(),
    };
    let now = Timestamp::default();
    let mut engine = SliceEngine::new(now, acquired, 0, defaults);
    assert!(engine.poll_order().is_none());
    engine.open(now);
    assert!(engine.poll_order().is_some());
}

#[test]
fn a_lane_that_is_lost_stands_still_until_the_slice_is_acquired_anew() {
    let mut world = Harness::owning();
    world.endpoint("a", |_| {});
    world.run_for(SECOND);
    let reading = |claim, number| Reading {
        slice: SLICE,
        claim,
        lane: Lane::Deliveries,
        number,
    };
    world
        .worker
        .handle_lane_lost(world.now, reading(Claim(9), 1));
    world.deliver("a");
    world.run_for(SECOND);
    assert_eq!(world.sent.len(), 1, "the alarm was for another ownership");
    world
        .worker
        .handle_lane_lost(world.now, reading(Claim(1), 1));
    world.deliver("a");
    world.run_for(5 * SECOND);
    assert_eq!(world.sent.len(), 1);
    world.crash([SLICE]);
    world.run_for(5 * SECOND);
    assert!(world.all_committed());
}

#[test]
fn a_commit_that_finds_us_no_member_loses_every_slice() {
    let mut world = Harness::owning();
    world.endpoint("a", |_| {});
    world.commit_answer = Some(CommitAnswer::NotAMember);
    world.deliver("a");
    world.run_for(3 * SECOND);
    assert_eq!(world.worker.owned().count(), 0);
    assert_eq!(world.committed_to(Lane::Deliveries), Some(40));
}

/// Cut off from its group, not from the topics: what it reads meanwhile is for whoever owns the
/// slice by then.
#[test]
fn nothing_is_moved_while_another_may_own_the_slice() {
    let mut world = Harness::owning();
    world.endpoint("a", |e| e.state = EndpointState::Paused);
    world.deliver("a");
    world.run_for(5 * SECOND);
    assert_eq!(world.log_len(Lane::Backlog), 1);
    world.commit_fails = Box::new(|| true);
    world.run_for(40 * SECOND);
    for _ in 0..20 {
        world.deliver("a");
    }
    world.run_for(60 * SECOND);
    assert_eq!(world.log_len(Lane::Backlog), 1);
    world.commit_fails = Box::new(|| false);
    world.run_for(10 * SECOND);
    assert_eq!(world.log_len(Lane::Backlog), 21, "it was ours all along");

    world.commit_fails = Box::new(|| true);
    world.run_for(40 * SECOND);
    for _ in 0..20 {
        world.deliver("a");
    }
    world.run_for(60 * SECOND);
    world.commit_fails = Box::new(|| false);
    world.lose([SLICE]);
    world.run_for(10 * SECOND);
    assert_eq!(
        world.log_len(Lane::Backlog),
        41,
        "one copy of each, by the owner"
    );
    world.endpoint("a", |e| e.state = EndpointState::Active);
    world.run_for(60 * SECOND);
    assert_eq!((world.sent.len(), world.repeats()), (41, 0));
    assert!(world.all_committed());
}

#[test]
fn nothing_is_given_up_while_another_may_own_the_slice() {
    let mut world = Harness::owning();
    world.commit_fails = Box::new(|| true);
    world.run_for(40 * SECOND);
    world.deliver("nobody");
    world.run_for(60 * SECOND);
    assert!(world.attempts.is_empty() && world.dead.is_empty());
    world.commit_fails = Box::new(|| false);
    world.run_for(10 * SECOND);
    assert_eq!((world.attempts.len(), world.dead.len()), (1, 1));
    assert!(world.all_committed());
}

#[test]
fn a_fence_of_somebody_who_woke_up_late_is_answered_once_we_are_known_to_be_the_owner() {
    let mut world = Harness::owning();
    world.endpoint("a", |e| e.state = EndpointState::Paused);
    world.deliver("a");
    world.run_for(2 * SECOND);
    world.commit_fails = Box::new(|| true);
    let late = StateEntry::Fence {
        epoch: Epoch(7),
        claimant: 99,
    };
    world.write_state((SLICE, late));
    world.endpoint("b", |_| {});
    world.deliver("b");
    world.run_for(30 * SECOND);
    assert!(world.sent.is_empty(), "it may be the owner");
    world.commit_fails = Box::new(|| false);
    world.run_for(10 * SECOND);
    assert_eq!(world.sent.len(), 1);
    let ours = world.state.iter().rev().take(2).any(|(_, entry)| {
        matches!(
            entry,
            StateEntry::Endpoint {
                epoch: Epoch(8),
                ..
            }
        )
    });
    assert!(ours, "what is remembered stands behind the new fence");
    world.revoke([SLICE]);
    world.run_for(SECOND);
    world.assign([SLICE]);
    world.run_for(2 * SECOND);
    world.endpoint("a", |e| e.state = EndpointState::Active);
    world.run_for(2 * SECOND);
    assert_eq!(world.sent.len(), 2, "its backlog was not forgotten");
}
