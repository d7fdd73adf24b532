//! The embedded broker: librdkafka's mock cluster, in this process, on a port of 127.0.0.1.
//!
//! Decides what it may hold. It keeps about 5 MiB or 100 000 batches of a partition and drops the
//! oldest without a word, so a [`Watch`] counts what every partition holds and tells before
//! anything is dropped. It forgets everything when it is dropped, knows no admin requests, and
//! makes any topic somebody asks for. Clients of it are configured with
//! [`ClientSettings::quick`](crate::ClientSettings::quick). Leaves what to do about a full
//! partition to the caller.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postrider_domain::Record;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::{Offset, TopicPartitionList};
use tracing::warn;

use crate::background::{Background, Ended};
use crate::client::{ClientError, ClientSettings, LogContext};
use crate::record::RecordReader;

/// A broker in this process; dropping it ends it, and all it holds is gone. Clients go first.
pub struct EmbeddedBroker {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl EmbeddedBroker {
    /// What it keeps of one partition, in bytes of batches (`rd_kafka_mock_partition_init`).
    pub const PARTITION_BYTES_MAX: u64 = 5 << 20;
    /// And in batches, which are at most as many as records.
    pub const PARTITION_RECORDS_MAX: u64 = 100_000;

    /// Starts it on a free port.
    ///
    /// # Errors
    /// The system gives no port or thread.
    pub fn start() -> Result<Self, ClientError> {
        let cluster =
            MockCluster::new(1).map_err(ClientError::refused("start the embedded broker"))?;
        Ok(Self { cluster })
    }

    /// `host:port`, for any client on this machine.
    #[must_use]
    pub fn brokers(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// Makes a topic; its admin API cannot.
    ///
    /// # Errors
    /// The name is taken.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<(), ClientError> {
        self.cluster
            .create_topic(name, partitions, 1)
            .map_err(ClientError::refused(format!("make topic {name}")))
    }
}

/// A partition of the embedded broker is at its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Overflow {
    /// Nothing is lost yet.
    #[error(
        "the embedded broker keeps {} MiB of a partition, and partition {partition} of {topic} is \
         nearly full", EmbeddedBroker::PARTITION_BYTES_MAX >> 20
    )]
    NearlyFull {
        /// Its topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
    },
    /// It came too fast: the oldest records are gone.
    #[error(
        "the embedded broker keeps {} MiB of a partition, and has dropped the oldest records of \
         {topic}", EmbeddedBroker::PARTITION_BYTES_MAX >> 20
    )]
    Dropped {
        /// Its topic, where it is known.
        topic: Arc<str>,
    },
}

/// Reads every topic there is from its first record, as long as it lives, and counts.
pub struct Watch {
    _thread: Background,
}

impl Watch {
    /// `on_overflow` runs once, on the watch's thread, which then ends. To be started before
    /// anything is written.
    ///
    /// # Errors
    /// [`ClientError::Settings`].
    pub fn start(
        settings: &ClientSettings,
        on_overflow: impl FnOnce(Overflow) + Send + 'static,
    ) -> Result<Self, ClientError> {
        let consumer = settings
            .consumer("watch")
            .create_with_context(LogContext::silent())
            .map_err(ClientError::refused("make a consumer"))?;
        let mut counting = Counting {
            consumer,
            records: RecordReader::default(),
            topics: BTreeMap::new(),
            look_at: Instant::now(),
        };
        let mut on_overflow = Some(on_overflow);
        let thread = Background::repeat("watch", move |_| {
            counting.step().map_err(|overflow| {
                if let Some(tell) = on_overflow.take() {
                    tell(overflow);
                }
                Ended
            })
        })?;
        Ok(Self { _thread: thread })
    }
}

/// The thread's side.
struct Counting {
    consumer: BaseConsumer<LogContext>,
    records: RecordReader,
    /// What each partition of a topic holds.
    topics: BTreeMap<Arc<str>, Vec<Held>>,
    look_at: Instant,
}

impl Counting {
    const POLL: Duration = Duration::from_millis(50);
    /// How often it looks for topics made meanwhile.
    const LOOK: Duration = Duration::from_secs(1);

    fn step(&mut self) -> Result<(), Overflow> {
        if Instant::now() >= self.look_at {
            self.look_at = Instant::now() + Self::LOOK;
            self.look_for_topics();
        }
        let record = match self.consumer.poll(Self::POLL) {
            None => return Ok(()),
            Some(Ok(message)) => self.records.read(&message),
            Some(Err(error)) => {
                return match error.rdkafka_error_code() {
                    // The next record to read is gone; the error does not name its place.
                    Some(RDKafkaErrorCode::AutoOffsetReset) => Err(self.dropped()),
                    _ => Ok(()),
                };
            }
        };
        let topic = &record.origin.topic;
        let held = self.topics.get_mut(topic).and_then(|partitions| {
            let index = usize::try_from(record.origin.partition).ok()?;
            partitions.get_mut(index)
        });
        held.map_or(Ok(()), |held| held.count(&record))
    }

    fn dropped(&self) -> Overflow {
        let lost = self.topics.iter().find(|(topic, partitions)| {
            (0..).zip(partitions.iter()).any(|(partition, _)| {
                let wait = Duration::from_secs(1);
                let ends = self.consumer.fetch_watermarks(topic, partition, wait);
                ends.is_ok_and(|(low, _)| low > 0)
            })
        });
        let topic = lost.map_or_else(|| "a topic".into(), |(topic, _)| Arc::clone(topic));
        Overflow::Dropped { topic }
    }

    /// Also what others made, by asking for it.
    fn look_for_topics(&mut self) {
        let metadata = match self.consumer.fetch_metadata(None, Duration::from_secs(2)) {
            Ok(metadata) => metadata,
            Err(error) => return warn!(%error, "cannot list the embedded broker's topics"),
        };
        let mut found = TopicPartitionList::new();
        for topic in metadata.topics() {
            let count = topic.partitions().len();
            if count == 0 || self.topics.contains_key(topic.name()) {
                continue;
            }
            self.topics
                .insert(topic.name().into(), vec![Held::default(); count]);
            for partition in topic.partitions() {
                let from = Offset::Offset(0);
                if let Err(error) = found.add_partition_offset(topic.name(), partition.id(), from) {
                    warn!(topic = topic.name(), %error, "cannot watch a partition");
                }
            }
        }
        if found.count() > 0
            && let Err(error) = self.consumer.incremental_assign(&found)
        {
            warn!(%error, "cannot watch new topics");
        }
    }
}

/// What a partition holds, at most.
#[derive(Clone, Debug, Default)]
struct Held {
    bytes: u64,
    records: u64,
}

impl Held {
    /// Nine tenths: the rest is for what is written before it is counted.
    const BYTES_MAX: u64 = EmbeddedBroker::PARTITION_BYTES_MAX / 10 * 9;
    const RECORDS_MAX: u64 = EmbeddedBroker::PARTITION_RECORDS_MAX / 10 * 9;

    fn count(&mut self, record: &Record) -> Result<(), Overflow> {
        let topic = &record.origin.topic;
        // Offsets have no gaps here: there are no transactions and there is no compaction.
        if u64::try_from(record.origin.offset) != Ok(self.records) {
            return Err(Overflow::Dropped {
                topic: Arc::clone(topic),
            });
        }
        self.records += 1;
        self.bytes += stored_bytes(record);
        if self.bytes > Self::BYTES_MAX || self.records > Self::RECORDS_MAX {
            return Err(Overflow::NearlyFull {
                topic: Arc::clone(topic),
                partition: record.origin.partition,
            });
        }
        Ok(())
    }
}

/// The most a record takes on the log: as if it were alone in its batch, not compressed, and every
/// length in it took its longest form.
fn stored_bytes(record: &Record) -> u64 {
    const BATCH: usize = 61;
    const RECORD: usize = 1 + 10 + 4 * 5;
    const HEADER: usize = 2 * 5;
    let key = record.key.as_deref().map_or(0, <[u8]>::len);
    let value = record.value.as_deref().map_or(0, <[u8]>::len);
    let bytes = key + value + record.headers_len();
    (bytes + BATCH + RECORD + HEADER * record.headers.len()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use postrider_domain::{Origin, Timestamp};

    fn record(offset: i64, bytes: usize) -> Record {
        Record {
            origin: Origin {
                topic: "t".into(),
                partition: 3,
                offset,
            },
            timestamp: Timestamp::default(),
            key: None,
            value: Some(vec![0; bytes].into()),
            headers: vec![("h".into(), Some(Bytes::from_static(b"v")))],
        }
    }

    #[test]
    fn a_partition_is_reported_before_the_broker_drops_of_it() {
        let mut held = Held::default();
        let full = (0..).find_map(|offset| held.count(&record(offset, 100_000)).err());
        let topic = "t".into();
        assert_eq!(
            full,
            Some(Overflow::NearlyFull {
                topic,
                partition: 3
            })
        );
        assert!(held.bytes < EmbeddedBroker::PARTITION_BYTES_MAX);
    }

    #[test]
    fn many_small_records_fill_it_too() {
        let mut held = Held {
            bytes: 0,
            records: Held::RECORDS_MAX - 1,
        };
        let next = i64::try_from(held.records).unwrap();
        assert_eq!(held.count(&record(next, 1)), Ok(()));
        assert!(held.count(&record(next + 1, 1)).is_err());
    }

    #[test]
    fn a_gap_means_that_records_are_gone() {
        let mut held = Held::default();
        assert_eq!(held.count(&record(0, 1)), Ok(()));
        assert!(matches!(
            held.count(&record(2, 1)),
            Err(Overflow::Dropped { .. })
        ));
    }
}
