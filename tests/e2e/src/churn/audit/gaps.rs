//! How long a slice had no owner at work although events were due.

use std::collections::BTreeMap;

use super::super::journal::{Event, Setting};
use super::effects::{Cause, Effects};
use super::owners::Run;
use super::uses::Uses;

/// An owner that starts nothing for so long stands still, if something is due.
const STILL_MS: u64 = 3_000;

/// The time from the last request of one ownership to the first of the next, or of the same one
/// when it stood still; only that part in which something was due.
#[derive(Clone, Debug)]
pub(crate) struct Gap {
    pub(crate) slice: u16,
    pub(crate) old: u32,
    /// Another one, unless the owner stood still or got the slice back.
    pub(crate) new: u32,
    /// Whether the ownership changed.
    pub(crate) handed_over: bool,
    pub(crate) from_ms: u64,
    pub(crate) to_ms: u64,
    pub(crate) cause: Cause,
    pub(crate) verdict: Verdict,
}

impl Gap {
    pub(crate) fn ms(&self) -> u64 {
        self.to_ms - self.from_ms
    }
}

/// Compared with what is stated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Within the bound of one cause.
    Within,
    /// Above it, and within what several, one into the other, may take.
    Stacked,
    /// Above that too.
    Beyond,
}

pub(crate) fn gaps(
    setting: &Setting,
    events: &[Event],
    uses: &Uses,
    runs: &BTreeMap<u16, Vec<Run>>,
    effects: &Effects,
) -> Vec<Gap> {
    let due = Due::of(setting, events, uses);
    let mut found = Vec::new();
    for (slice, runs) in runs {
        let mut starts: Vec<(u64, usize)> = Vec::new();
        for (index, run) in runs.iter().enumerate() {
            starts.extend(run.uses.iter().map(|made| (made.started_ms, index)));
        }
        starts.sort_unstable();
        for pair in starts.windows(2) {
            let ((last_ms, before), (to_ms, after)) = (pair[0], pair[1]);
            let from_ms = due.since_ms(*slice, to_ms).max(last_ms).min(to_ms);
            let first_of_it = before != after && runs[after].first_ms() == to_ms;
            if !first_of_it && to_ms - from_ms < STILL_MS {
                continue;
            }
            let (old, new) = (runs[before].worker, runs[after].worker);
            let verdict = if to_ms > effects.bound_ms(from_ms) {
                Verdict::Beyond
            } else if to_ms - from_ms > effects.longest_ms(from_ms, to_ms) {
                Verdict::Stacked
            } else {
                Verdict::Within
            };
            found.push(Gap {
                slice: *slice,
                old,
                new,
                handed_over: first_of_it,
                from_ms,
                to_ms,
                cause: effects.cause(from_ms, to_ms, old, new),
                verdict,
            });
        }
    }
    found.sort_by_key(|gap| gap.from_ms);
    found
}

/// When what was first attempted at some time or later had been acknowledged, of each slice. Of the
/// trickle alone: the subject's deliveries wait for its limit, or for each other.
struct Due(Vec<Vec<(u64, u64)>>);

impl Due {
    fn of(setting: &Setting, events: &[Event], uses: &Uses) -> Self {
        let mut first_ms: Vec<Option<u64>> = vec![None; events.len()];
        for made in &uses.all {
            first_ms[made.event].get_or_insert(made.started_ms);
        }
        let mut slices = vec![Vec::new(); usize::from(setting.slices)];
        for event in events.iter().filter(|event| event.subject.is_none()) {
            if let (Some(first_ms), Some(acked_ms)) = (first_ms[event.number], event.acked_ms) {
                slices[usize::from(event.slice)].push((first_ms, acked_ms));
            }
        }
        for slice in &mut slices {
            slice.sort_unstable();
            let mut earliest_ms = u64::MAX;
            for (_, acked_ms) in slice.iter_mut().rev() {
                earliest_ms = earliest_ms.min(*acked_ms);
                *acked_ms = earliest_ms;
            }
        }
        Self(slices)
    }

    /// Since when something was due of which nothing was attempted before `at_ms`.
    fn since_ms(&self, slice: u16, at_ms: u64) -> u64 {
        let slice = &self.0[usize::from(slice)];
        let index = slice.partition_point(|(first_ms, _)| *first_ms < at_ms);
        slice.get(index).map_or(u64::MAX, |(_, acked_ms)| *acked_ms)
    }
}
