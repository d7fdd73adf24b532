//! Brokers that crash, hang and are restarted.

use std::time::Duration;

use anyhow::ensure;
use postrider_bench::now_us;

use super::{Row, nothing};
use crate::fault::{Fault, others};
use crate::kafka::active_controller;
use crate::network::BROKERS;
use crate::stage::{PROGRESS_WITHIN, Stage};

/// How often every broker is restarted.
const ROUNDS: usize = 3;

/// Row 1.
pub const LEADER: Row = Row {
    number: "1",
    name: "leader",
    injected: "SIGKILL for the broker that leads deliveries [0], started again after the time",
    holds: "nothing more",
    lasts: 20.0,
    prepare: nothing,
    run: leader,
};

/// Row 2.
pub const CONTROLLER: Row = Row {
    number: "2",
    name: "controller",
    injected: "SIGKILL for the active controller, started again after the time",
    holds: "nothing more",
    lasts: 20.0,
    prepare: nothing,
    run: controller,
};

/// Row 3.
pub const GREY: Row = Row {
    number: "3",
    name: "grey",
    injected: "SIGSTOP for the broker that leads deliveries [0], SIGCONT after the time",
    holds: "nothing more",
    lasts: 60.0,
    prepare: nothing,
    run: grey,
};

/// Row 4.
pub const TWO_OF_THREE: Row = Row {
    number: "4",
    name: "two-of-three",
    injected: "SIGKILL for two of three brokers, started again after the time",
    holds: "workers go on running",
    lasts: 40.0,
    prepare: nothing,
    run: two_of_three,
};

/// Row 5.
pub const ROLLING: Row = Row {
    number: "5",
    name: "rolling",
    injected: "every broker stopped in order and started again, three times round",
    holds: "nothing more",
    lasts: 2.0,
    prepare: nothing,
    run: rolling,
};

fn leader(stage: &mut Stage, lasts: Duration) -> anyhow::Result<()> {
    let id = stage.leader("deliveries", 0)?;
    lasting(stage, Fault::BrokersKilled(vec![id]), lasts)
}

fn controller(stage: &mut Stage, lasts: Duration) -> anyhow::Result<()> {
    let id = active_controller(stage.cluster.bootstrap())?;
    lasting(stage, Fault::BrokersKilled(vec![id]), lasts)
}

fn grey(stage: &mut Stage, lasts: Duration) -> anyhow::Result<()> {
    let id = stage.leader("deliveries", 0)?;
    lasting(stage, Fault::BrokerFrozen(id), lasts)
}

fn two_of_three(stage: &mut Stage, lasts: Duration) -> anyhow::Result<()> {
    let id = stage.random.choice(BROKERS).unwrap_or(1);
    lasting(stage, Fault::BrokersKilled(others(id).collect()), lasts)?;
    for worker in stage.workers.values_mut() {
        let ended = worker.process.ended();
        ensure!(ended.is_none(), "{} ended: {ended:?}", worker.name);
    }
    Ok(())
}

fn rolling(stage: &mut Stage, lasts: Duration) -> anyhow::Result<()> {
    let began_us = now_us();
    for round in 1..=ROUNDS {
        for id in BROKERS {
            stage.note(format!("broker {id} restarts, round {round}"));
            stage.cluster.stop(id);
            stage.hold(lasts);
            stage.cluster.start_again(&[id]);
            stage.wait_until_whole()?;
        }
    }
    stage.may_lose(None, began_us);
    stage.healed("rolling restart", began_us, PROGRESS_WITHIN)
}

/// A fault that lasts, is undone, and has to be got over.
pub(super) fn lasting(stage: &mut Stage, fault: Fault, lasts: Duration) -> anyhow::Result<()> {
    let what = fault.to_string();
    let begun = fault.begin(stage)?;
    stage.hold(lasts);
    begun.end(stage)?;
    stage.healed(&what, begun.at_us, begun.bound())?;
    begun.recover(stage)
}
