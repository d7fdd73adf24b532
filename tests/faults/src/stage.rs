//! Everything a fault happens to, running: network, brokers, workers, receivers, load.
//!
//! Decides how it is started and ended, what is remembered of what was done, and what healed means:
//! an event written afterwards has arrived. Leaves what is done to `fault` and `rows`, and what it
//! comes to to `judge`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use postrider_bench::audit::repeats::{Loss, Rerouted};
use postrider_bench::load::{Event, Load};
use postrider_bench::now_us;
use postrider_bench::report::Folder;
use postrider_bench::rig::{endpoint_id, slice_of};
use postrider_bench::samples::Sampler;
use postrider_bench::sink::Sink;
use postrider_bench::sink::log::{Arrival, Reader};
use postrider_e2e::installation::DISPATCHER;
use postrider_e2e::{Installation, Process, Setup};
use postrider_test_support::{Cluster, Member};
use serde_json::Value;

use crate::given_up;
use crate::kafka::Metadata;
use crate::load::{ENDPOINTS, Writing, behave, endpoint};
use crate::network::{BROKERS, HUB, Network, broker, broker_address};

/// The intake topic, without the prefix.
pub const INTAKE: &str = "events";
/// Dispatchers.
pub const DISPATCHERS: usize = 3;
/// Slices.
pub const SLICES: u16 = 6;
/// The session the brokers grant dispatchers.
pub const SESSION: Duration = Duration::from_secs(15);
/// The first event written after a heal arrives within this time; a session more where a worker
/// has to be found lost first.
pub const PROGRESS_WITHIN: Duration = Duration::from_secs(15);
/// How long before a fault the last accepted commit may have been, with the time it took: 1 s of
/// work, and a busy machine.
const COMMIT: Duration = Duration::from_millis(2_500);
/// How long after a heal the first commit may take.
const RECOVERY: Duration = Duration::from_millis(2_500);
/// How long something awaited may take before the run is given up.
const PATIENCE: Duration = Duration::from_secs(120);
const START_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Bytes of an event beside what it needs.
const PADDING: usize = 400;

/// A worker, running.
pub struct Worker {
    /// Its process.
    pub process: Process,
    /// The name of its namespace, and of its files.
    pub name: String,
    sampler: Sampler,
    life: usize,
}

/// Something that was done.
#[derive(Clone, Debug)]
pub struct Action {
    /// When, microseconds since the epoch.
    pub at_us: u64,
    /// What.
    pub what: String,
}

/// Faults that were undone.
#[derive(Clone, Debug)]
pub struct Heal {
    /// Which.
    pub what: String,
    /// When the first of them began, microseconds since the epoch.
    pub began_us: u64,
    /// When the last was undone.
    pub at_us: u64,
    /// The first event that was written afterwards.
    pub event: usize,
    /// Within which time one of them had to arrive.
    pub bound: Duration,
}

/// Deliveries that a fault took away from the brokers themselves: events of a slice, written in a
/// time, may be missing.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// Whose; `None` = of all slices.
    pub slice: Option<u16>,
    /// Microseconds since the epoch.
    pub since_us: u64,
    /// Microseconds since the epoch.
    pub until_us: u64,
}

impl Taken {
    /// Whether an event may be missing.
    pub fn holds(&self, event: &Event) -> bool {
        let slice = slice_of(&endpoint_id(event.endpoint), SLICES);
        let within = (self.since_us..=self.until_us).contains(&event.sent_us);
        within && self.slice.is_none_or(|own| own == slice)
    }
}

/// It. Everything ends when it is dropped.
pub struct Stage {
    /// The workers, by the name of their namespace.
    pub workers: BTreeMap<String, Worker>,
    /// The load.
    pub writing: Option<Writing>,
    /// The receivers.
    pub sink: Sink,
    /// Topics and configuration.
    pub installation: Installation,
    /// The brokers.
    pub cluster: Cluster,
    /// The network.
    pub network: Network,
    /// What is drawn at random.
    pub random: fastrand::Rng,
    /// What was done.
    pub actions: Vec<Action>,
    /// What was undone.
    pub heals: Vec<Heal>,
    /// What faults may have lost.
    losses: Vec<Loss>,
    /// What may be missing.
    pub taken: Vec<Taken>,
    /// Whether connections were cut under requests that the brokers had.
    pub reset: bool,
    /// Whether retries have to be in time during the faults too.
    pub punctual: bool,
    /// Where its files go.
    pub folder: Folder,
    /// When it began, microseconds since the epoch.
    pub began_us: u64,
    reader: Reader,
    arrivals: Vec<Arrival>,
    delivered: Vec<bool>,
    /// The log and the id of every worker there was, in order.
    lives: Vec<(PathBuf, u32)>,
}

/// What the log of a run is made of.
pub struct Evidence {
    /// The events.
    pub load: Load,
    /// Every request.
    pub arrivals: Vec<Arrival>,
}

impl Stage {
    /// Starts everything, and waits until every endpoint got an event. `settings` are those of
    /// single brokers, by number.
    ///
    /// # Errors
    /// Something does not start.
    pub fn start(
        folder: Folder,
        seed: u64,
        settings: &[(usize, String, String)],
    ) -> anyhow::Result<Self> {
        let began_us = now_us();
        let network = Network::make()?;
        say(began_us, "three brokers start");
        let cluster = Cluster::start(&members(&network, settings));
        let mut sink = Sink::start(&std::env::current_exe()?, folder.file("requests.bin"))?;
        behave(&mut sink)?;
        say(began_us, "topics are made");
        let allowed = format!("{HUB}/32");
        let setup = Setup {
            bootstrap: cluster.bootstrap(),
            replication: 3,
            allow_ranges: &[&allowed],
            slices: SLICES,
            sections: DISPATCHER,
        };
        let installation = Installation::set_up(&setup, &[INTAKE]);
        let endpoints: Vec<Value> = (0..ENDPOINTS).map(|n| endpoint(n, &sink)).collect();
        let documents: Vec<String> = endpoints.iter().map(Value::to_string).collect();
        installation.endpoints(&documents.join("\n---\n"));
        let load = Load::new(&installation.client(), &installation.topic(INTAKE), PADDING)?;
        let mut stage = Self {
            workers: BTreeMap::new(),
            writing: None,
            reader: sink.reader()?,
            sink,
            installation,
            cluster,
            network,
            random: fastrand::Rng::with_seed(seed),
            actions: Vec::new(),
            heals: Vec::new(),
            losses: Vec::new(),
            taken: Vec::new(),
            reset: false,
            punctual: false,
            folder,
            began_us,
            arrivals: Vec::new(),
            delivered: Vec::new(),
            lives: Vec::new(),
        };
        stage.network.add("router", "10.77.0.10")?;
        for number in 1..=DISPATCHERS {
            let address = format!("10.77.0.{}", 10 + number);
            stage.network.add(&dispatcher(number), &address)?;
        }
        say(began_us, "workers start");
        stage.spawn("router");
        (1..=DISPATCHERS).for_each(|number| stage.spawn(&dispatcher(number)));
        stage.wait_until_started("router");
        (1..=DISPATCHERS).for_each(|number| stage.wait_until_started(&dispatcher(number)));
        stage.writing = Some(Writing::start(load, seed));
        stage.wait_until_all_arrive("the first events")?;
        stage.wait_until_whole()?;
        Ok(stage)
    }

    /// Starts a worker in the namespace of this name.
    pub fn spawn(&mut self, name: &str) {
        let life = self.lives.len() + 1;
        let role = if name == "router" {
            "router"
        } else {
            "dispatcher"
        };
        let log = self.folder.file(&format!("{name}-{life}.log"));
        let within = self.network.within(name);
        let process = self
            .installation
            .worker_within(&within, &[role], log.clone());
        self.lives.push((log, process.pid()));
        let sampler = Sampler::start(vec![(name.to_owned(), process.pid())]);
        let worker = Worker {
            process,
            name: name.to_owned(),
            sampler,
            life,
        };
        self.workers.insert(name.to_owned(), worker);
    }

    /// Waits until a worker does its work.
    ///
    /// # Panics
    /// When it does not.
    pub fn wait_until_started(&mut self, name: &str) {
        let part = if name == "router" {
            "intake partitions taken over"
        } else {
            "slices assigned"
        };
        let worker = self.worker(name);
        worker.process.wait_for_log(START_WITHIN, part);
    }

    /// A worker by name.
    ///
    /// # Panics
    /// When there is none.
    pub fn worker(&mut self, name: &str) -> &mut Worker {
        let worker = self.workers.get_mut(name);
        worker.unwrap_or_else(|| panic!("there is no worker {name}"))
    }

    /// Takes a worker that ended out.
    ///
    /// # Errors
    /// Its samples cannot be written.
    pub fn bury(&mut self, name: &str) -> anyhow::Result<()> {
        let worker = self.workers.remove(name).context("a worker of ours")?;
        self.save_samples(&worker)
    }

    fn save_samples(&self, worker: &Worker) -> anyhow::Result<()> {
        let name = format!("samples-{}-{}", worker.name, worker.life);
        let folder = Folder::new(&self.folder.file(&name))?;
        Ok(worker.sampler.save(&folder)?)
    }

    /// The broker that leads a partition of one of our topics.
    ///
    /// # Errors
    /// Nobody says.
    pub fn leader(&self, topic: &str, partition: i32) -> anyhow::Result<usize> {
        let metadata = Metadata::ask(self.cluster.bootstrap())?;
        let leader = metadata.leader(&self.installation.topic(topic), partition);
        leader.with_context(|| format!("{topic} [{partition}] has no leader"))
    }

    /// Writes down what is done.
    pub fn note(&mut self, what: impl Into<String>) {
        let what = what.into();
        say(self.began_us, &what);
        self.actions.push(Action {
            at_us: now_us(),
            what,
        });
    }

    /// What may have been lost: by faults, and by workers that the group gave up.
    ///
    /// # Errors
    /// The log of a worker is gone.
    pub fn losses(&self) -> anyhow::Result<Vec<Loss>> {
        let mut all = self.losses.clone();
        for (log, pid) in &self.lives {
            all.extend(given_up::losses(log, *pid)?);
        }
        Ok(all)
    }

    /// What may have been routed twice, by the routers' own word.
    ///
    /// # Errors
    /// The log of a worker is gone.
    pub fn rerouted(&self) -> anyhow::Result<Vec<Rerouted>> {
        let logs = self.lives.iter().map(|(log, _)| given_up::rerouted(log));
        Ok(logs.collect::<Result<Vec<_>, _>>()?.concat())
    }

    /// Lets time pass: how long a fault lasts, or work between two.
    pub fn hold(&mut self, time: Duration) {
        thread::sleep(time);
    }

    /// What was in flight or not committed since a time, up to now, may be repeated.
    pub fn may_lose(&mut self, pid: Option<u32>, since_us: u64) {
        self.losses.push(Loss {
            pid,
            since_us: since_us.saturating_sub(micros(COMMIT)),
            until_us: now_us() + micros(RECOVERY),
        });
    }

    /// As [`Stage::may_lose`], of one who was frozen at that time: what it does afterwards is not
    /// excused.
    pub fn may_lose_before(&mut self, pid: u32, frozen_us: u64) {
        self.losses.push(Loss {
            pid: Some(pid),
            since_us: frozen_us.saturating_sub(micros(COMMIT)),
            until_us: frozen_us + micros(Duration::from_secs(1)),
        });
    }

    /// All is undone that was done since `began_us`: waits until an event written from now on
    /// arrives.
    ///
    /// # Errors
    /// None does, for so long that nothing more is to be learned.
    pub fn healed(&mut self, what: &str, began_us: u64, bound: Duration) -> anyhow::Result<()> {
        let event = self.written()?;
        let at_us = now_us();
        self.note(format!("healed: {what}"));
        self.heals.push(Heal {
            what: what.to_owned(),
            began_us,
            at_us,
            event,
            bound,
        });
        let began = Instant::now();
        self.wait("an event written after the heal", |stage| {
            stage.look()?;
            let after = |arrival: &&Arrival| {
                usize::try_from(arrival.event).is_ok_and(|number| number >= event)
            };
            Ok(stage.arrivals.iter().rev().find(after).map(drop))
        })?;
        let took = began.elapsed().as_secs_f64();
        say(
            self.began_us,
            &format!("an event arrived {took:.1} s after it"),
        );
        Ok(())
    }

    /// How many events there are so far.
    ///
    /// # Errors
    /// The load was ended.
    pub fn written(&self) -> anyhow::Result<usize> {
        Ok(self.writing.as_ref().context("the load runs")?.written())
    }

    /// Waits until everything written so far was answered well.
    ///
    /// # Errors
    /// It is not, for long.
    pub fn wait_until_all_arrive(&mut self, what: &str) -> anyhow::Result<()> {
        // so that each endpoint has some
        let end = self.written()? + ENDPOINTS as usize;
        self.wait_for_delivery(end, what)
    }

    fn wait_for_delivery(&mut self, end: usize, what: &str) -> anyhow::Result<()> {
        self.wait(what, |stage| {
            stage.look()?;
            let known = stage.delivered.get(..end);
            Ok(known.filter(|known| known.iter().all(|is| *is)).map(drop))
        })
    }

    /// Waits until every partition has all its copies in sync.
    ///
    /// # Errors
    /// They are not, for long.
    pub fn wait_until_whole(&mut self) -> anyhow::Result<()> {
        self.wait("all copies in sync", |stage| {
            let metadata = Metadata::ask(stage.cluster.bootstrap()).ok();
            let prefix = stage.installation.topic("");
            Ok(metadata.filter(|known| known.is_whole(&prefix)).map(drop))
        })
    }

    /// Waits until `look` finds something.
    ///
    /// # Errors
    /// It does not, for long.
    pub fn wait<T>(
        &mut self,
        what: &str,
        mut look: impl FnMut(&mut Self) -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look(self)? {
                return Ok(found);
            }
            ensure!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Every request so far.
    ///
    /// # Errors
    /// The sink's log cannot be read.
    pub fn arrivals(&mut self) -> anyhow::Result<&[Arrival]> {
        self.look()?;
        Ok(&self.arrivals)
    }

    fn look(&mut self) -> anyhow::Result<()> {
        for arrival in self.reader.more()? {
            let number = usize::try_from(arrival.event).unwrap_or(usize::MAX);
            if arrival.is_success() && number < usize::MAX {
                let length = self.delivered.len().max(number + 1);
                self.delivered.resize(length, false);
                self.delivered[number] = true;
            }
            self.arrivals.push(arrival);
        }
        Ok(())
    }

    /// Ends the load, waits for what is under way, and ends the workers in order.
    ///
    /// # Errors
    /// Events are not acknowledged, or a worker ends badly.
    pub fn end(&mut self) -> anyhow::Result<Evidence> {
        say(self.began_us, "the load ends");
        let load = self.writing.take().context("the load runs")?.stop()?;
        load.save(&self.folder.file("events.csv"))?;
        self.delivered.resize(load.events().len(), false);
        for (event, delivered) in load.events().iter().zip(&mut self.delivered) {
            // nobody waits for those
            *delivered |= self.taken.iter().any(|taken| taken.holds(event));
        }
        let all = self.wait_for_delivery(load.events().len(), "every event");
        // lost ones are told by the audit, with their number
        if let Err(error) = all {
            self.note(error.to_string());
        }
        say(self.began_us, "the workers end");
        for worker in self.workers.values() {
            worker.process.terminate();
        }
        let names: Vec<String> = self.workers.keys().cloned().collect();
        for name in names {
            let code = self.worker(&name).process.wait(STOP_WITHIN);
            self.bury(&name)?;
            if code != Some(0) {
                self.note(format!("{name} ended with {code:?}, not 0"));
            }
        }
        self.look()?;
        Ok(Evidence {
            load,
            arrivals: self.arrivals.clone(),
        })
    }

    /// Writes down what was done and what the brokers logged.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn save(&self) -> anyhow::Result<()> {
        self.cluster.copy_logs(&self.folder.file(""))?;
        let mut out = BufWriter::new(File::create(self.folder.file("actions.csv"))?);
        writeln!(out, "at_us,what")?;
        for action in &self.actions {
            writeln!(out, "{},{}", action.at_us, action.what)?;
        }
        Ok(out.flush()?)
    }
}

/// The namespace of a dispatcher.
pub fn dispatcher(number: usize) -> String {
    format!("dispatcher-{number}")
}

/// As microseconds.
pub fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn say(began_us: u64, what: &str) {
    let seconds = (now_us() - began_us) as f64 / 1e6;
    eprintln!("{seconds:>7.1} s  {what}");
}

fn members(network: &Network, settings: &[(usize, String, String)]) -> Vec<Member> {
    let member = |id: usize| Member {
        within: network.within(&broker(id)),
        host: broker_address(id),
        settings: settings
            .iter()
            .filter(|(whose, ..)| *whose == id)
            .map(|(_, name, value)| (name.clone(), value.clone()))
            .collect(),
    };
    BROKERS.into_iter().map(member).collect()
}
