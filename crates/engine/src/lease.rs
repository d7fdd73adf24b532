//! How long this worker may start attempts.
//!
//! Decides that an attempt starts only while nobody else can own its slice before it has ended. The
//! coordinator gives a slice to another member when it has not heard from us for the session. An
//! accepted commit proves that it knew us, but not when it last heard from us: commits do not renew
//! the session (KIP-848), and a process that wakes may commit before it sends its next heartbeat.
//! So a commit counts once a second one is accepted that was sent [`CONFIRMED_AFTER`] or more after
//! the first was answered: in between an overdue heartbeat was sent, as the client sends it at
//! once when it wakes, on the same connection. Then an attempt with deadline `t` may start until `sent(first) + session − heartbeat − t − MARGIN`. A worker that is cut off, or that was
//! frozen and wakes, falls silent by itself (ADR 0014; `tests/model` checks it).
//! Leaves when commits are sent to [`crate::commits`], what else waits for the lease to
//! `worker/moves`.

use std::collections::VecDeque;

use std::time::Duration;

use postrider_domain::Timestamp;

/// For clocks that run at different speeds and for the way from the check to the wire.
pub const MARGIN: Duration = Duration::from_secs(2);

/// Attempts that may take long leave at least this much of the lease to start in; a longer
/// deadline is cut.
pub const USABLE_MIN: Duration = Duration::from_secs(10);

/// How long after its answer a commit is confirmed by another one; less when heartbeats are more
/// frequent.
pub const CONFIRMED_AFTER: Duration = Duration::from_secs(1);

/// The lease of one worker on all its slices.
#[derive(Debug)]
pub(crate) struct Lease {
    term: Term,
    confirmed_after: Duration,
    /// Accepted ones that do not count yet: when each was sent and answered, oldest first.
    accepted: VecDeque<(Timestamp, Timestamp)>,
}

/// How long attempts may start, as things are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Term {
    /// What a deadline of zero would leave.
    length: Duration,
    /// When the last commit that counts was sent.
    renewed: Option<Timestamp>,
}

/// Accepted commits that are remembered until they count; of more, every other is enough.
const ACCEPTED_MAX: usize = 64;

impl Lease {
    /// None yet. `session` is the time after which the coordinator gives up a silent member, at
    /// most what the broker grants; `heartbeat` how often it hears from us, at least what the
    /// broker asks for.
    pub(crate) const fn new(session: Duration, heartbeat: Duration) -> Self {
        let length = session.saturating_sub(heartbeat).saturating_sub(MARGIN);
        Self {
            term: Term {
                length,
                renewed: None,
            },
            confirmed_after: if heartbeat.as_millis() < CONFIRMED_AFTER.as_millis() {
                heartbeat
            } else {
                CONFIRMED_AFTER
            },
            accepted: VecDeque::new(),
        }
    }

    /// As things are.
    pub(crate) const fn term(&self) -> Term {
        self.term
    }

    /// A commit that was sent then, while slices were owned, was accepted; whether attempts may
    /// start for longer by it.
    pub(crate) fn accept(&mut self, sent_at: Timestamp, now: Timestamp) -> bool {
        let before = self.term.renewed;
        while let Some((first, answered)) = self.accepted.front()
            && *answered + self.confirmed_after <= sent_at
        {
            self.term.renewed = self.term.renewed.max(Some(*first));
            self.accepted.pop_front();
        }
        if self.accepted.len() < ACCEPTED_MAX {
            self.accepted.push_back((sent_at, now));
        }
        self.term.renewed > before
    }

    /// When a commit should be sent so that attempts may start for longer: at once, or when it
    /// confirms the last one.
    pub(crate) fn renewal_at(&self, now: Timestamp) -> Timestamp {
        let first = self.accepted.front();
        first.map_or(now, |(_, answered)| *answered + self.confirmed_after)
    }

    /// We are no member any more.
    pub(crate) fn end(&mut self) {
        self.term.renewed = None;
        self.accepted.clear();
    }

    /// How often a commit must be accepted so that attempts with this deadline can always start,
    /// with room for two that fail.
    pub(crate) fn renewal(&self, deadline: Duration) -> Duration {
        const RENEWAL_MAX: Duration = Duration::from_secs(3);
        let left = self
            .term
            .length
            .saturating_sub(self.term.deadline(deadline));
        (left.saturating_sub(self.confirmed_after) / 4)
            .clamp(Duration::from_millis(100), RENEWAL_MAX)
    }
}

impl Term {
    /// Whether attempts could start at some time.
    pub(crate) const fn was_held(&self) -> bool {
        self.renewed.is_some()
    }

    /// Whether nobody else can own a slice of ours now.
    pub(crate) fn holds(&self, now: Timestamp) -> bool {
        self.not_after(Duration::ZERO)
            .is_some_and(|until| now <= until)
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
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    #[test]
    fn a_commit_counts_once_another_is_accepted_that_was_sent_later() {
        let mut lease = Lease::new(45 * SECOND, 5 * SECOND);
        assert_eq!(lease.term().not_after(15 * SECOND), None);
        lease.accept(at(100), at(101));
        assert_eq!(
            lease.term().not_after(15 * SECOND),
            None,
            "it may have slept before"
        );
        lease.accept(at(101), at(101));
        assert_eq!(lease.term().not_after(15 * SECOND), None);
        lease.accept(at(102), at(102));
        assert_eq!(lease.term().not_after(15 * SECOND), Some(at(124)));
        lease.accept(at(107), at(108));
        assert_eq!(lease.term().not_after(15 * SECOND), Some(at(125)));
        lease.end();
        assert_eq!(lease.term().not_after(15 * SECOND), None);
    }

    #[test]
    fn an_attempt_ends_before_the_session_can() {
        let mut lease = Lease::new(45 * SECOND, 5 * SECOND);
        lease.accept(at(100), at(100));
        lease.accept(at(105), at(105));
        for secs in 0..=60 {
            let deadline = lease.term().deadline(secs * SECOND);
            let not_after = lease.term().not_after(deadline).expect("a lease");
            let heard_at_the_earliest = at(100) - 5 * SECOND;
            assert!(not_after + deadline + MARGIN <= heard_at_the_earliest + 45 * SECOND);
        }
        assert_eq!(lease.term().deadline(60 * SECOND), 28 * SECOND);
    }

    #[test]
    fn it_is_renewed_in_time_whatever_the_session() {
        for (session, heartbeat, timeout) in [(45, 5, 15), (30, 1, 15), (20, 1, 5), (60, 5, 60)] {
            let mut lease = Lease::new(session * SECOND, heartbeat * SECOND);
            let deadline = lease.term().deadline(timeout * SECOND);
            let renewal = lease.renewal(deadline);
            let mut now = at(1_000);
            let mut held = 0;
            for _ in 0..100 {
                held += u32::from(
                    lease
                        .term()
                        .not_after(deadline)
                        .is_some_and(|end| now <= end),
                );
                lease.accept(now, now + SECOND / 10);
                now = now + renewal;
            }
            assert!(held > 90, "{session} {heartbeat} {timeout}: {held} of 100");
        }
    }
}
