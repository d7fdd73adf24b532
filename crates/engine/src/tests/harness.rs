//! One worker in a model world: logs, committed offsets, receivers, and a clock that jumps to the
//! next thing that happens. Decides latencies and faults by what a test set; judges nothing.
//!
//! Here is what the world consists of and how its time passes. In files of their own: what a test
//! does to it (`harness/actions`), what the broker does (`harness/broker`), what receivers do
//! (`harness/receivers`), what a test may ask of it (`harness/expectations`), and what endpoints
//! and settings look like (`harness/samples`).

mod actions;
mod broker;
mod expectations;
mod receivers;
mod samples;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use postrider_domain::{
    AttemptReport, DeadLetterReason, Delivery, DeliveryId, Endpoint, EndpointId, Lane, Slice,
    Timestamp,
};

pub(crate) use self::receivers::{Answer, Sent};
pub(crate) use self::samples::{plain, retry, settings};
use crate::commits::CommitEntry;
use crate::io::{
    AttemptEntry, Claim, LaneRecord, Observation, Reading, StateEntry, Ticket, Write, WriteId,
};
use crate::worker::{CommitAnswer, Worker};

/// The slice that tests use when one is enough.
pub(crate) const SLICE: Slice = Slice(0);

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
    /// How long after they were decided attempts start.
    pub(crate) start_delay: Duration,
    endpoints: BTreeMap<EndpointId, Endpoint>,
    happenings: BTreeMap<(Timestamp, u64), Happening>,
    record_at: i64,
    sequence: u64,
    incarnation: u32,
    made: u128,
    /// Offsets between a record of a lane and the next that hold none.
    pub(crate) gap: i64,
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
            start_delay: Duration::ZERO,
            not_started: Box::new(|_| None),
            endpoints: BTreeMap::new(),
            happenings: BTreeMap::new(),
            record_at: 0,
            sequence: 0,
            incarnation: 0,
            made: 0,
            gap: 0,
        }
    }

    /// With one slice owned.
    pub(crate) fn owning() -> Self {
        let mut harness = Self::new();
        harness.assign([SLICE]);
        harness.run_for(Duration::from_millis(1_200));
        harness
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

    fn settle_orders(&mut self) {
        loop {
            while let Some(order) = self.worker.poll_order() {
                self.obey(order);
            }
            if let Some(start) = self.worker.poll_attempt(self.now) {
                self.send(start);
            } else if let Some(order) = self.worker.poll_order() {
                self.obey(order);
            } else {
                break;
            }
        }
    }

    fn later(&mut self, latency: Duration, happening: Happening) {
        self.sequence += 1;
        self.happenings
            .insert((self.now + latency, self.sequence), happening);
    }
}
