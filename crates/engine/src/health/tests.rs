//! The rules together: scenarios, and laws over random interleavings of results.

use proptest::prelude::*;

use super::*;

const CAP: u16 = 16;

fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(secs)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// How an attempt ends in these tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Succeeded,
    Failed(Failure),
    /// With the seconds it named.
    Asked(Option<u64>),
    NotStarted,
}

/// One endpoint and what is in flight to it. Everything it sees is checked against the laws.
#[derive(Clone, Debug)]
struct World {
    now: Timestamp,
    cap: u16,
    health: Health,
    /// When each attempt in flight started.
    in_flight: Vec<Timestamp>,
    /// When the breaker was last seen to open.
    opened_at: Option<Timestamp>,
    /// The latest time the receiver named.
    asked_until: Timestamp,
    rng: fastrand::Rng,
}

impl World {
    fn new(cap: u16, seed: u64) -> Self {
        Self {
            now: at(1_000),
            cap,
            health: Health::new(),
            in_flight: Vec::new(),
            opened_at: None,
            asked_until: at(0),
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    fn permits(&self) -> Permits {
        self.health.permits(self.now, self.cap)
    }

    fn state(&self) -> BreakerState {
        self.health.state(self.now)
    }

    fn advance(&mut self, by: Duration) {
        self.now = self.now + by;
        self.check();
    }

    /// Starts one if it may; whether it did.
    fn start(&mut self) -> bool {
        let free = self.in_flight.len() < usize::from(self.permits().in_flight);
        if free {
            self.health.started(self.now, self.cap);
            self.in_flight.push(self.now);
            self.check();
        }
        free
    }

    fn start_all(&mut self) {
        while self.start() {}
    }

    fn end(&mut self, index: usize, end: End) {
        let started_at = self.in_flight.swap_remove(index);
        let breaker = |world: &Self| (world.state(), world.health.breaker.refuses_until(world.now));
        let before = breaker(self);
        match end {
            End::Succeeded => self.health.succeeded(self.now, started_at),
            End::Failed(failure) => {
                let draw = self.rng.f64();
                self.health.failed(self.now, started_at, failure, draw);
            }
            End::Asked(secs) => {
                let until = secs.map(|secs| self.now + Duration::from_secs(secs));
                self.health.asked(self.now, started_at, until);
                self.asked_until = self.asked_until.max(until.unwrap_or_default());
            }
            End::NotStarted => self.health.not_started(started_at),
        }
        let after = breaker(self);
        let is_result = matches!(end, End::Succeeded | End::Failed(_));
        if self.is_old(started_at) || !is_result {
            assert_eq!(before, after, "{end:?} is nothing to the breaker");
        }
        if before.0 != BreakerState::Open && after.0 == BreakerState::Open {
            self.opened_at = Some(self.now);
        }
        self.check();
    }

    fn end_all(&mut self, end: End) {
        while !self.in_flight.is_empty() {
            self.end(0, end);
        }
    }

    fn is_old(&self, started_at: Timestamp) -> bool {
        self.opened_at.is_some_and(|opened| started_at <= opened)
    }

    fn check(&self) {
        let permits = self.permits();
        assert!(permits.in_flight <= self.cap, "above the cap: {permits:?}");
        if self.state() == BreakerState::HalfOpen {
            let new = self.in_flight.iter().filter(|start| !self.is_old(**start));
            assert!(new.count() <= 1, "two probes at once");
        }
        if self.now < self.asked_until {
            assert_eq!(permits.in_flight, 0, "the receiver asked");
        }
        assert_eq!(
            permits.in_flight > 0,
            self.health.is_admitting(self.now),
            "what is admitted gets its turn"
        );
        assert_eq!(permits.in_flight == 0, permits.not_before.is_some());
        if let Some(then) = permits.not_before {
            assert!(then > self.now);
            assert!(self.health.permits(then, self.cap).in_flight > 0);
        }
    }
}

/// A world whose breaker was opened by failures, nothing in flight, and when it opens half.
fn opened() -> (World, Timestamp) {
    let mut world = World::new(CAP, 1);
    while world.state() == BreakerState::Closed {
        world.start();
        world.end(0, End::Failed(Failure::Other));
    }
    let until = world.permits().not_before.expect("it is open");
    (world, until)
}

#[test]
fn a_new_endpoint_starts_with_four_in_flight() {
    let world = World::new(CAP, 1);
    let permits = world.permits();
    assert_eq!((permits.in_flight, permits.not_before), (4, None));
    assert_eq!(world.state(), BreakerState::Closed);
    assert!(!world.health.is_proven());
    assert_eq!(world.health.permits(world.now, 2).in_flight, 2);
}

#[test]
fn a_healthy_endpoint_gets_its_whole_cap() {
    let mut world = World::new(CAP, 1);
    for _ in 0..4 {
        world.start_all();
        world.end_all(End::Succeeded);
    }
    assert_eq!(world.permits().in_flight, CAP);
    assert!(world.health.is_proven());
}

#[test]
fn the_cap_changes_live() {
    let mut world = World::new(CAP, 1);
    for _ in 0..4 {
        world.start_all();
        world.end_all(End::Succeeded);
    }
    world.cap = 3;
    assert_eq!(world.permits().in_flight, 3);
    world.start_all();
    world.end_all(End::Succeeded);
    world.cap = 100;
    assert_eq!(world.permits().in_flight, 3, "it grows from there");
    for _ in 0..8 {
        world.start_all();
        world.end_all(End::Succeeded);
    }
    assert_eq!(world.permits().in_flight, 100);
}

#[test]
fn a_receiver_that_hangs_is_probed_while_old_requests_still_hang() {
    let mut world = World::new(CAP, 1);
    for _ in 0..4 {
        world.start_all();
        world.end_all(End::Succeeded);
    }
    world.start_all();
    world.advance(Duration::from_secs(15));
    for _ in 0..8 {
        world.end(0, End::Failed(Failure::Timeout));
    }
    assert_eq!(world.state(), BreakerState::Open, "at the eighth, at once");
    assert!(!world.health.is_proven());
    assert_eq!(world.in_flight.len(), 8);
    world.advance(millis(1_200));
    assert_eq!(world.state(), BreakerState::HalfOpen);
    assert!(world.start(), "a probe beside them");
    assert!(!world.start(), "one");
}

#[test]
fn a_probe_that_was_not_sent_makes_room_for_another() {
    let (mut world, until) = opened();
    world.now = until;
    assert!(world.start() && !world.start());
    world.end(0, End::NotStarted);
    assert_eq!(world.state(), BreakerState::HalfOpen);
    assert!(world.start());
}

#[test]
fn asks_are_no_failures() {
    let mut world = World::new(CAP, 1);
    for _ in 0..100 {
        world.start_all();
        world.end_all(End::Asked(Some(1)));
        world.advance(Duration::from_secs(1));
        assert_eq!(world.state(), BreakerState::Closed);
        assert_eq!(world.health.concurrency.limit(), 4);
    }
}

#[test]
fn asks_do_not_close_or_reset_a_breaker() {
    let mut world = World::new(CAP, 1);
    for _ in 0..7 {
        world.start();
        world.end(0, End::Failed(Failure::Other));
    }
    world.start();
    world.end(0, End::Asked(Some(2)));
    world.advance(Duration::from_secs(2));
    world.start();
    world.end(0, End::Failed(Failure::Other));
    assert_eq!(world.state(), BreakerState::Open, "eight in a row");
    world.now = world.permits().not_before.expect("it is open");
    world.start();
    world.end(0, End::Asked(None));
    assert_eq!(world.state(), BreakerState::HalfOpen);
    assert_eq!(
        world.permits().not_before,
        Some(world.now + Duration::from_secs(1)),
        "the probe was asked to wait"
    );
}

#[test]
fn the_later_of_breaker_and_gate_counts() {
    let mut world = World::new(CAP, 1);
    for _ in 0..7 {
        world.start();
        world.end(0, End::Failed(Failure::Other));
    }
    world.start();
    world.start();
    world.end(0, End::Asked(Some(600)));
    world.end(0, End::Failed(Failure::Other));
    assert_eq!(world.state(), BreakerState::Open);
    let until = world.now + Duration::from_secs(600);
    assert_eq!(world.permits().not_before, Some(until));
    assert!(!world.health.is_admitting(world.now));
}

#[test]
fn after_an_ask_it_starts_with_one_in_flight() {
    let mut world = World::new(CAP, 1);
    for _ in 0..4 {
        world.start_all();
        world.end_all(End::Succeeded);
    }
    world.start();
    world.end(0, End::Asked(Some(30)));
    world.advance(Duration::from_secs(30));
    let mut widths = Vec::new();
    for _ in 0..5 {
        widths.push(world.permits().in_flight);
        world.start_all();
        world.end_all(End::Succeeded);
    }
    assert_eq!(widths, [1, 2, 4, 8, 16]);
}

#[test]
fn what_was_learnt_is_forgotten_after_an_hour_of_silence() {
    let mut world = World::new(CAP, 1);
    assert!(world.health.may_be_forgotten(world.now), "nothing is known");
    world.start();
    world.end(0, End::Succeeded);
    world.start();
    world.advance(FORGOTTEN_AFTER);
    assert!(
        !world.health.may_be_forgotten(world.now),
        "one is in flight"
    );
    world.end(0, End::Asked(Some(2 * 3_600)));
    world.advance(FORGOTTEN_AFTER);
    assert!(!world.health.may_be_forgotten(world.now), "an ask is open");
    world.advance(FORGOTTEN_AFTER);
    assert!(world.health.may_be_forgotten(world.now));
    world.start();
    world.end(0, End::Succeeded);
    world.advance(FORGOTTEN_AFTER - millis(1));
    assert!(!world.health.may_be_forgotten(world.now));
}

#[test]
fn a_table_of_a_slice_stays_small() {
    let bytes = size_of::<Health>();
    assert!(bytes <= 192, "{bytes}");
}

#[test]
fn states_have_names() {
    use BreakerState::{Closed, HalfOpen, Open, Ramp};
    let names = [Closed, Open, HalfOpen, Ramp].map(BreakerState::as_str);
    assert_eq!(names, ["closed", "open", "half_open", "ramp"]);
}

/// Attempts within an hour to an endpoint that answers nothing, one in flight at a time and always
/// one waiting: 8 that open it, 6 probes while the time open grows (1 + 2 + … + 32 s), then one a
/// minute. With jitter always at its shortest: 50.4 s for the 6, then one in 48 s, 73 times.
const DEAD_PER_HOUR_MAX: usize = 8 + 6 + 73;

fn attempts_on_a_dead_endpoint(takes: Duration, mut draw: impl FnMut() -> f64) -> usize {
    let (mut health, mut now, mut attempts) = (Health::new(), at(1_000), 0);
    loop {
        let permits = health.permits(now, 1);
        now = permits.not_before.unwrap_or(now);
        if now >= at(1_000 + 3_600) {
            return attempts;
        }
        attempts += 1;
        health.started(now, 1);
        let started_at = now;
        now = now + takes;
        health.failed(now, started_at, Failure::Connect, draw());
    }
}

#[test]
fn a_dead_endpoint_is_left_alone_but_for_probes() {
    let shortest = attempts_on_a_dead_endpoint(Duration::ZERO, || 0.0);
    assert_eq!(shortest, DEAD_PER_HOUR_MAX);
    let middle = attempts_on_a_dead_endpoint(Duration::ZERO, || 0.5);
    assert_eq!(middle, 8 + 6 + 58);
}

/// A receiver that works for ten seconds and fails for ten, with always enough to deliver: its
/// successes, and the longest time between two, within two hours.
fn flap(world: &mut World, takes: Duration) -> (usize, Duration) {
    let end = world.now + Duration::from_secs(7_200);
    let (mut successes, mut last, mut longest) = (0, world.now, Duration::ZERO);
    while world.now < end {
        world.start_all();
        if world.in_flight.is_empty() {
            world.now = world.permits().not_before.expect("it waits for a time");
            continue;
        }
        world.advance(takes);
        if (world.now.as_secs() / 10).is_multiple_of(2) {
            successes += world.in_flight.len();
            longest = longest.max(world.now.since(last));
            last = world.now;
            world.end_all(End::Succeeded);
        } else {
            world.end_all(End::Failed(Failure::Timeout));
        }
    }
    (successes, longest.max(end.since(last)))
}

/// At the longest time open a probe meets a good half every other time, so rows of bad luck are
/// short; the times below are of fixed seeds.
#[test]
fn a_flapping_receiver_is_not_locked_out() {
    for takes in [500, 1_000, 2_000, 4_000] {
        for seed in 0..20 {
            let (successes, longest) = flap(&mut World::new(CAP, seed), millis(takes));
            assert!(successes > 500, "{successes} of {takes} ms by seed {seed}");
            assert!(
                longest < Duration::from_secs(600),
                "{longest:?} without one of {takes} ms by seed {seed}"
            );
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Advance(u64),
    Start,
    StartAll,
    End(prop::sample::Index, End),
    Cap(u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let end = prop_oneof![
        6 => Just(End::Succeeded),
        4 => Just(End::Failed(Failure::Timeout)),
        2 => Just(End::Failed(Failure::Connect)),
        4 => Just(End::Failed(Failure::Other)),
        1 => prop::option::of(0..100_u64).prop_map(End::Asked),
        1 => Just(End::NotStarted),
    ];
    let step = prop_oneof![
        2 => prop_oneof![Just(0), 1..2_000_u64, Just(60_000)].prop_map(Step::Advance),
        2 => Just(Step::Start),
        1 => Just(Step::StartAll),
        6 => (any::<prop::sample::Index>(), end).prop_map(|(index, end)| Step::End(index, end)),
        1 => (1..=32_u16).prop_map(Step::Cap),
    ];
    prop::collection::vec(step, 0..400)
}

/// Plays the steps; the world checks its laws at each.
fn play(cap: u16, seed: u64, steps: &[Step]) -> World {
    let mut world = World::new(cap, seed);
    for step in steps {
        match *step {
            Step::Advance(by) => world.advance(millis(by)),
            Step::Start => _ = world.start(),
            Step::StartAll => world.start_all(),
            Step::End(index, end) if !world.in_flight.is_empty() => {
                let index = index.index(world.in_flight.len());
                world.end(index, end);
            }
            Step::End(..) => {}
            Step::Cap(cap) => world.cap = cap,
        }
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_interleaving_breaks_the_laws(
        cap in 1..=32_u16,
        seed in any::<u64>(),
        steps in steps(),
    ) {
        play(cap, seed, &steps);
    }

    /// What is in flight when the faults stop ends within its deadline of 60 s; what starts later
    /// takes `takes`. An ask ends after 100 s at most, the breaker opens half after 72. Then the
    /// ramps, and the limit from 1, need no more than 12 rounds to any cap here.
    #[test]
    fn when_faults_stop_the_whole_cap_comes_back(
        cap in 1..=32_u16,
        seed in any::<u64>(),
        steps in steps(),
        takes in 1..2_000_u64,
    ) {
        let mut world = play(cap, seed, &steps);
        let healed_at = world.now;
        let mut ends: Vec<Timestamp> = world
            .in_flight
            .iter()
            .map(|_| healed_at + Duration::from_secs(60))
            .collect();
        let bound = healed_at + Duration::from_secs(100) + millis(12 * takes);
        while world.permits().in_flight < world.cap || world.state() != BreakerState::Closed {
            while world.start() {
                ends.push(world.now + millis(takes));
            }
            let next = ends.iter().copied().chain(world.permits().not_before).min();
            world.now = next.expect("something goes on");
            prop_assert!(world.now <= bound, "{world:?}");
            while let Some(index) = ends.iter().position(|end| *end <= world.now) {
                ends.swap_remove(index);
                world.end(index, End::Succeeded);
            }
        }
    }

    #[test]
    fn a_dead_endpoint_never_gets_more(takes in 0..60_000_u64, seed in any::<u64>()) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let attempts = attempts_on_a_dead_endpoint(millis(takes), || rng.f64());
        prop_assert!(attempts <= DEAD_PER_HOUR_MAX, "{attempts}");
    }
}
