//! Which starts count: those of one interval, in groups.
//!
//! Decides that starts of the same step of time are one group, which counts as if all came at its
//! latest, so the sum is never too low and late to fall by at most a step. Up to [`STEPS`] attempts
//! per interval a step is a microsecond and the sum is exact; above it is the interval's
//! [`STEPS`]th part, so there are about as many groups, not as many as attempts.
//! Leaves to `limit` how many may count, and what a start's time is.

use std::collections::VecDeque;
use std::time::Duration;

use postrider_domain::{RateLimit, Timestamp};

/// Steps of an interval.
const STEPS: u32 = 128;

/// More groups than this come from changes of the limit; they are put together.
pub(super) const GROUPS_MAX: usize = 2 * STEPS as usize;

#[derive(Clone, Copy, Debug)]
struct Group {
    latest: Timestamp,
    /// More than a `u32` only after groups of a broken record were put together.
    count: u64,
}

/// The starts that count, oldest first.
#[derive(Debug)]
pub(super) struct Window {
    per: Duration,
    /// Length of a step, in microseconds.
    step: u64,
    /// Their times ascend.
    groups: VecDeque<Group>,
    /// Sum of the groups.
    total: u64,
    /// Starts up to here have left.
    left: Timestamp,
}

impl Window {
    pub(super) fn new(limit: &RateLimit) -> Self {
        Self {
            per: limit.per,
            step: step(limit),
            groups: VecDeque::new(),
            total: 0,
            left: Timestamp::default(),
        }
    }

    /// Another interval; the groups stay.
    pub(super) fn resize(&mut self, limit: &RateLimit) {
        self.per = limit.per;
        self.step = step(limit);
    }

    /// Counts starts, none of them later than `at`.
    pub(super) fn push(&mut self, at: Timestamp, count: u32) {
        if self.groups.len() >= GROUPS_MAX {
            self.coarsen();
        }
        self.append(at, u64::from(count), self.step);
    }

    /// Lets go those that count no more: an interval has passed since the latest of their group.
    pub(super) fn expire(&mut self, now: Timestamp) {
        while let Some(group) = self.groups.front()
            && group.latest + self.per <= now
        {
            self.total -= group.count;
            self.left = group.latest;
            self.groups.pop_front();
        }
    }

    /// When fewer than `max` will count, unless that is so already.
    pub(super) fn free_at(&self, max: u32) -> Option<Timestamp> {
        let mut counting = self.total;
        let full = |counting: u64| counting >= u64::from(max);
        let mut free_at = None;
        for group in &self.groups {
            if !full(counting) {
                break;
            }
            counting -= group.count;
            free_at = Some(group.latest + self.per);
        }
        free_at
    }

    /// Takes back one start that was counted at this time, if it still counts.
    pub(super) fn remove(&mut self, at: Timestamp) {
        let later = self.groups.iter().rev();
        let later = later.take_while(|group| group.latest >= at).count();
        let index = self.groups.len() - later;
        if at <= self.left || later == 0 {
            return;
        }
        self.total -= 1;
        self.groups[index].count -= 1;
        if self.groups[index].count == 0 {
            self.groups.remove(index);
        }
    }

    /// The latest start that may count.
    pub(super) fn last(&self) -> Option<Timestamp> {
        self.groups.back().map(|group| group.latest)
    }

    /// The groups that count at this time, each with its latest time.
    pub(super) fn counting(&self, now: Timestamp) -> impl Iterator<Item = (Timestamp, u32)> {
        let groups = self.groups.iter();
        let groups = groups.skip_while(move |group| group.latest + self.per <= now);
        // a count beyond any limit may be any other beyond it
        groups.map(|group| (group.latest, u32::try_from(group.count).unwrap_or(u32::MAX)))
    }

    fn append(&mut self, at: Timestamp, count: u64, step: u64) {
        if count == 0 {
            return;
        }
        self.total += count;
        match self.groups.back_mut() {
            Some(last) if last.latest.as_micros() / step >= at.as_micros() / step => {
                last.latest = last.latest.max(at);
                last.count += count;
            }
            _ => self.groups.push_back(Group { latest: at, count }),
        }
    }

    fn coarsen(&mut self) {
        self.total = 0;
        for group in std::mem::take(&mut self.groups) {
            self.append(group.latest, group.count, part(self.per));
        }
    }
}

fn step(limit: &RateLimit) -> u64 {
    if limit.attempts <= STEPS {
        1
    } else {
        part(limit.per)
    }
}

fn part(per: Duration) -> u64 {
    u64::try_from((per / STEPS).as_micros()).map_or(u64::MAX, |part| part.max(1))
}
