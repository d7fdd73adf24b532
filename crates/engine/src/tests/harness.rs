//! One worker in a model world: logs, committed offsets, receivers, and a clock that jumps to the
//! next thing that happens. Decides latencies and faults by what a test set; judges nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use postrider_domain::{
    AttemptError, AttemptReport, AttemptResult, DeadLetterReason, Delivery, DeliveryId, Endpoint,
    EndpointId, EndpointState, ErrorKind, Event, Lane, OnExhausted, Ordering, Phases,
    RequestSummary, Response, RetryPolicy, Scheme, Signing, Slice, Timestamp,
};

use crate::commit_map::CommitMap;
use crate::commits::CommitEntry;
use crate::io::{
    AttemptEntry, Claim, Content, Defaults, LaneRecord, Observation, Order, Reading, StateEntry,
    Ticket, Write, WriteFailure, WriteId,
};
use crate::lane::Committed;
use crate::worker::{CommitAnswer, Settings, Worker};

/// The slice that tests use when one is enough.
pub(crate) const SLICE: Slice = Slice(0);
const READ_LATENCY: Duration = Duration::from_millis(1);
const WRITE_LATENCY: Duration = Duration::from_millis(2);
const COMMIT_LATENCY: Duration = Duration::from_millis(5);

/// What a receiver does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Status(u16, Duration),
    Fails(ErrorKind, Duration),
    /// 429 with `Retry-After`, in seconds.
    RetryAfter(u64, Duration),
}

/// A request that reached a receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) at: Timestamp,
    pub(crate) delivery: DeliveryId,
    pub(crate) endpoint: EndpointId,
    pub(crate) attempt: u32,
    pub(crate) incarnation: u32,
    /// Whether the receiver took it.
    pub(crate) taken: bool,
}

impl Sent {
    /// Whether it is the first attempt of every n-th delivery.
    pub(crate) fn is_first_of(&self, n: u128) -> bool {
        let number = u128::from_str_radix(&self.delivery.to_string()["dlv_".len()..], 16);
        self.attempt == 1 && number.unwrap().is_multiple_of(n)
    }
}

#[derive(Debug)]
enum Happening {
    Offsets(Slice, Claim),
    State(Slice, Claim),
    EndpointsLoaded(Slice, Claim),
    Record(LaneRecord),
    WriteDone(WriteId, Write),
    Report(Ticket, EndpointId, AttemptReport),
    NotStarted(Ticket, EndpointId),
    CommitDone(Vec<CommitEntry>),
}

type Script = Box<dyn FnMut(&Sent) -> Answer>;
type Fault = Box<dyn FnMut() -> bool>;
type Delay = Box<dyn FnMut(&Sent) -> Option<Duration>>;

#[derive(Clone, Debug)]
struct Stored {
    offset: i64,
    appended_at: Timestamp,
    delivery: Arc<Delivery>,
}

pub(crate) struct Harness {
    pub(crate) now: Timestamp,
    pub(crate) worker: Worker,
    pub(crate) sent: Vec<Sent>,
    pub(crate) in_flight: BTreeMap<EndpointId, u32>,
    pub(crate) in_flight_high: BTreeMap<EndpointId, u32>,
    pub(crate) attempts: Vec<AttemptEntry>,
    pub(crate) dead: Vec<(DeliveryId, DeadLetterReason, u32)>,
    pub(crate) garbage: Vec<DeadLetterReason>,
    pub(crate) retries: Vec<(DeliveryId, u32, &'static str)>,
    pub(crate) observed: Vec<Observation>,
    pub(crate) hand_backs: u32,
    pub(crate) left: bool,
    pub(crate) committed: BTreeMap<(Slice, Lane), (i64, String)>,
    pub(crate) commits: u32,
    pub(crate) read_from: Vec<(Lane, Option<i64>)>,
    /// Lanes that stopped being read, and the first offset that was not taken.
    pub(crate) stopped: Vec<(Lane, i64)>,
    /// Answers a commit in place of the broker.
    pub(crate) commit_answer: Option<CommitAnswer>,
    /// Decides whether a write fails.
    pub(crate) write_fails: Fault,
    /// Decides whether a write that is stored is told to have failed.
    pub(crate) ack_lost: Fault,
    /// Decides whether a topic takes no record so large.
    pub(crate) too_large: fn(&Write) -> bool,
    /// Decides whether a commit is refused.
    pub(crate) commit_fails: Fault,
    pub(crate) answer: Script,
    logs: BTreeMap<(Slice, Lane), Vec<Stored>>,
    readers: BTreeMap<(Slice, Lane), (Reading, i64)>,
    keys: BTreeMap<DeliveryId, Box<str>>,
    /// `endpoint-state`, and who reads it how far.
    pub(crate) state: Vec<(Slice, StateEntry)>,
    state_readers: BTreeMap<Slice, (Claim, usize)>,
    /// How long reading one record of the backlog takes.
    pub(crate) backlog_pace: Duration,
    backlog_at: (Option<Reading>, Timestamp),
    /// Attempts that never reach the network: how much later that is told.
    pub(crate) not_started: Delay,
    endpoints: BTreeMap<EndpointId, Endpoint>,
    happenings: BTreeMap<(Timestamp, u64), Happening>,
    record_at: i64,
    sequence: u64,
    incarnation: u32,
    made: u128,
}

impl Harness {
    pub(crate) fn new() -> Self {
        Self {
            now: Timestamp::from_secs(1_000_000),
            worker: Worker::new(settings(64, 0)),
            sent: Vec::new(),
            in_flight: BTreeMap::new(),
            in_flight_high: BTreeMap::new(),
            attempts: Vec::new(),
            dead: Vec::new(),
            garbage: Vec::new(),
            retries: Vec::new(),
            observed: Vec::new(),
            hand_backs: 0,
            left: false,
            committed: BTreeMap::new(),
            commits: 0,
            read_from: Vec::new(),
            stopped: Vec::new(),
            commit_answer: None,
            write_fails: Box::new(|| false),
            ack_lost: Box::new(|| false),
            too_large: |_| false,
            commit_fails: Box::new(|| false),
            answer: Box::new(|_| Answer::Status(200, Duration::from_millis(10))),
            logs: BTreeMap::new(),
            readers: BTreeMap::new(),
            keys: BTreeMap::new(),
            state: Vec::new(),
            state_readers: BTreeMap::new(),
            backlog_pace: Duration::ZERO,
            backlog_at: (None, Timestamp::default()),
            not_started: Box::new(|_| None),
            endpoints: BTreeMap::new(),
            happenings: BTreeMap::new(),
            record_at: 0,
            sequence: 0,
            incarnation: 0,
            made: 0,
        }
    }

    /// With one slice owned.
    pub(crate) fn owning() -> Self {
        let mut harness = Self::new();
        harness.assign([SLICE]);
        harness.run_for(Duration::from_millis(1_200));
        harness
    }

    pub(crate) fn assign(&mut self, slices: impl IntoIterator<Item = Slice>) {
        self.worker.handle_assigned(slices);
        self.settle_orders();
    }

    pub(crate) fn revoke(&mut self, slices: impl IntoIterator<Item = Slice>) {
        self.worker.handle_revoked(self.now, slices);
        self.settle_orders();
    }

    pub(crate) fn shut_down(&mut self) {
        self.worker.handle_shutdown(self.now);
        self.settle_orders();
    }

    /// The process dies and a new one starts; what the broker has, it has.
    pub(crate) fn crash(&mut self, slices: impl IntoIterator<Item = Slice>) {
        self.incarnation += 1;
        self.worker = Worker::new(settings(64, u64::from(self.incarnation)));
        self.happenings.clear();
        self.readers.clear();
        self.state_readers.clear();
        self.in_flight.clear();
        self.assign(slices);
    }

    /// As [`Self::crash`], but what was on its way to the broker arrives there.
    pub(crate) fn crash_with_writes(&mut self, slices: impl IntoIterator<Item = Slice>) {
        for (_, happening) in std::mem::take(&mut self.happenings) {
            if let Happening::WriteDone(id, write) = happening {
                self.readers.clear();
                self.store(id.slice, write);
            }
        }
        self.crash(slices);
    }

    pub(crate) fn lose(&mut self, slices: impl IntoIterator<Item = Slice>) {
        self.worker.handle_lost(self.now);
        self.settle_orders();
        self.assign(slices);
    }

    /// Creates or changes an endpoint.
    pub(crate) fn endpoint(&mut self, id: &str, change: impl FnOnce(&mut Endpoint)) -> EndpointId {
        let id: EndpointId = id.parse().unwrap();
        let endpoint = self
            .endpoints
            .entry(id.clone())
            .or_insert_with(|| plain(&id));
        endpoint.version += 1;
        change(endpoint);
        let endpoint = endpoint.clone();
        self.worker
            .handle_endpoint(self.now, SLICE, id.clone(), Some(endpoint));
        self.settle_orders();
        id
    }

    pub(crate) fn delete_endpoint(&mut self, id: &EndpointId) {
        self.endpoints.remove(id);
        self.worker
            .handle_endpoint(self.now, SLICE, id.clone(), None);
        self.settle_orders();
    }

    /// The router wrote a delivery.
    pub(crate) fn deliver(&mut self, endpoint: &str) -> DeliveryId {
        self.deliver_sized(endpoint, 100)
    }

    /// One that is ordered by a key.
    pub(crate) fn deliver_keyed(&mut self, endpoint: &str, key: &str) -> DeliveryId {
        self.made += 1;
        let id = DeliveryId::from_bytes(self.made.to_be_bytes());
        let delivery = Delivery {
            id,
            endpoint: endpoint.parse().unwrap(),
            event: Event {
                ordering_key: Some(key.into()),
                ..event(self.now, 100)
            },
            attempts: 0,
            due: None,
        };
        self.keys.insert(id, key.into());
        self.append(Lane::Deliveries, Arc::new(delivery));
        id
    }

    /// How many requests there were for deliveries of a key.
    pub(crate) fn sent_of_key(&self, key: &str) -> usize {
        let of = |sent: &&Sent| self.keys.get(&sent.delivery).is_some_and(|k| &**k == key);
        self.sent.iter().filter(of).count()
    }

    /// Whether every keyed delivery was taken or given up.
    pub(crate) fn every_key_is_through(&self) -> bool {
        let taken = self
            .sent
            .iter()
            .filter(|sent| sent.taken)
            .map(|sent| sent.delivery);
        let dead = self.dead.iter().map(|(id, ..)| *id);
        let through: BTreeSet<DeliveryId> = taken.chain(dead).collect();
        self.keys.keys().all(|id| through.contains(id))
    }

    /// Whether, per key, no delivery was attempted before all earlier ones were settled: taken by
    /// the receiver, or given up.
    pub(crate) fn assert_ordered(&self) {
        let mut by_key: BTreeMap<&str, BTreeSet<DeliveryId>> = BTreeMap::new();
        for (id, key) in &self.keys {
            by_key.entry(key).or_default().insert(*id);
        }
        let mut taken: BTreeMap<&str, Vec<DeliveryId>> = BTreeMap::new();
        let mut settled: BTreeSet<DeliveryId> = self.dead.iter().map(|(id, ..)| *id).collect();
        for sent in &self.sent {
            let Some(key) = self.keys.get(&sent.delivery) else {
                continue;
            };
            let before = by_key[&**key].range(..sent.delivery);
            for id in before.rev().take(20) {
                assert!(settled.contains(id), "{key}: {} before {id}", sent.delivery);
            }
            if sent.taken && settled.insert(sent.delivery) {
                taken.entry(key).or_default().push(sent.delivery);
            }
        }
        assert!(taken.values().all(|ids| ids.is_sorted()));
    }

    pub(crate) fn deliver_sized(&mut self, endpoint: &str, bytes: usize) -> DeliveryId {
        self.made += 1;
        let id = DeliveryId::from_bytes(self.made.to_be_bytes());
        let delivery = Delivery {
            id,
            endpoint: endpoint.parse().unwrap(),
            event: event(self.now, bytes),
            attempts: 0,
            due: None,
        };
        self.append(Lane::Deliveries, Arc::new(delivery));
        id
    }

    /// A delivery to an endpoint of another slice.
    pub(crate) fn deliver_in(&mut self, slice: Slice, endpoint: &str) {
        self.made += 1;
        let delivery = Delivery {
            id: DeliveryId::from_bytes(self.made.to_be_bytes()),
            endpoint: endpoint.parse().unwrap(),
            event: event(self.now, 100),
            attempts: 0,
            due: None,
        };
        self.append_in(slice, Lane::Deliveries, Arc::new(delivery));
    }

    /// A record comes that no log of this world holds.
    pub(crate) fn hand(&mut self, record: LaneRecord) {
        self.worker.handle_record(self.now, record);
        self.settle_orders();
    }

    pub(crate) fn last_delivery(&self) -> Arc<Delivery> {
        let log = &self.logs[&(SLICE, Lane::Deliveries)];
        Arc::clone(&log[log.len() - 1].delivery)
    }

    /// Keeps the last record of each key.
    /// Another process writes to `endpoint-state`.
    pub(crate) fn write_state(&mut self, entry: (Slice, StateEntry)) {
        self.state.push(entry);
        self.feed_state();
        self.settle_orders();
    }

    pub(crate) fn compact_state(&mut self) {
        let mut kept: Vec<(Slice, StateEntry)> = Vec::new();
        let key = |(slice, entry): &(Slice, StateEntry)| match entry {
            StateEntry::Fence { .. } => (*slice, None),
            StateEntry::Endpoint { id, .. } => (*slice, Some(id.clone())),
        };
        for entry in self.state.drain(..) {
            kept.retain(|other| key(other) != key(&entry));
            kept.push(entry);
        }
        self.state = kept;
    }

    /// The router crashed and wrote a delivery again.
    pub(crate) fn repeat_last(&mut self) {
        let log = &self.logs[&(SLICE, Lane::Deliveries)];
        let delivery = Arc::clone(&log[log.len() - 1].delivery);
        self.append(Lane::Deliveries, delivery);
    }

    pub(crate) fn append(&mut self, lane: Lane, delivery: Arc<Delivery>) {
        self.append_in(SLICE, lane, delivery);
    }

    fn append_in(&mut self, slice: Slice, lane: Lane, delivery: Arc<Delivery>) -> i64 {
        let log = self.logs.entry((slice, lane)).or_default();
        let offset = log.last().map_or(40, |last| last.offset + 1);
        log.push(Stored {
            offset,
            appended_at: self.now,
            delivery,
        });
        self.feed();
        self.settle_orders();
        offset
    }

    /// Lets time pass; everything that happens by then happens.
    pub(crate) fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            let happening = self.happenings.first_key_value().map(|((at, _), _)| *at);
            let deadline = self.worker.next_deadline();
            let next = happening.into_iter().chain(deadline).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.now = next.max(self.now);
            if deadline.is_some_and(|at| at <= self.now) {
                self.worker.handle_timeout(self.now);
                self.settle_orders();
                let again = self.worker.next_deadline();
                assert!(
                    again.is_none_or(|at| at > self.now),
                    "a deadline that stays due"
                );
            }
            while let Some(entry) = self.happenings.first_entry()
                && entry.key().0 <= self.now
            {
                let happening = entry.remove();
                self.happen(happening);
                self.settle_orders();
            }
        }
        self.now = end;
    }

    /// The offset below which everything on a lane is settled and committed.
    pub(crate) fn committed_to(&self, lane: Lane) -> Option<i64> {
        self.committed
            .get(&(SLICE, lane))
            .map(|(offset, _)| *offset)
    }

    pub(crate) fn log_end(&self, lane: Lane) -> i64 {
        let log = self.logs.get(&(SLICE, lane));
        log.and_then(|log| log.last())
            .map_or(0, |last| last.offset + 1)
    }

    pub(crate) fn log_len(&self, lane: Lane) -> usize {
        self.logs.get(&(SLICE, lane)).map_or(0, Vec::len)
    }

    /// Whether `endpoint-state` says nothing of any endpoint.
    pub(crate) fn remembers_nothing(&self) -> bool {
        let mut last = BTreeMap::new();
        for (_, entry) in &self.state {
            if let StateEntry::Endpoint { id, remembered, .. } = entry {
                last.insert(id, remembered);
            }
        }
        last.values().all(|remembered| remembered.is_empty())
    }

    /// Whether nothing is left to do on any lane, as the committed offsets have it.
    pub(crate) fn all_committed(&self) -> bool {
        let committed = Lane::all().filter(|lane| *lane != Lane::Backlog);
        committed.into_iter().all(|lane| {
            let end = self.log_end(lane);
            end == 0 || self.committed_to(lane) == Some(end)
        })
    }

    /// Copies this incarnation sent a request for and that a restart would read as new: what was
    /// in flight, waited for another attempt, or ended since the last accepted commit.
    pub(crate) fn repeatable(&self) -> usize {
        let current = self
            .sent
            .iter()
            .filter(|sent| sent.incarnation == self.incarnation);
        let touched: BTreeSet<DeliveryId> = current.map(|sent| sent.delivery).collect();
        let mut copies = 0;
        for (key, log) in &self.logs {
            if key.1 == Lane::Backlog {
                let open = |stored: &&Stored| {
                    touched.contains(&stored.delivery.id) && self.is_remembered_open(stored)
                };
                copies += log.iter().filter(open).count();
                continue;
            }
            let (frontier, metadata) = self.committed.get(key).cloned().unwrap_or_default();
            let map = CommitMap::decode(frontier, &metadata).unwrap();
            let open = |offset| offset >= map.position || map.holes.contains(&offset);
            let open =
                |stored: &&Stored| open(stored.offset) && touched.contains(&stored.delivery.id);
            copies += log.iter().filter(open).count();
        }
        copies
    }

    /// Whether a successor would read it from the backlog.
    fn is_remembered_open(&self, stored: &Stored) -> bool {
        let of = |(_, entry): &(Slice, StateEntry)| match entry {
            StateEntry::Endpoint { id, remembered, .. } if *id == stored.delivery.endpoint => {
                Some(remembered.backlog.clone())
            }
            _ => None,
        };
        let backlog = self.state.iter().rev().find_map(of).flatten();
        backlog.is_some_and(|backlog| {
            stored.offset >= backlog.position || backlog.holes.contains(&stored.offset)
        })
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::State(slice, claim) => {
                self.state_readers.insert(slice, (claim, 0));
                self.feed_state();
                self.worker.handle_state_loaded(slice, claim);
            }
            Happening::Offsets(slice, claim) => {
                let committed: Vec<Committed> = Lane::all()
                    .map(|l| self.committed.get(&(slice, l)).cloned())
                    .map(|committed| committed.or_else(|| Some((40, String::new()))))
                    .collect();
                let committed = committed.try_into().unwrap();
                let end = self.logs.get(&(slice, Lane::Backlog));
                let end = end
                    .and_then(|log| log.last())
                    .map_or(0, |last| last.offset + 1);
                self.worker
                    .handle_offsets(self.now, slice, claim, committed, end, &[]);
            }
            Happening::EndpointsLoaded(slice, claim) => {
                for (id, endpoint) in self.endpoints.clone() {
                    self.worker
                        .handle_endpoint(self.now, slice, id, Some(endpoint));
                }
                self.worker.handle_endpoints_loaded(self.now, slice, claim);
            }
            Happening::Record(record) => {
                self.record_at = record.offset;
                self.worker.handle_record(self.now, record);
            }
            Happening::WriteDone(id, write) => {
                if (self.too_large)(&write) {
                    let failure = WriteFailure::TooLarge;
                    self.worker
                        .handle_write_failed(self.now, id, write, failure);
                } else if (self.write_fails)() {
                    let failure = WriteFailure::Passing;
                    self.worker
                        .handle_write_failed(self.now, id, write, failure);
                } else if (self.ack_lost)() {
                    self.store(id.slice, write.clone());
                    let failure = WriteFailure::Passing;
                    self.worker
                        .handle_write_failed(self.now, id, write, failure);
                    self.feed_state();
                } else {
                    let offset = self.store(id.slice, write);
                    self.worker.handle_write_acked(self.now, id, offset);
                    self.feed_state();
                }
            }
            Happening::Report(ticket, endpoint, report) => {
                *self.in_flight.get_mut(&endpoint).unwrap() -= 1;
                self.worker.handle_report(self.now, ticket, report);
            }
            Happening::NotStarted(ticket, endpoint) => {
                *self.in_flight.get_mut(&endpoint).unwrap() -= 1;
                self.worker.handle_not_started(self.now, ticket);
            }
            Happening::CommitDone(entries) => {
                let refused = (self.commit_fails)();
                if !refused && self.commit_answer.is_none() {
                    self.commit(entries);
                }
                let answer = self.commit_answer.take().unwrap_or(if refused {
                    CommitAnswer::Refused
                } else {
                    CommitAnswer::Accepted
                });
                self.worker.handle_commit_finished(self.now, answer);
            }
        }
    }

    fn commit(&mut self, entries: Vec<CommitEntry>) {
        self.commits += 1;
        for entry in entries {
            let key = (entry.slice, entry.lane);
            let before = self.committed.get(&key).map(|(offset, _)| *offset);
            assert!(
                before.is_none_or(|before| before <= entry.offset),
                "{key:?} fell"
            );
            assert!(entry.metadata.len() < 4_096);
            self.committed.insert(key, (entry.offset, entry.metadata));
        }
    }

    /// At which offset.
    fn store(&mut self, slice: Slice, write: Write) -> i64 {
        match write {
            Write::Attempt(entry) => self.attempts.push(*entry),
            Write::Retry {
                delivery,
                attempts,
                due,
                rung,
            } => {
                self.retries.push((delivery.id, attempts, rung.name()));
                let copy = Delivery {
                    attempts,
                    due: Some(due),
                    ..(*delivery).clone()
                };
                self.append_in(slice, Lane::Retry(rung), Arc::new(copy));
            }
            Write::Backlog { delivery, attempts } => {
                let copy = Delivery {
                    attempts,
                    due: None,
                    ..(*delivery).clone()
                };
                return self.append_in(slice, Lane::Backlog, Arc::new(copy));
            }
            Write::DeadLetter {
                delivery,
                attempts,
                reason,
                ..
            } => {
                self.dead.push((delivery.id, reason, attempts));
            }
            Write::Unreadable { reason, .. } => self.garbage.push(reason),
            Write::Fence { epoch, claimant } => {
                self.state
                    .push((slice, StateEntry::Fence { epoch, claimant }));
            }
            Write::State {
                endpoint,
                epoch,
                remembered,
            } => self.state.push((
                slice,
                StateEntry::Endpoint {
                    id: endpoint,
                    epoch,
                    remembered,
                },
            )),
        }
        0
    }

    fn settle_orders(&mut self) {
        loop {
            while let Some(order) = self.worker.poll_order() {
                self.obey(order);
            }
            let Some(start) = self.worker.poll_attempt(self.now) else {
                if let Some(order) = self.worker.poll_order() {
                    self.obey(order);
                    continue;
                }
                break;
            };
            assert!(self.now <= start.not_after, "started too late");
            let mut sent = Sent {
                at: self.now,
                delivery: start.delivery.id,
                endpoint: start.endpoint.id.clone(),
                attempt: start.attempt,
                incarnation: self.incarnation,
                taken: false,
            };
            assert!(
                start.delivery.due.is_none_or(|due| due <= self.now),
                "early: {sent:?}"
            );
            let running = self.in_flight.entry(sent.endpoint.clone()).or_default();
            *running += 1;
            if let Some(later) = (self.not_started)(&sent) {
                let endpoint = sent.endpoint.clone();
                self.later(later, Happening::NotStarted(start.ticket, endpoint));
                continue;
            }
            let high = self
                .in_flight_high
                .entry(sent.endpoint.clone())
                .or_default();
            *high = (*high).max(*running);
            let (result, latency) = match (self.answer)(&sent) {
                Answer::Status(status, latency) => {
                    sent.taken = (200..300).contains(&status);
                    let response = Response {
                        status,
                        body: Bytes::from_static(b"answer"),
                        ..Response::default()
                    };
                    (AttemptResult::Response(response), latency)
                }
                Answer::RetryAfter(secs, latency) => {
                    let response = Response {
                        status: 429,
                        headers: vec![("retry-after".into(), secs.to_string().into())],
                        ..Response::default()
                    };
                    (AttemptResult::Response(response), latency)
                }
                Answer::Fails(kind, latency) => {
                    let error = AttemptError {
                        kind,
                        message: "".into(),
                        ambiguous: false,
                    };
                    (AttemptResult::Error(error), latency)
                }
            };
            let phases = Phases {
                total: latency,
                ..Phases::default()
            };
            let request = RequestSummary::default();
            let report = AttemptReport {
                started_at: self.now,
                phases,
                request,
                result,
            };
            let endpoint = sent.endpoint.clone();
            self.sent.push(sent);
            self.later(latency, Happening::Report(start.ticket, endpoint, report));
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::FetchOffsets { slice, claim } => {
                self.later(COMMIT_LATENCY, Happening::Offsets(slice, claim));
            }
            Order::LoadState { slice, claim } => {
                self.later(COMMIT_LATENCY, Happening::State(slice, claim));
            }
            Order::LoadEndpoints { slice, claim } => {
                self.later(COMMIT_LATENCY, Happening::EndpointsLoaded(slice, claim));
            }
            Order::Read { reading, from } => {
                self.read_from.push((reading.lane, from));
                self.readers
                    .insert((reading.slice, reading.lane), (reading, from.unwrap_or(0)));
                self.feed();
            }
            Order::StopReading { slice, lane } => {
                self.readers.remove(&(slice, lane));
                self.stopped.push((lane, self.record_at));
            }
            Order::Write { id, write } => {
                self.later(WRITE_LATENCY, Happening::WriteDone(id, write));
            }
            Order::Commit(entries) => self.later(COMMIT_LATENCY, Happening::CommitDone(entries)),
            Order::Released(slice) => {
                self.readers.retain(|(of, _), _| *of != slice);
                self.state_readers.remove(&slice);
            }
            Order::HandBack => self.hand_backs += 1,
            Order::Leave => self.left = true,
            Order::Observe(observation) => self.observed.push(observation),
        }
    }

    /// Claims read on what was written to `endpoint-state`.
    fn feed_state(&mut self) {
        for (slice, (claim, read)) in self.state_readers.clone() {
            let unread: Vec<(Slice, StateEntry)> = self.state[read..].to_vec();
            if let Some((_, read)) = self.state_readers.get_mut(&slice) {
                *read += unread.len();
            }
            for (of, entry) in unread {
                if of == slice {
                    self.worker.handle_state(self.now, slice, claim, entry);
                }
            }
        }
    }

    /// Readers read what they have not yet read.
    fn feed(&mut self) {
        let mut records = VecDeque::new();
        for (key, (reading, next)) in &mut self.readers {
            let Some(log) = self.logs.get(key) else {
                continue;
            };
            let unread = log.partition_point(|stored| stored.offset < *next);
            for stored in &log[unread..] {
                *next = stored.offset + 1;
                records.push_back(LaneRecord {
                    reading: *reading,
                    offset: stored.offset,
                    appended_at: stored.appended_at,
                    bytes: stored.delivery.event.data.len(),
                    content: Content::Delivery(Arc::clone(&stored.delivery)),
                });
            }
        }
        for record in records {
            if record.reading.lane == Lane::Backlog && !self.backlog_pace.is_zero() {
                if self.backlog_at.0 != Some(record.reading) {
                    self.backlog_at = (Some(record.reading), self.now);
                }
                let at = (self.backlog_at.1 + self.backlog_pace).max(self.now + READ_LATENCY);
                self.backlog_at.1 = at;
                self.later(at.since(self.now), Happening::Record(record));
            } else {
                self.later(READ_LATENCY, Happening::Record(record));
            }
        }
    }

    fn later(&mut self, latency: Duration, happening: Happening) {
        self.sequence += 1;
        self.happenings
            .insert((self.now + latency, self.sequence), happening);
    }
}

pub(crate) fn retry(schedule: &[u64]) -> Option<RetryPolicy> {
    let schedule = schedule.iter().copied().map(Duration::from_secs).collect();
    Some(RetryPolicy {
        schedule,
        window: Duration::from_secs(86_400),
        jitter_permille: 0,
    })
}

pub(crate) fn settings(in_flight_max: usize, seed: u64) -> Settings {
    let defaults = Defaults {
        concurrency: 4,
        timeout: Duration::from_secs(15),
        retry: retry(&[5, 20, 60]).expect("a policy"),
    };
    Settings {
        in_flight_max,
        defaults,
        session: Duration::from_secs(45),
        heartbeat: Duration::from_secs(5),
        claimant: seed,
        seed,
    }
}

fn event(now: Timestamp, bytes: usize) -> Event {
    Event {
        id: "e".into(),
        source: "s".into(),
        event_type: "t".into(),
        tenant: "acme".parse().unwrap(),
        time: None,
        ordering_key: None,
        content_type: None,
        traceparent: None,
        extensions: Vec::new(),
        data: Bytes::from(vec![0; bytes]),
        accepted_at: now,
    }
}

pub(crate) fn plain(id: &EndpointId) -> Endpoint {
    Endpoint {
        id: id.clone(),
        tenant: "acme".parse().unwrap(),
        url: "https://acme.example/".into(),
        state: EndpointState::Active,
        version: 0,
        types: Vec::new(),
        signing: Signing {
            scheme: Scheme::None,
            secrets: Vec::new(),
        },
        concurrency: None,
        timeout: None,
        retry: None,
        rate_limit: None,
        ordering: Ordering::None,
        on_exhausted: OnExhausted::Continue,
        headers: Vec::new(),
        description: "".into(),
        metadata: Vec::new(),
    }
}
