//! What an installation promises, and what is said when it does not keep it.
//!
//! Decides nothing; the checks of a promise are in the files beside this one.

use std::fmt;

use super::Reached;

/// What an installation promises (docs/delivery.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// P1: every delivery ends in exactly one visible state, or is still on a log that is read.
    NoLoss,
    /// P2: a request more than once only through a crash, and then only what it touched.
    BoundedDuplicates,
    /// P2: a write that is on its log though its acknowledgement was lost is repeated once, and its
    /// copy known, as long as the slice stays where it is.
    ForksKnown,
    /// P6: no attempt before it is due.
    NeverEarly,
    /// P6: no attempt later than 5 s after it is due and its endpoint admits it.
    NotLate,
    /// P4: at most so many attempts start in any interval.
    RateLimit,
    /// A receiver that asks for a pause gets one, and that uses up no attempt.
    AsksHeeded,
    /// Nothing starts while a write has failed.
    WritesFirst,
    /// A busy endpoint costs one copy of each delivery, however long.
    OneCopy,
    /// First attempts that come over the backlog keep its order, and nothing overtakes them.
    BacklogOrder,
    /// P5: of an ordering key, one after the other.
    Order,
    /// P8: requests in flight, records in memory, sizes of commits.
    Bounds,
    /// P10: attempt records agree with requests.
    TruthfulLog,
    /// What is committed reads back, and belongs to who commits it.
    Commits,
    /// Nobody starts a request for a slice that somebody else has acquired since.
    SingleOwner,
    /// A broker whose clock is half a minute or more behind a worker's changes nothing but due times.
    AnySkew,
    /// Once everything is healed, everything comes to its end in bounded time.
    Progress,
}

impl Promise {
    /// Those that are checked. What is not here is not kept yet.
    pub const KEPT: &'static [Self] = &[
        Self::NoLoss,
        Self::BoundedDuplicates,
        Self::NeverEarly,
        Self::RateLimit,
        Self::AsksHeeded,
        Self::WritesFirst,
        Self::OneCopy,
        Self::BacklogOrder,
        Self::Order,
        Self::Bounds,
        Self::TruthfulLog,
        Self::Commits,
        Self::SingleOwner,
        Self::NotLate,
        Self::Progress,
    ];
}

/// A promise that was broken.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which.
    pub promise: Promise,
    /// True time since the beginning of the run, in microseconds.
    pub at: u64,
    /// How.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.at as f64 / 1e6;
        write!(f, "{:?} after {seconds:.3} s: {}", self.promise, self.what)
    }
}

/// What a run did, for the people who count.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Deliveries made.
    pub deliveries: u64,
    /// Requests sent.
    pub requests: u64,
    /// Requests for what was sent before, explained by a crash or a repeated record.
    pub duplicates: u64,
    /// Memories lost with work in them: crashes, expulsions.
    pub memories_lost: u64,
    /// How often bounds of memory were reached.
    pub reached: Reached,
}
