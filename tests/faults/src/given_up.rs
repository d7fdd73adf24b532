//! Workers that the group gave up, by their own word.
//!
//! Decides what such a worker may leave without a record: what was in flight when it heard that its
//! slices are others' (`docs/delivery.md`, what a crash hides). A machine that is busy enough brings
//! that about after a heal, when no fault of ours excuses it any more.

use std::fs;
use std::path::Path;
use std::time::Duration;

use postrider_bench::audit::repeats::Loss;

/// What a worker says then.
const WORD: &str = "the group gave our slices to others";
/// The deadline of an attempt ([`postrider_e2e::installation::DISPATCHER`]).
const DEADLINE: Duration = Duration::from_secs(2);
/// What was sent before may arrive so much later where receivers are busy.
const UNDER_WAY: Duration = Duration::from_secs(1);

/// What may be lost by that, from the log of a worker.
///
/// # Errors
/// The log is gone.
pub fn losses(log: &Path, pid: u32) -> anyhow::Result<Vec<Loss>> {
    let log = fs::read_to_string(log)?;
    Ok(log.lines().filter_map(|line| loss(line, pid)).collect())
}

fn loss(line: &str, pid: u32) -> Option<Loss> {
    let at = line.split(' ').next().filter(|_| line.contains(WORD))?;
    let at = humantime::parse_rfc3339(at).ok()?;
    let at = at.duration_since(std::time::UNIX_EPOCH).ok()?;
    let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    Some(Loss {
        pid: Some(pid),
        since_us: us(at.saturating_sub(DEADLINE)),
        until_us: us(at + UNDER_WAY),
    })
}

#[cfg(test)]
mod tests {
    use super::loss;

    #[test]
    fn what_was_in_flight_when_it_heard_of_it_is_lost() {
        let said = "1970-01-01T00:00:07.250000Z  WARN postrider_kafka::membership: the group gave \
                    our slices to others: this member was not heard of";
        let loss = loss(said, 9).expect("it says so");
        assert_eq!(loss.pid, Some(9));
        assert_eq!((loss.since_us, loss.until_us), (5_250_000, 8_250_000));
        let other = said.replace("gave our slices to others", "is whole");
        assert_eq!(super::loss(&other, 9), None);
    }
}
