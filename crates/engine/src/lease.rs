//! How long this worker may start attempts.
//!
//! Decides that an attempt starts only while nobody else can own its slice before it has ended. The
//! coordinator gives a slice to another member when it has not heard from us for the session; an
//! accepted commit proves that it knew us when the commit was sent, and that was at most a
//! heartbeat after it last heard from us, as commits do not renew the session (KIP-848). So an
//! attempt with deadline `t` may start until
//! `sent(last accepted commit) + session − heartbeat − t − MARGIN`. A worker that is cut off, or
//! that was frozen and wakes, falls silent by itself.
//! Leaves when commits are sent to [`crate::commits`].

use std::time::Duration;

use postrider_domain::Timestamp;

/// For clocks that run at different speeds and for the way from the check to the wire.
pub const MARGIN: Duration = Duration::from_secs(2);

/// Attempts that may take long leave at least this much of the lease to start in; a longer
/// deadline is cut.
pub const USABLE_MIN: Duration = Duration::from_secs(2);

/// The lease of one worker on all its slices.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lease {
    /// What a deadline of zero would leave.
    length: Duration,
    renewed: Option<Timestamp>,
}

impl Lease {
    /// None yet. `session` is the time after which the coordinator gives up a silent member, at
    /// most what the broker grants; `heartbeat` how often it hears from us, at least what the
    /// broker asks for.
    pub(crate) const fn new(session: Duration, heartbeat: Duration) -> Self {
        let length = session.saturating_sub(heartbeat).saturating_sub(MARGIN);
        Self {
            length,
            renewed: None,
        }
    }

    /// A commit that was sent then, while slices were owned, was accepted.
    pub(crate) fn renew(&mut self, sent_at: Timestamp) {
        self.renewed = self.renewed.max(Some(sent_at));
    }

    /// We are no member any more.
    pub(crate) const fn end(&mut self) {
        self.renewed = None;
    }

    /// The deadline an attempt gets that asks for this one.
    pub(crate) fn deadline(&self, asked: Duration) -> Duration {
        asked.min(self.length.saturating_sub(USABLE_MIN))
    }

    /// The latest time an attempt with this deadline may start; `None` = it may not.
    pub(crate) fn not_after(&self, deadline: Duration) -> Option<Timestamp> {
        let left = self.length.checked_sub(deadline)?;
        self.renewed.map(|at| at + left)
    }

    /// How often it must be renewed so that attempts with this deadline can always start, with
    /// room for two renewals that fail.
    pub(crate) fn renewal(&self, deadline: Duration) -> Duration {
        const RENEWAL_MAX: Duration = Duration::from_secs(3);
        let left = self.length.saturating_sub(self.deadline(deadline));
        (left / 4).min(RENEWAL_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    #[test]
    fn nothing_starts_before_the_first_accepted_commit() {
        let mut lease = Lease::new(45 * SECOND, 5 * SECOND);
        assert_eq!(lease.not_after(15 * SECOND), None);
        lease.renew(at(100));
        assert_eq!(lease.not_after(15 * SECOND), Some(at(123)));
        lease.end();
        assert_eq!(lease.not_after(15 * SECOND), None);
    }

    #[test]
    fn an_attempt_ends_before_the_session_can() {
        let mut lease = Lease::new(45 * SECOND, 5 * SECOND);
        lease.renew(at(100));
        for secs in 0..=60 {
            let deadline = lease.deadline(secs * SECOND);
            let not_after = lease.not_after(deadline).expect("a lease");
            let heard_at_the_earliest = at(100) - 5 * SECOND;
            assert!(not_after + deadline + MARGIN <= heard_at_the_earliest + 45 * SECOND);
            assert!(not_after >= at(100) + USABLE_MIN, "there is time to start");
        }
        assert_eq!(lease.deadline(60 * SECOND), 36 * SECOND);
    }

    #[test]
    fn an_answer_that_comes_late_does_not_shorten_it() {
        let mut lease = Lease::new(45 * SECOND, 5 * SECOND);
        lease.renew(at(100));
        lease.renew(at(90));
        assert_eq!(lease.not_after(15 * SECOND), Some(at(123)));
    }

    #[test]
    fn it_is_renewed_in_time_whatever_the_session() {
        assert_eq!(
            Lease::new(45 * SECOND, 5 * SECOND).renewal(15 * SECOND),
            3 * SECOND
        );
        let short = Lease::new(6 * SECOND, SECOND);
        assert_eq!(short.deadline(15 * SECOND), SECOND);
        assert_eq!(short.renewal(15 * SECOND), SECOND / 2);
    }
}
