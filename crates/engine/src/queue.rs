//! The deliveries of one endpoint that wait in memory for their turn.
//!
//! Decides who is next: first attempts and retries alternate while both wait, so that neither
//! starves the other; replays come when asked for and nothing else waits. Leaves when the endpoint
//! has a turn to [`crate::turns`], how long the queue may get to [`crate::admission`].

use std::collections::VecDeque;

/// Names an entry of the slice's table.
pub(crate) type EntryId = u64;

/// What kind of attempt waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// The first one of a delivery.
    First,
    /// A further one.
    Retry,
    /// One that was asked for again: spare capacity only.
    Replay,
}

/// First in, first out, by class.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    first: VecDeque<EntryId>,
    retries: VecDeque<EntryId>,
    replays: VecDeque<EntryId>,
    /// A first attempt was taken last.
    retry_is_next: bool,
}

impl Queue {
    pub(crate) fn push(&mut self, class: Class, entry: EntryId) {
        self.of(class).push_back(entry);
    }

    /// Puts an entry back to where it was taken from.
    pub(crate) fn push_front(&mut self, class: Class, entry: EntryId) {
        self.of(class).push_front(entry);
    }

    /// The entry that is next; with `replays`, of those.
    pub(crate) fn next(&self, replays: bool) -> Option<EntryId> {
        if replays {
            return self.replays.front().copied();
        }
        let (first, retry) = (self.first.front(), self.retries.front());
        let (one, other) = if self.retry_is_next {
            (retry, first)
        } else {
            (first, retry)
        };
        one.or(other).copied()
    }

    /// Takes the entry that is next.
    pub(crate) fn pop(&mut self, replays: bool) -> Option<EntryId> {
        let entry = self.next(replays)?;
        if self.first.front() == Some(&entry) {
            self.retry_is_next = true;
        } else if self.retries.front() == Some(&entry) {
            self.retry_is_next = false;
        }
        self.remove(entry);
        Some(entry)
    }

    /// Takes one entry out.
    pub(crate) fn remove(&mut self, entry: EntryId) {
        for queue in [&mut self.first, &mut self.retries, &mut self.replays] {
            if queue.front() == Some(&entry) {
                queue.pop_front();
                return;
            }
            if let Some(at) = queue.iter().position(|waiting| *waiting == entry) {
                queue.remove(at);
                return;
            }
        }
    }

    /// Takes every entry out.
    pub(crate) fn take(&mut self) -> Vec<EntryId> {
        let queues = [&mut self.first, &mut self.retries, &mut self.replays];
        queues.into_iter().flat_map(std::mem::take).collect()
    }

    /// Every entry that waits.
    pub(crate) fn iter(&self) -> impl Iterator<Item = EntryId> {
        let queues = [&self.first, &self.retries, &self.replays];
        queues.into_iter().flatten().copied()
    }

    /// How many wait, replays apart.
    pub(crate) fn len(&self) -> usize {
        self.first.len() + self.retries.len()
    }

    /// Whether anything but replays waits.
    pub(crate) fn has_attempts(&self) -> bool {
        !self.first.is_empty() || !self.retries.is_empty()
    }

    /// Whether replays wait.
    pub(crate) fn has_replays(&self) -> bool {
        !self.replays.is_empty()
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0 && !self.has_replays()
    }

    const fn of(&mut self, class: Class) -> &mut VecDeque<EntryId> {
        match class {
            Class::First => &mut self.first,
            Class::Retry => &mut self.retries,
            Class::Replay => &mut self.replays,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_attempts_and_retries_alternate() {
        let mut queue = Queue::default();
        for entry in 0..3 {
            queue.push(Class::First, entry);
            queue.push(Class::Retry, 10 + entry);
        }
        let order: Vec<EntryId> = std::iter::from_fn(|| queue.pop(false)).collect();
        assert_eq!(order, [0, 10, 1, 11, 2, 12]);
        queue.push(Class::Retry, 13);
        queue.push(Class::Retry, 14);
        assert_eq!(queue.pop(false), Some(13), "alone they have every turn");
        assert_eq!(queue.pop(false), Some(14));
        assert!(queue.is_empty());
    }

    #[test]
    fn replays_come_only_when_asked_for() {
        let mut queue = Queue::default();
        queue.push(Class::Replay, 1);
        assert_eq!(queue.pop(false), None);
        assert_eq!(queue.pop(true), Some(1));
    }

    #[test]
    fn an_entry_that_was_not_sent_is_the_next_again() {
        let mut queue = Queue::default();
        queue.push(Class::First, 1);
        queue.push(Class::First, 2);
        let taken = queue.pop(false).expect("one waits");
        queue.push_front(Class::First, taken);
        assert_eq!(queue.pop(false), Some(1));
        queue.remove(2);
        assert!(queue.is_empty());
    }
}
