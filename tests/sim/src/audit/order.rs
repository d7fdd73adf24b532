//! P5: of an ordering key, one after the other, in the order of the slice's `deliveries`.
//!
//! Decides by what stands on the logs: nothing of a key is asked for while an earlier delivery of
//! it has no visible end there, whoever asks and whatever happened before; not two of a key at
//! once; and what a crash repeats is repeated in its order. A failed delivery never leaves the
//! backlog, and is not given up while all its configurations say `block`. Which rule an endpoint
//! has must be known to everybody before its first delivery: one whose `ordering` changes, or that
//! is deleted, is promised nothing from then on. Two exceptions are of the log: what came over
//! another lane than `deliveries` has no place among the others, and a delivery that lies twice on
//! a log (the router crashed and made it again, a crash put it in the backlog again) may come again
//! after those behind it.

use std::collections::{BTreeMap, BTreeSet};

use postrider_domain::{DeadLetterReason, Endpoint, OnExhausted, Ordering, Rung};

use super::{Audit, Promise, Who};
use crate::clock::Micros;
use crate::engine::{Claim, StartAttempt, claim_of};

/// What is known of an endpoint's order.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// The rule it has had since it was created; `None` = it had more than one.
    rule: Option<Ordering>,
    configured: bool,
    /// All its configurations say that a delivery that is given up stays.
    blocks: bool,
    keys: BTreeMap<Box<str>, Key>,
}

#[derive(Debug, Default)]
struct Key {
    /// Those that came over `deliveries` and have no visible end.
    open: BTreeSet<u32>,
    /// When one of them ended last.
    freed_at: Micros,
    /// The last one whose turn came, by ownership.
    furthest: Option<((Who, Claim), u32)>,
    /// The one whose turn it is, by ownership.
    in_flight: Option<((Who, Claim), u32)>,
}

impl Order {
    /// There is a new configuration.
    pub(super) fn configured(&mut self, endpoint: Option<&Endpoint>) {
        let rule = endpoint.map(|endpoint| endpoint.ordering);
        let blocks = endpoint.is_some_and(|e| e.on_exhausted == OnExhausted::Block);
        if !self.configured {
            *self = Self {
                rule,
                configured: true,
                blocks,
                keys: BTreeMap::new(),
            };
        } else if rule != self.rule {
            self.rule = None;
            self.keys.clear();
        }
        self.blocks &= blocks;
    }

    /// Whether it never had an order.
    pub(super) fn is_none(&self) -> bool {
        self.rule == Some(Ordering::None)
    }

    /// By which name a delivery waits for others.
    fn key_of(&self, ordering_key: Option<&str>) -> Option<Box<str>> {
        match self.rule? {
            Ordering::None => None,
            Ordering::Key => ordering_key.map(Into::into),
            Ordering::Endpoint => Some("".into()),
        }
    }
}

impl Audit {
    /// A delivery just made has this ordering key.
    pub(crate) fn keyed(&mut self, item: u32, ordering_key: Option<&str>) {
        let entry = &self.items[item as usize];
        let facts = entry
            .endpoint
            .as_ref()
            .and_then(|id| self.endpoints.get_mut(id));
        let Some((facts, key)) = facts.and_then(|f| f.order.key_of(ordering_key).map(|k| (f, k)))
        else {
            return;
        };
        if !entry.replay {
            facts
                .order
                .keys
                .entry(key.clone())
                .or_default()
                .open
                .insert(item);
        }
        self.item(item).key = Some(key);
    }

    fn key_of(&mut self, item: u32) -> Option<&mut Key> {
        let entry = &self.items[item as usize];
        let (key, endpoint) = (entry.key.as_ref()?, entry.endpoint.as_ref()?);
        self.endpoints.get_mut(endpoint)?.order.keys.get_mut(key)
    }

    /// Since when nothing of its key is ahead of a delivery; `None` = it waits for no other.
    pub(super) fn has_its_turn_since(&mut self, item: u32) -> Option<Micros> {
        self.key_of(item).map(|key| key.freed_at)
    }

    /// The engine asks for an attempt.
    pub(super) fn check_key(&mut self, now: Micros, who: Who, item: u32, start: &StartAttempt) {
        if self.outcast.contains(&who) {
            return;
        }
        let by = (who, claim_of(start.ticket));
        let entry = &self.items[item as usize];
        let twice = entry.forked || entry.spilled.values().sum::<u32>() != 1;
        let placed = !entry.replay && !twice;
        let replay = entry.replay;
        let Some(key) = self.key_of(item) else {
            return;
        };
        let ahead = key
            .open
            .first()
            .copied()
            .filter(|first| *first < item && !replay);
        let beside = key
            .in_flight
            .replace((by, item))
            .filter(|(of, _)| *of == by);
        let furthest = key
            .furthest
            .filter(|(of, _)| *of == by)
            .map(|(_, last)| last);
        if placed {
            key.furthest = Some((by, furthest.unwrap_or(0).max(item)));
        }
        if let Some(ahead) = ahead {
            self.broken(now, Promise::Order, || {
                format!(
                    "w{} sends #{item} before #{ahead} of its key is settled",
                    who.0
                )
            });
        }
        if let Some((_, other)) = beside {
            self.broken(now, Promise::Order, || {
                format!("w{} sends #{item} beside #{other} of its key", who.0)
            });
        }
        if let Some(last) = furthest.filter(|last| placed && *last > item) {
            self.broken(now, Promise::Order, || {
                format!("w{} sends #{item} of a key after #{last}", who.0)
            });
        }
    }

    /// An attempt is over, or was not made.
    pub(super) fn leaves_its_key(&mut self, who: Who, claim: Claim, item: u32) {
        if let Some(key) = self.key_of(item) {
            key.in_flight
                .take_if(|flight| *flight == ((who, claim), item));
        }
    }

    /// A visible end of it is on its log.
    pub(super) fn ends_in_its_key(&mut self, now: Micros, item: u32) {
        if let Some(key) = self.key_of(item) {
            key.open.remove(&item);
            key.freed_at = now;
        }
    }

    /// A delivery is copied to a rung.
    pub(super) fn check_stays(&mut self, now: Micros, item: u32, rung: Rung) {
        if self.key_of(item).is_some() {
            self.broken(now, Promise::Order, || {
                format!("#{item} leaves its key for {}", rung.name())
            });
        }
    }

    /// A delivery is given up after so many attempts.
    pub(super) fn check_may_be_given_up(
        &mut self,
        now: Micros,
        item: u32,
        attempts: u32,
        reason: DeadLetterReason,
    ) {
        let spent = matches!(
            reason,
            DeadLetterReason::AttemptsExhausted | DeadLetterReason::WindowPassed
        );
        let entry = &self.items[item as usize];
        let facts = entry
            .endpoint
            .as_ref()
            .and_then(|id| self.endpoints.get(id));
        let blocks = facts.is_some_and(|facts| facts.order.blocks);
        if spent && attempts > 0 && blocks && self.key_of(item).is_some() {
            self.broken(now, Promise::Order, || {
                format!("#{item} is given up after {attempts} attempts, though its key is to wait")
            });
        }
    }
}
