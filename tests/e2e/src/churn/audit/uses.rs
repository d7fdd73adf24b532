//! Who sent which request.
//!
//! An attempt record names its worker. A request without one (its worker was killed, or may not
//! speak for the slice any more) has the process id of its sender; one whose sender was gone when
//! it was looked for is the worker's that was killed at that time. Its signature's time says within
//! a second when it was made.

use std::collections::{BTreeSet, HashMap};

use super::super::journal::{Action, Attempted, Journal, What, event_of};

/// How long before its attempt a request may seem to arrive, ms: clocks are rounded.
const SLACK_MS: u64 = 50;
/// How long before a kill and after it a request may arrive whose sender cannot be found, ms.
const GONE_MS: u64 = 500;
/// No dispatcher of ours, or none that is known.
const NOBODY: u32 = 0;

/// A request, or an attempt that did not arrive.
#[derive(Clone, Debug)]
pub(crate) struct Use {
    pub(crate) slice: u16,
    pub(crate) event: usize,
    pub(crate) attempt: u32,
    pub(crate) worker: u32,
    /// `None` = there is no record of it.
    pub(crate) epoch: Option<u64>,
    /// Ms since the epoch, as the next two; without a record to the second, rounded up.
    pub(crate) started_ms: u64,
    /// `None` = there is no record of it.
    pub(crate) ended_ms: Option<u64>,
    /// `None` = it did not arrive.
    pub(crate) arrived_ms: Option<u64>,
    /// Whether it was answered 2xx.
    pub(crate) taken: bool,
    /// Whether its record says that it failed: of one that was taken, for want of an answer.
    pub(crate) failed: bool,
}

/// All of them, by start.
pub(crate) struct Uses {
    pub(crate) all: Vec<Use>,
    /// Events that were taken.
    pub(crate) taken: BTreeSet<usize>,
    /// Requests that nobody can be named for.
    pub(crate) nobodys: usize,
}

impl Uses {
    pub(crate) fn of(journal: &Journal) -> Self {
        let lives = Lives::of(journal);
        let mut all: Vec<Use> = journal
            .attempts
            .iter()
            .map(|attempted| of_record(attempted, &lives))
            .collect();
        let mut by_event: HashMap<usize, Vec<usize>> = HashMap::new();
        for (index, made) in all.iter().enumerate() {
            by_event.entry(made.event).or_default().push(index);
        }
        let mut taken = BTreeSet::new();
        let mut nobodys = 0;
        for receipt in &journal.requests {
            let Some(event) = event_of(receipt) else {
                continue;
            };
            let is_taken = (200..300).contains(&receipt.status);
            if is_taken {
                taken.insert(event);
            }
            let number = receipt
                .attempt
                .as_deref()
                .and_then(|text| text.parse().ok());
            let made = Use {
                slice: journal.events.get(event).map_or(0, |event| event.slice),
                event,
                attempt: number.unwrap_or_default(),
                worker: lives.sender(receipt.sender, receipt.arrived_ms),
                epoch: None,
                started_ms: signed_ms(receipt.timestamp.as_deref(), receipt.arrived_ms),
                ended_ms: None,
                arrived_ms: Some(receipt.arrived_ms),
                taken: is_taken,
                failed: false,
            };
            let records = by_event.get(&event).map_or(&[][..], Vec::as_slice);
            let fits = records.iter().filter(|index| fits(&all[**index], &made));
            match fits.max_by_key(|index| all[**index].started_ms) {
                Some(&index) => {
                    all[index].arrived_ms = made.arrived_ms;
                    all[index].taken = is_taken;
                }
                None if made.worker == NOBODY => nobodys += 1,
                None => all.push(made),
            }
        }
        all.sort_by_key(|made| (made.started_ms, made.arrived_ms));
        Self {
            all,
            taken,
            nobodys,
        }
    }
}

fn of_record(attempted: &Attempted, lives: &Lives) -> Use {
    Use {
        slice: attempted.slice,
        event: attempted.event,
        attempt: attempted.attempt,
        worker: lives.number(attempted.pid, attempted.started_ms),
        epoch: Some(attempted.epoch),
        started_ms: attempted.started_ms,
        ended_ms: Some(attempted.ended_ms),
        arrived_ms: None,
        taken: false,
        failed: attempted.outcome != "delivered",
    }
}

/// Whether a request may be the one of a record that has none yet: it was signed when the attempt
/// began, however late it arrived.
fn fits(record: &Use, request: &Use) -> bool {
    let signed_s = request.started_ms / 1_000;
    record.arrived_ms.is_none()
        && (request.worker == record.worker || request.worker == NOBODY)
        && record.attempt == request.attempt
        && record.started_ms <= request.arrived_ms.unwrap_or_default() + SLACK_MS
        && (record.started_ms / 1_000).abs_diff(signed_s) <= 1
}

/// When a request was signed, as late as its second allows.
fn signed_ms(timestamp: Option<&str>, arrived_ms: u64) -> u64 {
    let seconds: Option<u64> = timestamp.and_then(|text| text.parse().ok());
    seconds.map_or(arrived_ms, |seconds| arrived_ms.min(seconds * 1_000 + 999))
}

/// Which dispatcher had a process id when: ids come again.
struct Lives {
    /// Process id, since when, number.
    starts: Vec<(u32, u64, u32)>,
    /// When, number.
    kills: Vec<(u64, u32)>,
}

impl Lives {
    fn of(journal: &Journal) -> Self {
        let mut lives = Self {
            starts: Vec::new(),
            kills: Vec::new(),
        };
        for Action { at_ms, what } in &journal.actions {
            match *what {
                What::Start { worker, pid } => lives.starts.push((pid, *at_ms, worker)),
                What::Kill { worker } => lives.kills.push((*at_ms, worker)),
                _ => {}
            }
        }
        lives
    }

    fn number(&self, pid: u32, at_ms: u64) -> u32 {
        let lives = self.starts.iter().rev();
        let mut before = lives.filter(|(known, from_ms, _)| *known == pid && *from_ms <= at_ms);
        before.next().map_or(NOBODY, |(_, _, worker)| *worker)
    }

    fn sender(&self, pid: Option<u32>, arrived_ms: u64) -> u32 {
        if let Some(pid) = pid {
            return self.number(pid, arrived_ms);
        }
        let around = |(at_ms, _): &&(u64, u32)| at_ms.abs_diff(arrived_ms) <= GONE_MS;
        let mut killed = self.kills.iter().filter(around);
        killed.next().map_or(NOBODY, |(_, worker)| *worker)
    }
}
