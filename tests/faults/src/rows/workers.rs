//! Workers that stop, crash, freeze, join and leave.

use std::time::{Duration, Instant};

use anyhow::ensure;
use postrider_bench::now_us;

use super::brokers::lasting;
use super::{Row, nothing};
use crate::fault::Fault;
use crate::stage::{DISPATCHERS, PROGRESS_WITHIN, SESSION, Stage, dispatcher};

/// How much longer than its session a zombie is frozen.
const PAST_SESSION: Duration = Duration::from_secs(10);
/// How long a worker that was told to stop may take.
const STOP_WITHIN: Duration = Duration::from_secs(90);
/// Between two that join or leave.
const STORM_EVERY: Duration = Duration::from_secs(3);
/// Before this a second signal is taken for the first one, sent twice.
const SECOND_AFTER: Duration = Duration::from_millis(1_200);

/// Row 16, without its points.
pub const KILLED: Row = Row {
    number: "16",
    name: "killed",
    injected: "SIGKILL for a dispatcher, started again after the time",
    holds: "nothing more",
    lasts: 20.0,
    prepare: nothing,
    run: killed,
};

/// Row 17.
pub const SIGTERM: Row = Row {
    number: "17",
    name: "sigterm",
    injected: "SIGTERM for a dispatcher and for the router; then SIGTERM twice for a dispatcher",
    holds: "a stop in order ends with 0 and repeats nothing",
    lasts: 5.0,
    prepare: nothing,
    run: sigterm,
};

/// Row 18.
pub const ZOMBIE: Row = Row {
    number: "18",
    name: "zombie",
    injected: "SIGSTOP for a dispatcher until 10 s after its session, then SIGCONT",
    holds: "nothing of what it owned is attempted by it once it wakes",
    lasts: SESSION.as_secs() as f64 + PAST_SESSION.as_secs() as f64,
    prepare: nothing,
    run: zombie,
};

/// Row 19.
pub const STORM: Row = Row {
    number: "19",
    name: "storm",
    injected: "every 3 s another dispatcher joins, or one leaves in order",
    holds: "joining and leaving repeats nothing",
    lasts: 300.0,
    prepare: nothing,
    run: storm,
};

/// Row 7, at the moment that matters most.
pub const UNHEARD: Row = Row {
    number: "7b",
    name: "unheard",
    injected: "six times: a dispatcher joins, and when another hands a slice over to it, it hears no \
               broker for the time, so that it does not learn of it",
    holds: "nothing more",
    lasts: 4.0,
    prepare: nothing,
    run: unheard,
};

fn killed(stage: &mut Stage, lasts: Duration) -> anyhow::Result<()> {
    let number = stage.random.usize(1..=DISPATCHERS);
    lasting(stage, Fault::DispatcherKilled(number), lasts)
}

fn sigterm(stage: &mut Stage, lasts: Duration) -> anyhow::Result<()> {
    let number = stage.random.usize(1..=DISPATCHERS);
    lasting(stage, Fault::DispatcherStopped(number), lasts)?;

    let began_us = now_us();
    stage.note("SIGTERM for the router");
    stage.worker("router").process.terminate();
    let code = stage.worker("router").process.wait(STOP_WITHIN);
    ensure!(
        code == Some(0),
        "the router ended with {code:?} after SIGTERM"
    );
    stage.bury("router")?;
    stage.hold(lasts);
    stage.spawn("router");
    stage.wait_until_started("router");
    stage.healed("SIGTERM for the router", began_us, PROGRESS_WITHIN)?;

    let name = dispatcher(number);
    let began_us = now_us();
    let process = &mut stage.worker(&name).process;
    let pid = process.pid();
    process.terminate();
    stage.note(format!("SIGTERM for {name}, and once more"));
    stage.hold(SECOND_AFTER);
    let process = &mut stage.worker(&name).process;
    // it may have ended by the first one
    if process.ended().is_none() {
        process.terminate();
    }
    let code = stage.worker(&name).process.wait(STOP_WITHIN);
    stage.note(format!("it ended with {code:?}"));
    stage.may_lose(Some(pid), began_us);
    stage.bury(&name)?;
    stage.spawn(&name);
    stage.healed("SIGTERM twice", began_us, SESSION + PROGRESS_WITHIN)?;
    stage.wait_until_started(&name);
    Ok(())
}

fn zombie(stage: &mut Stage, lasts: Duration) -> anyhow::Result<()> {
    let number = stage.random.usize(1..=DISPATCHERS);
    lasting(stage, Fault::DispatcherFrozen(number), lasts)
}

fn storm(stage: &mut Stage, lasts: Duration) -> anyhow::Result<()> {
    let names = [DISPATCHERS + 1, DISPATCHERS + 2].map(dispatcher);
    for (name, last) in names.iter().zip(20..) {
        stage.network.add(name, &format!("10.77.0.{last}"))?;
    }
    let (began, began_us) = (Instant::now(), now_us());
    stage.note("the storm begins");
    for turn in 0.. {
        if began.elapsed() >= lasts {
            break;
        }
        let name = &names[turn % names.len()];
        toggle(stage, name)?;
        stage.hold(STORM_EVERY);
    }
    for name in &names {
        if stage.workers.contains_key(name) {
            toggle(stage, name)?;
        }
    }
    stage.healed("the storm", began_us, PROGRESS_WITHIN)
}

/// The group gives a slice away once its owner has handed it over; who gets it is told with the
/// answer to a heartbeat, of which there is one a second.
fn unheard(stage: &mut Stage, lasts: Duration) -> anyhow::Result<()> {
    const TURNS: usize = 6;
    let joins = dispatcher(DISPATCHERS);
    for _ in 0..TURNS {
        let before = said_by_others(stage, "slices assigned");
        stage.note(format!("SIGTERM for {joins}"));
        stage.worker(&joins).process.terminate();
        let code = stage.worker(&joins).process.wait(STOP_WITHIN);
        ensure!(code == Some(0), "{joins} ended with {code:?} after SIGTERM");
        stage.bury(&joins)?;
        stage.wait("others have its slices", |stage| {
            Ok((said_by_others(stage, "slices assigned") > before).then_some(()))
        })?;
        let before = said_by_others(stage, "slices revoked");
        stage.spawn(&joins);
        stage.wait("a slice is handed over", |stage| {
            Ok((said_by_others(stage, "slices revoked") > before).then_some(()))
        })?;
        lasting(stage, Fault::WorkerDeaf(joins.clone()), lasts)?;
        // the next turn would give a slice that nobody has to somebody
        stage.wait_until_all_arrive("what was written before")?;
    }
    Ok(())
}

/// How often all dispatchers but the last have said this.
fn said_by_others(stage: &mut Stage, what: &str) -> usize {
    let logs = (1..DISPATCHERS).map(|number| stage.worker(&dispatcher(number)).process.log());
    logs.map(|log| log.matches(what).count()).sum()
}

/// One that is there leaves, one that is not joins.
fn toggle(stage: &mut Stage, name: &str) -> anyhow::Result<()> {
    if !stage.workers.contains_key(name) {
        stage.note(format!("{name} joins"));
        stage.spawn(name);
        return Ok(());
    }
    stage.wait("it hears SIGTERM", |stage| {
        Ok(stage.worker(name).process.hears_sigterm().then_some(()))
    })?;
    stage.note(format!("{name} leaves"));
    stage.worker(name).process.terminate();
    let code = stage.worker(name).process.wait(STOP_WITHIN);
    ensure!(code == Some(0), "{name} ended with {code:?} after SIGTERM");
    stage.bury(name)
}
