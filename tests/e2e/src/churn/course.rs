//! Which action comes when: at random from a seed, or the same ten times over.

use std::time::{Duration, Instant};

use clap::ValueEnum;

use super::fleet::Fleet;
use super::subject::Subject;

/// One experiment, as often as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Experiment {
    /// How long slices are without an owner: stops in order, then kills
    HandOver,
    /// SIGSTOP past the session, then SIGCONT
    Zombie,
    /// SIGTERM under load
    Sigterm,
    /// SIGKILL under load
    Sigkill,
    /// SIGKILL for the broker, which is the coordinator, and a start
    Coordinator,
    /// An endpoint with a rate limit moves: SIGTERM and SIGKILL by turns
    Limit,
    /// An endpoint with an ordering moves: SIGTERM and SIGKILL by turns
    Order,
}

/// How long the subject of an experiment stays with an owner at least: long against the second
/// that a limit begins with.
const STAYS: Duration = Duration::from_secs(25);
/// Fewer dispatchers than this are soon joined by another.
const WORKERS_MIN: usize = 3;
const WORKERS_MAX: usize = 5;
/// Beside the session: how long a busy machine may take until all slices are served again.
const SETTLED_WITHIN: Duration = Duration::from_secs(90);

#[derive(Clone, Copy)]
enum Step {
    Start,
    Terminate,
    Kill,
    Freeze,
    Two,
    KillBroker,
    FreezeBroker,
}

const STEPS: [Step; 16] = [
    Step::Start,
    Step::Start,
    Step::Terminate,
    Step::Terminate,
    Step::Terminate,
    Step::Kill,
    Step::Kill,
    Step::Kill,
    Step::Freeze,
    Step::Freeze,
    Step::Freeze,
    Step::Two,
    Step::Two,
    Step::Two,
    Step::KillBroker,
    Step::FreezeBroker,
];

/// Something every 5 to 20 s (with sessions above 12 s, that much longer), never the end of the
/// last dispatcher at work.
pub(super) fn soak(fleet: &mut Fleet, time: Duration, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let stretch = (fleet.setting.session().as_secs_f64() / 12.0).max(1.0);
    let end = Instant::now() + time;
    while Instant::now() < end {
        let seconds = 5.0 + random.f64() * 15.0;
        fleet.pause(Duration::from_secs_f64(seconds * stretch));
        let few = fleet.standing() < WORKERS_MIN && random.f64() < 0.7;
        let drawn = STEPS[random.usize(..STEPS.len())];
        step(fleet, &mut random, if few { Step::Start } else { drawn });
    }
}

fn step(fleet: &mut Fleet, random: &mut fastrand::Rng, step: Step) {
    let running = fleet.running();
    let one = running.get(random.usize(..running.len().max(1))).copied();
    let spare = one.filter(|_| running.len() > 1);
    match (step, spare) {
        (Step::Start, _) | (_, None) if fleet.standing() < WORKERS_MAX => {
            fleet.start_worker();
        }
        (Step::Terminate, Some(one)) => fleet.terminate(one),
        (Step::Kill, Some(one)) => fleet.kill(one),
        (Step::Freeze, Some(one)) => {
            let sessions = 0.5 + random.f64() * 2.5;
            fleet.freeze(one, Some(fleet.setting.session().mul_f64(sessions)));
        }
        (Step::Two, Some(_)) => {
            for _ in 0..2 {
                // of a single dispatcher: neither a pair nor the broker
                let drawn = STEPS[random.usize(..11)];
                self::step(fleet, random, drawn);
            }
        }
        (Step::KillBroker, _) => {
            fleet.kill_broker(Duration::from_secs_f64(random.f64() * 4.0));
        }
        (Step::FreezeBroker, _) => {
            fleet.freeze_broker(Duration::from_secs_f64(1.0 + random.f64() * 7.0));
        }
        (Step::Start | Step::Terminate | Step::Kill | Step::Freeze | Step::Two, _) => {}
    }
}

/// Something done to a dispatcher.
type Deed = fn(&mut Fleet, u32);

impl Experiment {
    /// The endpoint it is about; `None` = about slices.
    pub fn subject(self) -> Option<Subject> {
        match self {
            Self::Limit => Some(Subject::Limited(50)),
            Self::Order => Some(Subject::Ordered(2_000)),
            Self::HandOver | Self::Zombie | Self::Sigterm | Self::Sigkill | Self::Coordinator => {
                None
            }
        }
    }

    /// What is done, one after the other.
    fn steps(self, times: usize) -> Vec<Deed> {
        let (terminate, kill): (Deed, Deed) = (Fleet::terminate, Fleet::kill);
        match self {
            Self::HandOver => [vec![terminate; times], vec![kill; times]].concat(),
            Self::Sigterm => vec![terminate; times],
            Self::Sigkill => vec![kill; times],
            Self::Zombie => vec![freeze_and_wake; times],
            Self::Coordinator => vec![|fleet, _| fleet.kill_broker(Duration::from_secs(1)); times],
            Self::Limit | Self::Order => {
                let by_turns = [terminate, kill].into_iter().cycle();
                by_turns.take(times).collect()
            }
        }
    }

    /// Does it `times` times, each time with as many dispatchers as before.
    pub(super) fn run(self, fleet: &mut Fleet, times: usize) -> anyhow::Result<()> {
        let settled_within = fleet.setting.session() + SETTLED_WITHIN;
        for step in self.steps(times) {
            let one = self.next(fleet, settled_within)?;
            step(fleet, one);
            anyhow::ensure!(
                fleet.settle(settled_within),
                "not all slices are served after worker {one} was dealt with"
            );
            if !fleet.running().contains(&one) {
                let another = fleet.start_worker();
                anyhow::ensure!(
                    fleet.wait_for_slices(another, 1, settled_within),
                    "worker {another} got no slices"
                );
            }
            anyhow::ensure!(fleet.settle(settled_within), "not all slices are served");
        }
        if let Some(subject) = self.subject() {
            fleet.pause(STAYS);
            fleet.wait_for_events(subject.events_min());
        }
        Ok(())
    }

    /// With whom something is done: the owner of what it is about, else the oldest dispatcher,
    /// which has owned slices for longest.
    fn next(self, fleet: &mut Fleet, limit: Duration) -> anyhow::Result<u32> {
        if self.subject().is_none() {
            return Ok(*fleet.running().first().expect("somebody runs"));
        }
        fleet.pause(STAYS);
        let owner = fleet.wait_for_owner(limit);
        owner.ok_or_else(|| anyhow::anyhow!("nobody is at work for the endpoint it is about"))
    }
}

/// For twice the session; then it is to own slices again.
fn freeze_and_wake(fleet: &mut Fleet, number: u32) {
    let before = fleet.assignments(number);
    fleet.freeze(number, None);
    fleet.pause(fleet.setting.session() * 2);
    fleet.thaw(number);
    let limit = fleet.setting.session() + SETTLED_WITHIN;
    if !fleet.wait_for_slices(number, before + 1, limit) {
        eprintln!("worker {number} got no slices within {limit:?} after it woke");
    }
}
