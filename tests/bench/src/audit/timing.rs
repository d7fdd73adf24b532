//! When retries came, compared with when they were due.
//!
//! Decides what due is: what the record of the attempt before says; of several records, after a
//! crash, the earliest for who came early and the latest for who came late. A retry whose attempt
//! before has no record is not judged.

use std::collections::HashMap;

use crate::audit::Attempted;
use crate::sink::log::Arrival;

/// A retry as it arrived, microseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The number of its event.
    pub event: u64,
    /// When it was due at the earliest.
    pub due_us: u64,
    /// When it was due at the latest.
    pub due_latest_us: u64,
    /// When it arrived.
    pub at_us: u64,
}

impl Retry {
    /// Whether it came before it was due.
    pub const fn is_early(&self) -> bool {
        self.at_us < self.due_us
    }

    /// How long after, microseconds.
    pub const fn late_us(&self) -> i64 {
        self.at_us as i64 - self.due_latest_us as i64
    }
}

/// Every event's first request of each number but the first.
pub fn retries(arrivals: &[Arrival], attempts: &[Attempted]) -> Vec<Retry> {
    let mut before: HashMap<(u64, u16), Vec<&Attempted>> = HashMap::new();
    for attempt in attempts {
        let next = (attempt.event as u64, attempt.attempt.saturating_add(1));
        before.entry(next).or_default().push(attempt);
    }
    let mut found = Vec::new();
    for arrival in arrivals {
        // those that follow are repeats
        let Some(before) = before.remove(&(arrival.event, arrival.attempt)) else {
            continue;
        };
        let known = before
            .iter()
            .filter(|attempt| attempt.started_ms <= arrival.at_us / 1_000);
        let dues = known.filter_map(|attempt| Some(attempt.next_ms? * 1_000));
        let (Some(due_us), Some(due_latest_us)) = (dues.clone().min(), dues.max()) else {
            continue;
        };
        found.push(Retry {
            event: arrival.event,
            due_us,
            due_latest_us,
            at_us: arrival.at_us,
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::retries;
    use crate::audit::Attempted;
    use crate::audit::examples::{arrival, attempted};

    #[test]
    fn a_retry_is_early_by_the_earliest_and_late_by_the_latest_record() {
        let failed = |started_ms, next_ms| Attempted {
            delivered: false,
            next_ms: Some(next_ms),
            ..attempted(0, 1, started_ms)
        };
        let attempts = [failed(10, 100), failed(50, 150), attempted(1, 1, 10)];
        let at = |at_us| retries(&[arrival(0, 7, 2, 200, at_us)], &attempts)[0];
        assert!(at(99_999).is_early());
        assert!(!at(100_000).is_early());
        assert_eq!(at(160_000).late_us(), 10_000);
        // the second record is of later
        assert_eq!(at(49_000).late_us(), -51_000);
        assert!(retries(&[arrival(1, 7, 2, 200, 90)], &attempts).is_empty());
    }
}
