//! Joins what was written with what arrived, and with what Postrider recorded of it.
//!
//! Decides what lost, repeated and first mean here. Each event is for one endpoint, so an event is
//! a delivery. What is sent again and whether anything excuses it is in [`repeats`], who went out of
//! turn in [`order`], how many at once in [`limits`], when retries came in [`timing`], and who sent
//! for slices of others in [`owners`]. Leaves how much of it may be to the profiles.

pub mod limits;
pub mod order;
pub mod owners;
pub mod repeats;
pub mod timing;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Context;
use postrider_domain::Record;
use postrider_e2e::Attempt;
use postrider_kafka::ClientSettings;
use postrider_kafka::tail::{From, Tail};

use crate::load::{Event, event_number};
use crate::rig::endpoint_number;
use crate::sink::log::Arrival;

/// How long a broker of a busy machine may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What became of an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fate {
    /// When its first attempt arrived, microseconds since the epoch.
    pub first_us: Option<u64>,
    /// When it was first answered well.
    pub delivered_us: Option<u64>,
    /// How many requests were answered well.
    pub successes: u32,
    /// How many requests there were.
    pub requests: u32,
}

/// Events with their fates.
#[derive(Debug)]
pub struct Joined<'a> {
    /// What was written.
    pub events: &'a [Event],
    /// As many.
    pub fates: Vec<Fate>,
    /// Requests that are none of ours, or came to somebody else's receiver.
    pub strays: usize,
}

/// How many of some events came to what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All.
    pub events: usize,
    /// Never answered well.
    pub lost: usize,
    /// Requests answered well beside the first one.
    pub repeats: usize,
    /// Requests.
    pub requests: usize,
}

impl<'a> Joined<'a> {
    /// Of all events and all arrivals.
    pub fn new(events: &'a [Event], arrivals: &[Arrival]) -> Self {
        let mut fates = vec![Fate::default(); events.len()];
        let mut strays = 0;
        for arrival in arrivals {
            let number = usize::try_from(arrival.event).unwrap_or(usize::MAX);
            let ours = events
                .get(number)
                .is_some_and(|event| event.endpoint == arrival.receiver);
            if !ours {
                strays += 1;
                continue;
            }
            let fate = &mut fates[number];
            fate.requests += 1;
            if arrival.attempt == 1 {
                fate.first_us = fate.first_us.or(Some(arrival.at_us));
            }
            if arrival.is_success() {
                fate.successes += 1;
                fate.delivered_us = fate.delivered_us.or(Some(arrival.at_us));
            }
        }
        Self {
            events,
            fates,
            strays,
        }
    }

    /// The numbers of events whose endpoint satisfies, among some.
    pub fn of(
        &self,
        among: &[std::ops::Range<usize>],
        endpoint: impl Fn(u32) -> bool,
    ) -> Vec<usize> {
        let numbers = among.iter().cloned().flatten();
        numbers
            .filter(|number| endpoint(self.events[*number].endpoint))
            .collect()
    }

    /// From the time an event was meant to be written to the arrival of its first attempt,
    /// microseconds. What never arrived is not among them: it is lost.
    pub fn latencies(&self, numbers: &[usize]) -> Vec<i64> {
        let latency = |number: &usize| {
            let arrived = self.fates[*number].first_us?;
            Some(arrived as i64 - self.events[*number].intended_us as i64)
        };
        numbers.iter().filter_map(latency).collect()
    }

    /// The same until an attempt was answered well.
    pub fn until_delivered(&self, numbers: &[usize]) -> Vec<i64> {
        let latency = |number: &usize| {
            let delivered = self.fates[*number].delivered_us?;
            Some(delivered as i64 - self.events[*number].intended_us as i64)
        };
        numbers.iter().filter_map(latency).collect()
    }

    /// How late events were handed to the producer, microseconds.
    pub fn written_late(&self) -> Vec<i64> {
        let late = |event: &Event| event.sent_us as i64 - event.intended_us as i64;
        self.events.iter().map(late).collect()
    }

    /// What they came to.
    pub fn counts(&self, numbers: &[usize]) -> Counts {
        let mut counts = Counts {
            events: numbers.len(),
            ..Counts::default()
        };
        for number in numbers {
            let fate = &self.fates[*number];
            counts.lost += usize::from(fate.successes == 0);
            counts.repeats += fate.successes.saturating_sub(1) as usize;
            counts.requests += fate.requests as usize;
        }
        counts
    }
}

/// A record of `attempts` about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attempted {
    /// The number of its event.
    pub event: usize,
    /// The number in the id of its endpoint, which need not be that of the receiver.
    pub endpoint: u32,
    /// The number of the attempt, from 1.
    pub attempt: u16,
    /// What was answered; 0 = nothing.
    pub status: u16,
    /// Whether it says that this ended the delivery well.
    pub delivered: bool,
    /// When it began, milliseconds since the epoch.
    pub started_ms: u64,
    /// When it ended.
    pub ended_ms: u64,
    /// When the next one is due, milliseconds since the epoch.
    pub next_ms: Option<u64>,
    /// The process that made it.
    pub pid: u32,
    /// The slice of its endpoint.
    pub slice: u16,
    /// The ownership of the slice it was made under.
    pub epoch: u64,
}

/// Every record of the topic, from beginning to end.
///
/// # Errors
/// The broker does not answer.
pub fn read(client: &ClientSettings, topic: &str, each: impl FnMut(Record)) -> anyhow::Result<()> {
    let tail = Tail::open(client, "bench", topic, None, From::Beginning, PATIENCE)?;
    Ok(tail.read_all(PATIENCE, each)?)
}

/// The requests on `attempts`.
///
/// # Errors
/// The broker does not answer, or a record is not as it should be.
pub fn attempts(client: &ClientSettings, topic: &str) -> anyhow::Result<Vec<Attempted>> {
    let mut found = Vec::new();
    let mut wrong = None;
    read(client, topic, |record| {
        match attempted(record.value.as_deref().unwrap_or_default()) {
            Ok(attempted) => found.extend(attempted),
            Err(error) => wrong = Some(error.context(record.origin.to_string())),
        }
    })?;
    wrong.map_or_else(|| Ok(each_once(found)), Err)
}

/// A record is there twice when its acknowledgement was lost (`docs/delivery.md`): it is one attempt.
fn each_once(mut attempts: Vec<Attempted>) -> Vec<Attempted> {
    attempts.sort_unstable();
    attempts.dedup();
    attempts
}

/// `None` = no request was made.
fn attempted(value: &[u8]) -> anyhow::Result<Option<Attempted>> {
    let attempt: Attempt = serde_json::from_slice(value)?;
    let event = event_number(&attempt.event.id).context("not an event of ours")?;
    let endpoint = endpoint_number(&attempt.endpoint_id).context("not an endpoint of ours")?;
    Ok(attempt.requested().then(|| Attempted {
        event,
        endpoint,
        attempt: u16::try_from(attempt.attempt).unwrap_or(u16::MAX),
        status: attempt
            .response
            .as_ref()
            .map_or(0, |response| response.status),
        delivered: attempt.outcome == "delivered",
        started_ms: attempt.started_ms(),
        ended_ms: attempt.ended_ms(),
        next_ms: attempt.next_ms(),
        pid: attempt.pid(),
        slice: attempt.slice,
        epoch: attempt.epoch,
    }))
}

/// Requests that arrived and are on no attempt record.
pub fn unrecorded(arrivals: &[Arrival], attempts: &[Attempted]) -> usize {
    let mut recorded: BTreeMap<(u64, u16), usize> = BTreeMap::new();
    for attempt in attempts {
        let request = (attempt.event as u64, attempt.attempt);
        *recorded.entry(request).or_default() += 1;
    }
    let mut missing = 0;
    for arrival in arrivals {
        match recorded.get_mut(&(arrival.event, arrival.attempt)) {
            Some(left) if *left > 0 => *left -= 1,
            _ => missing += 1,
        }
    }
    missing
}

/// The arrivals that overtook too many: when each came, more than `allowed` of those ahead of it
/// in `order` had not come yet. Looks at first arrivals only.
pub fn overtaking(order: &[usize], arrived: &[usize], allowed: usize) -> usize {
    let rank: BTreeMap<usize, usize> = order.iter().copied().zip(0..).collect();
    let mut come: BTreeSet<usize> = BTreeSet::new();
    // all below it have come; `come` holds those above
    let mut complete = 0;
    let mut overtook = 0;
    for event in arrived {
        let Some(rank) = rank.get(event).copied() else {
            continue;
        };
        if rank < complete || !come.insert(rank) {
            continue;
        }
        let ahead = rank - complete - come.range(..rank).count();
        overtook += usize::from(ahead > allowed);
        while come.remove(&complete) {
            complete += 1;
        }
    }
    overtook
}

#[cfg(test)]
mod examples {
    use super::Attempted;
    use crate::load::Event;
    use crate::sink::log::Arrival;

    pub(super) fn event(endpoint: u32) -> Event {
        Event {
            intended_us: 1_000,
            sent_us: 1_010,
            endpoint,
        }
    }

    pub(super) fn arrival(
        event: u64,
        receiver: u32,
        attempt: u16,
        status: u16,
        at_us: u64,
    ) -> Arrival {
        Arrival {
            at_us,
            event,
            receiver,
            attempt,
            status,
            ..Arrival::default()
        }
    }

    /// Delivered by process 1 as the first owner of slice 0, within a millisecond.
    pub(super) fn attempted(event: usize, attempt: u16, started_ms: u64) -> Attempted {
        Attempted {
            event,
            endpoint: 8,
            attempt,
            status: 200,
            delivered: true,
            started_ms,
            ended_ms: started_ms + 1,
            next_ms: None,
            pid: 1,
            slice: 0,
            epoch: 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::examples::{arrival, attempted, event};
    use super::{Attempted, Counts, Joined, each_once, overtaking, unrecorded};

    #[test]
    fn a_record_that_is_there_twice_is_one_attempt() {
        let again = attempted(0, 1, 2_000);
        let other = Attempted {
            endpoint: again.endpoint + 1,
            ..again
        };
        let attempts = vec![again, other, attempted(1, 1, 1_500), again];
        assert_eq!(each_once(attempts), [again, other, attempted(1, 1, 1_500)]);
    }

    #[test]
    fn lost_repeated_and_stray_are_told_apart() {
        let events = [event(7), event(8), event(7)];
        let arrivals = [
            arrival(0, 7, 1, 500, 3_000),
            arrival(0, 7, 2, 200, 9_000),
            arrival(1, 8, 1, 200, 2_500),
            arrival(1, 8, 1, 200, 2_600),
            arrival(2, 8, 1, 200, 2_700),
            arrival(9, 8, 1, 200, 2_700),
        ];
        let joined = Joined::new(&events, &arrivals);
        assert_eq!(joined.strays, 2);
        assert_eq!(joined.latencies(&[0, 1, 2]), [2_000, 1_500]);
        assert_eq!(joined.fates[0].delivered_us, Some(9_000));
        let counts = Counts {
            events: 3,
            lost: 1,
            repeats: 1,
            requests: 4,
        };
        assert_eq!(joined.counts(&[0, 1, 2]), counts);
        assert_eq!(joined.of(&[0..1, 2..3], |endpoint| endpoint == 7), [0, 2]);
    }

    #[test]
    fn each_request_needs_a_record_of_its_own() {
        let recorded = attempted(1, 1, 0);
        let arrivals = [arrival(1, 8, 1, 200, 1), arrival(1, 8, 1, 200, 2)];
        assert_eq!(unrecorded(&arrivals, &[recorded]), 1);
        assert_eq!(unrecorded(&arrivals, &[recorded, recorded]), 0);
    }

    #[test]
    fn those_in_flight_together_may_overtake_and_no_others() {
        let order = [10, 11, 12, 13, 14];
        assert_eq!(overtaking(&order, &[10, 11, 12, 13, 14], 0), 0);
        assert_eq!(overtaking(&order, &[11, 10, 12, 14, 13], 1), 0);
        assert_eq!(overtaking(&order, &[11, 10, 12, 14, 13], 0), 2);
        // 10 never comes: everything overtakes it alone
        assert_eq!(overtaking(&order, &[11, 12, 13, 14], 1), 0);
        assert_eq!(overtaking(&order, &[13, 10, 11, 12, 14], 2), 1);
        assert_eq!(overtaking(&order, &[10, 10, 99, 11], 0), 0);
    }
}
