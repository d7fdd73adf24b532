//! The matrix: every fault there is, with its number, its name and what must hold.
//!
//! Decides how a row is run. What it does is in the file of its family. What must hold of all rows
//! is in `judge`; a row's own marks are what it adds.

pub mod brokers;
pub mod cuts;
pub mod disk;
pub mod line;
pub mod topics;
pub mod workers;

use std::time::Duration;

use postrider_bench::report::{Folder, Report, Verdict};

use crate::judge::{self, judge};
use crate::stage::Stage;

/// How long the load goes on before a fault and after its heal.
const CALM: Duration = Duration::from_secs(10);

/// A fault.
pub struct Row {
    /// In the matrix; a letter where a number has several.
    pub number: &'static str,
    /// What users call it.
    pub name: &'static str,
    /// What is done.
    pub injected: &'static str,
    /// What must hold beside what always must.
    pub holds: &'static str,
    /// How long the fault lasts, seconds.
    pub lasts: f64,
    /// Settings of single brokers, by number, that it takes; it may put them into the folder.
    pub prepare: fn(&Folder) -> anyhow::Result<Vec<BrokerSetting>>,
    /// Does it and undoes it; the time is how long it lasts.
    pub run: fn(&mut Stage, Duration) -> anyhow::Result<()>,
}

/// A setting of one broker: its number, the name, the value.
pub type BrokerSetting = (usize, String, String);

fn nothing(_: &Folder) -> anyhow::Result<Vec<BrokerSetting>> {
    Ok(Vec::new())
}

/// All of them.
pub const ROWS: [&Row; 18] = [
    &brokers::LEADER,
    &brokers::CONTROLLER,
    &brokers::GREY,
    &brokers::TWO_OF_THREE,
    &brokers::ROLLING,
    &cuts::CUT,
    &cuts::SPLIT,
    &cuts::ONE_WAY,
    &workers::UNHEARD,
    &cuts::RESETS,
    &line::LINE,
    &disk::DISK,
    &topics::OVERTAKEN,
    &topics::MADE_ANEW,
    &workers::KILLED,
    &workers::SIGTERM,
    &workers::ZOMBIE,
    &workers::STORM,
];

/// Five of them, shortened, on one cluster: what the tests of the repository run.
pub const SMOKE: Row = Row {
    number: "-",
    name: "smoke",
    injected: "five of the others one after the other, shortened",
    holds: "what the five must hold",
    lasts: 4.0,
    prepare: nothing,
    run: smoke,
};

fn smoke(stage: &mut Stage, lasts: Duration) -> anyhow::Result<()> {
    for row in [
        &brokers::LEADER,
        &brokers::CONTROLLER,
        &brokers::GREY,
        &workers::SIGTERM,
        &workers::KILLED,
    ] {
        (row.run)(stage, lasts)?;
    }
    Ok(())
}

/// By number or name.
pub fn find(what: &str) -> Option<&'static Row> {
    ROWS.into_iter()
        .chain([&SMOKE])
        .find(|row| row.name == what || row.number == what)
}

/// Runs one; its report is in the folder.
///
/// # Errors
/// What a fault happens to does not start, or what has to be read cannot be.
pub fn run(row: &Row, folder: &Folder, seed: u64, lasts: Duration) -> anyhow::Result<Report> {
    let course = |stage: &mut Stage| {
        stage.hold(CALM);
        (row.run)(stage, lasts)?;
        stage.hold(CALM);
        Ok(())
    };
    let prepared = (row.prepare)(folder)?;
    let settings = judge::settings(seed, lasts);
    staged(row.name, folder, seed, &settings, &prepared, course)
}

/// Runs a course on a stage of its own, and judges it: also one that did not come to its end.
///
/// # Errors
/// The stage does not start, or what has to be read cannot be.
pub fn staged(
    name: &str,
    folder: &Folder,
    seed: u64,
    settings: &serde_json::Value,
    brokers: &[BrokerSetting],
    course: impl FnOnce(&mut Stage) -> anyhow::Result<()>,
) -> anyhow::Result<Report> {
    let mut stage = Stage::start(folder.clone(), seed, brokers)?;
    // brokers that have just started take seconds to answer where others start beside them, and what
    // no commit is answered for is no work of a second
    let begun = stage.wait_until_all_arrive("what was written at first");
    let ended = begun.and_then(|()| course(&mut stage));
    if let Err(error) = &ended {
        stage.note(format!("{error:#}"));
    }
    let evidence = stage.end();
    stage.save()?;
    let mut report = judge(&stage, &evidence?, name, settings)?;
    let verdict = Verdict::of(ended.is_ok());
    report.mark(
        "came to its end",
        f64::from(u8::from(ended.is_ok())),
        "1".to_owned(),
        verdict,
    );
    report.save(folder)?;
    Ok(report)
}
