//! The one file that speaks the engine's language: inputs, orders and settings of a worker.
//!
//! Decides nothing. When the engine's interface changes, it is changed here (and in the match of
//! `process` on [`Action`], when the engine asks for something new).

use std::any::Any;
use std::sync::{Arc, Weak};
use std::time::Duration;

use postrider_domain::{
    AttemptReport, DeadLetterReason, Delivery, Endpoint, EndpointId, Lane, Outcome, Record,
    RetryPolicy, Slice, Timestamp,
};
use postrider_engine::io::{Content, Defaults, Order, Write as EngineWrite};
use postrider_engine::worker::{Settings, Worker};

use crate::audit::Handed;

pub(crate) use postrider_engine::commit_map::{CommitMap, METADATA_BYTES_MAX};
pub(crate) use postrider_engine::commits::{BYTES_MAX, CommitEntry, ENTRIES_MAX};
pub(crate) use postrider_engine::io::{
    Claim, Epoch, LaneRecord, Observation, Reading, StartAttempt, StateEntry, Ticket, WriteFailure,
    WriteId,
};
pub(crate) use postrider_engine::lane::Committed;
pub(crate) use postrider_engine::offsets::{HOLES_MAX, SPAN_MAX};
pub(crate) use postrider_engine::worker::CommitAnswer;

/// What the engine keeps until a write is acknowledged.
pub(crate) type Write = EngineWrite;

/// What an installation tells each of its workers.
#[derive(Clone, Debug)]
pub(crate) struct WorkerSettings {
    pub(crate) in_flight_max: usize,
    pub(crate) concurrency: u16,
    pub(crate) timeout: Duration,
    pub(crate) retry: RetryPolicy,
    pub(crate) session: Duration,
    pub(crate) heartbeat: Duration,
}

/// What a worker asks its process to do.
#[derive(Debug)]
pub(crate) enum Action {
    FetchOffsets { slice: Slice, claim: Claim },
    LoadState { slice: Slice, claim: Claim },
    LoadEndpoints { slice: Slice, claim: Claim },
    Read { reading: Reading, from: Option<i64> },
    StopReading { slice: Slice, lane: Lane },
    Write { id: WriteId, write: Box<Write> },
    Commit(Vec<CommitEntry>),
    Released(Slice),
    HandBack,
    Leave,
    Observe(Observation),
}

/// A record that a worker writes, as the log holds it.
#[derive(Debug)]
pub(crate) enum Written {
    /// A copy of a delivery to a lane.
    Copy(Lane, Arc<Delivery>),
    /// An attempt, or an end without one.
    Attempt {
        delivery: Arc<Delivery>,
        attempt: u32,
        report: Option<Box<AttemptReport>>,
        outcome: Outcome,
        next_attempt_at: Option<Timestamp>,
    },
    /// A delivery that was given up.
    Dead {
        delivery: Arc<Delivery>,
        attempts: u32,
        reason: DeadLetterReason,
    },
    /// A record that is no delivery.
    Garbage(Arc<Record>),
    /// What a slice's owner has to tell its successor.
    State(StateEntry),
}

/// The production worker, unchanged.
pub(crate) struct Node(Worker);

impl Node {
    pub(crate) fn new(settings: &WorkerSettings, claimant: u64, seed: u64) -> Self {
        Self(Worker::new(Settings {
            in_flight_max: settings.in_flight_max,
            defaults: Defaults {
                concurrency: settings.concurrency,
                timeout: settings.timeout,
                retry: settings.retry.clone(),
            },
            session: settings.session,
            heartbeat: settings.heartbeat,
            claimant,
            seed,
        }))
    }

    pub(crate) fn assigned(&mut self, _now: Timestamp, slices: Vec<Slice>) {
        self.0.handle_assigned(slices);
    }

    pub(crate) fn revoked(&mut self, now: Timestamp, slices: Vec<Slice>) {
        self.0.handle_revoked(now, slices);
    }

    pub(crate) fn lost(&mut self, now: Timestamp) {
        self.0.handle_lost(now);
    }

    pub(crate) fn shut_down(&mut self, now: Timestamp) {
        self.0.handle_shutdown(now);
    }

    pub(crate) fn offsets(
        &mut self,
        now: Timestamp,
        slice: Slice,
        claim: Claim,
        committed: &[Committed; Lane::COUNT],
        backlog_end: i64,
    ) {
        let committed = committed.clone();
        self.0
            .handle_offsets(now, slice, claim, committed, backlog_end, &[]);
    }

    pub(crate) fn state(&mut self, now: Timestamp, slice: Slice, claim: Claim, entry: StateEntry) {
        self.0.handle_state(now, slice, claim, entry);
    }

    pub(crate) fn state_loaded(&mut self, slice: Slice, claim: Claim) {
        self.0.handle_state_loaded(slice, claim);
    }

    pub(crate) fn endpoint(
        &mut self,
        now: Timestamp,
        slice: Slice,
        id: EndpointId,
        endpoint: Option<Endpoint>,
    ) {
        self.0.handle_endpoint(now, slice, id, endpoint);
    }

    pub(crate) fn endpoints_loaded(&mut self, now: Timestamp, slice: Slice, claim: Claim) {
        self.0.handle_endpoints_loaded(now, slice, claim);
    }

    pub(crate) fn record(&mut self, now: Timestamp, record: LaneRecord) {
        self.0.handle_record(now, record);
    }

    pub(crate) fn lane_lost(&mut self, now: Timestamp, reading: Reading) {
        self.0.handle_lane_lost(now, reading);
    }

    pub(crate) fn report(&mut self, now: Timestamp, ticket: Ticket, report: AttemptReport) {
        self.0.handle_report(now, ticket, report);
    }

    pub(crate) fn write_acked(&mut self, now: Timestamp, id: WriteId, offset: i64) {
        self.0.handle_write_acked(now, id, offset);
    }

    pub(crate) fn write_failed(
        &mut self,
        now: Timestamp,
        id: WriteId,
        write: Write,
        failure: WriteFailure,
    ) {
        self.0.handle_write_failed(now, id, write, failure);
    }

    pub(crate) fn commit_finished(&mut self, now: Timestamp, answer: CommitAnswer) {
        self.0.handle_commit_finished(now, answer);
    }

    pub(crate) fn timeout(&mut self, now: Timestamp) {
        self.0.handle_timeout(now);
    }

    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        self.0.next_deadline()
    }

    pub(crate) fn poll_attempt(&mut self, now: Timestamp) -> Option<StartAttempt> {
        self.0.poll_attempt(now)
    }

    /// Whether the process may not start this attempt any more, its clock showing `now`.
    pub(crate) fn is_too_late(start: &StartAttempt, now: Timestamp) -> bool {
        now > start.not_after
    }

    /// A request was not made.
    pub(crate) fn not_started(&mut self, now: Timestamp, ticket: Ticket) {
        self.0.handle_not_started(now, ticket);
    }

    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        Some(match self.0.poll_order()? {
            Order::FetchOffsets { slice, claim } => Action::FetchOffsets { slice, claim },
            Order::LoadState { slice, claim } => Action::LoadState { slice, claim },
            Order::LoadEndpoints { slice, claim } => Action::LoadEndpoints { slice, claim },
            Order::Read { reading, from } => Action::Read { reading, from },
            Order::StopReading { slice, lane } => Action::StopReading { slice, lane },
            Order::Write { id, write } => Action::Write {
                id,
                write: Box::new(write),
            },
            Order::Commit(entries) => Action::Commit(entries),
            Order::Released(slice) => Action::Released(slice),
            Order::HandBack => Action::HandBack,
            Order::Leave => Action::Leave,
            Order::Observe(observation) => Action::Observe(observation),
        })
    }
}

/// The ownership an attempt belongs to.
pub(crate) const fn claim_of(ticket: Ticket) -> Claim {
    ticket.claim
}

/// The slice a write belongs to.
pub(crate) const fn slice_of(id: WriteId) -> Slice {
    id.slice
}

/// What a reader of a lane hands in.
pub(crate) fn lane_record(
    reading: Reading,
    offset: i64,
    appended_at: Timestamp,
    bytes: usize,
    body: &LaneBody,
) -> LaneRecord {
    let content = match body {
        LaneBody::Delivery(delivery) => Content::Delivery(Arc::clone(delivery)),
        LaneBody::Garbage(record) => Content::Unreadable {
            record: Arc::clone(record),
            reason: DeadLetterReason::Undecodable,
            message: "no delivery".into(),
        },
    };
    LaneRecord {
        reading,
        offset,
        appended_at,
        bytes,
        content,
    }
}

/// Gives a record a copy of its content that nobody else has, so that it is seen how long it is held.
pub(crate) fn hand_out(record: &mut LaneRecord) -> Handed {
    let (copy, endpoint, due): (Weak<dyn Any>, _, _) = match &mut record.content {
        Content::Delivery(delivery) => {
            *delivery = Arc::new((**delivery).clone());
            let copy: Arc<dyn Any> = Arc::<Delivery>::clone(delivery);
            (
                Arc::downgrade(&copy),
                Some(delivery.endpoint.clone()),
                delivery.due,
            )
        }
        Content::Unreadable { record, .. } => {
            *record = Arc::new((**record).clone());
            let copy: Arc<dyn Any> = Arc::<Record>::clone(record);
            (Arc::downgrade(&copy), None, None)
        }
    };
    let leaves = match record.reading.lane {
        Lane::Retry(rung) => record.appended_at + rung.delay(),
        Lane::Deliveries | Lane::Backlog | Lane::Redeliveries => Timestamp::default(),
    };
    Handed {
        reading: record.reading,
        offset: record.offset,
        bytes: record.bytes,
        endpoint,
        waits_until: due.map_or(leaves, |due| due.min(leaves)),
        copy,
    }
}

/// What a record of a lane holds.
#[derive(Clone, Debug)]
pub(crate) enum LaneBody {
    Delivery(Arc<Delivery>),
    Garbage(Arc<Record>),
}

/// The form in which a write reaches the log. Due times are rounded up to milliseconds, as
/// headers hold them.
pub(crate) fn written(write: &Write) -> Written {
    match write {
        Write::Attempt(entry) => Written::Attempt {
            delivery: Arc::clone(&entry.delivery),
            attempt: entry.attempt,
            report: entry.report.clone().map(Box::new),
            outcome: entry.outcome,
            next_attempt_at: entry.next_attempt_at,
        },
        Write::Retry {
            delivery,
            attempts,
            due,
            rung,
        } => {
            let copy = Delivery {
                attempts: *attempts,
                due: Some(Timestamp::from_millis(due.as_micros().div_ceil(1_000))),
                ..(**delivery).clone()
            };
            Written::Copy(Lane::Retry(*rung), Arc::new(copy))
        }
        Write::Backlog { delivery, attempts } => {
            let copy = Delivery {
                attempts: *attempts,
                due: None,
                ..(**delivery).clone()
            };
            Written::Copy(Lane::Backlog, Arc::new(copy))
        }
        Write::Fence { epoch, claimant } => Written::State(StateEntry::Fence {
            epoch: *epoch,
            claimant: *claimant,
        }),
        Write::State {
            endpoint,
            epoch,
            remembered,
        } => Written::State(StateEntry::Endpoint {
            id: endpoint.clone(),
            epoch: *epoch,
            remembered: remembered.clone(),
        }),
        Write::DeadLetter {
            delivery,
            attempts,
            reason,
            ..
        } => Written::Dead {
            delivery: Arc::clone(delivery),
            attempts: *attempts,
            reason: *reason,
        },
        Write::Unreadable { record, .. } => Written::Garbage(Arc::clone(record)),
    }
}
