//! A group member that reads intake topics, driven by one thread of its caller.
//!
//! Decides how the group is joined, that a revocation is answered only when the caller says so
//! ([`Intake::hand_back`]), that one commit is in flight at a time, and where reading goes on when
//! the committed offset is gone: at the oldest record there is, and never silently. Leaves which
//! offsets may be committed, and when a revoked partition is settled, to the caller.
//!
//! No thread of its own: rebalances, commit results and records come in one order, out of
//! [`Intake::poll`], so the caller needs no lock. Commits are queued to librdkafka and their result
//! is seen by a later poll: a blocking commit would hold up routing for as long as the group's
//! coordinator is away (6 to 9 s when its broker dies).

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use postrider_domain::Record;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use tracing::{debug, warn};

use crate::client::{ClientError, ClientSettings, Complaints};
use crate::group::{GroupProtocol, commit_queued};
use crate::record::RecordReader;

/// What to read, and as a member of which group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntakeSettings {
    /// The consumer group.
    pub group: String,
    /// Topics by name. One that does not exist is read as soon as it does.
    pub topics: Vec<String>,
    /// Patterns that a whole topic name must match, with or without the `^` and `$` around them.
    pub patterns: Vec<String>,
    /// How the group shares the partitions.
    pub protocol: GroupProtocol,
}

/// A partition of an intake topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourcePartition {
    /// Full topic name.
    pub topic: Arc<str>,
    /// Partition number.
    pub partition: i32,
}

/// What happened, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IntakeEvent {
    /// The next record of some partition.
    Record(Record),
    /// These are ours now; their records follow, from the committed offset or the oldest record.
    Assigned(Vec<SourcePartition>),
    /// The group wants these back: settle, commit, then [`Intake::hand_back`]. More of these may
    /// come before that; one hand-back answers all.
    Revoked(Vec<SourcePartition>),
    /// The group gave these to others already, as this member was not heard of in time. Nothing of
    /// them may be committed any more; they are handed back.
    Lost(Vec<SourcePartition>),
    /// Where reading would have gone on is not in the log (expired, or the topic was truncated or
    /// made anew): it starts again at the oldest record.
    Restarted {
        /// The partition.
        partition: SourcePartition,
        /// The offset that was wanted.
        expected: i64,
        /// The oldest offset there is, where reading goes on.
        low: i64,
        /// The end of the log.
        high: i64,
    },
    /// The broker's answer to [`Intake::commit`]. After an error nothing of it counts.
    Committed(Result<(), String>),
    /// The client cannot go on.
    Failed(String),
}

/// The member. Dropping it leaves the group; [`Intake::close`] bounds how long that takes.
pub struct Intake {
    consumer: BaseConsumer<Rebalances>,
    records: RecordReader,
    topics: Vec<String>,
    events: VecDeque<IntakeEvent>,
    /// Revoked and not handed back.
    open: Vec<SourcePartition>,
    paused: bool,
    /// Held on their own, whatever the others do.
    held: BTreeSet<SourcePartition>,
    committing: bool,
    /// librdkafka does not know where to read some partition, and since when we look into it.
    astray: Option<Instant>,
}

impl Intake {
    /// Most partitions of one commit: the broker writes a request as one batch.
    pub const COMMIT_MAX: usize = 500;

    /// Subscribes; an absent broker or topic is waited for.
    ///
    /// # Errors
    /// [`ClientError::Settings`] when librdkafka refuses a property.
    pub fn subscribe(
        settings: &ClientSettings,
        intake: IntakeSettings,
    ) -> Result<Self, ClientError> {
        let mut config = settings.consumer(&intake.group);
        intake.protocol.configure(&mut config);
        // How soon a topic that is created later is found; the default is five minutes.
        config.set("topic.metadata.refresh.interval.ms", "10000");
        let consumer: BaseConsumer<Rebalances> = config
            .create_with_context(Rebalances::new())
            .map_err(ClientError::refused("make a consumer"))?;
        let patterns: Vec<String> = intake.patterns.iter().map(|p| whole_name(p)).collect();
        let names = intake.topics.iter().chain(&patterns);
        consumer
            .subscribe(&names.map(String::as_str).collect::<Vec<_>>())
            .map_err(ClientError::refused("subscribe"))?;
        Ok(Self {
            consumer,
            records: RecordReader::default(),
            topics: intake.topics,
            events: VecDeque::new(),
            open: Vec::new(),
            paused: false,
            held: BTreeSet::new(),
            committing: false,
            astray: None,
        })
    }

    /// The next event; `None` when there was none in time. Must be called at least once a minute,
    /// also while nothing is wanted (then [`Intake::pause`]): it is what keeps the membership.
    pub fn poll(&mut self, timeout: Duration) -> Option<IntakeEvent> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        // Not while a revocation is open: any change of the assignment would answer it.
        if self.open.is_empty() && self.astray.is_some_and(|at| Instant::now() >= at) {
            self.find_way();
        }
        let polled = match self.consumer.poll(timeout) {
            None => None,
            Some(Ok(message)) => Some(IntakeEvent::Record(self.records.read(&message))),
            Some(Err(KafkaError::MessageConsumptionFatal(code))) => Some(IntakeEvent::Failed(
                format!("the consumer failed for good: {code}"),
            )),
            Some(Err(error)) => {
                if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset) {
                    self.astray = Some(Instant::now());
                }
                // The rest comes as error events too, which the context logs.
                debug!(%error, "poll");
                None
            }
        };
        self.take_callbacks();
        self.events.extend(polled);
        self.events.pop_front()
    }

    /// Stops records of every partition, also of those assigned later, until [`Intake::resume`].
    /// What was fetched ahead is dropped and fetched again: not for short waits.
    pub fn pause(&mut self) {
        if !self.paused {
            self.paused = true;
            self.apply_pause();
        }
    }

    /// Lets records come again, but of partitions that are held on their own.
    pub fn resume(&mut self) {
        if self.paused {
            self.paused = false;
            let all = self.consumer.assignment().and_then(|all| {
                self.consumer.resume(&all)?;
                self.consumer.pause(&listed(&self.held))
            });
            warn_if_failed(all, "resume");
        }
    }

    /// Stops records of one partition until [`Intake::let_go`]; what was fetched ahead of it is
    /// dropped and fetched again. A record may still slip through.
    pub fn hold(&mut self, partition: &SourcePartition) {
        if self.held.insert(partition.clone()) && !self.paused {
            let held = self.consumer.pause(&listed([partition]));
            warn_if_failed(held, "hold a partition");
        }
    }

    /// Lets records of a held partition come again; also of one that is not ours any more, as
    /// librdkafka would hold it still when it comes back.
    pub fn let_go(&mut self, partition: &SourcePartition) {
        if self.held.remove(partition) {
            let gone = self.consumer.resume(&listed([partition]));
            warn_if_failed(gone, "let a partition go");
            if self.paused {
                self.apply_pause();
            }
        }
    }

    /// Sends a commit of at most [`Self::COMMIT_MAX`] next offsets; [`IntakeEvent::Committed`]
    /// follows. `false` = one is on its way already, or librdkafka took none.
    pub fn commit<'a>(&mut self, offsets: impl IntoIterator<Item = (&'a str, i32, i64)>) -> bool {
        if self.committing {
            return false;
        }
        let mut list = TopicPartitionList::new();
        for (topic, partition, offset) in offsets {
            let added = list.add_partition_offset(topic, partition, Offset::Offset(offset));
            warn_if_failed(added, "commit");
        }
        self.committing = commit_queued(&self.consumer, &list);
        self.committing
    }

    /// Gives back everything revoked so far. Nothing of it may be committed afterwards.
    pub fn hand_back(&mut self) {
        let open = std::mem::take(&mut self.open);
        if open.is_empty() {
            return;
        }
        let list = open
            .iter()
            .map(|p| ((p.topic.to_string(), p.partition), Offset::Invalid));
        warn_if_failed(release(&self.consumer, list.collect()), "hand back");
    }

    /// Which of the topics subscribed to by name do not exist. Takes at most `wait`.
    ///
    /// # Errors
    /// No broker answered in time.
    pub fn missing(&self, wait: Duration) -> Result<Vec<&str>, ClientError> {
        let deadline = Instant::now() + wait;
        let mut missing = Vec::new();
        for topic in &self.topics {
            let left = deadline.saturating_duration_since(Instant::now());
            let metadata = self
                .consumer
                .fetch_metadata(Some(topic), left)
                .map_err(ClientError::refused("look for the intake topics"))?;
            let found = metadata.topics().iter().find(|found| found.name() == topic);
            if found.is_none_or(|found| found.partitions().is_empty()) {
                missing.push(&**topic);
            }
        }
        Ok(missing)
    }

    /// Leaves the group, answering whatever is revoked meanwhile; whether that took less than
    /// `wait`. Past it, the group learns of it by the end of the session.
    pub fn close(mut self, wait: Duration) -> bool {
        self.consumer
            .context()
            .closing
            .store(true, Ordering::Relaxed);
        self.hand_back();
        let consumer = self.consumer;
        let (done, closed) = bounded::<()>(1);
        let closer = move || {
            consumer.unsubscribe();
            drop(consumer);
            drop(done);
        };
        match thread::Builder::new()
            .name("intake close".to_owned())
            .spawn(closer)
        {
            Ok(_) => {
                closed.recv_timeout(wait) == Err(crossbeam_channel::RecvTimeoutError::Disconnected)
            }
            Err(_) => false,
        }
    }

    /// What the callbacks noted during the last poll, in order.
    fn take_callbacks(&mut self) {
        let noted = {
            let mut noted = self
                .consumer
                .context()
                .noted
                .lock()
                .unwrap_or_else(|e| e.into_inner());
            std::mem::take(&mut *noted)
        };
        for event in noted {
            match &event {
                IntakeEvent::Assigned(_) if self.paused => self.apply_pause(),
                IntakeEvent::Revoked(revoked) => self.open.extend_from_slice(revoked),
                // The answer to a lost assignment answered what was open too.
                IntakeEvent::Lost(_) => self.open.clear(),
                IntakeEvent::Committed(_) => self.committing = false,
                _ => {}
            }
            self.events.push_back(event);
        }
    }

    fn apply_pause(&self) {
        let all = self
            .consumer
            .assignment()
            .and_then(|all| self.consumer.pause(&all));
        warn_if_failed(all, "pause");
    }

    /// Sends every partition that librdkafka cannot place to the oldest record. The error names
    /// none, so each is compared with its log.
    fn find_way(&mut self) {
        match self.place_all() {
            Ok(()) => self.astray = None,
            Err(error) => {
                warn!(%error, "cannot find out where to read, will retry");
                self.astray = Some(Instant::now() + Duration::from_secs(1));
            }
        }
    }

    fn place_all(&mut self) -> Result<(), KafkaError> {
        let wait = Duration::from_secs(2);
        let reached = self.consumer.position()?;
        let mut unread = TopicPartitionList::new();
        for place in reached.elements() {
            if !matches!(place.offset(), Offset::Offset(_)) {
                unread.add_partition(place.topic(), place.partition());
            }
        }
        let committed = self.consumer.committed_offsets(unread, wait)?;
        let mut fresh = TopicPartitionList::new();
        for place in committed.elements() {
            place.error()?;
            if !matches!(place.offset(), Offset::Offset(_)) {
                // Nothing read and nothing committed: the group is here for the first time.
                let (topic, partition) = (place.topic(), place.partition());
                fresh.add_partition_offset(topic, partition, Offset::Beginning)?;
            }
        }
        for place in reached.elements().iter().chain(&committed.elements()) {
            if let Offset::Offset(expected) = place.offset() {
                self.check_place(place.topic(), place.partition(), expected, wait)?;
            }
        }
        self.reassign(&fresh)
    }

    fn check_place(
        &mut self,
        topic: &str,
        partition: i32,
        expected: i64,
        wait: Duration,
    ) -> Result<(), KafkaError> {
        let (low, high) = self.consumer.fetch_watermarks(topic, partition, wait)?;
        if (low..=high).contains(&expected) {
            return Ok(());
        }
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(low))?;
        self.reassign(&list)?;
        self.events.push_back(IntakeEvent::Restarted {
            partition: SourcePartition {
                topic: topic.into(),
                partition,
            },
            expected,
            low,
            high,
        });
        Ok(())
    }

    fn reassign(&self, list: &TopicPartitionList) -> Result<(), KafkaError> {
        if list.count() == 0 {
            return Ok(());
        }
        self.consumer.incremental_unassign(list)?;
        self.consumer.incremental_assign(list)?;
        if self.paused {
            self.consumer.pause(list)?;
        }
        Ok(())
    }
}

fn listed<'a>(partitions: impl IntoIterator<Item = &'a SourcePartition>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for place in partitions {
        list.add_partition(&place.topic, place.partition);
    }
    list
}

/// The pattern as a subscription that both protocols read alike: librdkafka (classic) searches in
/// the name, the broker (KIP-848) matches the whole of it.
fn whole_name(pattern: &str) -> String {
    let inner = pattern.strip_prefix('^').unwrap_or(pattern);
    let inner = match inner.strip_suffix('$') {
        Some(stem) if !stem.ends_with('\\') => stem,
        _ => inner,
    };
    format!("^({inner})$")
}

/// Answers every open revocation: gives back those of the list that are still assigned.
fn release<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    list: TopicPartitionList,
) -> Result<(), KafkaError> {
    let assigned = consumer.assignment()?;
    let mut held = TopicPartitionList::new();
    for place in list.elements() {
        if assigned
            .find_partition(place.topic(), place.partition())
            .is_some()
        {
            held.add_partition(place.topic(), place.partition());
        }
    }
    consumer.incremental_unassign(&held)
}

fn warn_if_failed<T>(result: Result<T, KafkaError>, doing: &str) {
    if let Err(error) = result {
        warn!(%error, "cannot {doing}");
    }
}

/// Notes what librdkafka calls back with, for the poll that made it call.
struct Rebalances {
    complaints: Complaints,
    noted: Mutex<Vec<IntakeEvent>>,
    /// The consumer is being dropped: nobody would answer later.
    closing: AtomicBool,
}

impl Rebalances {
    fn new() -> Self {
        Self {
            complaints: Complaints::new(true),
            noted: Mutex::new(Vec::new()),
            closing: AtomicBool::new(false),
        }
    }

    fn note(&self, event: IntakeEvent) {
        self.noted
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .push(event);
    }
}

impl ClientContext for Rebalances {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.complaints.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // Answered by `Intake::find_way`, and no news when a group is new.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AutoOffsetReset) {
            self.complaints.error(&error, reason);
        }
    }
}

impl ConsumerContext for Rebalances {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        error: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let elements = list.elements();
        let partition = |place: &TopicPartitionListElem<'_>| SourcePartition {
            topic: place.topic().into(),
            partition: place.partition(),
        };
        let partitions: Vec<_> = elements.iter().map(partition).collect();
        if error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            // Without offsets: librdkafka asks for the committed ones, and again while it must.
            warn_if_failed(consumer.incremental_assign(list), "take partitions");
            self.note(IntakeEvent::Assigned(partitions));
        } else if consumer.assignment_lost() {
            let all = consumer.assignment().and_then(|all| release(consumer, all));
            warn_if_failed(all, "give up partitions");
            self.note(IntakeEvent::Lost(partitions));
        } else if self.closing.load(Ordering::Relaxed) {
            warn_if_failed(release(consumer, list.clone()), "hand back");
        } else {
            self.note(IntakeEvent::Revoked(partitions));
        }
    }

    fn commit_callback(&self, result: Result<(), KafkaError>, _: &TopicPartitionList) {
        self.note(IntakeEvent::Committed(result.map_err(|e| e.to_string())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_stands_for_a_whole_name() {
        assert_eq!(whole_name("^payments\\..*"), "^(payments\\..*)$");
        assert_eq!(whole_name("^a|b$"), "^(a|b)$");
        assert_eq!(whole_name("^price\\$"), "^(price\\$)$");
    }
}
