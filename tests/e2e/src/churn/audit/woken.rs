//! What frozen workers did when they woke: nothing of what they owned before may start any more
//! once the group may have given it to others.

use std::collections::BTreeMap;

use super::super::journal::{Said, Saying, Setting};
use super::effects::{Cause, Effects};
use super::owners::Run;

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
    /// Those it was told were accepted: the group took the word of one that was a member no more.
    pub(crate) accepted: usize,
}

pub(crate) fn woken(
    setting: &Setting,
    runs: &BTreeMap<u16, Vec<Run>>,
    effects: &Effects,
    sayings: &[Saying],
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
        woken.listen(sayings);
        for runs in runs.values() {
            woken.count(runs);
        }
        found.push(woken);
    }
    found
}

impl Woken {
    fn listen(&mut self, sayings: &[Saying]) {
        let its = sayings
            .iter()
            .filter(|saying| saying.worker == self.worker && saying.at_ms >= self.to_ms)
            .map(|saying| saying.what)
            .take_while(|what| *what != Said::Assigned);
        for what in its {
            self.refused += usize::from(what == Said::CommitRefused);
            self.accepted += usize::from(what == Said::CommitAccepted);
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
