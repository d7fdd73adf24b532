//! What goes into the engine and what comes out: the closed lists the shells translate.
//!
//! Decides nothing.

use std::sync::Arc;
use std::time::Duration;

use postrider_domain::{
    AttemptReport, DeadLetterReason, Delivery, Endpoint, EndpointId, Lane, Outcome, Record,
    Remembered, RetryPolicy, Rung, Slice, Timestamp, Unmet,
};

use crate::breaker::BreakerState;
use crate::commits::CommitEntry;

/// One try of this process to own a slice; grows with each, so whatever comes back under an older
/// number is stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claim(pub u64);

/// One ownership of a slice, whoever had it: each appends a fence record with a higher epoch to
/// `endpoint-state`. From 1; 0 = nobody owned it yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// What a record of `endpoint-state` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateEntry {
    /// A slice got a new owner.
    Fence {
        /// The ownership.
        epoch: Epoch,
        /// The process.
        claimant: u64,
    },
    /// What an owner remembers of an endpoint.
    Endpoint {
        /// The endpoint.
        id: EndpointId,
        /// The ownership under which it was written.
        epoch: Epoch,
        /// Empty = a tombstone.
        remembered: Remembered,
    },
}

/// One reading of a lane from an offset on. The shell puts it on every record it reads; records of
/// an earlier reading are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reading {
    /// The slice.
    pub slice: Slice,
    /// Under which claim.
    pub claim: Claim,
    /// The lane.
    pub lane: Lane,
    /// Counts the readings of this lane in this ownership.
    pub number: u32,
}

/// A record of a lane.
#[derive(Clone, Debug)]
pub struct LaneRecord {
    /// The reading it came in.
    pub reading: Reading,
    /// Its offset.
    pub offset: i64,
    /// Broker time of the append.
    pub appended_at: Timestamp,
    /// What holding it costs.
    pub bytes: usize,
    /// What it says.
    pub content: Content,
}

/// What a record of a lane says.
#[derive(Clone, Debug)]
pub enum Content {
    /// A delivery.
    Delivery(Arc<Delivery>),
    /// Not one: it goes to `dead-letters` as it is.
    Unreadable {
        /// The record, untouched.
        record: Arc<Record>,
        /// The reason its dead letter names.
        reason: DeadLetterReason,
        /// What is wrong with it, for people.
        message: Box<str>,
    },
}

/// Names an attempt between its start and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    /// The slice.
    pub slice: Slice,
    /// Under which claim.
    pub claim: Claim,
    /// The entry in the slice's table.
    pub entry: u64,
    /// Its endpoint has not answered well since its last timeout: such attempts share half of
    /// the worker's room.
    pub unproven: bool,
    /// It is a replay: such attempts have what room others leave.
    pub replay: bool,
    /// When it was decided.
    pub decided_at: Timestamp,
}

/// Names a write between its start and its acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId {
    /// The slice.
    pub slice: Slice,
    /// Under which claim.
    pub claim: Claim,
    /// Counts the writes of the slice.
    pub number: u64,
}

/// A request to be sent now.
#[derive(Clone, Debug)]
pub struct StartAttempt {
    /// To be given back with the report.
    pub ticket: Ticket,
    /// What is sent.
    pub delivery: Arc<Delivery>,
    /// To whom.
    pub endpoint: Arc<Endpoint>,
    /// Number of this attempt, from 1.
    pub attempt: u32,
    /// Deadline of the whole exchange.
    pub timeout: Duration,
    /// To be looked at right before the request is handed to the network: later than that it must
    /// not be sent (`Worker::handle_not_started`), as the slice may have another owner, or the
    /// start would count in another interval of a rate limit.
    pub not_after: Timestamp,
}

/// A record to be written. Whoever writes it keeps it until the acknowledgement, to hand it back
/// when the write failed.
#[derive(Clone, Debug)]
pub enum Write {
    /// To `attempts`.
    Attempt(Box<AttemptEntry>),
    /// To a rung: the delivery with another count and due time.
    Retry {
        /// What.
        delivery: Arc<Delivery>,
        /// Attempts made.
        attempts: u32,
        /// When the next one is due.
        due: Timestamp,
        /// Where it waits.
        rung: Rung,
    },
    /// To `backlog`: the delivery of an endpoint that does not take it now.
    Backlog {
        /// What.
        delivery: Arc<Delivery>,
        /// Attempts made.
        attempts: u32,
    },
    /// To `dead-letters`: a delivery that is given up.
    DeadLetter {
        /// What.
        delivery: Arc<Delivery>,
        /// Attempts made.
        attempts: u32,
        /// The rule that gave it up.
        reason: DeadLetterReason,
        /// Status of the last response, if this worker saw one.
        last_status: Option<u16>,
        /// Lane it was read from.
        lane: Lane,
        /// Its offset in that lane.
        offset: i64,
        /// The topic takes no record so large: only what and why, the data stays at the origin.
        without_value: bool,
    },
    /// To `endpoint-state`: this worker owns the slice now.
    Fence {
        /// The ownership it claims.
        epoch: Epoch,
        /// This process.
        claimant: u64,
    },
    /// To `endpoint-state`: what its owner remembers of an endpoint.
    State {
        /// The endpoint.
        endpoint: EndpointId,
        /// The ownership.
        epoch: Epoch,
        /// Empty = a tombstone.
        remembered: Remembered,
    },
    /// To `dead-letters`: a record that is not a delivery.
    Unreadable {
        /// The record, untouched.
        record: Arc<Record>,
        /// The reason its dead letter names.
        reason: DeadLetterReason,
        /// What is wrong with it, for people.
        message: Box<str>,
        /// The topic takes no record so large: only what and why, the record stays at its origin.
        without_value: bool,
    },
}

impl Write {
    /// Whether it takes a record elsewhere, or says that it ended without a request: where that was
    /// read it is settled then.
    pub(crate) const fn is_move(&self) -> bool {
        match self {
            Self::Attempt(entry) => entry.report.is_none(),
            Self::Retry { .. }
            | Self::Backlog { .. }
            | Self::DeadLetter { .. }
            | Self::Unreadable { .. } => true,
            Self::Fence { .. } | Self::State { .. } => false,
        }
    }
}

/// Why a write is not on the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteFailure {
    /// It may succeed later.
    Passing,
    /// The topic takes no record so large, now or later.
    TooLarge,
}

/// What the attempt log says of one request, or of one delivery that ended without one.
#[derive(Clone, Debug)]
pub struct AttemptEntry {
    /// The delivery.
    pub delivery: Arc<Delivery>,
    /// Number of the attempt, from 1; attempts made when there was no request.
    pub attempt: u32,
    /// The facts; `None` = no request was made.
    pub report: Option<AttemptReport>,
    /// When, if there is no report.
    pub at: Timestamp,
    /// What became of it.
    pub outcome: Outcome,
    /// What of the endpoint's own rule of success its response did not meet.
    pub unmet: Option<Unmet>,
    /// When it is tried again.
    pub next_attempt_at: Option<Timestamp>,
    /// Lane the delivery was read from.
    pub lane: Lane,
    /// Its offset in that lane.
    pub offset: i64,
    /// The ownership under which it was made.
    pub epoch: Epoch,
}

/// What the engine asks for: first what a slice does, then what only the worker does.
#[derive(Clone, Debug)]
pub enum Order {
    /// Fetch committed offsets and metadata of every lane: `Worker::handle_offsets`.
    FetchOffsets {
        /// The slice.
        slice: Slice,
        /// To be given back.
        claim: Claim,
    },
    /// Read the slice's `endpoint-state` from its beginning and go on reading:
    /// `Worker::handle_state`, and `Worker::handle_state_loaded` at what was its end.
    LoadState {
        /// The slice.
        slice: Slice,
        /// To be given back.
        claim: Claim,
    },
    /// Read the slice's endpoints and follow them: `Worker::handle_endpoint`,
    /// `Worker::handle_endpoints_loaded`.
    LoadEndpoints {
        /// The slice.
        slice: Slice,
        /// To be given back.
        claim: Claim,
    },
    /// Read a lane, in place of any earlier reading of it.
    Read {
        /// To be put on every record.
        reading: Reading,
        /// First offset wanted; `None` = the beginning of the log.
        from: Option<i64>,
    },
    /// Stop reading a lane.
    StopReading {
        /// The slice.
        slice: Slice,
        /// The lane.
        lane: Lane,
    },
    /// Write a record: `Worker::handle_write_acked` or `Worker::handle_write_failed`.
    Write {
        /// To be given back.
        id: WriteId,
        /// What.
        write: Write,
    },
    /// Commit, exactly one request at a time: `Worker::handle_commit_finished`.
    Commit(Vec<CommitEntry>),
    /// The slice is gone: stop reading its lanes and its state, and following its endpoints.
    Released(Slice),
    /// Answer every open revocation.
    HandBack,
    /// Everything is drained: leave the group.
    Leave,
    /// Count something.
    Observe(Observation),
}

/// What is counted, for people who watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// A repeated copy was dropped.
    DuplicateDropped,
    /// A report, an acknowledgement or committed offsets came for an ownership or an entry that is
    /// gone, and were ignored. Records of an earlier ownership or reading are ignored uncounted:
    /// some are under way whenever a reading stops.
    StaleInput,
    /// Commit metadata could not be used: the lane is replayed from its frontier.
    MapIgnored(Lane),
    /// A write failed: nothing new is attempted until it succeeds.
    AdmissionClosed,
    /// All failed writes succeeded.
    AdmissionOpened,
    /// A delivery could not be attempted in time and was moved to a rung.
    HoldExceeded,
    /// An attempt was not started, as its time had passed before it reached the network.
    NotStarted,
    /// No attempt may start: the last accepted commit is too long ago.
    LeaseEnded,
    /// The broker knows no such topic or partition: the lane stands still.
    LaneUnknown(Slice, Lane),
    /// The breaker of an endpoint changed.
    Breaker(BreakerState),
    /// A receiver said so often that it is gone that it is believed.
    EndpointGone(EndpointId),
    /// A record of `endpoint-state` by a former owner was ignored.
    FormerOwner(Slice),
}

/// What endpoints get that do not say.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// Requests in flight.
    pub concurrency: u16,
    /// Deadline of an exchange.
    pub timeout: Duration,
    /// When to try again.
    pub retry: RetryPolicy,
}
