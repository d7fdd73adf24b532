//! Many events over many endpoints while one dispatcher is killed and one is stopped.
//!
//! Decides the course of the experiment. The receiver verifies with a library that is not ours.
//! Leaves what it shows to [`Report`].

mod report;

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use postrider_test_support::{Broker, Verifier};

use crate::{Attempt, Installation, Process, SECRET, now_ms, wait_until};
pub use report::Report;
use report::{Ended, Observed, pairs, unrecorded};

const INTAKE: [&str; 3] = ["orders", "payments", "refunds"];
/// Longest time to the next delivery, a take-over after a crash on a default broker included.
const STANDSTILL_MAX: Duration = Duration::from_secs(90);
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Events in all.
    pub events: usize,
    /// Endpoints; a fifth of them share their tenant with another one.
    pub endpoints: usize,
    /// Slices of the installation.
    pub slices: u16,
    /// Whether nobody is killed or stopped: for measuring.
    pub calm: bool,
}

impl Plan {
    fn tenants(&self) -> usize {
        (self.endpoints * 4).div_ceil(5)
    }

    /// Every (event, endpoint's path) that must arrive.
    fn expected(&self) -> BTreeSet<(String, String)> {
        let tenants = self.tenants();
        let events = (0..self.events).flat_map(|event| {
            let endpoints = (event % tenants..self.endpoints).step_by(tenants);
            endpoints.map(move |endpoint| (event_id(event), path(endpoint)))
        });
        events.collect()
    }

    fn endpoints_yaml(&self, verifier: &Verifier) -> String {
        let tenants = self.tenants();
        let documents = (0..self.endpoints).map(|endpoint| {
            format!(
                "---\nid: ep_{endpoint}\ntenant: t{}\nurl: {}\n\
                 signing: {{ scheme: standard, secrets: [{{ id: s1, value: {SECRET} }}] }}\n",
                endpoint % tenants,
                verifier.url(&path(endpoint)),
            )
        });
        documents.collect()
    }

    /// Puts events on all intake topics.
    fn publish(&self, installation: &Installation, events: Range<usize>) {
        let tenants = self.tenants();
        for (n, intake) in INTAKE.iter().enumerate() {
            let lines = events.clone().skip(n).step_by(INTAKE.len()).map(|event| {
                format!(
                    r#"{{"id":"{}","type":"payment.captured","tenant":"t{}","amount":{event}}}"#,
                    event_id(event),
                    event % tenants
                )
            });
            installation.publish(intake, &lines.collect::<Vec<_>>());
        }
    }
}

fn event_id(event: usize) -> String {
    format!("event-{event:06}")
}

fn path(endpoint: usize) -> String {
    format!("/ep_{endpoint}")
}

struct Running {
    installation: Installation,
    verifier: Verifier,
    router: Process,
    dispatchers: Vec<Process>,
    expected: usize,
}

/// Runs it; takes as long as it takes, but never `STANDSTILL_MAX` without a delivery.
///
/// # Panics
/// When nothing moves any more.
pub fn run(broker: &Broker, plan: Plan) -> Report {
    let mut running = start(broker, plan);
    // one event per tenant first: both dispatchers are at work when it begins
    let first = plan.tenants().min(plan.events);
    plan.publish(&running.installation, 0..first);
    running.wait_for_count(first);
    let idle_cpu = (running.router_cpu(), running.dispatcher_cpu());
    let published_ms = now_ms();
    plan.publish(&running.installation, first..plan.events);
    let mut stopped = None;
    let mut killed = None;
    if !plan.calm {
        running.wait_for_share(0.2);
        stopped = Some(running.stop_one());
        running.wait_for_share(0.45);
        killed = Some(running.kill_one());
    }
    let expected = plan.expected();
    running.wait_for_all(&expected);
    running.wait_for_take_over();
    let attempts = running.settled_attempts();
    Report::new(&Observed {
        plan,
        expected,
        receipts: running.verifier.receipts(),
        attempts,
        published_ms,
        stopped,
        killed,
        router_cpu: running.router_cpu() - idle_cpu.0,
        dispatcher_cpu: running.dispatcher_cpu() - idle_cpu.1,
    })
}

fn start(broker: &Broker, plan: Plan) -> Running {
    let verifier = Verifier::start(SECRET, &[]);
    let installation = Installation::new(broker, plan.slices, &INTAKE);
    installation.endpoints(&plan.endpoints_yaml(&verifier));
    let mut router = installation.worker(&["router"]);
    let mut first = installation.worker(&["dispatcher"]);
    let mut second = installation.worker(&["dispatcher"]);
    router.wait_for_log(STOP_WITHIN, "intake partitions taken over");
    first.wait_for_log(STOP_WITHIN, "slices assigned");
    second.wait_for_log(STOP_WITHIN, "slices assigned");
    Running {
        installation,
        verifier,
        router,
        dispatchers: vec![first, second],
        expected: plan.expected().len(),
    }
}

impl Running {
    fn router_cpu(&self) -> f64 {
        self.router.cpu_seconds()
    }

    fn dispatcher_cpu(&self) -> f64 {
        self.dispatchers.iter().map(Process::cpu_seconds).sum()
    }

    fn wait_for_share(&self, share: f64) {
        self.wait_for_count((self.expected as f64 * share) as usize);
    }

    fn wait_for_count(&self, count: usize) {
        wait_until("some of the deliveries", STANDSTILL_MAX, || {
            (self.verifier.count() >= count).then_some(())
        });
    }

    /// Everything expected arrived; a limit only for the time without any delivery.
    fn wait_for_all(&self, expected: &BTreeSet<(String, String)>) {
        let mut count = 0;
        // reading everything costs: not before it can be enough
        while count < self.expected || !expected.is_subset(&pairs(&self.verifier.receipts())) {
            count = wait_until("the next delivery", STANDSTILL_MAX, || {
                Some(self.verifier.count()).filter(|now| *now > count)
            });
        }
    }

    /// What the killed dispatcher had sent and could not record is recorded by its successor. It
    /// may have sent everything there was, so that all arrived long before its slices have a new
    /// owner.
    fn wait_for_take_over(&self) {
        let mut left = usize::MAX;
        while left > 0 {
            let receipts = self.verifier.receipts();
            left = wait_until("the next attempt record", STANDSTILL_MAX, || {
                let now_left = unrecorded(&self.installation.attempts(), &receipts);
                Some(now_left).filter(|now_left| *now_left < left)
            });
        }
    }

    /// SIGTERM for the second dispatcher, and another in its place at once.
    fn stop_one(&mut self) -> Ended {
        let (pid, at_ms) = (self.dispatchers[1].pid(), now_ms());
        self.dispatchers[1].terminate();
        let replacement = self.installation.worker(&["dispatcher"]);
        self.dispatchers.push(replacement);
        let code = self.dispatchers[1].wait(STOP_WITHIN);
        Ended {
            pid,
            at_ms,
            gone_ms: now_ms(),
            code,
        }
    }

    /// SIGKILL for the first dispatcher, and another in its place at once.
    fn kill_one(&mut self) -> Ended {
        let (pid, at_ms) = (self.dispatchers[0].pid(), now_ms());
        self.dispatchers[0].kill();
        let gone_ms = now_ms();
        let replacement = self.installation.worker(&["dispatcher"]);
        self.dispatchers.push(replacement);
        Ended {
            pid,
            at_ms,
            gone_ms,
            code: None,
        }
    }

    /// Ends every process in order, so that what they know is written, and reads it.
    fn settled_attempts(&mut self) -> Vec<Attempt> {
        self.router.terminate();
        // the last two live, whether or not others went before
        let ended = self.dispatchers.len() - 2;
        let living = &mut self.dispatchers[ended..];
        living.iter().for_each(Process::terminate);
        for dispatcher in living {
            let code = dispatcher.wait(STOP_WITHIN);
            assert_eq!(code, Some(0), "a dispatcher stopped in order");
        }
        assert_eq!(self.router.wait(STOP_WITHIN), Some(0), "the router too");
        self.installation.attempts()
    }
}
