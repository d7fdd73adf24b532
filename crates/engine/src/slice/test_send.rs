//! Tests of an endpoint: deliveries that somebody waits for the end of (ADR 0037).
//!
//! Decides that a test has one attempt and leaves nothing behind but its record: what would be
//! tried again, moved or given up of another delivery is discarded of a test; that it passes a
//! backlog and waits for no ordering key; and how many of them there are. Leaves when its attempt
//! starts to the rules that hold for all: limit, breaker, concurrency, lease.

use std::time::Duration;

use postrider_domain::{DiscardReason, EndpointId, Outcome, Timestamp};

use super::SliceEngine;
use crate::queue::EntryId;

/// How far apart the tests of an endpoint are taken at least. Of an owner: the next one starts
/// anew.
pub(crate) const TEST_EVERY: Duration = Duration::from_secs(10);

/// How old a test may be when it is read: whoever sent it has stopped waiting by then.
pub(crate) const TEST_AGE_MAX: Duration = Duration::from_secs(120);

impl SliceEngine {
    /// Whether this is a test.
    pub(super) fn is_test(&mut self, id: EntryId) -> bool {
        self.entry(id).delivery().test
    }

    /// Why a test that was just read gets no attempt, if it gets none.
    pub(super) fn refusal_of_test(
        &mut self,
        now: Timestamp,
        endpoint: &EndpointId,
        appended_at: Timestamp,
    ) -> Option<DiscardReason> {
        if now > appended_at + TEST_AGE_MAX {
            return Some(DiscardReason::TestFailed);
        }
        let flow = self.flow(endpoint);
        if flow.tested_until > now {
            return Some(DiscardReason::TestTooSoon);
        }
        flow.tested_until = now + TEST_EVERY;
        None
    }

    /// A test that gets no attempt ends.
    pub(super) fn end_test(&mut self, now: Timestamp, id: EntryId, reason: DiscardReason) {
        self.end_without_attempt(now, id, Outcome::Discarded(reason));
    }
}
