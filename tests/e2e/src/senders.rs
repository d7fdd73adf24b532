//! Who sent what, and what a crash may repeat of it.
//!
//! Who sent a request is told by its attempt record; a request that no other worker's record
//! accounts for was sent by the killed worker.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use postrider_test_support::Receipt;

use crate::Attempt;

/// Work that a crash may repeat beside what was in flight (`docs/delivery.md`).
const REPEATED_MS: u64 = 1_000;
/// Longest time an acknowledgement and a commit may take on a busy machine, beside it.
const COMMIT_MS: u64 = 500;
/// How long before its end a worker finished what a crash may repeat.
pub(crate) const REPEATABLE_MS: u64 = REPEATED_MS + COMMIT_MS;

/// A worker that was killed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Killed {
    pub(crate) pid: u32,
    /// Ms since the epoch.
    pub(crate) at_ms: u64,
}

/// Attempt records by delivery.
pub(crate) struct Senders<'a>(HashMap<&'a str, Vec<&'a Attempt>>);

impl<'a> Senders<'a> {
    pub(crate) fn new(attempts: &'a [Attempt]) -> Self {
        let mut by_delivery: HashMap<&str, Vec<&Attempt>> = HashMap::new();
        for attempt in attempts {
            by_delivery
                .entry(&attempt.delivery_id)
                .or_default()
                .push(attempt);
        }
        Self(by_delivery)
    }

    /// All records.
    pub(crate) fn all(&self) -> impl Iterator<Item = &&'a Attempt> {
        self.0.values().flatten()
    }

    /// Those of a delivery.
    pub(crate) fn of(&self, id: &str) -> &[&'a Attempt] {
        self.0.get(id).map_or(&[], Vec::as_slice)
    }

    /// What the killed worker had in flight when it died, or had finished too late for a commit.
    pub(crate) fn repeatable<'r>(
        &self,
        receipts: &'r [Receipt],
        killed: Killed,
    ) -> BTreeSet<&'r str> {
        let since = killed.at_ms - REPEATABLE_MS;
        let is_repeatable = |receipt: &Receipt, id: &str| {
            let by_another = self.of(id).iter().any(|attempt| {
                !attempt.is_by(killed.pid) && attempt.started_ms() <= receipt.arrived_ms
            });
            let number = receipt.attempt.as_deref().and_then(|n| n.parse().ok());
            let mut recorded = self.by(killed, id).filter(|a| Some(a.attempt) == number);
            !by_another && recorded.next().is_none_or(|a| a.written_ms >= since)
        };
        receipts
            .iter()
            .filter_map(|receipt| Some((receipt, receipt.id.as_deref()?)))
            .filter(|(receipt, id)| is_repeatable(receipt, id))
            .map(|(_, id)| id)
            .collect()
    }

    /// Deliveries with an attempt that failed: of a receiver that always answers 200 because it
    /// did not in time.
    pub(crate) fn retried(&self) -> BTreeSet<&'a str> {
        let failed = |attempts: &&Vec<&Attempt>| attempts.iter().any(|a| a.outcome == "retry");
        let of = self.0.iter().filter(|(_, attempts)| failed(attempts));
        of.map(|(id, _)| *id).collect()
    }

    /// When the killed worker first had a result of this delivery; `None` = it did not get to say
    /// so.
    pub(crate) fn finished_ms(&self, id: &str, killed: Killed) -> Option<u64> {
        self.by(killed, id).next().map(|attempt| attempt.written_ms)
    }

    fn by(&self, killed: Killed, id: &str) -> impl Iterator<Item = &&'a Attempt> {
        let its_own = move |attempt: &&&Attempt| attempt.is_by(killed.pid);
        self.of(id).iter().filter(its_own)
    }
}

/// When each delivery that was taken more than once arrived.
pub(crate) fn repeated(receipts: &[Receipt]) -> BTreeMap<&str, Vec<u64>> {
    let mut arrivals: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for receipt in receipts.iter().filter(|r| (200..300).contains(&r.status)) {
        let id = receipt.id.as_deref().unwrap_or_default();
        arrivals.entry(id).or_default().push(receipt.arrived_ms);
    }
    arrivals.retain(|_, arrivals| arrivals.len() > 1);
    arrivals
}
