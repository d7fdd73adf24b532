//! `scale`: what a second and a third dispatcher add, each with the same CPU.
//!
//! Dispatchers get so little CPU each that broker, router and receivers are never what limits: the
//! kernel holds each to its budget. Each slice has as many endpoints as any other, and each
//! dispatcher as many slices. One, two and three of them take turns as often as there are rounds.

use std::time::Duration;

use anyhow::Error;
use clap::Args;
use postrider_test_support::Budget;
use serde::Serialize;

use crate::audit::Joined;
use crate::report::{Report, Verdict};
use crate::rig::{Place, Rig, Setting, endpoint, even_ids};
use crate::samples::Usage;
use crate::sink::Door;

use super::Flood;

/// As many take turns.
const DISPATCHERS: usize = 3;
/// That many slices can be shared evenly by one, two and three.
const SHARED_EVENLY: u16 = 6;
/// Rate with all three, by that with one.
const GAIN_MIN: f64 = 2.55;
/// A dispatcher that used less of its budget was held up by something else.
const USED_MIN: f64 = 0.85;
const GREET_RATE: f64 = 200.0;
const START_WITHIN: Duration = Duration::from_secs(90);

/// How much of it.
#[derive(Clone, Debug, Args, Serialize)]
pub struct Scale {
    /// Endpoints, which get events in turn
    #[arg(long, default_value_t = 1_200)]
    pub endpoints: u32,
    /// Cores that each dispatcher may use
    #[arg(long, default_value_t = 0.2)]
    pub cores: f64,
    /// Seconds of each part
    #[arg(long, default_value_t = 15.0)]
    pub seconds: f64,
    /// Seconds before each part, in which slices move
    #[arg(long, default_value_t = 8.0)]
    pub settle: f64,
    /// How often all parts come
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Events that may be written and not delivered, for each dispatcher
    #[arg(long, default_value_t = 2_000)]
    pub open: usize,
    /// Slices are rounded down to a multiple of six; there is one dispatcher at first.
    #[command(flatten)]
    #[serde(flatten)]
    pub setting: Setting,
}

struct Part {
    dispatchers: usize,
    flood: Flood,
}

impl Part {
    /// Cores that each dispatcher used.
    fn cores(&self) -> Vec<f64> {
        let of = |usage: &&Usage| usage.process.starts_with("dispatcher");
        self.flood
            .usage
            .iter()
            .filter(of)
            .map(|u| u.cores)
            .collect()
    }
}

/// Runs it.
///
/// # Errors
/// Something does not start, CPU cannot be bounded, or what has to be read cannot be.
pub fn run(plan: &Scale, place: &Place<'_>) -> anyhow::Result<Report> {
    let plan = &Scale {
        setting: Setting {
            slices: (plan.setting.slices / SHARED_EVENLY).max(1) * SHARED_EVENLY,
            dispatchers: 1,
            ..plan.setting
        },
        ..plan.clone()
    };
    let budget =
        |number: usize| Budget::of_cpu(&format!("scale-{number}"), plan.cores).map_err(Error::msg);
    let budgets: Vec<Budget> = (1..=DISPATCHERS).map(budget).collect::<Result<_, _>>()?;
    let mut rig = Rig::start(place, plan.setting, |sink| {
        let ids = even_ids(plan.endpoints, plan.setting.slices);
        let numbered = ids.iter().zip(0..);
        numbered
            .map(|(id, number)| endpoint(id, number, sink, Door::Main))
            .collect()
    })?;
    let first = rig.fleet().process(1).pid();
    budgets[0].hold(first).map_err(Error::msg)?;
    rig.greet(0..plan.endpoints, GREET_RATE)?;
    let mut parts = Vec::new();
    for round in 1..=plan.rounds {
        for dispatchers in 1..=DISPATCHERS {
            let mut fleet = rig.fleet();
            if dispatchers == 1 && round > 1 {
                for number in 2..=DISPATCHERS {
                    fleet.stop(number)?;
                }
            } else if dispatchers > 1 {
                fleet.start(dispatchers);
                let pid = fleet.process(dispatchers).pid();
                budgets[dispatchers - 1].hold(pid).map_err(Error::msg)?;
                fleet.wait_until_at_work(dispatchers, START_WITHIN);
            }
            let part = part(plan, &mut rig, dispatchers)?;
            eprintln!(
                "round {round}: {dispatchers} take {:.0} a second with {:.2?} cores",
                part.flood.pace.rate(),
                part.cores()
            );
            parts.push(part);
        }
    }
    rig.stop_workers()?;
    judge(plan, rig, &parts)
}

fn part(plan: &Scale, rig: &mut Rig, dispatchers: usize) -> anyhow::Result<Part> {
    let (all, open) = (0..plan.endpoints, plan.open * dispatchers);
    let seconds = Duration::from_secs_f64;
    rig.flood(all.clone(), open, seconds(plan.settle))?;
    let flood = super::flood(rig, all, open, seconds(plan.seconds))?;
    Ok(Part { dispatchers, flood })
}

fn judge(plan: &Scale, mut rig: Rig, parts: &[Part]) -> anyhow::Result<Report> {
    let (arrivals, attempts) = rig.results()?;
    let joined = Joined::new(rig.load.events(), &arrivals);
    let mut report = Report::new("scale", plan);
    let rows = parts.iter().map(|part| {
        let cores: f64 = part.cores().iter().sum();
        let each = part
            .cores()
            .iter()
            .map(|c| format!("{c:.2}"))
            .collect::<Vec<_>>();
        vec![
            part.dispatchers.to_string(),
            part.flood.events.len().to_string(),
            format!("{:.0}", part.flood.pace.rate()),
            each.join(" "),
            format!(
                "{:.0}",
                part.flood.pace.rate() / cores.max(f64::MIN_POSITIVE)
            ),
        ]
    });
    let columns = [
        "dispatchers",
        "events",
        "a second",
        "cores each",
        "a second and core",
    ];
    report.table("Pace", &columns, rows.collect());
    for (number, part) in parts.iter().enumerate() {
        let title = format!("Processes, part {}: {}", number + 1, part.dispatchers);
        report.usage(&title, &part.flood.usage);
    }
    // the middle of the rounds' ratios: what else the machine did falls on all of a round
    let gain = super::median(parts.chunks(DISPATCHERS).map(|round| {
        let rate = |part: &Part| part.flood.pace.rate();
        rate(&round[DISPATCHERS - 1]) / rate(&round[0])
    }));
    let compared = parts.iter().filter(|part| part.dispatchers != 2);
    let mut used = compared.flat_map(Part::cores);
    let verdict = if used.any(|cores| cores < plan.cores * USED_MIN) {
        // then it is not the dispatchers that were measured
        Verdict::NotJudged
    } else {
        Verdict::of(gain >= GAIN_MIN)
    };
    let what = "rate, three dispatchers ÷ one";
    report.mark(what, gain, format!("≥ {GAIN_MIN}"), verdict);
    super::common_marks(&mut report, &rig, &joined, &arrivals, &attempts)?;
    Ok(report)
}
