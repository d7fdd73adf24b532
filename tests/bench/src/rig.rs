//! Everything an experiment runs on: an installation with its workers, the sink, the load.
//!
//! Decides how they are started, in which order, and when what was written has arrived. Leaves the
//! course of an experiment to its profile.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use postrider_domain::{EndpointId, SliceCount};
use postrider_e2e::{Installation, Process, SECRET};
use postrider_test_support::Broker;
use serde::Serialize;
use serde_json::{Value, json};

use crate::audit::{self, Attempted};
use crate::baseline::FIRST_RECEIVER;
use crate::broker_requests::BrokerRequests;
use crate::fleet::{Fleet, STOP_WITHIN};
use crate::load::{Load, tenant};
use crate::plan::{Stream, plan};
use crate::report::Folder;
use crate::samples::{Sampler, cpu_seconds};
use crate::sink::log::{Arrival, Reader};
use crate::sink::{Door, Sink};

const INTAKE: &str = "events";
/// How long a process may take to start or to stop on a busy machine.
const START_WITHIN: Duration = Duration::from_secs(60);
/// How often the sink's log is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The same, while as many are written as were delivered.
const FLOOD_EVERY: Duration = Duration::from_millis(5);
/// Between session and the longest deadline that fits into it; with 2 s it is the 15 s of the
/// tests' broker.
const SESSION_MARGIN_MS: u64 = 13_000;
const HEARTBEAT_MS: u64 = 1_000;

/// What all experiments have in common.
#[derive(Clone, Copy, Debug, Args, Serialize)]
pub struct Setting {
    /// Slices of the installation
    #[arg(long, default_value_t = 16)]
    pub slices: u16,
    /// Dispatchers that share them
    #[arg(long, default_value_t = 1)]
    pub dispatchers: usize,
    /// Deadline of an attempt, milliseconds
    #[arg(long, default_value_t = 15_000)]
    pub timeout_ms: u64,
    /// Bytes of an event beside its id, type and tenant
    #[arg(long, default_value_t = 950)]
    pub padding: usize,
    /// What is drawn at random is drawn from this
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

impl Setting {
    /// How long the group waits for a worker that says nothing.
    pub fn session_ms(&self) -> u64 {
        self.timeout_ms + SESSION_MARGIN_MS
    }

    /// A broker of the experiment's own that grants the session this takes.
    pub fn broker(&self) -> Broker {
        Broker::as_shipped_with(&[
            (
                "group.consumer.session.timeout.ms",
                &self.session_ms().to_string(),
            ),
            (
                "group.consumer.heartbeat.interval.ms",
                &HEARTBEAT_MS.to_string(),
            ),
            // nobody kills it: a busy machine must not look like a broker that failed
            ("broker.session.timeout.ms", "18000"),
        ])
    }

    fn sections(&self) -> String {
        format!(
            "[dispatcher]\nsession = \"{}ms\"\nheartbeat = \"{HEARTBEAT_MS}ms\"\n\
             [dispatcher.defaults]\ntimeout = \"{}ms\"\n",
            self.session_ms(),
            self.timeout_ms
        )
    }
}

/// Where an experiment runs and what it leaves.
pub struct Place<'a> {
    /// The broker, which grants the session that the timeout takes.
    pub broker: &'a Broker,
    /// The program with the sink in it.
    pub program: PathBuf,
    /// Where its files go.
    pub folder: Folder,
}

/// The id of an endpoint.
pub fn endpoint_id(number: u32) -> String {
    format!("ep_{number}")
}

/// The number in an id; `None` = not an endpoint of ours.
pub fn endpoint_number(id: &str) -> Option<u32> {
    id.strip_prefix("ep_")?.parse().ok()
}

/// The slice of an endpoint.
///
/// # Panics
/// When it is no id, or there are no such slices.
pub fn slice_of(id: &str, slices: u16) -> u16 {
    let id: EndpointId = id.parse().expect("letters and digits");
    let slices = SliceCount::new(slices).expect("1 to 256 slices");
    slices.slice_of(&id).0
}

/// Ids of so many endpoints, of which each slice has as many as any other, or one less.
pub fn even_ids(count: u32, slices: u16) -> Vec<String> {
    let mut free = vec![(0..).map(endpoint_id); usize::from(slices)];
    let next = |number: u32| {
        let slice = (number % u32::from(slices)) as u16;
        let ids = free[usize::from(slice)].by_ref();
        ids.find(|id| slice_of(id, slices) == slice)
            .expect("ids do not end")
    };
    (0..count).map(next).collect()
}

/// It, running. Everything ends when it is dropped.
pub struct Rig {
    /// What the processes use.
    pub sampler: Sampler,
    workers: Vec<Process>,
    lives: Vec<u32>,
    /// What the broker was asked; `None` = it does not tell.
    pub broker_requests: Option<BrokerRequests>,
    /// Where its files go.
    pub folder: Folder,
    /// The receivers.
    pub sink: Sink,
    /// The events.
    pub load: Load,
    /// The installation.
    pub installation: Installation,
    reader: Reader,
    arrivals: Vec<Arrival>,
    delivered: Vec<bool>,
    delivered_count: usize,
    setting: Setting,
}

impl Rig {
    /// Starts everything; `define` says which endpoints there are, given the sink.
    ///
    /// # Errors
    /// Something does not start.
    pub fn start(
        place: &Place<'_>,
        setting: Setting,
        define: impl FnOnce(&Sink) -> Vec<Value>,
    ) -> anyhow::Result<Self> {
        let mut rig = Self::prepare(place, setting, define)?;
        rig.start_workers();
        Ok(rig)
    }

    /// All but the workers, so that what is written now waits for them.
    ///
    /// # Errors
    /// Something does not start.
    pub fn prepare(
        place: &Place<'_>,
        setting: Setting,
        define: impl FnOnce(&Sink) -> Vec<Value>,
    ) -> anyhow::Result<Self> {
        let sink = Sink::start(&place.program, place.folder.file("requests.bin"))?;
        let sections = setting.sections();
        let mut installation =
            Installation::with(place.broker, setting.slices, &[INTAKE], &sections);
        installation.trust(sink.authority());
        apply(&installation, &define(&sink));
        let mut sampled = vec![
            ("sink".to_owned(), sink.pid()),
            ("bench".to_owned(), std::process::id()),
        ];
        let broker = place.broker.pid().map(|pid| ("broker".to_owned(), pid));
        sampled.extend(broker);
        let requests = BrokerRequests::start(place.broker)?;
        sampled.extend(
            requests
                .as_ref()
                .map(|r| ("broker's counters".into(), r.pid())),
        );
        let client = installation.client();
        Ok(Self {
            sampler: Sampler::start(sampled),
            workers: Vec::new(),
            lives: Vec::new(),
            broker_requests: requests,
            folder: place.folder.clone(),
            load: Load::new(&client, &installation.topic(INTAKE), setting.padding)?,
            reader: sink.reader()?,
            sink,
            installation,
            arrivals: Vec::new(),
            delivered: Vec::new(),
            delivered_count: 0,
            setting,
        })
    }

    /// Starts the router and the dispatchers, all of which are new or gone, and waits until they
    /// are at work.
    pub fn start_workers(&mut self) {
        let workers = 0..=self.setting.dispatchers;
        let mut fleet = self.fleet();
        workers.clone().for_each(|number| fleet.start(number));
        for number in workers {
            fleet.wait_until_at_work(number, START_WITHIN);
        }
    }

    /// The workers.
    pub fn fleet(&mut self) -> Fleet<'_> {
        Fleet {
            workers: &mut self.workers,
            lives: &mut self.lives,
            installation: &self.installation,
            sampler: &self.sampler,
            folder: &self.folder,
        }
    }

    /// Carries out streams side by side; the numbers of the events.
    ///
    /// # Errors
    /// Not everything could be written.
    pub fn run(&mut self, streams: &[Stream]) -> anyhow::Result<Range<usize>> {
        let planned = plan(streams, self.setting.seed + self.load.events().len() as u64);
        self.load.run(&planned)
    }

    /// As [`Rig::run`], while something else is done.
    ///
    /// # Errors
    /// Not everything could be written, or what is done fails.
    pub fn run_while(
        &mut self,
        streams: &[Stream],
        meanwhile: impl FnOnce(&mut Fleet<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<Range<usize>> {
        let planned = plan(streams, self.setting.seed + self.load.events().len() as u64);
        let load = &mut self.load;
        let mut fleet = Fleet {
            workers: &mut self.workers,
            lives: &mut self.lives,
            installation: &self.installation,
            sampler: &self.sampler,
            folder: &self.folder,
        };
        thread::scope(|scope| {
            let writing = scope.spawn(move || load.run(&planned));
            let done = meanwhile(&mut fleet);
            let written = writing.join();
            done?;
            written.map_err(|_| anyhow::anyhow!("the load panicked"))?
        })
    }

    /// Events to these endpoints in turn for a time, as fast as they are delivered: never more than
    /// `open_max` that are not; the numbers of the events.
    ///
    /// # Errors
    /// Not all was acknowledged in the end, or the sink's log cannot be read.
    pub fn flood(
        &mut self,
        endpoints: Range<u32>,
        open_max: usize,
        time: Duration,
    ) -> anyhow::Result<Range<usize>> {
        let first = self.load.events().len();
        let end = Instant::now() + time;
        let mut turn = endpoints.clone().cycle();
        while Instant::now() < end {
            self.look()?;
            let open = self.load.events().len() - self.delivered_count;
            let more = turn.by_ref().take(open_max.saturating_sub(open));
            self.load.send_now(&more.collect::<Vec<_>>());
            thread::sleep(FLOOD_EVERY);
        }
        self.load.settle(first)
    }

    /// An event for each of these endpoints: from then on they are known to be well.
    ///
    /// # Errors
    /// Not everything could be written, or it does not arrive.
    pub fn greet(&mut self, endpoints: Range<u32>, rate: f64) -> anyhow::Result<()> {
        let count = endpoints.len();
        let stream = Stream {
            endpoints,
            rate,
            count,
        };
        let events = self.run(&[stream])?;
        let missing = self.wait_for_delivery(events, START_WITHIN)?;
        anyhow::ensure!(missing == 0, "{missing} first deliveries did not arrive");
        Ok(())
    }

    /// Waits until these events were answered well; how many were not in time.
    ///
    /// # Errors
    /// The sink's log cannot be read.
    pub fn wait_for_delivery(
        &mut self,
        events: Range<usize>,
        limit: Duration,
    ) -> anyhow::Result<usize> {
        let deadline = Instant::now() + limit;
        loop {
            self.look()?;
            let known =
                events.start.min(self.delivered.len())..events.end.min(self.delivered.len());
            let delivered = self.delivered[known].iter().filter(|is| **is).count();
            let missing = events.len() - delivered;
            if missing == 0 || Instant::now() >= deadline {
                return Ok(missing);
            }
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
        let mut more = self.reader.more()?;
        more.retain(|arrival| arrival.receiver < FIRST_RECEIVER || arrival.receiver == u32::MAX);
        self.delivered.resize(self.load.events().len(), false);
        for arrival in more.iter().filter(|arrival| arrival.is_success()) {
            let number = usize::try_from(arrival.event).unwrap_or(usize::MAX);
            if let Some(delivered) = self.delivered.get_mut(number)
                && !std::mem::replace(delivered, true)
            {
                self.delivered_count += 1;
            }
        }
        self.arrivals.extend(more);
        Ok(())
    }

    /// The CPU that all workers which run now have used so far, user and system, seconds.
    ///
    /// # Errors
    /// One of them ends meanwhile.
    pub fn workers_cpu_seconds(&mut self) -> anyhow::Result<f64> {
        let run = self.workers.iter_mut().filter_map(|worker| {
            let pid = worker.pid();
            worker.ended().is_none().then_some(pid)
        });
        Ok(run.map(cpu_seconds).sum::<std::io::Result<f64>>()?)
    }

    /// Ends the workers in order, so that all they know is written.
    ///
    /// # Errors
    /// One of them ended badly.
    pub fn stop_workers(&mut self) -> anyhow::Result<()> {
        for worker in &self.workers {
            worker.terminate();
        }
        for worker in &mut self.workers {
            let code = worker.wait(STOP_WITHIN);
            anyhow::ensure!(code == Some(0), "a worker ended with {code:?}");
        }
        Ok(())
    }

    /// Leaves its files; every request, and every attempt record of one.
    ///
    /// # Errors
    /// Something cannot be read or written.
    pub fn results(&mut self) -> anyhow::Result<(Vec<Arrival>, Vec<Attempted>)> {
        self.save()?;
        let arrivals = self.arrivals()?.to_vec();
        let topic = self.installation.topic("attempts");
        Ok((
            arrivals,
            audit::attempts(&self.installation.client(), &topic)?,
        ))
    }

    /// Writes events and samples beside the sink's log.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn save(&self) -> anyhow::Result<()> {
        self.load.save(&self.folder.file("events.csv"))?;
        self.sampler.save(&self.folder)?;
        if let Some(requests) = &self.broker_requests {
            requests.save(&self.folder)?;
        }
        Ok(())
    }
}

/// An endpoint of its own tenant, whose requests come to the receiver of the same number.
pub fn endpoint(id: &str, number: u32, sink: &Sink, door: Door) -> Value {
    json!({
        "id": id,
        "tenant": tenant(number),
        "url": sink.url(number, door),
        "signing": { "scheme": "standard", "secrets": [{ "id": "s1", "value": SECRET }] },
    })
}

fn apply(installation: &Installation, endpoints: &[Value]) {
    let documents: Vec<String> = endpoints.iter().map(Value::to_string).collect();
    let file = installation.file("endpoints.json", documents.join("\n").as_bytes());
    let file: &Path = &file;
    let path = file.to_str().expect("the paths of tests are UTF-8");
    installation
        .postrider(&["endpoint", "apply", "-f", path])
        .expect_done();
}
