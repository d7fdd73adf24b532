//! Which deliveries of an ordered endpoint wait for each other.
//!
//! Decides that of one ordering key one delivery is in flight, in the order of the endpoint's
//! backlog, which all deliveries of an ordered endpoint go through: its log is their order, through
//! hand-over and crash. A head that failed and waits long leaves memory; it, and what follows it,
//! stay in the log as holes of the endpoint's cursor ("left") until it is due, while other keys go
//! on. At most [`crate::offsets::HOLES_MAX`] records of an endpoint are left so; then all its keys
//! wait. Keys are told apart by a 64-bit hash: two that share one wait for each other needlessly.
//! Leaves reading to [`crate::backlog`], when a head is due to [`crate::schedule`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use postrider_domain::{Delivery, Head, Ordering, Timestamp};

use crate::queue::EntryId;

/// Most deliveries of one key in memory: the others leave room for other keys.
pub const KEY_QUEUE_MAX: usize = 16;

/// The key of all deliveries of an endpoint that keeps them all in order.
pub(crate) const ALL: u64 = 0;

/// Hash of the key by which a delivery is ordered; `None` = it waits for no other.
pub(crate) fn key_of(ordering: Ordering, delivery: &Delivery) -> Option<u64> {
    match ordering {
        Ordering::None => None,
        Ordering::Endpoint => Some(ALL),
        Ordering::Key => delivery.event.ordering_key.as_deref().map(hash),
    }
}

/// FNV-1a: part of what a successor reads, so it must stay as it is.
fn hash(text: &str) -> u64 {
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, mix)
}

/// Deliveries in memory, by key.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    keys: BTreeMap<u64, Key>,
    /// Keys whose head may be attempted.
    ready: VecDeque<u64>,
}

#[derive(Debug, Default)]
struct Key {
    waiting: VecDeque<EntryId>,
    /// Its head is in flight, or waits in memory for another attempt.
    busy: bool,
    /// How many of it end without an attempt, and are not settled.
    ending: usize,
}

impl Key {
    /// Whether the first that waits may be attempted.
    fn is_free(&self) -> bool {
        !self.busy && self.ending == 0 && !self.waiting.is_empty()
    }

    /// Whether nothing is known of it.
    fn is_empty(&self) -> bool {
        !self.busy && self.ending == 0 && self.waiting.is_empty()
    }
}

impl Keys {
    /// Appends a delivery to its key.
    pub(crate) fn push(&mut self, key: u64, entry: EntryId) {
        let of = self.keys.entry(key).or_default();
        of.waiting.push_back(entry);
        if of.is_free() && of.waiting.len() == 1 {
            self.ready.push_back(key);
        }
    }

    /// The head that was taken waits for its turn again.
    pub(crate) fn put_back(&mut self, key: u64, entry: EntryId) {
        let of = self.keys.entry(key).or_default();
        debug_assert!(of.busy, "the head of a key was taken twice");
        of.busy = false;
        of.waiting.push_front(entry);
        if of.is_free() {
            self.ready.push_front(key);
        }
    }

    /// The next head.
    pub(crate) fn next(&self) -> Option<EntryId> {
        self.keys.get(self.ready.front()?)?.waiting.front().copied()
    }

    /// Takes the next head; its key is busy until [`Self::free`] or [`Self::put_back`].
    pub(crate) fn pop(&mut self) -> Option<EntryId> {
        let of = self.keys.get_mut(&self.ready.pop_front()?)?;
        of.busy = true;
        of.waiting.pop_front()
    }

    /// The head of a key is settled, or out of memory: the next one may go.
    pub(crate) fn free(&mut self, key: u64) {
        let Some(of) = self.keys.get_mut(&key) else {
            return;
        };
        of.busy = false;
        self.go_on(key);
    }

    /// One that is not its head ends without an attempt: nobody of the key goes until
    /// [`Self::ended`].
    pub(crate) fn ends(&mut self, key: u64) {
        self.keys.entry(key).or_default().ending += 1;
        self.ready.retain(|ready| *ready != key);
    }

    /// It is settled.
    pub(crate) fn ended(&mut self, key: u64) {
        let Some(of) = self.keys.get_mut(&key) else {
            return;
        };
        let left = of.ending.checked_sub(1);
        of.ending = left.expect("it ends once");
        self.go_on(key);
    }

    fn go_on(&mut self, key: u64) {
        let Some(of) = self.keys.get(&key) else {
            return;
        };
        if of.is_empty() {
            self.keys.remove(&key);
        } else if of.is_free() && !self.ready.contains(&key) {
            self.ready.push_back(key);
        }
    }

    /// Takes one that waits out.
    pub(crate) fn remove(&mut self, key: u64, entry: EntryId) {
        let Some(of) = self.keys.get_mut(&key) else {
            return;
        };
        let Some(at) = of.waiting.iter().position(|waiting| *waiting == entry) else {
            return;
        };
        of.waiting.remove(at);
        if of.waiting.is_empty() {
            self.ready.retain(|ready| *ready != key);
            if of.is_empty() {
                self.keys.remove(&key);
            }
        }
    }

    /// How many of a key are in memory and unsettled.
    pub(crate) fn len_of(&self, key: u64) -> usize {
        let of = self.keys.get(&key);
        of.map_or(0, |of| of.waiting.len() + usize::from(of.busy) + of.ending)
    }

    /// Those of a key that wait behind its head.
    pub(crate) fn followers(&self, key: u64) -> Vec<EntryId> {
        let of = self.keys.get(&key);
        of.map_or_else(Vec::new, |of| of.waiting.iter().copied().collect())
    }

    /// Takes every one that waits out.
    pub(crate) fn take(&mut self) -> Vec<EntryId> {
        self.ready.clear();
        let mut taken = Vec::new();
        self.keys.retain(|_, of| {
            taken.extend(std::mem::take(&mut of.waiting));
            !of.is_empty()
        });
        taken
    }

    /// Every one that waits.
    pub(crate) fn iter(&self) -> impl Iterator<Item = EntryId> {
        self.keys.values().flat_map(|of| of.waiting.iter().copied())
    }

    /// Whether a head may be attempted.
    pub(crate) fn has_attempts(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether nothing is known of any key.
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

/// What of an ordered backlog is left in the log, and until when.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// Failed heads, by offset.
    heads: BTreeMap<i64, Head>,
    due: BTreeSet<(Timestamp, i64)>,
    /// When the windows of those end that are, or will be, due.
    ends: BTreeSet<(Timestamp, i64)>,
    /// The first record of a key that is left; all later ones of the key are, too.
    keys: BTreeMap<u64, i64>,
}

impl Left {
    /// As a predecessor left it.
    pub(crate) fn restored(heads: &[Head]) -> Self {
        let mut left = Self::default();
        for head in heads {
            left.block(*head);
        }
        left
    }

    /// What a successor must know.
    pub(crate) fn memory(&self) -> Vec<Head> {
        self.heads.values().copied().collect()
    }

    /// When the window of a head ends that was left: it is ended then though its endpoint takes
    /// nothing.
    pub(crate) fn ends(&mut self, offset: i64, at: Timestamp) {
        if self
            .heads
            .get(&offset)
            .is_some_and(|head| head.due.is_some())
        {
            self.ends.insert((at, offset));
        }
    }

    /// When the next window of a head ends.
    pub(crate) fn next_end(&self, now: Timestamp) -> Option<Timestamp> {
        let ahead = self.ends.range((now, i64::MIN)..);
        ahead.map(|(at, _)| *at).next()
    }

    /// Whether there is a head that is due, was not looked at since, and is past its window.
    pub(crate) fn has_overdue(&self, now: Timestamp) -> bool {
        let past = self.ends.range(..(now, i64::MIN));
        past.into_iter().any(|(_, offset)| {
            let due = self.heads.get(offset).and_then(|head| head.due);
            due.is_some_and(|due| due <= now && self.due.contains(&(due, *offset)))
        })
    }

    /// Whether a record stands behind one of its key that was left.
    pub(crate) fn is_behind(&self, key: u64, offset: i64) -> bool {
        self.keys.get(&key).is_some_and(|first| *first < offset)
    }

    /// A head waits out of memory.
    pub(crate) fn block(&mut self, head: Head) {
        self.settled(head.offset);
        self.due.extend(head.due.map(|due| (due, head.offset)));
        let first = self.keys.entry(head.key).or_insert(head.offset);
        *first = head.offset.min(*first);
        self.heads.insert(head.offset, head);
    }

    /// Whether a record stays in the log, with `in_memory` of its key before it.
    pub(crate) fn leaves(
        &mut self,
        now: Timestamp,
        offset: i64,
        key: u64,
        in_memory: usize,
    ) -> bool {
        let head = self.heads.get(&offset);
        let waits = head.is_some_and(|head| head.due.is_none_or(|due| due > now));
        let is_first = match self.keys.get(&key) {
            // Another rule may have made a head of one that is not the first of this key.
            Some(first) => in_memory == 0 && offset <= *first,
            None => head.is_none() || in_memory == 0,
        };
        if !waits && is_first && in_memory < KEY_QUEUE_MAX {
            // The others of its key follow it.
            self.keys.remove(&key);
            return false;
        }
        let first = self.keys.entry(key).or_insert(offset);
        *first = offset.min(*first);
        true
    }

    /// What is known of the head at this offset.
    pub(crate) fn head(&self, offset: i64) -> Option<Head> {
        self.heads.get(&offset).copied()
    }

    /// A record is settled, or in memory with another count of attempts.
    pub(crate) fn settled(&mut self, offset: i64) {
        let Some(head) = self.heads.remove(&offset) else {
            return;
        };
        self.ends.retain(|(_, of)| *of != offset);
        if let Some(due) = head.due {
            self.due.remove(&(due, offset));
        }
        if self.keys.get(&head.key) == Some(&offset) {
            self.keys.remove(&head.key);
        }
    }

    /// Where to read again, as the key has nothing in memory any more.
    pub(crate) fn follow_on(&mut self, now: Timestamp, key: u64) -> Option<i64> {
        let first = *self.keys.get(&key)?;
        if let Some(head) = self.heads.get(&first)
            && head.due.is_none_or(|due| due > now)
        {
            return None;
        }
        self.keys.remove(&key)
    }

    /// Where to read again, as heads are due.
    pub(crate) fn take_due(&mut self, now: Timestamp) -> Option<i64> {
        let mut from = None;
        while let Some(&(due, offset)) = self.due.first()
            && due <= now
        {
            self.due.pop_first();
            from = Some(from.map_or(offset, |from: i64| from.min(offset)));
        }
        from
    }

    /// When the next head is due.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Heads that wait to be released are due now.
    pub(crate) fn release(&mut self, now: Timestamp) {
        for head in self.heads.values_mut().filter(|head| head.due.is_none()) {
            head.due = Some(now);
            self.due.insert((now, head.offset));
        }
    }

    /// Nothing waits for another any more: where to read again.
    pub(crate) fn disband(&mut self) -> Option<i64> {
        let keys = std::mem::take(&mut self.keys);
        keys.into_values().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    fn head(offset: i64, key: u64, due: Option<Timestamp>) -> Head {
        Head {
            offset,
            key,
            attempts: 1,
            due,
        }
    }

    #[test]
    fn one_of_a_key_goes_at_a_time_and_other_keys_go_on() {
        let mut keys = Keys::default();
        for (key, entry) in [(1, 10), (1, 11), (2, 20), (1, 12), (2, 21)] {
            keys.push(key, entry);
        }
        assert_eq!(
            (keys.pop(), keys.pop(), keys.pop()),
            (Some(10), Some(20), None)
        );
        keys.free(1);
        assert_eq!(keys.next(), Some(11));
        keys.pop();
        keys.put_back(1, 11);
        keys.ends(1);
        assert_eq!(keys.pop(), None, "one before it is not settled");
        keys.ended(1);
        assert_eq!(keys.pop(), Some(11), "the head again, not its follower");
        keys.free(1);
        keys.free(2);
        assert_eq!((keys.pop(), keys.pop()), (Some(12), Some(21)));
        keys.free(1);
        keys.free(2);
        assert!(keys.is_empty());
    }

    #[test]
    fn what_follows_a_left_head_is_left_too_until_the_head_is_due() {
        let mut left = Left::default();
        left.block(head(40, 7, Some(at(100))));
        assert!(left.leaves(at(1), 40, 7, 0));
        assert!(left.leaves(at(1), 41, 7, 0));
        assert!(!left.leaves(at(1), 42, 8, 0), "another key");
        assert_eq!(left.take_due(at(99)), None);
        assert_eq!(left.take_due(at(100)), Some(40));
        assert!(!left.leaves(at(100), 40, 7, 0));
        assert_eq!(left.head(40).map(|head| head.attempts), Some(1));
        assert!(!left.leaves(at(100), 41, 7, 1), "behind it in memory");
    }

    #[test]
    fn one_key_does_not_fill_the_memory() {
        let mut left = Left::default();
        assert!(left.leaves(at(1), 50, 7, KEY_QUEUE_MAX));
        assert!(
            left.leaves(at(1), 51, 7, 3),
            "not past the one that was left"
        );
        assert_eq!(left.follow_on(at(1), 7), Some(50));
        assert!(!left.leaves(at(1), 50, 7, 0));
        assert!(left.leaves(at(1), 51, 7, KEY_QUEUE_MAX));
        assert!(
            left.leaves(at(1), 50, 7, 1),
            "what was in memory comes by again"
        );
        assert_eq!(left.follow_on(at(1), 7), Some(50), "from the first of them");
        assert!(left.leaves(at(1), 51, 7, KEY_QUEUE_MAX));
        assert!(!left.leaves(at(1), 50, 7, 0), "nothing is before it");
        left.block(head(60, 8, None));
        assert_eq!(left.follow_on(at(1), 8), None, "its head waits");
        left.release(at(5));
        assert_eq!(left.take_due(at(5)), Some(60));
    }

    /// Its head was blocked by another rule, so that it is not the first of its key.
    #[test]
    fn what_is_ahead_of_a_head_goes_before_it() {
        let mut left = Left::default();
        left.block(head(60, 8, None));
        assert!(!left.leaves(at(1), 50, 7, 0));
        assert!(left.leaves(at(1), 60, 7, 1), "the head, by its new key");
        assert_eq!(left.follow_on(at(2), 7), None, "it is not due");
        assert!(!left.leaves(at(2), 50, 7, 0), "ahead of it");
        assert!(left.leaves(at(2), 60, 7, 1));
        left.release(at(3));
        assert_eq!(left.take_due(at(3)), Some(60));
        assert!(left.leaves(at(3), 60, 7, 1), "not beside what is ahead");
        assert_eq!(left.follow_on(at(4), 7), Some(60), "due all the while");
        assert!(!left.leaves(at(4), 60, 7, 0));
        left.settled(60);
        assert!(!left.leaves(at(5), 61, 8, 0), "nothing of it is left");
    }

    #[test]
    fn a_due_head_waits_for_what_was_left_before_it() {
        let mut left = Left::default();
        left.block(head(60, 8, Some(at(9))));
        assert!(left.leaves(at(1), 50, 7, KEY_QUEUE_MAX));
        assert!(left.leaves(at(9), 60, 7, 0));
        assert_eq!(left.follow_on(at(9), 7), Some(50));
        assert!(!left.leaves(at(9), 50, 7, 0));
    }

    #[test]
    fn the_hash_stays_as_it_is() {
        assert_eq!(hash(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash("a"), 0xaf63_dc4c_8601_ec8c);
    }
}
