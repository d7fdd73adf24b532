//! The ownership member: a group member that reads nothing.
//!
//! Decides how the group is joined, left and answered: the member subscribes to one topic whose
//! partitions stand for the slices, and answers every assignment and revocation with an *empty*
//! incremental list, so that it never fetches and the owned set stays with its caller. A
//! revocation is answered when the caller says so ([`Membership::hand_back`]); until then the
//! broker gives the partitions to nobody else. Commits go through this member, because the broker
//! fences by member and epoch, one at a time, with their result seen.
//! A group is left only on order ([`Membership::leave`]); a member that ends in any other way is
//! abandoned, so that nobody gets its slices while requests of its process may be under way.
//! Leaves what is owned and what may be committed to `engine::worker`.
//!
//! It has a thread of its own that does nothing else: heartbeats and rebalances are served from
//! its polls.

use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded, unbounded};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, Statistics, TopicPartitionList};
use tracing::{info, warn};

use crate::client::{ClientError, ClientSettings, Complaints};
use crate::group::{GroupProtocol, commit_queued};

/// What happened to the member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MembershipEvent {
    /// These partitions are ours now.
    Assigned(Vec<i32>),
    /// The group wants partitions back; [`Membership::hand_back`] answers all that are open.
    Revoked {
        /// Counts revocations and losses.
        number: u64,
        /// These.
        partitions: Vec<i32>,
    },
    /// The group gave everything to others already; [`Membership::hand_back`] answers that too.
    Lost {
        /// Counts revocations and losses.
        number: u64,
    },
    /// The answer to [`Membership::commit`].
    CommitFinished(CommitResult),
    /// The member left, as asked.
    Left,
    /// The client cannot go on; the process must be started anew.
    Fatal(String),
}

/// How the broker answered a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitResult {
    /// Every offset is stored.
    Accepted,
    /// None counts, for this reason.
    Refused(String),
    /// The group does not know this member any more.
    NotAMember,
    /// It named a topic or partition that the broker does not know; librdkafka does not say which.
    /// None counts, though the broker may have stored the others.
    UnknownLane,
}

impl CommitResult {
    fn of(result: KafkaResult<()>) -> Self {
        use RDKafkaErrorCode as Code;
        let Err(error) = result else {
            return Self::Accepted;
        };
        match error.rdkafka_error_code() {
            Some(Code::UnknownMemberId | Code::FencedInstanceId) => Self::NotAMember,
            Some(
                Code::UnknownTopicOrPartition
                | Code::UnknownTopicId
                | Code::UnknownTopic
                | Code::UnknownPartition,
            ) => Self::UnknownLane,
            _ => Self::Refused(error.to_string()),
        }
    }
}

/// One offset of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitOffset {
    /// Full topic name.
    pub topic: Arc<str>,
    /// Partition.
    pub partition: i32,
    /// The next offset to read.
    pub offset: i64,
    /// Kept beside it, at most 4 096 bytes.
    pub metadata: String,
}

/// How the member joins.
#[derive(Clone, Debug)]
pub struct MembershipSettings {
    /// The consumer group.
    pub group: String,
    /// The topic whose partitions stand for the slices.
    pub topic: String,
    /// Who decides which member owns what.
    pub protocol: GroupProtocol,
    /// Session and heartbeat, which the member asks for under the classic protocol; under KIP-848
    /// the broker decides them.
    pub session: Duration,
    /// How often the group hears from the member; decided like `session`.
    pub heartbeat: Duration,
}

/// The running member. Dropping it after [`Membership::leave`] waits until the group is left, 10 s at
/// most. Dropping it without abandons it: open revocations stay unanswered, and the group hears its
/// heartbeats until the process is gone, or for `max.poll.interval.ms`, then misses them for a
/// session. Only then others get the slices, as after a crash.
pub struct Membership {
    commands: Sender<Command>,
    /// Disconnected once the thread has ended.
    running: Receiver<()>,
}

/// Leaving is answered within a heartbeat; past this, the group learns of it by the end of the
/// session.
const LEAVE_MAX: Duration = Duration::from_secs(10);

enum Command {
    Commit(Vec<CommitOffset>),
    HandBack(u64),
    Leave,
    Abandon,
}

impl Membership {
    /// Joins the group; absent brokers are waited for. `on_event` runs on the member's thread and
    /// must not block.
    ///
    /// # Errors
    /// [`ClientError::Settings`] when librdkafka refuses a property.
    pub fn start(
        settings: &ClientSettings,
        membership: &MembershipSettings,
        on_event: impl Fn(MembershipEvent) + Send + Sync + 'static,
    ) -> Result<Self, ClientError> {
        let mut config = settings.consumer(&membership.group);
        membership.protocol.configure(&mut config);
        if membership.protocol == GroupProtocol::Classic {
            config.set(
                "session.timeout.ms",
                membership.session.as_millis().to_string(),
            );
            config.set(
                "heartbeat.interval.ms",
                membership.heartbeat.as_millis().to_string(),
            );
        }
        config.set("statistics.interval.ms", "5000");
        let context = Group {
            on_event: Box::new(on_event),
            complaints: Complaints::new(true),
            open: AtomicBool::new(false),
            revocations: AtomicU64::new(0),
            leaving: AtomicBool::new(false),
            outside_since: Mutex::new(None),
        };
        let consumer: BaseConsumer<Group> = config
            .create_with_context(context)
            .map_err(ClientError::refused("make a consumer"))?;
        consumer
            .subscribe(&[&membership.topic])
            .map_err(ClientError::refused("subscribe"))?;
        // Few by nature: one commit at a time, one answer per revocation.
        let (commands, inbox) = unbounded();
        let (alive, running) = bounded(0);
        thread::Builder::new()
            .name("membership".to_owned())
            .spawn(move || {
                let consumer = ManuallyDrop::new(consumer);
                Member { consumer, inbox }.run();
                drop(alive);
            })
            .map_err(|e| ClientError::Settings(format!("cannot start a thread: {e}")))?;
        Ok(Self { commands, running })
    }

    /// Sends a commit; [`MembershipEvent::CommitFinished`] follows. One at a time.
    pub fn commit(&self, offsets: Vec<CommitOffset>) {
        self.command(Command::Commit(offsets));
    }

    /// Answers every open revocation, if `number` is the last one's: the answer to an earlier one
    /// would answer those too that the caller has not heard of yet.
    pub fn hand_back(&self, number: u64) {
        self.command(Command::HandBack(number));
    }

    /// Leaves the group, once nothing of ours is under way any more: others get the slices at once.
    /// [`MembershipEvent::Left`] follows.
    pub fn leave(&self) {
        self.command(Command::Leave);
    }

    /// Whether its thread lives; until it is dropped, it ends by [`Self::leave`] or by a bug.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.running.try_recv() == Err(TryRecvError::Empty)
    }

    fn command(&self, command: Command) {
        // The thread ends by `Leave` and `Abandon`, after which nothing matters, or by a bug.
        drop(self.commands.send(command));
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        // After `Leave` nobody takes it.
        self.command(Command::Abandon);
        if self.running.recv_timeout(LEAVE_MAX) == Err(RecvTimeoutError::Timeout) {
            warn!("leaving the group takes too long; its slices move when the session ends");
        }
    }
}

/// The thread's side.
struct Member {
    /// Dropped only by [`Member::leave`], as that leaves the group. In all other cases, a panic among
    /// them, the client is leaked: nobody answers for what is under way, so nobody else may get the
    /// slices while this process lives. That is not long, as it ends with its dispatcher.
    consumer: ManuallyDrop<BaseConsumer<Group>>,
    inbox: Receiver<Command>,
}

impl Member {
    const POLL: Duration = Duration::from_millis(10);

    fn run(self) {
        loop {
            while let Ok(command) = self.inbox.try_recv() {
                match command {
                    Command::Commit(offsets) => self.commit(&offsets),
                    Command::HandBack(number) => {
                        let group = self.consumer.context();
                        if group.revocations.load(Ordering::Relaxed) == number {
                            group.answer(&self.consumer);
                        }
                    }
                    Command::Leave => return self.leave(),
                    Command::Abandon => {
                        warn!(
                            "not leaving the group: the slices move a session after this process ended"
                        );
                        return;
                    }
                }
            }
            self.poll();
        }
    }

    fn poll(&self) {
        if let Some(Err(KafkaError::MessageConsumptionFatal(code))) = self.consumer.poll(Self::POLL)
        {
            let reason = format!("the ownership member failed for good: {code}");
            (self.consumer.context().on_event)(MembershipEvent::Fatal(reason));
        }
        // Other errors come to the context too, which logs them.
    }

    fn commit(&self, offsets: &[CommitOffset]) {
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for CommitOffset {
            topic,
            partition,
            offset,
            metadata,
        } in offsets
        {
            let mut place = list.add_partition(topic, *partition);
            if let Err(error) = place.set_offset(Offset::Offset(*offset)) {
                let reason = format!("{topic}/{partition}: {error}");
                return self.refused(reason);
            }
            place.set_metadata(metadata);
        }
        if !commit_queued(&self.consumer, &list) {
            self.refused("librdkafka took no commit".to_owned());
        } else {
            postrider_points::reach!("kafka.commit.sent");
        }
    }

    fn refused(&self, reason: String) {
        let result = CommitResult::Refused(reason);
        (self.consumer.context().on_event)(MembershipEvent::CommitFinished(result));
    }

    /// Answers what is open, as closing with an unanswered revocation never ends, and leaves.
    fn leave(self) {
        let consumer = ManuallyDrop::into_inner(self.consumer);
        let group = consumer.context();
        group.leaving.store(true, Ordering::Relaxed);
        group.answer(&consumer);
        (group.on_event)(MembershipEvent::Left);
        consumer.unsubscribe();
        postrider_points::reach!("kafka.group.left");
    }
}

/// What librdkafka calls back.
struct Group {
    on_event: Box<dyn Fn(MembershipEvent) + Send + Sync>,
    complaints: Complaints,
    /// A revocation waits for its answer.
    open: AtomicBool,
    /// How many there were.
    revocations: AtomicU64,
    leaving: AtomicBool,
    /// Since when the broker counts us as no member, and whether that was said.
    outside_since: Mutex<Option<(Instant, bool)>>,
}

impl Group {
    /// Silence this long after joining usually means a broker that does not speak the protocol.
    const OUTSIDE_MAX: Duration = Duration::from_secs(15);

    fn answer<C: ConsumerContext>(&self, consumer: &BaseConsumer<C>) {
        if self.open.swap(false, Ordering::Relaxed)
            && let Err(error) = consumer.incremental_unassign(&TopicPartitionList::new())
        {
            warn!(%error, "cannot answer the revocation");
        }
    }
}

impl ClientContext for Group {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.complaints.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.complaints.error(&error, reason);
    }

    fn stats(&self, statistics: Statistics) {
        let Some(group) = statistics.cgrp else { return };
        let mut outside = self.outside_since.lock().unwrap_or_else(|e| e.into_inner());
        if group.join_state == "steady" || self.leaving.load(Ordering::Relaxed) {
            *outside = None;
            return;
        }
        let (since, said) = outside.get_or_insert((Instant::now(), false));
        if !*said && since.elapsed() >= Self::OUTSIDE_MAX {
            *said = true;
            warn!(
                state = group.state,
                join_state = group.join_state,
                "not a member of the dispatcher group yet; brokers before 4.0 do not answer \
                 the consumer protocol, set dispatcher.ownership = \"classic\" for them"
            );
        }
    }
}

impl ConsumerContext for Group {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        code: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let partitions = || {
            list.elements()
                .iter()
                .map(|place| place.partition())
                .collect()
        };
        match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                let partitions: Vec<i32> = partitions();
                info!(count = partitions.len(), "slices assigned");
                if let Err(error) = consumer.incremental_assign(&TopicPartitionList::new()) {
                    warn!(%error, "cannot answer the assignment");
                }
                (self.on_event)(MembershipEvent::Assigned(partitions));
            }
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => {
                self.open.store(true, Ordering::Relaxed);
                let number = self.revocations.fetch_add(1, Ordering::Relaxed) + 1;
                if consumer.assignment_lost() {
                    warn!("the group gave our slices to others: this member was not heard of");
                    // Not answered here: until it is, the broker refuses every commit that is
                    // still under way; afterwards it would take one for a slice of somebody else.
                    (self.on_event)(MembershipEvent::Lost { number });
                } else if self.leaving.load(Ordering::Relaxed) {
                    self.answer(consumer);
                } else {
                    let partitions: Vec<i32> = partitions();
                    info!(count = partitions.len(), "slices revoked");
                    (self.on_event)(MembershipEvent::Revoked { number, partitions });
                }
            }
            other => warn!(?other, "rebalance failed"),
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        let result = CommitResult::of(result);
        (self.on_event)(MembershipEvent::CommitFinished(result));
    }
}
