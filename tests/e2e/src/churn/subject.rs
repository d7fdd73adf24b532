//! The endpoint an experiment is about: what it is promised, and the events it gets.
//!
//! Decides the load that puts the promise to the test. Leaves whether it held to `audit`.

use serde::{Deserialize, Serialize};

/// What is special about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// At most so many attempts in any second.
    Limited(u32),
    /// Events of so many ordering keys, each key in order.
    Ordered(usize),
}

/// Keys that get events by turns, and how many each gets until it is the turn of others: with 100
/// events a second a key's next event comes a second later, while a failed one still waits.
const KEYS_AT_ONCE: usize = 100;
const EVENTS_OF_A_TURN: usize = 5;

impl Subject {
    /// What its path begins with, which decides how the receiver answers.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Limited(_) => "/fast",
            Self::Ordered(_) => "/failing",
        }
    }

    /// What its endpoint's record says. Of the waits of an ordered one the first passes in memory
    /// and the second in the log.
    pub(super) fn yaml(self) -> String {
        match self {
            Self::Limited(attempts) => {
                format!("rate_limit: {{ attempts: {attempts}, per: 1s }}\n")
            }
            Self::Ordered(_) => {
                "ordering: key\nretry: { schedule: [2s, 35s, 5s, 5s], window: 1h }\n".to_owned()
            }
        }
    }

    /// Slightly more than a limit lets through.
    pub(super) fn events_per_second(self) -> u32 {
        match self {
            Self::Limited(attempts) => attempts + attempts.div_ceil(25),
            Self::Ordered(_) => 100,
        }
    }

    /// Events at the very beginning: a limit never waits for them.
    pub(super) fn ahead(self) -> usize {
        match self {
            Self::Limited(attempts) => attempts as usize * 10,
            Self::Ordered(_) => 0,
        }
    }

    /// How many it gets at least.
    pub(super) fn events_min(self) -> usize {
        match self {
            Self::Limited(_) => self.ahead(),
            Self::Ordered(keys) => keys * EVENTS_OF_A_TURN,
        }
    }

    /// The ordering key of its event at a place.
    pub(super) fn key(self, place: usize) -> Option<usize> {
        match self {
            Self::Limited(_) => None,
            Self::Ordered(keys) => {
                let turn = place / (KEYS_AT_ONCE * EVENTS_OF_A_TURN);
                Some((turn * KEYS_AT_ONCE + place % KEYS_AT_ONCE) % keys)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::Subject;

    #[test]
    fn every_key_gets_several_events_soon_one_after_the_other() {
        let subject = Subject::Ordered(2_000);
        let mut places: BTreeMap<Option<usize>, Vec<usize>> = BTreeMap::new();
        for place in 0..subject.events_min() {
            places.entry(subject.key(place)).or_default().push(place);
        }
        assert_eq!(places.len(), 2_000);
        let evenly = |places: &Vec<usize>| {
            places.len() == 5 && places.windows(2).all(|pair| pair[1] - pair[0] == 100)
        };
        assert!(places.values().all(evenly));
    }
}
