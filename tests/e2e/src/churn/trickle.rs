//! A steady trickle of events, to every slice in turn, through failures of the broker.
//!
//! Decides who gets which event, and remembers when Kafka acknowledged it. An idempotent producer
//! writes each once; only one it gave up (30 s) is handed over again, and is marked.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use postrider_domain::{EndpointId, NewRecord, SliceCount};
use postrider_kafka::producer::ANY_PARTITION;
use postrider_kafka::{ClientSettings, Producer};

use super::journal::{Event, Setting, event_id};
use crate::now_ms;

/// Every so many endpoints of a slice answer slowly, so that something is always in flight.
const SLOW_EVERY: usize = 8;

/// An endpoint that the events are for.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    /// Its id, and its tenant, which nobody shares.
    pub(super) id: String,
    /// Its path at the receiver.
    pub(super) path: String,
    /// Its slice.
    pub(super) slice: u16,
}

/// The same number of endpoints for each slice, those of one slice one after the other.
pub(super) fn endpoints(setting: &Setting) -> Vec<Endpoint> {
    let slices = SliceCount::new(setting.slices).expect("1 to 256 slices");
    let per_slice = setting.endpoints.div_ceil(usize::from(setting.slices));
    let mut by_slice = vec![Vec::new(); usize::from(setting.slices)];
    let mut number = 0;
    while by_slice.iter().any(|slice| slice.len() < per_slice) {
        let id = format!("ep_{number}");
        number += 1;
        let valid: EndpointId = id.parse().expect("letters and digits");
        let slice = slices.slice_of(&valid).0;
        let there = &mut by_slice[usize::from(slice)];
        if there.len() < per_slice {
            let speed = if there.len() % SLOW_EVERY == SLOW_EVERY - 1 {
                "slow"
            } else {
                "fast"
            };
            let path = format!("/{speed}/{id}");
            there.push(Endpoint { id, path, slice });
        }
    }
    by_slice.concat()
}

/// The trickle, until [`Trickle::stop`] or dropped.
pub(super) struct Trickle {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    events: Mutex<Vec<Event>>,
    stopped: AtomicBool,
}

impl Shared {
    fn events(&self) -> MutexGuard<'_, Vec<Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Trickle {
    /// Starts it.
    pub(super) fn start(
        client: &ClientSettings,
        topic: String,
        endpoints: Vec<Endpoint>,
        setting: &Setting,
    ) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared {
            events: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let (sender, failed): (Sender<usize>, Receiver<usize>) = channel();
        let told = Arc::clone(&shared);
        let producer = Producer::new(client, move |number: usize, outcome| match outcome {
            Ok(_) => told.events()[number].acked_ms = Some(now_ms()),
            // nobody is there to take it once the trickle has ended
            Err(_) => drop(sender.send(number)),
        })?;
        let writer = Writer {
            producer,
            topic: topic.into(),
            endpoints,
            slices: usize::from(setting.slices),
            shared: Arc::clone(&shared),
            failed,
        };
        let every = Duration::from_secs(1) / setting.events_per_second;
        let thread = thread::spawn(move || writer.run(every));
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// How many events there were so far.
    pub(super) fn count(&self) -> usize {
        self.shared.events().len()
    }

    /// The events so far.
    pub(super) fn events(&self) -> Vec<Event> {
        self.shared.events().clone()
    }

    /// Publishes no more, and waits until all is acknowledged; whether it is.
    pub(super) fn stop(&mut self) -> bool {
        self.shared.stopped.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        matches!(ended, Some(Ok(()))) && self.events().iter().all(|event| event.acked_ms.is_some())
    }
}

impl Drop for Trickle {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
    }
}

struct Writer {
    producer: Producer<usize>,
    topic: Arc<str>,
    endpoints: Vec<Endpoint>,
    slices: usize,
    shared: Arc<Shared>,
    failed: Receiver<usize>,
}

impl Writer {
    fn run(self, every: Duration) {
        let mut next = Instant::now();
        while !self.shared.stopped.load(Ordering::Relaxed) {
            let number = self.shared.events().len();
            let event = Event {
                number,
                slice: self.endpoint(number).slice,
                sent_ms: now_ms(),
                acked_ms: None,
                tries: 0,
            };
            self.shared.events().push(event);
            self.send(number);
            self.send_failed();
            next += every;
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        for _ in 0..10 {
            self.producer.flush(Duration::from_secs(10));
            self.send_failed();
        }
    }

    fn send_failed(&self) {
        for number in self.failed.try_iter() {
            self.send(number);
        }
    }

    /// Slices take turns, and so do the endpoints of each.
    fn endpoint(&self, number: usize) -> &Endpoint {
        let per_slice = self.endpoints.len() / self.slices;
        let (round, slice) = (number / self.slices, number % self.slices);
        &self.endpoints[slice * per_slice + round % per_slice]
    }

    fn send(&self, number: usize) {
        let (id, tenant) = (event_id(number), &self.endpoint(number).id);
        let json = format!(r#"{{"id":"{id}","type":"payment.captured","tenant":"{tenant}"}}"#);
        let record = NewRecord {
            topic: Arc::clone(&self.topic),
            partition: ANY_PARTITION,
            key: None,
            value: Some(Bytes::from(json)),
            headers: Vec::new(),
        };
        self.shared.events()[number].tries += 1;
        let mut tag = number;
        // the queue is full only while the broker is away
        while let Err((_, back)) = self.producer.send(&record, tag) {
            tag = back;
            thread::sleep(Duration::from_millis(100));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::journal::Setting;
    use super::endpoints;

    #[test]
    fn every_slice_has_as_many_endpoints_as_any_other() {
        let setting = Setting {
            name: String::new(),
            session_ms: 0,
            heartbeat_ms: 0,
            timeout_ms: 0,
            slices: 16,
            endpoints: 200,
            events_per_second: 1,
        };
        let mut count: BTreeMap<u16, usize> = BTreeMap::new();
        for endpoint in endpoints(&setting) {
            *count.entry(endpoint.slice).or_default() += 1;
        }
        assert_eq!(count.len(), 16);
        assert!(count.values().all(|count| *count == 13), "{count:?}");
    }
}
