//! `steady`: half of what it takes, and how late first attempts are then.
//!
//! First as many deliveries as there can be, as `max` has them, for the rate; then events at half
//! of it. Latencies count from the time an event was meant to be written, so that those that wait
//! behind a slow one are as late as they are.

use std::ops::Range;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::audit::Joined;
use crate::plan::Stream;
use crate::report::Report;
use crate::rig::{Place, Rig, Setting, endpoint, endpoint_id};
use crate::samples::Usage;
use crate::sink::Door;
use crate::stats::Spread;
use crate::{histogram, now_us};

use super::Flood;

/// Of the rate at most.
const SHARE: f64 = 0.5;
/// From the time an event was meant for to the arrival of its first attempt, milliseconds.
const P50_MAX_MS: f64 = 10.0;
const P99_MAX_MS: f64 = 100.0;
/// The pace of the first deliveries.
const GREET_RATE: f64 = 500.0;
/// All is delivered within this time after the last event.
const SETTLE: Duration = Duration::from_secs(120);

/// How much of it.
#[derive(Clone, Debug, Args, Serialize)]
pub struct Steady {
    /// Endpoints, which get events in turn
    #[arg(long, default_value_t = 1_000)]
    pub endpoints: u32,
    /// Hosts that they are spread over
    #[arg(long, default_value_t = 1_000)]
    pub hosts: u32,
    /// Seconds of as many deliveries as there can be
    #[arg(long, default_value_t = 10.0)]
    pub flood: f64,
    /// Events that may be written and not delivered then
    #[arg(long, default_value_t = 1_000)]
    pub open: usize,
    /// Seconds of half of that, before it counts
    #[arg(long, default_value_t = 10.0)]
    pub lead: f64,
    /// Seconds of it that count
    #[arg(long, default_value_t = 60.0)]
    pub seconds: f64,
    #[command(flatten)]
    #[serde(flatten)]
    pub setting: Setting,
}

/// The load at half of the rate.
struct Half {
    rate: f64,
    /// Those that count.
    events: Range<usize>,
    usage: Vec<Usage>,
}

/// Runs it.
///
/// # Errors
/// Something does not start, or what has to be read cannot be.
pub fn run(plan: &Steady, place: &Place<'_>) -> anyhow::Result<Report> {
    let mut rig = Rig::start(place, plan.setting, |sink| {
        let each = |number| endpoint(&endpoint_id(number), number, sink, Door::Hosts(plan.hosts));
        (0..plan.endpoints).map(each).collect()
    })?;
    let all = 0..plan.endpoints;
    rig.greet(all.clone(), GREET_RATE)?;
    // caches and pools fill once
    rig.flood(all.clone(), plan.open, Duration::from_secs(2))?;
    let time = Duration::from_secs_f64(plan.flood);
    let most = super::flood(&mut rig, all, plan.open, time)?;
    eprintln!("{:.0} a second at most", most.pace.rate());
    let half = half(plan, &mut rig, most.pace.rate() * SHARE)?;
    rig.stop_workers()?;
    judge(plan, rig, &most, &half)
}

fn half(plan: &Steady, rig: &mut Rig, rate: f64) -> anyhow::Result<Half> {
    let time = Duration::from_secs_f64(plan.lead + plan.seconds);
    let events = rig.run(&[Stream::lasting(0..plan.endpoints, rate, time)])?;
    // what the flood left behind falls on those before
    let lead = (rate * plan.lead).round() as usize;
    let events = events.start + lead..events.end;
    let began = rig.load.events().get(events.start);
    let began = began.map_or(0, |event| event.intended_us);
    let usage = rig.sampler.usage(&(began..now_us()));
    let missing = rig.wait_for_delivery(events.clone(), SETTLE)?;
    eprintln!(
        "{} events at {rate:.0} a second, {missing} not delivered",
        events.len()
    );
    Ok(Half {
        rate,
        events,
        usage,
    })
}

fn judge(plan: &Steady, mut rig: Rig, most: &Flood, half: &Half) -> anyhow::Result<Report> {
    let (arrivals, attempts) = rig.results()?;
    let joined = Joined::new(rig.load.events(), &arrivals);
    let numbers: Vec<usize> = half.events.clone().collect();
    let latencies = joined.latencies(&numbers);
    // beside that of all events, which has the flood's
    histogram::write(&rig.folder, "steady", &latencies)?;
    let spread = Spread::of(latencies);
    let mut report = Report::new("steady", plan);
    report.numbers(
        "Pace",
        &[
            (
                "deliveries a second at most",
                format!("{:.0}", most.pace.rate()),
            ),
            ("events a second", format!("{:.0}", half.rate)),
        ],
    );
    report.latencies("First attempts", &[("all".to_owned(), spread)]);
    let written = Spread::of(rig.load.acknowledged(half.events.clone()));
    report.latencies(
        "Events, until Kafka acknowledged them",
        &[("all".to_owned(), written)],
    );
    report.usage("Processes, at most", &most.usage);
    report.usage("Processes, at half of it", &half.usage);
    report.at_most("p50, ms", spread.p50 as f64 / 1_000.0, P50_MAX_MS);
    report.at_most("p99, ms", spread.p99 as f64 / 1_000.0, P99_MAX_MS);
    super::common_marks(&mut report, &rig, &joined, &arrivals, &attempts)?;
    Ok(report)
}
