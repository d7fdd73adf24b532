//! Dispatchers come, go, die and freeze, and so does the broker, while a trickle of events goes
//! on; then the journal is audited for double owners, time without an owner, losses, repeats and
//! commits that go backwards.
//!
//! Decides what a course is made of. What is done when is in `course`, what it leaves behind in
//! [`journal`], what that shows in `audit`.

mod arrivals;
mod audit;
pub mod commits;
mod course;
mod endpoints;
mod fleet;
pub mod journal;
mod report;
mod sayings;
mod subject;
mod trickle;

use std::path::PathBuf;
use std::time::Duration;

pub use course::Experiment;
use fleet::Fleet;
use journal::{Folder, Journal, Setting};
pub use report::Report;
pub use subject::Subject;

/// What is to be done.
#[derive(Clone, Copy, Debug)]
pub enum Course {
    /// Anything, from a seed, for so long.
    Soak {
        /// How long.
        time: Duration,
        /// Same seed, same draws; what comes of them depends on who lives.
        seed: u64,
    },
    /// One experiment, so many times.
    Experiment(Experiment, usize),
}

/// Runs a course with so many dispatchers on a broker of its own, leaves its journal in `folder`,
/// and audits it.
///
/// # Errors
/// The folder cannot be written to, or an experiment comes to a standstill.
pub fn run(
    setting: Setting,
    course: Course,
    workers: u32,
    folder: PathBuf,
) -> anyhow::Result<Report> {
    let folder = Folder::create(folder)?;
    let limit = setting.session() * 3 + Duration::from_secs(120);
    let mut fleet = Fleet::start(setting, folder.clone(), workers)?;
    let done = match course {
        Course::Soak { time, seed } => {
            course::soak(&mut fleet, time, seed);
            Ok(())
        }
        Course::Experiment(experiment, times) => experiment.run(&mut fleet, times),
    };
    fleet.finish(limit)?;
    done?;
    audit(folder.path().to_owned())
}

/// Audits the journal that a run left in a folder.
///
/// # Errors
/// There is none.
pub fn audit(folder: PathBuf) -> anyhow::Result<Report> {
    Ok(Report::of(Journal::read(&Folder::of(folder))?))
}
