//! Whether deliveries with one ordering key came one after the other.
//!
//! Decides what out of turn means: an event's first request arrived before the event ahead of it,
//! with the same endpoint and key, was answered well. Repeats of events that were answered are no
//! concern of it.

use std::collections::HashMap;

use crate::load::Event;
use crate::sink::log::Arrival;

/// Events that went out of turn, by the key each number has, of those whose number is `ordered`: others
/// wait for nobody, and nobody for them.
pub fn out_of_turn(
    events: &[Event],
    arrivals: &[Arrival],
    key: impl Fn(usize) -> Option<u32>,
    ordered: impl Fn(usize) -> bool,
) -> Vec<usize> {
    let mut last: HashMap<(u32, Option<u32>), usize> = HashMap::new();
    let ahead: Vec<Option<usize>> = events
        .iter()
        .enumerate()
        .map(|(number, event)| {
            ordered(number)
                .then(|| last.insert((event.endpoint, key(number)), number))
                .flatten()
        })
        .collect();
    let mut seen = vec![false; events.len()];
    let mut answered = vec![false; events.len()];
    let mut found = Vec::new();
    for arrival in arrivals {
        let number = usize::try_from(arrival.event).unwrap_or(usize::MAX);
        let Some(first) = seen
            .get_mut(number)
            .map(|seen| !std::mem::replace(seen, true))
        else {
            continue;
        };
        if first && ahead[number].is_some_and(|ahead| !answered[ahead]) {
            found.push(number);
        }
        answered[number] |= arrival.is_success();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::out_of_turn;
    use crate::audit::examples::{arrival, event};

    #[test]
    fn the_next_of_a_key_waits_for_an_answer_and_others_do_not() {
        // 0 and 2 have one key, 1 and 3 the other; 4 is another's
        let key = |number: usize| u32::try_from(number % 2).ok();
        let events = [event(7), event(7), event(7), event(7), event(8)];
        let well = [
            arrival(1, 7, 1, 200, 1),
            arrival(0, 7, 1, 500, 2),
            arrival(4, 8, 1, 200, 3),
            arrival(0, 7, 2, 200, 4),
            arrival(2, 7, 1, 200, 5),
            arrival(0, 7, 2, 200, 6),
            arrival(3, 7, 1, 200, 7),
        ];
        assert!(out_of_turn(&events, &well, key, |_| true).is_empty());
        let wrong = [
            arrival(0, 7, 1, 500, 2),
            arrival(2, 7, 1, 200, 5),
            arrival(3, 7, 1, 200, 5),
            arrival(1, 7, 1, 200, 7),
        ];
        assert_eq!(out_of_turn(&events, &wrong, key, |_| true), [2, 3]);
        assert!(out_of_turn(&events, &wrong, key, |_| false).is_empty());
    }
}
