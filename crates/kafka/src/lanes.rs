//! Reading partitions at explicit offsets, as the caller says, without being a member of anything.
//!
//! Decides that a partition that cannot be read where it should be is named and left alone, never
//! read from somewhere else, and that one which is silent though it should not be is noticed
//! (`silence` says when; `renewal` makes a client anew that is of no use). Leaves which lanes are
//! read, from where, and how much, to `engine`.

mod looker;
mod renewal;
mod silence;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use postrider_domain::Record;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Message, Offset, TopicPartitionList};
use tracing::{debug, error, warn};

use self::looker::{Look, Looker};
use self::renewal::Renewal;
use self::silence::{Finding, Measure, Patience, Remedy, Silence, Standstill};
use crate::background::{Background, Ended, Stopping, offer};
use crate::client::{ClientError, ClientSettings, LogContext};
use crate::logs::Place;
use crate::record::RecordReader;

/// What a lane reader has to say of a lane, under the tag its reading was asked for with. What is
/// an alarm is in the log too.
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
    /// The topic or partition does not exist any more: the lane is not read any more.
    Lost {
        /// The reading.
        tag: T,
    },
    /// Another client is given records of the lane and this one is not, and to start the reading
    /// anew did not help. It goes on being tried; said once until a record comes.
    Stalled {
        /// The reading.
        tag: T,
        /// The end of the log.
        high: i64,
    },
    /// No lane at all has given a record for a minute, though some have records to be read, and a
    /// new client did not help: this reader is of no use any more. Said once a minute as long as it
    /// lasts.
    AllStalled {
        /// How many lanes have records.
        lanes: usize,
    },
}

/// A consumer on a thread of its own that reads any number of lanes. Dropping it stops it.
///
/// A lane silent for 10 s is looked at by another client on another thread, so that records of
/// other lanes do not wait. If that one is given a record from the lane's next offset on, and
/// `events` was not full meanwhile, the reading is started anew; 10 s later, [`LaneEvent::Stalled`].
/// Outside its log at two looks 1 s apart: [`LaneEvent::OutOfRange`]. Absent at two looks 5 s apart:
/// [`LaneEvent::Lost`].
///
/// When no lane at all was given a record for 20 s though such looks found some, the client is made
/// anew, with every lane at its next offset, and again every 20 s that this lasts; after 60 s
/// [`LaneEvent::AllStalled`]. By that nothing is left out, repeated or reordered within a lane: the
/// next offset is behind the last record that was handed on, and what the old client still held is
/// dropped.
pub struct LaneReader<T: Copy + Send + 'static> {
    commands: Sender<Command<T>>,
    thread: Background,
}

struct Command<T> {
    place: Place,
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
        let looker = Looker::start(settings, group, name)?;
        Self::start_with(settings, group, name, events, looker, Patience::USUAL)
    }

    fn start_with(
        settings: &ClientSettings,
        group: &str,
        name: &str,
        events: Sender<LaneEvent<T>>,
        looker: Looker,
        patience: Patience,
    ) -> Result<Self, ClientError> {
        // Not bounded: the sender must never wait for the thread that waits for the sender. There
        // are at most a start and a stop per lane and change of its owner's mind.
        let (commands, inbox) = unbounded();
        let mut reading = Reading::new(settings, group, inbox, events, looker, patience)?;
        let thread = Background::repeat(format!("read {name}"), move |stopping| {
            reading.step(stopping)
        })?;
        Ok(Self { commands, thread })
    }

    /// Reads a lane from an offset on (`None` = from its beginning), in place of any earlier
    /// reading of it.
    pub fn read(&self, topic: &Arc<str>, partition: i32, from: Option<i64>, tag: T) {
        self.command(Command {
            place: (Arc::clone(topic), partition),
            read: Some((tag, from)),
        });
    }

    /// Stops reading a lane. Records on their way may still come, under its last tag.
    pub fn stop_reading(&self, topic: &Arc<str>, partition: i32) {
        self.command(Command {
            place: (Arc::clone(topic), partition),
            read: None,
        });
    }

    /// Whether its thread lives; it ends when this is dropped, when nobody listens, or by a bug.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.thread.is_running()
    }

    fn command(&self, command: Command<T>) {
        // The thread ends only when it is stopped or nobody listens.
        drop(self.commands.send(command));
    }
}

/// One lane that is read.
struct Lane<T> {
    topic: Arc<str>,
    tag: T,
    /// The next offset; `None` = the first there is.
    next: Option<i64>,
    /// Which placing this is, so that a look at an earlier one is not taken for one at this.
    number: u64,
    silence: Silence,
}

/// The thread's side.
struct Reading<T> {
    consumer: BaseConsumer<LogContext>,
    renewal: Renewal,
    inbox: Receiver<Command<T>>,
    events: Sender<LaneEvent<T>>,
    /// What is read, by partition.
    lanes: BTreeMap<i32, Vec<Lane<T>>>,
    placings: u64,
    looker: Looker,
    patience: Patience,
    /// When to look for silent lanes next.
    watch_at: Instant,
    /// When `events` had no room last.
    crowded_at: Option<Instant>,
    standstill: Standstill,
    records: RecordReader,
}

impl<T: Copy> Reading<T> {
    const POLL: Duration = Duration::from_millis(10);

    fn new(
        settings: &ClientSettings,
        group: &str,
        inbox: Receiver<Command<T>>,
        events: Sender<LaneEvent<T>>,
        looker: Looker,
        patience: Patience,
    ) -> Result<Self, ClientError> {
        let renewal = Renewal::new(settings, group);
        Ok(Self {
            consumer: renewal.make()?,
            renewal,
            inbox,
            events,
            lanes: BTreeMap::new(),
            placings: 0,
            looker,
            patience,
            watch_at: Instant::now(),
            crowded_at: None,
            standstill: Standstill::default(),
            records: RecordReader::default(),
        })
    }

    fn step(&mut self, stopping: &Stopping) -> Result<(), Ended> {
        self.obey();
        self.watch(stopping)?;
        let (partition, record) = match self.consumer.poll(Self::POLL) {
            None => return Ok(()),
            Some(Ok(message)) => (message.partition(), self.records.read(&message)),
            Some(Err(error)) => {
                // Other errors come to the context too, which logs them.
                if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset) {
                    self.go_astray();
                }
                return Ok(());
            }
        };
        let lanes = self.lanes.entry(partition).or_default();
        let topic = &record.origin.topic;
        let Some(lane) = lanes.iter_mut().find(|lane| lane.topic == *topic) else {
            return Ok(());
        };
        lane.next = Some(record.origin.offset + 1);
        lane.silence.heard(Instant::now(), &self.patience);
        let event = LaneEvent::Record(lane.tag, record);
        self.standstill.heard();
        self.tell(event, stopping)
    }

    /// Carries out the latest command per lane.
    fn obey(&mut self) {
        let mut latest = BTreeMap::new();
        for Command { place, read } in self.inbox.try_iter() {
            latest.insert(place, read);
        }
        if latest.is_empty() {
            return;
        }
        let (mut off, mut on) = (TopicPartitionList::new(), TopicPartitionList::new());
        let now = Instant::now();
        for (place, read) in latest {
            if self.take_out(&place).is_some() {
                off.add_partition(&place.0, place.1);
            }
            let Some((tag, from)) = read else { continue };
            let (topic, partition) = place;
            let offset = from.map_or(Offset::Beginning, Offset::Offset);
            if let Err(error) = on.add_partition_offset(&topic, partition, offset) {
                error!(%topic, partition, %error, "cannot read a lane");
                continue;
            }
            self.placings += 1;
            self.lanes.entry(partition).or_default().push(Lane {
                topic,
                tag,
                next: from,
                number: self.placings,
                silence: Silence::new(now, &self.patience),
            });
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

    /// The lanes with their partitions.
    fn placed(&self) -> impl Iterator<Item = (i32, &Lane<T>)> {
        self.lanes
            .iter()
            .flat_map(|(partition, lanes)| lanes.iter().map(move |lane| (*partition, lane)))
    }

    fn take_out(&mut self, (topic, partition): &Place) -> Option<Lane<T>> {
        let lanes = self.lanes.get_mut(partition)?;
        let at = lanes.iter().position(|lane| lane.topic == *topic)?;
        Some(lanes.swap_remove(at))
    }

    /// librdkafka says that some offset is not in its log, not which, and stops reading that lane.
    fn go_astray(&mut self) {
        let now = Instant::now();
        for lane in self.lanes.values_mut().flatten() {
            lane.silence.astray(now);
        }
        self.watch_at = now;
    }

    /// Looks at silent lanes, and takes in what an earlier look found.
    fn watch(&mut self, stopping: &Stopping) -> Result<(), Ended> {
        let findings = self.looker.findings()?;
        if !findings.is_empty() {
            self.take_findings(findings, stopping)?;
        }
        let now = Instant::now();
        if now < self.watch_at || self.looker.is_busy() {
            return Ok(());
        }
        self.watch_at = now + self.patience.outside.min(self.patience.silence);
        if !self.placed().any(|(_, lane)| lane.silence.is_due(now, now)) {
            return Ok(());
        }
        // Idle lanes that are nearly due too, so that they are looked at together.
        let soon = now + self.patience.silence / 4;
        let looks = self
            .placed()
            .filter(|(_, lane)| lane.silence.is_due(now, soon))
            .map(|(partition, lane)| Look {
                place: (Arc::clone(&lane.topic), partition),
                number: lane.number,
                next: lane.next,
            })
            .collect();
        self.looker.look(looks)
    }

    fn take_findings(
        &mut self,
        findings: Vec<(Look, Finding)>,
        stopping: &Stopping,
    ) -> Result<(), Ended> {
        let now = Instant::now();
        let crowded = self
            .crowded_at
            .is_some_and(|at| now.duration_since(at) < self.patience.silence);
        for (look, finding) in findings {
            self.take_finding(now, look, finding, crowded, stopping)?;
        }
        let is_ahead = |(_, lane): &(i32, &Lane<T>)| lane.silence.is_ahead();
        let ahead = self.placed().filter(is_ahead).count();
        match self.standstill.judge(now, &self.patience, ahead) {
            Remedy::None => Ok(()),
            Remedy::Renew => {
                self.renew(now, ahead);
                Ok(())
            }
            Remedy::AllStalled => {
                let seconds = self.patience.all.as_secs();
                error!(
                    lanes = ahead,
                    seconds, "records wait on lanes and none is read: reader stalled"
                );
                self.tell(LaneEvent::AllStalled { lanes: ahead }, stopping)
            }
        }
    }

    /// Puts a new client in place of the one that is given nothing, each lane at its next offset.
    ///
    /// What is known of the silence of the lanes stays: it goes on until a record comes.
    fn renew(&mut self, now: Instant, ahead: usize) {
        let mut list = TopicPartitionList::new();
        for (partition, lane) in self.placed() {
            let offset = lane.next.map_or(Offset::Beginning, Offset::Offset);
            if let Err(error) = list.add_partition_offset(&lane.topic, partition, offset) {
                error!(topic = %lane.topic, partition, %error, "cannot read a lane");
            }
        }
        let seconds = self.patience.renew.as_secs();
        match self.renewal.replace(&mut self.consumer, &list) {
            Ok(()) => {
                self.standstill.renewed(now);
                warn!(
                    lanes = ahead,
                    seconds,
                    "records wait on lanes and none is read: the Kafka client was made anew and \
                     reads on where the old one stopped"
                );
            }
            Err(error) => warn!(
                lanes = ahead,
                seconds,
                %error,
                "records wait on lanes and none is read, and the Kafka client cannot be made anew: \
                 this is tried again"
            ),
        }
    }

    fn take_finding(
        &mut self,
        now: Instant,
        Look {
            place,
            number,
            next,
        }: Look,
        finding: Finding,
        crowded: bool,
        stopping: &Stopping,
    ) -> Result<(), Ended> {
        let (topic, partition) = &place;
        let lanes = self.lanes.entry(*partition).or_default();
        // One that was stopped, placed elsewhere or heard of since is as it should be.
        let same = |lane: &&mut Lane<T>| lane.number == number && lane.next == next;
        let Some(lane) = lanes.iter_mut().find(same) else {
            return Ok(());
        };
        let tag = lane.tag;
        match lane.silence.judge(now, &self.patience, finding, crowded) {
            Measure::None => Ok(()),
            Measure::Replace => {
                if matches!(finding, Finding::Ahead { .. }) {
                    warn!(%topic, partition, ?next, "a silent lane has records: it is read anew");
                }
                self.place(&place, next);
                Ok(())
            }
            Measure::Stalled { high } => {
                error!(
                    %topic, partition, ?next, high,
                    "lane stalled: it has records, and reading it anew did not help; \
                     restart this worker if it lasts"
                );
                self.place(&place, next);
                self.tell(LaneEvent::Stalled { tag, high }, stopping)
            }
            Measure::OutOfRange { low, high } => {
                let wanted = next.unwrap_or(low);
                error!(
                    %topic, partition, wanted, low, high,
                    "offset out of range: lane stopped. Retention overtook this worker, or the topic \
                     was made anew; what is missing is gone. To go on with what is there, stop \
                     all dispatchers, reset the group's offset of this partition \
                     (kafka-consumer-groups --reset-offsets) and start them again"
                );
                self.give_up(&place);
                let event = LaneEvent::OutOfRange {
                    tag,
                    wanted,
                    low,
                    high,
                };
                self.tell(event, stopping)
            }
            Measure::Lost => {
                error!(
                    %topic, partition,
                    "the topic or partition does not exist any more: lane stopped; what it held \
                     is gone. Make it again with `postrider topics apply`, then restart this worker"
                );
                self.give_up(&place);
                self.tell(LaneEvent::Lost { tag }, stopping)
            }
        }
    }

    fn give_up(&mut self, place: &Place) {
        drop(self.take_out(place));
        let mut list = TopicPartitionList::new();
        list.add_partition(&place.0, place.1);
        if let Err(error) = self.consumer.incremental_unassign(&list) {
            warn!(topic = %place.0, partition = place.1, %error, "cannot stop reading a lane");
        }
    }

    /// Starts the reading of a lane anew.
    fn place(&self, (topic, partition): &Place, at: Option<i64>) {
        let mut list = TopicPartitionList::new();
        let offset = at.map_or(Offset::Beginning, Offset::Offset);
        let placed = list
            .add_partition_offset(topic, *partition, offset)
            .and_then(|()| {
                if let Err(error) = self.consumer.incremental_unassign(&list) {
                    debug!(%topic, partition, %error, "was not read at all");
                }
                self.consumer.incremental_assign(&list)
            });
        if let Err(error) = placed {
            warn!(%topic, partition, %error, "cannot place a lane");
        }
    }

    /// Waits for room; meanwhile commands are carried out.
    fn tell(&mut self, event: LaneEvent<T>, stopping: &Stopping) -> Result<(), Ended> {
        let mut untold = offer(&self.events, event, Self::POLL)?;
        while let Some(event) = untold {
            stopping.check()?;
            self.obey();
            untold = offer(&self.events, event, Self::POLL)?;
            self.crowded_at = Some(Instant::now());
            self.standstill.heard();
        }
        Ok(())
    }
}
