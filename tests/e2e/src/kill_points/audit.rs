//! What has to hold, whatever happened to a worker.
//!
//! Decides, from what was written, what the receivers saw and what Postrider recorded, how much is
//! lost, repeated, reordered, over the limit, early, unrecorded, not verified or astray. A request
//! that a killed worker had under way needs no record, and may be repeated, as may what it had
//! finished too late for a commit.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use postrider_test_support::Receipt;

use super::load::{self, Load, pair};
use crate::Attempt;
use crate::kcat::Read;
use crate::senders::{Killed, Senders, repeated};

/// How much longer than another a request may take to arrive and be written down on a busy machine:
/// starts are limited, arrivals are seen.
const ARRIVES_WITHIN_MS: u64 = 1_000;

/// Everything that was seen of one experiment.
pub(super) struct Observed<'a> {
    pub(super) load: &'a Load,
    pub(super) receipts: &'a [Receipt],
    pub(super) attempts: &'a [Attempt],
    pub(super) dead_letters: &'a [Read],
    pub(super) killed: Option<Killed>,
}

/// What came out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Deliveries that there had to be.
    pub deliveries: usize,
    /// Requests.
    pub requests: usize,
    /// Deliveries that were never taken, or not given up where that had to be.
    pub lost: usize,
    /// Requests that were taken beside the first of their delivery.
    pub repeated: usize,
    /// How many deliveries may be repeated.
    pub bound: usize,
    /// Repeated deliveries that are none of those.
    pub unexcused: usize,
    /// Events of an ordering key that came before the one ahead of them was taken.
    pub reordered: usize,
    /// Requests that were one too many in an interval of the limit.
    pub over_limit: usize,
    /// Requests before their due time.
    pub early: usize,
    /// Requests without an attempt record, of which no kill is the reason.
    pub unrecorded: usize,
    /// Requests whose signature does not hold.
    pub unverified: usize,
    /// Requests for nobody's event.
    pub strays: usize,
}

impl Audit {
    pub(super) fn of(observed: &Observed<'_>) -> Self {
        let Observed {
            load,
            receipts,
            attempts,
            dead_letters,
            killed,
        } = *observed;
        let senders = Senders::new(attempts);
        let repeatable = killed.map(|killed| senders.repeatable(receipts, killed));
        let repeatable = repeatable.unwrap_or_default();
        let repeated = repeated(receipts);
        let mut expected = load.expected(false);
        expected.append(&mut load.expected(true));
        let stray = |receipt: &&Receipt| !expected.contains(&pair(receipt));
        Self {
            deliveries: expected.len(),
            requests: receipts.len(),
            lost: load.missing(receipts) + load.not_dead(dead_letters),
            repeated: repeated.values().map(|arrivals| arrivals.len() - 1).sum(),
            bound: repeatable.len(),
            unexcused: repeated
                .keys()
                .filter(|id| !repeatable.contains(**id))
                .count(),
            reordered: reordered(load, receipts),
            over_limit: over_limit(load, receipts),
            early: early(receipts, attempts),
            unrecorded: unrecorded(receipts, attempts, &repeatable),
            unverified: receipts.iter().filter(|r| r.verdict != "ok").count(),
            strays: receipts.iter().filter(stray).count(),
        }
    }

    /// The marks that were missed, by name; empty when all is as promised.
    #[must_use]
    pub fn missed(&self) -> Vec<&'static str> {
        let marks = [
            ("lost", self.lost > 0),
            ("repeated", self.unexcused > 0 || self.repeated > self.bound),
            ("reordered", self.reordered > 0),
            ("over limit", self.over_limit > 0),
            ("early", self.early > 0),
            ("unrecorded", self.unrecorded > 0),
            ("unverified", self.unverified > 0),
            ("astray", self.strays > 0),
        ];
        let missed = marks.into_iter().filter(|(_, missed)| *missed);
        missed.map(|(name, _)| name).collect()
    }
}

/// Of each key, which events arrived before the one ahead of them was taken, or never was though
/// they were. What never arrived is lost, which is another mark.
fn reordered(load: &Load, receipts: &[Receipt]) -> usize {
    let path = load.path_of("ordered");
    let mut arrived: HashMap<String, usize> = HashMap::new();
    let mut taken: HashMap<String, usize> = HashMap::new();
    for (place, receipt) in receipts.iter().enumerate() {
        let (event, to) = pair(receipt);
        if to != path {
            continue;
        }
        arrived.entry(event.clone()).or_insert(place);
        if (200..300).contains(&receipt.status) {
            taken.entry(event).or_insert(place);
        }
    }
    let mut by_key: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for event in &load.events {
        if let Some(key) = &event.key {
            by_key.entry(key).or_default().push(&event.id);
        }
    }
    let mut reordered = 0;
    for events in by_key.values() {
        let came: Vec<&&str> = events
            .iter()
            .filter(|id| arrived.contains_key(**id))
            .collect();
        let overtakes = |pair: &&[&&str]| {
            taken
                .get(*pair[0])
                .is_none_or(|taken| arrived[*pair[1]] < *taken)
        };
        reordered += came.windows(2).filter(overtakes).count();
    }
    reordered
}

/// How many requests were too many in the interval that ends with them.
fn over_limit(load: &Load, receipts: &[Receipt]) -> usize {
    let path = load.path_of("limited");
    let of_it = receipts.iter().filter(|receipt| receipt.path == path);
    let arrived: Vec<u64> = of_it.map(|receipt| receipt.arrived_ms).collect();
    let per_ms = u64::try_from(load::LIMIT_PER.as_millis()).expect("20 s");
    let windows = arrived.windows(load::LIMIT + 1);
    let too_many = |times: &&[u64]| times[load::LIMIT] - times[0] < per_ms - ARRIVES_WITHIN_MS;
    windows.filter(too_many).count()
}

/// How many requests came before the due time that an attempt with the number before had set; of
/// several such attempts, the earliest.
fn early(receipts: &[Receipt], attempts: &[Attempt]) -> usize {
    let mut due: HashMap<(&str, u32), u64> = HashMap::new();
    for attempt in attempts {
        if let Some(next_ms) = attempt.next_ms() {
            let at = due.entry((&attempt.delivery_id, attempt.attempt + 1));
            at.and_modify(|ms| *ms = next_ms.min(*ms))
                .or_insert(next_ms);
        }
    }
    let is_early = |receipt: &&Receipt| {
        let number = number(receipt);
        let due = due.get(&(receipt.id.as_deref().unwrap_or_default(), number));
        due.is_some_and(|due_ms| receipt.arrived_ms < *due_ms)
    };
    receipts.iter().filter(is_early).count()
}

fn unrecorded(receipts: &[Receipt], attempts: &[Attempt], excused: &BTreeSet<&str>) -> usize {
    let recorded = attempts.iter().filter(|attempt| attempt.requested());
    let recorded: BTreeSet<(&str, u32)> = recorded
        .map(|attempt| (attempt.delivery_id.as_str(), attempt.attempt))
        .collect();
    let is_missing = |receipt: &&Receipt| {
        let id = receipt.id.as_deref().unwrap_or_default();
        !excused.contains(id) && !recorded.contains(&(id, number(receipt)))
    };
    receipts.iter().filter(is_missing).count()
}

/// The number of the attempt; 0 = none.
fn number(receipt: &Receipt) -> u32 {
    let number = receipt
        .attempt
        .as_deref()
        .and_then(|text| text.parse().ok());
    number.unwrap_or_default()
}
