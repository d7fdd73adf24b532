//! P4, and what receivers ask for: no attempt that the endpoint's limit or the receiver forbids.
//!
//! Decides by true time: of the attempts that start under one limit, no more than it allows lie in
//! any interval. The limit is the one in the configuration that the attempt carries; a change of
//! it begins a new count, as intervals that begin before are nobody's promise. Within the life of
//! one process the interval may be shorter by what its clock runs wrong, across processes also by
//! what their clocks differ. A pause that was asked for is measured by the clock of the worker that
//! was asked, as long as it owns the slice: the next owner does not know of it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use postrider_domain::{Endpoint, RateLimit, Timestamp};

use super::{Audit, Promise, Who};
use crate::clock::Micros;
use crate::engine::{StartAttempt, claim_of};

/// Between the decision and the start, and what a late start gives back to the next.
const GRACE: Duration = Duration::from_millis(27);

/// The limits an endpoint had, and what started under them.
#[derive(Debug, Default)]
pub(super) struct Limits {
    limit: Option<RateLimit>,
    /// Counts the changes.
    generation: u32,
    /// By version of the configuration.
    generations: BTreeMap<u64, u32>,
    starts: VecDeque<(Micros, u32, Who)>,
}

impl Limits {
    /// There is a new configuration.
    pub(super) fn configured(&mut self, endpoint: Option<&Endpoint>) {
        let limit = endpoint.and_then(|endpoint| endpoint.rate_limit);
        if limit != self.limit || endpoint.is_none() {
            self.generation += 1;
            self.limit = limit;
        }
        if let Some(endpoint) = endpoint {
            self.generations.insert(endpoint.version, self.generation);
        }
    }

    /// Whether it was ever limited.
    pub(super) fn ever(&self) -> bool {
        self.limit.is_some() || self.generation > 0
    }
}

impl Audit {
    pub(super) fn check_limit(&mut self, now: Micros, who: Who, start: &StartAttempt) {
        let clock_spread = self.clock_spread;
        let Some(facts) = self.endpoints.get_mut(&start.endpoint.id) else {
            return;
        };
        let limits = &mut facts.limits;
        let longest = RateLimit::PER_MAX.as_micros() as u64;
        while limits
            .starts
            .front()
            .is_some_and(|(at, ..)| at + longest < now)
        {
            limits.starts.pop_front();
        }
        let Some(limit) = start.endpoint.rate_limit else {
            return;
        };
        let Some(&generation) = limits.generations.get(&start.endpoint.version) else {
            return;
        };
        let mut ours = limits
            .starts
            .iter()
            .rev()
            .filter(|(_, of, _)| *of == generation);
        let last = ours.next().copied();
        let nth = match limit.attempts {
            1 => last,
            n => ours.nth(n as usize - 2).copied(),
        };
        limits.starts.push_back((now, generation, who));
        let tolerance = |length: u64, since: Who| {
            let skew = if since == who { 0 } else { clock_spread };
            length / 1_000_000 * 8 + 2_000 + skew
        };
        let per = limit.per.as_micros() as u64;
        if let Some((at, _, by)) = nth
            && now + tolerance(per, by) < at + per
        {
            let id = &start.endpoint.id;
            let passed = now - at;
            return self.broken(now, Promise::RateLimit, || {
                format!(
                    "{id} has {} starts in {passed} µs, at most {} are allowed in {:?}",
                    limit.attempts + 1,
                    limit.attempts,
                    limit.per
                )
            });
        }
        let spacing = (limit.per / limit.attempts)
            .saturating_sub(GRACE)
            .as_micros() as u64;
        if let Some((at, _, by)) = last
            && limit.smooth
            && now + tolerance(spacing, by) < at + spacing
        {
            let (id, passed) = (&start.endpoint.id, now - at);
            self.broken(now, Promise::RateLimit, || {
                format!("{id} has two starts {passed} µs apart, {limit:?}")
            });
        }
    }

    pub(super) fn check_asked(
        &mut self,
        now: Micros,
        shows: Timestamp,
        who: Who,
        start: &StartAttempt,
        polled_at: Micros,
    ) {
        let facts = self.endpoints.get(&start.endpoint.id);
        let asked = facts.and_then(|facts| facts.asked.get(&(who, claim_of(start.ticket))));
        if let Some(&(asked_at, until)) = asked
            && asked_at < polled_at
            && shows < until
        {
            let early = until.since(shows);
            let id = &start.endpoint.id;
            self.broken(now, Promise::AsksHeeded, || {
                format!(
                    "w{} sends to {id} {early:?} before the time it asked for",
                    who.0
                )
            });
        }
    }
}
