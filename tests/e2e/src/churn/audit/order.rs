//! Whether the events of each ordering key came in order while their slice moved and some failed.
//!
//! Decides, per key, from the order in which requests arrived: an event is taken for the first time
//! after every earlier one, and does not arrive before the one ahead of it was taken; and no worker
//! goes back to an earlier event of a key. Another worker may: a crash repeats the end.

use std::collections::{BTreeMap, HashMap};

use super::super::journal::{Event, Journal, event_of};
use super::super::subject::Subject;

/// What it showed.
#[derive(Debug)]
pub(crate) struct Ordered {
    /// How many keys there are to be.
    pub(crate) wanted: usize,
    /// Keys that got events.
    pub(crate) keys: usize,
    /// The fewest and the most events of one of them.
    pub(crate) events: (usize, usize),
    /// Events in all.
    pub(crate) heads: usize,
    /// Of them refused at first.
    pub(crate) failed: usize,
    /// Events taken for the first time before an earlier one of their key was.
    pub(crate) overtook: Vec<usize>,
    /// Events that arrived before the one ahead of them was taken.
    pub(crate) early: Vec<usize>,
    /// Events that a worker went back to.
    pub(crate) went_back: Vec<usize>,
}

/// By the place of a request in the log.
#[derive(Default)]
struct Course {
    arrived: Option<usize>,
    taken: Option<usize>,
    refused: bool,
}

impl Ordered {
    /// `None` = the journal is about something else.
    pub(crate) fn of(journal: &Journal) -> Option<Self> {
        let subject = journal.setting.subject?;
        let Subject::Ordered(wanted) = subject else {
            return None;
        };
        let key = |event: &Event| event.subject.and_then(|place| subject.key(place));
        let mut courses: HashMap<usize, Course> = HashMap::new();
        let mut newest: HashMap<(u32, usize), usize> = HashMap::new();
        let mut went_back = Vec::new();
        for (place, receipt) in journal.requests.iter().enumerate() {
            let Some(event) = event_of(receipt).and_then(|number| journal.events.get(number))
            else {
                continue;
            };
            let Some(key) = key(event) else { continue };
            let course = courses.entry(event.number).or_default();
            course.arrived.get_or_insert(place);
            if (200..300).contains(&receipt.status) {
                course.taken.get_or_insert(place);
            } else {
                course.refused = true;
            }
            let Some(sender) = receipt.sender else {
                continue;
            };
            let newest = newest.entry((sender, key)).or_insert(event.number);
            if event.number < *newest {
                went_back.push(event.number);
            }
            *newest = event.number;
        }
        // numbers are the order in which one producer handed them over
        let mut by_key: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for event in &journal.events {
            if let Some(key) = key(event) {
                by_key.entry(key).or_default().push(event.number);
            }
        }
        let mut found = Self {
            wanted,
            keys: by_key.len(),
            events: (
                by_key.values().map(Vec::len).min().unwrap_or(0),
                by_key.values().map(Vec::len).max().unwrap_or(0),
            ),
            heads: by_key.values().map(Vec::len).sum(),
            failed: courses.values().filter(|course| course.refused).count(),
            overtook: Vec::new(),
            early: Vec::new(),
            went_back,
        };
        for events in by_key.values() {
            found.judge(events, &courses);
        }
        Some(found)
    }

    /// Looks at the events of a key. One that was never taken is lost, which is for others to say;
    /// all behind it are early.
    fn judge(&mut self, events: &[usize], courses: &HashMap<usize, Course>) {
        let never = Course::default();
        let course = |event: &usize| courses.get(event).unwrap_or(&never);
        let mut latest = 0;
        for pair in events.windows(2) {
            let (ahead, behind) = (course(&pair[0]), course(&pair[1]));
            let ahead_taken = ahead.taken.unwrap_or(usize::MAX);
            latest = ahead_taken.max(latest);
            if behind.taken.is_some_and(|taken| taken < latest) {
                self.overtook.push(pair[1]);
            }
            if behind.arrived.is_some_and(|arrived| arrived < ahead_taken) {
                self.early.push(pair[1]);
            }
        }
    }
}
