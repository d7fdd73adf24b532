//! Writes planned events to the intake topic, each as soon as its time has come.
//!
//! Decides what an event looks like and what is remembered of it. Nothing here waits for the
//! system under test: an event that cannot be written in time is written late, and its latency
//! counts from the time it was meant for all the same. An idempotent producer writes each once.

mod lanes;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;
use bytes::Bytes;
use postrider_domain::NewRecord;
use postrider_kafka::producer::ANY_PARTITION;
use postrider_kafka::{ClientSettings, Producer};

use crate::now_us;
use crate::plan::Planned;
pub use lanes::LaneTopic;

/// How long everything written may take to be acknowledged.
const FLUSH_WITHIN: Duration = Duration::from_secs(60);
/// Between two attempts to queue while the producer's queue is full.
const FULL_PAUSE: Duration = Duration::from_millis(1);

/// An event that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When it was meant to be written, microseconds since the epoch.
    pub intended_us: u64,
    /// When it was handed to the producer.
    pub sent_us: u64,
    /// The endpoint it is for.
    pub endpoint: u32,
}

/// The id of event `number`.
pub fn event_id(number: usize) -> String {
    format!("e{number}")
}

/// The number in an id; `None` = not an event of ours.
pub fn event_number(id: &str) -> Option<usize> {
    id.strip_prefix('e')?.parse().ok()
}

/// The tenant of an endpoint, which nobody shares.
pub fn tenant(endpoint: u32) -> String {
    format!("t{endpoint}")
}

const TYPE: &str = "payment.captured";

/// The ordering keys of each endpoint.
#[derive(Clone, Copy, Debug, Default)]
pub struct Keys {
    /// How many; 0 = events have none.
    pub count: u32,
    /// Of a hundred events so many have key 0; the rest is spread over all.
    pub busiest: u32,
}

impl Keys {
    /// All as busy.
    pub const fn even(count: u32) -> Self {
        Self { count, busiest: 0 }
    }

    /// Which of them an event has; `None` = there are none.
    pub fn of(self, number: usize) -> Option<u32> {
        // any will do that goes with nothing else
        let mut random = fastrand::Rng::with_seed(number as u64);
        (self.count > 0).then(|| {
            let key = random.u32(0..self.count);
            let is_busiest = random.u32(0..100) < self.busiest;
            if is_busiest { 0 } else { key }
        })
    }
}

/// Writes events of one size to one topic; numbers go on from plan to plan.
pub struct Load {
    producer: Producer<usize>,
    topic: Arc<str>,
    padding: String,
    keys: Keys,
    written: Arc<AtomicUsize>,
    /// By number; 0 = not acknowledged yet, [`FAILED`] = given up.
    acks: Arc<RwLock<Vec<AtomicU64>>>,
    events: Vec<Event>,
}

const FAILED: u64 = u64::MAX;

impl Load {
    /// Of events with `padding` bytes beside what they need.
    ///
    /// # Errors
    /// No producer can be made.
    pub fn new(client: &ClientSettings, topic: &str, padding: usize) -> anyhow::Result<Self> {
        let acks: Arc<RwLock<Vec<AtomicU64>>> = Arc::default();
        let told = Arc::clone(&acks);
        // one that is given up and sent again would overtake
        let producer = Producer::tireless(client, move |number: usize, outcome| {
            let at = if outcome.is_ok() { now_us() } else { FAILED };
            let acks = told.read().unwrap_or_else(PoisonError::into_inner);
            acks[number].store(at, Ordering::Relaxed);
        })?;
        Ok(Self {
            producer,
            topic: topic.into(),
            padding: "x".repeat(padding),
            keys: Keys::default(),
            written: Arc::default(),
            acks,
            events: Vec::new(),
        })
    }

    /// From now on events have an ordering key.
    pub fn with_keys(&mut self, keys: Keys) {
        self.keys = keys;
    }

    /// How many events were written so far, for others to look at.
    pub fn written(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.written)
    }

    /// Every event so far, by number.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// When these events were acknowledged, microseconds since the epoch, as the producer's thread
    /// was told. All of them were, or [`Load::settle`] has failed.
    pub fn acknowledged_us(&self, events: Range<usize>) -> Vec<u64> {
        let acks = self.acks.read().unwrap_or_else(PoisonError::into_inner);
        let at = |ack: &AtomicU64| ack.load(Ordering::Relaxed);
        acks[events].iter().map(at).collect()
    }

    /// From the time these events were meant to be written to their acknowledgement, microseconds:
    /// what the broker and the machine do to anybody, Postrider apart.
    pub fn acknowledged(&self, events: Range<usize>) -> Vec<i64> {
        let acked = self.acknowledged_us(events.clone()).into_iter();
        let meant = self.events[events].iter();
        let took = |(acked, event): (u64, &Event)| acked as i64 - event.intended_us as i64;
        acked.zip(meant).map(took).collect()
    }

    /// Carries out a plan from now on; the numbers of the events.
    ///
    /// # Errors
    /// Not all of it was acknowledged in the end.
    pub fn run(&mut self, plan: &[Planned]) -> anyhow::Result<Range<usize>> {
        let first = self.events.len();
        self.write(plan, &AtomicBool::new(false));
        self.settle(first)
    }

    /// Carries out a plan from now on, until it is stopped; does not wait for acknowledgements.
    pub fn write(&mut self, plan: &[Planned], stop: &AtomicBool) {
        self.expect(plan.len());
        let (began, began_us) = (Instant::now(), now_us());
        for planned in plan {
            let due = began + Duration::from_micros(planned.at_us);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if stop.load(Ordering::Relaxed) {
                break;
            }
            self.send(began_us + planned.at_us, planned.endpoint);
        }
    }

    /// Writes an event for each of these endpoints at once.
    pub fn send_now(&mut self, endpoints: &[u32]) {
        self.expect(endpoints.len());
        for endpoint in endpoints {
            self.send(now_us(), *endpoint);
        }
    }

    /// Waits until all from `first` on are acknowledged; their numbers.
    ///
    /// # Errors
    /// Not all of them were in the end.
    pub fn settle(&self, first: usize) -> anyhow::Result<Range<usize>> {
        self.producer.flush(FLUSH_WITHIN);
        let acks = self.acks.read().unwrap_or_else(PoisonError::into_inner);
        let missing = acks[first..self.events.len()].iter().filter(|ack| {
            let at = ack.load(Ordering::Relaxed);
            at == 0 || at == FAILED
        });
        let missing = missing.count();
        ensure!(missing == 0, "{missing} events were not acknowledged");
        Ok(first..self.events.len())
    }

    /// Makes room for the acknowledgements of so many more.
    fn expect(&self, more: usize) {
        let mut acks = self.acks.write().unwrap_or_else(PoisonError::into_inner);
        acks.resize_with(self.events.len() + more, AtomicU64::default);
    }

    fn send(&mut self, intended_us: u64, endpoint: u32) {
        let number = self.events.len();
        let tenant = tenant(endpoint);
        let record = NewRecord {
            topic: Arc::clone(&self.topic),
            partition: ANY_PARTITION,
            // what belongs together is in one partition, in the order it was written
            value: Some(self.value(number, &tenant)),
            key: Some(Bytes::from(tenant)),
            headers: Vec::new(),
        };
        self.append(&record, intended_us, endpoint);
    }

    fn value(&self, number: usize, tenant: &str) -> Bytes {
        let key = match self.keys.of(number) {
            Some(key) => format!(r#""key":"k{key}","#),
            None => String::new(),
        };
        let (id, padding) = (event_id(number), &self.padding);
        Bytes::from(format!(
            r#"{{"id":"{id}","type":"{TYPE}","tenant":"{tenant}",{key}"padding":"{padding}"}}"#
        ))
    }

    /// The record of the next event.
    fn append(&mut self, record: &NewRecord, intended_us: u64, endpoint: u32) {
        let number = self.events.len();
        self.events.push(Event {
            intended_us,
            sent_us: now_us(),
            endpoint,
        });
        let mut tag = number;
        while let Err((_, back)) = self.producer.send(record, tag) {
            tag = back;
            thread::sleep(FULL_PAUSE);
        }
        self.written.store(number + 1, Ordering::Release);
    }

    /// Writes every event as a line: number, endpoint, when it was meant, sent and acknowledged.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let mut out = BufWriter::new(File::create(path)?);
        writeln!(out, "event,endpoint,intended_us,sent_us,acked_us")?;
        let acks = self.acks.read().unwrap_or_else(PoisonError::into_inner);
        for (number, event) in self.events.iter().enumerate() {
            let Event {
                intended_us,
                sent_us,
                endpoint,
            } = event;
            let acked_us = acks[number].load(Ordering::Relaxed);
            writeln!(
                out,
                "{number},{endpoint},{intended_us},{sent_us},{acked_us}"
            )?;
        }
        out.flush()
    }
}
