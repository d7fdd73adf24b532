//! Where the news of the demo come from: its receiver, the intake topic, and the topics that tell
//! what became of each delivery.
//!
//! Decides the pace of publishing. Leaves what the news mean to `ledger` and `screen`.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use postrider_domain::{Endpoint, EndpointId, Event, Record};
use postrider_kafka::tail::From;
use postrider_kafka::{ClientSettings, Tail, Writer};
use postrider_signing::KeyRing;
use postrider_wire::dead_letter::{self, DeadLetter};
use postrider_wire::{AttemptRecord, DecodeRule, attempt, endpoint, event};
use tracing::warn;

use super::plan::{self, SOURCE, TENANT};
use super::stage::Stage;
use crate::commands::event::CloudEvent;
use crate::exit::{Code, Failure};
use crate::installation::WAIT;
use crate::receiver::{Seen, Verdict};

/// News that wait to be shown; whoever brings more waits too.
pub(super) const NEWS_MAX: usize = 16_384;

/// Something happened.
pub(super) enum News {
    /// An event, of whomever, is on the intake topic. What is no event comes as a dead letter.
    Published(Box<Event>),
    Arrived(Arrival),
    Attempt(Box<AttemptRecord<'static>>),
    DeadLetter(Box<DeadLetter>),
    /// An endpoint was written or, without one, deleted.
    Endpoint(EndpointId, Option<Box<Endpoint>>),
    /// The demo cannot go on.
    Failed(Failure),
}

/// A request the receiver answered.
pub(super) struct Arrival {
    pub(super) path: String,
    pub(super) delivery: String,
    pub(super) attempt: String,
    pub(super) verdict: Verdict,
    pub(super) status: u16,
}

impl Arrival {
    pub(super) fn of(seen: &Seen) -> Self {
        let header = |name| seen.header(name).unwrap_or("none").to_owned();
        Self {
            path: seen.path.clone(),
            delivery: header(postrider_signing::ID_HEADER),
            attempt: header("postrider-attempt"),
            verdict: seen.verdict,
            status: seen.status,
        }
    }
}

/// Nothing is ever sent on it: closed, it means stop.
pub(super) enum Never {}

/// Threads that end when the stop channel is closed or nobody listens to the news.
pub(super) struct Feeds {
    threads: Vec<JoinHandle<()>>,
}

impl Feeds {
    /// Follows the intake topic, `attempts`, `dead-letters` and `endpoints` from their present ends:
    /// the demo writes its endpoints after that.
    pub(super) fn follow(
        stage: &Stage,
        settings: &ClientSettings,
        news: &Sender<News>,
        stopping: &Receiver<Never>,
    ) -> Result<Self, Failure> {
        let group = stage.installation.group();
        let topics = &stage.installation.topics;
        let open = |topic: &str| Tail::open(settings, &group, topic, None, From::End, WAIT);
        let intake = open(&stage.intake)?;
        let attempts = open(topics.attempts())?;
        let dead_letters = open(topics.dead_letters())?;
        let endpoints = open(topics.endpoints())?;
        let start = |tail, of: fn(&Record) -> Option<News>| {
            let (news, stopping) = (news.clone(), stopping.clone());
            thread::spawn(move || read(tail, of, &news, &stopping))
        };
        Ok(Self {
            threads: vec![
                start(intake, of_event),
                start(attempts, of_attempt),
                start(dead_letters, of_letter),
                start(endpoints, of_endpoint),
            ],
        })
    }

    /// Publishes the demo's events.
    pub(super) fn publish(
        &mut self,
        publisher: Publisher,
        news: &Sender<News>,
        stopping: &Receiver<Never>,
    ) {
        let (news, stopping) = (news.clone(), stopping.clone());
        self.threads
            .push(thread::spawn(move || publisher.run(&news, &stopping)));
    }

    /// Waits for the threads, after the stop channel and the news are closed.
    pub(super) fn join(self) {
        for thread in self.threads {
            if thread.join().is_err() {
                warn!("a thread of the demo panicked");
            }
        }
    }
}

fn read(
    mut tail: Tail,
    news_of: fn(&Record) -> Option<News>,
    news: &Sender<News>,
    stopping: &Receiver<Never>,
) {
    while !matches!(stopping.try_recv(), Err(TryRecvError::Disconnected)) {
        let record = tail.next(Duration::from_millis(100));
        if let Some(one) = record.as_ref().and_then(news_of)
            && news.send(one).is_err()
        {
            return;
        }
    }
}

fn of_event(record: &Record) -> Option<News> {
    let event = event::decode(record, &DecodeRule::Auto(None)).ok()?;
    Some(News::Published(Box::new(event)))
}

fn of_attempt(record: &Record) -> Option<News> {
    match attempt::decode(record.value.as_deref().unwrap_or_default()) {
        Ok(attempt) => Some(News::Attempt(Box::new(attempt))),
        Err(error) => {
            warn!(origin = %record.origin, %error, "not an attempt record");
            None
        }
    }
}

fn of_letter(record: &Record) -> Option<News> {
    match dead_letter::decode(record) {
        Ok(letter) => Some(News::DeadLetter(Box::new(letter))),
        Err(error) => {
            warn!(origin = %record.origin, reason = %error.message, "not a dead letter");
            None
        }
    }
}

/// What the router would not use is left to the router's log. Nobody here needs secrets.
fn of_endpoint(record: &Record) -> Option<News> {
    let key = record.key.as_deref()?;
    let id: EndpointId = std::str::from_utf8(key).ok()?.parse().ok()?;
    let endpoint = match &record.value {
        Some(value) => {
            let recorded = endpoint::from_record(key, value, &KeyRing::default()).ok()?;
            Some(Box::new(recorded.endpoint))
        }
        None => None,
    };
    Some(News::Endpoint(id, endpoint))
}

/// What is published, where, and how fast.
pub(super) struct Publisher {
    pub(super) settings: ClientSettings,
    pub(super) intake: String,
    pub(super) run: String,
    pub(super) events: u32,
    /// Events per second.
    pub(super) rate: u32,
}

impl Publisher {
    fn run(self, news: &Sender<News>, stopping: &Receiver<Never>) {
        if let Err(failure) = self.publish(stopping) {
            drop(news.send(News::Failed(failure)));
        }
    }

    fn publish(&self, stopping: &Receiver<Never>) -> Result<(), Failure> {
        let writer = Writer::new(&self.settings)?;
        let started = Instant::now();
        for n in 0..self.events {
            let due = started + Duration::from_secs(1) * n / self.rate;
            if let Err(RecvTimeoutError::Disconnected) = stopping.recv_deadline(due) {
                return Ok(());
            }
            let event = plan::event(&self.run, n);
            let event = CloudEvent {
                topic: &self.intake,
                source: SOURCE,
                id: &event.id,
                event_type: event.event_type,
                tenant: TENANT,
                key: Some(&event.key),
                content_type: "application/json",
                data: event.data.clone().into(),
            };
            writer.send_and_wait(&event.record()).map_err(|error| {
                let reason = format!("event {} of the demo was not published: {error}", n + 1);
                Failure::new(Code::Unavailable, reason)
            })?;
        }
        Ok(())
    }
}
