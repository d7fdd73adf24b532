//! `budget`: where the CPU of a delivery goes, step by step.
//!
//! As many deliveries as there can be, as `max` has them, while `perf` samples both workers; a
//! sample's step is told by `steps`. There is no mark: the figures say where `max` is to be mended.

mod steps;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use serde::Serialize;

use crate::audit::Joined;
use crate::report::Report;
use crate::rig::{Place, Rig, Setting, endpoint, endpoint_id};
use crate::sink::Door;

use steps::Role;

const GREET_RATE: f64 = 500.0;
/// Before the profiler is started, and after it has ended.
const LEAD: f64 = 2.0;
/// Bytes of a stack that are kept to be unwound; an async one is deep.
const STACK: &str = "dwarf,16384";

/// How much of it.
#[derive(Clone, Debug, Args, Serialize)]
pub struct Budget {
    /// Endpoints, which get events in turn
    #[arg(long, default_value_t = 1_000)]
    pub endpoints: u32,
    /// Hosts that they are spread over
    #[arg(long, default_value_t = 1_000)]
    pub hosts: u32,
    /// Seconds that are profiled
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// Samples a second of CPU
    #[arg(long, default_value_t = 499)]
    pub frequency: u32,
    /// Events that may be written and not delivered
    #[arg(long, default_value_t = 1_000)]
    pub open: usize,
    #[command(flatten)]
    #[serde(flatten)]
    pub setting: Setting,
}

/// Runs it. Needs `perf`, and the right to use it.
///
/// # Errors
/// Something does not start, or what has to be read cannot be.
pub fn run(plan: &Budget, place: &Place<'_>) -> anyhow::Result<Report> {
    ensure!(
        plan.setting.dispatchers == 1,
        "a budget is of one router and one dispatcher"
    );
    let mut rig = Rig::start(place, plan.setting, |sink| {
        let each = |number| endpoint(&endpoint_id(number), number, sink, Door::Hosts(plan.hosts));
        (0..plan.endpoints).map(each).collect()
    })?;
    rig.greet(0..plan.endpoints, GREET_RATE)?;
    // caches and pools fill once
    let lead = Duration::from_secs_f64(LEAD);
    rig.flood(0..plan.endpoints, plan.open, lead)?;
    let pids = [0, 1].map(|number| rig.fleet().process(number).pid());
    let data = place.folder.file("perf.data");
    let mut profiler = profile(&data, pids, plan)?;
    let time = Duration::from_secs_f64(plan.seconds + LEAD);
    let flood = super::flood(&mut rig, 0..plan.endpoints, plan.open, time)?;
    let status = profiler.wait()?;
    ensure!(status.success(), "perf record: {status}");
    rig.stop_workers()?;

    let (arrivals, attempts) = rig.results()?;
    let joined = Joined::new(rig.load.events(), &arrivals);
    let mut report = Report::new("budget", plan);
    let text = stacks(&data)?;
    fs::write(place.folder.file("stacks.txt"), &text)?;
    let row = super::pace_row("postrider, profiled", &flood.pace);
    let columns = ["of", "requests", "a second", "CPU us each"];
    report.table("Pace", &columns, vec![row]);
    report.table(
        "Where the CPU of a delivery goes",
        &["worker", "step", "share", "us"],
        rows(&text, pids, flood.pace.cpu_us())?,
    );
    report.usage("Processes", &flood.usage);
    super::common_marks(&mut report, &rig, &joined, &arrivals, &attempts)?;
    Ok(report)
}

fn profile(data: &Path, pids: [u32; 2], plan: &Budget) -> anyhow::Result<Child> {
    let [router, dispatcher] = pids;
    Command::new("perf")
        .args(["record", "-F", &plan.frequency.to_string()])
        .args(["--call-graph", STACK])
        .args(["-p", &format!("{router},{dispatcher}"), "-o"])
        .arg(data)
        .args(["--", "sleep", &plan.seconds.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("perf does not start: install it (Debian: apt-get install linux-perf)")
}

/// Every sample with its stack, as text.
fn stacks(data: &Path) -> anyhow::Result<String> {
    let output = Command::new("perf")
        .arg("script")
        .arg("-i")
        .arg(data)
        // functions that were inlined would take a process each to be named
        .args(["--no-inline", "-F", "comm,pid,ip,sym"])
        .stderr(Stdio::null())
        .output()?;
    ensure!(output.status.success(), "perf script: {}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A row for each step of both workers; microseconds are shares of `cpu_us`, that of a delivery.
fn rows(text: &str, pids: [u32; 2], cpu_us: f64) -> anyhow::Result<Vec<Vec<String>>> {
    let mut counts: BTreeMap<(usize, &str), usize> = BTreeMap::new();
    let mut all = 0;
    for sample in steps::samples(text) {
        let Some(worker) = pids.iter().position(|pid| *pid == sample.pid) else {
            continue;
        };
        let role = [Role::Router, Role::Dispatcher][worker];
        let step = steps::step_of(role, sample.thread, &sample.stack);
        *counts.entry((worker, step)).or_default() += 1;
        all += 1;
    }
    ensure!(all > 0, "perf took no sample of the workers");
    let mut rows = Vec::new();
    for (worker, (name, steps)) in [
        ("router", &steps::ROUTER[..]),
        ("dispatcher", &steps::DISPATCHER),
    ]
    .into_iter()
    .enumerate()
    {
        for step in steps {
            let count = counts.get(&(worker, *step)).copied().unwrap_or_default();
            rows.push(row(name, step, count as f64 / f64::from(all), cpu_us));
        }
    }
    rows.push(row("both", "all", 1.0, cpu_us));
    Ok(rows)
}

fn row(worker: &str, step: &str, share: f64, cpu_us: f64) -> Vec<String> {
    vec![
        worker.to_owned(),
        step.to_owned(),
        format!("{:.1} %", 100.0 * share),
        format!("{:.1}", share * cpu_us),
    ]
}

#[cfg(test)]
mod tests {
    #[test]
    fn shares_are_of_all_samples_of_the_workers() {
        let text = "router 1 \n\t 1 postrider_kafka::intake::poll\n\nrdk:broker1 1 \n\t 1 clone3\n\n\
                    requests 2 \n\t 1 postrider_signing::sign\n\nrequests 2 \n\t 1 hyper\n\n\
                    java 3 \n\t 1 x\n";
        let rows = super::rows(text, [1, 2], 60.0).unwrap();
        let of = |worker: &str, step: &str| {
            let mut rows = rows.iter();
            let row = rows.find(|row| row[0] == worker && row[1] == step);
            row.map(|row| row[2..].to_vec()).unwrap()
        };
        for step in ["fetch", "produce"] {
            assert_eq!(of("router", step), ["25.0 %", "15.0"]);
        }
        for step in ["sign", "HTTP"] {
            assert_eq!(of("dispatcher", step), ["25.0 %", "15.0"]);
        }
        assert_eq!(of("dispatcher", "engine"), ["0.0 %", "0.0"]);
        assert_eq!(of("both", "all"), ["100.0 %", "60.0"]);
        assert!(super::rows("", [1, 2], 60.0).is_err());
    }
}
