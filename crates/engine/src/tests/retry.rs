//! Retries: when, where they wait, and how they end.

use std::collections::BTreeMap;
use std::time::Duration;

use postrider_domain::{
    AttemptResult, DeadLetterReason, DeliveryId, DiscardReason, Endpoint, EndpointId,
    EndpointState, ErrorKind, Lane, Outcome, Rung, Success, Timestamp, Unmet,
};

use super::harness::{Answer, Harness, Sent, retry};
use crate::breaker::BreakerState;
use crate::io::{AttemptEntry, Observation, Write};
use crate::slice::HOLD_MAX;

const SECOND: Duration = Duration::from_secs(1);
const QUICK: Duration = Duration::from_millis(10);

fn waits(sent: &[Sent]) -> Vec<u64> {
    sent.windows(2)
        .map(|pair| pair[1].at.since(pair[0].at).as_millis() as u64)
        .collect()
}

#[test]
fn a_delivery_that_succeeds_is_settled_once_its_attempt_is_logged() {
    let mut world = Harness::owning();
    world.endpoint("a", |_| {});
    let id = world.deliver("a");
    world.run_for(2 * SECOND);
    assert_eq!(world.sent.len(), 1);
    assert_eq!(world.attempts.len(), 1);
    assert_eq!(world.attempts[0].delivery.id, id);
    assert_eq!(world.attempts[0].outcome, Outcome::Delivered);
    assert!(world.all_committed());
}

#[test]
fn an_endpoint_says_itself_what_is_success() {
    let mut world = Harness::owning();
    world.endpoint("strict", |e| {
        e.retry = retry(&[2]);
        e.success = Some(Success {
            statuses: vec![202..=202],
            body_contains: None,
        });
    });
    world.endpoint("knows", |e| {
        e.success = Some(Success {
            statuses: vec![200..=200, 409..=409],
            body_contains: Some("answer".into()),
        });
    });
    let strict: EndpointId = "strict".parse().unwrap();
    world.answer = Box::new(move |sent| match (sent.endpoint == strict, sent.attempt) {
        (true, 1) => Answer::Status(200, QUICK),
        (true, _) => Answer::Status(202, QUICK),
        (false, _) => Answer::Status(409, QUICK),
    });
    world.deliver("strict");
    world.deliver("knows");
    world.run_for(10 * SECOND);
    assert_eq!(world.sent.len(), 3);
    let told = world.attempts.iter().map(|attempt| {
        let endpoint = attempt.delivery.endpoint.as_str();
        (endpoint, attempt.outcome, attempt.unmet)
    });
    let mut told: Vec<_> = told.collect();
    told.sort_by_key(|(endpoint, outcome, _)| (*endpoint, *outcome == Outcome::Delivered));
    assert_eq!(
        told,
        [
            ("knows", Outcome::Delivered, None),
            ("strict", Outcome::Retry, Some(Unmet::Status)),
            ("strict", Outcome::Delivered, None),
        ]
    );
    assert!(world.all_committed());
}

#[test]
fn an_answer_is_judged_by_the_rule_it_was_asked_under() {
    let strict = |e: &mut Endpoint| {
        e.success = Some(Success {
            statuses: vec![202..=202],
            body_contains: None,
        });
    };
    for strict_before in [true, false] {
        let mut world = Harness::owning();
        world.endpoint("a", |e| {
            if strict_before {
                strict(e);
            }
        });
        world.answer = Box::new(|_| Answer::Status(200, 2 * SECOND));
        world.deliver("a");
        world.run_for(SECOND);
        world.endpoint("a", |e| {
            if strict_before {
                e.success = None;
            } else {
                strict(e);
            }
        });
        world.run_for(2 * SECOND);
        let first = &world.attempts[0];
        let expected = if strict_before {
            (Outcome::Retry, Some(Unmet::Status))
        } else {
            (Outcome::Delivered, None)
        };
        assert_eq!((first.outcome, first.unmet), expected);
    }
}

#[test]
fn a_receiver_whose_answers_are_no_success_is_a_failing_one() {
    let mut world = Harness::owning();
    world.endpoint("a", |e| {
        e.success = Some(Success {
            statuses: vec![Success::STATUSES],
            body_contains: Some("[accepted]".into()),
        });
    });
    world.answer = Box::new(|_| Answer::Status(200, QUICK));
    for _ in 0..8 {
        world.deliver("a");
    }
    world.run_for(SECOND);
    let opened = |o: &Observation| matches!(o, Observation::Breaker(BreakerState::Open));
    assert!(world.observed.iter().any(opened));
    let unmet = |attempt: &AttemptEntry| attempt.unmet == Some(Unmet::Body);
    assert!(world.attempts.iter().all(unmet));
}

#[test]
fn short_waits_stay_in_memory_and_keep_the_schedule() {
    let mut world = Harness::owning();
    world.endpoint("a", |e| e.retry = retry(&[2, 4, 6]));
    world.answer =
        Box::new(|sent| Answer::Status(if sent.attempt <= 3 { 500 } else { 200 }, QUICK));
    world.deliver("a");
    world.run_for(30 * SECOND);
    assert_eq!(waits(&world.sent), [2_010, 4_010, 6_010]);
    assert!(world.retries.is_empty(), "nothing was copied");
    assert!(world.all_committed());
}

#[test]
fn long_waits_go_through_rungs_and_are_met_exactly() {
    let mut world = Harness::owning();
    world.endpoint("a", |e| e.retry = retry(&[31, 100, 4_000]));
    world.answer =
        Box::new(|sent| Answer::Status(if sent.attempt <= 3 { 503 } else { 200 }, QUICK));
    world.deliver("a");
    world.run_for(5_000 * SECOND);
    assert_eq!(waits(&world.sent), [31_010, 100_010, 4_000_010]);
    let rungs: Vec<&str> = world.retries.iter().map(|(_, _, rung)| *rung).collect();
    assert_eq!(
        rungs,
        ["30s", "30s", "30s", "30s", "1h", "2m", "2m", "2m", "30s"]
    );
    assert!(world.all_committed());
    let numbers: Vec<u32> = world.attempts.iter().map(|a| a.attempt).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
}

#[test]
fn a_spent_schedule_ends_in_a_dead_letter() {
    let mut world = Harness::owning();
    world.endpoint("a", |e| e.retry = retry(&[1, 1]));
    world.answer = Box::new(|_| Answer::Fails(ErrorKind::TimeoutHead, 15 * SECOND));
    let id = world.deliver("a");
    world.run_for(100 * SECOND);
    assert_eq!(world.sent.len(), 3);
    assert_eq!(world.dead, [(id, DeadLetterReason::AttemptsExhausted, 3)]);
    let outcomes: Vec<&str> = world.attempts.iter().map(|a| a.outcome.as_str()).collect();
    assert_eq!(outcomes, ["retry", "retry", "dead_lettered"]);
    assert!(world.all_committed());
}

#[test]
fn a_denied_address_is_not_tried_again() {
    let mut world = Harness::owning();
    world.endpoint("a", |_| {});
    world.answer = Box::new(|_| Answer::Fails(ErrorKind::DeniedUrl, QUICK));
    let id = world.deliver("a");
    world.run_for(10 * SECOND);
    assert_eq!(world.dead, [(id, DeadLetterReason::EgressDenied, 1)]);
}

#[test]
fn short_retries_past_the_hold_are_moved_and_still_exact() {
    let mut world = Harness::owning();
    world.endpoint("a", |e| e.retry = retry(&[20, 20, 20, 20, 20]));
    world.answer = Box::new(|_| Answer::Status(500, QUICK));
    world.deliver("a");
    world.run_for(200 * SECOND);
    assert_eq!(waits(&world.sent), [20_010; 5]);
    assert!(
        !world.retries.is_empty(),
        "a record is not held past the bound"
    );
    assert!(world.all_committed());
}

#[test]
fn a_delivery_that_gets_no_turn_is_moved_after_the_hold() {
    let mut world = Harness::owning();
    world.endpoint("a", |e| e.concurrency = Some(1));
    world.answer = Box::new(|_| Answer::Status(200, 60 * SECOND));
    world.deliver("a");
    world.deliver("a");
    world.run_for(HOLD_MAX + SECOND);
    assert_eq!(world.log_len(Lane::Backlog), 1);
    assert!(world.observed.contains(&Observation::HoldExceeded));
    world.run_for(100 * SECOND);
    assert_eq!(world.sent.len(), 2, "and is not taken for a repeated copy");
    assert!(world.all_committed());
}

#[test]
fn an_unknown_endpoint_may_become_known() {
    let mut world = Harness::owning();
    world.deliver("late");
    let lost = world.deliver("never");
    world.run_for(10 * SECOND);
    world.endpoint("late", |_| {});
    world.run_for(60 * SECOND);
    assert_eq!(world.sent.len(), 1);
    assert_eq!(world.dead, [(lost, DeadLetterReason::EndpointUnknown, 0)]);
    assert!(world.all_committed());
}

#[test]
fn deleted_and_disabled_endpoints_discard_by_name() {
    let mut world = Harness::owning();
    let gone = world.endpoint("gone", |e| e.state = EndpointState::Paused);
    world.endpoint("off", |e| e.state = EndpointState::Disabled);
    world.deliver("gone");
    world.deliver("off");
    world.run_for(SECOND);
    world.delete_endpoint(&gone);
    world.run_for(10 * SECOND);
    let reasons: Vec<Outcome> = world.attempts.iter().map(|a| a.outcome).collect();
    assert_eq!(reasons.len(), 2);
    for reason in [
        DiscardReason::EndpointDisabled,
        DiscardReason::EndpointDeleted,
    ] {
        assert!(reasons.contains(&Outcome::Discarded(reason)));
    }
    assert!(world.sent.is_empty() && world.all_committed());
}

#[test]
fn a_repeated_fan_out_is_sent_once() {
    let mut world = Harness::owning();
    world.endpoint("a", |_| {});
    world.deliver("a");
    world.repeat_last();
    world.run_for(5 * SECOND);
    assert_eq!(world.sent.len(), 1);
    assert!(world.observed.contains(&Observation::DuplicateDropped));
    assert!(world.all_committed());
}

#[test]
fn a_rung_is_read_ahead_within_its_bound() {
    let mut world = Harness::owning();
    world.endpoint("a", |e| e.retry = retry(&[300]));
    world.answer =
        Box::new(|sent| Answer::Status(if sent.is_first_of(3) { 500 } else { 200 }, QUICK));
    for _ in 0..1_500 {
        world.deliver("a");
    }
    world.run_for(20 * SECOND);
    assert_eq!(world.retries.len(), 500);
    world.run_for(400 * SECOND);
    assert_eq!(world.sent.len(), 2_000);
    let rung = Rung::for_wait(Duration::from_secs(120)).expect("2m");
    let readings = world
        .read_from
        .iter()
        .filter(|(lane, _)| *lane == Lane::Retry(rung))
        .count();
    assert!(readings > 2, "the rung was not read in one go");
    assert!(world.all_committed());
}

#[test]
fn a_delivery_made_after_the_endpoint_was_enabled_again_is_not_discarded() {
    let mut world = Harness::owning();
    world.endpoint("a", |e| e.state = EndpointState::Disabled);
    world.run_for(SECOND);
    // The router has read "active" already; our reading of the topic is behind.
    world.deliver("a");
    world.run_for(SECOND / 20);
    world.endpoint("a", |e| e.state = EndpointState::Active);
    world.run_for(10 * SECOND);
    assert_eq!(world.sent.len(), 1);
    assert!(world.all_committed());
}

#[test]
fn a_delivery_of_an_endpoint_made_anew_is_not_discarded() {
    let mut world = Harness::owning();
    let a = world.endpoint("a", |_| {});
    world.run_for(SECOND);
    world.delete_endpoint(&a);
    world.run_for(SECOND);
    world.deliver("a");
    world.run_for(SECOND / 20);
    world.endpoint("a", |_| {});
    world.run_for(10 * SECOND);
    assert_eq!(world.sent.len(), 1);
    assert!(world.all_committed());
}

#[test]
fn what_no_topic_takes_stops_nobody() {
    let mut world = Harness::owning();
    world.endpoint("a", |e| e.retry = retry(&[60]));
    world.answer = Box::new(|_| Answer::Status(500, QUICK));
    world.too_large = |write| match write {
        Write::Attempt(attempt) => {
            let result = attempt.report.as_ref().map(|report| &report.result);
            matches!(result, Some(AttemptResult::Response(r)) if !r.body.is_empty())
        }
        Write::DeadLetter { without_value, .. } | Write::Unreadable { without_value, .. } => {
            !without_value
        }
        Write::Retry { .. } | Write::Backlog { .. } => true,
        Write::Fence { .. } | Write::State { .. } => false,
    };
    let id = world.deliver("a");
    world.run_for(10 * SECOND);
    assert_eq!(world.dead, [(id, DeadLetterReason::Oversized, 1)]);
    assert!(world.all_committed());
    assert!(!world.observed.contains(&Observation::AdmissionClosed));
}

/// How late second attempts started, ascending.
fn lateness_of(world: &Harness) -> Vec<Duration> {
    let dues = world.attempts.iter();
    let dues: BTreeMap<DeliveryId, Timestamp> = dues
        .filter_map(|attempt| Some((attempt.delivery.id, attempt.next_attempt_at?)))
        .collect();
    let second = |sent: &&Sent| sent.attempt == 2;
    let late = world.sent.iter().filter(second);
    let mut late: Vec<Duration> = late
        .map(|sent| sent.at.since(dues[&sent.delivery]))
        .collect();
    late.sort_unstable();
    late
}

/// How late second attempts start, ascending, when `rate` deliveries a second fail once and are
/// due `wait` seconds later, for so many minutes.
fn lateness(rate: u32, minutes: u32, waits: &[u64]) -> Vec<Duration> {
    let mut world = Harness::owning();
    for endpoint in 0..8 {
        world.endpoint(&format!("e{endpoint}"), |e| {
            e.retry = retry(&[waits[endpoint % waits.len()]])
        });
    }
    // A refusal: no breaker opens.
    world.answer = Box::new(|sent| match sent.attempt {
        1 => Answer::Status(422, QUICK),
        _ => Answer::Status(200, QUICK),
    });
    for n in 0..rate * 60 * minutes {
        world.deliver(&format!("e{}", n % 8));
        world.run_for(SECOND / rate);
    }
    world.run_for(Duration::from_secs(waits[waits.len() - 1]) + 120 * SECOND);
    let late = lateness_of(&world);
    assert_eq!(late.len() as u32, rate * 60 * minutes);
    assert!(world.all_committed());
    late
}

#[test]
fn hundreds_that_wait_out_the_rest_of_a_rung_are_on_time() {
    // 580 wait in memory, beside those that are read ahead.
    let late = lateness(20, 3, &[30 + 29]);
    assert!(late[late.len() - 1] < SECOND / 10, "{:?}", late.last());
    // Some come by their rung three times, and wait there for others.
    let late = lateness(40, 5, &[95, 119, 125, 137, 149, 151, 163, 178]);
    assert!(late[late.len() - 1] < SECOND / 10, "{:?}", late.last());
}

#[test]
fn of_more_than_fit_into_memory_those_go_round_again_that_have_the_longest_wait() {
    // 1 160 would wait in memory.
    let late = lateness(40, 10, &[30 + 29]);
    assert!(late[late.len() - 1] < 12 * SECOND, "{:?}", late.last());
    let late = lateness(60, 5, &[45, 59]);
    assert!(late[late.len() * 9 / 10] < 10 * SECOND, "{:?}", late.last());
}

#[test]
fn large_ones_that_wait_out_a_rung_keep_no_lane_from_others() {
    let mut world = Harness::owning();
    for endpoint in 0..8 {
        world.endpoint(&format!("e{endpoint}"), |e| e.retry = retry(&[30 + 29]));
    }
    world.endpoint("burst", |e| e.concurrency = Some(64));
    world.endpoint("well", |_| {});
    world.answer = Box::new(|sent| match (sent.endpoint.as_str(), sent.attempt) {
        ("burst" | "well", _) => Answer::Status(200, QUICK),
        (_, 1) => Answer::Status(422, QUICK),
        _ => Answer::Status(200, QUICK),
    });
    // 5.7 MiB wait in memory for the rest of their rung, always as many.
    let load = |world: &mut Harness, seconds: u32| {
        for n in 0..20 * seconds {
            world.deliver_sized(&format!("e{}", n % 8), 10 << 10);
            world.run_for(SECOND / 20);
        }
    };
    world.deliver_sized("burst", 400 << 10);
    let replay = world.last_delivery();
    let again = replay.id;
    load(&mut world, 100);
    // A replay has no room beside what waits, and needs none.
    for _ in 0..21 {
        world.deliver_sized("burst", 100 << 10);
    }
    world.append(Lane::Redeliveries, replay);
    load(&mut world, 60);
    let times = world.sent.iter().filter(|sent| sent.delivery == again);
    assert_eq!(times.count(), 2, "a replay has its turn");
    for _ in 0..80 {
        world.deliver_sized("burst", 100 << 10);
    }
    let (id, came) = (world.deliver("well"), world.now);
    load(&mut world, 120);
    let first = world.sent.iter().find(|sent| sent.delivery == id);
    let waited = first.expect("it was sent").at.since(came);
    assert!(waited < SECOND, "{waited:?}");
    world.run_for(120 * SECOND);
    assert!(world.all_committed());
}

#[test]
fn a_lane_that_is_full_of_records_is_not_kept_by_the_bytes_of_others() {
    let mut world = Harness::owning();
    for endpoint in 0..8 {
        world.endpoint(&format!("large{endpoint}"), |e| e.concurrency = Some(8));
        world.endpoint(&format!("e{endpoint}"), |e| e.retry = retry(&[30 + 29]));
    }
    // 5.5 MiB are in flight at all times, and 1 160 would wait in memory.
    world.answer = Box::new(|sent| match (sent.endpoint.as_str(), sent.attempt) {
        (large, _) if large.starts_with("large") => Answer::Status(200, 5 * SECOND),
        (_, 1) => Answer::Status(422, QUICK),
        _ => Answer::Status(200, QUICK),
    });
    for n in 0..40 * 240 {
        world.deliver_sized(&format!("e{}", n % 8), 1 << 10);
        if n % 5 == 0 {
            world.deliver_sized(&format!("large{}", n / 5 % 8), 140 << 10);
        }
        world.run_for(SECOND / 40);
    }
    let second = |sent: &&Sent| sent.attempt == 2;
    let retried = world.sent.iter().filter(second).count();
    assert!(retried > 40 * 165, "{retried} were due");
    world.run_for(180 * SECOND);
    let late = lateness_of(&world);
    assert!(late[late.len() - 1] < 12 * SECOND, "{:?}", late.last());
    assert!(world.all_committed());
}

#[test]
fn what_is_read_ahead_takes_no_room_from_queues() {
    let mut world = Harness::owning();
    for endpoint in 0..8 {
        world.endpoint(&format!("e{endpoint}"), |e| e.retry = retry(&[30 + 29]));
    }
    world.endpoint("many", |e| e.retry = retry(&[30]));
    world.answer = Box::new(|sent| match (sent.endpoint.as_str(), sent.attempt) {
        (_, 1) => Answer::Status(422, QUICK),
        ("many", _) => Answer::Status(200, SECOND / 10),
        _ => Answer::Status(200, QUICK),
    });
    // 580 wait in memory and 256 are read ahead when 40 of one come due at once.
    for n in 0..20 * 120 {
        world.deliver(&format!("e{}", n % 8));
        if n == 20 * 65 {
            for _ in 0..40 {
                world.deliver("many");
            }
        }
        world.run_for(SECOND / 20);
    }
    let of_many = |sent: &&Sent| sent.endpoint.as_str() == "many" && sent.attempt == 2;
    assert_eq!(world.sent.iter().filter(of_many).count(), 40);
    assert_eq!(world.log_len(Lane::Backlog), 0, "there was room for them");
    world.run_for(180 * SECOND);
    assert!(world.all_committed());
}
