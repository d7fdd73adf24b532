//! Retries that nobody attempted before: records of a retry topic, written by the experiment.
//!
//! First as many deliveries as there can be, for a rate to compare with; then all records, as fast
//! as they can be written, each due so long after it is written. They come due within the time that
//! writing them took, so how late they are says nothing: they go as fast as they can.

use std::ops::Range;
use std::time::Duration;

use anyhow::Context;
use postrider_domain::lane::Rung;

use super::{REFUSED, Retries, memory_by_waiting, regress};
use crate::audit::Joined;
use crate::load::{Event, LaneTopic};
use crate::now_us;
use crate::profiles::Flood;
use crate::report::Report;
use crate::rig::{Place, Rig, endpoint, endpoint_id};
use crate::samples::Sample;
use crate::sink::Door;
use crate::sink::log::Arrival;
use crate::sink::order::Behaviour;

/// Of the rate with nothing waiting.
const DRAIN_MIN: f64 = 0.8;
const FLOOD_MAX: Duration = Duration::from_secs(20);
const OPEN: usize = 4_000;
const PATIENCE: Duration = Duration::from_secs(180);
/// The pace is never below this.
const SLOWEST: usize = 300;

pub(super) fn run(plan: &Retries, place: &Place<'_>) -> anyhow::Result<Report> {
    let wait = Duration::from_secs_f64(plan.spread);
    let rung = Rung::for_wait(wait).context("--spread is shorter than the shortest retry topic")?;
    let mut rig = Rig::start(place, plan.setting, |sink| {
        let each = |number| endpoint(&endpoint_id(number), number, sink, Door::Main);
        (0..plan.endpoints).map(each).collect()
    })?;
    rig.greet(0..plan.endpoints, plan.rate)?;
    let all = 0..plan.endpoints;
    let flood = FLOOD_MAX.min(wait / 10);
    rig.flood(all.clone(), OPEN, flood / 4)?;
    let most = crate::profiles::flood(&mut rig, all, OPEN, flood)?;
    eprintln!("{:.0} a second at most", most.pace.rate());
    // whoever sends one as a first attempt is found out
    let refuse = Behaviour::RefuseUpTo {
        attempt: 1,
        status: REFUSED,
    };
    rig.sink.behave(0, plan.endpoints, 1, refuse)?;
    let lane = LaneTopic {
        topic: rig.installation.topic(rung.topic()).into(),
        slices: plan.setting.slices,
    };
    let began = now_us();
    let first = rig.load.events().len();
    rig.load.expect_deliveries(plan.retries);
    for endpoint in (0..plan.endpoints).cycle().take(plan.retries) {
        let due = now_us() + wait.as_micros() as u64;
        rig.load.put(&lane, endpoint, 1, Some(due));
    }
    let events = rig.load.settle(first)?;
    let took = (now_us() - began) as f64 / 1e6;
    eprintln!("{} are written, in {took:.0} s", events.len());
    let limit = wait + PATIENCE + Duration::from_secs((plan.retries / SLOWEST) as u64);
    let missing = rig.wait_for_delivery(events.clone(), limit)?;
    eprintln!("{missing} not delivered");
    let course = began..now_us();
    rig.stop_workers()?;
    judge(plan, rig, &most, &events, &course)
}

fn judge(
    plan: &Retries,
    mut rig: Rig,
    most: &Flood,
    events: &Range<usize>,
    course: &Range<u64>,
) -> anyhow::Result<Report> {
    let (arrivals, attempts) = rig.results()?;
    let joined = Joined::new(rig.load.events(), &arrivals);
    let mut report = Report::new("retries", plan);
    let came: Vec<u64> = events
        .clone()
        .filter_map(|number| joined.fates[number].delivered_us)
        .collect();
    let (first, last) = (came.iter().min(), came.iter().max());
    let (first, last) = (first.copied().unwrap_or(0), last.copied().unwrap_or(0));
    let rate = came.len() as f64 * 1e6 / (last - first).max(1) as f64;
    report.numbers(
        "Deliveries a second",
        &[
            ("with nothing waiting", format!("{:.0}", most.pace.rate())),
            ("of retries that are all due", format!("{rate:.0}")),
        ],
    );
    let draining = first..last + 1;
    report.usage("Processes, draining", &rig.sampler.usage(&draining));
    report.usage("Processes", &rig.sampler.usage(course));
    let samples: Vec<Sample> = rig
        .sampler
        .of("dispatcher")
        .into_iter()
        .filter(|sample| course.contains(&sample.at_us))
        .collect();
    let changes = changes(&joined.events[events.clone()], &arrivals, events);
    regress(&mut report, &memory_by_waiting(&samples, &changes));
    let early = events.clone().filter(|number| {
        let due = joined.events[*number].intended_us;
        joined.fates[*number]
            .delivered_us
            .is_some_and(|at| at < due)
    });
    report.none("early", early.count());
    report.at_least(
        "rate, all due ÷ nothing waiting",
        rate / most.pace.rate(),
        DRAIN_MIN,
    );
    crate::profiles::common_marks(&mut report, &rig, &joined, &arrivals, &attempts)?;
    Ok(report)
}

/// When one more waits, and when one less does, in order of time.
fn changes(written: &[Event], arrivals: &[Arrival], events: &Range<usize>) -> Vec<(u64, i64)> {
    let more = written.iter().map(|event| (event.sent_us, 1));
    let ours =
        |arrival: &&Arrival| events.contains(&(arrival.event as usize)) && arrival.is_success();
    let less = arrivals.iter().filter(ours).map(|a| (a.at_us, -1));
    let mut changes: Vec<(u64, i64)> = more.chain(less).collect();
    changes.sort_unstable();
    changes
}
