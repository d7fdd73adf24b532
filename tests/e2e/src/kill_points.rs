//! A worker kills itself at each named step of a delivery's path, and another goes on.
//!
//! Decides the course of one experiment: a router and a dispatcher of the test build, one of them
//! armed, a small load that brings every step about, the kill, a fresh worker in its place, more
//! load, the end. The same course without a kill, in which everything is done wrongly in one way,
//! shows that the audit can see it. Leaves where a worker is killed to `cases`, the load to `load`,
//! what has to hold to `audit`.

mod audit;
mod cases;
mod load;
mod report;

use std::os::unix::process::ExitStatusExt;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use postrider_points::Named;
use postrider_test_support::{Broker, Verifier};

use crate::senders::Killed;
use crate::{Installation, LOOK_EVERY, Process, SECRET, now_ms};
pub use audit::Audit;
use audit::Observed;
pub use cases::{Case, cases};
use cases::{Role, When};
use load::{Batch, Load};
pub use report::{Outcome, Table};

/// How long a worker may take to start on a busy machine.
const START_WITHIN: Duration = Duration::from_secs(60);
/// How long until the step is reached.
const REACHED_WITHIN: Duration = Duration::from_secs(60);
/// How long until everything arrived: a session, a retry of 31 s, an interval of 30 s, and as
/// much again for a busy machine.
const ARRIVED_WITHIN: Duration = Duration::from_secs(140);
/// As much where nobody was killed.
const ARRIVED_CALMLY_WITHIN: Duration = Duration::from_secs(70);
const STOP_WITHIN: Duration = Duration::from_secs(60);
/// Behind the last due time: what comes then has come.
const SETTLE: Duration = Duration::from_secs(2);
const SIGKILL: i32 = 9;
const SLICES: u16 = 2;

/// Receivers for any number of experiments at once, which are told apart by path.
#[must_use]
pub fn receivers() -> Verifier {
    Verifier::start(SECRET, load::RULES)
}

/// Runs the course: a worker is killed when it comes to the case's point for the time that the number
/// says, from 1, and all of them have the fault. What came of it.
///
/// # Errors
/// The point was not reached, or something does not start or stop.
pub fn run(
    broker: &Broker,
    verifier: &Verifier,
    kill: Option<(&Case, u32)>,
    fault: Option<&Named>,
) -> anyhow::Result<Outcome> {
    let point = kill.map_or("no point", |(case, _)| case.point.name);
    let mut course = Course::start(broker, verifier, kill, fault)?;
    let began_ms = now_ms();
    course.warm_up()?;
    for batch in Batch::first() {
        course.load.publish(&batch)?;
        thread::sleep(load::PAUSE);
    }
    let mut killed = None;
    if let Some((case, _)) = kill {
        let dead = course.until_killed(case)?;
        course.workers.retain(|worker| worker.pid() != dead.pid);
        course.begin(case.who, &[]);
        killed = Some(dead);
    }
    course.load.publish(&Batch::again())?;
    course.wait_for_all(match kill {
        Some(_) => ARRIVED_WITHIN,
        None => ARRIVED_CALMLY_WITHIN,
    });
    let audit = course.finish(killed)?;
    Ok(Outcome {
        point,
        nth: kill.map_or(0, |(_, nth)| nth),
        reached_ms: killed.map_or(0, |killed| killed.at_ms.saturating_sub(began_ms)),
        audit,
    })
}

/// One experiment under way.
struct Course<'a> {
    installation: Installation,
    verifier: &'a Verifier,
    load: Load,
    workers: Vec<Process>,
}

impl<'a> Course<'a> {
    fn start(
        broker: &Broker,
        verifier: &'a Verifier,
        kill: Option<(&Case, u32)>,
        fault: Option<&Named>,
    ) -> anyhow::Result<Self> {
        let name = |named: Option<&Named>| named.map_or("none", |named| named.name);
        let point = kill.map(|(case, _)| case.point);
        let name = format!("{}+{}", name(point), name(fault));
        let installation = Installation::new(broker, SLICES, &[load::INTAKE]);
        let load = Load::new(&installation, &name)?;
        installation.endpoints(&load.endpoints(verifier));
        let mut course = Self {
            installation,
            verifier,
            load,
            workers: Vec::new(),
        };
        for role in [Role::Router, Role::Dispatcher] {
            let here = kill.filter(|(case, _)| case.who == role);
            let kill_at = here.map(|(case, nth)| format!("{}={nth}", case.point.name));
            let flags = [
                ("--kill-at", kill_at.as_deref()),
                ("--fault", fault.map(|f| f.name)),
            ];
            let given = flags
                .iter()
                .filter_map(|(flag, value)| Some([*flag, (*value)?]));
            let flags: Vec<&str> = given.flatten().collect();
            course.begin(role, &flags);
        }
        Ok(course)
    }

    fn begin(&mut self, role: Role, flags: &[&str]) {
        let worker = self.installation.test_build(role.name(), flags);
        self.workers.push(worker);
    }

    /// One event that arrives before there are more: both workers are at work, or one is gone.
    fn warm_up(&mut self) -> anyhow::Result<()> {
        self.load.publish(&Batch::warm_up())?;
        self.wait_for(1)
    }

    /// So many requests came, or a worker is gone.
    fn wait_for(&mut self, requests: usize) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_WITHIN;
        let gone = |workers: &mut [Process]| workers.iter_mut().any(|w| w.ended().is_some());
        while self.load.arrived(&self.verifier.receipts()) < requests && !gone(&mut self.workers) {
            ensure!(Instant::now() < deadline, "hardly anything arrives");
            thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Brings about what the case takes, until its worker is gone.
    fn until_killed(&mut self, case: &Case) -> anyhow::Result<Killed> {
        let place = match case.who {
            Role::Router => 0,
            Role::Dispatcher => 1,
        };
        let pid = self.workers[place].pid();
        if case.when != When::Load {
            self.wait_for(load::SOME)?;
        }
        match case.when {
            When::Load => {}
            When::Stop => self.workers[place].terminate(),
            When::Join => self.begin(Role::Dispatcher, &[]),
        }
        let worker = &mut self.workers[place];
        let deadline = Instant::now() + REACHED_WITHIN;
        let status = loop {
            if let Some(status) = worker.ended() {
                break status;
            }
            ensure!(
                Instant::now() < deadline,
                "{} was not reached within {REACHED_WITHIN:?}:\n{}",
                case.point.name,
                worker.log()
            );
            thread::sleep(LOOK_EVERY);
        };
        let told = worker
            .log()
            .contains(&format!("killed at {}", case.point.name));
        ensure!(
            told && status.signal() == Some(SIGKILL),
            "it ended with {status} before {} was reached:\n{}",
            case.point.name,
            worker.log()
        );
        let at_ms = worker.last_word_ms().context("it said where")?;
        Ok(Killed { pid, at_ms })
    }

    /// Waits until everything has ended as it should and nothing is due any more, or out of time.
    fn wait_for_all(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        loop {
            let missing = self.load.missing(&self.verifier.receipts());
            let dead = || self.load.not_dead(&self.installation.read("dead-letters"));
            if (missing == 0 && dead() == 0) || Instant::now() >= deadline {
                break;
            }
            thread::sleep(LOOK_EVERY * 5);
        }
        let due = |installation: &Installation| {
            let attempts = installation.attempts();
            attempts.iter().filter_map(|a| a.next_ms()).max()
        };
        let left = |due_ms: u64| Duration::from_millis(due_ms.saturating_sub(now_ms()));
        let settled = due(&self.installation).map_or(Duration::ZERO, left) + SETTLE;
        thread::sleep(settled.min(load::LONGEST_WAIT + SETTLE));
    }

    /// Ends every worker in order, so that what they know is written, and reads it.
    fn finish(mut self, killed: Option<Killed>) -> anyhow::Result<Audit> {
        for worker in &self.workers {
            worker.terminate();
        }
        for worker in &mut self.workers {
            let code = worker.wait(STOP_WITHIN);
            ensure!(
                code == Some(0),
                "a worker ended with {code:?}:\n{}",
                worker.log()
            );
        }
        let receipts = self.load.own(self.verifier.receipts());
        Ok(Audit::of(&Observed {
            load: &self.load,
            receipts: &receipts,
            attempts: &self.installation.attempts(),
            dead_letters: &self.installation.read("dead-letters"),
            killed,
        }))
    }
}
