//! Two bare hops: a record is written, read, written on to a second topic, and read there. What
//! anybody pays in time who has two topics between an event and who gets it, and so the measure of
//! what Postrider adds.
//!
//! Decides what a hop is: clients with the settings of Postrider's own (`acks=all`, idempotent,
//! linger of 1 ms), and nothing between reading a record and writing it on. No group, no commits.
//! Leaves to the profiles what is compared with it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::ensure;
use bytes::Bytes;
use postrider_domain::{NewRecord, Record};
use postrider_kafka::producer::ANY_PARTITION;
use postrider_kafka::tail::{From, Tail};
use postrider_kafka::{ClientSettings, Producer};

use crate::now_us;

/// How long a broker of a busy machine may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How soon a reader sees that it is over.
const POLL: Duration = Duration::from_millis(100);
/// How often it is looked whether all have arrived.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// When a record was acknowledged on the first topic and read from the second, microseconds since
/// the epoch; 0 = not yet.
#[derive(Clone, Copy, Default)]
struct Hopped {
    acked_us: u64,
    arrived_us: u64,
}

type All = Arc<Mutex<Vec<Hopped>>>;

fn locked(all: &All) -> MutexGuard<'_, Vec<Hopped>> {
    all.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Both topics with their readers, each on a thread of its own, until dropped.
pub struct Hops {
    producer: Producer<usize>,
    topic: Arc<str>,
    padding: String,
    /// By number.
    all: All,
    stopped: Arc<AtomicBool>,
    readers: Vec<JoinHandle<()>>,
}

impl Hops {
    /// Over two topics that exist and nobody else writes to, with records as large as events of
    /// that padding.
    ///
    /// # Errors
    /// There is no such topic, or no broker.
    pub fn start(
        client: &ClientSettings,
        topics: [&str; 2],
        padding: usize,
    ) -> anyhow::Result<Self> {
        let [first, second] = topics.map(Arc::<str>::from);
        let all = All::default();
        let told = Arc::clone(&all);
        let producer = Producer::tireless(client, move |number: usize, outcome| {
            if outcome.is_ok() {
                locked(&told)[number].acked_us = now_us();
            }
        })?;
        // what is not on the log does not arrive, and is missed there
        let onward = Producer::tireless(client, |(), _| {})?;
        let (read, arrived) = (Arc::clone(&first), Arc::clone(&all));
        let mut hops = Self {
            producer,
            topic: first,
            padding: "x".repeat(padding),
            all,
            stopped: Arc::default(),
            readers: Vec::new(),
        };
        hops.read(client, &read, move |record| {
            let record = NewRecord {
                topic: Arc::clone(&second),
                partition: ANY_PARTITION,
                key: record.key,
                value: record.value,
                headers: Vec::new(),
            };
            // its queue holds far more than there are; one that it refused would be missed
            drop(onward.send(&record, ()));
        })?;
        hops.read(client, topics[1], move |record| {
            let at = now_us();
            if let Some(number) = number(&record) {
                locked(&arrived)[number].arrived_us = at;
            }
        })?;
        Ok(hops)
    }

    fn read(
        &mut self,
        client: &ClientSettings,
        topic: &str,
        mut each: impl FnMut(Record) + Send + 'static,
    ) -> anyhow::Result<()> {
        let mut tail = Tail::open(client, "bench", topic, None, From::End, PATIENCE)?;
        let stopped = Arc::clone(&self.stopped);
        self.readers.push(thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Some(record) = tail.next(POLL) {
                    each(record);
                }
            }
        }));
        Ok(())
    }

    /// So many records at an even pace, the first of them half an interval from now, until all
    /// have arrived; from the acknowledgement of each to its arrival, microseconds.
    ///
    /// # Errors
    /// One did not arrive.
    pub fn run(&self, count: usize, rate: f64) -> anyhow::Result<Vec<i64>> {
        let first = locked(&self.all).len();
        let began = Instant::now();
        for number in 0..count {
            let due = began + Duration::from_secs_f64((number as f64 + 0.5) / rate);
            thread::sleep(due.saturating_duration_since(Instant::now()));
            self.send(first + number)?;
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let hopped = locked(&self.all)[first..].to_vec();
            let open = |hopped: &&Hopped| hopped.acked_us == 0 || hopped.arrived_us == 0;
            let open = hopped.iter().filter(open).count();
            if open == 0 {
                let took = |hopped: &Hopped| hopped.arrived_us as i64 - hopped.acked_us as i64;
                return Ok(hopped.iter().map(took).collect());
            }
            ensure!(Instant::now() < deadline, "{open} bare records are missing");
            thread::sleep(LOOK_EVERY);
        }
    }

    fn send(&self, number: usize) -> anyhow::Result<()> {
        locked(&self.all).push(Hopped::default());
        let (key, padding) = (format!("h{number}"), &self.padding);
        let value = format!(
            r#"{{"id":"{key}","type":"payment.captured","tenant":"t0","padding":"{padding}"}}"#
        );
        let record = NewRecord {
            topic: Arc::clone(&self.topic),
            partition: ANY_PARTITION,
            key: Some(Bytes::from(key)),
            value: Some(Bytes::from(value)),
            headers: Vec::new(),
        };
        Ok(self
            .producer
            .send(&record, number)
            .map_err(|(why, _)| why)?)
    }
}

/// Which one a record is; `None` = not one of ours.
fn number(record: &Record) -> Option<usize> {
    let key = str::from_utf8(record.key.as_deref()?).ok()?;
    key.strip_prefix('h')?.parse().ok()
}

impl Drop for Hops {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        for reader in self.readers.drain(..) {
            // it has nothing to say
            drop(reader.join());
        }
    }
}
