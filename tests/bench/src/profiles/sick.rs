//! `sick`: how much the healthy feel of endpoints that are not.
//!
//! The same even load in phases of the same length, by turns with all endpoints well and with some
//! of them sick, so that what else the machine does falls on both. The sick ones fall ill when the
//! measured part of the phase begins, so it holds the onset too, and are well again at its end;
//! the next phase begins when all they missed is delivered.

pub mod illness;

use std::ops::Range;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use serde_json::json;

use crate::audit::{Joined, limits};
use crate::now_us;
use crate::plan::Stream;
use crate::report::Report;
use crate::rig::{Place, Rig, Setting, endpoint, endpoint_id};
use crate::samples::Usage;
use crate::stats::Spread;
use illness::{Illness, LIMIT};

/// Healthy p99 with the sick ones, by that without.
const RATIO_MAX: f64 = 1.5;
/// What is tried again must be over in the time between phases.
const SCHEDULE: [&str; 12] = [
    "5s", "10s", "20s", "30s", "30s", "30s", "60s", "60s", "60s", "60s", "60s", "60s",
];

/// How much of it.
#[derive(Clone, Debug, Args, Serialize)]
pub struct Sick {
    /// What the sick ones have
    #[arg(long, value_enum, default_value_t = Illness::Mixed)]
    pub illness: Illness,
    /// Endpoints
    #[arg(long, default_value_t = 1_000)]
    pub endpoints: u32,
    /// Events a second
    #[arg(long, default_value_t = 300.0)]
    pub rate: f64,
    /// Seconds of a phase that are measured
    #[arg(long, default_value_t = 60.0)]
    pub seconds: f64,
    /// Seconds of the same load before them
    #[arg(long, default_value_t = 10.0)]
    pub warm_up: f64,
    /// How often both phases come
    #[arg(long, default_value_t = 2)]
    pub rounds: usize,
    /// Seconds within which all is to be delivered after a phase
    #[arg(long, default_value_t = 420.0)]
    pub settle: f64,
    #[command(flatten)]
    #[serde(flatten)]
    pub setting: Setting,
}

struct Phase {
    name: String,
    sick: bool,
    events: Range<usize>,
    usage: Vec<Usage>,
}

/// Runs it.
///
/// # Errors
/// Something does not start, or what has to be read cannot be.
pub fn run(plan: &Sick, place: &Place<'_>) -> anyhow::Result<Report> {
    let mut rig = Rig::start(place, plan.setting, |sink| {
        let all = 0..plan.endpoints;
        all.map(|number| {
            let door = plan.illness.door(number, plan.endpoints);
            let mut endpoint = endpoint(&endpoint_id(number), number, sink, door);
            endpoint["retry"] = json!({ "schedule": SCHEDULE, "window": "1h" });
            if let Some(limit) = plan.illness.limit(number) {
                endpoint["rate_limit"] = json!({ "attempts": limit, "per": "1s" });
            }
            endpoint
        })
        .collect()
    })?;
    plan.illness.prepare(&mut rig.sink)?;
    rig.greet(0..plan.endpoints, plan.rate)?;
    let mut phases = Vec::new();
    for round in 1..=plan.rounds {
        for sick in [false, true] {
            let name = format!("{} {round}", if sick { "sick" } else { "well" });
            phases.push(phase(plan, &mut rig, name, sick)?);
        }
    }
    rig.stop_workers()?;
    judge(plan, rig, &phases)
}

fn phase(plan: &Sick, rig: &mut Rig, name: String, sick: bool) -> anyhow::Result<Phase> {
    let lasting = |seconds| {
        Stream::lasting(
            0..plan.endpoints,
            plan.rate,
            Duration::from_secs_f64(seconds),
        )
    };
    let warm_up = rig.run(&[lasting(plan.warm_up)])?;
    if sick {
        plan.illness.begin(rig, plan.endpoints)?;
    }
    let began = now_us();
    let events = rig.run(&[lasting(plan.seconds)])?;
    let usage = rig.sampler.usage(&(began..now_us()));
    if sick {
        plan.illness.end(rig, plan.endpoints)?;
    }
    let limit = Duration::from_secs_f64(plan.settle);
    let missing = rig.wait_for_delivery(warm_up.start..events.end, limit)?;
    eprintln!("{name}: {} events, {missing} not delivered", events.len());
    Ok(Phase {
        name,
        sick,
        events,
        usage,
    })
}

fn judge(plan: &Sick, mut rig: Rig, phases: &[Phase]) -> anyhow::Result<Report> {
    let (arrivals, attempts) = rig.results()?;
    let joined = Joined::new(rig.load.events(), &arrivals);
    let healthy = |endpoint: u32| !plan.illness.has(endpoint);
    let of = |events: &[Range<usize>]| {
        let numbers = joined.of(events, healthy);
        Spread::of(joined.latencies(&numbers))
    };
    let all_of = |sick: bool| {
        let events = phases.iter().filter(|phase| phase.sick == sick);
        of(&events.map(|phase| phase.events.clone()).collect::<Vec<_>>())
    };
    let mut report = Report::new("sick", plan);
    let mut spreads: Vec<(String, Spread)> = phases
        .iter()
        .map(|phase| (phase.name.clone(), of(std::slice::from_ref(&phase.events))))
        .collect();
    let (well, sick) = (all_of(false), all_of(true));
    spreads.push(("all well".to_owned(), well));
    spreads.push(("all sick".to_owned(), sick));
    report.latencies("First attempts to healthy endpoints", &spreads);
    let written = phases.iter().map(|phase| {
        let took = rig.load.acknowledged(phase.events.clone());
        (phase.name.clone(), Spread::of(took))
    });
    report.latencies(
        "Events, until Kafka acknowledged them",
        &written.collect::<Vec<_>>(),
    );
    for phase in phases {
        report.usage(&format!("Processes, {}", phase.name), &phase.usage);
    }
    let phases: Vec<Range<usize>> = phases.iter().map(|phase| phase.events.clone()).collect();
    let lost = joined.counts(&joined.of(&phases, healthy)).lost;
    report.at_most(
        "healthy p99, sick ÷ well",
        sick.p99 as f64 / well.p99.max(1) as f64,
        RATIO_MAX,
    );
    report.none("lost of healthy endpoints", lost);
    super::common_marks(&mut report, &rig, &joined, &arrivals, &attempts)?;
    let limited = |endpoint| {
        let limit = plan.illness.limit(endpoint);
        limit.map(|_| Duration::from_secs(1))
    };
    // each request has a record, or a mark above was missed
    let fullest = limits::fullest(rig.load.events(), &attempts, &[], limited);
    if let Some(most) = fullest.iter().map(|(_, most, _)| *most).max() {
        report.at_most(
            "most attempts of a sick one in a second",
            most as f64,
            LIMIT as f64,
        );
    }
    Ok(report)
}
