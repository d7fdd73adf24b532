//! What `endpoint-state` says of the backlog: which of its records a successor would read.
//!
//! Decides by the rule of the fence: a record of a lower epoch than one before it does not count.
//! A copy in the backlog is live from the cursor of its endpoint on, and where nobody was told of a
//! backlog no copy in it is.

use std::collections::BTreeMap;

use postrider_domain::{BacklogMemory, EndpointId, Lane, Slice};

use super::{Audit, Promise, Who};
use crate::clock::Micros;
use crate::engine::{Claim, Epoch, StartAttempt, StateEntry, claim_of};

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

    /// A delivery is put into the backlog, after so many attempts.
    pub(super) fn check_copies(&mut self, now: Micros, item: u32, attempts: u32, offset: i64) {
        let endpoint = self.items[item as usize].endpoint.as_ref();
        let facts = endpoint.and_then(|id| self.endpoints.get(id));
        let paused = facts.is_some_and(|facts| facts.paused);
        let entry = self.item(item);
        if attempts == 0 && paused {
            entry.backlog_at.get_or_insert(offset);
        }
        let copies = entry.spilled.entry(attempts).or_default();
        *copies += 1;
        let copies = *copies;
        if copies > 1 && !self.is_excused(item) && !self.items[item as usize].forked {
            self.broken(now, Promise::OneCopy, || {
                format!("#{item} is in the backlog {copies} times after {attempts} attempts")
            });
        }
    }

    /// The engine asks for an attempt.
    pub(crate) fn polled(&mut self, now: Micros, who: Who, start: &StartAttempt) {
        let item = self.item_of(start.delivery.id);
        let claim = claim_of(start.ticket);
        if self.items[item as usize].requests == 0 && start.attempt == 1 {
            self.check_order(now, (who, claim), item, start);
        }
        self.check_key(now, who, item, start);
        self.item(item).had_turn = true;
    }

    /// An attempt that the engine asked for was not made.
    pub(crate) fn not_started(&mut self, who: Who, start: &StartAttempt) {
        let item = self.item_of(start.delivery.id);
        self.leaves_its_key(who, claim_of(start.ticket), item);
        self.item(item).held_up = true;
    }

    /// First attempts in the order of the backlog, and nothing before what lies in it.
    fn check_order(&mut self, now: Micros, by: (Who, Claim), item: u32, start: &StartAttempt) {
        let entry = &self.items[item as usize];
        let (slice, exempt) = (entry.slice, entry.held_up || entry.forked);
        // Of one that lies there twice it is not known which copy came.
        let twice = entry.spilled.get(&0).is_some_and(|copies| *copies > 1);
        let at = entry.backlog_at;
        let Some(facts) = self.endpoints.get_mut(&start.endpoint.id) else {
            return;
        };
        if !facts.always_well || !facts.order.is_none() || exempt || self.outcast.contains(&by.0) {
            return;
        }
        if facts.first_over_backlog.0 != Some(by) {
            facts.first_over_backlog = (Some(by), i64::MIN);
        }
        let furthest = facts.first_over_backlog.1;
        if let Some(at) = at {
            if !twice {
                facts.first_over_backlog.1 = furthest.max(at);
            }
            if at < furthest && !self.is_excused(item) {
                self.broken(now, Promise::BacklogOrder, || {
                    format!("#{item} at {at} of the backlog comes after the one at {furthest}")
                });
            }
            return;
        }
        if facts.limits.ever() || self.is_replay(item) {
            // What waits for its limit longer than it may be held is overtaken.
            return;
        }
        let told = self.states.entry(slice).or_default();
        let copies = told.copies.get(&start.endpoint.id);
        let waits = copies.into_iter().flatten().find(|(_, (other, live))| {
            let earlier = *other < item;
            let other = &self.items[*other as usize];
            earlier
                && *live
                && !other.had_turn
                && other.backlog_at.is_some()
                && !other.forked
                && other.excuse.is_none()
        });
        if let Some((at, (other, _))) = waits {
            let (at, other) = (*at, *other);
            self.broken(now, Promise::BacklogOrder, || {
                format!("#{item} overtakes #{other}, at {at} of the backlog")
            });
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
