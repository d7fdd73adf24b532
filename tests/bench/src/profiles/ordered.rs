//! `ordered`: endpoints that take the events of each key in order, beside as many that do not.
//!
//! The same load goes to both halves at the same time, so that what else the machine does falls on
//! both. One of ten, in both halves, refuses the first attempt at each delivery. If there is to be a
//! busiest key, the same comes again with it: what the other keys feel of it. Then, by turns, each
//! half alone gets as many as it takes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use serde_json::json;

use crate::audit::Joined;
use crate::load::{Event, Keys};
use crate::now_us;
use crate::plan::Stream;
use crate::report::Report;
use crate::rig::{Place, Rig, Setting, endpoint, endpoint_id};
use crate::sink::Door;
use crate::sink::log::Arrival;
use crate::sink::order::Behaviour;
use crate::stats::Spread;

use super::Flood;

/// Of so many endpoints one refuses.
const OF: u32 = 10;
/// A refusal that leaves the breaker closed.
const REFUSED: u16 = 422;
/// Those behind a refused one wait as long.
const SCHEDULE: [&str; 10] = [
    "1s", "2s", "5s", "10s", "30s", "30s", "30s", "30s", "30s", "30s",
];
const GREET_RATE: f64 = 500.0;
/// First attempts of the other keys, p99 beside a busiest one by that without.
const RATIO_MAX: f64 = 1.5;
const PATIENCE: Duration = Duration::from_secs(180);

/// How much of it.
#[derive(Clone, Debug, Args, Serialize)]
pub struct Ordered {
    /// Endpoints; the first half takes its events in order
    #[arg(long, default_value_t = 400)]
    pub endpoints: u32,
    /// Ordering keys of each
    #[arg(long, default_value_t = 100)]
    pub keys: u32,
    /// Of a hundred events of an endpoint so many have the same key, in a second course
    #[arg(long, default_value_t = 0)]
    pub busiest: u32,
    /// Events a second, half of them for each half
    #[arg(long, default_value_t = 400.0)]
    pub rate: f64,
    /// Seconds of that
    #[arg(long, default_value_t = 60.0)]
    pub seconds: f64,
    /// Seconds of as many as each half takes
    #[arg(long, default_value_t = 15.0)]
    pub most_seconds: f64,
    /// Events that may be written and not delivered then
    #[arg(long, default_value_t = 4_000)]
    pub open: usize,
    #[command(flatten)]
    #[serde(flatten)]
    pub setting: Setting,
}

impl Ordered {
    fn in_order(&self) -> Range<u32> {
        0..self.endpoints / 2
    }

    fn skewed(&self) -> Keys {
        Keys {
            count: self.keys,
            busiest: self.busiest,
        }
    }

    fn in_none(&self) -> Range<u32> {
        self.endpoints / 2..self.endpoints
    }
}

/// Runs it.
///
/// # Errors
/// Something does not start, or what has to be read cannot be.
pub fn run(plan: &Ordered, place: &Place<'_>) -> anyhow::Result<Report> {
    let mut rig = Rig::start(place, plan.setting, |sink| {
        let all = 0..plan.endpoints;
        all.map(|number| {
            let mut endpoint = endpoint(&endpoint_id(number), number, sink, Door::Main);
            if plan.in_order().contains(&number) {
                endpoint["ordering"] = json!("key");
            }
            endpoint["retry"] = json!({ "schedule": SCHEDULE, "window": "1h", "jitter": 0.0 });
            endpoint
        })
        .collect()
    })?;
    rig.load.with_keys(Keys::even(plan.keys));
    rig.greet(0..plan.endpoints, GREET_RATE)?;
    let refuse = Behaviour::RefuseUpTo {
        attempt: 1,
        status: REFUSED,
    };
    rig.sink.behave(0, plan.endpoints, OF, refuse)?;
    let mut courses = vec![course(plan, &mut rig, Keys::even(plan.keys))?];
    if plan.busiest > 0 {
        courses.push(course(plan, &mut rig, plan.skewed())?);
        rig.load.with_keys(Keys::even(plan.keys));
    }
    rig.sink.behave(0, plan.endpoints, 1, Behaviour::WELL)?;
    let most = Duration::from_secs_f64(plan.most_seconds);
    let mut floods = Vec::new();
    for endpoints in [plan.in_none(), plan.in_order()] {
        let flood = super::flood(&mut rig, endpoints, plan.open, most)?;
        eprintln!("{:.0} a second", flood.pace.rate());
        floods.push(flood);
    }
    rig.stop_workers()?;
    judge(plan, rig, &courses, &floods)
}

/// Events to both halves at the same pace.
struct Course {
    events: Range<usize>,
    time: Range<u64>,
    keys: Keys,
}

fn course(plan: &Ordered, rig: &mut Rig, keys: Keys) -> anyhow::Result<Course> {
    rig.load.with_keys(keys);
    let time = Duration::from_secs_f64(plan.seconds);
    let half = |endpoints| Stream::lasting(endpoints, plan.rate / 2.0, time);
    let began = now_us();
    let events = rig.run(&[half(plan.in_order()), half(plan.in_none())])?;
    let missing = rig.wait_for_delivery(events.clone(), PATIENCE)?;
    eprintln!("{} events, {missing} not delivered", events.len());
    Ok(Course {
        events,
        time: began..now_us(),
        keys,
    })
}

fn judge(
    plan: &Ordered,
    mut rig: Rig,
    courses: &[Course],
    floods: &[Flood],
) -> anyhow::Result<Report> {
    let (arrivals, attempts) = rig.results()?;
    let joined = Joined::new(rig.load.events(), &arrivals);
    let mut report = Report::new("ordered", plan);
    let p99 = |course| latencies(plan, &mut report, &joined, course);
    let p99: Vec<i64> = courses.iter().map(p99).collect();
    if let [even, skewed] = p99[..] {
        let ratio = skewed as f64 / even.max(1) as f64;
        let what = "first attempts of the other keys, p99, beside a busiest one ÷ without";
        report.at_most(what, ratio, RATIO_MAX);
    }
    let rows = floods.iter().zip(["in no order", "in order"]);
    let rows = rows.map(|(flood, of)| {
        let of_dispatchers = flood
            .usage
            .iter()
            .filter(|u| u.process.starts_with("dispatcher"));
        let cpu: f64 = of_dispatchers.map(|u| u.cpu_seconds).sum();
        vec![
            of.to_owned(),
            format!("{:.0}", flood.pace.rate()),
            format!("{:.0}", cpu * 1e6 / flood.pace.requests.max(1) as f64),
        ]
    });
    let columns = ["of", "a second", "dispatchers' CPU us each"];
    report.table("As many as they take", &columns, rows.collect());
    for course in courses {
        report.usage("Processes", &rig.sampler.usage(&course.time));
    }
    for (flood, of) in floods.iter().zip(["in no order", "in order"]) {
        let title = format!("Processes, as many as those take {of}");
        report.usage(&title, &flood.usage);
    }
    let in_order = |event: &Event| plan.in_order().contains(&event.endpoint);
    let even = Keys::even(plan.keys);
    let keys = |number: usize| {
        let course = courses
            .iter()
            .find(|course| course.events.contains(&number));
        course.map_or(even, |course| course.keys).of(number)
    };
    let early = too_early(rig.load.events(), &arrivals, keys, in_order);
    report.none("out of order", early);
    super::common_marks(&mut report, &rig, &joined, &arrivals, &attempts)?;
    Ok(report)
}

/// A table of a course; p99 of those in order that are well, of all keys but the busiest,
/// microseconds.
fn latencies(plan: &Ordered, report: &mut Report, joined: &Joined<'_>, course: &Course) -> i64 {
    let of = |endpoints: Range<u32>, refuses: bool, busiest: bool| {
        let mut numbers = joined.of(std::slice::from_ref(&course.events), |number| {
            endpoints.contains(&number) && number.is_multiple_of(OF) == refuses
        });
        let is_skewed = course.keys.busiest > 0;
        numbers.retain(|number| busiest == (is_skewed && course.keys.of(*number) == Some(0)));
        Spread::of(joined.latencies(&numbers))
    };
    let well = of(plan.in_order(), false, false);
    let mut all = vec![
        ("in order, well", well),
        ("in no order, well", of(plan.in_none(), false, false)),
        (
            "in order, refused at first",
            of(plan.in_order(), true, false),
        ),
        (
            "in no order, refused at first",
            of(plan.in_none(), true, false),
        ),
    ];
    let mut title = "First attempts".to_owned();
    if course.keys.busiest > 0 {
        title += &format!(
            ", {} % of one key, not among the others",
            course.keys.busiest
        );
        all.push(("in order, well, that key", of(plan.in_order(), false, true)));
        all.push((
            "in order, refused at first, that key",
            of(plan.in_order(), true, true),
        ));
    }
    let all: Vec<_> = all
        .into_iter()
        .map(|(name, spread)| (name.to_owned(), spread))
        .collect();
    report.latencies(&title, &all);
    well.p99
}

/// Requests that came before the event ahead of theirs, of the same endpoint and key, was answered
/// well.
fn too_early(
    events: &[Event],
    arrivals: &[Arrival],
    key: impl Fn(usize) -> Option<u32>,
    in_order: impl Fn(&Event) -> bool,
) -> usize {
    let mut last: BTreeMap<(u32, Option<u32>), usize> = BTreeMap::new();
    let ahead: Vec<Option<usize>> = events
        .iter()
        .enumerate()
        .map(|(number, event)| last.insert((event.endpoint, key(number)), number))
        .collect();
    let mut done = vec![false; events.len()];
    let mut early = 0;
    for arrival in arrivals {
        let number = usize::try_from(arrival.event).unwrap_or(usize::MAX);
        let Some(event) = events.get(number).filter(|event| in_order(event)) else {
            continue;
        };
        debug_assert_eq!(event.endpoint, arrival.receiver);
        early += usize::from(ahead[number].is_some_and(|ahead| !done[ahead]));
        done[number] |= arrival.is_success();
    }
    early
}

#[cfg(test)]
mod tests {
    use super::too_early;
    use crate::load::{Event, Keys};
    use crate::sink::log::Arrival;

    #[test]
    fn a_request_waits_for_the_one_ahead_to_be_answered_well() {
        let event = |endpoint| Event {
            intended_us: 0,
            sent_us: 0,
            endpoint,
        };
        let arrival = |event: u64, receiver: u32, status: u16| Arrival {
            connection: crate::sink::log::Connection::Kept,
            signed: true,

            at_us: 0,
            event,
            receiver,
            attempt: 1,
            status,
        };
        let events = [event(0), event(0), event(1), event(0), event(9), event(9)];
        let early = |arrivals: &[Arrival]| {
            // one key each
            let key = |number| Keys::even(1).of(number);
            too_early(&events, arrivals, key, |event| event.endpoint < 9)
        };
        let good = [
            arrival(0, 0, 422),
            arrival(2, 1, 200),
            arrival(5, 9, 200),
            arrival(0, 0, 200),
            arrival(1, 0, 200),
            arrival(3, 0, 200),
        ];
        assert_eq!(early(&good), 0);
        assert_eq!(early(&[arrival(0, 0, 422), arrival(1, 0, 200)]), 1);
        assert_eq!(early(&[arrival(3, 0, 200)]), 1);
    }

    #[test]
    fn the_busiest_key_has_its_share_and_the_others_the_rest() {
        let count = |keys: Keys, key: u32| {
            let all = (0..10_000).filter_map(|number| keys.of(number));
            all.filter(|of| *of == key).count()
        };
        let even = Keys::even(4);
        assert!((0..4).all(|key| (2_300..2_700).contains(&count(even, key))));
        let skewed = Keys {
            busiest: 80,
            ..even
        };
        // and its part of the rest
        assert!((8_300..8_700).contains(&count(skewed, 0)));
        assert!((1..4).all(|key| (400..600).contains(&count(skewed, key))));
        assert_eq!(Keys::default().of(0), None);
    }
}
