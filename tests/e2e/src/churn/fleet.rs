//! The broker, the router and the dispatchers of a course, and everything that is done to them.
//!
//! Decides how each action is carried out and written down. Leaves which one comes when to
//! `course`, and what may follow from it to `audit`.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use postrider_test_support::{Broker, Verifier};

use super::arrivals::Arrivals;
use super::endpoints::Endpoints;
use super::journal::{Action, Attempted, Folder, Setting, What, event_number};
use super::trickle::Trickle;
use super::{commits, sayings};
use crate::{Installation, LOOK_EVERY, Process, SECRET, kcat, now_ms, records};

const INTAKE: &str = "payments";
/// Endpoints below `/slow` take so long to answer, those below `/failing` refuse so many of a
/// hundred events at first, and each request says who sent it.
const RULES: [&str; 6] = [
    "--delay",
    "/slow=300",
    "--fail-share",
    "/failing=10",
    "--senders",
    "postrider",
];
/// How long a process may take to start or stop on a busy machine.
const STOP_WITHIN: Duration = Duration::from_secs(90);
/// How often a line says how it goes.
const SAY_EVERY: Duration = Duration::from_secs(300);

/// A dispatcher.
struct Worker {
    number: u32,
    process: Process,
    log: PathBuf,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    Frozen { until: Option<Instant> },
    Terminated,
}

pub(super) struct Fleet {
    pub(super) setting: Setting,
    folder: Folder,
    broker: Broker,
    installation: Installation,
    verifier: Verifier,
    router: Process,
    workers: Vec<Worker>,
    started: u32,
    trickle: Trickle,
    arrivals: Arrivals,
    actions: Vec<Action>,
    began: Instant,
    said: Instant,
}

impl Fleet {
    pub(super) fn start(setting: Setting, folder: Folder, workers: u32) -> anyhow::Result<Self> {
        fs::write(folder.file("setting.json"), serde_json::to_vec(&setting)?)?;
        let broker = broker(&setting);
        let verifier = Verifier::start(SECRET, &RULES);
        let installation =
            Installation::with(&broker, setting.slices, &[INTAKE], &sections(&setting));
        let endpoints = Endpoints::of(&setting);
        installation.endpoints(&endpoints.yaml(&verifier));
        let router = installation.worker_logging_to(&["router"], folder.file("router.log"));
        let client = installation.client();
        let topic = installation.topic(INTAKE);
        let mut fleet = Self {
            arrivals: Arrivals::of(&verifier, &endpoints, setting.slices),
            trickle: Trickle::start(&client, topic, endpoints, &setting)?,
            setting,
            folder,
            broker,
            installation,
            verifier,
            router,
            workers: Vec::new(),
            started: 0,
            actions: Vec::new(),
            began: Instant::now(),
            said: Instant::now(),
        };
        for _ in 0..workers {
            fleet.start_worker();
        }
        anyhow::ensure!(fleet.settle(STOP_WITHIN), "nothing is delivered");
        Ok(fleet)
    }

    fn note(&mut self, at_ms: u64, what: What) {
        self.actions.push(Action { at_ms, what });
    }

    /// Starts a dispatcher; its number.
    pub(super) fn start_worker(&mut self) -> u32 {
        self.started += 1;
        let number = self.started;
        let log = self.folder.file(&format!("worker-{number}.log"));
        let at_ms = now_ms();
        let process = self
            .installation
            .worker_logging_to(&["dispatcher"], log.clone());
        let pid = process.pid();
        self.workers.push(Worker {
            number,
            process,
            log,
            state: State::Running,
        });
        self.note(
            at_ms,
            What::Start {
                worker: number,
                pid,
            },
        );
        number
    }

    /// The dispatchers that are neither frozen nor told to stop.
    pub(super) fn running(&mut self) -> Vec<u32> {
        self.attend();
        let running = self
            .workers
            .iter()
            .filter(|worker| worker.state == State::Running);
        running.map(|worker| worker.number).collect()
    }

    /// The same, with those that are frozen.
    pub(super) fn standing(&mut self) -> usize {
        self.attend();
        let standing = self
            .workers
            .iter()
            .filter(|worker| worker.state != State::Terminated);
        standing.count()
    }

    /// As soon as it can hear it: one that has hardly begun dies of the signal.
    pub(super) fn terminate(&mut self, number: u32) {
        let deadline = Instant::now() + STOP_WITHIN;
        let deaf = |worker: &mut Worker| !worker.process.hears_sigterm();
        while self.worker(number).is_some_and(deaf) && Instant::now() < deadline {
            self.pause(LOOK_EVERY);
        }
        let at_ms = now_ms();
        if let Some(worker) = self.worker(number) {
            worker.process.terminate();
            worker.state = State::Terminated;
            self.note(at_ms, What::Terminate { worker: number });
        }
    }

    pub(super) fn kill(&mut self, number: u32) {
        let at_ms = now_ms();
        if let Some(worker) = self.worker(number) {
            worker.process.kill();
            self.note(at_ms, What::Kill { worker: number });
            self.attend();
        }
    }

    /// Freezes it, until [`Fleet::thaw`] when no time is given.
    pub(super) fn freeze(&mut self, number: u32, time: Option<Duration>) {
        let at_ms = now_ms();
        if let Some(worker) = self.worker(number) {
            worker.process.freeze();
            worker.state = State::Frozen {
                until: time.map(|time| Instant::now() + time),
            };
            self.note(at_ms, What::Freeze { worker: number });
        }
    }

    pub(super) fn thaw(&mut self, number: u32) {
        if let Some(worker) = self.worker(number) {
            worker.process.thaw();
            worker.state = State::Running;
            self.note(now_ms(), What::Thaw { worker: number });
        }
    }

    /// Everyone who is frozen goes on.
    pub(super) fn thaw_all(&mut self) {
        let frozen = |worker: &&Worker| matches!(worker.state, State::Frozen { .. });
        let frozen: Vec<u32> = self
            .workers
            .iter()
            .filter(frozen)
            .map(|w| w.number)
            .collect();
        frozen.into_iter().for_each(|number| self.thaw(number));
    }

    /// Ends the broker without warning, and starts it again after `down`.
    pub(super) fn kill_broker(&mut self, down: Duration) {
        self.note(now_ms(), What::KillBroker);
        self.broker.kill();
        self.pause(down);
        self.broker.start_again();
        self.note(now_ms(), What::BrokerReady);
    }

    /// Freezes the broker for `time`.
    pub(super) fn freeze_broker(&mut self, time: Duration) {
        self.note(now_ms(), What::FreezeBroker);
        self.broker.freeze();
        self.pause(time);
        self.broker.thaw();
        self.note(now_ms(), What::ThawBroker);
    }

    /// Lets `time` pass, and does what falls due meanwhile.
    pub(super) fn pause(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.attend();
            thread::sleep(LOOK_EVERY.min(until.saturating_duration_since(Instant::now())));
        }
    }

    /// Waits until every slice got an event that was published from now on; whether it did in
    /// time.
    pub(super) fn settle(&mut self, limit: Duration) -> bool {
        let from = self.trickle.count();
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            self.pause(LOOK_EVERY);
            self.arrivals.look();
            if self.arrivals.everywhere_since(from) {
                return true;
            }
        }
        false
    }

    /// The dispatcher at work for the experiment's subject, as soon as one is.
    pub(super) fn wait_for_owner(&mut self, limit: Duration) -> Option<u32> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            self.pause(LOOK_EVERY);
            self.arrivals.look();
            let sender = self.arrivals.sender_for_subject();
            let mut running = self.workers.iter().filter(|w| w.state == State::Running);
            if let Some(owner) = running.find(|w| Some(w.process.pid()) == sender) {
                return Some(owner.number);
            }
        }
        None
    }

    /// Waits until the experiment's subject got so many events.
    pub(super) fn wait_for_events(&mut self, count: usize) {
        while self.trickle.of_subject() < count {
            self.pause(LOOK_EVERY);
        }
    }

    /// Waits until a dispatcher has got slices `times` times since it was started; whether it did
    /// in time.
    pub(super) fn wait_for_slices(&mut self, number: u32, times: usize, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if self.assignments(number) >= times {
                return true;
            }
            self.pause(LOOK_EVERY);
        }
        false
    }

    /// How often a dispatcher has got slices.
    pub(super) fn assignments(&self, number: u32) -> usize {
        let worker = self.workers.iter().find(|worker| worker.number == number);
        worker.map_or(0, |worker| {
            worker.process.log().matches("slices assigned").count()
        })
    }

    fn worker(&mut self, number: u32) -> Option<&mut Worker> {
        self.attend();
        self.workers
            .iter_mut()
            .find(|worker| worker.number == number)
    }

    /// Notices who ended, lets go on whose time has come, says now and then how it goes.
    fn attend(&mut self) {
        let mut gone = Vec::new();
        self.workers
            .retain_mut(|worker| match worker.process.ended() {
                Some(status) => {
                    gone.push((worker.number, status));
                    false
                }
                None => true,
            });
        for (worker, status) in gone {
            let (code, signal) = (status.code(), status.signal());
            let ended = What::Ended {
                worker,
                code,
                signal,
            };
            self.note(now_ms(), ended);
        }
        let mut due = Vec::new();
        for worker in &mut self.workers {
            if let State::Frozen { until: Some(until) } = worker.state
                && until <= Instant::now()
            {
                worker.process.thaw();
                worker.state = State::Running;
                due.push(worker.number);
            }
        }
        for worker in due {
            self.note(now_ms(), What::Thaw { worker });
        }
        if self.said.elapsed() >= SAY_EVERY {
            self.said = Instant::now();
            self.say();
        }
    }

    /// One line: how much has happened, and what the processes hold.
    fn say(&mut self) {
        self.arrivals.look();
        let memory = self.workers.iter().map(|worker| {
            let mib = worker.process.memory_mib().unwrap_or_default();
            format!("{}:{mib}", worker.number)
        });
        eprintln!(
            "{:>3} min: {} actions, {} events, {} requests, {} of them repeated, {} to come; MiB: \
             router {}, dispatchers {}",
            self.began.elapsed().as_secs() / 60,
            self.actions.len(),
            self.trickle.count(),
            self.arrivals.requests(),
            self.arrivals.repeated(),
            self.trickle.count().saturating_sub(self.arrivals.events()),
            self.router.memory_mib().unwrap_or_default(),
            memory.collect::<Vec<_>>().join(" "),
        );
        // should it end badly, this much is there
        if let Err(error) = self.save_what_is_known() {
            eprintln!("not written: {error}");
        }
    }

    fn save_what_is_known(&self) -> anyhow::Result<()> {
        self.folder.write("actions.jsonl", &self.actions)?;
        self.folder.write("events.jsonl", &self.trickle.events())?;
        fs::copy(self.verifier.log(), self.folder.file("requests.jsonl"))?;
        Ok(())
    }

    /// Lets everything arrive, stops everyone in order and writes down what there is.
    pub(super) fn finish(mut self, limit: Duration) -> anyhow::Result<()> {
        self.thaw_all();
        if self.running().is_empty() {
            self.start_worker();
        }
        if !self.settle(limit) {
            eprintln!("some slice got nothing within {limit:?}");
        }
        if !self.trickle.stop() {
            eprintln!("not every event was acknowledged");
        }
        self.wait_for_all(limit);
        self.stop_all();
        self.save_what_is_known()?;
        self.broker.copy_logs(self.folder.path())?;
        self.save_attempts()?;
        let group = self.installation.topic("dispatcher");
        let commits = commits::of_group(self.installation.bootstrap(), &group);
        self.folder.write("commits.jsonl", &commits)?;
        let sayings = sayings::of_workers(&self.folder, self.started)?;
        self.folder.write("sayings.jsonl", &sayings)
    }

    /// Everything arrived, or nothing new did for so long: a limit lets much wait.
    fn wait_for_all(&mut self, standstill: Duration) {
        let mut deadline = Instant::now() + standstill;
        while self.arrivals.events() < self.trickle.count() && Instant::now() < deadline {
            let before = self.arrivals.events();
            self.pause(LOOK_EVERY);
            self.arrivals.look();
            if self.arrivals.events() > before {
                deadline = Instant::now() + standstill;
            }
        }
    }

    fn stop_all(&mut self) {
        let running = self.running();
        running.into_iter().for_each(|number| {
            self.terminate(number);
        });
        self.router.terminate();
        let deadline = Instant::now() + STOP_WITHIN;
        while !self.workers.is_empty() && Instant::now() < deadline {
            self.pause(LOOK_EVERY);
        }
        for worker in &self.workers {
            eprintln!("did not stop in {STOP_WITHIN:?}: {}", worker.log.display());
        }
        self.router.wait(STOP_WITHIN);
    }

    fn save_attempts(&self) -> anyhow::Result<()> {
        let mut lines = self.folder.lines("attempts.jsonl")?;
        let topic = self.installation.topic("attempts");
        let mut result = Ok(());
        kcat::each_line(self.installation.bootstrap(), &topic, "%T %s", |line| {
            if let Some(attempted) = attempted(line) {
                let put = lines.put(&attempted);
                result = std::mem::replace(&mut result, Ok(())).and(put);
            }
        });
        result?;
        lines.finish()
    }
}

/// `None` = no request was made.
fn attempted(line: &str) -> Option<Attempted> {
    let (written_ms, value) = line.split_once(' ').expect("a time and a value");
    let attempt = records::attempt_of(
        value.as_bytes(),
        written_ms.parse().expect("a time in milliseconds"),
    );
    attempt.requested().then(|| Attempted {
        started_ms: attempt.started_ms(),
        ended_ms: attempt.ended_ms(),
        written_ms: attempt.written_ms,
        pid: attempt.pid(),
        event: event_number(&attempt.event.id).expect("an event of ours"),
        attempt: attempt.attempt,
        outcome: attempt.outcome,
        slice: attempt.slice,
        epoch: attempt.epoch,
    })
}

fn broker(setting: &Setting) -> Broker {
    let (session, heartbeat) = (
        setting.session_ms.to_string(),
        setting.heartbeat_ms.to_string(),
    );
    Broker::own_with(&[
        ("group.consumer.session.timeout.ms", &session),
        ("group.consumer.heartbeat.interval.ms", &heartbeat),
    ])
}

fn sections(setting: &Setting) -> String {
    format!(
        "[dispatcher]\nsession = \"{}ms\"\nheartbeat = \"{}ms\"\n\
         [dispatcher.defaults]\ntimeout = \"{}ms\"\n\
         [telemetry]\nlog = \"{}\"\n",
        setting.session_ms,
        setting.heartbeat_ms,
        setting.timeout_ms,
        sayings::FILTER
    )
}
