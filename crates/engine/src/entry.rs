//! One record in a slice's table, from being read to being settled.
//!
//! Decides nothing; [`crate::slice`] moves it through its states.

use std::sync::Arc;

use postrider_domain::{Delivery, Endpoint, Lane, Timestamp};

use crate::io::Content;
use crate::queue::Class;

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) lane: Lane,
    pub(crate) offset: i64,
    pub(crate) content: Content,
    pub(crate) bytes: usize,
    /// Attempts made, those of this worker included.
    pub(crate) attempts: u32,
    pub(crate) last_status: Option<u16>,
    pub(crate) state: EntryState,
    /// Moved when it passes.
    pub(crate) hold_until: Timestamp,
    pub(crate) timer: Option<Timestamp>,
    pub(crate) unacked_writes: u32,
    /// When the attempt in flight, or the last one, started.
    pub(crate) started_at: Timestamp,
    /// That attempt is one of an unproven endpoint.
    pub(crate) unproven: bool,
    /// The endpoint that the attempt in flight was made for, as it was then.
    pub(crate) sent_to: Option<Arc<Endpoint>>,
    /// That attempt counts against the endpoint's limit.
    pub(crate) counted: bool,
    /// Hash of its ordering key, if it waits for others of it.
    pub(crate) key: Option<u64>,
    /// It is the one of its key that was taken: the others wait for it.
    pub(crate) heads_key: bool,
    /// Broker time of the append.
    pub(crate) appended_at: Timestamp,
    /// It is read ahead of its time: its lane, not the slice, has room for it.
    pub(crate) ahead: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryState {
    /// Read ahead of its rung's delay.
    OnRung,
    /// Due within seconds.
    Waiting,
    /// Waits for its turn.
    Queued,
    /// Is to be appended to the backlog once a successor knows that there is one.
    Spilling,
    /// A request is under way.
    InFlight,
    /// Its fate is decided; it ends with the last acknowledgement.
    Settling,
}

impl Entry {
    pub(crate) fn delivery(&self) -> Arc<Delivery> {
        match &self.content {
            Content::Delivery(delivery) => Arc::clone(delivery),
            Content::Unreadable { .. } => unreachable!("an unreadable record only settles"),
        }
    }

    /// What kind of attempt is next.
    pub(crate) fn class(&self) -> Class {
        match (self.lane, self.attempts) {
            (Lane::Redeliveries, _) => Class::Replay,
            (_, 0) => Class::First,
            _ => Class::Retry,
        }
    }

    /// Attempts made before it was read.
    pub(crate) fn attempts_read(&self) -> u32 {
        match &self.content {
            Content::Delivery(delivery) => delivery.attempts,
            Content::Unreadable { .. } => 0,
        }
    }

    /// One of its writes is acknowledged, or replaced by another.
    pub(crate) fn write_ended(&mut self) {
        let left = self.unacked_writes.checked_sub(1);
        self.unacked_writes = left.expect("a write ends once");
    }
}
