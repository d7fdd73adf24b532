//! What was sent again, and what excuses it.
//!
//! Decides what a repeat is: a request whose number its event had before, or that came after one
//! that was answered well. An answer that the worker did not get (its record says so) is no reason
//! against the next attempt of the schedule. Excused is what a [`Loss`] may repeat, by a later owner
//! of the slice than the one whose work was lost: nothing is lost where nobody came after; and what a
//! router routes again ([`Rerouted`]), by a later owner, as that does not know what the one before it
//! has seen. Leaves what was lost, and routed again, to the caller.

use std::collections::{BTreeMap, HashMap};

use crate::audit::Attempted;
use crate::sink::log::Arrival;

/// By how much a request may seem to arrive before its attempt, milliseconds: records round.
const SLACK_MS: u64 = 50;
/// How long a failed delivery may wait in memory, with its count nowhere else.
const IN_MEMORY_US: u64 = 45_000_000;

/// A time of which commits may not tell: what was in flight in it, or ended in it, may be sent once
/// more by the next owner, and may lack a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Whose work; `None` = anybody's.
    pub pid: Option<u32>,
    /// Microseconds since the epoch.
    pub since_us: u64,
    /// Microseconds since the epoch.
    pub until_us: u64,
}

/// A router lost its intake partitions: what it had read in this time and not committed is routed
/// again from the end of it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rerouted {
    /// Microseconds since the epoch.
    pub since_us: u64,
    /// Microseconds since the epoch.
    pub again_us: u64,
}

/// What there was of it.
#[derive(Debug, Default)]
pub struct Repeats {
    /// Requests that were repeats.
    pub requests: usize,
    /// Requests that losses may repeat.
    pub bound: usize,
    /// Repeats that nothing excuses.
    pub unexcused: Vec<Arrival>,
    /// Requests without a record.
    pub unrecorded: Vec<Arrival>,
    /// Those of them that nothing excuses.
    pub untold: Vec<Arrival>,
}

/// A request with its record.
struct Made<'a> {
    arrival: Arrival,
    record: Option<&'a Attempted>,
}

impl Made<'_> {
    fn ends(&self) -> bool {
        let told = self.record.is_none_or(|record| record.delivered);
        self.arrival.is_success() && told
    }

    fn is_in(&self, loss: &Loss) -> bool {
        let by = self
            .record
            .is_none_or(|record| loss.pid.is_none_or(|pid| pid == record.pid));
        let ended_us = self.record.map_or(0, |record| record.ended_ms * 1_000);
        let memory_us = if self.ends() { 0 } else { IN_MEMORY_US };
        let until_us = ended_us.max(self.arrival.at_us) + memory_us;
        by && self.arrival.at_us <= loss.until_us && until_us >= loss.since_us
    }

    /// Whether the same ownership of their slice made both, so that nothing was lost between them.
    fn shares_owner(&self, other: &Self) -> bool {
        let owner = |made: &Self| made.record.map(|record| (record.pid, record.epoch));
        owner(self).is_some() && owner(self) == owner(other)
    }
}

impl Repeats {
    /// Of all requests, in order of arrival, with all records.
    pub fn of(
        arrivals: &[Arrival],
        attempts: &[Attempted],
        losses: &[Loss],
        rerouted: &[Rerouted],
    ) -> Self {
        let mut last_epochs: BTreeMap<u16, u64> = BTreeMap::new();
        for attempt in attempts {
            let last = last_epochs.entry(attempt.slice).or_default();
            *last = attempt.epoch.max(*last);
        }
        let is_lost = |made: &Made<'_>| {
            let has_successor = made
                .record
                .is_none_or(|record| record.epoch < last_epochs[&record.slice]);
            has_successor && losses.iter().any(|loss| made.is_in(loss))
        };
        let is_routed_again = |earlier: &Made<'_>, later: &Made<'_>| {
            rerouted.iter().any(|by| {
                (by.since_us..by.again_us).contains(&earlier.arrival.at_us)
                    && later.arrival.at_us >= by.again_us
            })
        };
        let mut found = Self::default();
        for made in by_event(arrivals, attempts).into_values() {
            found.judge(&made, &is_lost, &is_routed_again);
        }
        found
    }

    fn judge(
        &mut self,
        all: &[Made<'_>],
        is_lost: &impl Fn(&Made<'_>) -> bool,
        is_routed_again: &impl Fn(&Made<'_>, &Made<'_>) -> bool,
    ) {
        for (index, made) in all.iter().enumerate() {
            let before = &all[..index];
            let after = &all[index + 1..];
            let may = is_lost(made) || after.iter().any(|later| is_routed_again(made, later));
            self.bound += usize::from(may);
            if made.record.is_none() {
                self.unrecorded.push(made.arrival);
                if !is_lost(made) {
                    self.untold.push(made.arrival);
                }
            }
            let again = before
                .iter()
                .any(|earlier| earlier.arrival.attempt >= made.arrival.attempt || earlier.ends());
            if !again {
                continue;
            }
            self.requests += 1;
            let mut before = before.iter();
            let excused = before.any(|earlier| {
                !earlier.shares_owner(made) && (is_lost(earlier) || is_routed_again(earlier, made))
            });
            if !excused {
                self.unexcused.push(made.arrival);
            }
        }
    }
}

fn by_event<'a>(arrivals: &[Arrival], attempts: &'a [Attempted]) -> HashMap<u64, Vec<Made<'a>>> {
    let mut records: HashMap<(u64, u16), Vec<&Attempted>> = HashMap::new();
    for attempt in attempts {
        let number = (attempt.event as u64, attempt.attempt);
        records.entry(number).or_default().push(attempt);
    }
    let mut found: HashMap<u64, Vec<Made<'_>>> = HashMap::new();
    for arrival in arrivals {
        let left = records.get_mut(&(arrival.event, arrival.attempt));
        let record = left.and_then(|left| take_latest(left, arrival.at_us / 1_000 + SLACK_MS));
        found.entry(arrival.event).or_default().push(Made {
            arrival: *arrival,
            record,
        });
    }
    found
}

/// The one that began last of those that began by then.
fn take_latest<'a>(left: &mut Vec<&'a Attempted>, by_ms: u64) -> Option<&'a Attempted> {
    let begun = left.iter().enumerate();
    let begun = begun.filter(|(_, record)| record.started_ms <= by_ms);
    let (index, _) = begun.max_by_key(|(_, record)| record.started_ms)?;
    Some(left.swap_remove(index))
}

#[cfg(test)]
mod tests {
    use super::{Loss, Repeats, Rerouted};
    use crate::audit::Attempted;
    use crate::audit::examples::{arrival, attempted};

    const LOSS: Loss = Loss {
        pid: Some(1),
        since_us: 1_000_000,
        until_us: 2_000_000,
    };

    fn by(pid: u32, record: Attempted) -> Attempted {
        Attempted {
            pid,
            epoch: pid.into(),
            ..record
        }
    }

    fn unexcused(at_ms: u64, first: Option<Attempted>, second: Attempted) -> usize {
        let arrivals = [
            arrival(0, 7, 1, 200, at_ms * 1_000),
            arrival(0, 7, 1, 200, 9_000_000),
        ];
        let attempts: Vec<Attempted> = first.into_iter().chain([second]).collect();
        let repeats = Repeats::of(&arrivals, &attempts, &[LOSS], &[]);
        assert_eq!(repeats.requests, 1);
        repeats.unexcused.len()
    }

    #[test]
    fn a_loss_excuses_what_its_worker_had_just_done() {
        let second = by(2, attempted(0, 1, 9_000));
        for (at_ms, pid, expected) in [(1_500, 1, 0), (900, 1, 1), (2_100, 1, 1), (1_500, 3, 1)] {
            let first = by(pid, attempted(0, 1, at_ms));
            assert_eq!(unexcused(at_ms, Some(first), second), expected, "{at_ms}");
        }
        // killed before it could record it
        assert_eq!(unexcused(1_500, None, second), 0);
        assert_eq!(unexcused(900, None, second), 1);
        // the same owner lost nothing
        let (first, second) = (attempted(0, 1, 1_500), attempted(0, 1, 9_000));
        assert_eq!(unexcused(1_500, Some(first), second), 1);
    }

    #[test]
    fn what_a_router_routes_again_is_excused_at_another_owner() {
        let rerouted = Rerouted {
            since_us: 1_000_000,
            again_us: 8_000_000,
        };
        let unexcused = |first_ms: u64, second_ms: u64, owner| {
            let arrivals = [first_ms, second_ms].map(|ms| arrival(0, 7, 1, 200, ms * 1_000));
            let attempts = [
                by(1, attempted(0, 1, first_ms)),
                by(owner, attempted(0, 1, second_ms)),
            ];
            let repeats = Repeats::of(&arrivals, &attempts, &[], &[rerouted]);
            (repeats.unexcused.len(), repeats.bound)
        };
        assert_eq!(unexcused(2_000, 9_000, 2), (0, 1));
        assert_eq!(unexcused(2_000, 9_000, 1).0, 1, "the owner knew it");
        assert_eq!(unexcused(900, 9_000, 2), (1, 0), "it was committed");
        assert_eq!(unexcused(2_000, 7_000, 2), (1, 0), "not routed again yet");
    }

    #[test]
    fn a_failure_that_waited_in_memory_is_made_again_under_its_number() {
        let arrivals = [
            arrival(0, 7, 1, 422, 900_000),
            arrival(0, 7, 1, 422, 9_000_000),
            arrival(0, 7, 2, 200, 9_500_000),
        ];
        let failed = |pid, at_ms| Attempted {
            delivered: false,
            ..by(pid, attempted(0, 1, at_ms))
        };
        let attempts = [
            failed(1, 900),
            failed(2, 9_000),
            by(2, attempted(0, 2, 9_500)),
        ];
        let repeats = Repeats::of(&arrivals, &attempts, &[LOSS], &[]);
        assert_eq!((repeats.requests, repeats.unexcused.len()), (1, 0));
        assert_eq!(
            Repeats::of(&arrivals, &attempts, &[], &[]).unexcused.len(),
            1
        );
    }

    #[test]
    fn an_answer_that_did_not_come_back_is_no_repeat_of_the_next() {
        let arrivals = [
            arrival(0, 7, 1, 200, 100_000),
            arrival(0, 7, 2, 200, 9_000_000),
        ];
        let timed_out = Attempted {
            delivered: false,
            ..attempted(0, 1, 100)
        };
        let attempts = [timed_out, attempted(0, 2, 9_000)];
        assert_eq!(Repeats::of(&arrivals, &attempts, &[], &[]).requests, 0);
        let attempts = [attempted(0, 1, 100), attempted(0, 2, 9_000)];
        assert_eq!(
            Repeats::of(&arrivals, &attempts, &[], &[]).unexcused.len(),
            1
        );
    }

    #[test]
    fn only_a_loss_hides_a_request() {
        let arrivals = [
            arrival(0, 7, 1, 200, 900_000),
            arrival(1, 7, 1, 200, 1_500_000),
        ];
        let repeats = Repeats::of(&arrivals, &[], &[LOSS], &[]);
        assert_eq!((repeats.unrecorded.len(), repeats.untold.len()), (2, 1));
    }
}
