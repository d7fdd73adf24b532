//! Workers that the group gave up, by their own word.
//!
//! Decides what such a worker may leave without a record: what was in flight when it heard that its
//! slices are others' (`docs/delivery.md`, what a crash hides). A machine that is busy enough brings
//! that about after a heal, when no fault of ours excuses it any more.

use std::fs;
use std::path::Path;
use std::time::Duration;

use postrider_bench::audit::repeats::{Loss, Rerouted};

/// What a worker says then.
const WORD: &str = "the group gave our slices to others";
/// The deadline of an attempt ([`postrider_e2e::installation::DISPATCHER`]).
const DEADLINE: Duration = Duration::from_secs(2);
/// What was sent before may arrive so much later where receivers are busy.
const UNDER_WAY: Duration = Duration::from_secs(1);

/// What a router says then.
const TAKEN_AWAY: &str = "the group took intake partitions away unasked";
/// What it says of each commit until then.
const REFUSED: &str = "a commit was refused";
/// Between two of those, at most: a commit that is not answered is given up after 3 s.
const APART: Duration = Duration::from_secs(10);
/// What the first of them was about had been read for so long.
const UNCOMMITTED: Duration = Duration::from_secs(5);

/// What may be routed again, from the log of a router.
///
/// # Errors
/// The log is gone.
pub fn rerouted(log: &Path) -> anyhow::Result<Vec<Rerouted>> {
    Ok(routed_again(&fs::read_to_string(log)?))
}

fn routed_again(log: &str) -> Vec<Rerouted> {
    let mut found = Vec::new();
    // the first and the last of those refused in a row
    let mut refused: Option<(u64, u64)> = None;
    for line in log.lines() {
        let Some(at) = said_at_us(line) else {
            continue;
        };
        if line.contains(REFUSED) {
            refused = match refused {
                Some((first, last)) if at - last <= us(APART) => Some((first, at)),
                _ => Some((at, at)),
            };
        } else if line.contains(TAKEN_AWAY) {
            let row = refused.filter(|(_, last)| at - last <= us(APART));
            let first = row.map_or(at, |(first, _)| first);
            found.push(Rerouted {
                since_us: first.saturating_sub(us(UNCOMMITTED)),
                again_us: at,
            });
        }
    }
    found
}

/// What may be lost by that, from the log of a worker.
///
/// # Errors
/// The log is gone.
pub fn losses(log: &Path, pid: u32) -> anyhow::Result<Vec<Loss>> {
    let log = fs::read_to_string(log)?;
    Ok(log.lines().filter_map(|line| loss(line, pid)).collect())
}

fn loss(line: &str, pid: u32) -> Option<Loss> {
    let at = said_at_us(line).filter(|_| line.contains(WORD))?;
    Some(Loss {
        pid: Some(pid),
        since_us: at.saturating_sub(us(DEADLINE)),
        until_us: at + us(UNDER_WAY),
    })
}

/// When a line was written, microseconds since the epoch.
fn said_at_us(line: &str) -> Option<u64> {
    let at = humantime::parse_rfc3339(line.split(' ').next()?).ok()?;
    Some(us(at.duration_since(std::time::UNIX_EPOCH).ok()?))
}

fn us(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Rerouted, loss, routed_again};

    #[test]
    fn a_router_routes_again_what_it_read_since_its_commits_were_refused() {
        let refused =
            |at: &str| format!("1970-01-01T00:{at}.000000Z  WARN r: a commit was refused\n");
        let lost =
            "1970-01-01T00:02:00.000000Z  WARN r: the group took intake partitions away unasked";
        let rows = |ats: &[&str]| {
            let log: String = ats.iter().map(|at| refused(at)).collect();
            routed_again(&(log + lost))
        };
        let since = |since_us| {
            let again_us = 120_000_000;
            vec![Rerouted { since_us, again_us }]
        };
        assert_eq!(
            rows(&["00:10", "01:40", "01:49", "01:58"]),
            since(95_000_000)
        );
        assert_eq!(rows(&["00:10"]), since(115_000_000));
        assert_eq!(rows(&[]), since(115_000_000));
        assert_eq!(routed_again(&refused("01:40")), []);
    }

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
