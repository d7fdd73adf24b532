//! Records on their way to the brokers.
//!
//! Decides how many may be outstanding and how many bytes of them, that none is given up because it
//! takes long (its place in the order would be lost), and that one that fails all the same is tried
//! again until it succeeds. Leaves to its caller what an acknowledgement settles, and what becomes
//! of a record that no topic is wide enough for; to `unanswered` when a write is late.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, bounded};
use postrider_domain::{EndpointId, NewRecord};
use postrider_kafka::{ClientError, ClientSettings, Producer, WriteError};
use postrider_telemetry::Metrics;
use tracing::{error, info};

use crate::fan_out::Template;
use crate::progress::Ticket;
use crate::reject::Letter;
use crate::unanswered::{News, Second, Unanswered};

/// What a record costs librdkafka while it is outstanding, in bytes, about. Its own bound counts
/// keys and values only.
pub(crate) fn cost(record: &NewRecord) -> usize {
    /// A header's place in a list and its three allocations.
    const HEADER_BYTES: usize = 100;
    let part = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let header = |(name, value): &(Cow<'static, str>, Option<Bytes>)| {
        name.len() + part(value) + HEADER_BYTES
    };
    let headers: usize = record.headers.iter().map(header).sum();
    part(&record.key) + part(&record.value) + headers
}

/// What is sent or waits to be sent again.
#[derive(Debug, Default)]
struct Outstanding {
    records: usize,
    bytes: usize,
}

impl Outstanding {
    /// 20 000 in 10 ms of latency are two million a second.
    const RECORDS_MAX: usize = 20_000;
    /// Every endpoint of a fan-out costs the whole event, as librdkafka copies it.
    const BYTES_MAX: usize = 64 << 20;

    /// A record that is larger than all the room goes alone.
    const fn has_room(&self, bytes: usize) -> bool {
        let fits = self.bytes.saturating_add(bytes) <= Self::BYTES_MAX || self.records == 0;
        fits && self.records < Self::RECORDS_MAX
    }

    const fn add(&mut self, bytes: usize) {
        self.records += 1;
        self.bytes += bytes;
    }

    const fn remove(&mut self, bytes: usize) {
        self.records -= 1;
        self.bytes -= bytes;
    }
}

/// A record on its way, with what is needed to send it again. The record itself is not kept: of a
/// fan-out all share one template.
#[derive(Debug)]
pub(crate) struct Write {
    /// The intake record it belongs to.
    pub(crate) ticket: Ticket,
    pub(crate) what: What,
    /// What it costs while it is outstanding.
    bytes: usize,
    /// When it was taken charge of.
    sent_at: Second,
    /// It failed before.
    failed: bool,
}

impl Write {
    pub(crate) const fn new(ticket: Ticket, what: What) -> Self {
        Self {
            ticket,
            what,
            bytes: 0,
            sent_at: 0,
            failed: false,
        }
    }
}

#[derive(Debug)]
pub(crate) enum What {
    Delivery {
        template: Arc<Template>,
        endpoint: EndpointId,
    },
    DeadLetter(Letter),
}

impl What {
    /// The topic without its prefix, a label of metrics.
    const fn topic(&self) -> &'static str {
        match self {
            Self::Delivery { .. } => "deliveries",
            Self::DeadLetter(_) => "dead-letters",
        }
    }

    /// The topic's full name, for people.
    fn full_topic(&self) -> Arc<str> {
        match self {
            Self::Delivery { template, .. } => Arc::clone(&template.sample().topic),
            Self::DeadLetter(letter) => Arc::clone(&letter.record.topic),
        }
    }
}

/// What became of a write.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It is on the log.
    Written(Write),
    /// The topic takes no record so large, now or later. It is no longer outstanding.
    TooLarge(Write),
    /// The producer is of no use any more.
    Fatal(String),
}

/// The producer and everything it has not answered for.
pub(crate) struct Writes {
    producer: Producer<Write>,
    answers: Receiver<(Write, Result<(), WriteError>)>,
    outstanding: Outstanding,
    unanswered: Unanswered,
    /// What its seconds count from.
    started: Instant,
    /// Not accepted by librdkafka, or failed; oldest first.
    waiting: VecDeque<Write>,
    retry_at: Instant,
    delay: Duration,
    outage: Option<Outage>,
    metrics: Metrics,
}

struct Outage {
    since: Instant,
    /// Writes that failed and have not succeeded since.
    unwritten: usize,
}

impl Writes {
    const DELAY_MIN: Duration = Duration::from_millis(100);
    const DELAY_MAX: Duration = Duration::from_secs(5);
    /// librdkafka's queue empties within milliseconds when all is well.
    const QUEUE_FULL_DELAY: Duration = Duration::from_millis(5);

    pub(crate) fn start(settings: &ClientSettings, metrics: Metrics) -> Result<Self, ClientError> {
        // One answer per outstanding write: the producer's thread never waits here.
        let (sender, answers) = bounded(Outstanding::RECORDS_MAX);
        let producer = Producer::tireless(settings, move |write, outcome| {
            // Fails only when the router is gone, and then nobody waits for it.
            drop(sender.send((write, outcome.map(drop))));
        })?;
        Ok(Self {
            producer,
            answers,
            outstanding: Outstanding::default(),
            unanswered: Unanswered::default(),
            started: Instant::now(),
            waiting: VecDeque::new(),
            retry_at: Instant::now(),
            delay: Self::DELAY_MIN,
            outage: None,
            metrics,
        })
    }

    /// Whether one more record of that [`cost`] may be sent: not while others wait to be sent again.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        self.outstanding.has_room(bytes) && self.waiting.is_empty()
    }

    /// Sent or waiting to be sent again.
    pub(crate) const fn outstanding(&self) -> usize {
        self.outstanding.records
    }

    /// Takes charge of a record; the caller has asked [`Self::has_room`], but for a record that
    /// takes the place of a refused one.
    pub(crate) fn send(&mut self, record: &NewRecord, mut write: Write) {
        write.bytes = cost(record);
        self.outstanding.add(write.bytes);
        write.sent_at = self.second(Instant::now());
        self.unanswered.sent(write.sent_at);
        if let Err((error, write)) = self.producer.send(record, write) {
            self.refused(error, write, VecDeque::push_back);
        }
    }

    /// What became of the next write, waiting for it at most `timeout`. Failures that may pass are
    /// kept and tried again; they are no answer.
    pub(crate) fn next_answer(&mut self, timeout: Duration) -> Option<Answer> {
        loop {
            let (write, outcome) = if timeout.is_zero() {
                self.answers.try_recv().ok()?
            } else {
                self.answers.recv_timeout(timeout).ok()?
            };
            match outcome {
                Ok(()) => {
                    self.answered(&write);
                    return Some(Answer::Written(write));
                }
                Err(WriteError::TooLarge) => {
                    self.answered(&write);
                    return Some(Answer::TooLarge(write));
                }
                Err(WriteError::Fatal(reason)) => return Some(Answer::Fatal(reason)),
                Err(error) => self.refused(error, write, VecDeque::push_back),
            }
        }
    }

    /// Sends again what failed, once its time has come. A record that is too large for librdkafka
    /// itself is the answer.
    pub(crate) fn retry(&mut self, now: Instant) -> Option<Answer> {
        if now < self.retry_at {
            return None;
        }
        for _ in 0..self.waiting.len() {
            let write = self.waiting.pop_front()?;
            let sent = match &write.what {
                What::Delivery { template, endpoint } => {
                    let record = template.record(endpoint);
                    self.producer.send(&record, write)
                }
                What::DeadLetter(letter) => {
                    let record = Arc::clone(&letter.record);
                    self.producer.send(&record, write)
                }
            };
            match sent {
                Ok(()) => {}
                Err((WriteError::TooLarge, write)) => {
                    self.answered(&write);
                    return Some(Answer::TooLarge(write));
                }
                Err((WriteError::Fatal(reason), _)) => return Some(Answer::Fatal(reason)),
                Err((error, write)) => {
                    self.refused(error, write, VecDeque::push_front);
                    return None;
                }
            }
        }
        None
    }

    /// Says when writes have been waiting too long, once, and when that is over.
    pub(crate) fn tell_when_late(&mut self, now: Instant) {
        // What fails has its own alarm, which knows why.
        if self.outage.is_some() {
            return;
        }
        let outstanding = self.outstanding.records;
        match self.unanswered.look(self.second(now)) {
            Some(News::Late(seconds)) => error!(
                seconds,
                outstanding,
                "alarm: cannot write; the oldest write waits so long for its acknowledgement: are \
                 all brokers there, and enough replicas in sync? Nothing is lost or skipped"
            ),
            Some(News::Over(seconds)) => info!(seconds, "writes are acknowledged in time again"),
            None => {}
        }
    }

    fn second(&self, now: Instant) -> Second {
        now.saturating_duration_since(self.started).as_secs()
    }

    /// A write is no longer outstanding.
    fn answered(&mut self, write: &Write) {
        self.outstanding.remove(write.bytes);
        self.unanswered.answered(write.sent_at);
        if write.failed {
            self.recovered();
        }
    }

    fn refused(
        &mut self,
        error: WriteError,
        mut write: Write,
        put: fn(&mut VecDeque<Write>, Write),
    ) {
        match error {
            WriteError::QueueFull => self.wait(Self::QUEUE_FULL_DELAY),
            // Larger than librdkafka itself takes: `retry` hands it out in the next turn.
            WriteError::TooLarge => {}
            _ => {
                self.metrics.write_failed(write.what.topic());
                self.failed(&error, &write);
                write.failed = true;
            }
        }
        put(&mut self.waiting, write);
    }

    /// One alarm per outage. Failures come in bursts, as a whole batch expires at once: only the
    /// first of a burst moves the next try.
    fn failed(&mut self, error: &WriteError, write: &Write) {
        let outage = self.outage.get_or_insert_with(|| {
            error!(
                topic = %write.what.full_topic(),
                %error,
                "alarm: cannot write; what failed is tried again, nothing is lost or skipped"
            );
            Outage {
                since: Instant::now(),
                unwritten: 0,
            }
        });
        outage.unwritten += usize::from(!write.failed);
        if Instant::now() >= self.retry_at {
            self.wait(self.delay);
            self.delay = (self.delay * 2).min(Self::DELAY_MAX);
        }
    }

    fn wait(&mut self, delay: Duration) {
        self.retry_at = Instant::now() + delay;
    }

    /// A write that had failed is written, or needs not be any more.
    fn recovered(&mut self) {
        let Some(outage) = &mut self.outage else {
            return;
        };
        outage.unwritten -= 1;
        if outage.unwritten == 0 {
            info!(
                seconds = outage.since.elapsed().as_secs(),
                "everything that failed is written"
            );
            self.outage = None;
            self.delay = Self::DELAY_MIN;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_take_room_too() {
        let record = NewRecord {
            topic: "t".into(),
            partition: 0,
            key: Some(Bytes::from_static(b"key")),
            value: Some(Bytes::from_static(b"value")),
            headers: vec![("".into(), None), ("name".into(), Some("x".into()))],
        };
        assert_eq!(cost(&record), 3 + 5 + 2 * 100 + 5);
    }

    #[test]
    fn bytes_and_records_are_bounded() {
        let mut outstanding = Outstanding::default();
        outstanding.add(Outstanding::BYTES_MAX - 10);
        assert!(outstanding.has_room(10) && !outstanding.has_room(11));
        outstanding.add(10);
        assert!(!outstanding.has_room(1));
        outstanding.remove(Outstanding::BYTES_MAX - 10);
        assert!(outstanding.has_room(11));
        let mut many = Outstanding::default();
        for _ in 0..Outstanding::RECORDS_MAX {
            assert!(many.has_room(1));
            many.add(1);
        }
        assert!(!many.has_room(0));
    }

    #[test]
    fn a_record_larger_than_all_the_room_goes_alone() {
        let mut outstanding = Outstanding::default();
        assert!(outstanding.has_room(Outstanding::BYTES_MAX * 2));
        outstanding.add(1);
        assert!(!outstanding.has_room(Outstanding::BYTES_MAX * 2));
        outstanding.remove(1);
        outstanding.add(Outstanding::BYTES_MAX * 2);
        assert!(!outstanding.has_room(0));
    }
}
