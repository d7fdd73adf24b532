//! `down`: one endpoint is away while very many deliveries for it arrive.
//!
//! Before, its neighbours alone; then it refuses connections while its deliveries come at a bounded
//! rate, and for a rest after that; then it is there again and takes what waited at its rate limit.
//! Every second neighbour shares its slice.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use serde_json::json;

use crate::audit::{self, Attempted, Joined};
use crate::now_us;
use crate::plan::Stream;
use crate::report::Report;
use crate::rig::{Place, Rig, Setting, endpoint, endpoint_id, slice_of};
use crate::samples::{Sample, Usage};
use crate::sink::Door;
use crate::sink::log::Arrival;
use crate::stats::Spread;

/// The endpoint that is away.
const DOWN: u32 = 0;
/// Neighbours' p99 while it is away, by that before.
const RATIO_MAX: f64 = 1.5;
/// How much the worker's memory may grow while all of it waits.
const GROWTH_MAX_MIB: f64 = 32.0;
/// Of its limit, it gets at least this share once it is back.
const RATE_MIN: f64 = 0.9;
/// Requests to it at once, as many as may overtake one another.
const CONCURRENCY: usize = 16;
/// A record of a lane is attempted or moved within this time, and the clocks of two programs.
const HOLD_MAX_US: u64 = 46_000_000;
/// Its breaker looks again after this at the latest.
const BREAKER_MAX: Duration = Duration::from_secs(72);

/// The few that are attempted while it is away come again soon after it is back.
const SCHEDULE: [&str; 20] = [
    "5s", "10s", "20s", "30s", "30s", "30s", "30s", "30s", "30s", "30s", "30s", "30s", "30s",
    "30s", "30s", "30s", "30s", "30s", "30s", "30s",
];

/// How much of it.
#[derive(Clone, Debug, Args, Serialize)]
pub struct Down {
    /// Deliveries for the endpoint that is away
    #[arg(long, default_value_t = 200_000)]
    pub deliveries: usize,
    /// How many of them arrive in a second
    #[arg(long, default_value_t = 2_000.0)]
    pub arrive: f64,
    /// How many it takes in a second, its rate limit
    #[arg(long, default_value_t = 500)]
    pub limit: u32,
    /// Its neighbours
    #[arg(long, default_value_t = 100)]
    pub neighbours: u32,
    /// Their events a second
    #[arg(long, default_value_t = 100.0)]
    pub rate: f64,
    /// Seconds with the neighbours alone
    #[arg(long, default_value_t = 60.0)]
    pub before: f64,
    /// Seconds after the last delivery until it is back
    #[arg(long, default_value_t = 60.0)]
    pub rest: f64,
    #[command(flatten)]
    #[serde(flatten)]
    pub setting: Setting,
}

impl Down {
    fn arriving(&self) -> Duration {
        Duration::from_secs_f64(self.deliveries as f64 / self.arrive)
    }

    fn drained_within(&self) -> Duration {
        Duration::from_secs_f64(self.deliveries as f64 / f64::from(self.limit))
    }

    fn ids(&self) -> Vec<String> {
        let slices = self.setting.slices;
        let down = endpoint_id(DOWN);
        let shares = |id: &String| slice_of(id, slices) == slice_of(&down, slices);
        let mut free = 1..;
        let mut next = |wanted: bool| {
            // by the rule of its slice; with one slice there is no other
            free.by_ref()
                .map(endpoint_id)
                .find(|id| slices == 1 || shares(id) == wanted)
                .expect("ids do not end")
        };
        let mut ids = vec![down.clone()];
        ids.extend((1..=self.neighbours).map(|number| next(shares_slice(number))));
        ids
    }
}

/// Some of the endpoints.
type Group = fn(u32) -> bool;

/// Whether a neighbour is in the slice of the endpoint that is away.
fn shares_slice(number: u32) -> bool {
    number.is_multiple_of(2)
}

/// What happened when: events by number, times in microseconds since the epoch.
struct Course {
    before: Range<usize>,
    away: Range<usize>,
    draining: Range<usize>,
    away_from: u64,
    back_at: u64,
    /// Memory of the workers right before it went away, and until it was back.
    start_bytes: u64,
    waiting: Vec<Sample>,
    usage: Vec<(&'static str, Vec<Usage>)>,
}

/// A record of its backlog.
#[derive(Clone, Copy)]
struct Copied {
    offset: i64,
    event: usize,
}

/// Runs it.
///
/// # Errors
/// Something does not start, or what has to be read cannot be.
pub fn run(plan: &Down, place: &Place<'_>) -> anyhow::Result<Report> {
    let mut rig = Rig::start(place, plan.setting, |sink| {
        let ids = plan.ids();
        let numbered = ids.iter().zip(0..);
        numbered
            .map(|(id, number)| match number {
                DOWN => {
                    let mut endpoint = endpoint(id, number, sink, Door::Side);
                    endpoint["rate_limit"] = json!({ "attempts": plan.limit, "per": "1s" });
                    endpoint["concurrency"] = json!(CONCURRENCY);
                    endpoint["retry"] = json!({ "schedule": SCHEDULE, "window": "1d" });
                    endpoint
                }
                _ => endpoint(id, number, sink, Door::Main),
            })
            .collect()
    })?;
    rig.greet(0..plan.neighbours + 1, plan.rate)?;
    let course = go_through(plan, &mut rig)?;
    rig.stop_workers()?;
    judge(plan, rig, &course)
}

fn go_through(plan: &Down, rig: &mut Rig) -> anyhow::Result<Course> {
    let neighbours = |time| Stream::lasting(1..plan.neighbours + 1, plan.rate, time);
    let seconds = Duration::from_secs_f64;
    let before_from = now_us();
    let before = rig.run(&[neighbours(seconds(plan.before))])?;
    rig.sink.close_side_door()?;
    let away_from = now_us();
    let for_it = Stream {
        endpoints: DOWN..DOWN + 1,
        rate: plan.arrive,
        count: plan.deliveries,
    };
    let arriving = neighbours(plan.arriving() + seconds(plan.rest));
    let away = rig.run(&[for_it, arriving])?;
    rig.sink.open_side_door()?;
    let back_at = now_us();
    eprintln!("{} deliveries wait, it is back", plan.deliveries);
    let draining = rig.run(&[neighbours(plan.drained_within())])?;
    let all = 0..draining.end;
    let missing = rig.wait_for_delivery(all, BREAKER_MAX * 2 + plan.drained_within())?;
    eprintln!("{missing} not delivered");
    let done_at = now_us();
    let usage = |between| rig.sampler.usage(&between);
    let dispatchers = rig.sampler.of("dispatcher-1");
    let start = dispatchers.iter().rev().find(|s| s.at_us <= away_from);
    let waits = |sample: &&Sample| (away_from..back_at).contains(&sample.at_us);
    Ok(Course {
        start_bytes: start.map_or(0, |sample| sample.rss),
        waiting: dispatchers.iter().filter(waits).copied().collect(),
        usage: vec![
            ("before", usage(before_from..away_from)),
            ("away", usage(away_from..back_at)),
            ("draining", usage(back_at..done_at)),
        ],
        before,
        away,
        draining,
        away_from,
        back_at,
    })
}

fn judge(plan: &Down, mut rig: Rig, course: &Course) -> anyhow::Result<Report> {
    let (arrivals, attempts) = rig.results()?;
    let client = rig.installation.client();
    let mut copies = Vec::new();
    audit::read(&client, &rig.installation.topic("backlog"), |record| {
        let event = record.value.as_deref().and_then(crate::sink::event);
        // it is alone on its slice's backlog unless a neighbour was slow
        if record.key.as_deref() == Some(endpoint_id(DOWN).as_bytes()) {
            copies.extend(event.map(|event| Copied {
                offset: record.origin.offset,
                event: event as usize,
            }));
        }
    })?;
    let joined = Joined::new(rig.load.events(), &arrivals);
    let mut report = Report::new("down", plan);
    neighbours(&mut report, &joined, course);
    let written = parts(course).map(|(name, events)| {
        let took = rig.load.acknowledged(events.clone());
        (name.to_owned(), Spread::of(took))
    });
    report.latencies("Events, until Kafka acknowledged them", &written);
    for (name, usage) in &course.usage {
        report.usage(&format!("Processes, {name}"), usage);
    }
    memory(&mut report, course);
    let tried = account(&mut report, &joined, course, &copies, &attempts);
    drain(plan, &mut report, course, &copies, &arrivals, &tried);
    super::common_marks(&mut report, &rig, &joined, &arrivals, &attempts)?;
    Ok(report)
}

fn parts(course: &Course) -> [(&'static str, &Range<usize>); 3] {
    [
        ("before", &course.before),
        ("away", &course.away),
        ("draining", &course.draining),
    ]
}

fn neighbours(report: &mut Report, joined: &Joined<'_>, course: &Course) {
    let groups: [(&str, Group); 3] = [
        ("all", |number| number != DOWN),
        ("of its slice", |number| {
            number != DOWN && shares_slice(number)
        }),
        ("of other slices", |number| !shares_slice(number)),
    ];
    let spread = |events: &Range<usize>, group: Group| {
        let numbers = joined.of(std::slice::from_ref(events), group);
        Spread::of(joined.latencies(&numbers))
    };
    let mut spreads = Vec::new();
    for (part, events) in parts(course) {
        for (name, group) in groups {
            spreads.push((format!("{part}, {name}"), spread(events, group)));
        }
    }
    report.latencies("First attempts to neighbours", &spreads);
    for (name, group) in groups {
        let before = spread(&course.before, group);
        let away = spread(&course.away, group);
        report.at_most(
            &format!("neighbours' p99 ({name}), away ÷ before"),
            away.p99 as f64 / before.p99.max(1) as f64,
            RATIO_MAX,
        );
    }
}

fn memory(report: &mut Report, course: &Course) {
    let most = course.waiting.iter().map(|sample| sample.rss).max();
    let growth = most.unwrap_or_default().saturating_sub(course.start_bytes);
    report.at_most(
        "dispatcher's growth while they wait, MiB",
        growth as f64 / f64::from(1 << 20),
        GROWTH_MAX_MIB,
    );
}

/// Where each of its deliveries was while it was away; those that were attempted then.
fn account(
    report: &mut Report,
    joined: &Joined<'_>,
    course: &Course,
    copies: &[Copied],
    attempts: &[Attempted],
) -> BTreeSet<usize> {
    let deliveries = joined.of(std::slice::from_ref(&course.away), |number| number == DOWN);
    let mut copied: BTreeMap<usize, usize> = BTreeMap::new();
    for copy in copies {
        *copied.entry(copy.event).or_default() += 1;
    }
    let mut failed: BTreeMap<usize, usize> = BTreeMap::new();
    for attempt in attempts {
        let while_away = attempt.started_ms < course.back_at.div_ceil(1_000);
        if while_away && attempt.status == 0 && course.away.contains(&attempt.event) {
            *failed.entry(attempt.event).or_default() += 1;
        }
    }
    let count = |of: &BTreeMap<usize, usize>, event: &usize| of.get(event).copied().unwrap_or(0);
    let (mut once, mut held, mut wrong) = (0, 0, 0);
    let (mut tried_copies, mut failures, mut too_often) = (0, 0, 0);
    for event in &deliveries {
        let copies = count(&copied, event);
        match count(&failed, event) {
            0 if copies == 1 => once += 1,
            // one that came so late may still have been in memory
            0 if copies == 0
                && joined.events[*event].intended_us + HOLD_MAX_US >= course.back_at =>
            {
                held += 1;
            }
            0 => wrong += 1,
            attempts => {
                failures += attempts;
                tried_copies += copies;
                // each attempt may lead it over the backlog once more
                too_often += usize::from(copies > attempts + 1);
            }
        }
    }
    report.numbers(
        "Its deliveries while it was away",
        &[
            ("deliveries", deliveries.len().to_string()),
            ("never attempted, one record in backlog", once.to_string()),
            ("never attempted, still in memory", held.to_string()),
            (
                "attempted before the breaker opened, or as a probe",
                failed.len().to_string(),
            ),
            ("their attempts", failures.to_string()),
            ("their records in backlog", tried_copies.to_string()),
            ("records in backlog for it in all", copies.len().to_string()),
        ],
    );
    report.none("never attempted, not exactly one record in backlog", wrong);
    report.none("more records in backlog than attempts and one", too_often);
    failed.into_keys().collect()
}

fn drain(
    plan: &Down,
    report: &mut Report,
    course: &Course,
    copies: &[Copied],
    arrivals: &[Arrival],
    tried: &BTreeSet<usize>,
) {
    let after: Vec<&Arrival> = arrivals
        .iter()
        .filter(|arrival| arrival.receiver == DOWN && arrival.at_us >= course.away_from)
        .collect();
    let times: Vec<u64> = after.iter().map(|arrival| arrival.at_us).collect();
    // those that were tried come by their own schedule
    let untried = |arrival: &&&Arrival| !tried.contains(&(arrival.event as usize));
    let (first, last) = (times.first(), after.iter().rfind(untried).map(|a| a.at_us));
    let took = match (first, last) {
        (Some(first), Some(last)) if last > *first => (last - first) as f64 / 1e6,
        _ => f64::INFINITY,
    };
    let meanwhile = times
        .iter()
        .filter(|time| last.is_some_and(|last| **time <= last));
    let rate = meanwhile.count() as f64 / took;
    let found = first.map_or(0.0, |first| {
        first.saturating_sub(course.back_at) as f64 / 1e6
    });
    let mut order = copies.to_vec();
    order.sort_by_key(|copy| copy.offset);
    let order: Vec<usize> = order
        .iter()
        .map(|copy| copy.event)
        .filter(|event| !tried.contains(event))
        .collect();
    let arrived: Vec<usize> = after
        .iter()
        .map(|arrival| usize::try_from(arrival.event).unwrap_or(usize::MAX))
        .collect();
    report.numbers(
        "After it was back",
        &[
            ("s until the first request", format!("{found:.1}")),
            ("s from the first to the last", format!("{took:.1}")),
            ("requests", times.len().to_string()),
            ("requests a second", format!("{rate:.1}")),
            (
                "most arrivals in any second",
                most_within(&times).to_string(),
            ),
        ],
    );
    report.at_least(
        "rate after it is back ÷ limit",
        rate / f64::from(plan.limit),
        RATE_MIN,
    );
    let overtook = audit::overtaking(&order, &arrived, CONCURRENCY - 1);
    report.none("overtook more than can be in flight with it", overtook);
}

/// Most of the sorted times within a second.
fn most_within(times: &[u64]) -> usize {
    let mut from = 0;
    let mut most = 0;
    for (to, time) in times.iter().enumerate() {
        while times[from] + 1_000_000 <= *time {
            from += 1;
        }
        most = most.max(to + 1 - from);
    }
    most
}

#[cfg(test)]
mod tests {
    use super::most_within;

    #[test]
    fn a_second_is_half_open() {
        let second = 1_000_000;
        assert_eq!(most_within(&[0, 1, second - 1, second, second + 1]), 3);
        assert_eq!(most_within(&[0, second, 2 * second]), 1);
        assert_eq!(most_within(&[]), 0);
    }
}
