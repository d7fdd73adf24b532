//! A compacted topic as a stream that first catches up, then follows.
//!
//! Decides when a partition counts as loaded: when everything that was on the log at the moment of
//! [`TableReader::add`] has been handed over. Leaves the table itself, and which version of a key
//! wins, to the receiver.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use postrider_domain::Record;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use tracing::warn;

use crate::background::{Background, Ended, Stopping, offer};
use crate::client::{ClientError, ClientSettings, LogContext};
use crate::logs::{Log, Place, look};
use crate::record::RecordReader;

/// What a table reader has to say; per partition in this order: records, one `Loaded`, records,
/// one `Removed`. Records come as they lie on the log, each once: a tombstone is a record without
/// a value, and what compaction removed does not come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableEvent {
    /// A record, old ones first.
    Record(Record),
    /// All that was on the log when the partition was added has been handed over.
    Loaded {
        /// The partition.
        partition: i32,
    },
    /// The partition was removed and nothing of it follows; until then events of it are from
    /// before. Tells the events of two ownerships of one partition apart.
    Removed {
        /// The partition.
        partition: i32,
    },
}

/// Reads partitions of one topic from the beginning and follows them, on its own thread.
///
/// It never commits and never gives up: while a broker is away, or the topic does not exist yet, it
/// keeps trying. When the receiver is slow the reader waits, when the receiver is gone it stops.
///
/// Where the log was trimmed or made anew behind its back, it starts at the beginning again, so
/// that later records than `Loaded` may be old ones.
pub struct TableReader {
    commands: Sender<Command>,
    thread: Background,
}

enum Command {
    Add(Vec<i32>),
    Remove(Vec<i32>),
}

impl TableReader {
    /// Starts with no partition. `group` is only named to the broker (librdkafka asks for one); the
    /// reader never joins it.
    ///
    /// # Errors
    /// [`ClientError::Settings`]; an absent broker is no error here.
    pub fn start(
        settings: &ClientSettings,
        topic: &str,
        group: &str,
        events: Sender<TableEvent>,
    ) -> Result<Self, ClientError> {
        let mut config = settings.consumer(group);
        config.set("enable.partition.eof", "true");
        // An offset that is gone means that the topic was trimmed or made anew: read it all again.
        config.set("auto.offset.reset", "earliest");
        let consumer = config
            .create_with_context(LogContext::new())
            .map_err(ClientError::refused("make a consumer"))?;
        // Not bounded: the sender must never wait for the thread that waits for the sender. There
        // is one command per change of assignment.
        let (commands, inbox) = unbounded();
        let mut reading = Reading {
            consumer,
            topic: topic.into(),
            inbox,
            events,
            waiting: BTreeSet::new(),
            retry_at: None,
            complained: false,
            loading: BTreeMap::new(),
            records: RecordReader::default(),
        };
        let thread = Background::repeat(format!("table {topic}"), move |stopping| {
            reading.step(stopping)
        })?;
        Ok(Self { commands, thread })
    }

    /// Whether its thread lives; it ends when this is dropped, when nobody listens, or by a bug.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.thread.is_running()
    }

    /// Reads these partitions too. One that is read already is not read again.
    pub fn add(&self, partitions: &[i32]) {
        self.command(Command::Add(partitions.to_vec()));
    }

    /// Stops reading these; `Removed` follows for each, also when it was not read.
    pub fn remove(&self, partitions: &[i32]) {
        self.command(Command::Remove(partitions.to_vec()));
    }

    /// Stops and waits for the thread; the same as dropping it.
    pub fn stop(self) {
        drop(self);
    }

    fn command(&self, command: Command) {
        // Fails only when the thread has ended, which it does only when the receiver is gone.
        drop(self.commands.send(command));
    }
}

/// The thread's side.
struct Reading {
    consumer: BaseConsumer<LogContext>,
    topic: Arc<str>,
    inbox: Receiver<Command>,
    events: Sender<TableEvent>,
    /// Added but not assigned yet: their end is not known.
    waiting: BTreeSet<i32>,
    retry_at: Option<Instant>,
    complained: bool,
    /// Assigned and not loaded yet: the offset that must be reached.
    loading: BTreeMap<i32, i64>,
    records: RecordReader,
}

impl Reading {
    const POLL: Duration = Duration::from_millis(20);
    const RETRY: Duration = Duration::from_millis(500);
    const ASK: Duration = Duration::from_secs(2);

    fn step(&mut self, stopping: &Stopping) -> Result<(), Ended> {
        while let Ok(command) = self.inbox.try_recv() {
            match command {
                Command::Add(partitions) => self.add(&partitions),
                Command::Remove(partitions) => self.remove(&partitions, stopping)?,
            }
        }
        self.assign_waiting(stopping)?;
        let event = match self.consumer.poll(Self::POLL) {
            None => return Ok(()),
            Some(Ok(message)) => TableEvent::Record(self.records.read(&message)),
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                return self.loaded(partition, stopping);
            }
            // The context has logged it; librdkafka goes on by itself.
            Some(Err(_)) => return Ok(()),
        };
        let reached = match &event {
            TableEvent::Record(record) => (record.origin.partition, record.origin.offset + 1),
            _ => return Ok(()),
        };
        self.tell(event, stopping)?;
        match self.loading.get(&reached.0) {
            Some(end) if reached.1 >= *end => self.loaded(reached.0, stopping),
            _ => Ok(()),
        }
    }

    fn add(&mut self, partitions: &[i32]) {
        for partition in partitions {
            if !self.is_assigned(*partition) && self.waiting.insert(*partition) {
                self.retry_at = None;
            }
        }
    }

    fn remove(&mut self, partitions: &[i32], stopping: &Stopping) -> Result<(), Ended> {
        for partition in partitions {
            self.waiting.remove(partition);
            self.loading.remove(partition);
            if self.is_assigned(*partition) {
                let list = self.list(*partition, Offset::Invalid);
                if let Err(error) = self.consumer.incremental_unassign(&list) {
                    warn!(topic = %self.topic, partition, %error, "cannot stop reading");
                }
            }
            let partition = *partition;
            self.tell(TableEvent::Removed { partition }, stopping)?;
        }
        Ok(())
    }

    /// Learns the ends of all waiting partitions and starts reading them. Without an answer one
    /// waits on: an unknown topic or partition would be silence for ever once assigned.
    fn assign_waiting(&mut self, stopping: &Stopping) -> Result<(), Ended> {
        if self.waiting.is_empty() || self.retry_at.is_some_and(|at| Instant::now() < at) {
            return Ok(());
        }
        let places: Vec<Place> = self
            .waiting
            .iter()
            .map(|partition| (Arc::clone(&self.topic), *partition))
            .collect();
        let logs = look(
            &self.consumer,
            &places.iter().collect::<Vec<_>>(),
            Self::ASK,
        );
        stopping.check()?;
        let logs = match logs {
            Ok(logs) => logs,
            Err(error) => {
                self.complain(&error.to_string());
                Vec::new()
            }
        };
        for ((_, partition), log) in places.into_iter().zip(logs) {
            match log {
                Some(Log::Holds { low, high }) => self.assign(partition, low..high, stopping)?,
                Some(Log::Absent) => self.complain("there is no such topic or partition"),
                None => self.complain("a partition has no leader"),
            }
        }
        let all_read = self.waiting.is_empty();
        self.retry_at = (!all_read).then(|| Instant::now() + Self::RETRY);
        self.complained &= !all_read;
        Ok(())
    }

    fn assign(
        &mut self,
        partition: i32,
        log: std::ops::Range<i64>,
        stopping: &Stopping,
    ) -> Result<(), Ended> {
        let list = self.list(partition, Offset::Beginning);
        if let Err(error) = self.consumer.incremental_assign(&list) {
            self.complain(&error.to_string());
            return Ok(());
        }
        self.waiting.remove(&partition);
        self.loading.insert(partition, log.end);
        if log.is_empty() {
            return self.loaded(partition, stopping);
        }
        Ok(())
    }

    fn complain(&mut self, reason: &str) {
        if !self.complained {
            warn!(topic = %self.topic, waiting = ?self.waiting, reason, "cannot read yet, will retry");
        }
        self.complained = true;
    }

    /// Also at the end of the partition, because the last offsets may hold no record (transaction
    /// markers, compaction).
    fn loaded(&mut self, partition: i32, stopping: &Stopping) -> Result<(), Ended> {
        match self.loading.remove(&partition) {
            Some(_) => self.tell(TableEvent::Loaded { partition }, stopping),
            None => Ok(()),
        }
    }

    /// Waits for room, as long as it takes and nobody stops the reader.
    fn tell(&self, event: TableEvent, stopping: &Stopping) -> Result<(), Ended> {
        let mut untold = offer(&self.events, event, Self::POLL)?;
        while let Some(event) = untold {
            stopping.check()?;
            untold = offer(&self.events, event, Self::POLL)?;
        }
        Ok(())
    }

    fn is_assigned(&self, partition: i32) -> bool {
        self.consumer.assignment().is_ok_and(|assigned| {
            let found = assigned.find_partition(&self.topic, partition);
            found.is_some()
        })
    }

    fn list(&self, partition: i32, offset: Offset) -> TopicPartitionList {
        let key = (self.topic.to_string(), partition);
        [(key, offset)].into_iter().collect()
    }
}
