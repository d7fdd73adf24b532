//! P1: nothing that a commit accounts for is without a visible end or another copy.
//!
//! Decides by counting the *live* copies of each delivery: those on lanes that no stored commit
//! accounts for. When a commit takes the last one away, the delivery must have ended on `attempts`
//! or `dead-letters` before. So a commit one too far, a settlement before its acknowledgement and
//! a forgotten hole are all seen when the broker stores the commit.

use postrider_domain::{Lane, Slice};

use super::{Audit, Promise};
use crate::clock::Micros;
use crate::engine::{CommitMap, HOLES_MAX, SPAN_MAX};
use crate::logs::Log;

/// What a commit says of a lane.
#[derive(Debug)]
struct Point {
    frontier: i64,
    map: CommitMap,
}

impl Point {
    fn of((frontier, metadata): (i64, &str)) -> Option<Self> {
        let map = CommitMap::decode(frontier, metadata).ok()?;
        Some(Self { frontier, map })
    }

    fn accounts_for(&self, offset: i64) -> bool {
        offset < self.frontier
            || (offset < self.map.position && self.map.holes.binary_search(&offset).is_err())
    }

    fn is_valid(&self, log: &Log) -> bool {
        let holes = &self.map.holes;
        let ordered = holes.is_sorted_by(|a, b| a < b);
        let inside = holes
            .iter()
            .all(|hole| (self.frontier..self.map.position).contains(hole));
        let starts = holes.first().is_none_or(|first| *first == self.frontier);
        let bounded = holes.len() <= HOLES_MAX && self.map.position - self.frontier <= SPAN_MAX;
        ordered
            && inside
            && starts
            && bounded
            && self.frontier <= self.map.position
            && self.map.position <= log.end
    }
}

impl Audit {
    /// A copy is on a lane.
    pub(crate) fn copied(
        &mut self,
        now: Micros,
        item: u32,
        attempts: u32,
        (slice, lane, offset): (Slice, Lane, i64),
    ) {
        if let Lane::Retry(rung) = lane {
            self.check_stays(now, item, rung);
        }
        if lane == Lane::Backlog {
            self.check_copies(now, item, attempts, offset);
        }
        debug_assert_eq!(self.item(item).slice, slice, "a copy left its slice");
        if lane == Lane::Backlog && !self.is_told_of(slice, item, offset) {
            // Nobody will read it.
            return;
        }
        self.alive(item);
    }

    pub(super) fn alive(&mut self, item: u32) {
        self.item(item).live += 1;
        self.open.insert(item);
    }

    /// The broker stored a commit of a lane.
    pub(crate) fn committed(
        &mut self,
        now: Micros,
        (slice, lane): (Slice, Lane),
        log: &Log,
        before: Option<&(i64, String)>,
        after: (i64, &str),
    ) {
        let before = before.and_then(|(frontier, metadata)| Point::of((*frontier, metadata)));
        let Some(after) = Point::of(after).filter(|point| point.is_valid(log)) else {
            return self.broken(now, Promise::Commits, || {
                format!("the commit of {lane}/{slice} does not read back")
            });
        };
        let first = before
            .as_ref()
            .map_or(i64::MIN, |before| before.frontier.min(after.frontier));
        let last = before.as_ref().map_or(after.map.position, |before| {
            before.map.position.max(after.map.position)
        });
        for stored in &log.records[log.index(first)..] {
            if stored.offset >= last {
                break;
            }
            let was = before
                .as_ref()
                .is_some_and(|before| before.accounts_for(stored.offset));
            match (was, after.accounts_for(stored.offset)) {
                (false, true) => self.accounted(now, stored.item, (slice, lane, stored.offset)),
                (true, false) => self.alive(stored.item),
                _ => {}
            }
        }
    }

    pub(super) fn accounted(
        &mut self,
        now: Micros,
        item: u32,
        (slice, lane, offset): (Slice, Lane, i64),
    ) {
        let entry = self.item(item);
        entry.live -= 1;
        if entry.live > 0 {
            return;
        }
        if entry.ended {
            self.open.remove(&item);
            self.last_closed = now;
        } else {
            self.broken(now, Promise::NoLoss, || {
                format!("#{item} is lost: the commit of {lane}/{slice} passed {offset}, its last copy, and it has not ended")
            });
        }
    }

    /// A visible end is on its log.
    pub(super) fn end_item(&mut self, now: Micros, item: u32, how: &'static str) {
        self.ends_in_its_key(now, item);
        let entry = self.item(item);
        if std::mem::replace(&mut entry.ended, true) {
            self.check_second_end(now, item, how);
        }
        let entry = self.item(item);
        if entry.live == 0 && self.open.remove(&item) {
            self.last_closed = now;
        }
    }

    /// The run is over, and all is done.
    pub(crate) fn finish(&mut self, now: Micros) {
        let lost = self
            .items
            .iter()
            .position(|item| !item.ended || item.live > 0);
        if let Some(item) = lost {
            self.broken(now, Promise::NoLoss, || format!("#{item} has not ended"));
        }
    }
}
