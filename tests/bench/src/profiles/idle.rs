//! `idle`: hardly any load, and what Postrider adds to the time that two topics take anyway.
//!
//! Latencies count from the producer's acknowledgement of an event to the arrival of its request.
//! Between the events, at the same pace, as many records go over two bare hops ([`crate::hops`]),
//! so that what else the machine does falls on both; theirs count from the acknowledgement on the
//! first topic to the arrival on the second. How soon the first delivery follows a start is what
//! `cold` measures.

use std::ops::Range;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::audit::Joined;
use crate::hops::Hops;
use crate::plan::Stream;
use crate::report::Report;
use crate::rig::{Place, Rig, Setting, endpoint, endpoint_id};
use crate::samples::Usage;
use crate::sink::Door;
use crate::stats::Spread;
use crate::{histogram, now_us};

/// From acknowledgement to arrival, milliseconds.
const P50_MAX_MS: f64 = 5.0;
const P99_MAX_MS: f64 = 20.0;
/// The same by that of two bare hops.
const RATIO_MAX: f64 = 3.0;
/// Memory of a worker that knows all endpoints.
const RSS_MAX_MIB: f64 = 64.0;
const GREET_RATE: f64 = 500.0;
/// All is delivered within this time after the last event.
const SETTLE: Duration = Duration::from_secs(60);

/// How much of it.
#[derive(Clone, Debug, Args, Serialize)]
pub struct Idle {
    /// Endpoints, which get events in turn
    #[arg(long, default_value_t = 1_000)]
    pub endpoints: u32,
    /// Hosts that they are spread over; few, so that connections are kept
    #[arg(long, default_value_t = 20)]
    pub hosts: u32,
    /// Events a second, and records a second over the bare hops
    #[arg(long, default_value_t = 20.0)]
    pub rate: f64,
    /// Seconds of it
    #[arg(long, default_value_t = 180.0)]
    pub seconds: f64,
    #[command(flatten)]
    #[serde(flatten)]
    pub setting: Setting,
}

/// What was seen while it lasted.
struct Seen {
    events: Range<usize>,
    /// Of the bare hops, microseconds.
    bare: Vec<i64>,
    usage: Vec<Usage>,
}

/// Runs it.
///
/// # Errors
/// Something does not start, or what has to be read cannot be.
pub fn run(plan: &Idle, place: &Place<'_>) -> anyhow::Result<Report> {
    let mut rig = Rig::start(place, plan.setting, |sink| {
        let each = |number| endpoint(&endpoint_id(number), number, sink, Door::Hosts(plan.hosts));
        (0..plan.endpoints).map(each).collect()
    })?;
    let topics = ["bare-1", "bare-2"].map(|name| {
        rig.installation.make_intake(name);
        rig.installation.topic(name)
    });
    let client = rig.installation.client();
    let hops = Hops::start(&client, [&topics[0], &topics[1]], plan.setting.padding)?;
    rig.greet(0..plan.endpoints, GREET_RATE)?;
    // as the endpoints were: clients learn where their topics are with the first record
    hops.run(plan.endpoints as usize, GREET_RATE)?;
    let time = Duration::from_secs_f64(plan.seconds);
    let stream = Stream::lasting(0..plan.endpoints, plan.rate, time);
    let count = stream.count;
    let (began, mut bare) = (now_us(), Vec::new());
    let events = rig.run_while(&[stream], |_| {
        bare = hops.run(count, plan.rate)?;
        Ok(())
    })?;
    let missing = rig.wait_for_delivery(events.clone(), SETTLE)?;
    eprintln!("{} events, {missing} not delivered", events.len());
    let usage = rig.sampler.usage(&(began..now_us()));
    rig.stop_workers()?;
    let seen = Seen {
        events,
        bare,
        usage,
    };
    judge(plan, rig, &seen)
}

fn judge(plan: &Idle, mut rig: Rig, seen: &Seen) -> anyhow::Result<Report> {
    let (arrivals, attempts) = rig.results()?;
    let joined = Joined::new(rig.load.events(), &arrivals);
    let acked = rig.load.acknowledged_us(seen.events.clone());
    let took = seen
        .events
        .clone()
        .zip(acked)
        .filter_map(|(number, acked)| {
            // one that never came is lost, and counted below
            let arrived = joined.fates[number].first_us?;
            Some(arrived as i64 - acked as i64)
        });
    let took: Vec<i64> = took.collect();
    for (name, latencies) in [("after-acknowledged", &took), ("bare-hops", &seen.bare)] {
        histogram::write(&rig.folder, name, latencies)?;
    }
    let (ours, bare) = (Spread::of(took), Spread::of(seen.bare.clone()));
    let mut report = Report::new("idle", plan);
    report.latencies(
        "From acknowledgement to arrival",
        &[
            ("postrider".to_owned(), ours),
            ("bare hops".to_owned(), bare),
        ],
    );
    let written = Spread::of(rig.load.acknowledged(seen.events.clone()));
    report.latencies(
        "Events, until Kafka acknowledged them",
        &[("all".to_owned(), written)],
    );
    report.usage("Processes", &seen.usage);
    for (name, ours, bare, bound) in [
        ("p50", ours.p50, bare.p50, P50_MAX_MS),
        ("p99", ours.p99, bare.p99, P99_MAX_MS),
    ] {
        let what = format!("{name} from acknowledgement to arrival, ms");
        report.at_most(&what, ours as f64 / 1_000.0, bound);
        let what = format!("{name} ÷ that of two bare hops");
        report.at_most(&what, ours as f64 / bare.max(1) as f64, RATIO_MAX);
    }
    let rss = super::dispatcher_rss_max(&rig.sampler.usage(&(0..now_us())));
    report.at_most("dispatcher's memory, MiB", rss, RSS_MAX_MIB);
    super::common_marks(&mut report, &rig, &joined, &arrivals, &attempts)?;
    Ok(report)
}
