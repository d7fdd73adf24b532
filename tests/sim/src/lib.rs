//! A deterministic simulator of a whole installation: a model Kafka, workers that run the
//! production engine unchanged, receivers, a router, faults of all kinds, and an auditor that
//! checks every promise as it goes. Everything follows from one seed.
//!
//! ```text
//! cargo run -p sim -- --seed 7            what happened, in one line
//! cargo run -p sim -- --seed 7 --trace    everything that happened
//! cargo run -p sim -- --seeds 0..2000
//! cargo run -p sim -- --swarm 60 --from 5000
//! ```
//!
//! Faults strike for minutes to hours of virtual time, with seeds from 1 000 000 on for days to
//! weeks; then all is healed, and every delivery must come to its end in bounded time.
//!
//! | what | where |
//! | --- | --- |
//! | what a seed means | `plan` |
//! | what happens next | `agenda` |
//! | time, latencies, the broker's side of every request | `world` |
//! | partitions, committed offsets, tables | `logs` |
//! | the group's coordinator (KIP-848) | `group` |
//! | a worker's process and the shell in it | `process`, `shell` |
//! | the engine's interface, the only file that knows it | `engine` |
//! | endpoints and events | `traffic` |
//! | receivers | `receiver` |
//! | faults and healing | `nemesis`, `freeze` |
//! | clocks that differ | `clock` |
//! | promises | `audit` |
//!
//! `tests/sim/mutants.sh` puts faults into a copy of the engine, one at a time, and prints what found
//! them: a promise that no fault can break is not checked.
//!
//! Not modelled: bodies and signatures, a broker that loses what it acknowledged, records too large
//! for their topic.
#![warn(missing_docs)]

mod agenda;
mod audit;
mod clock;
mod engine;
mod freeze;
mod group;
mod logs;
mod nemesis;
mod plan;
mod process;
mod receiver;
mod shell;
mod traffic;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use audit::{Counts, Promise, Reached, Violation};

/// What became of a seed.
#[derive(Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Virtual time, in hours.
    pub hours: f64,
    /// What was counted.
    pub counts: Counts,
    /// What went wrong, in words; `None` = every promise was kept.
    pub failure: Option<String>,
}

/// Runs the world of a seed to its end or to the first broken promise, and writes what happens to
/// `trace`. A panic of the engine is a failure like any other.
#[must_use]
pub fn run(seed: u64, trace: Option<Box<dyn std::io::Write>>) -> Outcome {
    let mut world = world::World::new(seed, trace);
    let ended = catch_unwind(AssertUnwindSafe(|| world.run()));
    let failure = match ended {
        Ok(()) => world.audit.violation().map(ToString::to_string),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Some(format!("the engine panicked: {}", text.unwrap_or("?")))
        }
    };
    Outcome {
        seed,
        hours: world.elapsed() as f64 / clock::HOUR as f64,
        counts: world.audit.counts(),
        failure,
    }
}
