//! `tls`: a thousand hosts that speak TLS.
//!
//! First over connections that are kept, at a steady load. Then each request needs a connection of
//! its own: by turns, so that what else the machine does falls on both, a bare loop of handshakes
//! with one signed request each, and as many deliveries as are taken; without sessions that can be
//! resumed, and with them.

use std::ops::Range;
use std::time::Duration;

use clap::Args;
use postrider_egress::SESSION_HOSTS_MAX;
use serde::Serialize;

use crate::audit::Joined;
use crate::baseline::Pace;
use crate::handshakes::{Handshakes, Outcome, Wire};
use crate::now_us;
use crate::plan::Stream;
use crate::report::Report;
use crate::rig::{Place, Rig, Setting, endpoint, endpoint_id};
use crate::samples::Usage;
use crate::sink::Door;
use crate::sink::log::Connection;
use crate::sink::order::Connections;
use crate::stats::Spread;

/// Deliveries a second, each over a new connection, by bare requests a second that are so too.
const RATE_MIN: f64 = 0.8;
/// Bytes of a bare body beside the padding, as an event has them.
const BODY: usize = 64;
const GREET_RATE: f64 = 200.0;

/// How much of it.
#[derive(Clone, Debug, Args, Serialize)]
pub struct Tls {
    /// Hosts, each of one endpoint
    #[arg(long, default_value_t = 1_000)]
    pub hosts: u32,
    /// Events a second over kept connections
    #[arg(long, default_value_t = 1_000.0)]
    pub rate: f64,
    /// Seconds of each part
    #[arg(long, default_value_t = 15.0)]
    pub seconds: f64,
    /// How often the parts with new connections come
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Events that may be written and not delivered
    #[arg(long, default_value_t = 2_000)]
    pub open: usize,
    /// Requests at once of the bare loop
    #[arg(long, default_value_t = 256)]
    pub in_flight: usize,
    #[command(flatten)]
    #[serde(flatten)]
    pub setting: Setting,
}

/// Bare handshakes, and deliveries with as many.
struct Part {
    sessions: bool,
    bare: Outcome,
    ours: Pace,
    /// What the deliveries came over.
    connections: Vec<Connection>,
    usage: Vec<Usage>,
}

/// Runs it.
///
/// # Errors
/// Something does not start, or what has to be read cannot be.
pub fn run(plan: &Tls, place: &Place<'_>) -> anyhow::Result<Report> {
    let all = 0..plan.hosts;
    let mut rig = Rig::start(place, plan.setting, |sink| {
        let door = Door::Tls(plan.hosts);
        let each = |number| endpoint(&endpoint_id(number), number, sink, door);
        all.clone().map(each).collect()
    })?;
    rig.greet(all.clone(), GREET_RATE)?;
    let began = now_us();
    let time = Duration::from_secs_f64(plan.seconds);
    let steady = rig.run(&[Stream::lasting(all.clone(), plan.rate, time)])?;
    let usage = rig.sampler.usage(&(began..now_us()));
    let kept = super::flood(&mut rig, all, plan.open, time)?.pace;
    let mut parts = Vec::new();
    for _ in 0..plan.rounds {
        for sessions in [false, true] {
            parts.push(part(plan, &mut rig, sessions)?);
        }
    }
    rig.stop_workers()?;
    let course = Course {
        steady,
        usage,
        kept,
        parts,
    };
    judge(plan, rig, &course)
}

fn part(plan: &Tls, rig: &mut Rig, sessions: bool) -> anyhow::Result<Part> {
    let (connections, wire, hosts) = if sessions {
        let kept = u32::try_from(SESSION_HOSTS_MAX.get()).unwrap_or(u32::MAX);
        (
            Connections::New,
            Wire::TlsWithSessions,
            kept.min(plan.hosts),
        )
    } else {
        (Connections::NewWithoutSessions, Wire::Tls, plan.hosts)
    };
    rig.sink.connections(connections)?;
    let handshakes = Handshakes {
        hosts,
        in_flight: plan.in_flight,
        time: Duration::from_secs_f64(plan.seconds),
        body: plan.setting.padding + BODY,
        wire,
    };
    let bare = handshakes.run(&rig.sink)?;
    let failed = bare.pace.failed;
    anyhow::ensure!(failed == 0, "{failed} bare requests failed");
    use_up(plan, rig)?;
    let first = rig.arrivals()?.len();
    // a session resumes one connection: as many at once for each host, either way
    let open = (plan.open * hosts as usize / plan.hosts as usize).max(1);
    let flood = super::flood(rig, 0..hosts, open, handshakes.time)?;
    let arrivals = rig.arrivals()?[first..].iter();
    let part = Part {
        sessions,
        bare,
        ours: flood.pace,
        connections: arrivals.map(|arrival| arrival.connection).collect(),
        usage: flood.usage,
    };
    let (bare, ours) = (&part.bare.pace, &part.ours);
    eprintln!(
        "{}: bare {:.0} a second at {:.1} us, postrider {:.0} at {:.1} us",
        part.name(),
        bare.rate(),
        bare.cpu_us(),
        ours.rate(),
        ours.cpu_us()
    );
    Ok(part)
}

/// Sends over the connections that were kept before, which end with it, until there are none. It
/// ends, as no new ones are kept.
fn use_up(plan: &Tls, rig: &mut Rig) -> anyhow::Result<()> {
    loop {
        let first = rig.arrivals()?.len();
        rig.greet(0..plan.hosts, plan.rate)?;
        let mut arrivals = rig.arrivals()?[first..].iter();
        if arrivals.all(|arrival| arrival.connection != Connection::Kept) {
            return Ok(());
        }
    }
}

impl Part {
    fn name(&self) -> &'static str {
        if self.sessions {
            "with sessions"
        } else {
            "full handshakes"
        }
    }

    fn over(&self, connection: Connection) -> usize {
        let of = self.connections.iter().filter(|of| **of == connection);
        of.count()
    }
}

struct Course {
    steady: Range<usize>,
    usage: Vec<Usage>,
    kept: Pace,
    parts: Vec<Part>,
}

fn judge(plan: &Tls, mut rig: Rig, course: &Course) -> anyhow::Result<Report> {
    let (arrivals, attempts) = rig.results()?;
    let joined = Joined::new(rig.load.events(), &arrivals);
    let mut report = Report::new("tls", plan);
    let steady: Vec<usize> = course.steady.clone().collect();
    let spread = Spread::of(joined.latencies(&steady));
    report.latencies(
        "First attempts, connections kept",
        &[("steady".to_owned(), spread)],
    );
    report.usage("Processes, connections kept", &course.usage);
    let mut rows = vec![super::pace_row("postrider, connections kept", &course.kept)];
    for part in &course.parts {
        rows.push(super::pace_row(
            &format!("bare, {}", part.name()),
            &part.bare.pace,
        ));
        rows.push(super::pace_row(
            &format!("postrider, {}", part.name()),
            &part.ours,
        ));
    }
    let columns = ["of", "requests", "a second", "CPU us each"];
    report.table("Pace", &columns, rows);
    let rows = course.parts.iter().flat_map(|part| {
        let (kept, full) = (Connection::Kept, Connection::Handshake);
        let bare = [
            format!("bare, {}", part.name()),
            (part.bare.connections - part.bare.resumed).to_string(),
            part.bare.resumed.to_string(),
            (part.bare.pace.requests - part.bare.connections).to_string(),
        ];
        let ours = [
            format!("postrider, {}", part.name()),
            part.over(full).to_string(),
            part.over(Connection::Resumed).to_string(),
            part.over(kept).to_string(),
        ];
        [bare.to_vec(), ours.to_vec()]
    });
    let columns = ["of", "full handshakes", "resumed", "over a kept one"];
    report.table("Connections", &columns, rows.collect());
    for part in &course.parts {
        report.usage(
            &format!("Processes, postrider, {}", part.name()),
            &part.usage,
        );
    }
    for sessions in [false, true] {
        let parts: Vec<&Part> = course
            .parts
            .iter()
            .filter(|p| p.sessions == sessions)
            .collect();
        let name = parts.first().map_or("", |part| part.name());
        let ratios = parts.iter().map(|p| p.ours.rate() / p.bare.pace.rate());
        let ratio = super::median(ratios);
        report.at_least(&format!("{name}: rate, deliveries ÷ bare"), ratio, RATE_MIN);
    }
    let kept = course.parts.iter().map(|part| part.over(Connection::Kept));
    report.none("over a connection that was to end", kept.sum());
    super::common_marks(&mut report, &rig, &joined, &arrivals, &attempts)?;
    Ok(report)
}
