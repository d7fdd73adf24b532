//! One record in a slice's table, from being read to being settled.
//!
//! Decides nothing; [`crate::slice`] moves it through its states.

use std::sync::Arc;

use postrider_domain::{Delivery, Lane, Timestamp};

use crate::io::Content;

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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryState {
    /// Read ahead of its rung's delay.
    OnRung,
    /// Due within seconds.
    Waiting,
    /// Waits for its turn.
    Queued,
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
