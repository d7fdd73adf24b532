//! What was done to whom, and until when it may be felt.
//!
//! Decides the stated bounds: a clean hand-over takes drain, heartbeat and 1 s; a crash the
//! session and 5 s; a freeze no longer than a crash; an outage of the broker adds its own length
//! and 10 s.

use std::collections::HashMap;

use super::super::journal::{Action, Setting, What};

/// How long after its end an outage of the broker may be felt.
const OUTAGE_MS: u64 = 10_000;
/// How long a crash or a short freeze may be felt beyond what the group waits.
const RESERVE_MS: u64 = 5_000;

/// Why a slice had no owner at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cause {
    /// Its owner stopped in order, or handed it back to somebody who joined.
    Clean,
    /// Its owner was killed.
    Crash,
    /// Its old or new owner was frozen.
    Freeze,
    /// Somebody else was killed or frozen, who may have been meant to own it.
    Other,
    /// The broker was away.
    Outage,
}

impl Cause {
    pub(crate) const ALL: [Self; 5] = [
        Self::Clean,
        Self::Crash,
        Self::Freeze,
        Self::Other,
        Self::Outage,
    ];
}

/// One action.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effect {
    /// `Crash`, `Freeze` or `Outage`.
    pub(crate) cause: Cause,
    /// To whom; `None` = the broker.
    pub(crate) worker: Option<u32>,
    /// When it was done, ms since the epoch.
    pub(crate) from_ms: u64,
    /// When it was undone; of a crash, when the worker was found gone: a signal is not at once.
    pub(crate) end_ms: u64,
    /// When it must not be felt any more, by itself.
    pub(crate) until_ms: u64,
}

/// All of them, by time.
pub(crate) struct Effects {
    pub(crate) all: Vec<Effect>,
    clean_ms: u64,
    crash_ms: u64,
}

impl Effects {
    pub(crate) fn of(setting: &Setting, actions: &[Action]) -> Self {
        let mut all = Vec::new();
        let mut frozen: HashMap<u32, u64> = HashMap::new();
        let mut broker_ms = None;
        let mut told: Vec<u32> = Vec::new();
        let last_ms = actions.last().map_or(0, |action| action.at_ms);
        let crash = |worker, at_ms| Effect {
            cause: Cause::Crash,
            worker: Some(worker),
            from_ms: at_ms,
            end_ms: at_ms,
            until_ms: at_ms + setting.crash_bound_ms(),
        };
        let freeze = |worker, from_ms, end_ms: u64| Effect {
            cause: Cause::Freeze,
            worker: Some(worker),
            from_ms,
            end_ms,
            until_ms: end_ms.min(from_ms + setting.session_ms) + RESERVE_MS,
        };
        for Action { at_ms, what } in actions {
            match *what {
                What::Terminate { worker } => told.push(worker),
                What::Kill { worker } => {
                    told.push(worker);
                    all.push(crash(worker, *at_ms));
                }
                What::Ended { worker, .. } if !told.contains(&worker) => {
                    all.push(crash(worker, *at_ms));
                }
                What::Ended { worker, .. } => {
                    let of_it = |e: &&mut Effect| e.worker == Some(worker);
                    let killed = |e: &&mut Effect| e.cause == Cause::Crash;
                    if let Some(crash) = all.iter_mut().filter(killed).find(of_it) {
                        crash.end_ms = *at_ms;
                    }
                }
                What::Freeze { worker } => drop(frozen.insert(worker, *at_ms)),
                What::Thaw { worker } => {
                    let from_ms = frozen.remove(&worker).unwrap_or(*at_ms);
                    all.push(freeze(worker, from_ms, *at_ms));
                }
                What::KillBroker | What::FreezeBroker => broker_ms = Some(*at_ms),
                What::BrokerReady | What::ThawBroker => all.push(Effect {
                    cause: Cause::Outage,
                    worker: None,
                    from_ms: broker_ms.take().unwrap_or(*at_ms),
                    end_ms: *at_ms,
                    until_ms: *at_ms + OUTAGE_MS,
                }),
                What::Start { .. } => {}
            }
        }
        // killed while frozen
        for (worker, from_ms) in frozen {
            all.push(freeze(worker, from_ms, last_ms));
        }
        all.sort_by_key(|effect| effect.from_ms);
        Self {
            all,
            clean_ms: setting.clean_bound_ms(),
            crash_ms: setting.crash_bound_ms(),
        }
    }

    fn outages(&self) -> impl Iterator<Item = &Effect> {
        self.all.iter().filter(|e| e.cause == Cause::Outage)
    }

    /// When this one must not be felt any more, with what outages add to it. A coordinator that
    /// comes back gives every member it knows a new session, the dead ones too.
    fn until_ms(&self, effect: &Effect) -> u64 {
        if effect.cause == Cause::Outage {
            return effect.until_ms;
        }
        let mut until_ms = effect.until_ms;
        for outage in self.outages() {
            if outage.from_ms <= until_ms && outage.end_ms >= effect.from_ms {
                let anew_ms = outage.until_ms + self.crash_ms;
                until_ms = anew_ms.max(until_ms + outage.until_ms - outage.from_ms);
            }
        }
        until_ms
    }

    /// When a slice without an owner since `from_ms` must have one. What is done while another
    /// action is felt may begin it anew: a slice meant for one who dies waits once more.
    pub(crate) fn bound_ms(&self, from_ms: u64) -> u64 {
        let mut until_ms = from_ms + self.clean_ms;
        loop {
            let ends = self.felt(from_ms, until_ms).map(|e| self.until_ms(e));
            let later = ends.fold(until_ms, u64::max);
            if later == until_ms {
                return until_ms;
            }
            until_ms = later;
        }
    }

    /// How long a slice may be without an owner by any one action that is felt in a span, an
    /// outage of the broker and one more taken together.
    pub(crate) fn longest_ms(&self, from_ms: u64, to_ms: u64) -> u64 {
        let of = |effect: &Effect| effect.until_ms - effect.from_ms;
        let is_outage = |effect: &&Effect| effect.cause == Cause::Outage;
        let felt = || self.felt(from_ms, to_ms);
        let outage = felt().filter(is_outage).map(of).max().unwrap_or_default();
        let others = felt().filter(|effect| !is_outage(effect)).map(of);
        others.fold(self.clean_ms, u64::max) + outage
    }

    /// Those that are felt at some time of a span.
    pub(crate) fn felt(&self, from_ms: u64, to_ms: u64) -> impl Iterator<Item = &Effect> {
        let felt =
            move |effect: &&Effect| effect.from_ms <= to_ms && self.until_ms(effect) >= from_ms;
        self.all.iter().filter(felt)
    }

    /// Why a slice went from `old` to `new` without an owner at work in a span.
    pub(crate) fn cause(&self, from_ms: u64, to_ms: u64, old: u32, new: u32) -> Cause {
        let own = |effect: &Effect| {
            let whose = effect.worker;
            match effect.cause {
                Cause::Outage => Cause::Outage,
                Cause::Crash if whose == Some(old) => Cause::Crash,
                Cause::Freeze if whose == Some(old) || whose == Some(new) => Cause::Freeze,
                _ => Cause::Other,
            }
        };
        let causes: Vec<Cause> = self.felt(from_ms, to_ms).map(own).collect();
        // what was done to the owner itself says more than what was done to others
        [Cause::Outage, Cause::Crash, Cause::Freeze, Cause::Other]
            .into_iter()
            .find(|cause| causes.contains(cause))
            .unwrap_or(Cause::Clean)
    }

    /// From when on what a worker finished may not be committed, when it was ended or frozen at
    /// `at_ms`: a commit takes a second, and an outage may have kept it from being taken.
    pub(crate) fn uncommitted_since_ms(&self, at_ms: u64, commit_ms: u64) -> u64 {
        let mut since_ms = at_ms.saturating_sub(commit_ms);
        while let Some(outage) = self
            .outages()
            .filter(|o| o.from_ms <= at_ms && o.until_ms >= since_ms)
            .find(|o| o.from_ms.saturating_sub(commit_ms) < since_ms)
        {
            since_ms = outage.from_ms.saturating_sub(commit_ms);
        }
        since_ms
    }
}
