//! What frozen workers did when they woke: nothing of what they owned before may start any more
//! once the group may have given it to others.

use std::collections::BTreeMap;

use super::super::journal::{Committed, Said, Saying, Setting};
use super::effects::{Cause, Effects};
use super::owners::Run;

/// How much earlier than it is written down a signal may have been there.
const SIGNAL_MS: u64 = 5;

/// A worker that was frozen and woke.
#[derive(Clone, Debug)]
pub(crate) struct Woken {
    pub(crate) worker: u32,
    pub(crate) from_ms: u64,
    pub(crate) to_ms: u64,
    /// Longer than the session, with the broker there all the time.
    pub(crate) past_session: bool,
    /// Requests it had started before and that arrived after it woke.
    pub(crate) in_hand: usize,
    /// Requests it started after it woke for slices it had owned before it froze, under that
    /// ownership.
    pub(crate) started: usize,
    /// Of those, for slices that somebody else had already sent for.
    pub(crate) taken_over: usize,
    /// Commits of before that it was told were refused once it woke, until the group gave it
    /// slices anew.
    pub(crate) refused: usize,
    /// Those that were accepted: the group took the word of one that was a member no more. One that
    /// Kafka took before it woke is none of them, though the answer was heard afterwards.
    pub(crate) accepted: usize,
}

pub(crate) fn woken(
    setting: &Setting,
    runs: &BTreeMap<u16, Vec<Run>>,
    effects: &Effects,
    sayings: &[Saying],
    commits: &[Committed],
) -> Vec<Woken> {
    let freezes = effects.all.iter().filter(|e| e.cause == Cause::Freeze);
    let mut found = Vec::new();
    for freeze in freezes {
        let Some(worker) = freeze.worker else {
            continue;
        };
        let (from_ms, to_ms) = (freeze.from_ms, freeze.end_ms);
        let away = effects
            .all
            .iter()
            .any(|e| e.cause == Cause::Outage && e.from_ms <= to_ms && e.until_ms >= from_ms);
        let mut woken = Woken {
            worker,
            from_ms,
            to_ms,
            past_session: to_ms - from_ms > setting.session_ms && !away,
            in_hand: 0,
            started: 0,
            taken_over: 0,
            refused: 0,
            accepted: 0,
        };
        woken.listen(sayings, commits);
        for runs in runs.values() {
            woken.count(runs);
        }
        found.push(woken);
    }
    found
}

impl Woken {
    fn listen(&mut self, sayings: &[Saying], commits: &[Committed]) {
        let its = sayings
            .iter()
            .filter(|saying| saying.worker == self.worker && saying.at_ms >= self.to_ms)
            .take_while(|saying| saying.what != Said::Assigned);
        for saying in its {
            match saying.what {
                Said::CommitRefused => self.refused += 1,
                Said::CommitAccepted => {
                    self.accepted += usize::from(taken_since(self.to_ms, saying, commits));
                }
                Said::Assigned => {}
            }
        }
    }

    fn count(&mut self, runs: &[Run]) {
        let others: Vec<u64> = runs
            .iter()
            .filter(|run| run.worker != self.worker && run.first_ms() >= self.from_ms)
            .map(Run::first_ms)
            .collect();
        let owned = |run: &&Run| run.worker == self.worker && run.first_ms() < self.from_ms;
        let (from_ms, to_ms) = (self.from_ms, self.to_ms);
        for made in runs.iter().filter(owned).flat_map(|run| &run.uses) {
            let arrived_later = made.arrived_ms.is_some_and(|at| at >= to_ms);
            // to the second, where only the signature's time is known
            if made.started_ms < to_ms && made.started_ms / 1_000 <= from_ms / 1_000 {
                self.in_hand += usize::from(arrived_later);
            } else if made.started_ms >= to_ms {
                self.started += 1;
                self.taken_over += usize::from(others.iter().any(|at| *at < made.started_ms));
            }
        }
    }
}

/// Whether Kafka took the commit that a worker heard of after it woke, or not before then: its
/// answer may have lain in the worker's socket since before it froze. Another's commit of the same
/// place in that time counts too.
fn taken_since(woke_ms: u64, saying: &Saying, commits: &[Committed]) -> bool {
    let Some(place) = &saying.place else {
        return true;
    };
    let of_it = |commit: &&Committed| {
        (&commit.topic, commit.partition, commit.offset)
            == (&place.topic, place.partition, place.offset)
    };
    let mut taken = commits.iter().filter(of_it).peekable();
    // Accepted, and not in Kafka's log: nothing is known of when.
    taken.peek().is_none()
        || taken.any(|commit| commit.at_ms + SIGNAL_MS >= woke_ms && commit.at_ms <= saying.at_ms)
}
