//! Kills a worker at every named step of a delivery's path and audits what comes of it; exits 1
//! when a promise does not hold or a step was not reached. Uses the `postrider-points` built into
//! the same folder: `cargo build --workspace --features postrider/points --bin postrider-points`.

use std::io::{Write, stderr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use clap::Parser;
use postrider_e2e::conclude;
use postrider_e2e::kill_points::{Case, Outcome, Table, cases, receivers, run};
use postrider_test_support::Broker;

/// A router and a dispatcher per point, one of which is killed there
#[derive(Parser)]
struct Arguments {
    /// Only points whose names begin like this
    #[arg(long)]
    only: Vec<String>,
    /// At which of its arrivals a worker is killed is drawn from this
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Experiments that run at a time
    #[arg(long, default_value_t = 10)]
    jobs: usize,
}

fn main() -> anyhow::Result<ExitCode> {
    let Arguments { only, seed, jobs } = Arguments::parse();
    let mut random = fastrand::Rng::with_seed(seed);
    let drawn: Vec<(Case, u32)> = cases()
        .into_iter()
        .map(|case| {
            let nth = random.u32(case.arrivals.clone());
            (case, nth)
        })
        .filter(|(case, _)| {
            only.is_empty() || only.iter().any(|name| case.point.name.starts_with(name))
        })
        .collect();
    anyhow::ensure!(!drawn.is_empty(), "no point has such a name");
    let (broker, verifier) = (Broker::shared(), receivers());
    let next = AtomicUsize::new(0);
    let outcomes: Mutex<Vec<Option<Result<Outcome, String>>>> = Mutex::new(vec![None; drawn.len()]);
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some((place, (case, nth))) = {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    drawn.get(place).map(|drawn| (place, drawn))
                } {
                    // one that panics must not end the others
                    let ran = || run(broker, &verifier, Some((case, *nth)), None);
                    let ran = catch_unwind(AssertUnwindSafe(ran));
                    let outcome = match ran {
                        Ok(outcome) => outcome.map_err(|error| format!("{error:#}")),
                        Err(_) => Err("it panicked, see above".to_owned()),
                    };
                    let word = match &outcome {
                        Ok(outcome) if outcome.missed().is_empty() => "kept",
                        Ok(_) => "MISSED",
                        Err(_) => "ERROR",
                    };
                    writeln!(stderr(), "{} at {nth}: {word}", case.point.name).ok();
                    outcomes.lock().expect("nobody panics with it")[place] = Some(outcome);
                }
            });
        }
    });
    let outcomes = outcomes.into_inner().expect("nobody panics with it");
    let lines = drawn.iter().zip(outcomes).map(|((case, _), outcome)| {
        let none = || Err("it was not run".to_owned());
        (case.point.name, outcome.unwrap_or_else(none))
    });
    let table = Table(lines.collect());
    Ok(conclude(&table, &table.wrong())?)
}
