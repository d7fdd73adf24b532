//! Reading a topic for a person: what is there now, or what comes from now on.
//!
//! Decides where reading starts and what "to the end" means: the end when it was opened. Leaves the
//! meaning of the records to the caller.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use postrider_domain::Record;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use crate::client::{ClientError, ClientSettings, LogContext, patient};
use crate::record::RecordReader;

/// Where reading starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From<'a> {
    /// At the oldest record there is.
    Beginning,
    /// After the newest record there was when it was opened.
    End,
    /// At each partition's offset, or the oldest record after it; at the end where that is earlier,
    /// and at the oldest record where none is given.
    Offsets(&'a BTreeMap<i32, i64>),
}

/// A reader of one topic, of one partition or all; it never commits and joins nothing.
pub struct Tail {
    consumer: BaseConsumer<LogContext>,
    records: RecordReader,
    /// Partitions whose end of the time of opening is not reached, with that end.
    unread: Vec<(i32, i64)>,
}

impl Tail {
    /// Opens a topic; `partition: None` = all that there are now. `group` is only named to the
    /// broker.
    ///
    /// # Errors
    /// No broker answered within `wait`, or the topic or partition does not exist.
    pub fn open(
        settings: &ClientSettings,
        group: &str,
        topic: &str,
        partition: Option<i32>,
        from: From<'_>,
        wait: Duration,
    ) -> Result<Self, ClientError> {
        let mut config = settings.consumer(group);
        config.set("enable.partition.eof", "true");
        let consumer: BaseConsumer<LogContext> =
            config
                .create_with_context(LogContext::silent())
                .map_err(ClientError::refused("make a consumer"))?;
        let all = partitions(&consumer, settings, topic, wait)?;
        let chosen: Vec<i32> = match partition {
            Some(one) if all.contains(&one) => vec![one],
            Some(_) => return Err(unknown(topic)),
            None => all,
        };
        let mut assignment = TopicPartitionList::with_capacity(chosen.len());
        let mut unread = Vec::new();
        for partition in chosen {
            let (low, high) = patient(&consumer, settings, wait, |step| {
                consumer.fetch_watermarks(topic, partition, step)
            })?;
            let start = match from {
                From::Beginning => low,
                From::End => high,
                From::Offsets(offsets) => offsets
                    .get(&partition)
                    .map_or(low, |at| (*at).clamp(low, high)),
            };
            assignment
                .add_partition_offset(topic, partition, Offset::Offset(start))
                .map_err(ClientError::refused("choose where to read"))?;
            if start < high {
                unread.push((partition, high));
            }
        }
        consumer
            .incremental_assign(&assignment)
            .map_err(ClientError::refused("start to read"))?;
        Ok(Self {
            consumer,
            records: RecordReader::default(),
            unread,
        })
    }

    /// The next record, of whichever partition; `None` when none came in time. Waits through
    /// broker failures.
    pub fn next(&mut self, timeout: Duration) -> Option<Record> {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if let Some(record) = self.poll(left) {
                return Some(record);
            }
            if left.is_zero() {
                return None;
            }
        }
    }

    /// Every record up to the end at the time of opening, handed over one by one.
    ///
    /// # Errors
    /// Nothing came for `patience` although the end was not reached.
    pub fn read_all(
        mut self,
        patience: Duration,
        mut each: impl FnMut(Record),
    ) -> Result<(), ClientError> {
        let mut heard = Instant::now();
        while !self.unread.is_empty() {
            let left = patience.saturating_sub(heard.elapsed());
            match self.poll(left) {
                Some(record) => {
                    heard = Instant::now();
                    each(record);
                }
                None if left.is_zero() => {
                    return Err(ClientError::Refused {
                        doing: "read to the end".to_owned(),
                        source: KafkaError::NoMessageReceived,
                    });
                }
                None => {}
            }
        }
        Ok(())
    }

    /// One look; `None` also when something else than a record came.
    fn poll(&mut self, timeout: Duration) -> Option<Record> {
        match self.consumer.poll(timeout)? {
            Ok(message) => {
                let record = self.records.read(&message);
                let (partition, next) = (record.origin.partition, record.origin.offset + 1);
                self.unread
                    .retain(|(unread, end)| *unread != partition || next < *end);
                Some(record)
            }
            // The last offsets may hold no record: the end of the partition counts too.
            Err(KafkaError::PartitionEOF(partition)) => {
                self.unread.retain(|(unread, _)| *unread != partition);
                None
            }
            Err(_) => None,
        }
    }
}

fn partitions(
    consumer: &BaseConsumer<LogContext>,
    settings: &ClientSettings,
    topic: &str,
    wait: Duration,
) -> Result<Vec<i32>, ClientError> {
    let metadata = patient(consumer, settings, wait, |step| {
        consumer.fetch_metadata(Some(topic), step)
    })?;
    let found = metadata.topics().iter().find(|t| t.name() == topic);
    match found {
        Some(t) if !t.partitions().is_empty() => {
            Ok(t.partitions().iter().map(|p| p.id()).collect())
        }
        _ => Err(unknown(topic)),
    }
}

fn unknown(topic: &str) -> ClientError {
    ClientError::Refused {
        doing: format!("read topic {topic}"),
        source: KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition),
    }
}
