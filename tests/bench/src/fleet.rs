//! What can be done to the workers of an experiment while it runs.
//!
//! Decides how one that is gone gets another in its place, and its names then. Leaves what is done
//! when to the profiles.

use std::process::Command;
use std::time::Duration;

use anyhow::ensure;
use postrider_e2e::{Installation, Process};

use crate::report::Folder;
use crate::samples::Sampler;

/// How long a process may take to stop in order on a busy machine.
pub(crate) const STOP_WITHIN: Duration = Duration::from_secs(90);

/// Workers by number: 0 is the router, those from 1 on are dispatchers.
pub struct Fleet<'a> {
    pub(crate) workers: &'a mut Vec<Process>,
    /// How many there were in each place.
    pub(crate) lives: &'a mut Vec<u32>,
    pub(crate) installation: &'a Installation,
    pub(crate) sampler: &'a Sampler,
    pub(crate) folder: &'a Folder,
}

/// The name of a worker.
pub fn worker_name(number: usize) -> String {
    match number {
        0 => "router".to_owned(),
        _ => format!("dispatcher-{number}"),
    }
}

impl Fleet<'_> {
    /// Ends it without warning.
    pub fn kill(&mut self, number: usize) {
        self.workers[number].kill();
    }

    /// Ends it in order, and waits until it is gone.
    ///
    /// # Errors
    /// It ended badly.
    pub fn stop(&mut self, number: usize) -> anyhow::Result<()> {
        self.workers[number].terminate();
        let code = self.workers[number].wait(STOP_WITHIN);
        let name = worker_name(number);
        ensure!(code == Some(0), "{name} ended with {code:?}");
        Ok(())
    }

    /// Another one in the place of one that is gone, or one more. In samples and logs each after
    /// the first has a number of its own: `dispatcher-1.2`.
    pub fn start(&mut self, number: usize) {
        if number == self.lives.len() {
            self.lives.push(0);
        }
        self.lives[number] += 1;
        let name = match self.lives[number] {
            1 => worker_name(number),
            life => format!("{}.{life}", worker_name(number)),
        };
        let role = if number == 0 { "router" } else { "dispatcher" };
        let log = self.folder.file(&format!("{name}.log"));
        let worker = self.installation.worker_logging_to(&[role], log);
        self.sampler.watch(&name, worker.pid());
        if number == self.workers.len() {
            self.workers.push(worker);
        } else {
            self.workers[number] = worker;
        }
    }

    /// Waits until one that was started says so.
    pub fn wait_until_at_work(&mut self, number: usize, limit: Duration) {
        let words = if number == 0 {
            "intake partitions taken over"
        } else {
            "slices assigned"
        };
        self.workers[number].wait_for_log(limit, words);
    }

    /// The process of one.
    pub fn process(&self, number: usize) -> &Process {
        &self.workers[number]
    }

    /// How many dispatchers there are.
    pub fn dispatchers(&self) -> usize {
        self.workers.len() - 1
    }
}

/// Sends a signal to a process of ours that is no worker.
///
/// # Errors
/// It is gone.
pub fn signal(pid: u32, name: &str) -> anyhow::Result<()> {
    let order = format!("kill -{name} {pid}");
    let status = Command::new("sh").args(["-c", &order]).status()?;
    ensure!(status.success(), "{order}: {status}");
    Ok(())
}
