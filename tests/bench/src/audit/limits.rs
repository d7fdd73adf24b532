//! How many attempts of an endpoint started in any interval of a length.
//!
//! Decides what counts: starts by the attempt records, and the requests that no record tells of by
//! their arrival. Records have milliseconds, rounded down, so intervals are one shorter.

use std::collections::HashMap;
use std::time::Duration;

use crate::audit::Attempted;
use crate::load::Event;
use crate::sink::log::Arrival;

/// The most of an endpoint in any interval: endpoint, how many, when that interval begins
/// (milliseconds since the epoch). `limited` says how long intervals are of those that count;
/// `unrecorded` are the arrivals without a record.
pub fn fullest(
    events: &[Event],
    attempts: &[Attempted],
    unrecorded: &[Arrival],
    limited: impl Fn(u32) -> Option<Duration>,
) -> Vec<(u32, usize, u64)> {
    let recorded = attempts
        .iter()
        .map(|attempt| (attempt.event, attempt.started_ms));
    let others = unrecorded.iter().map(|arrival| {
        let event = usize::try_from(arrival.event).unwrap_or(usize::MAX);
        (event, arrival.at_us / 1_000)
    });
    let mut starts: HashMap<u32, Vec<u64>> = HashMap::new();
    for (event, at_ms) in recorded.chain(others) {
        if let Some(event) = events.get(event) {
            starts.entry(event.endpoint).or_default().push(at_ms);
        }
    }
    let mut found: Vec<(u32, usize, u64)> = starts
        .into_iter()
        .filter_map(|(endpoint, mut starts)| {
            let length_ms = u64::try_from(limited(endpoint)?.as_millis()).ok()?;
            starts.sort_unstable();
            let (most, at_ms) = most_within(&starts, length_ms.saturating_sub(1));
            Some((endpoint, most, at_ms))
        })
        .collect();
    found.sort_unstable();
    found
}

/// The most of the sorted times in a half-open interval, and where that begins.
fn most_within(times: &[u64], length: u64) -> (usize, u64) {
    let counts = times.iter().enumerate().map(|(first, at)| {
        let rest = &times[first..];
        (rest.partition_point(|time| *time < at + length), *at)
    });
    counts.max_by_key(|(count, _)| *count).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::fullest;
    use crate::audit::examples::{arrival, attempted, event};

    #[test]
    fn the_fullest_interval_is_found_wherever_it_begins() {
        let events = [event(3), event(3), event(3), event(4)];
        let attempts = [
            attempted(0, 1, 1_000),
            attempted(1, 1, 1_900),
            attempted(3, 1, 1_900),
        ];
        let unrecorded = [arrival(2, 3, 1, 200, 2_898_000)];
        let limited = |endpoint| (endpoint == 3).then_some(Duration::from_secs(1));
        assert_eq!(
            fullest(&events, &attempts, &unrecorded, limited),
            [(3, 2, 1_900)]
        );
    }
}
