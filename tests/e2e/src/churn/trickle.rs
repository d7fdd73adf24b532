//! A steady trickle of events, to every slice in turn, and those of the experiment's subject beside
//! it, through failures of the broker.
//!
//! Decides who gets which event when, and remembers when Kafka acknowledged it. An idempotent producer
//! writes each once; only one it gave up (30 s) is handed over again, and is marked.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use postrider_domain::NewRecord;
use postrider_kafka::producer::ANY_PARTITION;
use postrider_kafka::{ClientSettings, Producer};

use super::endpoints::{Endpoint, Endpoints};
use super::journal::{Event, Setting, event_id};
use super::subject::Subject;
use crate::now_ms;

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
        endpoints: Endpoints,
        setting: &Setting,
    ) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared {
            events: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let (sender, failed): (Sender<Sent>, Receiver<Sent>) = channel();
        let told = Arc::clone(&shared);
        let producer = Producer::new(client, move |sent: Sent, outcome| match outcome {
            Ok(_) => told.events()[sent.number].acked_ms = Some(now_ms()),
            // nobody is there to take it once the trickle has ended
            Err(_) => drop(sender.send(sent)),
        })?;
        let writer = Writer {
            producer,
            topic: topic.into(),
            endpoints,
            subject: setting.subject,
            shared: Arc::clone(&shared),
            failed,
        };
        let trickle = Beat::of(setting.events_per_second, 0);
        let thread = thread::spawn(move || writer.run(trickle));
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// How many events there were so far.
    pub(super) fn count(&self) -> usize {
        self.shared.events().len()
    }

    /// How many of them the subject got.
    pub(super) fn of_subject(&self) -> usize {
        let last = self.shared.events().iter().rev().find_map(|e| e.subject);
        last.map_or(0, |place| place + 1)
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

/// An event that Kafka has not answered for.
struct Sent {
    number: usize,
    record: NewRecord,
}

/// When the next event of a stream is due.
struct Beat {
    every: Duration,
    next: Instant,
    count: usize,
    /// So many come at once.
    ahead: usize,
}

impl Beat {
    fn of(per_second: u32, ahead: usize) -> Self {
        Self {
            every: Duration::from_secs(1) / per_second,
            next: Instant::now(),
            count: 0,
            ahead,
        }
    }

    /// Waits for it; its place in the stream.
    fn wait(&mut self) -> usize {
        thread::sleep(self.next.saturating_duration_since(Instant::now()));
        let place = self.count;
        self.count += 1;
        if self.count >= self.ahead {
            self.next += self.every;
        }
        place
    }
}

struct Writer {
    producer: Producer<Sent>,
    topic: Arc<str>,
    endpoints: Endpoints,
    subject: Option<Subject>,
    shared: Arc<Shared>,
    failed: Receiver<Sent>,
}

impl Writer {
    fn run(self, mut trickle: Beat) {
        let mut subject = self.subject.map(|subject| {
            (
                subject,
                Beat::of(subject.events_per_second(), subject.ahead()),
            )
        });
        while !self.shared.stopped.load(Ordering::Relaxed) {
            match &mut subject {
                Some((subject, beat)) if beat.next < trickle.next => {
                    let place = beat.wait();
                    let endpoint = self.endpoints.subject.as_ref();
                    let endpoint = endpoint.expect("a subject has its endpoint");
                    self.publish(endpoint, Some(place), subject.key(place));
                }
                _ => self.publish(self.endpoints.at(trickle.wait()), None, None),
            }
            self.send_failed();
        }
        for _ in 0..10 {
            self.producer.flush(Duration::from_secs(10));
            self.send_failed();
        }
    }

    fn send_failed(&self) {
        for sent in self.failed.try_iter() {
            self.send(sent);
        }
    }

    /// Events of one ordering key go to one partition: beyond it there is no order.
    fn publish(&self, endpoint: &Endpoint, subject: Option<usize>, key: Option<usize>) {
        let number = self.shared.events().len();
        self.shared.events().push(Event {
            number,
            slice: endpoint.slice,
            subject,
            sent_ms: now_ms(),
            acked_ms: None,
            tries: 0,
        });
        let (id, tenant) = (event_id(number), &endpoint.id);
        let key = key.map(|key| format!("key-{key}"));
        let member = key.as_deref().map(|key| format!(r#","key":"{key}""#));
        let member = member.unwrap_or_default();
        let json =
            format!(r#"{{"id":"{id}","type":"payment.captured","tenant":"{tenant}"{member}}}"#);
        let record = NewRecord {
            topic: Arc::clone(&self.topic),
            partition: ANY_PARTITION,
            key: key.map(Bytes::from),
            value: Some(Bytes::from(json)),
            headers: Vec::new(),
        };
        self.send(Sent { number, record });
    }

    fn send(&self, sent: Sent) {
        self.shared.events()[sent.number].tries += 1;
        let record = sent.record.clone();
        let mut tag = sent;
        // the queue is full only while the broker is away
        while let Err((_, back)) = self.producer.send(&record, tag) {
            tag = back;
            thread::sleep(Duration::from_millis(100));
        }
    }
}
