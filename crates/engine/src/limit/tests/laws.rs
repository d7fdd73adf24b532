//! What holds whatever happens: an auditor that knows nothing of groups or reservations keeps every
//! real start and looks at every interval.

use postrider_domain::{LimiterMemory, RateLimit, Timestamp};
use proptest::prelude::*;

use super::super::window::GROUPS_MAX;
use super::*;

#[derive(Clone, Debug)]
enum Step {
    /// So many attempts, in permille of the limit, one after the other; each wait is waited for.
    Demand {
        permille: u32,
        pace: Duration,
    },
    /// So much of the interval, in permille.
    Wait {
        permille: u32,
    },
    Rest(Duration),
    /// A start of late, counted from the last, did not happen.
    GiveBack {
        back: usize,
    },
    /// A clean hand-over.
    Move {
        gap: Duration,
    },
    /// Only what was written is left.
    Crash {
        gap: Duration,
    },
    /// A record of the endpoint is written for another reason.
    Snapshot,
    Change(RateLimit),
}

/// A start as it really was.
struct Start {
    decided: Timestamp,
    real: Timestamp,
    /// Under which limit it was decided.
    era: usize,
}

struct World {
    rng: fastrand::Rng,
    now: Timestamp,
    limit: RateLimit,
    limiter: Limiter,
    /// The last record written.
    written: Option<LimiterMemory>,
    starts: Vec<Start>,
    /// Those before are of a former owner.
    own: usize,
    /// Since when which limit.
    eras: Vec<(Timestamp, RateLimit)>,
}

impl World {
    fn new(limit: RateLimit, seed: u64) -> Self {
        let now = at(0);
        Self {
            rng: fastrand::Rng::with_seed(seed),
            now,
            limit,
            limiter: Limiter::new(limit),
            written: None,
            starts: Vec::new(),
            own: 0,
            eras: vec![(now, limit)],
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Demand { permille, pace } => {
                let wanted = (u64::from(self.limit.attempts) * u64::from(permille)).div_ceil(1_000);
                for _ in 0..wanted {
                    self.start();
                    self.now = self.now + pace;
                }
            }
            Step::Wait { permille } => self.now = self.now + self.limit.per * permille / 1_000,
            Step::Rest(rest) => self.now = self.now + rest,
            Step::GiveBack { back } => {
                if let Some(index) = self.starts.len().checked_sub(back + 1)
                    && index >= self.own
                {
                    let start = self.starts.remove(index);
                    self.limiter.give_back(start.decided);
                }
            }
            Step::Move { gap } => {
                self.written = self.limiter.memory(self.now);
                self.succeed(gap);
            }
            Step::Crash { gap } if self.limit.per > RESERVED_ABOVE => self.succeed(gap),
            Step::Crash { gap } => self.succeed(RESERVED_ABOVE + START_GRACE + gap),
            Step::Snapshot => self.written = self.limiter.snapshot(self.now),
            Step::Change(limit) => {
                self.limiter.change(limit);
                self.limit = limit;
                self.eras.push((self.now, limit));
            }
        }
        let memory = self.limiter.snapshot(self.now);
        assert_eq!(memory.is_none(), self.limiter.is_idle(self.now));
        assert!(memory.is_none_or(|memory| memory.starts.len() <= GROUPS_MAX));
    }

    fn succeed(&mut self, gap: Duration) {
        self.now = self.now + gap;
        let memory = self.written.clone().unwrap_or_default();
        self.limiter = Limiter::restored(self.limit, &memory, self.now);
        self.own = self.starts.len();
    }

    /// One attempt, however long it takes.
    fn start(&mut self) {
        for _ in 0..1_000 {
            match self.limiter.start(self.now) {
                Ok(()) => {
                    let grace = START_GRACE.as_micros() as u64;
                    let delay = match self.rng.u8(..4) {
                        0 => 0,
                        1 => grace,
                        _ => self.rng.u64(..=grace),
                    };
                    self.starts.push(Start {
                        decided: self.now,
                        real: self.now + Duration::from_micros(delay),
                        era: self.eras.len() - 1,
                    });
                    // in the middle of a reservation
                    match self.rng.u16(..400) {
                        0 => self.take(Step::Crash { gap: SECOND }),
                        1..=20 => self.take(Step::Snapshot),
                        _ => {}
                    }
                    return;
                }
                Err(Refusal::Until(at)) => {
                    assert!(at > self.now);
                    assert_eq!(self.limiter.reserve(self.now), None);
                    self.now = at;
                }
                Err(Refusal::Unreserved | Refusal::Awaited) => self.reserve(),
            }
        }
        panic!("no start after 1 000 waits");
    }

    fn reserve(&mut self) {
        let memory = self.limiter.reserve(self.now);
        assert!(memory.is_some(), "refused for want of it");
        // Nothing may start meanwhile.
        assert_eq!(self.limiter.start(self.now), Err(Refusal::Awaited));
        match self.rng.u8(..10) {
            0 => {}                     // failed
            1 => self.written = memory, // written, and said to have failed
            2 => {
                self.written = memory; // written, and a crash before the answer
                self.take(Step::Crash { gap: SECOND });
            }
            _ => {
                self.written = memory;
                self.limiter.reserved();
            }
        }
        self.now = self.now + Duration::from_micros(self.rng.u64(..5_000));
    }

    /// In every interval that lies wholly under one limit are at most so many starts.
    fn audit_windows(&self) {
        let mut reals: Vec<Timestamp> = self.starts.iter().map(|start| start.real).collect();
        reals.sort_unstable();
        for (era, (since, limit)) in self.eras.iter().enumerate() {
            // what was decided before the change may start until its grace is over
            let from = if era == 0 {
                *since
            } else {
                *since + START_GRACE + MICRO
            };
            let to = self.eras.get(era + 1).map_or(Timestamp::MAX, |era| era.0);
            if to.since(from) < limit.per {
                continue;
            }
            for (index, first) in reals.iter().enumerate() {
                if *first < from || *first >= to {
                    continue;
                }
                let end = (*first + limit.per).min(to);
                let count = reals.partition_point(|real| *real < end) - index;
                assert!(
                    count <= limit.attempts as usize,
                    "{count} within {:?} from {first:?}, {limit:?}",
                    limit.per,
                );
            }
        }
    }

    /// Under a limit that spaces, the k-th start after another is not decided before k spaces have
    /// passed, but for the lateness that is made up for.
    fn audit_spaces(&self) {
        for (era, (_, limit)) in self.eras.iter().enumerate() {
            if !limit.smooth {
                continue;
            }
            let n = i128::from(limit.attempts);
            let per = limit.per.as_micros() as i128;
            let late = LATE_MAX.as_micros() as i128;
            let inside = self.starts.iter().filter(|start| start.era == era);
            let mut furthest = 0;
            for (k, start) in inside.enumerate() {
                // times the limit, so that it comes out even
                let ahead = i128::from(start.decided.as_micros()) * n - k as i128 * per;
                assert!(
                    ahead >= furthest - late * n,
                    "too near, start {k}, {limit:?}"
                );
                furthest = furthest.max(ahead);
            }
        }
    }
}

fn limits() -> impl Strategy<Value = RateLimit> {
    let attempts = prop_oneof![1..=8_u32, 9..=128_u32, 129..=700_u32];
    let micros = prop_oneof![
        1_000_000..=2_000_000_u64,
        2_000_001..=60_000_000_u64,
        60_000_000..=86_400_000_000_u64,
    ];
    let smooth = prop::bool::weighted(0.25);
    (attempts, micros, smooth).prop_map(|(attempts, micros, smooth)| RateLimit {
        attempts,
        per: Duration::from_micros(micros),
        smooth,
    })
}

fn steps() -> impl Strategy<Value = Step> {
    let micros = |range| Strategy::prop_map(range, Duration::from_micros);
    let permille = prop_oneof![1..=1_000_u32, 900..=1_500_u32];
    let pace = prop_oneof![3 => Just(Duration::ZERO), 1 => micros(0..=3_000_u64)];
    prop_oneof![
        6 => (permille, pace).prop_map(|(permille, pace)| Step::Demand { permille, pace }),
        3 => (1..=1_200_u32).prop_map(|permille| Step::Wait { permille }),
        3 => micros(0..=60_000_u64).prop_map(Step::Rest),
        3 => (0..6_usize).prop_map(|back| Step::GiveBack { back }),
        2 => micros(0..=2_000_000_u64).prop_map(|gap| Step::Move { gap }),
        2 => micros(0..=2_000_000_u64).prop_map(|gap| Step::Crash { gap }),
        1 => Just(Step::Snapshot),
        1 => limits().prop_map(Step::Change),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_interval_holds_more_starts_than_the_limit(
        limit in limits(),
        steps in prop::collection::vec(steps(), 1..24),
        seed: u64,
    ) {
        let mut world = World::new(limit, seed);
        for step in steps {
            world.take(step);
        }
        world.audit_windows();
        world.audit_spaces();
    }
}
