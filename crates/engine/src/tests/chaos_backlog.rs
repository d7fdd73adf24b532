//! More at once than `chaos`: pauses, limits, asks, a slow backlog, lost acks, late writes.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use postrider_domain::{DeliveryId, EndpointState, ErrorKind, RateLimit, Timestamp};

use super::harness::{Answer, Harness, SLICE, Sent, retry};

const SECOND: Duration = Duration::from_secs(1);
const ENDPOINTS: usize = 6;

fn limit(n: usize) -> Option<RateLimit> {
    let (attempts, millis) = match n {
        1 => (5, 500),
        2 => (10, 5_000),
        3 => (40, 60_000),
        _ => return None,
    };
    Some(RateLimit {
        attempts,
        per: Duration::from_millis(millis),
        smooth: false,
    })
}

fn run(seed: u64, steps: usize) -> (Vec<DeliveryId>, Harness, usize, u32) {
    let rng = Rc::new(RefCell::new(fastrand::Rng::with_seed(seed)));
    let faults = Rc::new(Cell::new(true));
    let mut world = Harness::new();
    let dice = |per_mille: u16| -> Box<dyn FnMut() -> bool> {
        let (rng, on) = (Rc::clone(&rng), Rc::clone(&faults));
        Box::new(move || on.get() && rng.borrow_mut().u16(..1_000) < per_mille)
    };
    world.write_fails = dice(20);
    world.ack_lost = dice(if seed.is_multiple_of(2) { 20 } else { 0 });
    world.commit_fails = dice(100);
    let mut not = dice(30);
    world.not_started = Box::new(move |_| not().then_some(Duration::from_millis(40)));
    world.backlog_pace = Duration::from_millis([0, 1, 20, 60][seed as usize % 4]);
    let (d, on) = (Rc::clone(&rng), Rc::clone(&faults));
    world.answer = Box::new(move |_| {
        let mut d = d.borrow_mut();
        let latency = Duration::from_millis(d.u64(1..800));
        match d.u8(..100) {
            0..15 if on.get() => Answer::Status(500, latency),
            15..20 if on.get() => Answer::Fails(ErrorKind::TimeoutHead, 15 * SECOND),
            20..25 if on.get() => Answer::RetryAfter(d.u64(1..70), latency),
            _ => Answer::Status(200, latency),
        }
    });
    world.assign([SLICE]);
    for n in 0..ENDPOINTS {
        world.endpoint(&format!("e{n}"), |e| {
            e.concurrency = Some(1 + n as u16);
            e.retry = retry(&[3, 10, 25, 40, 70, 200, 3_700]);
            e.rate_limit = limit(n);
        });
    }
    let mut made = Vec::new();
    let mut repeatable = 0;
    let mut ends = 0;
    let mut paused = BTreeSet::new();
    for _ in 0..steps {
        let (action, count, n, pause) = {
            let mut d = rng.borrow_mut();
            (
                d.u8(..100),
                d.usize(1..120),
                d.usize(..ENDPOINTS),
                Duration::from_millis(d.u64(1..6_000)),
            )
        };
        let name = format!("e{n}");
        match action {
            0..50 => {
                for _ in 0..count {
                    made.push(world.deliver(&name));
                }
            }
            50..70 => {
                let state = if paused.remove(&n) {
                    EndpointState::Active
                } else {
                    paused.insert(n);
                    EndpointState::Paused
                };
                world.endpoint(&name, |e| e.state = state);
            }
            70..76 => {
                world.revoke([SLICE]);
                world.run_for(90 * SECOND);
                world.assign([SLICE]);
            }
            76..79 => {
                ends += 1;
                repeatable += world.repeatable();
                world.crash([SLICE]);
            }
            79..82 => {
                ends += 1;
                repeatable += world.repeatable();
                world.crash_with_writes([SLICE]);
            }
            82..84 => {
                ends += 1;
                repeatable += world.repeatable();
                world.lose([SLICE]);
            }
            _ => {}
        }
        world.run_for(pause);
    }
    faults.set(false);
    for n in paused {
        world.endpoint(&format!("e{n}"), |e| e.state = EndpointState::Active);
    }
    world.run_for(3 * 3_600 * SECOND);
    (made, world, repeatable, ends)
}

#[test]
fn nothing_is_lost_repeated_or_too_fast_whatever_happens() {
    let found = |seed| {
        check(seed)
            .into_iter()
            .map(move |bad| format!("seed {seed}: {bad}"))
    };
    let bad: Vec<String> = (0..40).flat_map(found).collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

fn check(seed: u64) -> Vec<String> {
    let mut bad = Vec::new();
    let (made, world, repeatable, ends) = run(seed, 120);
    let ended = world.ended();
    let lost = made.iter().filter(|id| !ended.contains(id)).count();
    if lost > 0 {
        bad.push(format!("{lost} lost of {}", made.len()));
    }
    if !world.all_committed() {
        bad.push("a lane stands still".into());
    }
    if !world.remembers_nothing() {
        bad.push("state is left".into());
    }
    let repeats = world.repeats();
    if repeats > repeatable {
        bad.push(format!("{repeats} repeats, {ends} ends allow {repeatable}"));
    }
    for n in 1..4 {
        let limit = limit(n).unwrap();
        let of = |sent: &&Sent| sent.endpoint.as_str() == format!("e{n}");
        let starts: Vec<Timestamp> = world.sent.iter().filter(of).map(|sent| sent.at).collect();
        for window in starts.windows(limit.attempts as usize + 1) {
            let within = window[window.len() - 1].since(window[0]);
            if within < limit.per {
                bad.push(format!(
                    "limit {n}: {within:?} ends at {:?}",
                    window[window.len() - 1]
                ));
                break;
            }
        }
    }
    bad
}
