//! `retries`: whether memory depends on how many retries wait.
//!
//! Every delivery's first attempt is refused with 422, which uses up an attempt and leaves the
//! breaker closed (a 5xx would open it, and the deliveries would wait on the backlog instead of the
//! rungs). The schedule of an endpoint is one wait; the waits of all endpoints lie evenly between
//! the time it takes to write all events and `spread`, so that all of them wait at once, and come
//! due one after the other in the time that follows.
//!
//! With `--direct` no attempt comes first (`retries/direct`): many more can wait then.

mod direct;

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use serde_json::json;

use crate::audit::{Attempted, Joined};
use crate::now_us;
use crate::plan::Stream;
use crate::report::{Report, Verdict};
use crate::rig::{Place, Rig, Setting, endpoint, endpoint_id};
use crate::samples::Sample;
use crate::sink::Door;
use crate::sink::log::Arrival;
use crate::sink::order::Behaviour;
use crate::stats::{Spread, slope};

/// A refusal that leaves the breaker closed.
const REFUSED: u16 = 422;
/// Memory a waiting retry may cost.
const BYTES_MAX: f64 = 16.0;
/// How late 99 of 100 may be.
const LATE_MAX_MS: f64 = 5_000.0;
/// With fewer than this waiting, what is bounded (what is read ahead of each rung) is more than
/// what would grow.
const JUDGED_FROM: usize = 100_000;
/// What is bounded has filled up by the time this share of them waits.
const REGRESSED_FROM: f64 = 0.1;
/// How late the last one may be before it is given up.
const PATIENCE: Duration = Duration::from_secs(180);

/// How much of it.
#[derive(Clone, Debug, Args, Serialize)]
pub struct Retries {
    /// Retries that wait
    #[arg(long, alias = "scale", default_value_t = 1_000_000)]
    pub retries: usize,
    /// The longest wait, seconds: they come due over about this time; with --direct the wait of
    /// each from the time it is written, best the delay of a retry topic
    #[arg(long, default_value_t = 3_600.0)]
    pub spread: f64,
    /// Events a second until all wait
    #[arg(long, default_value_t = 1_000.0)]
    pub rate: f64,
    /// Endpoints that share them, each with its own wait
    #[arg(long, default_value_t = 1_000)]
    pub endpoints: u32,
    /// Writes them to a retry topic by itself, as fast as it can, in place of events whose first
    /// attempt is refused: all are due at about the same time, and go as fast as they can
    #[arg(long)]
    pub direct: bool,
    #[command(flatten)]
    #[serde(flatten)]
    pub setting: Setting,
}

impl Retries {
    fn filling(&self) -> f64 {
        self.retries as f64 / self.rate
    }

    /// The wait of an endpoint, seconds.
    fn wait(&self, endpoint: u32) -> f64 {
        let shortest = self.filling().min(self.spread);
        let share = f64::from(endpoint) / f64::from(self.endpoints.max(2) - 1);
        shortest + (self.spread - shortest) * share
    }
}

/// Runs it.
///
/// # Errors
/// Something does not start, or what has to be read cannot be.
pub fn run(plan: &Retries, place: &Place<'_>) -> anyhow::Result<Report> {
    if plan.direct {
        return direct::run(plan, place);
    }
    let mut rig = Rig::start(place, plan.setting, |sink| {
        let all = 0..plan.endpoints;
        all.map(|number| {
            let mut endpoint = endpoint(&endpoint_id(number), number, sink, Door::Main);
            let wait = format!("{}ms", (plan.wait(number) * 1_000.0) as u64);
            // the second wait is for those whose second attempt fails for another reason
            let schedule = [wait, "30s".to_owned()];
            endpoint["retry"] = json!({ "schedule": schedule, "window": "1d", "jitter": 0.0 });
            endpoint
        })
        .collect()
    })?;
    rig.greet(0..plan.endpoints, plan.rate)?;
    let refuse = Behaviour::RefuseUpTo {
        attempt: 1,
        status: REFUSED,
    };
    rig.sink.behave(0, plan.endpoints, 1, refuse)?;
    let began = now_us();
    let stream = Stream {
        endpoints: 0..plan.endpoints,
        rate: plan.rate,
        count: plan.retries,
    };
    let events = rig.run(&[stream])?;
    eprintln!("{} events are written", events.len());
    let limit = Duration::from_secs_f64(plan.spread) + PATIENCE;
    let missing = rig.wait_for_delivery(events.clone(), limit)?;
    eprintln!("{missing} not delivered");
    let course = began..now_us();
    rig.stop_workers()?;
    judge(plan, rig, &events, &course)
}

fn judge(
    plan: &Retries,
    mut rig: Rig,
    events: &Range<usize>,
    course: &Range<u64>,
) -> anyhow::Result<Report> {
    let (arrivals, attempts) = rig.results()?;
    let joined = Joined::new(rig.load.events(), &arrivals);
    let mut report = Report::new("retries", plan);
    report.usage("Processes", &rig.sampler.usage(course));
    let samples: Vec<Sample> = rig
        .sampler
        .of("dispatcher")
        .into_iter()
        .filter(|sample| course.contains(&sample.at_us))
        .collect();
    let memory = memory_by_waiting(&samples, &changes(&arrivals, events));
    regress(&mut report, &memory);
    timing(&mut report, &attempts, &arrivals, events);
    let numbers: Vec<usize> = events.clone().collect();
    let first = Spread::of(joined.latencies(&numbers));
    report.latencies("First attempts", &[("all".to_owned(), first)]);
    super::common_marks(&mut report, &rig, &joined, &arrivals, &attempts)?;
    Ok(report)
}

/// When one more waits, and when one less does, in order of time.
fn changes(arrivals: &[Arrival], events: &Range<usize>) -> Vec<(u64, i64)> {
    let ours = |arrival: &&Arrival| events.contains(&(arrival.event as usize));
    let change = |arrival: &Arrival| {
        let more = if arrival.attempt == 1 { 1 } else { -1 };
        (arrival.at_us, more)
    };
    let mut changes: Vec<(u64, i64)> = arrivals.iter().filter(ours).map(change).collect();
    changes.sort_unstable();
    changes
}

/// Memory of all dispatchers, in bytes, with how many waited at that time.
fn memory_by_waiting(samples: &[Sample], changes: &[(u64, i64)]) -> Vec<(f64, f64)> {
    // those of one round lie within milliseconds
    let mut rounds: BTreeMap<u64, u64> = BTreeMap::new();
    for sample in samples {
        *rounds
            .entry((sample.at_us + 500_000) / 1_000_000)
            .or_default() += sample.rss;
    }
    let mut waiting = 0;
    let mut changes = changes.iter().peekable();
    let mut points = Vec::new();
    for (second, rss) in rounds {
        while let Some((_, change)) = changes.next_if(|(at, _)| *at <= second * 1_000_000) {
            waiting += change;
        }
        points.push((waiting as f64, rss as f64));
    }
    points
}

fn regress(report: &mut Report, memory: &[(f64, f64)]) {
    let most = memory
        .iter()
        .map(|(waiting, _)| *waiting)
        .fold(0.0, f64::max);
    let many: Vec<(f64, f64)> = memory
        .iter()
        .filter(|(waiting, _)| *waiting >= most * REGRESSED_FROM)
        .copied()
        .collect();
    let bytes = slope(&many);
    report.numbers(
        "Memory of the dispatchers",
        &[
            ("most that waited", format!("{most:.0}")),
            (
                "bytes per waiting retry, all samples",
                format!("{:.1}", slope(memory)),
            ),
            ("from a tenth of the most on", format!("{bytes:.1}")),
        ],
    );
    let verdict = if most < JUDGED_FROM as f64 {
        Verdict::NotJudged
    } else {
        Verdict::of(bytes <= BYTES_MAX)
    };
    let bound = format!("≤ {BYTES_MAX}");
    report.mark("bytes per waiting retry", bytes, bound, verdict);
}

/// Second attempts by the times that the records of the first ones say.
fn timing(
    report: &mut Report,
    attempts: &[Attempted],
    arrivals: &[Arrival],
    events: &Range<usize>,
) {
    let ours = |event: usize| events.contains(&event);
    let first = |attempt: &&Attempted| attempt.attempt == 1 && ours(attempt.event);
    let due: BTreeMap<usize, u64> = attempts
        .iter()
        .filter(first)
        .filter_map(|attempt| Some((attempt.event, attempt.next_ms? * 1_000)))
        .collect();
    let late: Vec<i64> = arrivals
        .iter()
        .filter(|arrival| arrival.attempt == 2 && ours(arrival.event as usize))
        .filter_map(|arrival| {
            let due = *due.get(&(arrival.event as usize))?;
            Some(arrival.at_us as i64 - due as i64)
        })
        .collect();
    let early = late.iter().filter(|late| **late < 0).count();
    let spread = Spread::of(late);
    report.latencies(
        "Second attempts, after they were due",
        &[("all".to_owned(), spread)],
    );
    report.none("events without a due time", events.len() - due.len());
    report.none("early", early);
    report.at_most("late, p99 ms", spread.p99 as f64 / 1_000.0, LATE_MAX_MS);
}

#[cfg(test)]
mod tests {
    use super::{changes, memory_by_waiting};
    use crate::samples::Sample;
    use crate::sink::log::Arrival;

    #[test]
    fn memory_is_seen_beside_what_waited_then() {
        let arrival = |event: u64, attempt: u16, second: u64| Arrival {
            at_us: second * 1_000_000 - 1,
            event,
            receiver: 0,
            attempt,
            status: 200,
            ..Arrival::default()
        };
        let sample = |second: u64, process: usize| Sample {
            at_us: second * 1_000_000 + 100,
            process,
            rss: second,
            ..Sample::default()
        };
        let arrivals = [
            arrival(0, 1, 1),
            arrival(1, 1, 1),
            arrival(2, 1, 2),
            arrival(1, 2, 3),
            arrival(9, 1, 3),
        ];
        let samples = [sample(1, 0), sample(1, 1), sample(2, 0), sample(3, 0)];
        let points = memory_by_waiting(&samples, &changes(&arrivals, &(0..3)));
        assert_eq!(points, [(2.0, 2.0), (3.0, 2.0), (2.0, 3.0)]);
    }
}
