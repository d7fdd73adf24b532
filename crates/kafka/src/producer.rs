//! Writing records and learning what became of each.
//!
//! Decides how librdkafka's answers are named ([`WriteError`]). Leaves retrying, and what an
//! unwritten record means, to the caller: a record that failed here settles nothing.

use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use postrider_domain::NewRecord;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, Message};

use crate::client::{ClientError, ClientSettings, Complaints};
use crate::record::owned_headers;

/// As the partition of a record on a topic that is not ours: chosen by its key, as the Java client
/// does, or at random without one.
pub const ANY_PARTITION: i32 = -1;

/// Why a record is not on the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// Larger than the topic's `max.message.bytes`; it will not fit later either.
    #[error("the record is larger than the topic takes (max.message.bytes)")]
    TooLarge,
    /// The producer's queue is full; try again after some acknowledgements.
    #[error("the producer's queue is full")]
    QueueFull,
    /// There is no such topic, or it has no such partition.
    #[error("there is no such topic or partition; `postrider topics plan` shows what is missing")]
    UnknownTopic,
    /// The producer cannot go on and must be made anew.
    #[error("the producer failed for good: {0}")]
    Fatal(String),
    /// Anything else, in librdkafka's words; may pass (a broker away, no permission yet).
    #[error("{0}")]
    Other(String),
}

impl From<&KafkaError> for WriteError {
    fn from(error: &KafkaError) -> Self {
        use RDKafkaErrorCode as Code;
        match error.rdkafka_error_code() {
            Some(Code::MessageSizeTooLarge | Code::InvalidMessageSize) => Self::TooLarge,
            Some(Code::QueueFull) => Self::QueueFull,
            Some(Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicOrPartition) => {
                Self::UnknownTopic
            }
            Some(code @ Code::Fatal) => Self::Fatal(code.to_string()),
            Some(code) => Self::Other(code.to_string()),
            None => Self::Other(error.to_string()),
        }
    }
}

/// An idempotent producer (`acks=all`) with a thread of its own that reports every record's fate,
/// each exactly once, with the tag it was sent with.
///
/// The offset of an acknowledged record is `None` when the answer to its first request was lost
/// and the broker, asked again, knew only that it has it (`DUPLICATE_SEQUENCE_NUMBER`): it is on
/// the log, nobody says where.
///
/// Dropping it gives up what is still queued, reporting each as failed; [`flush`](Self::flush) first.
pub struct Producer<T: Send + Sync + 'static> {
    inner: ThreadedProducer<Acks<T>>,
}

impl<T: Send + Sync + 'static> Producer<T> {
    /// `on_ack` runs on the producer's thread (and on the one that calls [`flush`](Self::flush)):
    /// it must not block, and must not drop the producer.
    ///
    /// # Errors
    /// [`ClientError::Settings`]; an absent broker is no error here.
    pub fn new(
        settings: &ClientSettings,
        on_ack: impl Fn(T, Result<Option<i64>, WriteError>) + Send + Sync + 'static,
    ) -> Result<Self, ClientError> {
        Self::with(&settings.producer(), Box::new(on_ack))
    }

    /// As [`Self::new`], for who writes in order: no record is given up because it waited long, so
    /// none has to be sent again behind younger ones.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn tireless(
        settings: &ClientSettings,
        on_ack: impl Fn(T, Result<Option<i64>, WriteError>) + Send + Sync + 'static,
    ) -> Result<Self, ClientError> {
        Self::with(&settings.tireless_producer(), Box::new(on_ack))
    }

    fn with(config: &ClientConfig, on_ack: OnAck<T>) -> Result<Self, ClientError> {
        let context = Acks {
            on_ack,
            complaints: Complaints::new(true),
        };
        let inner = config
            .create_with_context(context)
            .map_err(ClientError::refused("make a producer"))?;
        Ok(Self { inner })
    }

    /// Queues a record; never blocks. What becomes of it is reported with the tag.
    ///
    /// # Errors
    /// The record was not queued: the tag comes back and is not reported.
    pub fn send(&self, record: &NewRecord, tag: T) -> Result<(), (WriteError, T)> {
        let message = BaseRecord::<[u8], [u8], Box<T>> {
            topic: &record.topic,
            partition: Some(record.partition),
            payload: record.value.as_deref(),
            key: record.key.as_deref(),
            timestamp: None,
            headers: Some(owned_headers(record)),
            delivery_opaque: Box::new(tag),
        };
        self.inner
            .send(message)
            .map_err(|(error, back)| ((&error).into(), *back.delivery_opaque))
    }

    /// Waits until everything queued is reported, at most `timeout`; whether that was enough.
    pub fn flush(&self, timeout: Duration) -> bool {
        self.inner.flush(timeout).is_ok()
    }
}

type OnAck<T> = Box<dyn Fn(T, Result<Option<i64>, WriteError>) + Send + Sync>;

struct Acks<T> {
    on_ack: OnAck<T>,
    complaints: Complaints,
}

impl<T: Send + Sync + 'static> ClientContext for Acks<T> {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.complaints.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.complaints.error(&error, reason);
    }
}

impl<T: Send + Sync + 'static> ProducerContext for Acks<T> {
    type DeliveryOpaque = Box<T>;

    fn delivery(&self, result: &DeliveryResult<'_>, tag: Box<T>) {
        let outcome = match result {
            // Negative = librdkafka was not told.
            Ok(message) => Ok(Some(message.offset()).filter(|offset| *offset >= 0)),
            Err((error, _)) => Err(WriteError::from(error)),
        };
        (self.on_ack)(*tag, outcome);
    }
}

/// Writes and waits, for commands.
pub struct Writer {
    producer: Producer<Sender<Result<(), WriteError>>>,
}

impl Writer {
    /// A writer with a producer of its own.
    ///
    /// # Errors
    /// As [`Producer::new`].
    pub fn new(settings: &ClientSettings) -> Result<Self, ClientError> {
        let producer = Producer::new(
            settings,
            |reply: Sender<Result<(), WriteError>>, outcome: Result<Option<i64>, WriteError>| {
                // A reply nobody waits for any more is nobody's loss.
                drop(reply.try_send(outcome.map(drop)));
            },
        )?;
        Ok(Self { producer })
    }

    /// Writes one record and waits for its acknowledgement (30 s at most, `message.timeout.ms`).
    ///
    /// # Errors
    /// The record is not known to be on the log.
    pub fn send_and_wait(&self, record: &NewRecord) -> Result<(), WriteError> {
        let written = self.send_all(std::slice::from_ref(record));
        written.map_err(|(_, error)| error)
    }

    /// Writes records, of one partition in this order, and waits for all acknowledgements.
    ///
    /// # Errors
    /// How many are known to be on the log, which need not be the first ones, and why the others
    /// are not.
    pub fn send_all(&self, records: &[NewRecord]) -> Result<(), (usize, WriteError)> {
        /// Records on their way at once.
        const WINDOW: usize = 1_000;
        let mut written = 0;
        for window in records.chunks(WINDOW) {
            let (reply, outcomes) = bounded(window.len());
            let mut failed = None;
            for record in window {
                if let Err((error, _)) = self.producer.send(record, reply.clone()) {
                    failed = Some(error);
                    break;
                }
            }
            // Ends when each that was taken is answered: its tag is gone then.
            drop(reply);
            for outcome in outcomes {
                match outcome {
                    Ok(()) => written += 1,
                    Err(error) => failed = failed.or(Some(error)),
                }
            }
            if let Some(error) = failed {
                return Err((written, error));
            }
        }
        Ok(())
    }
}
