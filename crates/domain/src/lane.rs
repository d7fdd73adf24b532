//! The ordered logs a slice reads, and the ladder of retry delays.
//!
//! Decides the rungs, their order, and which rung a remaining wait goes to (ADR 0006). Leaves
//! reading, waiting and re-reading to `engine`, the topics' prefix to `wire`.

use std::fmt;
use std::time::Duration;

/// One step of the retry ladder: a topic whose records all wait the same delay.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rung(u8);

const RUNGS: [(&str, Duration); 6] = [
    ("retry.30s", Duration::from_secs(30)),
    ("retry.2m", Duration::from_secs(2 * 60)),
    ("retry.10m", Duration::from_secs(10 * 60)),
    ("retry.1h", Duration::from_secs(3_600)),
    ("retry.4h", Duration::from_secs(4 * 3_600)),
    ("retry.12h", Duration::from_secs(12 * 3_600)),
];

impl Rung {
    /// The shortest rung, 30 s: waits below it stay in memory.
    pub const SHORTEST: Self = Self(0);

    /// The longest rung.
    pub const LONGEST: Self = Self(RUNGS.len() as u8 - 1);

    /// Every rung, shortest first.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..RUNGS.len() as u8).map(Self)
    }

    /// The largest rung whose delay is at most `remaining`, so that a record is never early;
    /// `None` when it waits in memory instead.
    #[must_use]
    pub fn for_wait(remaining: Duration) -> Option<Self> {
        Self::all().filter(|rung| rung.delay() <= remaining).last()
    }

    /// How long a record stays on this rung, counted from the broker's append time.
    #[must_use]
    pub const fn delay(self) -> Duration {
        RUNGS[self.0 as usize].1
    }

    /// Its delay as text: `30s`, `2m`, …
    #[must_use]
    pub fn name(self) -> &'static str {
        self.topic().trim_start_matches("retry.")
    }

    /// The name of its topic without the prefix: `retry.30s`, `retry.2m`, …
    #[must_use]
    pub const fn topic(self) -> &'static str {
        RUNGS[self.0 as usize].0
    }
}

impl fmt::Debug for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One log of a slice that the dispatcher reads: a topic at the partition of the slice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// First attempts, written by the router.
    Deliveries,
    /// Deliveries of endpoints that do not take them now, each endpoint's at its own cursor.
    Backlog,
    /// Deliveries that are sent again on request, when there is nothing else to do.
    Redeliveries,
    /// Failed deliveries that wait.
    Retry(Rung),
}

impl Lane {
    /// How many lanes a slice has.
    pub const COUNT: usize = 3 + RUNGS.len();

    /// Every lane, `Deliveries` first.
    pub fn all() -> impl Iterator<Item = Self> {
        let single = [Self::Deliveries, Self::Backlog, Self::Redeliveries];
        single.into_iter().chain(Rung::all().map(Self::Retry))
    }

    /// A dense index below [`Lane::COUNT`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Deliveries => 0,
            Self::Backlog => 1,
            Self::Redeliveries => 2,
            Self::Retry(rung) => 3 + rung.0 as usize,
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deliveries => f.write_str("deliveries"),
            Self::Backlog => f.write_str("backlog"),
            Self::Redeliveries => f.write_str("redeliveries"),
            Self::Retry(rung) => f.write_str(rung.topic()),
        }
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_goes_to_the_largest_rung_not_above_it() {
        let rung = |secs| Rung::for_wait(Duration::from_secs(secs)).map(Rung::name);
        assert_eq!(rung(29), None);
        assert_eq!(rung(30), Some("30s"));
        assert_eq!(rung(119), Some("30s"));
        assert_eq!(rung(120), Some("2m"));
        assert_eq!(rung(3_599), Some("10m"));
        assert_eq!(rung(30 * 86_400), Some("12h"));
    }

    #[test]
    fn lanes_are_dense() {
        let indices: Vec<usize> = Lane::all().map(Lane::index).collect();
        assert_eq!(indices, (0..Lane::COUNT).collect::<Vec<_>>());
        assert_eq!(Lane::Retry(Rung::SHORTEST).to_string(), "retry.30s");
    }
}
