//! Everything at once, by seed: failing receivers, failing writes, refused commits, hand-overs and
//! crashes. Then the faults end and every delivery must have come to an end.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use postrider_domain::{DeliveryId, ErrorKind};

use super::harness::{Answer, Harness, SLICE, retry};

const SECOND: Duration = Duration::from_secs(1);
const ENDPOINTS: usize = 6;

/// What one run did.
struct Run {
    made: Vec<DeliveryId>,
    world: Harness,
    crashes: u32,
    /// Copies a crash left to be sent again though the receiver had them.
    repeatable: usize,
}

fn run(seed: u64) -> Run {
    let rng = Rc::new(RefCell::new(fastrand::Rng::with_seed(seed)));
    let faults = Rc::new(Cell::new(true));
    let mut world = Harness::new();
    let (dice, on) = (Rc::clone(&rng), Rc::clone(&faults));
    world.write_fails = Box::new(move || on.get() && dice.borrow_mut().u8(..100) < 3);
    let (dice, on) = (Rc::clone(&rng), Rc::clone(&faults));
    world.commit_fails = Box::new(move || on.get() && dice.borrow_mut().u8(..100) < 15);
    let (dice, on) = (Rc::clone(&rng), Rc::clone(&faults));
    world.answer = Box::new(move |_| {
        let mut dice = dice.borrow_mut();
        let latency = Duration::from_millis(dice.u64(1..800));
        match dice.u8(..100) {
            0..15 if on.get() => Answer::Status(500, latency),
            15..20 if on.get() => Answer::Fails(ErrorKind::TimeoutHead, 15 * SECOND),
            _ => Answer::Status(200, latency),
        }
    });
    world.assign([SLICE]);
    for n in 0..ENDPOINTS {
        world.endpoint(&format!("e{n}"), |e| {
            e.concurrency = Some(1 + n as u16);
            e.retry = retry(&[3, 10, 25, 40, 70, 200, 3_700]);
        });
    }
    let mut run = Run {
        made: Vec::new(),
        world,
        crashes: 0,
        repeatable: 0,
    };
    let actions = rng.borrow_mut().usize(50..150);
    for _ in 0..actions {
        let action = rng.borrow_mut().u8(..100);
        act(&mut run, action, &rng);
    }
    faults.set(false);
    run.world.run_for(3 * 3_600 * SECOND);
    run
}

fn act(run: &mut Run, action: u8, rng: &Rc<RefCell<fastrand::Rng>>) {
    let (count, endpoint, pause) = {
        let mut dice = rng.borrow_mut();
        (
            dice.usize(1..30),
            dice.usize(..ENDPOINTS),
            Duration::from_millis(dice.u64(1..9_000)),
        )
    };
    match action {
        0..60 => {
            for _ in 0..count {
                run.made.push(run.world.deliver(&format!("e{endpoint}")));
            }
        }
        60..65 => {
            run.made.push(run.world.deliver(&format!("e{endpoint}")));
            run.world.repeat_last();
        }
        65..75 => {
            run.world.revoke([SLICE]);
            run.world.run_for(90 * SECOND);
            run.world.assign([SLICE]);
        }
        75..82 => {
            run.repeatable += run.world.repeatable();
            run.crashes += 1;
            run.world.crash([SLICE]);
        }
        _ => {}
    }
    run.world.run_for(pause);
}

#[test]
fn every_delivery_comes_to_one_end_whatever_happens() {
    for seed in 0..150 {
        let Run {
            made,
            world,
            crashes,
            repeatable,
        } = run(seed);
        let ended = world.ended();
        for id in &made {
            assert!(ended.contains(id), "seed {seed}: {id} was lost");
        }
        assert!(world.all_committed(), "seed {seed}: a lane stands still");
        assert_eq!(world.worker.in_flight(), 0, "seed {seed}");
        for (endpoint, high) in &world.in_flight_high {
            let n: u32 = endpoint.as_str()[1..].parse().unwrap();
            assert!(
                *high <= n + 1,
                "seed {seed}: {endpoint} had {high} in flight"
            );
        }
        let repeats = world.repeats();
        assert!(
            repeats <= repeatable,
            "seed {seed}: {repeats} repeats, {crashes} crashes allow {repeatable}"
        );
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let (one, two) = (run(7), run(7));
    assert_eq!(one.world.sent, two.world.sent);
    assert_eq!(one.world.committed, two.world.committed);
}
