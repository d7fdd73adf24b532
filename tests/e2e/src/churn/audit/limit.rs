//! Whether an endpoint's rate limit held while its slice moved, and what it cost.
//!
//! Decides how arrivals are counted: in every window of a second that begins with one, half open.
//! A hand-over gap is the time from the last arrival from one worker to the first from another.
//! Outside the gaps the first attempts of each owner, as many as the limit, are left out of the
//! throughput: they come at once, and the silence before them pays for them.

use std::collections::BTreeSet;

use postrider_test_support::Receipt;

use super::super::journal::{Journal, What, event_of};
use super::super::subject::Subject;
use super::uses::{Use, Uses};

/// The length of every window, ms.
const WINDOW_MS: u64 = 1_000;

/// What it showed.
#[derive(Debug)]
pub(crate) struct Limited {
    pub(crate) limit: u32,
    /// At the receiver.
    pub(crate) arrived: Peak,
    /// By the attempt records.
    pub(crate) started: Peak,
    pub(crate) moves: Vec<Move>,
    pub(crate) flow: Flow,
    /// The fewest events that were acknowledged and had not arrived, while more came.
    pub(crate) waiting_min: usize,
}

/// The fullest window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Peak {
    pub(crate) count: usize,
    /// When it begins, ms since the epoch.
    pub(crate) at_ms: u64,
    /// How many windows hold more than the limit.
    pub(crate) above: usize,
}

/// From one worker to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) old: u32,
    pub(crate) new: u32,
    pub(crate) why: Why,
    /// The last arrival from the old one, ms since the epoch.
    pub(crate) from_ms: u64,
    /// The first from the new one.
    pub(crate) to_ms: u64,
}

/// What had been done to the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Stopped,
    Killed,
    /// Nothing: another joined.
    Balanced,
}

/// How much arrived while events kept coming.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Flow {
    pub(crate) requests: usize,
    /// From the first arrival to the last.
    pub(crate) span_ms: u64,
    pub(crate) gaps_ms: u64,
    /// Without the first of each owner.
    pub(crate) paced: usize,
}

impl Flow {
    /// Requests a second outside the gaps.
    pub(crate) fn outside(&self) -> f64 {
        per_second(self.paced, self.span_ms - self.gaps_ms)
    }

    /// Requests a second.
    pub(crate) fn overall(&self) -> f64 {
        per_second(self.requests, self.span_ms)
    }
}

fn per_second(requests: usize, ms: u64) -> f64 {
    requests as f64 * 1_000.0 / ms.max(1) as f64
}

impl Limited {
    /// `None` = the journal is about something else.
    pub(crate) fn of(journal: &Journal, uses: &Uses) -> Option<Self> {
        let Some(Subject::Limited(limit)) = journal.setting.subject else {
            return None;
        };
        let is_subject = |event: usize| {
            journal
                .events
                .get(event)
                .is_some_and(|e| e.subject.is_some())
        };
        let mut arrivals: Vec<(u64, &Use)> = uses
            .all
            .iter()
            .filter(|made| is_subject(made.event))
            .filter_map(|made| Some((made.arrived_ms?, made)))
            .collect();
        arrivals.sort_by_key(|(at_ms, _)| *at_ms);
        let attempts = journal.attempts.iter().filter(|a| is_subject(a.event));
        let mut started: Vec<u64> = attempts.map(|attempted| attempted.started_ms).collect();
        started.sort_unstable();
        let of_it = |receipt: &&Receipt| event_of(receipt).is_some_and(is_subject);
        let arrived = journal.requests.iter().filter(of_it);
        let mut arrived: Vec<u64> = arrived.map(|receipt| receipt.arrived_ms).collect();
        arrived.sort_unstable();
        let of_subject = journal.events.iter().filter(|e| e.subject.is_some());
        let end_ms = of_subject.map(|event| event.sent_ms).max().unwrap_or(0);
        arrivals.retain(|(at_ms, _)| *at_ms <= end_ms);
        let moves = moves(journal, &arrivals);
        Some(Self {
            limit,
            arrived: Peak::of(&arrived, limit),
            started: Peak::of(&started, limit),
            flow: Flow::of(&arrivals, &moves, limit),
            moves,
            waiting_min: waiting_min(journal, &arrivals),
        })
    }

    /// How many moves there were for a reason.
    pub(crate) fn moved(&self, why: Why) -> usize {
        self.moves.iter().filter(|moved| moved.why == why).count()
    }
}

impl Peak {
    /// Of times in order.
    fn of(times: &[u64], limit: u32) -> Self {
        let mut peak = Self::default();
        let mut end = 0;
        for (begin, at_ms) in times.iter().enumerate() {
            end += times[end..].partition_point(|ms| *ms < at_ms + WINDOW_MS);
            let count = end - begin;
            if count > limit as usize {
                peak.above += 1;
            }
            if count > peak.count {
                (peak.count, peak.at_ms) = (count, *at_ms);
            }
        }
        peak
    }
}

impl Flow {
    fn of(arrivals: &[(u64, &Use)], moves: &[Move], limit: u32) -> Self {
        let (Some((first_ms, _)), Some((last_ms, _))) = (arrivals.first(), arrivals.last()) else {
            return Self::default();
        };
        let of_one_owner = arrivals.chunk_by(|one, next| one.1.worker == next.1.worker);
        Self {
            requests: arrivals.len(),
            span_ms: last_ms - first_ms,
            gaps_ms: moves.iter().map(|moved| moved.to_ms - moved.from_ms).sum(),
            paced: of_one_owner
                .map(|stay| stay.len().saturating_sub(limit as usize))
                .sum(),
        }
    }
}

fn moves(journal: &Journal, arrivals: &[(u64, &Use)]) -> Vec<Move> {
    let pairs = arrivals.windows(2).filter_map(|pair| {
        let ((from_ms, before), (to_ms, after)) = (pair[0], pair[1]);
        (before.worker != after.worker).then(|| Move {
            old: before.worker,
            new: after.worker,
            why: why(journal, before.worker, to_ms),
            from_ms,
            to_ms,
        })
    });
    pairs.collect()
}

fn why(journal: &Journal, worker: u32, by_ms: u64) -> Why {
    let actions = journal.actions.iter().filter(|a| a.at_ms <= by_ms);
    let mut ends = actions.filter_map(|action| match action.what {
        What::Terminate { worker: told } if told == worker => Some(Why::Stopped),
        What::Kill { worker: told } if told == worker => Some(Why::Killed),
        _ => None,
    });
    ends.next_back().unwrap_or(Why::Balanced)
}

fn waiting_min(journal: &Journal, arrivals: &[(u64, &Use)]) -> usize {
    let events = journal.events.iter().filter(|e| e.subject.is_some());
    let mut acked: Vec<u64> = events.filter_map(|event| event.acked_ms).collect();
    acked.sort_unstable();
    let mut known = BTreeSet::new();
    let waiting = arrivals.iter().map(|(at_ms, made)| {
        known.insert(made.event);
        let there = acked.partition_point(|ms| ms <= at_ms);
        there.saturating_sub(known.len())
    });
    waiting.min().unwrap_or(0)
}
