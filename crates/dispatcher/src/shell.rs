//! The thread that feeds the engine and carries out its orders.
//!
//! Decides the order in which inputs are taken (answers before records, so that what is under way
//! ends before more begins), and that after its end nothing more is taken or carried out; nothing
//! else. The group is left only by order of the engine: with any other end the membership is
//! abandoned, as requests are still under way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Select, Sender, TryRecvError, bounded, never, unbounded};
use http::HeaderValue;
use postrider_domain::{AttemptReport, AttemptResult, Lane, Slice, Timestamp};
use postrider_egress::Egress;
use postrider_engine::commits::CommitEntry;
use postrider_engine::io::{
    Claim, Observation, Order, Reading, StartAttempt, Ticket, Write, WriteFailure, WriteId,
};
use postrider_engine::lane::Committed;
use postrider_engine::worker::{CommitAnswer, Settings, Worker};
use postrider_kafka::lanes::{LaneEvent, LaneReader};
use postrider_kafka::membership::{CommitOffset, CommitResult, Membership, MembershipEvent};
use postrider_kafka::offsets::{Log, OffsetReader, Standing};
use postrider_kafka::{Producer, TableEvent, TableReader, WriteError};
use postrider_points as points;
use postrider_telemetry::Metrics;
use postrider_wire::topics::Topics;
use tokio::runtime::Handle;
use tracing::{debug, error, info, warn};

use crate::clock::Clock;
use crate::endpoints::{Endpoints, Known};
use crate::formats::Formats;
use crate::records::Encoder;
use crate::request::{self, Requests};
use crate::settings::DispatcherSettings;
use crate::states::{Read, States};
use crate::{Ended, StartError, faults, records, steps};

/// Records between a reader and the engine.
const RECORDS_MAX: usize = 256;
/// Endpoint records between the table reader and the engine.
const TABLE_EVENTS_MAX: usize = 256;
/// Inputs of one kind taken before the orders are carried out.
const BATCH_MAX: usize = 128;
/// How often the thread looks around when nothing happens.
const IDLE: Duration = Duration::from_millis(500);

/// Longest time to drain before it ends by itself: the engine gives up a drain after 75 s.
const DRAIN_MAX: Duration = Duration::from_secs(85);

/// An answer to something the engine ordered.
enum Answer {
    Membership(MembershipEvent),
    Offsets(Slice, Claim, Box<Standings>),
    Acked(WriteId, Write, Option<i64>),
    WriteFailed(WriteId, Write, WriteError),
    /// With the time at which its task began.
    Report(Ticket, Timestamp, Box<AttemptReport>),
    NotStarted(Ticket, Timestamp),
}

/// How the lanes of a slice stand.
struct Standings {
    committed: [Committed; Lane::COUNT],
    backlog_end: i64,
    /// Lanes that cannot be read on where they were left.
    faulty: Vec<Lane>,
}

impl Standings {
    /// In the order of the lanes.
    fn of(standings: Vec<Standing>) -> Self {
        let lanes = || Lane::all().zip(&standings);
        let faulty = lanes().filter(|(_, standing)| standing.fault().is_some());
        let faulty = faulty.map(|(lane, _)| lane).collect();
        let backlog = lanes().find(|(lane, _)| *lane == Lane::Backlog);
        let backlog_end = backlog.map_or(0, |(_, standing)| standing.end());
        // What was never committed is read from where its log begins.
        let begin = |log| match log {
            Log::Holds { low, .. } => Some((low, String::new())),
            Log::Absent => None,
        };
        let committed = standings.into_iter();
        let committed: Vec<Committed> = committed
            .map(|standing| standing.committed.or_else(|| begin(standing.log)))
            .collect();
        Self {
            committed: committed.try_into().expect("one answer per lane"),
            backlog_end,
            faulty,
        }
    }
}

pub(crate) struct Shell {
    clock: Clock,
    worker: Worker,
    metrics: Metrics,
    topics: Topics,
    encoder: Encoder,
    requests: Requests,
    formats: Formats,
    runtime: Handle,
    endpoints: Endpoints,
    membership: Membership,
    states: States,
    offsets: OffsetReader<(Slice, Claim)>,
    hot: LaneReader<Reading>,
    cold: LaneReader<Reading>,
    producer: Producer<(WriteId, Write)>,
    answers: Receiver<Answer>,
    answer: Sender<Answer>,
    hot_records: Receiver<LaneEvent<Reading>>,
    cold_records: Receiver<LaneEvent<Reading>>,
    table: Receiver<TableEvent>,
    state: Receiver<TableEvent>,
    stopping: Receiver<()>,
    /// The last revocation the engine was told of.
    revocation: u64,
    /// The commit in flight, by the first place it names.
    committing: Option<(Arc<str>, i32, i64)>,
    /// Why it drains though nobody told it to, and until when.
    failing: Option<(String, Instant)>,
    ended: Option<Ended>,
}

impl Shell {
    pub(crate) fn new(
        settings: &DispatcherSettings,
        metrics: Metrics,
        runtime: Handle,
        stopping: Receiver<()>,
    ) -> Result<Self, StartError> {
        let DispatcherSettings {
            client,
            topics,
            slices,
            membership,
            keys,
            ..
        } = settings;
        let group = &membership.group;
        let user_agent = concat!("Postrider/", env!("CARGO_PKG_VERSION"));
        let egress = Egress::over(&settings.network, settings.policy.clone(), user_agent)?;
        let origin = settings.origin.as_deref();
        let origin =
            origin.map(|name| HeaderValue::from_str(name).expect("a DNS name can be sent"));
        // Not bounded: whoever answers must not wait for the thread that waits for answers. The
        // engine's own bounds limit how many can be under way.
        let (answer, answers) = unbounded();
        let acked = answer.clone();
        let producer = Producer::new(client, move |(id, write), result| {
            drop(acked.send(match result {
                Ok(offset) => Answer::Acked(id, write, offset),
                Err(error) => Answer::WriteFailed(id, write, error),
            }));
        })?;
        let fetched = answer.clone();
        let offsets = OffsetReader::start(client, group, move |(slice, claim), standings| {
            let standings = Box::new(Standings::of(standings));
            drop(fetched.send(Answer::Offsets(slice, claim, standings)));
        })?;
        let (hot_sender, hot_records) = bounded(RECORDS_MAX);
        let (cold_sender, cold_records) = bounded(RECORDS_MAX);
        let (table_sender, table) = bounded(TABLE_EVENTS_MAX);
        let reader = TableReader::start(client, topics.endpoints(), group, table_sender)?;
        let (state_sender, state) = bounded(TABLE_EVENTS_MAX);
        let states = TableReader::start(client, topics.endpoint_state(), group, state_sender)?;
        let hot = LaneReader::start(client, group, "hot", hot_sender)?;
        let cold = LaneReader::start(client, group, "cold", cold_sender)?;
        let claimant = getrandom::u64()?;
        let happened = answer.clone();
        // Last of all that can fail: a member that is dropped without leaving is abandoned.
        let member = Membership::start(client, membership, move |event| {
            drop(happened.send(Answer::Membership(event)));
        })?;
        let clock = Clock::start();
        let worker = Worker::new(Settings {
            in_flight_max: settings.in_flight_max,
            defaults: settings.defaults.clone(),
            session: membership.session,
            heartbeat: membership.heartbeat,
            claimant,
            seed: clock.now().as_micros(),
        });
        Ok(Self {
            clock,
            worker,
            metrics: metrics.clone(),
            topics: topics.clone(),
            encoder: Encoder::new(settings),
            requests: Requests::new(egress, clock, origin),
            formats: Formats::default(),
            runtime,
            endpoints: Endpoints::new(reader, *slices, Arc::clone(keys), metrics),
            membership: member,
            states: States::new(states),
            offsets,
            hot,
            cold,
            producer,
            answers,
            answer,
            hot_records,
            cold_records,
            table,
            state,
            stopping,
            revocation: 0,
            committing: None,
            failing: None,
            ended: None,
        })
    }

    pub(crate) fn run(&mut self) -> Ended {
        loop {
            self.wait();
            self.take_inputs();
            if let Some(ended) = self.ended.take() {
                return ended;
            }
            self.carry_out();
            if self
                .failing
                .as_ref()
                .is_some_and(|(_, until)| *until <= Instant::now())
            {
                return self.end();
            }
        }
    }

    /// How it ended, once it drained.
    fn end(&mut self) -> Ended {
        let failed = |(reason, _)| Ended::Failed(reason);
        self.failing.take().map_or(Ended::Stopped, failed)
    }

    /// This worker is of no use to its slices: drains, so that they move on at once and nothing is
    /// repeated, and ends, so that what started it starts it anew with new clients.
    fn fail(&mut self, now: Timestamp, reason: String) {
        if self.failing.is_none() {
            error!(reason, "draining, then ending");
            self.failing = Some((reason, Instant::now() + DRAIN_MAX));
            self.worker.handle_shutdown(now);
        }
    }

    /// Until something is there to be taken or the engine's deadline comes.
    fn wait(&self) {
        let mut select = Select::new();
        select.recv(&self.answers);
        select.recv(&self.hot_records);
        select.recv(&self.cold_records);
        select.recv(&self.table);
        select.recv(&self.state);
        select.recv(&self.stopping);
        let now = self.clock.now();
        let until = self
            .worker
            .next_deadline()
            .map_or(IDLE, |at| at.since(now).min(IDLE));
        // Whatever is ready is found by trying.
        let _ready = select.ready_deadline(Instant::now() + until);
    }

    fn take_inputs(&mut self) {
        // A handle that was dropped has nobody left to say stop.
        if self.stopping.try_recv() != Err(TryRecvError::Empty) {
            points::reach!("dispatcher.drain.begun");
            info!("draining");
            self.stopping = never();
            self.worker.handle_shutdown(self.clock.now());
        }
        let now = self.clock.now();
        // Asked before the answers are taken: the last word of a thread that ended is among them.
        let running = self.membership.is_running() && self.offsets.is_running();
        for answer in batch(&self.answers, 8 * BATCH_MAX).unwrap_or_default() {
            self.take_answer(now, answer);
            if self.ended.is_some() {
                return;
            }
        }
        let (table, state, hot, cold) = (
            batch(&self.table, BATCH_MAX),
            batch(&self.state, BATCH_MAX),
            batch(&self.hot_records, BATCH_MAX),
            batch(&self.cold_records, BATCH_MAX),
        );
        let alive = running || !self.answers.is_empty();
        let (Some(table), Some(state), Some(hot), Some(cold), true) =
            (table, state, hot, cold, alive)
        else {
            self.ended = Some(Ended::Failed(
                "a thread that talks to Kafka panicked".to_owned(),
            ));
            return;
        };
        for event in table {
            if let Some(known) = self.endpoints.take(event) {
                self.take_endpoint(now, known);
            }
        }
        for event in state {
            match self.states.take(event) {
                Some(Read::Entry(slice, claim, entry)) => {
                    self.worker.handle_state(now, slice, claim, entry);
                }
                Some(Read::Loaded(slice, claim)) => {
                    points::reach!("dispatcher.state.loaded");
                    self.worker.handle_state_loaded(slice, claim);
                }
                None => {}
            }
        }
        for event in faults::swapped(hot).into_iter().chain(cold) {
            self.take_record(now, event);
        }
        if self.worker.next_deadline().is_some_and(|at| at <= now) {
            self.worker.handle_timeout(now);
        }
    }

    fn take_endpoint(&mut self, now: Timestamp, known: Known) {
        match known {
            Known::Endpoint(slice, id, endpoint) => {
                self.formats.forget(&id);
                self.worker
                    .handle_endpoint(now, slice, id, endpoint.map(|boxed| *boxed));
            }
            Known::Loaded(slice, claim) => {
                points::reach!("dispatcher.endpoints.loaded");
                self.worker.handle_endpoints_loaded(now, slice, claim);
            }
        }
    }

    fn take_answer(&mut self, now: Timestamp, answer: Answer) {
        match answer {
            // On the log, but where? Its place in the backlog must be known.
            Answer::Acked(id, write @ Write::Backlog { .. }, None) => {
                let failure = WriteFailure::Passing;
                self.worker.handle_write_failed(now, id, write, failure);
            }
            Answer::Acked(id, write, offset) => {
                steps::acked(&write);
                self.count(&write);
                let offset = offset.unwrap_or_default();
                self.worker.handle_write_acked(now, id, offset);
            }
            Answer::NotStarted(ticket, taken_at) => {
                self.metrics.attempt_ended();
                self.worker.handle_taken_up(now, ticket, taken_at);
                self.worker.handle_not_started(now, ticket);
            }
            Answer::WriteFailed(id, write, error) => self.take_failure(now, id, write, &error),
            Answer::Report(ticket, taken_at, report) => {
                points::reach!("dispatcher.report.come");
                self.metrics.attempt_ended();
                self.worker.handle_taken_up(now, ticket, taken_at);
                self.worker.handle_report(now, ticket, *report);
            }
            Answer::Offsets(slice, claim, standings) => {
                let Standings {
                    committed,
                    backlog_end,
                    faulty,
                } = *standings;
                points::reach!("dispatcher.offsets.fetched");
                self.worker
                    .handle_offsets(now, slice, claim, committed, backlog_end, &faulty);
            }
            Answer::Membership(event) => self.take_membership(now, event),
        }
    }

    fn take_failure(&mut self, now: Timestamp, id: WriteId, write: Write, error: &WriteError) {
        let topic = self.encoder.topic(&write);
        self.metrics.write_failed(Encoder::label(&write));
        let failure = match error {
            WriteError::Fatal(_) => {
                self.ended = Some(Ended::Failed(error.to_string()));
                return;
            }
            WriteError::TooLarge => WriteFailure::TooLarge,
            WriteError::QueueFull | WriteError::UnknownTopic | WriteError::Other(_) => {
                WriteFailure::Passing
            }
        };
        warn!(%topic, %error, "write failed, will retry");
        self.worker.handle_write_failed(now, id, write, failure);
    }

    fn take_membership(&mut self, now: Timestamp, event: MembershipEvent) {
        match event {
            MembershipEvent::Assigned(partitions) => {
                points::reach!("dispatcher.slice.assigned");
                self.worker.handle_assigned(slices(&partitions));
                self.metrics.rebalanced(self.worker.owned().count());
            }
            MembershipEvent::Revoked { number, partitions } => {
                self.revocation = number;
                self.worker.handle_revoked(now, slices(&partitions));
            }
            MembershipEvent::Lost { number } => {
                self.revocation = number;
                self.worker.handle_lost(now);
            }
            MembershipEvent::CommitFinished(result) => self.take_commit(now, result),
            MembershipEvent::Left => self.ended = Some(self.end()),
            MembershipEvent::Fatal(reason) => self.ended = Some(Ended::Failed(reason)),
        }
    }

    fn take_commit(&mut self, now: Timestamp, result: CommitResult) {
        let answer = match result {
            CommitResult::Accepted => {
                points::reach!("dispatcher.commit.accepted");
                if let Some((topic, partition, offset)) = &self.committing {
                    debug!(%topic, partition, offset, "commit accepted");
                }
                CommitAnswer::Accepted
            }
            CommitResult::Refused(reason) => {
                warn!(reason, "commit refused, will retry");
                CommitAnswer::Refused
            }
            CommitResult::UnknownLane => {
                warn!("commit refused: it names a topic or partition that does not exist");
                CommitAnswer::UnknownLane
            }
            CommitResult::NotAMember => {
                warn!("commit refused: no member of the group any more");
                CommitAnswer::NotAMember
            }
        };
        self.metrics.commit_answered(match answer {
            CommitAnswer::Accepted => postrider_telemetry::CommitResult::Accepted,
            CommitAnswer::Refused | CommitAnswer::UnknownLane | CommitAnswer::NotAMember => {
                postrider_telemetry::CommitResult::Refused
            }
        });
        self.worker.handle_commit_finished(now, answer);
    }

    fn take_record(&mut self, now: Timestamp, event: LaneEvent<Reading>) {
        match event {
            LaneEvent::Record(reading, record) => {
                points::reach!("dispatcher.record.read");
                self.worker
                    .handle_record(now, records::decode(reading, record));
            }
            // The reader has raised the alarm.
            LaneEvent::OutOfRange { tag, .. } | LaneEvent::Lost { tag } => {
                self.worker.handle_lane_lost(now, tag);
            }
            LaneEvent::Stalled { .. } => {}
            LaneEvent::AllStalled { lanes } => {
                // Said of slices that were given back since, it concerns nobody.
                if self.worker.owned().next().is_some() {
                    let reason = format!(
                        "nothing can be read although there are records: {lanes} lanes for a minute"
                    );
                    self.fail(now, reason);
                }
            }
        }
    }

    /// Orders first, then requests as long as there is room, until there are neither.
    fn carry_out(&mut self) {
        loop {
            while let Some(order) = self.worker.poll_order() {
                self.obey(order);
            }
            if let Some(start) = self.worker.poll_attempt(self.clock.now()) {
                self.start(start);
            } else if let Some(order) = self.worker.poll_order() {
                self.obey(order);
            } else {
                return;
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::FetchOffsets { slice, claim } => {
                let place = |lane| (Arc::clone(self.topics.lane(lane)), i32::from(slice.0));
                self.offsets
                    .fetch((slice, claim), Lane::all().map(place).collect());
            }
            Order::LoadState { slice, claim } => self.states.follow(slice, claim),
            Order::LoadEndpoints { slice, claim } => self.endpoints.follow(slice, claim),
            Order::Read { reading, from } => {
                let topic = self.topics.lane(reading.lane);
                self.reader(reading.lane)
                    .read(topic, i32::from(reading.slice.0), from, reading);
            }
            Order::StopReading { slice, lane } => self.stop_reading(slice, lane),
            Order::Write { id, write } => self.write(id, write),
            Order::Commit(entries) => self.commit(entries),
            Order::Released(slice) => {
                for lane in Lane::all() {
                    self.stop_reading(slice, lane);
                }
                self.endpoints.leave(slice);
                self.states.leave(slice);
                self.metrics.rebalanced(self.worker.owned().count());
            }
            Order::HandBack => {
                points::reach!("dispatcher.hand_back.unsent");
                self.membership.hand_back(self.revocation);
            }
            Order::Leave => {
                points::reach!("dispatcher.leave.unsent");
                self.membership.leave();
            }
            Order::Observe(observation) => self.observe(&observation),
        }
    }

    fn reader(&self, lane: Lane) -> &LaneReader<Reading> {
        match lane {
            Lane::Deliveries => &self.hot,
            Lane::Backlog | Lane::Redeliveries | Lane::Retry(_) => &self.cold,
        }
    }

    fn stop_reading(&self, slice: Slice, lane: Lane) {
        self.reader(lane)
            .stop_reading(self.topics.lane(lane), i32::from(slice.0));
    }

    fn write(&mut self, id: WriteId, write: Write) {
        if faults::drops(&write) {
            drop(self.answer.send(Answer::Acked(id, write, Some(0))));
            return;
        }
        let now = self.clock.now();
        let write = faults::changed(write, now);
        let record = self.encoder.encode(now, id.slice, &write);
        steps::unwritten(&write);
        if let Err((error, (id, write))) = self.producer.send(&record, (id, write)) {
            drop(self.answer.send(Answer::WriteFailed(id, write, error)));
        }
    }

    fn commit(&mut self, entries: Vec<CommitEntry>) {
        let offset = |entry: CommitEntry| CommitOffset {
            topic: Arc::clone(self.topics.lane(entry.lane)),
            partition: i32::from(entry.slice.0),
            offset: entry.offset,
            metadata: entry.metadata,
        };
        let offsets: Vec<CommitOffset> = entries.into_iter().map(offset).collect();
        let place =
            |first: &CommitOffset| (Arc::clone(&first.topic), first.partition, first.offset);
        self.committing = offsets.first().map(place);
        points::reach!("dispatcher.commit.unsent");
        self.membership.commit(offsets);
    }

    fn start(&mut self, start: StartAttempt) {
        let now = self.clock.now();
        self.metrics.attempt_started();
        if start.attempt == 1 {
            self.metrics
                .first_attempt_after(now.since(start.delivery.event.accepted_at));
        }
        let mut answer = Pending {
            answer: self.answer.clone(),
            start,
            taken_at: now,
            sent: false,
        };
        points::reach!("dispatcher.attempt.started");
        let renderer = self.formats.of(&answer.start.endpoint);
        let (requests, clock) = (self.requests.clone(), self.clock);
        self.runtime.spawn(async move {
            answer.taken_at = clock.now();
            match requests.send(&answer.start, renderer).await {
                Some(report) => answer.send(report),
                None => answer.not_started(),
            }
        });
    }

    fn count(&self, write: &Write) {
        match write {
            Write::Attempt(entry) => self.count_attempt(entry),
            Write::DeadLetter { reason, .. } | Write::Unreadable { reason, .. } => {
                self.metrics.dead_lettered(*reason);
            }
            Write::Retry { .. }
            | Write::Backlog { .. }
            | Write::Fence { .. }
            | Write::State { .. } => {}
        }
    }

    fn count_attempt(&self, entry: &postrider_engine::io::AttemptEntry) {
        use postrider_domain::Outcome;
        if let Outcome::Discarded(reason) = entry.outcome {
            self.metrics.discarded(reason);
        }
        let Some(report) = &entry.report else { return };
        let total = report.phases.total;
        self.metrics
            .attempt_judged(entry.attempt, entry.outcome, &report.result, total);
        if entry.outcome == Outcome::Delivered {
            let accepted_at = entry.delivery.event.accepted_at;
            self.metrics.delivered_after(entry.at.since(accepted_at));
        }
        if let AttemptResult::Error(failure) = &report.result
            && failure.kind == postrider_domain::ErrorKind::Internal
        {
            error!(endpoint = %entry.delivery.endpoint, message = %failure.message, "attempt not made");
        }
    }

    fn observe(&self, observation: &Observation) {
        match observation {
            Observation::DuplicateDropped => self.metrics.duplicate_dropped(),
            Observation::StaleInput => self.metrics.stale_input(),
            Observation::MapIgnored(lane) => {
                warn!(%lane, "commit metadata not usable: replaying from the committed offset");
            }
            Observation::AdmissionClosed => {
                error!("a write failed: no attempt starts until it succeeds");
            }
            Observation::AdmissionOpened => info!("writes succeed again"),
            Observation::HoldExceeded => self.metrics.hold_exceeded(),
            Observation::NotStarted => self.metrics.attempt_not_started(),
            Observation::LeaseEnded => {
                self.metrics.lease_ended();
                warn!("no attempt starts until a commit is accepted: the last one is too old");
            }
            Observation::LaneUnknown(slice, lane) => {
                let topic = self.topics.lane(*lane);
                error!(%topic, partition = slice.0, "the broker does not know it: this lane stands still until its slice is acquired anew; create it with postrider topics apply");
            }
            Observation::FormerOwner(slice) => {
                self.metrics.former_owner_ignored();
                warn!(
                    slice = slice.0,
                    "endpoint-state records of a former owner ignored"
                );
            }
            Observation::Breaker(state) => self.metrics.breaker_changed(state.as_str()),
            Observation::EndpointGone(endpoint) => {
                warn!(%endpoint, "answers 410 again and again: its deliveries are dead letters until its configuration changes");
            }
        }
    }
}

/// A request under way, which is answered whatever becomes of its task.
struct Pending {
    answer: Sender<Answer>,
    start: StartAttempt,
    /// When its task began; before that, when it was made.
    taken_at: Timestamp,
    sent: bool,
}

impl Pending {
    fn send(mut self, report: AttemptReport) {
        self.report(report);
    }

    fn not_started(mut self) {
        self.sent = true;
        let answer = Answer::NotStarted(self.start.ticket, self.taken_at);
        drop(self.answer.send(answer));
    }

    fn report(&mut self, report: AttemptReport) {
        self.sent = true;
        let answer = Answer::Report(self.start.ticket, self.taken_at, Box::new(report));
        drop(self.answer.send(answer));
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.sent {
            let message = "the request's task ended without a report";
            let report = request::failed(&self.start, self.taken_at, message);
            self.report(report);
        }
    }
}

/// What is there, at most `max`; `None` when the sender is gone.
fn batch<T>(from: &Receiver<T>, max: usize) -> Option<Vec<T>> {
    let mut taken = Vec::new();
    while taken.len() < max {
        match from.try_recv() {
            Ok(one) => taken.push(one),
            Err(TryRecvError::Empty) => break,
            Err(TryRecvError::Disconnected) => return None,
        }
    }
    Some(taken)
}

fn slices(partitions: &[i32]) -> impl Iterator<Item = Slice> {
    partitions
        .iter()
        .filter_map(|partition| u16::try_from(*partition).ok().map(Slice))
}

#[cfg(test)]
mod tests;
