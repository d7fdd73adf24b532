//! A slow and lossy line to all brokers.

use std::time::{Duration, Instant};

use anyhow::ensure;
use postrider_bench::now_us;

use super::{Row, nothing};
use crate::netem::{Line, Shape};
use crate::network::broker_address;
use crate::stage::{PROGRESS_WITHIN, Stage};

const SHAPE: Shape = Shape {
    delay: Duration::from_millis(200),
    jitter: Duration::from_millis(100),
    loss_percent: 5,
};

/// A connection takes a packet there and one back.
const LEAST: Duration = Duration::from_millis(200);

/// Row 9.
pub const LINE: Row = Row {
    number: "9",
    name: "line",
    injected: "200 ± 100 ms and 5 % loss, each way, between every worker and all brokers",
    holds: "retries are at most 5 s late, 99 of 100",
    lasts: 60.0,
    prepare: nothing,
    run: line,
};

fn line(stage: &mut Stage, lasts: Duration) -> anyhow::Result<()> {
    stage.punctual = true;
    let began_us = now_us();
    stage.note("the line of every worker is slow and lossy");
    let names: Vec<String> = stage.workers.keys().cloned().collect();
    let mut lines = Vec::new();
    for (name, number) in names.iter().zip(1..) {
        let seed = stage.random.u64(..);
        lines.push(Line::put(&stage.network, name, number, SHAPE, seed)?);
        let connected = connect(stage, name)?;
        ensure!(
            connected >= LEAST,
            "{name} reaches a broker in {connected:?}"
        );
    }
    stage.hold(lasts);
    for line in lines {
        line.take(&stage.network)?;
    }
    stage.may_lose(None, began_us);
    stage.healed("the line", began_us, PROGRESS_WITHIN)
}

/// How long a worker's connection to a broker takes.
fn connect(stage: &Stage, name: &str) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let script = format!("exec 3<>/dev/tcp/{}/9092\n", broker_address(1));
    stage.network.run(name, "bash -s", &script)?;
    Ok(began.elapsed())
}
