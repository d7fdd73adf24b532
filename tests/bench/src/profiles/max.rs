//! `max`: how much it takes, and what a delivery costs beside a bare signed request.
//!
//! By turns, so that what else the machine does falls on both: the bare loop alone, then as many
//! events as are delivered, never more than a bound that are not. Everything is on: signatures,
//! attempt records, commits.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::audit::Joined;
use crate::baseline::{self, Pace};
use crate::report::Report;
use crate::rig::{Place, Rig, Setting, endpoint, endpoint_id};
use crate::samples::Usage;
use crate::sink::Door;

/// CPU of a delivery by that of a bare request.
const CPU_MAX: f64 = 2.0;
/// Deliveries a second by bare requests a second.
const RATE_MIN: f64 = 0.25;
/// The pace of the first deliveries.
const GREET_RATE: f64 = 500.0;

/// How much of it.
#[derive(Clone, Debug, Args, Serialize)]
pub struct Max {
    /// Endpoints, which get events in turn
    #[arg(long, default_value_t = 1_000)]
    pub endpoints: u32,
    /// Hosts that they are spread over
    #[arg(long, default_value_t = 1_000)]
    pub hosts: u32,
    /// Seconds of each part
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// How often both parts come
    #[arg(long, default_value_t = 9)]
    pub rounds: usize,
    /// Events that may be written and not delivered
    #[arg(long, default_value_t = 1_000)]
    pub open: usize,
    /// Requests at once of the bare loop
    #[arg(long, default_value_t = 256)]
    pub in_flight: u32,
    #[command(flatten)]
    #[serde(flatten)]
    pub setting: Setting,
}

struct Part {
    bare: Pace,
    ours: Pace,
    usage: Vec<Usage>,
}

/// Runs it.
///
/// # Errors
/// Something does not start, or what has to be read cannot be.
pub fn run(plan: &Max, place: &Place<'_>) -> anyhow::Result<Report> {
    let mut rig = Rig::start(place, plan.setting, |sink| {
        let each = |number| endpoint(&endpoint_id(number), number, sink, Door::Hosts(plan.hosts));
        (0..plan.endpoints).map(each).collect()
    })?;
    rig.greet(0..plan.endpoints, GREET_RATE)?;
    // caches and pools fill once
    rig.flood(0..plan.endpoints, plan.open, Duration::from_secs(2))?;
    let mut parts = Vec::new();
    for round in 1..=plan.rounds {
        let part = part(plan, &mut rig, place)?;
        eprintln!(
            "round {round}: bare {:.0} a second at {:.1} us, postrider {:.0} at {:.1} us",
            part.bare.rate(),
            part.bare.cpu_us(),
            part.ours.rate(),
            part.ours.cpu_us()
        );
        parts.push(part);
    }
    rig.stop_workers()?;
    judge(plan, rig, &parts)
}

fn part(plan: &Max, rig: &mut Rig, place: &Place<'_>) -> anyhow::Result<Part> {
    let bare = baseline::measure(
        &place.program,
        &rig.sink,
        plan.hosts,
        plan.endpoints,
        plan.setting.padding,
        plan.in_flight,
        plan.seconds,
    )?;
    let time = Duration::from_secs_f64(plan.seconds);
    let flood = super::flood(rig, 0..plan.endpoints, plan.open, time)?;
    Ok(Part {
        bare,
        ours: flood.pace,
        usage: flood.usage,
    })
}

fn judge(plan: &Max, mut rig: Rig, parts: &[Part]) -> anyhow::Result<Report> {
    let (arrivals, attempts) = rig.results()?;
    let joined = Joined::new(rig.load.events(), &arrivals);
    let mut report = Report::new("max", plan);
    let rows = parts.iter().enumerate().flat_map(|(round, part)| {
        let bare = super::pace_row(&format!("bare {}", round + 1), &part.bare);
        [
            bare,
            super::pace_row(&format!("postrider {}", round + 1), &part.ours),
        ]
    });
    let columns = ["of", "requests", "a second", "CPU us each"];
    report.table("Pace", &columns, rows.collect());
    for (round, part) in parts.iter().enumerate() {
        report.usage(&format!("Processes, postrider {}", round + 1), &part.usage);
    }
    let ratio =
        |of: fn(&Pace) -> f64| super::median(parts.iter().map(|p| of(&p.ours) / of(&p.bare)));
    report.at_most("CPU, delivery ÷ bare request", ratio(Pace::cpu_us), CPU_MAX);
    report.at_least(
        "rate, deliveries ÷ bare requests",
        ratio(Pace::rate),
        RATE_MIN,
    );
    super::common_marks(&mut report, &rig, &joined, &arrivals, &attempts)?;
    Ok(report)
}
