//! `fanout`: one event that is for ten thousand endpoints of a tenant.
//!
//! First how many deliveries a second there are at most, with endpoints that nobody shares a
//! tenant with; then one event after the other, each when all of the one before was delivered. A
//! delivery here is an event and a receiver, so it is counted by both.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use serde_json::json;

use crate::audit;
use crate::baseline::Pace;
use crate::load::tenant;
use crate::now_us;
use crate::plan::Planned;
use crate::report::{Report, millis};
use crate::rig::{Place, Rig, Setting, endpoint, endpoint_id};
use crate::samples::Usage;
use crate::sink::Door;
use crate::sink::log::Arrival;

/// The last one starts within this many times as long as the most deliveries a second would take.
const TIMES_MAX: f64 = 1.5;
/// Endpoints that the most is measured with.
const SINGLE: u32 = 1_000;
const GREET_RATE: f64 = 500.0;
/// All deliveries of an event are over within this time.
const SETTLE: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How much of it.
#[derive(Clone, Debug, Args, Serialize)]
pub struct Fanout {
    /// Endpoints of the tenant
    #[arg(long, default_value_t = 10_000)]
    pub endpoints: u32,
    /// Events for all of them
    #[arg(long, default_value_t = 5)]
    pub events: usize,
    /// Seconds in which the most deliveries a second are measured, before and after
    #[arg(long, default_value_t = 15.0)]
    pub seconds: f64,
    /// Events that may be written and not delivered meanwhile
    #[arg(long, default_value_t = 4_000)]
    pub open: usize,
    #[command(flatten)]
    #[serde(flatten)]
    pub setting: Setting,
}

/// What became of an event.
#[derive(Default)]
struct Fan {
    /// When each receiver's first attempt arrived, microseconds since the epoch.
    first: BTreeMap<u32, u64>,
    /// How many requests of each were answered well.
    successes: BTreeMap<u32, usize>,
}

/// Runs it.
///
/// # Errors
/// Something does not start, or what has to be read cannot be.
pub fn run(plan: &Fanout, place: &Place<'_>) -> anyhow::Result<Report> {
    let single = plan.endpoints..plan.endpoints + SINGLE;
    let mut rig = Rig::start(place, plan.setting, |sink| {
        let each = |number| {
            let mut endpoint = endpoint(&endpoint_id(number), number, sink, Door::Main);
            if number < plan.endpoints {
                endpoint["tenant"] = json!(tenant(0));
            }
            endpoint
        };
        (0..single.end).map(each).collect()
    })?;
    rig.greet(single.clone(), GREET_RATE)?;
    // caches and pools fill once; the endpoints of the fan are known to be well then
    rig.flood(single.clone(), plan.open, Duration::from_secs(2))?;
    let mut fans = vec![fan(plan, &mut rig)?];
    let time = Duration::from_secs_f64(plan.seconds);
    let before = super::flood(&mut rig, single.clone(), plan.open, time)?.pace;
    let began = now_us();
    for _ in 0..plan.events {
        fans.push(fan(plan, &mut rig)?);
    }
    let usage = rig.sampler.usage(&(began..now_us()));
    let after = super::flood(&mut rig, single, plan.open, time)?.pace;
    rig.stop_workers()?;
    judge(plan, rig, &fans, &[before, after], &usage)
}

/// Writes an event for all, and waits for its deliveries; its number.
fn fan(plan: &Fanout, rig: &mut Rig) -> anyhow::Result<usize> {
    let planned = Planned {
        at_us: 0,
        endpoint: 0,
    };
    let mut seen = rig.arrivals()?.len();
    let event = rig.load.run(&[planned])?.start;
    let deadline = Instant::now() + SETTLE;
    let mut fan = Fan::default();
    while fan.successes.len() < plan.endpoints as usize && Instant::now() < deadline {
        thread::sleep(LOOK_EVERY);
        let arrivals = rig.arrivals()?;
        fan.take(event, &arrivals[seen..]);
        seen = arrivals.len();
    }
    eprintln!("event {event}: {} delivered", fan.successes.len());
    Ok(event)
}

impl Fan {
    fn take(&mut self, event: usize, arrivals: &[Arrival]) {
        let its = |arrival: &&Arrival| arrival.event == event as u64;
        for arrival in arrivals.iter().filter(its) {
            self.first.entry(arrival.receiver).or_insert(arrival.at_us);
            if arrival.is_success() {
                *self.successes.entry(arrival.receiver).or_default() += 1;
            }
        }
    }
}

fn judge(
    plan: &Fanout,
    mut rig: Rig,
    fans: &[usize],
    most: &[Pace],
    usage: &[Usage],
) -> anyhow::Result<Report> {
    let (arrivals, attempts) = rig.results()?;
    let client = rig.installation.client();
    let mut report = Report::new("fanout", plan);
    let rows = [("before", &most[0]), ("after", &most[1])];
    let rows = rows.map(|(name, pace)| super::pace_row(name, pace));
    let columns = ["of", "requests", "a second", "CPU us each"];
    report.table(
        "The most, one event for one endpoint",
        &columns,
        rows.into(),
    );
    report.usage("Processes, with the events for all", usage);
    let rate = most.iter().map(Pace::rate).sum::<f64>() / most.len() as f64;
    let allowed = f64::from(plan.endpoints) / rate * TIMES_MAX;
    let (mut rows, mut counts) = (Vec::new(), Counts::default());
    let mut last: f64 = 0.0;
    for (round, event) in fans.iter().enumerate() {
        let mut fan = Fan::default();
        fan.take(*event, &arrivals);
        counts.add(plan, &fan);
        let intended = rig.load.events()[*event].intended_us;
        let mut after: Vec<i64> = fan
            .first
            .values()
            .map(|at| *at as i64 - intended as i64)
            .collect();
        after.sort_unstable();
        let at = |permille| millis(crate::stats::percentile(&after, permille));
        let name = if round == 0 {
            "warm-up".to_owned()
        } else {
            round.to_string()
        };
        rows.push(vec![name, at(1), at(500), at(1_000)]);
        if round > 0 {
            let took = after.last().copied().unwrap_or_default() as f64 / 1e6;
            last = last.max(took);
        }
    }
    let columns = ["event", "first ms", "half of them ms", "last ms"];
    report.table(
        "First attempts, after the event was to be written",
        &columns,
        rows,
    );
    report.at_most("the last one's start, seconds", last, allowed);
    report.none("lost", counts.lost + single_lost(&rig, fans, &arrivals));
    report.none("repeated after a success", counts.repeats);
    report.none("strays", counts.strays);
    let mut dead = 0;
    audit::read(&client, &rig.installation.topic("dead-letters"), |_| {
        dead += 1
    })?;
    report.none("dead letters", dead);
    let unsigned = arrivals.iter().filter(|arrival| !arrival.signed).count();
    report.none("requests with a wrong signature", unsigned);
    let unrecorded = audit::unrecorded(&arrivals, &attempts);
    report.none("requests without an attempt record", unrecorded);
    let joined = audit::Joined::new(rig.load.events(), &arrivals);
    super::leave(&mut report, &rig, &joined, &arrivals)?;
    Ok(report)
}

/// Deliveries of events for all.
#[derive(Default)]
struct Counts {
    lost: usize,
    repeats: usize,
    strays: usize,
}

impl Counts {
    fn add(&mut self, plan: &Fanout, fan: &Fan) {
        let ours = 0..plan.endpoints;
        let delivered = |receiver: &u32| fan.successes.contains_key(receiver);
        self.lost += ours.clone().filter(|receiver| !delivered(receiver)).count();
        self.repeats += fan.successes.values().map(|count| count - 1).sum::<usize>();
        self.strays += fan.first.keys().filter(|r| !ours.contains(r)).count();
    }
}

/// Events for one endpoint that were not answered well.
fn single_lost(rig: &Rig, fans: &[usize], arrivals: &[Arrival]) -> usize {
    let joined = audit::Joined::new(rig.load.events(), arrivals);
    let all = 0..joined.events.len();
    let single: Vec<usize> = all.filter(|number| !fans.contains(number)).collect();
    joined.counts(&single).lost
}

#[cfg(test)]
mod tests {
    use crate::sink::log::Arrival;

    use super::{Counts, Fan};

    #[test]
    fn a_delivery_is_an_event_and_a_receiver() {
        let plan = super::Fanout {
            endpoints: 3,
            events: 1,
            seconds: 1.0,
            open: 1,
            setting: crate::rig::Setting {
                slices: 1,
                dispatchers: 1,
                timeout_ms: 1,
                padding: 0,
                seed: 0,
            },
        };
        let arrival = |event: u64, receiver: u32, status: u16, at_us: u64| Arrival {
            at_us,
            event,
            receiver,
            attempt: 1,
            status,
            ..Arrival::default()
        };
        let arrivals = [
            arrival(5, 0, 200, 10),
            arrival(5, 0, 200, 20),
            arrival(5, 1, 500, 30),
            arrival(6, 1, 200, 40),
            arrival(5, 7, 200, 50),
        ];
        let mut fan = Fan::default();
        fan.take(5, &arrivals);
        assert_eq!(fan.first[&0], 10);
        let mut counts = Counts::default();
        counts.add(&plan, &fan);
        assert_eq!((counts.lost, counts.repeats, counts.strays), (2, 1, 1));
    }
}
