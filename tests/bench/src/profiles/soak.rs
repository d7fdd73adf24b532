//! `soak`: hours of a steady load, with a fault at even intervals.
//!
//! Faults come by turns in an order from the seed: a dispatcher is killed, stopped, frozen for less
//! and for more than its session, the broker is frozen. There are two dispatchers at least, and the
//! last is never replaced, so that there is one whose memory is seen over the whole time.
//!
//! A repeat has an excuse when an earlier request of its delivery came shortly before a dispatcher
//! was killed or frozen: in flight then, or ended and not committed; or when an attempt at it ended
//! without an answer, which is made again by the schedule. Those that have none are listed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use crate::audit::{self, Joined};
use crate::fleet::{Fleet, signal, worker_name};
use crate::now_us;
use crate::plan::Stream;
use crate::report::{Report, Verdict};
use crate::rig::{Place, Rig, Setting, endpoint, endpoint_id};
use crate::samples::Sample;
use crate::sink::Door;
use crate::sink::log::Arrival;
use crate::stats::Spread;

/// How fast a process may grow.
const GROWTH_MAX_MIB: f64 = 1.0;
/// What remembers a bounded number of things has filled up by this time of a process's life.
const WARM_UP_US: u64 = 20 * 60 * 1_000_000;
/// A line through less than this says nothing about an hour.
const JUDGED_FROM_HOURS: f64 = 1.0;
/// Shorter than any session.
const SHORT_FREEZE: Duration = Duration::from_secs(5);
const BROKER_FREEZE: Duration = Duration::from_secs(10);
/// Longer than the session by this.
const BEYOND_SESSION: Duration = Duration::from_secs(5);
/// A commit is sent at the latest 1 s after something settled, and takes a while to be accepted.
const UNCOMMITTED_US: u64 = 2_000_000;
/// What was written to a socket is read within this, though its process stands still: receivers on
/// a busy machine were seen to be a second late.
const UNDER_WAY_US: u64 = 2_000_000;
/// Of repeats without an excuse so many are listed.
const SHOWN: usize = 20;
/// Everything arrives within this after the last event, a take-over included.
const PATIENCE: Duration = Duration::from_secs(180);

/// How much of it.
#[derive(Clone, Debug, Args, Serialize)]
pub struct Soak {
    /// How long
    #[arg(long, default_value_t = 480.0)]
    pub minutes: f64,
    /// Events a second; 200 a second with 1 KB take 3 GB of disk an hour
    #[arg(long, default_value_t = 200.0)]
    pub rate: f64,
    /// Endpoints, which get events in turn
    #[arg(long, default_value_t = 200)]
    pub endpoints: u32,
    /// Seconds from one fault to the next
    #[arg(long, default_value_t = 600.0)]
    pub every: f64,
    /// There are never fewer than two dispatchers.
    #[command(flatten)]
    #[serde(flatten)]
    pub setting: Setting,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// SIGKILL, and another in its place.
    Kill,
    /// SIGTERM, and another in its place.
    Stop,
    /// SIGSTOP, and SIGCONT within the session.
    Freeze,
    /// The same, and SIGCONT when the session is over.
    FreezeBeyondSession,
    /// SIGSTOP and SIGCONT for the broker.
    FreezeBroker,
}

const FAULTS: [Fault; 5] = [
    Fault::Kill,
    Fault::Stop,
    Fault::Freeze,
    Fault::FreezeBeyondSession,
    Fault::FreezeBroker,
];

/// A fault that was.
struct Happened {
    fault: Fault,
    /// The worker, if it was one.
    whom: Option<usize>,
    /// From beginning to end, microseconds since the epoch.
    time: Range<u64>,
}

impl Happened {
    /// When requests came that may come again because of it. While the broker is away nothing is
    /// committed, and who is lost before it answers again loses all of that time.
    fn excuses(&self) -> Option<Range<u64>> {
        let from = self.time.start - UNCOMMITTED_US;
        match self.fault {
            Fault::Kill | Fault::Freeze | Fault::FreezeBeyondSession => {
                Some(from..self.time.start + UNDER_WAY_US)
            }
            Fault::FreezeBroker => Some(from..self.time.end + UNCOMMITTED_US),
            Fault::Stop => None,
        }
    }
}

/// Runs it.
///
/// # Errors
/// Something does not start, or what has to be read cannot be.
pub fn run(plan: &Soak, place: &Place<'_>) -> anyhow::Result<Report> {
    let plan = &Soak {
        setting: Setting {
            dispatchers: plan.setting.dispatchers.max(2),
            ..plan.setting
        },
        ..plan.clone()
    };
    let broker = place.broker.pid().context("the broker is not ours")?;
    let mut rig = Rig::start(place, plan.setting, |sink| {
        let each = |number| endpoint(&endpoint_id(number), number, sink, Door::Main);
        (0..plan.endpoints).map(each).collect()
    })?;
    rig.greet(0..plan.endpoints, plan.rate)?;
    let mut random = fastrand::Rng::with_seed(plan.setting.seed);
    let mut faults: Vec<Fault> = Vec::new();
    let (began, mut happened) = (now_us(), Vec::new());
    let pieces = (plan.minutes * 60.0 / plan.every).ceil() as usize;
    let first = rig.load.events().len();
    for _ in 0..pieces {
        if faults.is_empty() {
            faults = FAULTS.into();
            random.shuffle(&mut faults);
        }
        let fault = faults.pop().context("filled above")?;
        let time = Duration::from_secs_f64(plan.every);
        let stream = Stream::lasting(0..plan.endpoints, plan.rate, time);
        rig.run_while(&[stream], |fleet| {
            thread::sleep(time / 2);
            let fault = act(fault, plan, fleet, broker, &mut random)?;
            eprintln!("{:?} of {:?}", fault.fault, fault.whom.map(worker_name));
            happened.push(fault);
            Ok(())
        })?;
    }
    let written = first..rig.load.events().len();
    let missing = rig.wait_for_delivery(written, PATIENCE)?;
    eprintln!("{missing} not delivered");
    let course = began..now_us();
    rig.stop_workers()?;
    judge(plan, rig, &happened, &course)
}

fn act(
    fault: Fault,
    plan: &Soak,
    fleet: &mut Fleet<'_>,
    broker: u32,
    random: &mut fastrand::Rng,
) -> anyhow::Result<Happened> {
    let all = fleet.dispatchers();
    let any = random.usize(1..=all);
    // the last one stays
    let replaced = random.usize(1..all);
    let from = now_us();
    let freeze = |fleet: &Fleet<'_>, time: Duration| {
        fleet.process(any).freeze();
        thread::sleep(time);
        fleet.process(any).thaw();
        Some(any)
    };
    let whom = match fault {
        Fault::Kill => {
            fleet.kill(replaced);
            fleet.start(replaced);
            Some(replaced)
        }
        Fault::Stop => {
            fleet.stop(replaced)?;
            fleet.start(replaced);
            Some(replaced)
        }
        Fault::Freeze => freeze(fleet, SHORT_FREEZE),
        Fault::FreezeBeyondSession => {
            let session = Duration::from_millis(plan.setting.session_ms());
            freeze(fleet, session + BEYOND_SESSION)
        }
        Fault::FreezeBroker => {
            signal(broker, "STOP")?;
            thread::sleep(BROKER_FREEZE);
            signal(broker, "CONT")?;
            None
        }
    };
    Ok(Happened {
        fault,
        whom,
        time: from..now_us(),
    })
}

fn judge(
    plan: &Soak,
    mut rig: Rig,
    happened: &[Happened],
    course: &Range<u64>,
) -> anyhow::Result<Report> {
    let (arrivals, attempts) = rig.results()?;
    let joined = Joined::new(rig.load.events(), &arrivals);
    let mut report = Report::new("soak", plan);
    faults(&mut report, happened, course.start);
    latencies(plan, &mut report, &joined, happened);
    report.usage("Processes", &rig.sampler.usage(course));
    for number in 0..=plan.setting.dispatchers {
        let name = worker_name(number);
        memory(&mut report, &name, &rig.sampler.of(&name));
    }
    let excuses: Vec<Range<u64>> = happened.iter().filter_map(Happened::excuses).collect();
    let excused = |arrival: &Arrival| excuses.iter().any(|time| time.contains(&arrival.at_us));
    let unanswered: BTreeSet<u64> = attempts
        .iter()
        .filter(|attempt| attempt.status == 0)
        .map(|attempt| attempt.event as u64)
        .collect();
    let repeats = repeats(&arrivals, excused, &unanswered);
    let in_danger = arrivals.iter().filter(|arrival| excused(arrival)).count();
    report.numbers(
        "Repeats",
        &[
            ("requests that may be repeated", in_danger.to_string()),
            ("repeats of them", repeats.lost_worker.to_string()),
            (
                "repeats after an attempt without an answer",
                repeats.unanswered.to_string(),
            ),
            ("repeats of none of these", repeats.rest.len().to_string()),
        ],
    );
    let rows = repeats
        .rest
        .iter()
        .take(SHOWN)
        .map(|(event, first, again)| {
            let seconds = |at: &u64| format!("{:.3}", at.saturating_sub(course.start) as f64 / 1e6);
            vec![event.to_string(), seconds(first), seconds(again)]
        });
    let columns = ["event", "first at s", "again at s"];
    report.table("Repeats without an excuse", &columns, rows.collect());
    report.none("repeats without an excuse", repeats.rest.len());
    let rest: Vec<Arrival> = arrivals.iter().filter(|a| !excused(a)).copied().collect();
    report.none(
        "requests without an attempt record or an excuse",
        audit::unrecorded(&rest, &attempts),
    );
    super::marks_of_all(&mut report, &rig, &joined, &arrivals, &attempts)?;
    Ok(report)
}

fn faults(report: &mut Report, happened: &[Happened], began: u64) {
    let rows = happened.iter().map(|fault| {
        let seconds = |us: u64| format!("{:.1}", us as f64 / 1e6);
        vec![
            seconds(fault.time.start - began),
            format!("{:?}", fault.fault),
            fault.whom.map_or_else(|| "broker".to_owned(), worker_name),
            seconds(fault.time.end - fault.time.start),
        ]
    });
    report.table(
        "Faults",
        &["at s", "what", "whom", "took s"],
        rows.collect(),
    );
}

fn latencies(plan: &Soak, report: &mut Report, joined: &Joined<'_>, happened: &[Happened]) {
    let felt = Duration::from_millis(plan.setting.session_ms()) + BEYOND_SESSION;
    let felt = u64::try_from(felt.as_micros()).unwrap_or(u64::MAX);
    let around = |number: &usize| {
        let at = joined.events[*number].intended_us;
        let mut times = happened.iter().map(|fault| &fault.time);
        times.any(|time| (time.start..time.end + felt).contains(&at))
    };
    let (around, quiet): (Vec<usize>, Vec<usize>) =
        (0..joined.events.len()).partition(|number| around(number));
    let spread = |numbers: &[usize]| Spread::of(joined.latencies(numbers));
    report.latencies(
        "First attempts",
        &[
            ("while a fault is felt".to_owned(), spread(&around)),
            ("else".to_owned(), spread(&quiet)),
        ],
    );
}

/// Requests of deliveries beyond the first, by what excuses them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Repeats {
    /// An earlier one came right before a worker was lost.
    lost_worker: usize,
    /// An attempt at it ended without an answer.
    unanswered: usize,
    /// Nothing: event, when its first request came, and when this one, microseconds.
    rest: Vec<(u64, u64, u64)>,
}

fn repeats(
    arrivals: &[Arrival],
    excused: impl Fn(&Arrival) -> bool,
    unanswered: &BTreeSet<u64>,
) -> Repeats {
    // when the first came, and whether any so far is excused
    let mut seen: BTreeMap<u64, (u64, bool)> = BTreeMap::new();
    let mut repeats = Repeats::default();
    for arrival in arrivals {
        let is = excused(arrival);
        let Some((first, earlier)) = seen.get_mut(&arrival.event) else {
            seen.insert(arrival.event, (arrival.at_us, is));
            continue;
        };
        if *earlier {
            repeats.lost_worker += 1;
        } else if unanswered.contains(&arrival.event) {
            repeats.unanswered += 1;
        } else {
            repeats.rest.push((arrival.event, *first, arrival.at_us));
        }
        *earlier |= is;
    }
    repeats
}

fn memory(report: &mut Report, name: &str, samples: &[Sample]) {
    let (mib_per_hour, hours) = growth(samples);
    let verdict = if hours < JUDGED_FROM_HOURS {
        Verdict::NotJudged
    } else {
        Verdict::of(mib_per_hour <= GROWTH_MAX_MIB)
    };
    report.mark(
        &format!("{name}'s growth, MiB/h over {hours:.1} h"),
        mib_per_hour,
        format!("≤ {GROWTH_MAX_MIB}"),
        verdict,
    );
}

/// How fast the processes of one place grow when they are warm, MiB an hour, and how many hours of
/// theirs that was seen. One line is fitted to all of them, each with a beginning of its own: that
/// one begins larger than another ended is no growth.
fn growth(samples: &[Sample]) -> (f64, f64) {
    let mut lives: BTreeMap<usize, Vec<(f64, f64)>> = BTreeMap::new();
    let mut born: BTreeMap<usize, u64> = BTreeMap::new();
    for sample in samples {
        let born = *born.entry(sample.process).or_insert(sample.at_us);
        let age = sample.at_us - born;
        if age >= WARM_UP_US {
            let point = (age as f64 / 3.6e9, sample.rss as f64 / f64::from(1 << 20));
            lives.entry(sample.process).or_default().push(point);
        }
    }
    let (mut together, mut alone, mut hours) = (0.0, 0.0, 0.0);
    for points in lives.values() {
        let count = points.len() as f64;
        let x_mean = points.iter().map(|point| point.0).sum::<f64>() / count;
        let y_mean = points.iter().map(|point| point.1).sum::<f64>() / count;
        for (x, y) in points {
            together += (x - x_mean) * (y - y_mean);
            alone += (x - x_mean) * (x - x_mean);
        }
        if let (Some(first), Some(last)) = (points.first(), points.last()) {
            hours += last.0 - first.0;
        }
    }
    (if alone > 0.0 { together / alone } else { 0.0 }, hours)
}

#[cfg(test)]
mod tests {
    use super::{Repeats, WARM_UP_US, growth, repeats};
    use crate::samples::Sample;
    use crate::sink::log::Arrival;

    #[test]
    fn a_repeat_needs_an_excuse_of_an_earlier_request_of_its_own() {
        let arrival = |event: u64, at_us: u64| Arrival {
            connection: crate::sink::log::Connection::Kept,
            signed: true,

            at_us,
            event,
            receiver: 0,
            attempt: 1,
            status: 200,
        };
        let arrivals = [
            arrival(1, 10),
            arrival(4, 11),
            arrival(2, 50),
            arrival(3, 55),
            arrival(2, 90),
            arrival(1, 91),
            arrival(4, 92),
            arrival(2, 95),
        ];
        let excused = |arrival: &Arrival| (40..60).contains(&arrival.at_us);
        let found = Repeats {
            lost_worker: 2,
            unanswered: 1,
            rest: vec![(1, 10, 91)],
        };
        assert_eq!(repeats(&arrivals, excused, &[4].into()), found);
    }

    #[test]
    fn growth_is_within_lives_and_after_their_beginning() {
        let minute = 60_000_000;
        let mut samples = Vec::new();
        for (life, from) in [(0, 0), (1, 500)] {
            for age in 0..80 {
                let rss = if age * minute < WARM_UP_US {
                    age << 30
                } else {
                    // a MiB a minute, and the second begins where the first did
                    age << 20
                };
                samples.push(Sample {
                    at_us: (from + age) * minute,
                    process: life,
                    rss,
                    ..Sample::default()
                });
            }
        }
        let (mib_per_hour, hours) = growth(&samples);
        assert!((mib_per_hour - 60.0).abs() < 1e-6, "{mib_per_hour}");
        assert!((hours - 2.0 * 59.0 / 60.0).abs() < 1e-6, "{hours}");
    }
}
