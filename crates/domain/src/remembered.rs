//! What the owner of a slice remembers of an endpoint, beyond its configuration.
//!
//! Decides nothing: `engine` makes it and goes by it, `wire` knows its form in `endpoint-state`.
//! It is what a successor needs to keep the promises of its predecessor: attempts that count
//! against a rate limit, how far a backlog is drained, that the receiver said it is gone.

use crate::time::Timestamp;

/// Of one endpoint. The default is what is known of an endpoint that nothing is remembered of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// Attempts that count against its limit.
    pub limiter: Option<LimiterMemory>,
    /// How far its backlog is settled; `None` = it has none.
    pub backlog: Option<BacklogMemory>,
    /// The version of the configuration whose receiver answered, confirmed, that it is gone (410).
    pub gone: Option<u64>,
}

impl Remembered {
    /// Whether there is nothing to remember.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.limiter.is_none() && self.backlog.is_none() && self.gone.is_none()
    }
}

/// Attempts that count against a limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimiterMemory {
    /// When how many started, oldest first; each time is the latest of its group.
    pub starts: Vec<(Timestamp, u32)>,
    /// Attempts that may have started since this was written.
    pub reserved: Option<Reserved>,
}

/// Attempts that may start without being remembered one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// How many.
    pub attempts: u32,
    /// None of them starts later.
    pub until: Timestamp,
}

/// How far an endpoint's backlog is settled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BacklogMemory {
    /// Records below it are settled, apart from `holes`.
    pub position: i64,
    /// Offsets below `position` that are not settled, ascending; at most 1 000.
    pub holes: Vec<i64>,
    /// Failed heads of ordering keys, by offset; each is among the holes or beyond `position`.
    pub heads: Vec<Head>,
}

/// A delivery that failed and that later ones of its ordering key wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Where it is in the backlog.
    pub offset: i64,
    /// Hash of its ordering key.
    pub key: u64,
    /// Attempts made.
    pub attempts: u32,
    /// When it is tried again; `None` = not before it is released.
    pub due: Option<Timestamp>,
}
