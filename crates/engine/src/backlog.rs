//! Deliveries of a busy endpoint on the slice's `backlog`: one copy each, however long it lasts.
//!
//! Decides how far an endpoint's backlog is read and settled, when its deliveries may go past it
//! again (not before its end), and how one reader serves every endpoint that drains:
//!
//! - Each endpoint has its own cursor: below it everything of this endpoint is settled. The records
//!   of others in between are skipped, not copied.
//! - A pass reads the log from the lowest record that any endpoint wants, and goes on while one
//!   that keeps up wants something ahead. An endpoint that had no room for a record is behind, and
//!   is served by the next pass, which starts when this one ends, or after [`PASS_MAX`], twice as
//!   long after each pass that was cut short of the end. One that found none because others have
//!   it waits until half of it is free, or for [`STARVED_MAX`].
//! - Copies are appended one at a time per ordering key, so that one which fails keeps its place.
//! - That there is a backlog is written to `endpoint-state` and acknowledged before the first
//!   record is appended, so that a successor knows where to begin. Offsets have gaps and other
//!   endpoints' records between: nothing here assumes offset + 1.
//!
//! Leaves when an endpoint is busy to [`crate::admission`] and `health`, the reading itself to
//! [`crate::lane`], and what becomes of a delivery to `slice`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use postrider_domain::{BacklogMemory, EndpointId, Timestamp};

use crate::commit_map::CommitMap;
use crate::offsets::{HOLES_MAX, OffsetTracker, Reading};
use crate::order::{ALL, Left};
use crate::queue::EntryId;

/// Most records of an endpoint's backlog in memory.
pub const WINDOW: usize = 256;

/// Most records of all backlogs of a slice in memory.
pub const HELD_MAX: usize = 4_096;

/// Bytes of such records.
pub const HELD_BYTES_MAX: usize = 2 << 20;

/// How long a pass may leave an endpoint behind, at first.
pub const PASS_MAX: Duration = Duration::from_secs(1);

/// How long an endpoint waits for half of the room to be free before it is served from what there
/// is.
pub const STARVED_MAX: Duration = Duration::from_secs(5);

/// An endpoint's backlog, from its first record to the settling of its last.
#[derive(Debug)]
pub(crate) struct Backlog {
    offsets: OffsetTracker,
    /// Its last record lies below.
    end: i64,
    /// Records being appended.
    appending: usize,
    /// Keys of those of them that are ordered.
    appending_keys: BTreeSet<u64>,
    /// Entries to be appended, with their keys: once it is known to a successor that there is a
    /// backlog, and no earlier one of the key is being appended.
    pending: VecDeque<(EntryId, Option<u64>)>,
    /// That is so.
    opened: bool,
    /// Records in memory.
    held: BTreeSet<i64>,
    /// The pass that has left out nothing of it.
    pass: u64,
    /// While the endpoint takes nothing, it is read no earlier than this, when its oldest record
    /// may be past its window; or, of one that was deleted or disabled, past our patience.
    pub(crate) expires: Timestamp,
    /// How many of its records were in memory when there was no room for one more.
    full: Option<usize>,
    /// What of it waits in the log for an earlier one of its key.
    pub(crate) left: Left,
}

impl Backlog {
    /// A new one: every record of it will be at `from` or above.
    pub(crate) fn new(from: i64) -> Self {
        Self {
            offsets: OffsetTracker::restored(from, None),
            end: from,
            appending: 0,
            appending_keys: BTreeSet::new(),
            pending: VecDeque::new(),
            opened: false,
            held: BTreeSet::new(),
            pass: 0,
            // How old its records are is seen by reading one.
            expires: Timestamp::default(),
            full: None,
            left: Left::default(),
        }
    }

    /// As a predecessor left it, in a log that ends at `end`.
    pub(crate) fn restored(memory: &BacklogMemory, end: i64) -> Self {
        let cursor = memory.holes.first().copied().unwrap_or(memory.position);
        let map = CommitMap {
            position: memory.position,
            holes: memory.holes.clone(),
        };
        Self {
            offsets: OffsetTracker::restored(cursor, Some(map)),
            end: end.max(memory.position),
            opened: true,
            left: Left::restored(&memory.heads),
            ..Self::new(cursor)
        }
    }

    /// What a successor must know.
    pub(crate) fn memory(&self) -> BacklogMemory {
        let (_, map) = self.offsets.commit_map().expect("it has a position");
        BacklogMemory {
            position: map.position,
            holes: map.holes,
            heads: self.left.memory(),
        }
    }

    /// Whether deliveries have to queue up behind it: in part it is still to be read, or written.
    pub(crate) fn is_ahead(&self) -> bool {
        self.is_unread() || self.appending > 0 || !self.pending.is_empty()
    }

    /// Whether there is something to read.
    pub(crate) fn is_unread(&self) -> bool {
        self.next() < self.end
    }

    /// Whether what is to be read next may not be: as much of it as may be is unsettled. Until
    /// some of that is settled, or due, reading it would come to nothing.
    pub(crate) fn stands(&self) -> bool {
        !self.offsets.is_known(self.next()) && self.offsets.incomplete() >= HOLES_MAX
    }

    /// Whether all of it is settled.
    pub(crate) fn is_done(&self) -> bool {
        !self.is_ahead() && self.offsets.incomplete() == 0
    }

    /// The next record of interest is here or above.
    pub(crate) fn next(&self) -> i64 {
        self.offsets.read_to().expect("it has a position")
    }

    /// Whether a successor knows of it, so that records may be appended.
    pub(crate) const fn is_opened(&self) -> bool {
        self.opened
    }

    /// A successor knows of it.
    pub(crate) const fn open(&mut self) {
        self.opened = true;
    }

    /// An entry is to be appended.
    pub(crate) fn will_append(&mut self, entry: EntryId, key: Option<u64>) {
        self.pending.push_back((entry, key));
    }

    /// Nothing more is appended.
    pub(crate) fn append_no_more(&mut self) {
        self.pending.clear();
    }

    /// The next entry to be appended, and its key; it is under way until [`Self::appended`]. Of a
    /// key one after the other, as one that fails and is written again must not come behind those
    /// that follow it.
    pub(crate) fn append(&mut self) -> Option<(EntryId, Option<u64>)> {
        if !self.opened {
            return None;
        }
        let busy = &self.appending_keys;
        let waits = |key: Option<u64>| match key {
            Some(ALL) => self.appending > 0,
            Some(key) => busy.contains(&key) || busy.contains(&ALL),
            None => false,
        };
        let keys = || self.pending.iter().map(|(_, key)| *key);
        let at = keys().position(|key| !waits(key))?;
        if keys().take(at).any(|key| key == Some(ALL)) {
            // It waits for all ahead of it, and all behind it wait for it.
            return None;
        }
        let (entry, key) = self.pending.remove(at)?;
        self.appending += 1;
        self.appending_keys.extend(key);
        Some((entry, key))
    }

    /// It is there; `None` = it went elsewhere.
    pub(crate) fn appended(&mut self, key: Option<u64>, offset: Option<i64>) {
        self.appending = self.appending.checked_sub(1).expect("appended once");
        if let Some(key) = key {
            self.appending_keys.remove(&key);
        }
        if let Some(offset) = offset {
            self.end = self.end.max(offset + 1);
        }
    }

    /// A record of it was read in the pass of this number; whether it is taken into memory.
    fn read(&mut self, pass: u64, offset: i64, fate: Fate) -> bool {
        if self.pass != pass || offset < self.next() {
            return false;
        }
        let known = self.offsets.is_known(offset);
        if fate == Fate::NoRoom || (!known && self.offsets.incomplete() >= HOLES_MAX) {
            // All below was looked at: the next reading begins here.
            self.offsets.skip_to(offset);
            self.pass = 0;
            self.full = Some(self.held.len());
            return false;
        }
        self.full = None;
        // A former owner's append may have come late.
        self.end = self.end.max(offset + 1);
        let new = self.offsets.read(offset) == Reading::New;
        // After a rewind, what is still in memory comes by again.
        new && fate == Fate::Take && self.held.insert(offset)
    }

    /// Whether a record is neither settled nor in memory.
    pub(crate) fn is_open(&self, offset: i64) -> bool {
        !self.held.contains(&offset) && self.offsets.is_open(offset)
    }

    /// It found no room; now it is served although others still have theirs.
    pub(crate) fn try_again(&mut self) {
        if self.held.is_empty() {
            self.full = None;
        }
    }

    /// Reads again from this record on: what is settled or in memory is passed over.
    pub(crate) fn rewind(&mut self, offset: i64) {
        self.offsets.rewind(offset);
        self.pass = 0;
        self.full = None;
    }

    /// A record is out of memory and stays in the log.
    pub(crate) fn leave(&mut self, offset: i64) {
        self.held.remove(&offset);
    }

    /// How many of its records are in memory.
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// Nothing of it lies below `position` that was not read.
    fn read_to(&mut self, pass: u64, position: i64) {
        if self.pass == pass && self.next() < position {
            self.offsets.skip_to(position);
        }
    }

    /// A record is settled.
    pub(crate) fn settle(&mut self, offset: i64) -> bool {
        self.held.remove(&offset);
        self.left.settled(offset);
        self.offsets.settle(offset)
    }

    /// A record is out of memory, unsettled: it is read again.
    pub(crate) fn unload(&mut self, offset: i64) {
        self.leave(offset);
        self.rewind(offset);
    }
}

/// What is to become of a record that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is taken into memory.
    Take,
    /// It stays in the log until one before it is settled; what is behind it goes on.
    Leave,
    /// It stays in the log, and so does all that is behind it.
    NoRoom,
}

/// What a pass should do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Go on as it is.
    Keep,
    /// Read from here on.
    Read(i64),
    /// Stop reading.
    Stop,
}

/// The one reader of a slice's backlog.
#[derive(Debug)]
pub(crate) struct Passes {
    number: u64,
    /// Where the pass under way is; `None` = there is none.
    position: Option<i64>,
    /// The log ends here or above.
    end: i64,
    /// Where it ended when the slice was acquired: what predecessors appended lies below.
    acquired_end: i64,
    /// Want something ahead of the pass.
    following: BTreeSet<EndpointId>,
    /// Want something that the pass under way has gone past.
    behind: BTreeSet<(i64, EndpointId)>,
    /// Where they are in it.
    behind_at: BTreeMap<EndpointId, i64>,
    behind_since: Option<Timestamp>,
    /// How long the pass under way may leave somebody behind: twice as long after each one that
    /// was cut short of the end, or what lies far ahead would never be reached.
    patience: Duration,
    /// The pass under way has come to the end of the log.
    at_end: bool,
    /// Want something, but others have all the room.
    starved: BTreeSet<EndpointId>,
    starved_since: Option<Timestamp>,
    /// The pass under way has come to `acquired_end`, and that was taken note of.
    finished: bool,
    /// Records in memory, and their bytes.
    held: usize,
    held_bytes: usize,
}

impl Passes {
    pub(crate) const fn new(end: i64) -> Self {
        Self {
            number: 0,
            position: None,
            end,
            acquired_end: end,
            following: BTreeSet::new(),
            behind: BTreeSet::new(),
            behind_at: BTreeMap::new(),
            behind_since: None,
            patience: PASS_MAX,
            at_end: false,
            starved: BTreeSet::new(),
            starved_since: None,
            finished: false,
            held: 0,
            held_bytes: 0,
        }
    }

    /// Every record that is appended from now on lies here or above.
    pub(crate) const fn end(&self) -> i64 {
        self.end
    }

    /// A record was appended.
    pub(crate) fn appended(&mut self, offset: i64) {
        self.end = self.end.max(offset + 1);
    }

    /// Whether an endpoint that may hold `window` records has room for one more.
    pub(crate) fn has_room(&self, backlog: &Backlog, window: usize, bytes: usize) -> bool {
        let held = backlog.held();
        let free = HELD_MAX.saturating_sub(self.held);
        let free_bytes = HELD_BYTES_MAX.saturating_sub(self.held_bytes);
        if held == 0 {
            return free > 0 && free_bytes > 0;
        }
        held < window.min(free / 8) && bytes <= free_bytes / 8
    }

    /// Whether an endpoint is to be served, or served on: one that has taken its fill comes back
    /// at half of it.
    fn wants_more(&self, backlog: &Backlog, window: usize) -> bool {
        let held = backlog.held();
        let keeps_up = self.position.is_some() && backlog.pass == self.number;
        match backlog.full {
            Some(full) => held <= (full / 2).min(window / 2),
            None => held == 0 || keeps_up || held <= window / 2,
        }
    }

    /// Whether half of the room for all backlogs is free.
    const fn has_slack(&self) -> bool {
        self.held <= HELD_MAX / 2 && self.held_bytes <= HELD_BYTES_MAX / 2
    }

    /// Endpoints that found no room because others had it: once half of it is free, or, as those
    /// who are idle at other times may keep it from that, after [`STARVED_MAX`].
    pub(crate) fn take_starved(&mut self, now: Timestamp) -> BTreeSet<EndpointId> {
        let long = self.starved_until().is_some_and(|until| until <= now);
        if !long && !self.has_slack() {
            return BTreeSet::new();
        }
        self.starved_since = None;
        std::mem::take(&mut self.starved)
    }

    fn starved_until(&self) -> Option<Timestamp> {
        self.starved_since.map(|since| since + STARVED_MAX)
    }

    pub(crate) const fn enter(&mut self, bytes: usize) {
        self.held += 1;
        self.held_bytes += bytes;
    }

    pub(crate) const fn leave(&mut self, bytes: usize) {
        self.held -= 1;
        self.held_bytes -= bytes;
    }

    /// An endpoint takes deliveries (`window` of them at once), or does not.
    pub(crate) fn want(
        &mut self,
        now: Timestamp,
        id: &EndpointId,
        backlog: Option<&mut Backlog>,
        window: usize,
    ) {
        self.following.remove(id);
        self.starved.remove(id);
        if let Some((id, at)) = self.behind_at.remove_entry(id) {
            self.behind.remove(&(at, id));
        }
        if let Some(backlog) = backlog {
            if self
                .position
                .is_some_and(|position| backlog.next() >= position)
            {
                // The pass has yet to come to what it wants.
                backlog.pass = self.number;
            }
            let follows = self.position.is_some() && backlog.pass == self.number;
            if !self.wants_more(backlog, window) {
                // It comes back when it has settled some.
            } else if follows {
                self.following.insert(id.clone());
            } else if self.has_slack() || (backlog.held() == 0 && backlog.full.is_none()) {
                self.behind.insert((backlog.next(), id.clone()));
                self.behind_at.insert(id.clone(), backlog.next());
                self.behind_since.get_or_insert(now);
            } else {
                self.starved.insert(id.clone());
                self.starved_since.get_or_insert(now);
            }
        }
        if self.behind.is_empty() {
            self.behind_since = None;
        }
        if self.starved.is_empty() {
            self.starved_since = None;
        }
    }

    /// An endpoint that has missed nothing of the pass has read all of it up to here.
    pub(crate) fn catch_up(&self, backlog: &mut Backlog) {
        if let Some(position) = self.position {
            backlog.read_to(self.number, position.min(backlog.end));
        }
    }

    /// Whether this pass is where this record of an endpoint is to be looked at: it is neither
    /// settled nor in memory.
    pub(crate) fn wants(&self, backlog: &Backlog, offset: i64) -> bool {
        backlog.pass == self.number
            && offset >= backlog.next()
            && (!backlog.offsets.is_known(offset) || backlog.is_open(offset))
    }

    /// A record at this offset was read; whether the endpoint takes it.
    pub(crate) fn read(&mut self, offset: i64, of: Option<(&mut Backlog, Fate)>) -> bool {
        self.position = Some(offset + 1);
        self.at_end |= offset + 1 >= self.end;
        of.is_some_and(|(backlog, fate)| backlog.read(self.number, offset, fate))
    }

    /// Those who follow, once the pass has come to the end of what predecessors appended: of how
    /// much of that is whose, nothing is known before.
    pub(crate) fn take_finished(&mut self) -> BTreeSet<EndpointId> {
        let at_end = self.position.is_some_and(|at| at >= self.acquired_end);
        if !at_end || std::mem::replace(&mut self.finished, true) {
            return BTreeSet::new();
        }
        self.following.clone()
    }

    /// What to do next. After [`Step::Read`], [`Self::begun`] is called for each endpoint in
    /// [`Self::following`].
    pub(crate) fn step(&mut self, now: Timestamp) -> Step {
        let overdue = self
            .behind_since
            .is_some_and(|since| since + self.patience <= now);
        if self.position.is_some() && !self.following.is_empty() && !overdue {
            return Step::Keep;
        }
        let Some((from, _)) = self.behind.first() else {
            // At the end it stays: what is appended next comes at once.
            let idle = self.following.is_empty() && self.position.is_some_and(|at| at < self.end);
            return if idle {
                self.position = None;
                Step::Stop
            } else {
                Step::Keep
            };
        };
        let at_end = std::mem::take(&mut self.at_end);
        self.patience = if overdue && !at_end {
            self.patience * 2
        } else {
            PASS_MAX
        };
        // Those who follow have read nothing beyond the pass under way.
        let from = match self.position {
            Some(position) if !self.following.is_empty() => position.min(*from),
            _ => *from,
        };
        self.number += 1;
        self.finished = false;
        self.position = Some(from);
        self.behind_since = None;
        self.behind_at.clear();
        self.following.extend(
            std::mem::take(&mut self.behind)
                .into_iter()
                .map(|(_, id)| id),
        );
        Step::Read(from)
    }

    /// The endpoints that the pass under way serves.
    pub(crate) fn following(&self) -> impl Iterator<Item = EndpointId> {
        self.following.iter().cloned()
    }

    /// The pass under way began below all that this endpoint wants.
    pub(crate) const fn begun(&self, backlog: &mut Backlog) {
        backlog.pass = self.number;
    }

    /// When [`Self::step`] is to be asked although nothing happened.
    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        let since = self.behind_since.filter(|_| self.position.is_some());
        let pass = since.map(|since| since + self.patience);
        pass.into_iter().chain(self.starved_until()).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_key_one_is_appended_at_a_time_and_of_all_nothing_beside() {
        let mut backlog = Backlog::new(0);
        for (entry, key) in [
            (1, Some(5)),
            (2, Some(5)),
            (3, Some(6)),
            (4, Some(ALL)),
            (5, Some(7)),
        ] {
            backlog.will_append(entry, key);
        }
        assert_eq!(backlog.append(), None, "no successor knows of it");
        backlog.open();
        assert_eq!(backlog.append(), Some((1, Some(5))));
        assert_eq!(backlog.append(), Some((3, Some(6))));
        assert_eq!(backlog.append(), None);
        backlog.appended(Some(5), Some(10));
        assert_eq!(backlog.append(), Some((2, Some(5))));
        backlog.appended(Some(6), Some(11));
        assert_eq!(backlog.append(), None, "nothing beside, nothing past it");
        backlog.appended(Some(5), None);
        assert_eq!(backlog.append(), Some((4, Some(ALL))));
        assert_eq!(backlog.append(), None);
        backlog.appended(Some(ALL), Some(12));
        assert_eq!(backlog.append(), Some((5, Some(7))));
    }
}
