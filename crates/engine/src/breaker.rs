//! The breaker of one endpoint, in the electrical sense: it keeps requests from a receiver that
//! fails.
//!
//! ```text
//!           8 failures in a row, or half                   time passed
//!           of 20 and more in 10 s                       ┌────────────► half open ─┐ one probe
//! closed ──────────────────────────────────────► open ───┘                 │       │ at a time
//!    ▲                                            ▲ ▲      failed: longer  │       │
//!    │                                            │ └──────────────────────┘       │ succeeded
//!    │ complete          failed: one step shorter │                                ▼
//!    └────────────────────────────────────────────┴───────────────────────────── ramp
//! ```
//!
//! Decides when requests may start again, and how many. It changes with the result that is the
//! evidence, not later. A success never opens it. Leaves asks of the receiver to `gate`:
//! they are no results.
//!
//! Old attempts: what started at or before the last opening was sent to a receiver that was
//! failing, and says nothing about now. Whenever its result comes, and whatever it is, the breaker
//! ignores it: it does not close it, does not open it, does not lengthen the wait, is no step of
//! the ramp and not part of the window. Old attempts that are still in flight do not take the
//! place of a probe either: a receiver that hangs would otherwise hold up its own recovery for as
//! long as a deadline.

use std::time::Duration;

use postrider_domain::Timestamp;

use crate::concurrency::Ramp;

/// Failures in a row that open it.
pub(crate) const CONSECUTIVE_MAX: u8 = 8;

/// Fewest results in the window that tell something.
pub(crate) const WINDOW_RESULTS_MIN: u32 = 20;

/// Length of the window in seconds, the one under way included: its grain is a second.
const WINDOW_SECS: usize = 10;

/// Time open before the first probe; it doubles with each failed one.
const OPEN_FIRST: Duration = Duration::from_secs(1);

/// Longest time open, before jitter.
const OPEN_MAX: Duration = Duration::from_secs(60);

/// Jitter of the time open, to both sides.
const JITTER: f64 = 0.2;

/// Failed probes after which the time open grows no more.
const STEP_MAX: u8 = 6;

/// What a breaker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BreakerState {
    /// It lets everything through.
    Closed,
    /// It lets nothing through.
    Open,
    /// It lets one probe through at a time.
    HalfOpen,
    /// It lets more through with each round of successes.
    Ramp,
}

impl BreakerState {
    /// The name in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::Ramp => "ramp",
        }
    }
}

/// One endpoint's breaker. Each start is followed by exactly one end: [`Self::succeeded`],
/// [`Self::failed`], or [`Self::ended`] for what tells nothing.
#[derive(Clone, Debug)]
pub(crate) struct Breaker {
    phase: Phase,
    /// The time open is `OPEN_FIRST * 2^step`; 0 while closed.
    step: u8,
    opened_at: Option<Timestamp>,
    in_flight: u16,
    /// Those of them that started at or before `opened_at`.
    old_in_flight: u16,
}

#[derive(Clone, Debug)]
enum Phase {
    Closed {
        consecutive: u8,
        window: Window,
    },
    /// Half open from that time on.
    Open(Timestamp),
    Ramp(Ramp),
}

impl Phase {
    fn closed() -> Self {
        Self::Closed {
            consecutive: 0,
            window: Window::default(),
        }
    }
}

impl Breaker {
    /// Closed, without a past.
    pub(crate) fn new() -> Self {
        Self {
            phase: Phase::closed(),
            step: 0,
            opened_at: None,
            in_flight: 0,
            old_in_flight: 0,
        }
    }

    /// Until when nothing may start; `None` = something may.
    pub(crate) fn refuses_until(&self, now: Timestamp) -> Option<Timestamp> {
        match self.phase {
            Phase::Open(until) if now < until => Some(until),
            _ => None,
        }
    }

    /// Most requests in flight beside [`Self::old_in_flight`], while it refuses nothing.
    pub(crate) const fn width(&self) -> u16 {
        match &self.phase {
            Phase::Closed { .. } => u16::MAX,
            Phase::Open(_) => 1,
            Phase::Ramp(ramp) => ramp.width(),
        }
    }

    /// Requests in flight that started before it opened last.
    pub(crate) const fn old_in_flight(&self) -> u16 {
        self.old_in_flight
    }

    /// Whether nothing is in flight.
    pub(crate) const fn is_idle(&self) -> bool {
        self.in_flight == 0
    }

    /// What it does now.
    pub(crate) fn state(&self, now: Timestamp) -> BreakerState {
        match &self.phase {
            Phase::Closed { .. } => BreakerState::Closed,
            Phase::Open(until) if now < *until => BreakerState::Open,
            Phase::Open(_) => BreakerState::HalfOpen,
            Phase::Ramp(_) => BreakerState::Ramp,
        }
    }

    /// An attempt started.
    pub(crate) const fn started(&mut self) {
        self.in_flight += 1;
    }

    /// An attempt ended without telling anything, or did not start after all. Whether its result
    /// would count: it did not start before the breaker opened.
    pub(crate) fn ended(&mut self, started_at: Timestamp) -> bool {
        debug_assert!(self.in_flight > 0, "an attempt ended twice");
        self.in_flight = self.in_flight.saturating_sub(1);
        let counts = self.opened_at.is_none_or(|opened| started_at > opened);
        if !counts {
            self.old_in_flight = self.old_in_flight.saturating_sub(1);
        }
        counts
    }

    /// An attempt succeeded; `cap` is the configured bound.
    pub(crate) fn succeeded(&mut self, now: Timestamp, started_at: Timestamp, cap: u16) {
        if !self.ended(started_at) {
            return;
        }
        match &mut self.phase {
            Phase::Closed {
                consecutive,
                window,
            } => {
                *consecutive = 0;
                window.add(now, Bucket { all: 1, failed: 0 });
            }
            Phase::Open(_) => self.phase = Phase::Ramp(Ramp::new()),
            Phase::Ramp(ramp) => {
                if ramp.succeeded(cap) {
                    self.phase = Phase::closed();
                    self.step = 0;
                }
            }
        }
    }

    /// An attempt failed; `draw` in 0..1 places the time open within its jitter.
    pub(crate) fn failed(&mut self, now: Timestamp, started_at: Timestamp, draw: f64) {
        if !self.ended(started_at) {
            return;
        }
        match &mut self.phase {
            Phase::Closed {
                consecutive,
                window,
            } => {
                *consecutive += 1;
                window.add(now, Bucket { all: 1, failed: 1 });
                if *consecutive < CONSECUTIVE_MAX && !window.is_bad() {
                    return;
                }
            }
            Phase::Open(_) => self.step = (self.step + 1).min(STEP_MAX),
            // It had been getting better: not as long as after a failed probe, and not as if
            // nothing had been.
            Phase::Ramp(_) => self.step = self.step.saturating_sub(1),
        }
        let open = (OPEN_FIRST * (1 << self.step)).min(OPEN_MAX);
        let open = open.mul_f64(1.0 + JITTER * (2.0 * draw - 1.0));
        self.phase = Phase::Open(now + open);
        self.opened_at = Some(now);
        self.old_in_flight = self.in_flight;
    }
}

/// Results of the last seconds, in one bucket per second.
#[derive(Clone, Debug, Default)]
struct Window {
    /// The second of the latest result.
    latest: u64,
    buckets: [Bucket; WINDOW_SECS],
}

/// Counts that saturate: far above what one endpoint gets in a second.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    all: u16,
    failed: u16,
}

impl Window {
    fn add(&mut self, now: Timestamp, result: Bucket) {
        let second = now.as_secs();
        let passed = second.saturating_sub(self.latest).min(WINDOW_SECS as u64);
        for back in 0..passed {
            *self.bucket(second - back) = Bucket::default();
        }
        self.latest = second;
        let bucket = self.bucket(second);
        bucket.all = bucket.all.saturating_add(result.all);
        bucket.failed = bucket.failed.saturating_add(result.failed);
    }

    /// As of the latest result.
    fn is_bad(&self) -> bool {
        let all: u32 = self.buckets.iter().map(|b| u32::from(b.all)).sum();
        let failed: u32 = self.buckets.iter().map(|b| u32::from(b.failed)).sum();
        all >= WINDOW_RESULTS_MIN && 2 * failed >= all
    }

    const fn bucket(&mut self, second: u64) -> &mut Bucket {
        &mut self.buckets[(second % WINDOW_SECS as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const CAP: u16 = 4;
    /// No jitter.
    const MIDDLE: f64 = 0.5;

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    fn succeed(breaker: &mut Breaker, now: Timestamp) {
        breaker.started();
        breaker.succeeded(now, now, CAP);
    }

    fn fail(breaker: &mut Breaker, now: Timestamp) {
        breaker.started();
        breaker.failed(now, now, MIDDLE);
    }

    /// Opened at that time by failures in a row.
    fn opened(now: u64) -> Breaker {
        let mut breaker = Breaker::new();
        for _ in 0..CONSECUTIVE_MAX {
            fail(&mut breaker, at(now));
        }
        assert_eq!(breaker.state(at(now)), BreakerState::Open);
        breaker
    }

    /// The probe that is due fails; how long it is open then.
    fn fail_probe(breaker: &mut Breaker, now: &mut Timestamp) -> u64 {
        fail(breaker, *now);
        let until = breaker.refuses_until(*now).expect("it is open");
        let open = until.since(*now).as_secs();
        *now = until;
        open
    }

    #[test]
    fn eight_failures_in_a_row_open_it_at_once() {
        let mut breaker = Breaker::new();
        for _ in 0..7 {
            fail(&mut breaker, at(5));
        }
        assert_eq!(breaker.refuses_until(at(5)), None);
        fail(&mut breaker, at(5));
        assert_eq!(breaker.refuses_until(at(5)), Some(at(6)));
        assert_eq!(breaker.state(at(5)), BreakerState::Open);
        assert_eq!(breaker.state(at(6)), BreakerState::HalfOpen);
    }

    #[test]
    fn failures_in_a_row_count_however_far_apart() {
        let mut breaker = Breaker::new();
        for hour in 1..=8 {
            assert_eq!(breaker.state(at(3_600 * hour)), BreakerState::Closed);
            fail(&mut breaker, at(3_600 * hour));
        }
        assert_eq!(breaker.state(at(3_600 * 8)), BreakerState::Open);
    }

    #[test]
    fn half_of_twenty_results_within_ten_seconds_open_it() {
        let mut breaker = Breaker::new();
        for second in 0..10 {
            assert_eq!(breaker.state(at(second)), BreakerState::Closed);
            succeed(&mut breaker, at(second));
            fail(&mut breaker, at(second));
        }
        assert_eq!(breaker.state(at(9)), BreakerState::Open);
    }

    #[test]
    fn fewer_than_half_or_fewer_than_twenty_leave_it_closed() {
        let mut breaker = Breaker::new();
        for second in 0..100 {
            for _ in 0..3 {
                succeed(&mut breaker, at(second));
            }
            fail(&mut breaker, at(second));
            fail(&mut breaker, at(second));
        }
        assert_eq!(breaker.state(at(100)), BreakerState::Closed, "2 of 5");
        let mut breaker = Breaker::new();
        for second in 0..100 {
            succeed(&mut breaker, at(2 * second));
            fail(&mut breaker, at(2 * second));
        }
        assert_eq!(breaker.state(at(200)), BreakerState::Closed, "10 in 10 s");
    }

    #[test]
    fn a_success_does_not_open_it() {
        let mut breaker = Breaker::new();
        for second in 0..9 {
            succeed(&mut breaker, at(second));
            fail(&mut breaker, at(second));
        }
        fail(&mut breaker, at(9));
        succeed(&mut breaker, at(9));
        assert_eq!(breaker.state(at(9)), BreakerState::Closed, "10 of 20");
        fail(&mut breaker, at(9));
        assert_eq!(breaker.state(at(9)), BreakerState::Open, "11 of 21");
    }

    #[test]
    fn each_failed_probe_doubles_the_time_open() {
        let mut breaker = opened(5);
        let mut now = at(6);
        let waits: Vec<u64> = (0..8).map(|_| fail_probe(&mut breaker, &mut now)).collect();
        assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn after_a_probe_it_ramps_and_closes() {
        let mut breaker = opened(5);
        assert_eq!(breaker.width(), 1);
        succeed(&mut breaker, at(6));
        assert_eq!(
            (breaker.state(at(6)), breaker.width()),
            (BreakerState::Ramp, 1)
        );
        succeed(&mut breaker, at(7));
        assert_eq!(
            (breaker.state(at(7)), breaker.width()),
            (BreakerState::Ramp, 2)
        );
        succeed(&mut breaker, at(8));
        succeed(&mut breaker, at(8));
        assert_eq!(breaker.state(at(8)), BreakerState::Closed);
        for _ in 0..7 {
            fail(&mut breaker, at(8));
        }
        assert_eq!(
            breaker.state(at(8)),
            BreakerState::Closed,
            "all is forgotten"
        );
    }

    #[test]
    fn a_failure_in_the_ramp_opens_it_one_step_shorter() {
        let mut breaker = opened(5);
        let mut now = at(6);
        for _ in 0..3 {
            fail_probe(&mut breaker, &mut now);
        }
        succeed(&mut breaker, now);
        succeed(&mut breaker, now);
        assert_eq!(fail_probe(&mut breaker, &mut now), 4, "it was 8");
        assert_eq!(
            fail_probe(&mut breaker, &mut now),
            8,
            "a failed probe again"
        );
    }

    #[test]
    fn a_complete_ramp_resets_the_time_open() {
        let mut breaker = opened(5);
        let mut now = at(6);
        for _ in 0..5 {
            fail_probe(&mut breaker, &mut now);
        }
        for _ in 0..4 {
            succeed(&mut breaker, now);
        }
        assert_eq!(breaker.state(now), BreakerState::Closed);
        for _ in 0..7 {
            fail(&mut breaker, now);
        }
        assert_eq!(fail_probe(&mut breaker, &mut now), 1);
    }

    #[test]
    fn old_attempts_neither_close_it_nor_lengthen_the_wait() {
        let mut breaker = Breaker::new();
        for _ in 0..6 {
            breaker.started();
        }
        for _ in 0..8 {
            fail(&mut breaker, at(5));
        }
        assert_eq!(breaker.old_in_flight(), 6);
        let until = breaker.refuses_until(at(5));
        breaker.succeeded(at(5), at(4), CAP);
        breaker.failed(at(5), at(5), MIDDLE);
        assert_eq!(breaker.refuses_until(at(5)), until, "while open");
        breaker.succeeded(at(7), at(4), CAP);
        breaker.failed(at(7), at(4), MIDDLE);
        assert_eq!(breaker.state(at(7)), BreakerState::HalfOpen);
        succeed(&mut breaker, at(7));
        breaker.succeeded(at(8), at(4), CAP);
        assert_eq!(breaker.width(), 1, "no step of the ramp");
        breaker.failed(at(8), at(4), MIDDLE);
        assert_eq!(breaker.state(at(8)), BreakerState::Ramp);
        assert_eq!(breaker.old_in_flight(), 0);
    }

    #[test]
    fn a_probe_without_a_result_leaves_it_half_open() {
        let mut breaker = opened(5);
        breaker.started();
        breaker.ended(at(6));
        assert_eq!(breaker.state(at(6)), BreakerState::HalfOpen);
        assert!(breaker.is_idle());
        let mut now = at(6);
        assert_eq!(fail_probe(&mut breaker, &mut now), 2, "it was not counted");
    }

    proptest! {
        #[test]
        fn the_time_open_stays_within_its_jitter(failed in 0..10_u32, draw in 0.0..1.0_f64) {
            let mut breaker = opened(5);
            let mut now = at(6);
            for _ in 0..failed {
                fail_probe(&mut breaker, &mut now);
            }
            breaker.started();
            breaker.failed(now, now, draw);
            let open = breaker.refuses_until(now).unwrap().since(now).as_secs_f64();
            let middle = f64::from(2_u32.pow(failed + 1).min(60));
            prop_assert!((0.8 * middle..=1.2 * middle).contains(&open), "{open} of {middle}");
        }

        /// The ring against a plain list of all results.
        #[test]
        fn the_window_holds_the_last_ten_seconds(
            results in prop::collection::vec((0..4_u64, 0..9_u64, any::<bool>()), 1..300),
        ) {
            let mut window = Window::default();
            let mut list = VecDeque::new();
            let mut second = 1_000;
            for (small, large, failed) in results {
                second += if large == 0 { 4 * small } else { small / 3 };
                window.add(at(second), Bucket { all: 1, failed: failed.into() });
                list.push_back((second, failed));
                list.retain(|(at, _)| at + 10 > second);
                let bad = list.iter().filter(|(_, failed)| *failed).count();
                prop_assert_eq!(window.is_bad(), list.len() >= 20 && 2 * bad >= list.len());
            }
        }
    }
}
