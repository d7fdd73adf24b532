//! What a test may ask of the world: what was sent, what is committed, what is left.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use postrider_domain::{DeliveryId, Lane, Outcome, Slice};

use super::{Harness, SLICE, Sent, Stored};
use crate::commit_map::CommitMap;
use crate::io::{AttemptEntry, StateEntry};

impl Harness {
    /// Bytes of the records of a lane that anybody but its log refers to.
    pub(crate) fn held_bytes(&self, lane: Lane) -> usize {
        let log = self.logs.get(&(SLICE, lane)).into_iter().flatten();
        let held = log.filter(|stored| Arc::strong_count(&stored.delivery) > 1);
        held.map(|stored| stored.delivery.event.data.len()).sum()
    }

    /// How many requests there were for deliveries of a key.
    pub(crate) fn sent_of_key(&self, key: &str) -> usize {
        let of = |sent: &&Sent| self.keys.get(&sent.delivery).is_some_and(|k| &**k == key);
        self.sent.iter().filter(of).count()
    }

    /// Whether every keyed delivery was taken or given up.
    pub(crate) fn every_key_is_through(&self) -> bool {
        let taken = self
            .sent
            .iter()
            .filter(|sent| sent.taken)
            .map(|sent| sent.delivery);
        let dead = self.dead.iter().map(|(id, ..)| *id);
        let through: BTreeSet<DeliveryId> = taken.chain(dead).collect();
        self.keys.keys().all(|id| through.contains(id))
    }

    /// Whether, per key, no delivery was attempted before all earlier ones were settled: taken by
    /// the receiver, or given up.
    pub(crate) fn assert_ordered(&self) {
        let mut by_key: BTreeMap<&str, BTreeSet<DeliveryId>> = BTreeMap::new();
        for (id, key) in &self.keys {
            by_key.entry(key).or_default().insert(*id);
        }
        let mut taken: BTreeMap<&str, Vec<DeliveryId>> = BTreeMap::new();
        let mut settled: BTreeSet<DeliveryId> = self.dead.iter().map(|(id, ..)| *id).collect();
        for sent in &self.sent {
            let Some(key) = self.keys.get(&sent.delivery) else {
                continue;
            };
            let before = by_key[&**key].range(..sent.delivery);
            for id in before.rev().take(20) {
                assert!(settled.contains(id), "{key}: {} before {id}", sent.delivery);
            }
            if sent.taken && settled.insert(sent.delivery) {
                taken.entry(key).or_default().push(sent.delivery);
            }
        }
        assert!(taken.values().all(|ids| ids.is_sorted()));
    }

    /// Deliveries that had an attempt after which there is no other.
    pub(crate) fn ended(&self) -> BTreeSet<DeliveryId> {
        let last = |attempt: &&AttemptEntry| attempt.outcome != Outcome::Retry;
        let last = self.attempts.iter().filter(last);
        last.map(|attempt| attempt.delivery.id).collect()
    }

    /// Requests that a receiver took though it had taken one of that delivery before.
    pub(crate) fn repeats(&self) -> usize {
        let mut seen = BTreeSet::new();
        let taken = self.sent.iter().filter(|sent| sent.taken);
        taken.filter(|sent| !seen.insert(sent.delivery)).count()
    }

    /// The offset below which everything on a lane is settled and committed.
    pub(crate) fn committed_to(&self, lane: Lane) -> Option<i64> {
        self.committed
            .get(&(SLICE, lane))
            .map(|(offset, _)| *offset)
    }

    pub(crate) fn log_end(&self, lane: Lane) -> i64 {
        let log = self.logs.get(&(SLICE, lane));
        log.and_then(|log| log.last())
            .map_or(0, |last| last.offset + 1)
    }

    pub(crate) fn log_len(&self, lane: Lane) -> usize {
        self.logs.get(&(SLICE, lane)).map_or(0, Vec::len)
    }

    /// Whether `endpoint-state` says nothing of any endpoint.
    pub(crate) fn remembers_nothing(&self) -> bool {
        let mut last = BTreeMap::new();
        for (_, entry) in &self.state {
            if let StateEntry::Endpoint { id, remembered, .. } = entry {
                last.insert(id, remembered);
            }
        }
        last.values().all(|remembered| remembered.is_empty())
    }

    /// Whether nothing is left to do on any lane, as the committed offsets have it.
    pub(crate) fn all_committed(&self) -> bool {
        let committed = Lane::all().filter(|lane| *lane != Lane::Backlog);
        committed.into_iter().all(|lane| {
            let end = self.log_end(lane);
            end == 0 || self.committed_to(lane) == Some(end)
        })
    }

    /// Copies this incarnation sent a request for and that a restart would read as new: what was
    /// in flight, waited for another attempt, or ended since the last accepted commit.
    pub(crate) fn repeatable(&self) -> usize {
        let current = self
            .sent
            .iter()
            .filter(|sent| sent.incarnation == self.incarnation);
        let touched: BTreeSet<DeliveryId> = current.map(|sent| sent.delivery).collect();
        let mut copies = 0;
        for (key, log) in &self.logs {
            if key.1 == Lane::Backlog {
                let open = |stored: &&Stored| {
                    touched.contains(&stored.delivery.id) && self.is_remembered_open(stored)
                };
                copies += log.iter().filter(open).count();
                continue;
            }
            let (frontier, metadata) = self.committed.get(key).cloned().unwrap_or_default();
            let map = CommitMap::decode(frontier, &metadata).unwrap();
            let open = |offset| offset >= map.position || map.holes.contains(&offset);
            let open =
                |stored: &&Stored| open(stored.offset) && touched.contains(&stored.delivery.id);
            copies += log.iter().filter(open).count();
        }
        copies
    }

    /// Whether a successor would read it from the backlog.
    fn is_remembered_open(&self, stored: &Stored) -> bool {
        let of = |(_, entry): &(Slice, StateEntry)| match entry {
            StateEntry::Endpoint { id, remembered, .. } if *id == stored.delivery.endpoint => {
                Some(remembered.backlog.clone())
            }
            _ => None,
        };
        let backlog = self.state.iter().rev().find_map(of).flatten();
        backlog.is_some_and(|backlog| {
            stored.offset >= backlog.position || backlog.holes.contains(&stored.offset)
        })
    }
}
