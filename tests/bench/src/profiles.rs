//! One experiment per file: its load, its course, its marks.

pub mod backlog;
pub mod budget;
pub mod burst;
pub mod cold;
pub mod down;
pub mod fanout;
pub mod hot;
pub mod idle;
pub mod max;
pub mod ordered;
pub mod replay;
pub mod retries;
pub mod scale;
pub mod sick;
pub mod soak;
pub mod steady;
pub mod tls;

use std::ops::Range;
use std::time::Duration;

use crate::audit::{self, Attempted, Joined};
use crate::baseline::Pace;
use crate::facts::Facts;
use crate::report::Report;
use crate::rig::Rig;
use crate::samples::Usage;
use crate::sink::log::Arrival;
use crate::stats::Spread;
use crate::{histogram, now_us, plot};

/// A row about a pace: its name, requests, a second, CPU of each.
fn pace_row(name: &str, pace: &Pace) -> Vec<String> {
    vec![
        name.to_owned(),
        pace.requests.to_string(),
        format!("{:.0}", pace.rate()),
        format!("{:.1}", pace.cpu_us()),
    ]
}

/// The middle one, or half of the sum of both; 0 without any.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        count => f64::midpoint(values[(count - 1) / 2], values[count / 2]),
    }
}

/// The most memory of a dispatcher, MiB; 0 without any.
fn dispatcher_rss_max(usage: &[Usage]) -> f64 {
    let workers = usage.iter().filter(|u| u.process.starts_with("dispatcher"));
    workers.map(|u| u.rss_max_mib).fold(0.0, f64::max)
}

/// What every experiment is held to that ends no worker without warning: after the workers were
/// stopped in order, nothing is lost, given up, sent to the wrong receiver, signed wrongly or left out of
/// the log of attempts.
pub(crate) fn common_marks(
    report: &mut Report,
    rig: &Rig,
    joined: &Joined<'_>,
    arrivals: &[Arrival],
    attempts: &[Attempted],
) -> anyhow::Result<()> {
    marks_of_all(report, rig, joined, arrivals, attempts)?;
    let unrecorded = audit::unrecorded(arrivals, attempts);
    report.none("requests without an attempt record", unrecorded);
    Ok(())
}

/// What every experiment leaves beside its report's own tables.
fn leave(
    report: &mut Report,
    rig: &Rig,
    joined: &Joined<'_>,
    arrivals: &[Arrival],
) -> anyhow::Result<()> {
    let picture = rig.folder.file("run.svg");
    plot::draw(&picture, &report.profile, joined, arrivals, &rig.sampler)?;
    let all: Vec<usize> = (0..joined.events.len()).collect();
    for (name, latencies) in [
        ("first-attempts", joined.latencies(&all)),
        ("delivered", joined.until_delivered(&all)),
        ("acknowledged", rig.load.acknowledged(0..all.len())),
    ] {
        histogram::write(&rig.folder, name, &latencies)?;
    }
    if let Some(requests) = &rig.broker_requests {
        requests.report(report, &(0..now_us()));
    }
    report.facts = Some(Facts::now()?);
    Ok(())
}

/// What every experiment is held to, whatever it does, and what it leaves.
fn marks_of_all(
    report: &mut Report,
    rig: &Rig,
    joined: &Joined<'_>,
    arrivals: &[Arrival],
    attempts: &[Attempted],
) -> anyhow::Result<()> {
    leave(report, rig, joined, arrivals)?;
    let all: Vec<usize> = (0..joined.events.len()).collect();
    let counts = joined.counts(&all);
    let installation = &rig.installation;
    let mut dead = 0;
    let dead_letters = installation.topic("dead-letters");
    audit::read(&installation.client(), &dead_letters, |_| dead += 1)?;
    let late = Spread::of(joined.written_late());
    report.numbers(
        "All events",
        &[
            ("events", counts.events.to_string()),
            ("requests", counts.requests.to_string()),
            ("repeated after a success", counts.repeats.to_string()),
            ("attempt records of requests", attempts.len().to_string()),
            ("written late, p99 ms", crate::report::millis(late.p99)),
            ("written late, max ms", crate::report::millis(late.max)),
        ],
    );
    report.none("lost", counts.lost);
    report.none("dead letters", dead);
    report.none("strays", joined.strays);
    let unsigned = arrivals.iter().filter(|arrival| !arrival.signed).count();
    report.none("requests with a wrong signature", unsigned);
    Ok(())
}

/// All of a flood is delivered within this after its end.
const FLOOD_ENDS_WITHIN: Duration = Duration::from_secs(120);

/// As many deliveries as there can be, for a time.
struct Flood {
    /// Its events.
    events: Range<usize>,
    /// What was delivered while it lasted, and the CPU of the workers.
    pace: Pace,
    /// What all processes used meanwhile.
    usage: Vec<Usage>,
}

/// Never more than `open` events are written and not delivered.
fn flood(
    rig: &mut Rig,
    endpoints: Range<u32>,
    open: usize,
    time: Duration,
) -> anyhow::Result<Flood> {
    let (began, cpu) = (now_us(), rig.workers_cpu_seconds()?);
    let events = rig.flood(endpoints, open, time)?;
    let (time, cpu) = (began..now_us(), rig.workers_cpu_seconds()? - cpu);
    let usage = rig.sampler.usage(&time);
    let missing = rig.wait_for_delivery(events.clone(), FLOOD_ENDS_WITHIN)?;
    anyhow::ensure!(missing == 0, "{missing} events of a flood did not arrive");
    let within = |arrival: &&Arrival| arrival.is_success() && time.contains(&arrival.at_us);
    let count = rig.arrivals()?.iter().rev().filter(within).count();
    let pace = Pace {
        requests: count as u64,
        failed: 0,
        seconds: (time.end - time.start) as f64 / 1e6,
        cpu_seconds: cpu,
    };
    Ok(Flood {
        events,
        pace,
        usage,
    })
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn of_two_in_the_middle_neither_is_chosen() {
        for (values, expected) in [
            (&[][..], 0.0),
            (&[3.0], 3.0),
            (&[1.8, 0.6], 1.2),
            (&[9.0, 1.0, 2.0], 2.0),
        ] {
            let found = median(values.iter().copied());
            assert!((found - expected).abs() < 1e-9, "{values:?}: {found}");
        }
    }
}
