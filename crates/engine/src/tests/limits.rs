//! An endpoint's rate limit through hand-overs and crashes, and a receiver that asks for a pause.

use std::time::Duration;

use postrider_domain::{DeadLetterReason, RateLimit};

use super::harness::{Answer, Harness, SLICE, Sent, retry};

const SECOND: Duration = Duration::from_secs(1);
const QUICK: Duration = Duration::from_millis(10);

fn limit(attempts: u32, per: Duration) -> Option<RateLimit> {
    Some(RateLimit {
        attempts,
        per,
        smooth: false,
    })
}

/// Most starts in any window of that length.
fn most(sent: &[Sent], per: Duration) -> usize {
    let in_window = |first: &Sent| {
        let end = first.at + per;
        sent.iter()
            .filter(|sent| (first.at..end).contains(&sent.at))
            .count()
    };
    sent.iter().map(in_window).max().unwrap_or_default()
}

#[test]
fn a_limit_holds_and_is_used_through_hand_overs() {
    let mut world = Harness::owning();
    world.endpoint("a", |e| e.rate_limit = limit(50, SECOND));
    for _ in 0..2_000 {
        world.deliver("a");
    }
    for _ in 0..8 {
        world.run_for(3 * SECOND);
        world.revoke([SLICE]);
        world.run_for(SECOND / 5);
        world.assign([SLICE]);
    }
    world.run_for(30 * SECOND);
    assert!(
        most(&world.sent, SECOND) <= 50,
        "{}",
        most(&world.sent, SECOND)
    );
    assert_eq!(world.sent.len(), 2_000);
    let took = world.sent[1_999].at.since(world.sent[0].at);
    assert!(took < 48 * SECOND, "{took:?}");
}

#[test]
fn a_limit_of_a_few_a_minute_holds_through_crashes() {
    let mut world = Harness::owning();
    let minute = 60 * SECOND;
    world.endpoint("a", |e| e.rate_limit = limit(20, minute));
    for _ in 0..200 {
        world.deliver("a");
    }
    for n in 0..10_u32 {
        world.run_for(7 * SECOND + n * 900 * QUICK);
        world.crash([SLICE]);
    }
    world.run_for(2_000 * SECOND);
    assert!(
        most(&world.sent, minute) <= 20,
        "{}",
        most(&world.sent, minute)
    );
    let delivered = world.attempts.len();
    assert!(delivered >= 200, "{delivered}");
    assert!(world.all_committed());
}

#[test]
fn a_receiver_that_asks_for_a_pause_gets_it_and_no_attempt_of_the_schedule_is_used() {
    let mut world = Harness::owning();
    world.endpoint("a", |e| e.retry = retry(&[]));
    let mut asks = 3;
    world.answer = Box::new(move |_| {
        asks -= 1;
        if asks >= 0 {
            Answer::RetryAfter(30, QUICK)
        } else {
            Answer::Status(200, QUICK)
        }
    });
    world.deliver("a");
    world.run_for(200 * SECOND);
    let waits: Vec<Duration> = world
        .sent
        .windows(2)
        .map(|two| two[1].at.since(two[0].at))
        .collect();
    assert_eq!(world.sent.len(), 4);
    assert!(
        waits
            .iter()
            .all(|wait| *wait >= 30 * SECOND && *wait < 31 * SECOND),
        "{waits:?}"
    );
    assert!(world.sent.iter().all(|sent| sent.attempt == 1));
    assert!(world.dead.is_empty() && world.all_committed());
}

#[test]
fn a_receiver_that_says_it_is_gone_is_believed_when_it_goes_on_saying_so() {
    let mut world = Harness::owning();
    world.endpoint("a", |e| e.retry = retry(&[20, 20, 20, 20, 20, 20]));
    world.answer = Box::new(|_| Answer::Status(410, QUICK));
    world.deliver("a");
    world.run_for(30 * SECOND);
    assert!(world.dead.is_empty(), "once or twice may be a mistake");
    world.run_for(120 * SECOND);
    assert_eq!(world.dead.len(), 1);
    assert_eq!(world.dead[0].1, DeadLetterReason::EndpointGone);
    let sent = world.sent.len();
    world.deliver("a");
    world.run_for(20 * SECOND);
    assert_eq!((world.dead.len(), world.sent.len()), (2, sent));
    world.revoke([SLICE]);
    world.run_for(SECOND);
    world.assign([SLICE]);
    world.deliver("a");
    world.run_for(20 * SECOND);
    assert_eq!(
        (world.dead.len(), world.sent.len()),
        (3, sent),
        "remembered"
    );
    world.answer = Box::new(|_| Answer::Status(200, QUICK));
    world.endpoint("a", |_| {});
    world.deliver("a");
    world.run_for(SECOND);
    assert_eq!(world.sent.len(), sent + 1, "a change is a new beginning");
}
