//! The simulator's command line.
//!
//! Decides which seeds are run, and on how many threads. A run itself is on one thread and knows
//! nothing of the others.

use std::io::Write as _;
use std::ops::Range;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sim::{Outcome, Reached, run};

const USAGE: &str = "\
usage: sim --seed N [--trace]
       sim --seeds A..B [--threads N]
       sim --swarm SECONDS [--from SEED] [--threads N]";

/// Failures that are printed; the others are counted.
const SHOWN: usize = 20;

#[derive(Debug)]
enum Command {
    One {
        seed: u64,
        trace: bool,
    },
    Many {
        seeds: Range<u64>,
        until: Option<Duration>,
        threads: usize,
    },
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(command) = parse(&arguments) else {
        eprintln!("{USAGE}");
        return ExitCode::from(64);
    };
    let passed = match command {
        Command::One { seed, trace } => one(seed, trace),
        Command::Many {
            seeds,
            until,
            threads,
        } => many(seeds, until, threads),
    };
    ExitCode::from(u8::from(!passed))
}

fn parse(arguments: &[String]) -> Option<Command> {
    let (mut seed, mut trace, mut seeds, mut swarm, mut from) = (None, false, None, None, 0);
    let mut threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--trace" => trace = true,
            "--seed" => seed = Some(arguments.next()?.parse().ok()?),
            "--from" => from = arguments.next()?.parse().ok()?,
            "--threads" => threads = arguments.next()?.parse().ok()?,
            "--swarm" => swarm = Some(arguments.next()?.parse().ok()?),
            "--seeds" => {
                let (first, last) = arguments.next()?.split_once("..")?;
                seeds = Some(first.parse().ok()?..last.parse().ok()?);
            }
            _ => return None,
        }
    }
    match (seed, seeds, swarm) {
        (Some(seed), None, None) => Some(Command::One { seed, trace }),
        (None, Some(seeds), None) => Some(Command::Many {
            seeds,
            until: None,
            threads,
        }),
        (None, None, Some(seconds)) => Some(Command::Many {
            seeds: from..u64::MAX,
            until: Some(Duration::from_secs(seconds)),
            threads,
        }),
        _ => None,
    }
}

fn say(line: &str) {
    // Whoever closed the pipe has read enough.
    drop(writeln!(std::io::stdout().lock(), "{line}"));
}

fn one(seed: u64, trace: bool) -> bool {
    let out: Option<Box<dyn std::io::Write>> = trace.then(|| {
        let out: Box<dyn std::io::Write> = Box::new(std::io::BufWriter::new(std::io::stdout()));
        out
    });
    let outcome = run(seed, out);
    say(&format!(
        "seed {seed}: {:.1} h, {:?}",
        outcome.hours, outcome.counts
    ));
    if let Some(failure) = &outcome.failure {
        say(&format!("seed {seed} FAILED: {failure}"));
    }
    outcome.failure.is_none()
}

fn many(seeds: Range<u64>, until: Option<Duration>, threads: usize) -> bool {
    let began = Instant::now();
    let next = AtomicU64::new(seeds.start);
    let total = Mutex::new(Total::default());
    // The text of a panic is in its run's outcome.
    std::panic::set_hook(Box::new(|_| {}));
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || until.is_some_and(|until| began.elapsed() >= until) {
                        break;
                    }
                    let outcome = run(seed, None);
                    total.lock().expect("nobody panics with it").add(&outcome);
                }
            });
        }
    });
    let total = total.into_inner().expect("nobody panics with it");
    total.report(seeds.start, began.elapsed());
    total.failures == 0
}

#[derive(Debug, Default)]
struct Total {
    runs: u64,
    last: u64,
    hours: f64,
    deliveries: u64,
    requests: u64,
    duplicates: u64,
    memories_lost: u64,
    reached: Reached,
    failures: usize,
}

impl Total {
    fn add(&mut self, outcome: &Outcome) {
        self.runs += 1;
        self.last = self.last.max(outcome.seed);
        self.hours += outcome.hours;
        self.deliveries += outcome.counts.deliveries;
        self.requests += outcome.counts.requests;
        self.duplicates += outcome.counts.duplicates;
        self.memories_lost += outcome.counts.memories_lost;
        self.reached.add(outcome.counts.reached);
        if let Some(failure) = &outcome.failure {
            self.failures += 1;
            if self.failures <= SHOWN {
                say(&format!("seed {} FAILED: {failure}", outcome.seed));
            }
        }
    }

    fn report(&self, first: u64, took: Duration) {
        let Self {
            runs,
            last,
            hours,
            deliveries,
            requests,
            duplicates,
            memories_lost,
            reached,
            failures,
        } = self;
        say(&format!(
            "{runs} seeds, {first} to {last}: {hours:.0} simulated hours in {:.1} s ({:.0} hours a second), {deliveries} deliveries, \
             {requests} requests, {memories_lost} memories lost, {duplicates} duplicates explained, bounds: {reached:?}, {failures} failures",
            took.as_secs_f64(),
            hours / took.as_secs_f64(),
        ));
    }
}
