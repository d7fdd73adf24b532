//! What is known of an endpoint over the whole run.
//!
//! Decides what any of its configurations allowed: a worker may go by an earlier one for a while.

use std::collections::BTreeMap;

use postrider_domain::{Endpoint, EndpointId, EndpointState, Timestamp};

use super::limits::Limits;
use super::order::Order;
use super::{Audit, Who};
use crate::clock::Micros;
use crate::engine::{Claim, WorkerSettings};

/// What is known of an endpoint over the whole run.
#[derive(Debug)]
pub(super) struct EndpointFacts {
    pub(super) concurrency_max: u16,
    pub(super) concurrency: u16,
    /// By attempts made: the shortest wait any of its configurations asked for.
    pub(super) floors: Vec<Micros>,
    /// Fewest attempts a configuration allowed.
    pub(super) attempts_min: u32,
    pub(super) window_min: Micros,
    pub(super) window_max: Micros,
    /// Sum and largest of the waits, over all configurations.
    pub(super) sum_max: Micros,
    pub(super) wait_max: Micros,
    pub(super) was_deleted: bool,
    pub(super) was_disabled: bool,
    pub(super) active: bool,
    pub(super) paused: bool,
    pub(super) changed_at: Micros,
    /// It never heals.
    pub(super) dead: bool,
    /// It had no room for another request until then.
    pub(super) full_until: Micros,
    pub(super) limits: Limits,
    pub(super) order: Order,
    /// By ownership: until when its receiver asked to be left alone, and when it did.
    pub(super) asked: BTreeMap<(Who, Claim), (Micros, Timestamp)>,
    /// Its receiver never failed: it waits for nothing but its pauses.
    pub(super) always_well: bool,
    /// It may be kept from requests until then.
    pub(super) unwell_until: Micros,
    /// The first attempt over the backlog that came furthest, by ownership.
    pub(super) first_over_backlog: (Option<(Who, Claim)>, i64),
    /// By ownership: what a lost one left behind is not counted against the next.
    pub(super) in_flight: BTreeMap<(Who, Claim), u32>,
}

impl Audit {
    /// An endpoint was created, changed or (`None`) deleted.
    pub(crate) fn endpoint_changed(
        &mut self,
        now: Micros,
        id: &EndpointId,
        endpoint: Option<&Endpoint>,
        settings: &WorkerSettings,
    ) {
        let facts = self
            .endpoints
            .entry(id.clone())
            .or_insert_with(|| EndpointFacts {
                concurrency_max: 0,
                concurrency: 0,
                floors: Vec::new(),
                attempts_min: u32::MAX,
                window_min: Micros::MAX,
                window_max: 0,
                sum_max: 0,
                wait_max: 0,
                was_deleted: false,
                was_disabled: false,
                active: true,
                paused: false,
                changed_at: now,
                dead: false,
                full_until: 0,
                limits: Limits::default(),
                order: Order::default(),
                asked: BTreeMap::new(),
                always_well: true,
                unwell_until: 0,
                first_over_backlog: (None, i64::MIN),
                in_flight: BTreeMap::new(),
            });
        facts.limits.configured(endpoint);
        facts.order.configured(endpoint);
        facts.changed_at = now;
        facts.paused = endpoint.is_some_and(|endpoint| endpoint.state == EndpointState::Paused);
        facts.active = endpoint.is_some_and(|endpoint| endpoint.state == EndpointState::Active);
        let Some(endpoint) = endpoint else {
            // What is in flight then is judged by the policy of those that do not say.
            facts.was_deleted = true;
            let attempts = settings.retry.schedule.len() as u32 + 1;
            facts.attempts_min = facts.attempts_min.min(attempts);
            let window = settings.retry.window.as_micros() as u64;
            facts.window_min = facts.window_min.min(window);
            facts.window_max = facts.window_max.max(window);
            return;
        };
        facts.was_disabled |= endpoint.state == EndpointState::Disabled;
        facts.concurrency = endpoint.concurrency.unwrap_or(settings.concurrency);
        facts.concurrency_max = facts.concurrency_max.max(facts.concurrency);
        let policy = endpoint.retry.as_ref().unwrap_or(&settings.retry);
        let waits: Vec<Micros> = policy
            .schedule
            .iter()
            .map(|wait| wait.as_micros() as u64)
            .collect();
        for (n, wait) in waits.iter().enumerate() {
            let floor = wait * (1_000 - u64::from(policy.jitter_permille)) / 1_000;
            match facts.floors.get_mut(n) {
                Some(before) => *before = floor.min(*before),
                None => facts.floors.push(floor),
            }
        }
        facts.attempts_min = facts.attempts_min.min(waits.len() as u32 + 1);
        let window = policy.window.as_micros() as u64;
        facts.window_min = facts.window_min.min(window);
        facts.window_max = facts.window_max.max(window);
        facts.sum_max = facts.sum_max.max(waits.iter().sum());
        facts.wait_max = facts.wait_max.max(waits.iter().copied().max().unwrap_or(0));
    }

    /// Its receiver stays dead.
    pub(crate) fn endpoint_dead(&mut self, id: &EndpointId) {
        if let Some(facts) = self.endpoints.get_mut(id) {
            facts.dead = true;
        }
    }
}
