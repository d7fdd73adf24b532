//! What a course showed, from its journal alone.
//!
//! Decides who sent which request and joins what the parts find: who owned a slice when
//! (`owners`), how long it had no owner (`gaps`), what was sent twice (`repeats`), what woken
//! workers did (`woken`), what the group's offsets did (`commits`), and whether the endpoint that an
//! experiment is about kept its rate (`limit`) or its order (`order`). Leaves the words to `report`.

mod effects;
mod gaps;
mod limit;
mod order;
mod owners;
mod repeats;
mod uses;
mod woken;

use std::collections::BTreeSet;

use super::commits::backwards;
use super::journal::{Committed, Journal, Setting, What};
pub(super) use effects::{Cause, Effects};
pub(super) use gaps::{Gap, Verdict};
pub(super) use limit::{Limited, Peak, Why};
pub(super) use order::Ordered;
pub(super) use owners::Overlap;
pub(super) use repeats::Repeats;
use uses::Uses;
pub(super) use woken::Woken;

/// All findings.
pub(super) struct Audit {
    pub(super) setting: Setting,
    pub(super) acknowledged: usize,
    pub(super) requests: usize,
    pub(super) attempts: usize,
    pub(super) minutes: f64,
    /// Acknowledged events that were never taken.
    pub(super) lost: Vec<usize>,
    /// Requests that did not verify.
    pub(super) refused: usize,
    /// Events that were taken, with no record of that request nor of another that was taken.
    pub(super) unrecorded: Vec<usize>,
    /// Requests that nobody can be named for.
    pub(super) nobodys: usize,
    pub(super) overlaps: Vec<Overlap>,
    pub(super) gaps: Vec<Gap>,
    pub(super) repeats: Repeats,
    pub(super) woken: Vec<Woken>,
    pub(super) commits: usize,
    /// Commits below an earlier one, with that one.
    pub(super) backwards: Vec<(Committed, Committed)>,
    /// How workers ended that ended otherwise than they were told to.
    pub(super) failed: Vec<What>,
    pub(super) limited: Option<Limited>,
    pub(super) ordered: Option<Ordered>,
    /// How often each action was taken.
    pub(super) actions: Vec<(&'static str, usize)>,
}

impl Audit {
    pub(super) fn of(journal: &Journal) -> Self {
        let uses = Uses::of(journal);
        let effects = Effects::of(&journal.setting, &journal.actions);
        let runs = owners::runs(&uses);
        let overlaps = owners::overlaps(&runs);
        let first = journal.requests.first().map_or(0, |r| r.arrived_ms);
        let last = journal.requests.last().map_or(0, |r| r.arrived_ms);
        Self {
            setting: journal.setting.clone(),
            acknowledged: journal
                .events
                .iter()
                .filter(|event| event.acked_ms.is_some())
                .count(),
            requests: journal.requests.len(),
            attempts: journal.attempts.len(),
            minutes: (last - first) as f64 / 60_000.0,
            lost: lost(journal, &uses),
            refused: journal
                .requests
                .iter()
                .filter(|r| r.verdict != "ok")
                .count(),
            unrecorded: unrecorded(journal, &uses),
            nobodys: uses.nobodys,
            gaps: gaps::gaps(&journal.setting, &journal.events, &uses, &runs, &effects),
            repeats: Repeats::of(&uses, &journal.events, &effects),
            woken: woken::woken(
                &journal.setting,
                &runs,
                &effects,
                &journal.sayings,
                &journal.commits,
            ),
            overlaps,
            limited: Limited::of(journal, &uses),
            ordered: Ordered::of(journal),
            commits: journal.commits.len(),
            backwards: backwards(&journal.commits),
            failed: failed(journal),
            actions: actions(journal),
        }
    }
}

fn lost(journal: &Journal, uses: &Uses) -> Vec<usize> {
    let acked = journal.events.iter().filter(|e| e.acked_ms.is_some());
    let lost = acked.filter(|event| !uses.taken.contains(&event.number));
    lost.map(|event| event.number).collect()
}

/// A request that its worker gave up before the answer came has a record that says so.
fn unrecorded(journal: &Journal, uses: &Uses) -> Vec<usize> {
    let delivered = journal.attempts.iter().filter(|a| a.outcome == "delivered");
    let delivered = delivered.map(|attempted| attempted.event);
    let recorded = uses
        .all
        .iter()
        .filter(|made| made.taken && made.epoch.is_some());
    let known: BTreeSet<usize> = recorded.map(|made| made.event).chain(delivered).collect();
    uses.taken.difference(&known).copied().collect()
}

fn failed(journal: &Journal) -> Vec<What> {
    let done = |what: What| journal.actions.iter().any(|action| action.what == what);
    let unasked = |what: &What| match *what {
        What::Ended { worker, code, .. } => {
            let stopped = code == Some(0) && done(What::Terminate { worker });
            !stopped && !done(What::Kill { worker })
        }
        _ => false,
    };
    let actions = journal.actions.iter().map(|action| action.what);
    actions.filter(unasked).collect()
}

fn actions(journal: &Journal) -> Vec<(&'static str, usize)> {
    let mut counts: Vec<(&'static str, usize)> = Vec::new();
    for action in &journal.actions {
        let name = match action.what {
            What::Start { .. } => "start",
            What::Terminate { .. } => "SIGTERM",
            What::Kill { .. } => "SIGKILL",
            What::Freeze { .. } => "SIGSTOP",
            What::KillBroker => "broker killed",
            What::FreezeBroker => "broker frozen",
            What::Thaw { .. } | What::Ended { .. } | What::BrokerReady | What::ThawBroker => {
                continue;
            }
        };
        match counts.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += 1,
            None => counts.push((name, 1)),
        }
    }
    counts
}

#[cfg(test)]
mod tests;
