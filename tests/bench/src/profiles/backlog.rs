//! `backlog`: very many events wait on intake when the workers start.
//!
//! First as many deliveries as there can be, for a rate to compare with; then twice the same: the
//! workers are stopped, events are written, the workers start and take them all. The second time
//! four times as many wait. What memory has room for is full within seconds either way: it is compared
//! from then on, until half of them are delivered.

use std::ops::Range;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::audit::Joined;
use crate::now_us;
use crate::report::{Report, Verdict};
use crate::rig::{Place, Rig, Setting, endpoint, endpoint_id};
use crate::samples::Usage;
use crate::sink::Door;

use super::Flood;

/// By so much more wait the second time.
const TIMES: usize = 4;
/// By then memory holds all that it may, seconds after the start.
const FULL_AFTER_S: f64 = 5.0;
/// From the start of the processes on.
const FIRST_WITHIN_S: f64 = 5.0;
/// Of the rate with everything warm.
const DRAIN_MIN: f64 = 0.8;
/// Memory that a waiting event may cost.
const BYTES_MAX: f64 = 16.0;
/// With fewer, what is bounded is more than what would grow.
const JUDGED_FROM: usize = 500_000;
const GREET_RATE: f64 = 500.0;
/// Events are written in portions of this many.
const PORTION: usize = 10_000;
/// Whatever the pace is, it is over within this and so much for each of [`SLOWEST`] events.
const PATIENCE: Duration = Duration::from_secs(180);
const SLOWEST: usize = 300;

/// How much of it.
#[derive(Clone, Debug, Args, Serialize)]
pub struct Backlog {
    /// Events that wait; a quarter of them the first time
    #[arg(long, default_value_t = 1_000_000)]
    pub events: usize,
    /// Endpoints, which get events in turn
    #[arg(long, default_value_t = 1_000)]
    pub endpoints: u32,
    /// Seconds of as many deliveries as there can be
    #[arg(long, default_value_t = 30.0)]
    pub seconds: f64,
    /// Events that may be written and not delivered then
    #[arg(long, default_value_t = 4_000)]
    pub open: usize,
    #[command(flatten)]
    #[serde(flatten)]
    pub setting: Setting,
}

/// A start with events that wait.
struct Start {
    events: Range<usize>,
    first_s: f64,
    rate: f64,
    usage: Vec<Usage>,
    /// Of all workers, on the average from when it was full until half were delivered, bytes; `None`
    /// when they were so before it was full.
    memory: Option<f64>,
}

/// Runs it.
///
/// # Errors
/// Something does not start, or what has to be read cannot be.
pub fn run(plan: &Backlog, place: &Place<'_>) -> anyhow::Result<Report> {
    let mut rig = Rig::start(place, plan.setting, |sink| {
        let each = |number| endpoint(&endpoint_id(number), number, sink, Door::Main);
        (0..plan.endpoints).map(each).collect()
    })?;
    rig.greet(0..plan.endpoints, GREET_RATE)?;
    let all = 0..plan.endpoints;
    let time = Duration::from_secs_f64(plan.seconds);
    rig.flood(all.clone(), plan.open, time / 4)?;
    let most = super::flood(&mut rig, all, plan.open, time)?;
    eprintln!("{:.0} a second at most", most.pace.rate());
    let few = start(plan, &mut rig, plan.events / TIMES)?;
    let many = start(plan, &mut rig, plan.events)?;
    rig.stop_workers()?;
    judge(plan, rig, &most, [&few, &many])
}

fn start(plan: &Backlog, rig: &mut Rig, count: usize) -> anyhow::Result<Start> {
    rig.stop_workers()?;
    let first = rig.load.events().len();
    let mut turn = (0..plan.endpoints).cycle();
    let mut left = count;
    while left > 0 {
        let portion: Vec<u32> = turn.by_ref().take(left.min(PORTION)).collect();
        left -= portion.len();
        rig.load.send_now(&portion);
    }
    let events = rig.load.settle(first)?;
    let came_before = rig.arrivals()?.len();
    let began = now_us();
    rig.start_workers();
    let limit = PATIENCE + Duration::from_secs((count / SLOWEST) as u64);
    let missing = rig.wait_for_delivery(events.clone(), limit)?;
    let usage = rig.sampler.usage(&(began..now_us()));
    let came = &rig.arrivals()?[came_before..];
    let at = |arrival: Option<&crate::sink::log::Arrival>| arrival.map_or(began, |a| a.at_us);
    let (first, last) = (at(came.first()), at(came.last()));
    let rate = (count - missing) as f64 * 1e6 / (last - first).max(1) as f64;
    let first_s = (first - began) as f64 / 1e6;
    let half = at(came.get(came.len() / 2));
    let full = began + (FULL_AFTER_S * 1e6) as u64;
    let memory = memory(rig, plan.setting.dispatchers, &(full..half));
    eprintln!(
        "{count} wait: the first after {first_s:.1} s, {rate:.0} a second, {missing} missing"
    );
    Ok(Start {
        events,
        first_s,
        rate,
        usage,
        memory,
    })
}

fn mib(bytes: Option<f64>) -> String {
    let mib = bytes.map(|bytes| format!("{:.1}", bytes / f64::from(1 << 20)));
    mib.unwrap_or_else(|| "not full".to_owned())
}

/// Of a router and so many dispatchers on the average, bytes; `None` when there is no sample.
fn memory(rig: &Rig, dispatchers: usize, time: &Range<u64>) -> Option<f64> {
    let mean = |worker: &str| {
        let samples = rig.sampler.of(worker);
        let within = samples.iter().filter(|of| time.contains(&of.at_us));
        let rss: Vec<f64> = within.map(|sample| sample.rss as f64).collect();
        (!rss.is_empty()).then(|| rss.iter().sum::<f64>() / rss.len() as f64)
    };
    Some(mean("router")? + mean("dispatcher")? * dispatchers as f64)
}

fn judge(
    plan: &Backlog,
    mut rig: Rig,
    most: &Flood,
    [few, many]: [&Start; 2],
) -> anyhow::Result<Report> {
    let (arrivals, attempts) = rig.results()?;
    let joined = Joined::new(rig.load.events(), &arrivals);
    let mut report = Report::new("backlog", plan);
    let rows = [few, many].map(|start| {
        vec![
            start.events.len().to_string(),
            format!("{:.2}", start.first_s),
            format!("{:.0}", start.rate),
            mib(start.memory),
        ]
    });
    let columns = [
        "wait",
        "s until the first",
        "a second",
        "workers' RSS MiB, full",
    ];
    report.table("Starts", &columns, rows.into());
    let warm = format!("{:.0}", most.pace.rate());
    report.numbers("With nothing waiting", &[("deliveries a second", warm)]);
    for start in [few, many] {
        let title = format!("Processes, {} wait", start.events.len());
        report.usage(&title, &start.usage);
    }
    report.at_most("s until the first delivery", many.first_s, FIRST_WITHIN_S);
    report.at_least(
        "rate, many waiting ÷ none",
        many.rate / most.pace.rate(),
        DRAIN_MIN,
    );
    let more = many.events.len() - few.events.len();
    let grown = many.memory.zip(few.memory).map(|(many, few)| many - few);
    let bytes = grown.unwrap_or_default() / more.max(1) as f64;
    let verdict = if more < JUDGED_FROM || grown.is_none() {
        Verdict::NotJudged
    } else {
        Verdict::of(bytes <= BYTES_MAX)
    };
    let what = "bytes per event more that waits";
    report.mark(what, bytes, format!("≤ {BYTES_MAX}"), verdict);
    super::common_marks(&mut report, &rig, &joined, &arrivals, &attempts)?;
    Ok(report)
}
