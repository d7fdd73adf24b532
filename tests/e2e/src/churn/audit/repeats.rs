//! What was sent twice, and whether a crash or a freeze excuses it.
//!
//! Excused is what its worker had in flight when it was killed or frozen, or had finished too late
//! for a commit (`docs/delivery.md`); what anybody finished while the broker took no commits, and
//! could lose with its slice once it was back; what an event published twice repeats; and what an
//! attempt without an answer repeats by the schedule, under the same number when its worker was
//! killed or frozen while the delivery waited in memory.

use std::collections::{BTreeMap, BTreeSet};

use super::super::journal::Event;
use super::effects::{Cause, Effect, Effects};
use super::uses::{Use, Uses};

/// A second of work that a crash may repeat, and the longest an acknowledgement and a commit may
/// take on a busy machine.
const COMMIT_MS: u64 = 1_500;

/// The longest a failed delivery waits in memory, with its count nowhere else.
const IN_MEMORY_MS: u64 = 45_000;

#[derive(Debug, Default)]
pub(crate) struct Repeats {
    /// Requests beyond the first of each event that was taken.
    pub(crate) requests: usize,
    /// Of them by the schedule, after an attempt without an answer.
    pub(crate) scheduled: usize,
    /// Events that crashes and freezes may repeat.
    pub(crate) bound: usize,
    /// Events repeated without an excuse, and when first.
    pub(crate) unexcused: Vec<(usize, u64)>,
}

impl Repeats {
    pub(crate) fn of(uses: &Uses, events: &[Event], effects: &Effects) -> Self {
        let windows = windows(effects);
        let mut by_event: BTreeMap<usize, Vec<&Use>> = BTreeMap::new();
        for made in uses.all.iter().filter(|made| made.taken) {
            by_event.entry(made.event).or_default().push(made);
        }
        let mut repeatable: BTreeSet<usize> = BTreeSet::new();
        for made in &uses.all {
            if windows.iter().any(|window| window.holds(made)) {
                repeatable.insert(made.event);
            }
        }
        let mut found = Self {
            bound: repeatable.len(),
            ..Self::default()
        };
        for (event, made) in &by_event {
            found.requests += made.len() - 1;
            let scheduled = made
                .windows(2)
                .filter(|pair| pair[1].attempt > pair[0].attempt || count_lost(pair[0], effects));
            let scheduled = scheduled.count();
            found.scheduled += scheduled;
            let twice = events.get(*event).is_some_and(|event| event.tries > 1);
            if made.len() - 1 > scheduled && !repeatable.contains(event) && !twice {
                found.unexcused.push((*event, made[0].started_ms));
            }
        }
        found
    }
}

/// Whether an attempt failed, and its worker was killed or frozen while its delivery waited in
/// memory: then it is made once more under the same number.
fn count_lost(made: &Use, effects: &Effects) -> bool {
    let Some(ended_ms) = made.ended_ms.filter(|_| made.failed) else {
        return false;
    };
    effects.all.iter().any(|effect| {
        effect.worker == Some(made.worker)
            && (ended_ms..=ended_ms + IN_MEMORY_MS).contains(&effect.from_ms)
    })
}

/// What a worker did that no commit tells of. What it starts after it woke is not excused.
struct Window {
    /// `None` = anybody.
    worker: Option<u32>,
    since_ms: u64,
    until_ms: u64,
}

impl Window {
    fn holds(&self, made: &Use) -> bool {
        self.worker.is_none_or(|worker| worker == made.worker)
            // to the second, where only the signature's time is known
            && made.started_ms / 1_000 <= self.until_ms / 1_000
            && made.ended_ms.is_none_or(|ended_ms| ended_ms >= self.since_ms)
    }
}

fn windows(effects: &Effects) -> Vec<Window> {
    let window = |effect: &Effect| Window {
        worker: effect.worker,
        since_ms: effects.uncommitted_since_ms(effect.from_ms, COMMIT_MS),
        until_ms: match effect.cause {
            Cause::Freeze => effect.from_ms,
            // until the first commit after it
            Cause::Outage => effect.end_ms + COMMIT_MS,
            _ => effect.end_ms,
        },
    };
    effects.all.iter().map(window).collect()
}
