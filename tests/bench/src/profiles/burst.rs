//! `burst`: the load is several times as much for a minute, then as before.
//!
//! All endpoints share both. What comes in the burst may wait; when the last of it was delivered
//! is counted from the burst's end, with the base load going on. Then everything is to be as it
//! was.

use std::ops::Range;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::audit::Joined;
use crate::now_us;
use crate::plan::Stream;
use crate::report::Report;
use crate::rig::{Place, Rig, Setting, endpoint, endpoint_id};
use crate::samples::Usage;
use crate::sink::Door;
use crate::stats::Spread;

/// What waited is delivered so many seconds after the burst.
const GONE_MAX: f64 = 90.0;
/// p99 afterwards, by that before.
const RATIO_MAX: f64 = 1.5;
const GREET_RATE: f64 = 500.0;
/// All is delivered within this time after the last event.
const SETTLE: Duration = Duration::from_secs(300);

/// How much of it.
#[derive(Clone, Debug, Args, Serialize)]
pub struct Burst {
    /// Endpoints, which get events in turn
    #[arg(long, default_value_t = 1_000)]
    pub endpoints: u32,
    /// Events a second
    #[arg(long, default_value_t = 1_000.0)]
    pub rate: f64,
    /// How many times as many in the burst
    #[arg(long, default_value_t = 6.0)]
    pub times: f64,
    /// Seconds of the burst
    #[arg(long, default_value_t = 60.0)]
    pub burst: f64,
    /// Seconds of the base load right after it
    #[arg(long, default_value_t = 90.0)]
    pub drain: f64,
    /// Seconds of the base load before, and when all that is over
    #[arg(long, default_value_t = 60.0)]
    pub seconds: f64,
    #[command(flatten)]
    #[serde(flatten)]
    pub setting: Setting,
}

struct Part {
    name: &'static str,
    events: Range<usize>,
    usage: Vec<Usage>,
}

/// Runs it.
///
/// # Errors
/// Something does not start, or what has to be read cannot be.
pub fn run(plan: &Burst, place: &Place<'_>) -> anyhow::Result<Report> {
    let mut rig = Rig::start(place, plan.setting, |sink| {
        let each = |number| endpoint(&endpoint_id(number), number, sink, Door::Main);
        (0..plan.endpoints).map(each).collect()
    })?;
    rig.greet(0..plan.endpoints, GREET_RATE)?;
    // caches and pools fill once
    rig.run(&[stream(plan, 1.0, plan.seconds / 6.0)])?;
    let mut parts = Vec::new();
    for (name, times, seconds) in [
        ("before", 1.0, plan.seconds),
        ("burst", plan.times, plan.burst),
        ("right after it", 1.0, plan.drain),
        ("afterwards", 1.0, plan.seconds),
    ] {
        if name == "afterwards" {
            let missing = rig.wait_for_delivery(0..rig.load.events().len(), SETTLE)?;
            eprintln!("{missing} not delivered");
        }
        let began = now_us();
        let events = rig.run(&[stream(plan, times, seconds)])?;
        let usage = rig.sampler.usage(&(began..now_us()));
        eprintln!("{name}: {} events", events.len());
        parts.push(Part {
            name,
            events,
            usage,
        });
    }
    let missing = rig.wait_for_delivery(0..rig.load.events().len(), SETTLE)?;
    eprintln!("{missing} not delivered");
    rig.stop_workers()?;
    judge(plan, rig, &parts)
}

fn stream(plan: &Burst, times: f64, seconds: f64) -> Stream {
    let time = Duration::from_secs_f64(seconds);
    Stream::lasting(0..plan.endpoints, plan.rate * times, time)
}

fn judge(plan: &Burst, mut rig: Rig, parts: &[Part]) -> anyhow::Result<Report> {
    let (arrivals, attempts) = rig.results()?;
    let joined = Joined::new(rig.load.events(), &arrivals);
    let spread = |part: &Part| {
        let numbers: Vec<usize> = part.events.clone().collect();
        Spread::of(joined.latencies(&numbers))
    };
    let spreads: Vec<(String, Spread)> = parts
        .iter()
        .map(|part| (part.name.to_owned(), spread(part)))
        .collect();
    let mut report = Report::new("burst", plan);
    report.latencies("First attempts", &spreads);
    let written = parts.iter().map(|part| {
        let took = rig.load.acknowledged(part.events.clone());
        (part.name.to_owned(), Spread::of(took))
    });
    report.latencies(
        "Events, until Kafka acknowledged them",
        &written.collect::<Vec<_>>(),
    );
    for part in parts {
        report.usage(&format!("Processes, {}", part.name), &part.usage);
    }
    let burst = parts[1].events.clone();
    let ended = joined.events[burst.clone()].last();
    let ended = ended.map_or(0, |event| event.intended_us) as f64;
    let last = joined.fates[burst].iter().map(|fate| fate.delivered_us);
    // one that never was is lost, and counted below
    let last = last.flatten().max().unwrap_or_default() as f64;
    report.at_most(
        "all of the burst delivered, seconds after it",
        (last - ended) / 1e6,
        GONE_MAX,
    );
    report.at_most(
        "p99 afterwards ÷ before",
        spreads[3].1.p99 as f64 / spreads[0].1.p99.max(1) as f64,
        RATIO_MAX,
    );
    super::common_marks(&mut report, &rig, &joined, &arrivals, &attempts)?;
    Ok(report)
}
