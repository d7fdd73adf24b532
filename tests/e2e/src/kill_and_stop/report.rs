//! What the experiment showed, and whether it is as promised.

use std::collections::BTreeSet;
use std::fmt;

use postrider_test_support::Receipt;

use super::{INTAKE, Plan};
use crate::Attempt;
use crate::senders::{Killed, REPEATABLE_MS, Senders, repeated};

/// Everything that was seen.
pub(super) struct Observed {
    pub(super) plan: Plan,
    pub(super) expected: BTreeSet<(String, String)>,
    pub(super) receipts: Vec<Receipt>,
    pub(super) attempts: Vec<Attempt>,
    pub(super) published_ms: u64,
    pub(super) stopped: Option<Ended>,
    pub(super) killed: Option<Ended>,
    /// In seconds, of all workers since the first event.
    pub(super) router_cpu: f64,
    pub(super) dispatcher_cpu: f64,
}

/// A process that was ended.
#[derive(Clone, Copy)]
pub(super) struct Ended {
    pub(super) pid: u32,
    /// When it was signalled.
    pub(super) at_ms: u64,
    /// When it was found gone.
    pub(super) gone_ms: u64,
    pub(super) code: Option<i32>,
}

impl From<Ended> for Killed {
    fn from(ended: Ended) -> Self {
        Self {
            pid: ended.pid,
            at_ms: ended.at_ms,
        }
    }
}

/// What came out.
#[derive(Debug)]
pub struct Report {
    plan: Plan,
    expected: usize,
    requests: usize,
    missing: usize,
    unexpected: usize,
    refused: usize,
    /// Deliveries that were taken, without an attempt record that says so.
    unrecorded: usize,
    duplicates: usize,
    /// Deliveries that the crash may repeat.
    bound: usize,
    /// Deliveries whose request ended without an answer in time, so that it was made again; the
    /// receiver may have taken both.
    retried: usize,
    /// Deliveries received twice that neither excuses.
    unexcused: Vec<String>,
    /// How long before the kill the oldest repeated one had finished, in ms.
    oldest_repeat_ms: u64,
    stop: Option<Stop>,
    seconds: f64,
    undisturbed: (usize, f64),
    router_cpu: f64,
    dispatcher_cpu: f64,
}

#[derive(Debug)]
struct Stop {
    code: Option<i32>,
    /// From SIGTERM to its end.
    took_ms: u64,
    /// Requests it had under way at SIGTERM or later.
    under_way: usize,
    /// Deliveries of it that arrived again after it ended, without the crash as an excuse.
    repeated: usize,
}

impl Report {
    pub(super) fn new(observed: &Observed) -> Self {
        let Observed {
            expected,
            receipts,
            stopped,
            killed,
            ..
        } = observed;
        let arrived = pairs(receipts);
        let senders = Senders::new(&observed.attempts);
        let repeatable: BTreeSet<&str> = killed
            .map(|killed| senders.repeatable(receipts, killed.into()))
            .unwrap_or_default();
        let retried = senders.retried();
        let repeated = repeated(receipts);
        let excused = |id: &str| repeatable.contains(id) || retried.contains(id);
        let unexcused = repeated.keys().filter(|id| !excused(id));
        let unexcused: Vec<String> = unexcused.map(|id| (*id).to_owned()).collect();
        let age_ms = |killed: Ended| {
            let finished = |id: &&str| senders.finished_ms(id, killed.into());
            let oldest = repeated.keys().filter_map(finished).min()?;
            Some(killed.at_ms.saturating_sub(oldest))
        };
        let last_ms = receipts.iter().map(|receipt| receipt.arrived_ms).max();
        let last_ms = last_ms.unwrap_or(observed.published_ms);
        Self {
            plan: observed.plan,
            expected: expected.len(),
            requests: receipts.len(),
            missing: expected.difference(&arrived).count(),
            unexpected: arrived.difference(expected).count(),
            refused: receipts.iter().filter(|r| r.verdict != "ok").count(),
            unrecorded: unrecorded(&observed.attempts, receipts),
            duplicates: repeated.values().map(|arrivals| arrivals.len() - 1).sum(),
            bound: repeatable.union(&retried).count(),
            retried: retried.len(),
            oldest_repeat_ms: killed.and_then(age_ms).unwrap_or_default(),
            stop: stopped.map(|stopped| stop(&senders, stopped, &unexcused)),
            unexcused,
            seconds: seconds(observed.published_ms, last_ms),
            undisturbed: undisturbed(observed),
            router_cpu: observed.router_cpu,
            dispatcher_cpu: observed.dispatcher_cpu,
        }
    }

    /// What should not be, in words; empty when all is as promised.
    pub fn wrong(&self) -> Vec<String> {
        let stop_code = self.stop.as_ref().map_or(Some(0), |stop| stop.code);
        let stopped_idle = self.stop.as_ref().is_some_and(|stop| stop.under_way == 0);
        let stop_repeated = self.stop.as_ref().map_or(0, |stop| stop.repeated);
        let rules = [
            (self.missing > 0, format!("{} never arrived", self.missing)),
            (
                self.unexpected > 0,
                format!("{} arrived where they do not belong", self.unexpected),
            ),
            (self.refused > 0, format!("{} did not verify", self.refused)),
            (
                self.unrecorded > 0,
                format!("{} were taken and not recorded", self.unrecorded),
            ),
            (
                !self.unexcused.is_empty(),
                format!("repeated without an excuse: {:?}", self.unexcused),
            ),
            (
                self.duplicates > self.bound,
                format!(
                    "{} duplicates, the bound is {}",
                    self.duplicates, self.bound
                ),
            ),
            (
                stop_code != Some(0),
                format!("the stopped dispatcher ended with {stop_code:?}"),
            ),
            (
                stopped_idle,
                "the stopped dispatcher had nothing under way, so its stop shows nothing".into(),
            ),
            (
                stop_repeated > 0,
                format!("{stop_repeated} of the stopped dispatcher were repeated"),
            ),
        ];
        let broken = rules.into_iter().filter(|(broken, _)| *broken);
        broken.map(|(_, words)| words).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan {
            events, endpoints, ..
        } = self.plan;
        writeln!(
            f,
            "{events} events on {} intake topics, {endpoints} endpoints: {} deliveries expected",
            INTAKE.len(),
            self.expected
        )?;
        writeln!(
            f,
            "{} requests in {:.1} s; missing {}, where they do not belong {}, not verified {}, \
             without an attempt record {}",
            self.requests,
            self.seconds,
            self.missing,
            self.unexpected,
            self.refused,
            self.unrecorded
        )?;
        if let Some(stop) = &self.stop {
            writeln!(
                f,
                "duplicates {} (bound {}: in flight at SIGKILL, or finished within {} ms before it, \
             or tried again without an answer in time, {}; \
             the oldest repeated one {} ms before), without an excuse {}",
                self.duplicates,
                self.bound,
                REPEATABLE_MS,
                self.retried,
                self.oldest_repeat_ms,
                self.unexcused.len()
            )?;
            writeln!(
                f,
                "SIGTERM: {} requests under way, ended with {:?} after {} ms, {} repeated",
                stop.under_way, stop.code, stop.took_ms, stop.repeated
            )?;
        }
        let (count, span) = self.undisturbed;
        writeln!(
            f,
            "{:.0} deliveries/s over the first {count} ({span:.2} s); CPU per request: \
             router {:.2} ms, dispatchers {:.2} ms",
            count as f64 / span.max(0.001),
            self.router_cpu * 1_000.0 / self.requests as f64,
            self.dispatcher_cpu * 1_000.0 / self.requests as f64,
        )
    }
}

/// What became of the stopped worker's deliveries; `unexcused` are those that were repeated.
fn stop(senders: &Senders<'_>, stopped: Ended, unexcused: &[String]) -> Stop {
    let its_own = |attempt: &&&Attempt| attempt.is_by(stopped.pid);
    let repeated = unexcused
        .iter()
        .filter(|id| senders.of(id).iter().any(|a| a.is_by(stopped.pid)));
    Stop {
        code: stopped.code,
        took_ms: stopped.gone_ms - stopped.at_ms,
        under_way: senders
            .all()
            .filter(its_own)
            .filter(|attempt| attempt.ended_ms() >= stopped.at_ms)
            .count(),
        repeated: repeated.count(),
    }
}

/// How many deliveries were taken and not recorded as delivered.
pub(super) fn unrecorded(attempts: &[Attempt], receipts: &[Receipt]) -> usize {
    let delivered = attempts.iter().filter(|a| a.outcome == "delivered");
    let delivered: BTreeSet<&str> = delivered.map(|a| a.delivery_id.as_str()).collect();
    let taken: BTreeSet<&str> = receipts.iter().filter_map(|r| r.id.as_deref()).collect();
    taken.difference(&delivered).count()
}

pub(super) fn pairs(receipts: &[Receipt]) -> BTreeSet<(String, String)> {
    let pair = |receipt: &Receipt| {
        let event = receipt.event.as_ref().and_then(|id| id.as_str());
        (event.unwrap_or_default().to_owned(), receipt.path.clone())
    };
    receipts.iter().map(pair).collect()
}

/// Requests before anybody was stopped, and over how many seconds.
fn undisturbed(observed: &Observed) -> (usize, f64) {
    let until = observed.stopped.map_or(u64::MAX, |stopped| stopped.at_ms);
    let during = observed.published_ms..until;
    let arrivals = observed.receipts.iter().map(|receipt| receipt.arrived_ms);
    let before: Vec<u64> = arrivals.filter(|at| during.contains(at)).collect();
    match (before.first(), before.last()) {
        (Some(first), Some(last)) => (before.len(), seconds(*first, *last)),
        _ => (0, 0.0),
    }
}

fn seconds(from_ms: u64, to_ms: u64) -> f64 {
    to_ms.saturating_sub(from_ms) as f64 / 1_000.0
}
