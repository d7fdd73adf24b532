//! Who owned a slice when, as its requests show; and whether two did at once.

use std::collections::BTreeMap;

use super::uses::{Use, Uses};

/// The requests of one ownership of a slice.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) slice: u16,
    pub(crate) worker: u32,
    /// By start; never empty.
    pub(crate) uses: Vec<Use>,
}

impl Run {
    pub(crate) fn first_ms(&self) -> u64 {
        self.uses.first().map_or(0, |made| made.started_ms)
    }

    pub(crate) fn last_ms(&self) -> u64 {
        self.uses.last().map_or(0, |made| made.started_ms)
    }
}

/// An owner that started requests after its successor had.
#[derive(Clone, Debug)]
pub(crate) struct Overlap {
    pub(crate) slice: u16,
    pub(crate) old: u32,
    pub(crate) new: u32,
    /// When the new one started its first request, ms since the epoch.
    pub(crate) from_ms: u64,
    /// How many requests the old one started later.
    pub(crate) requests: usize,
    /// How much later the last of them.
    pub(crate) for_ms: u64,
}

/// The ownerships of each slice, by their first requests.
pub(crate) fn runs(uses: &Uses) -> BTreeMap<u16, Vec<Run>> {
    let mut slices: BTreeMap<u16, Vec<(Option<u64>, Run)>> = BTreeMap::new();
    for made in &uses.all {
        let runs = slices.entry(made.slice).or_default();
        // a request without a record belongs to what its worker last owned
        let its_own = runs.iter_mut().rev().find(|(epoch, run)| {
            run.worker == made.worker && (made.epoch.is_none() || *epoch == made.epoch)
        });
        match its_own {
            Some((_, run)) => run.uses.push(made.clone()),
            None => runs.push((
                made.epoch,
                Run {
                    slice: made.slice,
                    worker: made.worker,
                    uses: vec![made.clone()],
                },
            )),
        }
    }
    let without_epochs = |runs: Vec<(Option<u64>, Run)>| runs.into_iter().map(|(_, run)| run);
    slices
        .into_iter()
        .map(|(slice, runs)| (slice, without_epochs(runs).collect()))
        .collect()
}

/// Every pair of owners whose requests started interleaved.
pub(crate) fn overlaps(runs: &BTreeMap<u16, Vec<Run>>) -> Vec<Overlap> {
    let mut found = Vec::new();
    for runs in runs.values() {
        for (index, new) in runs.iter().enumerate() {
            let from_ms = new.first_ms();
            for old in &runs[..index] {
                if old.worker == new.worker || old.last_ms() <= from_ms {
                    continue;
                }
                let later = old.uses.iter().filter(|made| made.started_ms > from_ms);
                found.push(Overlap {
                    slice: new.slice,
                    old: old.worker,
                    new: new.worker,
                    from_ms,
                    requests: later.count(),
                    for_ms: old.last_ms() - from_ms,
                });
            }
        }
    }
    found.sort_by_key(|overlap| overlap.from_ms);
    found
}
