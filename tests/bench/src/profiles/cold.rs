//! `cold`: very many endpoints on many hosts, of which few get much and most get little.
//!
//! Beside them a small installation on the same broker; the same load goes to both by turns, so
//! that what else the machine does falls on both. Every connection ends with its answer, in both,
//! so that a delivery costs a connection in both, and what differs is how many endpoints there
//! are. Both are stopped once, and started again with an event that waits.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use crate::audit::{self, Joined};
use crate::now_us;
use crate::plan::{Planned, Stream, zipf};
use crate::report::{Folder, Report};
use crate::rig::{Place, Rig, Setting, endpoint, endpoint_id};
use crate::samples::Usage;
use crate::sink::Door;
use crate::sink::order::Connections;
use crate::stats::Spread;

/// Memory of a worker that owns all slices.
const RSS_MAX_MIB: f64 = 256.0;
/// CPU of a delivery with all endpoints, by that with few.
const CPU_MAX: f64 = 1.3;
/// From the start of the workers to the first delivery, seconds: with few endpoints, with all.
const FIRST_MAX: [f64; 2] = [3.0, 6.0];
/// How long an event that waited may take to arrive at all.
const FIRST_WITHIN: Duration = Duration::from_secs(60);
const SETTLE: Duration = Duration::from_secs(120);

/// How much of it.
#[derive(Clone, Debug, Args, Serialize)]
pub struct Cold {
    /// Endpoints
    #[arg(long, default_value_t = 100_000)]
    pub endpoints: u32,
    /// Endpoints of the small installation
    #[arg(long, default_value_t = 100)]
    pub few: u32,
    /// Hosts they are on
    #[arg(long, default_value_t = 10_000)]
    pub hosts: u32,
    /// The exponent of Zipf's law
    #[arg(long, default_value_t = 1.1)]
    pub exponent: f64,
    /// Events a second
    #[arg(long, default_value_t = 500.0)]
    pub rate: f64,
    /// Events a second, when each endpoint gets its first
    #[arg(long, default_value_t = 1_000.0)]
    pub greet_rate: f64,
    /// Seconds of each part
    #[arg(long, default_value_t = 30.0)]
    pub seconds: f64,
    /// How often both parts come
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    #[command(flatten)]
    #[serde(flatten)]
    pub setting: Setting,
}

/// One of the installations.
struct Side {
    name: &'static str,
    endpoints: u32,
    rig: Rig,
    /// How long it took to define its endpoints, and all that is there before the workers.
    defined: Duration,
    /// From the start of the workers to the first delivery, seconds.
    first: f64,
    /// The most memory of a dispatcher before it was stopped.
    rss_max_mib: f64,
    parts: Vec<Part>,
}

struct Part {
    events: std::ops::Range<usize>,
    cpu_us: f64,
    usage: Vec<Usage>,
}

/// Runs it.
///
/// # Errors
/// Something does not start, or what has to be read cannot be.
pub fn run(plan: &Cold, place: &Place<'_>) -> anyhow::Result<Report> {
    let mut few = Side::start(plan, "few", plan.few, place)?;
    let mut all = Side::start(plan, "all", plan.endpoints, place)?;
    for round in 0..plan.rounds {
        for side in [&mut few, &mut all] {
            side.part(plan, round)?;
        }
    }
    few.rig.stop_workers()?;
    all.rig.stop_workers()?;
    judge(plan, few, all)
}

impl Side {
    /// Every endpoint gets an event; then the workers are stopped, and start with one that waits.
    fn start(
        plan: &Cold,
        name: &'static str,
        endpoints: u32,
        place: &Place<'_>,
    ) -> anyhow::Result<Self> {
        // the files of the experiment are those of all endpoints
        let folder = if name == "all" {
            place.folder.clone()
        } else {
            Folder::new(&place.folder.file(name))?
        };
        let place = Place {
            broker: place.broker,
            program: place.program.clone(),
            folder,
        };
        let began = Instant::now();
        let mut rig = Rig::prepare(&place, plan.setting, |sink| {
            let door = Door::Hosts(plan.hosts.min(endpoints));
            let each = |number| endpoint(&endpoint_id(number), number, sink, door);
            (0..endpoints).map(each).collect()
        })?;
        let defined = began.elapsed();
        rig.sink.connections(Connections::New)?;
        rig.start_workers();
        rig.greet(0..endpoints, plan.greet_rate)?;
        let rss_max_mib = super::dispatcher_rss_max(&rig.sampler.usage(&(0..now_us())));
        rig.stop_workers()?;
        let waiting = Planned {
            at_us: 0,
            endpoint: endpoints - 1,
        };
        let waits = rig.load.run(&[waiting])?;
        let started = now_us();
        rig.start_workers();
        let missing = rig.wait_for_delivery(waits, FIRST_WITHIN)?;
        anyhow::ensure!(missing == 0, "{name}: what waited was not delivered");
        let arrived = rig.arrivals()?.last().map_or(0, |arrival| arrival.at_us);
        let first = arrived.saturating_sub(started) as f64 / 1e6;
        eprintln!("{name}: defined in {defined:?}, first delivery after {first:.2} s");
        Ok(Self {
            name,
            endpoints,
            rig,
            defined,
            first,
            rss_max_mib,
            parts: Vec::new(),
        })
    }

    fn part(&mut self, plan: &Cold, round: usize) -> anyhow::Result<()> {
        let time = Duration::from_secs_f64(plan.seconds);
        let stream = Stream::lasting(0..self.endpoints, plan.rate, time);
        let planned = zipf(&stream, plan.exponent, plan.setting.seed + round as u64);
        let rig = &mut self.rig;
        let (began, cpu) = (now_us(), rig.workers_cpu_seconds()?);
        let events = rig.load.run(&planned)?;
        let missing = rig.wait_for_delivery(events.clone(), SETTLE)?;
        let cpu = rig.workers_cpu_seconds()? - cpu;
        let part = Part {
            cpu_us: cpu * 1e6 / events.len().max(1) as f64,
            events,
            usage: rig.sampler.usage(&(began..now_us())),
        };
        let (name, cpu_us) = (self.name, part.cpu_us);
        eprintln!("{name} {round}: {cpu_us:.1} us a delivery, {missing} not delivered");
        self.parts.push(part);
        Ok(())
    }

    /// The most memory of a dispatcher.
    fn rss_max_mib(&self) -> f64 {
        let since = super::dispatcher_rss_max(&self.rig.sampler.usage(&(0..now_us())));
        self.rss_max_mib.max(since)
    }

    fn cpu_us(&self) -> f64 {
        super::median(self.parts.iter().map(|part| part.cpu_us))
    }
}

fn judge(plan: &Cold, few: Side, all: Side) -> anyhow::Result<Report> {
    let (mut few, mut all) = (few, all);
    few.rig.save()?;
    all.rig.save()?;
    let mut report = Report::new("cold", plan);
    let row = |side: &Side| {
        vec![
            side.name.to_owned(),
            side.endpoints.to_string(),
            format!("{:.1}", side.defined.as_secs_f64()),
            format!("{:.2}", side.first),
            format!("{:.1}", side.rss_max_mib()),
            format!("{:.1}", side.cpu_us()),
        ]
    };
    let columns = [
        "installation",
        "endpoints",
        "defined, s",
        "first delivery, s",
        "dispatcher's RSS max MiB",
        "CPU us each",
    ];
    report.table("Both", &columns, vec![row(&few), row(&all)]);
    for side in [&few, &all] {
        for (round, part) in side.parts.iter().enumerate() {
            let title = format!("Processes, {} {}", side.name, round + 1);
            report.usage(&title, &part.usage);
        }
    }
    let lost = lost(&mut few)?;
    report.none("few: lost", lost);
    for (side, bound) in [&few, &all].into_iter().zip(FIRST_MAX) {
        let what = format!("{}: first delivery after the start, seconds", side.name);
        report.at_most(&what, side.first, bound);
    }
    report.at_most("dispatcher's memory, MiB", all.rss_max_mib(), RSS_MAX_MIB);
    report.at_most(
        "CPU of a delivery, all ÷ few",
        all.cpu_us() / few.cpu_us().max(f64::MIN_POSITIVE),
        CPU_MAX,
    );
    let arrivals = all.rig.arrivals()?.to_vec();
    let client = all.rig.installation.client();
    let attempts = audit::attempts(&client, &all.rig.installation.topic("attempts"))?;
    let joined = Joined::new(all.rig.load.events(), &arrivals);
    let parts: Vec<_> = all.parts.iter().map(|part| part.events.clone()).collect();
    first_attempts(&mut report, &joined, &parts);
    super::common_marks(&mut report, &all.rig, &joined, &arrivals, &attempts)?;
    Ok(report)
}

fn lost(side: &mut Side) -> anyhow::Result<usize> {
    let arrivals = side.rig.arrivals()?.to_vec();
    let joined = Joined::new(side.rig.load.events(), &arrivals);
    let all: Vec<usize> = (0..joined.events.len()).collect();
    Ok(joined.counts(&all).lost)
}

/// By how much else their endpoints got, and who got none.
fn first_attempts(report: &mut Report, joined: &Joined<'_>, parts: &[std::ops::Range<usize>]) {
    let mut events: BTreeMap<u32, usize> = BTreeMap::new();
    for number in parts.iter().cloned().flatten() {
        *events.entry(joined.events[number].endpoint).or_default() += 1;
    }
    let of = |name: &str, counts: &dyn Fn(usize) -> bool| {
        let numbers = joined.of(parts, |endpoint| {
            events.get(&endpoint).copied().is_some_and(counts)
        });
        (name.to_owned(), Spread::of(joined.latencies(&numbers)))
    };
    let spreads = [
        of("all", &|_| true),
        of("endpoints with 1 event", &|count| count == 1),
        of("with 2 to 100", &|count| (2..=100).contains(&count)),
        of("with more", &|count| count > 100),
    ];
    report.latencies("First attempts", &spreads);
    let mut starved = events;
    for number in parts.iter().cloned().flatten() {
        if joined.fates[number].first_us.is_some() {
            starved.remove(&joined.events[number].endpoint);
        }
    }
    report.none("endpoints with events and no attempt", starved.len());
}
