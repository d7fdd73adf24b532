//! `replay`: very many deliveries are sent again while a live load goes on.
//!
//! By turns the live load alone, and beside deliveries that were written to `redeliveries` at once:
//! they may only have what the live load leaves.

use std::ops::Range;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::audit::Joined;
use crate::load::LaneTopic;
use crate::now_us;
use crate::plan::Stream;
use crate::report::Report;
use crate::rig::{Place, Rig, Setting, endpoint, endpoint_id};
use crate::samples::Usage;
use crate::sink::Door;
use crate::sink::log::Arrival;
use crate::stats::Spread;

/// Live p99 beside replays, by that without.
const RATIO_MAX: f64 = 1.5;
const PATIENCE: Duration = Duration::from_secs(180);
/// Replays are over within this for each second that the live load lasts.
const SLOWEST: u32 = 20;

/// How much of it.
#[derive(Clone, Debug, Args, Serialize)]
pub struct Replay {
    /// Deliveries that are sent again, in each round
    #[arg(long, default_value_t = 1_000_000)]
    pub replays: usize,
    /// Endpoints of both
    #[arg(long, default_value_t = 1_000)]
    pub endpoints: u32,
    /// Live events a second
    #[arg(long, default_value_t = 300.0)]
    pub rate: f64,
    /// Seconds of each part
    #[arg(long, default_value_t = 60.0)]
    pub seconds: f64,
    /// How often both parts come
    #[arg(long, default_value_t = 1)]
    pub rounds: usize,
    #[command(flatten)]
    #[serde(flatten)]
    pub setting: Setting,
}

struct Part {
    name: String,
    /// Those that were sent again; empty without.
    replays: Range<usize>,
    live: Range<usize>,
    time: Range<u64>,
    usage: Vec<Usage>,
}

/// Runs it.
///
/// # Errors
/// Something does not start, or what has to be read cannot be.
pub fn run(plan: &Replay, place: &Place<'_>) -> anyhow::Result<Report> {
    let mut rig = Rig::start(place, plan.setting, |sink| {
        let each = |number| endpoint(&endpoint_id(number), number, sink, Door::Main);
        (0..plan.endpoints).map(each).collect()
    })?;
    rig.greet(0..plan.endpoints, plan.rate)?;
    let mut parts = Vec::new();
    for round in 1..=plan.rounds {
        parts.push(part(plan, &mut rig, format!("alone {round}"), 0)?);
        let name = format!("beside {round}");
        parts.push(part(plan, &mut rig, name, plan.replays)?);
    }
    rig.stop_workers()?;
    judge(plan, rig, &parts)
}

fn part(plan: &Replay, rig: &mut Rig, name: String, count: usize) -> anyhow::Result<Part> {
    let lane = LaneTopic {
        topic: rig.installation.topic("redeliveries").into(),
        slices: plan.setting.slices,
    };
    let first = rig.load.events().len();
    rig.load.expect_deliveries(count);
    let endpoints = (0..plan.endpoints).cycle();
    for endpoint in endpoints.take(count) {
        rig.load.put(&lane, endpoint, 0, None);
    }
    let replays = rig.load.settle(first)?;
    let began = now_us();
    let time = Duration::from_secs_f64(plan.seconds);
    let live = rig.run(&[Stream::lasting(0..plan.endpoints, plan.rate, time)])?;
    let time = began..now_us();
    let usage = rig.sampler.usage(&time);
    let limit = PATIENCE + Duration::from_secs_f64(plan.seconds) * SLOWEST;
    let missing = rig.wait_for_delivery(replays.start..live.end, limit)?;
    eprintln!("{name}: {missing} not delivered");
    Ok(Part {
        name,
        replays,
        live,
        time,
        usage,
    })
}

fn judge(plan: &Replay, mut rig: Rig, parts: &[Part]) -> anyhow::Result<Report> {
    let (arrivals, attempts) = rig.results()?;
    let joined = Joined::new(rig.load.events(), &arrivals);
    let mut report = Report::new("replay", plan);
    let live = |parts: &[&Part]| {
        let numbers: Vec<usize> = parts.iter().flat_map(|p| live(p, &joined)).collect();
        Spread::of(joined.latencies(&numbers))
    };
    let with = |replays: bool| {
        let some = |part: &&Part| part.replays.is_empty() != replays;
        live(&parts.iter().filter(some).collect::<Vec<_>>())
    };
    let mut spreads: Vec<(String, Spread)> = parts
        .iter()
        .map(|part| (part.name.clone(), live(&[part])))
        .collect();
    let (alone, beside) = (with(false), with(true));
    spreads.push(("all alone".to_owned(), alone));
    spreads.push(("all beside replays".to_owned(), beside));
    report.latencies(
        "First attempts of live events, while replays went",
        &spreads,
    );
    replayed(&mut report, parts, &arrivals);
    for part in parts {
        report.usage(&format!("Processes, {}", part.name), &part.usage);
    }
    report.at_most(
        "live p99, beside replays ÷ alone",
        beside.p99 as f64 / alone.p99.max(1) as f64,
        RATIO_MAX,
    );
    let replays: Vec<usize> = parts.iter().flat_map(|p| p.replays.clone()).collect();
    report.none("replays not delivered", joined.counts(&replays).lost);
    super::common_marks(&mut report, &rig, &joined, &arrivals, &attempts)?;
    Ok(report)
}

/// The live events of a part; beside replays only those of the time until the last of these came.
fn live(part: &Part, joined: &Joined<'_>) -> Vec<usize> {
    let came = |number: usize| joined.fates[number].delivered_us;
    let last = part.replays.clone().filter_map(came).max();
    let meant = |number: &usize| joined.events[*number].intended_us;
    let within = |number: &usize| last.is_none_or(|last| meant(number) <= last);
    part.live.clone().filter(within).collect()
}

/// How fast replays went, beside the live load and after it.
fn replayed(report: &mut Report, parts: &[Part], arrivals: &[Arrival]) {
    let rows = parts.iter().filter(|part| !part.replays.is_empty());
    let rows = rows.map(|part| {
        let ours = |arrival: &&Arrival| part.replays.contains(&(arrival.event as usize));
        let times: Vec<u64> = arrivals.iter().filter(ours).map(|a| a.at_us).collect();
        let during = times.iter().filter(|at| part.time.contains(at)).count();
        let took = match (times.first(), times.last()) {
            (Some(first), Some(last)) => (last - first) as f64 / 1e6,
            _ => 0.0,
        };
        vec![
            part.name.clone(),
            part.replays.len().to_string(),
            during.to_string(),
            format!("{took:.1}"),
            format!("{:.0}", times.len() as f64 / took.max(f64::MIN_POSITIVE)),
        ]
    });
    let columns = [
        "part",
        "replays",
        "while live events came",
        "took s",
        "a second",
    ];
    report.table("Replays", &columns, rows.collect());
}
