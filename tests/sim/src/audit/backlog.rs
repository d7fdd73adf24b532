//! What `endpoint-state` says of the backlog: which of its records a successor would read.
//!
//! Decides by the rule of the fence: a record of a lower epoch than one before it does not count.
//! A copy in the backlog is live from the cursor of its endpoint on, and where nobody was told of a
//! backlog no copy in it is.

use std::collections::BTreeMap;

use postrider_domain::{BacklogMemory, EndpointId, Lane, Slice};

use super::Audit;
use crate::clock::Micros;
use crate::engine::{Epoch, StateEntry};

/// What counts of a slice's `endpoint-state`.
#[derive(Debug, Default)]
pub(super) struct Told {
    highest: Epoch,
    backlogs: BTreeMap<EndpointId, BacklogMemory>,
    /// Records of the backlog by offset: what it is a copy of, and whether it is live.
    copies: BTreeMap<EndpointId, BTreeMap<i64, (u32, bool)>>,
}

fn is_ahead(memory: Option<&BacklogMemory>, offset: i64) -> bool {
    memory.is_some_and(|memory| {
        offset >= memory.position || memory.holes.binary_search(&offset).is_ok()
    })
}

/// Everything below is settled.
fn frontier(memory: Option<&BacklogMemory>) -> i64 {
    memory.map_or(i64::MAX, |memory| {
        memory
            .holes
            .first()
            .map_or(memory.position, |hole| *hole.min(&memory.position))
    })
}

impl Audit {
    /// A record reached `endpoint-state`.
    pub(crate) fn state_written(&mut self, now: Micros, slice: Slice, entry: &StateEntry) {
        let told = self.states.entry(slice).or_default();
        let (id, epoch, remembered) = match entry {
            StateEntry::Fence { epoch, .. } => {
                told.highest = told.highest.max(*epoch);
                return;
            }
            StateEntry::Endpoint {
                id,
                epoch,
                remembered,
            } => (id, *epoch, remembered),
        };
        if epoch < told.highest {
            return;
        }
        told.highest = epoch;
        let before = told.backlogs.remove(id);
        let after = remembered.backlog.as_ref();
        let from = frontier(before.as_ref()).min(frontier(after));
        if let Some(after) = after {
            told.backlogs.insert(id.clone(), after.clone());
        }
        let mut changed = Vec::new();
        for (&offset, (item, live)) in told.copies.entry(id.clone()).or_default().range_mut(from..)
        {
            let ahead = is_ahead(after, offset);
            if *live != ahead {
                *live = ahead;
                changed.push((offset, *item, ahead));
            }
        }
        for (offset, item, ahead) in changed {
            if ahead {
                self.alive(item);
            } else {
                self.accounted(now, item, (slice, Lane::Backlog, offset));
            }
        }
    }

    /// Whether a successor would read this copy in the backlog.
    pub(super) fn is_told_of(&mut self, slice: Slice, item: u32, offset: i64) -> bool {
        let Some(id) = self.items[item as usize].endpoint.clone() else {
            return false;
        };
        let told = self.states.entry(slice).or_default();
        let ahead = is_ahead(told.backlogs.get(&id), offset);
        told.copies
            .entry(id)
            .or_default()
            .insert(offset, (item, ahead));
        ahead
    }
}
