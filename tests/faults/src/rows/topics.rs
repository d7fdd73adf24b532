//! Records that are gone before they were read.
//!
//! The lane stands still with an alarm, and goes on once somebody decided where: nothing is skipped
//! in silence. What the brokers lost with the records is lost; nothing else may be.

use std::time::Duration;

use anyhow::ensure;
use postrider_bench::now_us;
use postrider_bench::rig::{endpoint_id, slice_of};

use super::{Row, nothing};
use crate::kafka::tool;
use crate::stage::{DISPATCHERS, PROGRESS_WITHIN, SESSION, SLICES, Stage, Taken, dispatcher};

/// How long before the records went an event may have been written that was not yet read.
const UNREAD_US: u64 = 10_000_000;
/// What a dispatcher says of a lane that stands still.
const ALARMS: [&str; 4] = [
    "offset out of range: lane stopped",
    "the topic or partition does not exist any more: lane stopped",
    OUT_OF_RANGE,
    "the broker does not know it: this lane stands still",
];
/// How long it may take to say so.
const ALARM_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(90);
/// The alarm of a lane whose offset has to be moved by hand.
const OUT_OF_RANGE: &str = "a lane cannot be read where it was left";
/// The partition that is cut off.
const SLICE: u16 = 0;

/// Row 12, what retention does.
pub const OVERTAKEN: Row = Row {
    number: "12a",
    name: "overtaken",
    injected: "while no dispatcher runs, deliveries [0] loses all its records; afterwards its group \
               offset is moved by hand, as the operator's guide says",
    holds: "an alarm within 60 s, and nothing of the slice is attempted until then",
    lasts: 15.0,
    prepare: nothing,
    run: overtaken,
};

/// Row 12, what an administrator does.
pub const MADE_ANEW: Row = Row {
    number: "12b",
    name: "made-anew",
    injected: "deliveries is deleted and made anew under load; afterwards the dispatchers are \
               started anew, and offsets moved by hand that they say are out of range",
    holds: "an alarm within 60 s",
    lasts: 15.0,
    prepare: nothing,
    run: made_anew,
};

fn overtaken(stage: &mut Stage, lasts: Duration) -> anyhow::Result<()> {
    let began_us = now_us();
    stop_all(stage)?;
    stage.hold(lasts);
    let topic = stage.installation.topic("deliveries");
    let records = format!(
        r#"{{"partitions":[{{"topic":"{topic}","partition":{SLICE},"offset":-1}}],"version":1}}"#
    );
    let file = stage.installation.file("records.json", records.as_bytes());
    let file = file.display().to_string();
    let arguments = [
        "--bootstrap-server",
        stage.cluster.bootstrap(),
        "--offset-json-file",
        &file,
    ];
    tool("org.apache.kafka.tools.DeleteRecordsCommand", &arguments)?;
    stage.note(format!("{topic} [{SLICE}] has lost all its records"));
    stage.taken.push(Taken {
        slice: Some(SLICE),
        since_us: began_us.saturating_sub(UNREAD_US),
        until_us: now_us(),
    });
    let (event, at) = (stage.written()?, now_us());
    start_all(stage);
    wait_for_alarm(stage, at)?;
    stage.hold(lasts);
    let skipped = stage.arrivals()?.iter().filter(|arrival| {
        let number = usize::try_from(arrival.event).unwrap_or(usize::MAX);
        let first = arrival.attempt == 1 && number < usize::MAX && number >= event;
        first && slice_of(&endpoint_id(arrival.receiver), SLICES) == SLICE
    });
    let skipped = skipped.count();
    ensure!(
        skipped == 0,
        "{skipped} deliveries came from a lane that stands still"
    );
    stop_all(stage)?;
    move_offsets(stage, &format!("{topic}:{SLICE}"))?;
    start_all(stage);
    finish(stage, "offsets moved", began_us)
}

fn made_anew(stage: &mut Stage, lasts: Duration) -> anyhow::Result<()> {
    let began_us = now_us();
    let topic = stage.installation.topic("deliveries");
    let arguments = [
        "--bootstrap-server",
        stage.cluster.bootstrap(),
        "--delete",
        "--topic",
        &topic,
    ];
    tool("org.apache.kafka.tools.TopicCommand", &arguments)?;
    // what is routed from now on is written again until there is a topic
    let deleted_us = now_us();
    stage.note(format!("{topic} is deleted"));
    stage.hold(Duration::from_secs(5));
    stage.wait("the topic made anew", |stage| {
        let applied = stage.installation.postrider(&["topics", "apply"]);
        Ok((applied.code == Some(0)).then_some(()))
    })?;
    stage.note(format!("{topic} is made anew"));
    stage.taken.push(Taken {
        slice: None,
        since_us: began_us.saturating_sub(UNREAD_US),
        until_us: deleted_us,
    });
    wait_for_alarm(stage, began_us)?;
    stage.hold(lasts);
    let lanes = out_of_range(stage, &topic);
    stop_all(stage)?;
    if !lanes.is_empty() {
        move_offsets(stage, &format!("{topic}:{}", lanes.join(",")))?;
    }
    start_all(stage);
    finish(stage, "dispatchers started anew", began_us)
}

/// The partitions of a topic that dispatchers say are out of range: an offset of the old topic was
/// committed when the new one was there. The others go on by themselves.
fn out_of_range(stage: &Stage, topic: &str) -> Vec<String> {
    let said = format!("topic={topic} partition=");
    let mut found = Vec::new();
    for worker in stage.workers.values() {
        let log = worker.process.log();
        let alarms = log.lines().filter(|line| line.contains(OUT_OF_RANGE));
        let after = alarms.filter_map(|line| line.split_once(&said));
        found.extend(after.filter_map(|(_, rest)| Some(rest.split(' ').next()?.to_owned())));
    }
    found.sort();
    found.dedup();
    found
}

fn stop_all(stage: &mut Stage) -> anyhow::Result<()> {
    stage.note("SIGTERM for all dispatchers");
    let names: Vec<String> = (1..=DISPATCHERS).map(dispatcher).collect();
    for name in &names {
        stage.worker(name).process.terminate();
    }
    for name in &names {
        let code = stage.worker(name).process.wait(STOP_WITHIN);
        ensure!(code == Some(0), "{name} ended with {code:?} after SIGTERM");
        stage.bury(name)?;
    }
    Ok(())
}

fn start_all(stage: &mut Stage) {
    stage.note("all dispatchers start");
    (1..=DISPATCHERS).for_each(|number| stage.spawn(&dispatcher(number)));
}

fn wait_for_alarm(stage: &mut Stage, since_us: u64) -> anyhow::Result<()> {
    let found = stage.wait("an alarm", |stage| {
        let logs = stage.workers.values().map(|worker| worker.process.log());
        let logs: Vec<String> = logs.collect();
        let said = ALARMS
            .iter()
            .find(|alarm| logs.iter().any(|log| log.contains(*alarm)));
        Ok(said.copied())
    })?;
    let took = Duration::from_micros(now_us() - since_us);
    stage.note(format!("alarm: {found}"));
    ensure!(took <= ALARM_WITHIN, "the alarm came after {took:?} only");
    Ok(())
}

fn move_offsets(stage: &mut Stage, lane: &str) -> anyhow::Result<()> {
    let group = stage.installation.topic("dispatcher");
    let bootstrap = stage.cluster.bootstrap().to_owned();
    let arguments = [
        "--bootstrap-server",
        &bootstrap,
        "--group",
        &group,
        "--topic",
        lane,
        "--reset-offsets",
        "--to-earliest",
        "--execute",
    ];
    let said = tool(
        "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
        &arguments,
    )?;
    stage.note(format!("offsets of {lane} are moved to the oldest record"));
    ensure!(
        said.contains(lane.split(':').next().unwrap_or(lane)),
        "{said}"
    );
    Ok(())
}

fn finish(stage: &mut Stage, what: &str, began_us: u64) -> anyhow::Result<()> {
    (1..=DISPATCHERS).for_each(|number| stage.wait_until_started(&dispatcher(number)));
    stage.healed(what, began_us, SESSION + PROGRESS_WITHIN)
}
