//! Writes that failed and are tried again until they succeed.
//!
//! Decides when they are tried again, that admission is closed while there are any, and what is
//! left out of a record that is too large. Leaves what a write settles to [`crate::slice`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use postrider_domain::{AttemptResult, Fields, Timestamp};

use crate::io::{Write, WriteId};

/// Pause before a failed write is tried again.
pub(crate) const WRITE_BACKOFF: Duration = Duration::from_secs(1);

/// Pause before what is too large for its topic is tried again: somebody has to change the topic.
pub(crate) const TOO_LARGE_BACKOFF: Duration = Duration::from_secs(60);

/// Writes that failed and are not yet acknowledged; at most one per write of the slice's table.
#[derive(Debug, Default)]
pub(crate) struct FailedWrites {
    /// Those with a time wait for it, the others are under way again.
    by_id: BTreeMap<WriteId, Option<(Timestamp, Write)>>,
    /// Those of them that no other waits for.
    apart: BTreeSet<WriteId>,
}

impl FailedWrites {
    /// Whether admission is open: every write that failed has succeeded since.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.len() == self.apart.len()
    }

    /// A write failed; whether that closes admission. `closes` is false for what is too large at
    /// its smallest: it says nothing of other writes.
    pub(crate) fn add(&mut self, now: Timestamp, id: WriteId, write: Write, closes: bool) -> bool {
        let was_open = self.is_empty();
        let backoff = if closes {
            self.apart.remove(&id);
            WRITE_BACKOFF
        } else {
            self.apart.insert(id);
            TOO_LARGE_BACKOFF
        };
        self.by_id.insert(id, Some((now + backoff, write)));
        was_open && !self.is_empty()
    }

    /// A write ended; whether that opens admission.
    pub(crate) fn remove(&mut self, id: WriteId) -> bool {
        let was_open = self.is_empty();
        self.apart.remove(&id);
        self.by_id.remove(&id).is_some() && !was_open && self.is_empty()
    }

    /// Those to be tried again now.
    pub(crate) fn take_due(&mut self, now: Timestamp) -> impl Iterator<Item = (WriteId, Write)> {
        self.by_id.iter_mut().filter_map(move |(id, failed)| {
            let (_, write) = failed.take_if(|(at, _)| *at <= now)?;
            Some((*id, write))
        })
    }

    /// When the next one is to be tried again.
    pub(crate) fn next_at(&self) -> Option<Timestamp> {
        self.by_id.values().flatten().map(|(at, _)| *at).min()
    }
}

/// The same write with less in it; `Err` = there is nothing left to leave out.
#[expect(
    clippy::result_large_err,
    reason = "both sides are the write itself, handed on"
)]
pub(crate) fn smaller(mut write: Write) -> Result<Write, Write> {
    match &mut write {
        Write::DeadLetter { without_value, .. } | Write::Unreadable { without_value, .. }
            if !*without_value =>
        {
            *without_value = true;
            Ok(write)
        }
        Write::Attempt(attempt) => match attempt.report.as_mut().map(|report| &mut report.result) {
            Some(AttemptResult::Response(response)) if !response.body.is_empty() => {
                response.body.clear();
                response.truncated = true;
                Ok(write)
            }
            Some(AttemptResult::Response(response)) if !response.headers.is_empty() => {
                response.headers = Fields::new();
                Ok(write)
            }
            _ => Err(write),
        },
        Write::DeadLetter { .. }
        | Write::Unreadable { .. }
        | Write::Retry { .. }
        | Write::Backlog { .. }
        | Write::Fence { .. }
        | Write::State { .. } => Err(write),
    }
}
