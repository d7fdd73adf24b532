//! Two to four faults at a time, from a seed, undone, and progress demanded: again and again.
//!
//! Decides which faults go together: never so many that what must hold could not, as two brokers
//! down for good would; each broker and each dispatcher is in one at most. Leaves single faults to
//! `fault`.

use std::time::{Duration, Instant};

use postrider_bench::report::{Folder, Report};
use serde_json::json;

use crate::fault::{Begun, Fault};
use crate::network::BROKERS;
use crate::rows::staged;
use crate::stage::{DISPATCHERS, PROGRESS_WITHIN, SESSION, Stage, dispatcher};

/// How many at a time.
const TOGETHER: std::ops::RangeInclusive<usize> = 2..=4;
/// Between two that begin, seconds.
const APART: std::ops::RangeInclusive<u64> = 0..=5;
/// How long they last once the last began, seconds.
const LASTS: std::ops::RangeInclusive<u64> = 3..=30;
/// Calm between rounds.
const CALM: Duration = Duration::from_secs(5);

/// Runs it for so long; its report is in the folder.
///
/// # Errors
/// The stage does not start, or what has to be read cannot be.
pub fn run(folder: &Folder, seed: u64, time: Duration) -> anyhow::Result<Report> {
    let settings = json!({ "seed": seed, "minutes": time.as_secs_f64() / 60.0 });
    staged("nemesis", folder, seed, &settings, &[], |stage| {
        let began = Instant::now();
        for number in 1.. {
            if began.elapsed() >= time {
                break;
            }
            round(stage, number)?;
            stage.hold(CALM);
        }
        Ok(())
    })
}

fn round(stage: &mut Stage, number: usize) -> anyhow::Result<()> {
    let faults = mix(&mut stage.random);
    let mut begun: Vec<Begun> = Vec::new();
    for fault in faults {
        if !begun.is_empty() {
            let apart = stage.random.u64(APART);
            stage.hold(Duration::from_secs(apart));
        }
        begun.push(fault.begin(stage)?);
    }
    let lasts = stage.random.u64(LASTS);
    stage.hold(Duration::from_secs(lasts));
    stage.random.shuffle(&mut begun);
    for fault in &begun {
        fault.end(stage)?;
    }
    let first_us = begun.iter().map(|fault| fault.at_us).min();
    let bound = begun.iter().map(Begun::bound).max();
    let bound = bound.unwrap_or(SESSION + PROGRESS_WITHIN);
    stage.healed(
        &format!("round {number}"),
        first_us.unwrap_or_default(),
        bound,
    )?;
    for fault in &begun {
        fault.recover(stage)?;
    }
    stage.wait_until_all_arrive("what was written before")
}

/// Some that go together.
fn mix(random: &mut fastrand::Rng) -> Vec<Fault> {
    let mut brokers = BROKERS.to_vec();
    random.shuffle(&mut brokers);
    let mut dispatchers: Vec<usize> = (1..=DISPATCHERS).collect();
    random.shuffle(&mut dispatchers);
    let count = random.usize(TOGETHER);
    let mut faults = Vec::new();
    // one broker, so that two copies are left; the network of brokers as a whole; then workers
    let broker = brokers[0];
    let of_brokers = [
        Fault::BrokersKilled(vec![broker]),
        Fault::BrokerFrozen(broker),
        Fault::BrokerSplit(broker),
        Fault::BrokersKilled(brokers[..2].to_vec()),
        Fault::Resets(random.u32(1..=10)),
    ];
    faults.extend(random.choice(of_brokers));
    while faults.len() < count {
        let Some(number) = dispatchers.pop() else {
            break;
        };
        let of_workers = [
            Fault::DispatcherKilled(number),
            Fault::DispatcherStopped(number),
            Fault::DispatcherFrozen(number),
            Fault::WorkerDeaf(dispatcher(number)),
            Fault::WorkerCut(dispatcher(number), vec![brokers[1]]),
        ];
        faults.extend(random.choice(of_workers));
    }
    random.shuffle(&mut faults);
    faults
}

#[cfg(test)]
mod tests {
    use super::mix;

    #[test]
    fn a_seed_says_which_and_there_are_two_to_four() {
        for seed in 0..200 {
            let of = |seed| mix(&mut fastrand::Rng::with_seed(seed));
            assert_eq!(of(seed), of(seed));
            assert!((2..=4).contains(&of(seed).len()), "{:?}", of(seed));
        }
    }
}
