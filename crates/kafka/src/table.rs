//! A compacted topic as a stream that first catches up, then follows.
//!
//! Decides when a partition counts as loaded: when everything that was on the log at the moment of
//! [`TableReader::add`] has been handed over. Leaves the table itself, and which version of a key
//! wins, to the receiver.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, SendTimeoutError, Sender, bounded};
use postrider_domain::Record;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use tracing::warn;

use crate::client::{ClientError, ClientSettings, LogContext};
use crate::record::RecordReader;

/// What a table reader has to say; per partition in this order: records, one `Loaded`, records,
/// one `Removed`.
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
pub struct TableReader {
    commands: Sender<Command>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

enum Command {
    Add(Vec<i32>),
    Remove(Vec<i32>),
}

impl TableReader {
    /// Commands waiting for the reader; more than rebalances can pile up while it is busy.
    const COMMANDS_MAX: usize = 1_024;

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
        let (commands, inbox) = bounded(Self::COMMANDS_MAX);
        let stopping = Arc::new(AtomicBool::new(false));
        let mut reading = Reading {
            consumer,
            topic: topic.to_owned(),
            inbox,
            events,
            stopping: Arc::clone(&stopping),
            waiting: VecDeque::new(),
            retry_at: None,
            loading: BTreeMap::new(),
            records: RecordReader::default(),
        };
        let thread = thread::Builder::new()
            .name(format!("table {topic}"))
            .spawn(move || while reading.step().is_ok() {})
            .map_err(|e| ClientError::Settings(format!("cannot start a thread: {e}")))?;
        Ok(Self {
            commands,
            stopping,
            thread: Some(thread),
        })
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

impl Drop for TableReader {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("a table reader panicked");
        }
    }
}

/// The thread's side.
struct Reading {
    consumer: BaseConsumer<LogContext>,
    topic: String,
    inbox: Receiver<Command>,
    events: Sender<TableEvent>,
    stopping: Arc<AtomicBool>,
    /// Added but not assigned yet: their end is not known.
    waiting: VecDeque<i32>,
    retry_at: Option<Instant>,
    /// Assigned and not loaded yet: the offset that must be reached.
    loading: BTreeMap<i32, i64>,
    records: RecordReader,
}

/// The reader is to end: it was stopped or nobody listens.
struct Ended;

impl Reading {
    const POLL: Duration = Duration::from_millis(20);
    const RETRY: Duration = Duration::from_millis(500);

    fn step(&mut self) -> Result<(), Ended> {
        self.check()?;
        while let Ok(command) = self.inbox.try_recv() {
            match command {
                Command::Add(partitions) => self.add(&partitions),
                Command::Remove(partitions) => self.remove(&partitions)?,
            }
        }
        self.assign_waiting()?;
        let event = match self.consumer.poll(Self::POLL) {
            None => return Ok(()),
            Some(Ok(message)) => TableEvent::Record(self.records.read(&message)),
            Some(Err(KafkaError::PartitionEOF(partition))) => return self.loaded(partition),
            // The context has logged it; librdkafka goes on by itself.
            Some(Err(_)) => return Ok(()),
        };
        let reached = match &event {
            TableEvent::Record(record) => (record.origin.partition, record.origin.offset + 1),
            _ => return Ok(()),
        };
        self.tell(event)?;
        match self.loading.get(&reached.0) {
            Some(end) if reached.1 >= *end => self.loaded(reached.0),
            _ => Ok(()),
        }
    }

    fn add(&mut self, partitions: &[i32]) {
        for partition in partitions {
            if !self.is_assigned(*partition) && !self.waiting.contains(partition) {
                self.waiting.push_back(*partition);
                self.retry_at = None;
            }
        }
    }

    fn remove(&mut self, partitions: &[i32]) -> Result<(), Ended> {
        for partition in partitions {
            self.waiting.retain(|waiting| waiting != partition);
            self.loading.remove(partition);
            if self.is_assigned(*partition) {
                let list = self.list(*partition, Offset::Invalid);
                if let Err(error) = self.consumer.incremental_unassign(&list) {
                    warn!(topic = self.topic, partition, %error, "cannot stop reading");
                }
            }
            let partition = *partition;
            self.tell(TableEvent::Removed { partition })?;
        }
        Ok(())
    }

    /// Learns the end of each waiting partition and starts reading it. Without an answer it waits:
    /// an unknown topic or partition would be silence for ever once assigned.
    fn assign_waiting(&mut self) -> Result<(), Ended> {
        if self.retry_at.is_some_and(|at| Instant::now() < at) {
            return Ok(());
        }
        while let Some(partition) = self.waiting.front().copied() {
            self.check()?;
            let timeout = Duration::from_secs(2);
            let ends = self
                .consumer
                .fetch_watermarks(&self.topic, partition, timeout)
                .and_then(|(low, high)| {
                    let list = self.list(partition, Offset::Beginning);
                    self.consumer.incremental_assign(&list)?;
                    Ok((low, high))
                });
            match ends {
                Err(error) => {
                    if self.retry_at.is_none() {
                        warn!(topic = self.topic, partition, %error, "cannot read yet, will retry");
                    }
                    self.retry_at = Some(Instant::now() + Self::RETRY);
                    return Ok(());
                }
                Ok((low, high)) => {
                    self.waiting.pop_front();
                    self.loading.insert(partition, high);
                    if low == high {
                        self.loaded(partition)?;
                    }
                }
            }
        }
        self.retry_at = None;
        Ok(())
    }

    /// Also at the end of the partition, because the last offsets may hold no record (transaction
    /// markers, compaction).
    fn loaded(&mut self, partition: i32) -> Result<(), Ended> {
        match self.loading.remove(&partition) {
            Some(_) => self.tell(TableEvent::Loaded { partition }),
            None => Ok(()),
        }
    }

    /// Waits for room, as long as it takes and nobody stops the reader.
    fn tell(&self, event: TableEvent) -> Result<(), Ended> {
        let mut event = event;
        loop {
            match self.events.send_timeout(event, Self::POLL) {
                Ok(()) => return Ok(()),
                Err(SendTimeoutError::Disconnected(_)) => return Err(Ended),
                Err(SendTimeoutError::Timeout(back)) => event = back,
            }
            self.check()?;
        }
    }

    fn check(&self) -> Result<(), Ended> {
        if self.stopping.load(Ordering::Relaxed) {
            Err(Ended)
        } else {
            Ok(())
        }
    }

    fn is_assigned(&self, partition: i32) -> bool {
        self.consumer.assignment().is_ok_and(|assigned| {
            let found = assigned.find_partition(&self.topic, partition);
            found.is_some()
        })
    }

    fn list(&self, partition: i32, offset: Offset) -> TopicPartitionList {
        let key = (self.topic.clone(), partition);
        [(key, offset)].into_iter().collect()
    }
}
