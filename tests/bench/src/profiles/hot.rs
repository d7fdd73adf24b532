//! `hot`: one endpoint gets nine tenths of all events, more than it takes.
//!
//! The neighbours' even load by turns alone and beside the hot one's, so that what else the
//! machine does falls on both. The hot one is held up by its rate limit; what it cannot take yet
//! waits, and the next phase begins when all of it is delivered.

use std::ops::Range;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use serde_json::json;

use crate::audit::Joined;
use crate::now_us;
use crate::plan::Stream;
use crate::report::Report;
use crate::rig::{Place, Rig, Setting, endpoint, endpoint_id, slice_of};
use crate::samples::Usage;
use crate::sink::Door;
use crate::sink::log::Arrival;
use crate::sink::order::Behaviour;
use crate::stats::Spread;

/// The endpoint that is hot.
const HOT: u32 = 0;
/// Its events by those of all neighbours.
const HOT_BY_REST: f64 = 9.0;
/// Neighbours' p99 beside it, by that alone.
const RATIO_MAX: f64 = 1.5;
/// How much the worker's memory may grow while a phase lasts.
const GROWTH_MAX_MIB: f64 = 32.0;
/// Of its limit, it gets at least this share while it has enough.
const RATE_MIN: f64 = 0.9;
/// Its requests at once.
const CONCURRENCY: usize = 16;
const GREET_RATE: f64 = 500.0;
const SECOND_US: u64 = 1_000_000;

/// How much of it.
#[derive(Clone, Debug, Args, Serialize)]
pub struct Hot {
    /// Its neighbours
    #[arg(long, default_value_t = 200)]
    pub neighbours: u32,
    /// Their events a second; the hot one gets nine times as many
    #[arg(long, default_value_t = 100.0)]
    pub rate: f64,
    /// How many the hot one takes in a second, its rate limit
    #[arg(long, default_value_t = 300)]
    pub limit: u32,
    /// After how many milliseconds it answers
    #[arg(long, default_value_t = 20)]
    pub answer_ms: u32,
    /// Seconds of a phase
    #[arg(long, default_value_t = 30.0)]
    pub seconds: f64,
    /// How often both phases come
    #[arg(long, default_value_t = 2)]
    pub rounds: usize,
    #[command(flatten)]
    #[serde(flatten)]
    pub setting: Setting,
}

impl Hot {
    /// How long all of a phase takes it, and some more.
    fn drained_within(&self) -> Duration {
        let events = self.rate * HOT_BY_REST * self.seconds;
        Duration::from_secs_f64(60.0 + 1.5 * events / f64::from(self.limit))
    }
}

struct Phase {
    name: String,
    hot: bool,
    events: Range<usize>,
    /// Microseconds since the epoch: its events, and until all of them were delivered.
    time: Range<u64>,
    usage: Vec<Usage>,
}

/// Runs it.
///
/// # Errors
/// Something does not start, or what has to be read cannot be.
pub fn run(plan: &Hot, place: &Place<'_>) -> anyhow::Result<Report> {
    let all = 0..plan.neighbours + 1;
    let mut rig = Rig::start(place, plan.setting, |sink| {
        let each = |number| {
            let mut endpoint = endpoint(&endpoint_id(number), number, sink, Door::Main);
            if number == HOT {
                endpoint["rate_limit"] = json!({ "attempts": plan.limit, "per": "1s" });
                endpoint["concurrency"] = json!(CONCURRENCY);
            }
            endpoint
        };
        all.clone().map(each).collect()
    })?;
    let answer = Behaviour::Answer {
        status: 200,
        after_ms: plan.answer_ms,
    };
    rig.sink.behave(HOT, HOT + 1, 1, answer)?;
    rig.greet(all, GREET_RATE)?;
    // caches and pools fill once
    phase(plan, &mut rig, "warm-up".to_owned(), false)?;
    let mut phases = Vec::new();
    for round in 1..=plan.rounds {
        for hot in [false, true] {
            let name = format!("{} {round}", if hot { "hot" } else { "alone" });
            phases.push(phase(plan, &mut rig, name, hot)?);
        }
    }
    rig.stop_workers()?;
    judge(plan, rig, &phases)
}

fn phase(plan: &Hot, rig: &mut Rig, name: String, hot: bool) -> anyhow::Result<Phase> {
    let time = Duration::from_secs_f64(plan.seconds);
    let mut streams = vec![Stream::lasting(1..plan.neighbours + 1, plan.rate, time)];
    if hot {
        let rate = plan.rate * HOT_BY_REST;
        streams.push(Stream::lasting(HOT..HOT + 1, rate, time));
    }
    let began = now_us();
    let events = rig.run(&streams)?;
    let missing = rig.wait_for_delivery(events.clone(), plan.drained_within())?;
    let time = began..now_us();
    eprintln!("{name}: {} events, {missing} not delivered", events.len());
    let usage = rig.sampler.usage(&time);
    Ok(Phase {
        name,
        hot,
        events,
        time,
        usage,
    })
}

fn judge(plan: &Hot, mut rig: Rig, phases: &[Phase]) -> anyhow::Result<Report> {
    let (arrivals, attempts) = rig.results()?;
    let joined = Joined::new(rig.load.events(), &arrivals);
    let slices = plan.setting.slices;
    let slice = slice_of(&endpoint_id(HOT), slices);
    let neighbour = |endpoint: u32| endpoint != HOT;
    let shares =
        |endpoint: u32| neighbour(endpoint) && slice_of(&endpoint_id(endpoint), slices) == slice;
    let of = |events: &[Range<usize>], group: &dyn Fn(u32) -> bool| {
        Spread::of(joined.latencies(&joined.of(events, group)))
    };
    let events = |hot: bool| -> Vec<Range<usize>> {
        let those = phases.iter().filter(|phase| phase.hot == hot);
        those.map(|phase| phase.events.clone()).collect()
    };
    let (alone, beside) = (events(false), events(true));
    let mut spreads: Vec<(String, Spread)> = phases
        .iter()
        .map(|phase| {
            let events = std::slice::from_ref(&phase.events);
            (phase.name.clone(), of(events, &neighbour))
        })
        .collect();
    let (without, with) = (of(&alone, &neighbour), of(&beside, &neighbour));
    spreads.push(("all alone".to_owned(), without));
    spreads.push(("all hot".to_owned(), with));
    spreads.push(("alone, of its slice".to_owned(), of(&alone, &shares)));
    spreads.push(("hot, of its slice".to_owned(), of(&beside, &shares)));
    let mut report = Report::new("hot", plan);
    report.latencies("First attempts to neighbours", &spreads);
    let hot = of(&beside, &|endpoint| endpoint == HOT);
    report.latencies("First attempts to the hot one", &[("all".to_owned(), hot)]);
    for phase in phases {
        report.usage(&format!("Processes, {}", phase.name), &phase.usage);
    }
    report.at_most(
        "neighbours' p99, hot ÷ alone",
        with.p99 as f64 / without.p99.max(1) as f64,
        RATIO_MAX,
    );
    held_up(plan, &mut report, phases, &arrivals);
    super::common_marks(&mut report, &rig, &joined, &arrivals, &attempts)?;
    Ok(report)
}

/// What the hot one got, and what it cost to keep the rest.
fn held_up(plan: &Hot, report: &mut Report, phases: &[Phase], arrivals: &[Arrival]) {
    let mut most = 0;
    let mut shares = Vec::new();
    let mut growth: f64 = 0.0;
    for phase in phases.iter().filter(|phase| phase.hot) {
        let its =
            |arrival: &&Arrival| arrival.receiver == HOT && phase.time.contains(&arrival.at_us);
        let at: Vec<u64> = arrivals.iter().filter(its).map(|a| a.at_us).collect();
        most = most.max(most_in_a_second(&at));
        if let (Some(first), Some(last)) = (at.first(), at.last()) {
            let seconds = (last - first) as f64 / 1e6;
            shares.push(at.len() as f64 / seconds.max(1.0) / f64::from(plan.limit));
        }
        let workers = phase
            .usage
            .iter()
            .filter(|u| u.process.starts_with("dispatcher"));
        for usage in workers {
            growth = growth.max(usage.rss_max_mib - usage.rss_first_mib);
        }
    }
    // those that were on their way when a second begins arrive in it
    report.at_most(
        "hot: most requests in any second",
        most as f64,
        f64::from(plan.limit) + CONCURRENCY as f64,
    );
    let least = shares.into_iter().reduce(f64::min).unwrap_or_default();
    report.at_least("hot: rate ÷ limit while it has enough", least, RATE_MIN);
    report.at_most(
        "dispatcher's growth in a phase, MiB",
        growth,
        GROWTH_MAX_MIB,
    );
}

/// Of times in order, microseconds.
fn most_in_a_second(at: &[u64]) -> usize {
    let mut first = 0;
    let mut most = 0;
    for (last, time) in at.iter().enumerate() {
        while at[first] + SECOND_US <= *time {
            first += 1;
        }
        most = most.max(last + 1 - first);
    }
    most
}

#[cfg(test)]
mod tests {
    use super::most_in_a_second;

    #[test]
    fn a_second_begins_anywhere_and_is_half_open() {
        assert_eq!(most_in_a_second(&[]), 0);
        assert_eq!(most_in_a_second(&[0, 1_000_000, 2_000_000]), 1);
        assert_eq!(
            most_in_a_second(&[0, 900_000, 999_999, 1_800_000, 1_899_999]),
            4
        );
    }
}
