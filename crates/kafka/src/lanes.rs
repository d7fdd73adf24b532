//! Reading partitions at explicit offsets, as the caller says, without being a member of anything.
//!
//! Decides that a partition that cannot be read where it should be is named and left alone: never
//! a silent jump. Leaves which lanes are read, from where, and how much, to `engine`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, SendTimeoutError, Sender, unbounded};
use postrider_domain::Record;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Message, Offset, TopicPartitionList};
use tracing::{error, warn};

use crate::client::{ClientError, ClientSettings, LogContext};
use crate::record::RecordReader;

/// What a lane reader has to say of a lane, under the tag its reading was asked for with.
#[derive(Clone, Debug)]
pub enum LaneEvent<T> {
    /// The next record.
    Record(T, Record),
    /// The offset to read is not in the log, which holds `low..high`: the lane is not read any
    /// more.
    OutOfRange {
        /// The reading.
        tag: T,
        /// The offset wanted.
        wanted: i64,
        /// The oldest offset there is.
        low: i64,
        /// The end of the log.
        high: i64,
    },
}

/// A consumer on a thread of its own that reads any number of lanes. Dropping it stops it.
pub struct LaneReader<T: Copy + Send + 'static> {
    commands: Sender<Command<T>>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

type Key = (Arc<str>, i32);

struct Command<T> {
    key: Key,
    /// `None` = stop.
    read: Option<(T, Option<i64>)>,
}

impl<T: Copy + Send + 'static> LaneReader<T> {
    /// Reads nothing yet. When `events` is full, reading waits.
    ///
    /// # Errors
    /// [`ClientError::Settings`] when librdkafka refuses a property.
    pub fn start(
        settings: &ClientSettings,
        group: &str,
        name: &str,
        events: Sender<LaneEvent<T>>,
    ) -> Result<Self, ClientError> {
        let consumer: BaseConsumer<LogContext> = settings
            .consumer(group)
            .create_with_context(LogContext::new())
            .map_err(ClientError::refused("make a consumer"))?;
        // Not bounded: the sender must never wait for the thread that waits for the sender. There
        // are at most a start and a stop per lane and change of its owner's mind.
        let (commands, inbox) = unbounded();
        let stopping = Arc::new(AtomicBool::new(false));
        let mut reading = Reading {
            consumer,
            inbox,
            events,
            stopping: Arc::clone(&stopping),
            lanes: BTreeMap::new(),
            astray: None,
            records: RecordReader::default(),
        };
        let thread = thread::Builder::new()
            .name(format!("read {name}"))
            .spawn(move || while reading.step().is_ok() {})
            .map_err(|e| ClientError::Settings(format!("cannot start a thread: {e}")))?;
        Ok(Self {
            commands,
            stopping,
            thread: Some(thread),
        })
    }

    /// Reads a lane from an offset on (`None` = from its beginning), in place of any earlier
    /// reading of it.
    pub fn read(&self, topic: &Arc<str>, partition: i32, from: Option<i64>, tag: T) {
        self.command(Command {
            key: (Arc::clone(topic), partition),
            read: Some((tag, from)),
        });
    }

    /// Stops reading a lane. Records on their way may still come, under its last tag.
    pub fn stop_reading(&self, topic: &Arc<str>, partition: i32) {
        self.command(Command {
            key: (Arc::clone(topic), partition),
            read: None,
        });
    }

    fn command(&self, command: Command<T>) {
        // The thread ends only when it is stopped or nobody listens.
        drop(self.commands.send(command));
    }
}

impl<T: Copy + Send + 'static> Drop for LaneReader<T> {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            error!("a lane reader panicked");
        }
    }
}

/// One assigned partition: its topic, its tag, and the next offset, once known.
type Lane<T> = (Arc<str>, T, Option<i64>);

/// The thread's side.
struct Reading<T> {
    consumer: BaseConsumer<LogContext>,
    inbox: Receiver<Command<T>>,
    events: Sender<LaneEvent<T>>,
    stopping: Arc<AtomicBool>,
    /// What is assigned, by partition.
    lanes: BTreeMap<i32, Vec<Lane<T>>>,
    /// librdkafka lost its place in some lane: when to look which, and those found outside their
    /// log at the last look.
    astray: Option<(Instant, BTreeSet<Key>)>,
    records: RecordReader,
}

/// The reader is to end.
struct Ended;

impl<T: Copy> Reading<T> {
    const POLL: Duration = Duration::from_millis(10);
    const ASK: Duration = Duration::from_secs(2);
    const LOOK_AGAIN: Duration = Duration::from_secs(1);

    fn step(&mut self) -> Result<(), Ended> {
        self.obey();
        if self
            .astray
            .as_ref()
            .is_some_and(|(at, _)| *at <= Instant::now())
        {
            self.find_out_of_range()?;
        }
        let (partition, record) = match self.consumer.poll(Self::POLL) {
            None => return self.check(),
            Some(Ok(message)) => (message.partition(), self.records.read(&message)),
            Some(Err(error)) => {
                // Other errors come to the context too, which logs them.
                if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset) {
                    self.astray
                        .get_or_insert_with(|| (Instant::now(), BTreeSet::new()));
                }
                return self.check();
            }
        };
        let lanes = self.lanes.entry(partition).or_default();
        let topic = &record.origin.topic;
        let Some((_, tag, next)) = lanes.iter_mut().find(|(name, ..)| name == topic) else {
            return Ok(());
        };
        *next = Some(record.origin.offset + 1);
        let event = LaneEvent::Record(*tag, record);
        self.tell(event)
    }

    /// Carries out the latest command per lane.
    fn obey(&mut self) {
        let mut latest = BTreeMap::new();
        for Command { key, read } in self.inbox.try_iter() {
            latest.insert(key, read);
        }
        if latest.is_empty() {
            return;
        }
        let (mut off, mut on) = (TopicPartitionList::new(), TopicPartitionList::new());
        for ((topic, partition), read) in latest {
            let lanes = self.lanes.entry(partition).or_default();
            if let Some(at) = lanes.iter().position(|(name, ..)| *name == topic) {
                lanes.swap_remove(at);
                off.add_partition(&topic, partition);
            }
            if let Some((tag, from)) = read {
                let offset = from.map_or(Offset::Beginning, Offset::Offset);
                if let Err(error) = on.add_partition_offset(&topic, partition, offset) {
                    error!(%topic, partition, %error, "cannot read a lane");
                    continue;
                }
                lanes.push((topic, tag, from));
            }
        }
        let stopped = |e: KafkaError| error!(error = %e, "cannot stop reading lanes");
        let started = |e: KafkaError| error!(error = %e, "cannot start reading lanes");
        if off.count() > 0 {
            self.consumer
                .incremental_unassign(&off)
                .unwrap_or_else(stopped);
        }
        if on.count() > 0 {
            self.consumer
                .incremental_assign(&on)
                .unwrap_or_else(started);
        }
    }

    /// librdkafka says that some offset is not in its log, not which, and stops reading that lane:
    /// every lane is compared with its log. One that is outside at two looks is stopped with an
    /// alarm; a new leader's log may end short for a moment. The others are placed anew.
    fn find_out_of_range(&mut self) -> Result<(), Ended> {
        let Some((_, suspects)) = self.astray.take() else {
            return Ok(());
        };
        let known: Vec<(Key, T, i64)> = self
            .lanes
            .iter()
            .flat_map(|(partition, lanes)| lanes.iter().map(|lane| (*partition, lane)))
            .filter_map(|(partition, (topic, tag, next))| {
                Some(((Arc::clone(topic), partition), *tag, (*next)?))
            })
            .collect();
        let mut outside = BTreeSet::new();
        let mut unanswered = false;
        for (key, tag, wanted) in known {
            self.check()?;
            match self.consumer.fetch_watermarks(&key.0, key.1, Self::ASK) {
                Ok((low, high)) if (low..=high).contains(&wanted) => self.place(&key, Some(wanted)),
                Ok((low, high)) if suspects.contains(&key) => {
                    let (topic, partition) = &key;
                    error!(%topic, partition, wanted, low, high, "offset out of range: lane stopped");
                    self.lanes
                        .entry(key.1)
                        .or_default()
                        .retain(|(name, ..)| *name != key.0);
                    self.place(&key, None);
                    self.tell(LaneEvent::OutOfRange {
                        tag,
                        wanted,
                        low,
                        high,
                    })?;
                }
                Ok(_) => {
                    outside.insert(key);
                }
                Err(error) => {
                    unanswered = true;
                    warn!(topic = %key.0, partition = key.1, %error, "cannot compare with the log");
                }
            }
        }
        if unanswered || !outside.is_empty() {
            self.astray = Some((Instant::now() + Self::LOOK_AGAIN, outside));
        }
        Ok(())
    }

    /// Reads a lane at an offset, or not at all.
    fn place(&self, (topic, partition): &Key, at: Option<i64>) {
        let mut list = TopicPartitionList::new();
        let offset = at.map_or(Offset::Invalid, Offset::Offset);
        let placed = list
            .add_partition_offset(topic, *partition, offset)
            .and_then(|()| self.consumer.incremental_unassign(&list))
            .and_then(|()| match at {
                Some(_) => self.consumer.incremental_assign(&list),
                None => Ok(()),
            });
        if let Err(error) = placed {
            warn!(%topic, partition, %error, "cannot place a lane");
        }
    }

    /// Waits for room; meanwhile commands are carried out.
    fn tell(&mut self, event: LaneEvent<T>) -> Result<(), Ended> {
        let mut event = event;
        loop {
            match self.events.send_timeout(event, Self::POLL) {
                Ok(()) => return Ok(()),
                Err(SendTimeoutError::Disconnected(_)) => return Err(Ended),
                Err(SendTimeoutError::Timeout(back)) => event = back,
            }
            self.check()?;
            self.obey();
        }
    }

    fn check(&self) -> Result<(), Ended> {
        if self.stopping.load(Ordering::Relaxed) {
            Err(Ended)
        } else {
            Ok(())
        }
    }
}
