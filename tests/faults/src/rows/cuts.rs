//! Networks that drop packets and reset connections.

use std::time::Duration;

use super::brokers::lasting;
use super::{Row, nothing};
use crate::fault::Fault;
use crate::stage::{DISPATCHERS, Stage, dispatcher};

/// Packets of 100 that are answered with a reset.
const RESET_PERCENT: u32 = 10;

/// Row 6, between a worker and a broker.
pub const CUT: Row = Row {
    number: "6a",
    name: "cut",
    injected: "a dispatcher and the broker that leads deliveries [0] hear nothing of one another",
    holds: "nothing more",
    lasts: 90.0,
    prepare: nothing,
    run: cut,
};

/// Row 6, among brokers.
pub const SPLIT: Row = Row {
    number: "6b",
    name: "split",
    injected: "the broker that leads deliveries [0] and the two others hear nothing of one another",
    holds: "nothing more",
    lasts: 90.0,
    prepare: nothing,
    run: split,
};

/// Row 7.
pub const ONE_WAY: Row = Row {
    number: "7",
    name: "one-way",
    injected: "a dispatcher hears no broker, and they hear it: what it writes counts, and it does \
               not know",
    holds: "nothing more",
    lasts: 40.0,
    prepare: nothing,
    run: one_way,
};

/// Row 8.
pub const RESETS: Row = Row {
    number: "8",
    name: "resets",
    injected: "10 % of all packets to the brokers are answered with a reset",
    holds: "nothing more",
    lasts: 60.0,
    prepare: nothing,
    run: resets,
};

fn cut(stage: &mut Stage, lasts: Duration) -> anyhow::Result<()> {
    let id = stage.leader("deliveries", 0)?;
    let name = any_dispatcher(stage);
    lasting(stage, Fault::WorkerCut(name, vec![id]), lasts)
}

fn split(stage: &mut Stage, lasts: Duration) -> anyhow::Result<()> {
    let id = stage.leader("deliveries", 0)?;
    lasting(stage, Fault::BrokerSplit(id), lasts)
}

fn one_way(stage: &mut Stage, lasts: Duration) -> anyhow::Result<()> {
    let name = any_dispatcher(stage);
    lasting(stage, Fault::WorkerDeaf(name), lasts)
}

fn resets(stage: &mut Stage, lasts: Duration) -> anyhow::Result<()> {
    lasting(stage, Fault::Resets(RESET_PERCENT), lasts)
}

fn any_dispatcher(stage: &mut Stage) -> String {
    dispatcher(stage.random.usize(1..=DISPATCHERS))
}
