//! What an evaluation has cost so far.
//!
//! Decides what costs how much, so that steps go with time: the evaluator has no bound of its own
//! and cannot be stopped from outside. Work in an evaluation is the expression's nodes, which are
//! bounded, times the rounds of its loops, times the length of the texts it handles; rounds and
//! texts both come from values of `data` and `seen`, which count here. What a loop bound to its
//! name is not asked for again, so each later round costs as much as if it used the longest such
//! text at every node.
//!
//! An event has steps for all its filters together, as each endpoint has one: what is left of them
//! bounds an evaluation too, but for a share that every filter has, so that the costly ones of some
//! endpoints take nothing from cheap ones of others.
//!
//! When the steps are spent, loops end at once and the rest of the expression runs to its end on
//! what there is; its result is not used.

use std::sync::atomic::{AtomicU64, Ordering};

/// Most steps of one evaluation.
pub const STEPS_MAX: u64 = 50_000;

/// Most steps of all evaluations for one event, about, but for [`SHARE`] each: about 100 ms.
pub const EVENT_STEPS_MAX: u64 = 2_500_000;

/// Steps that each evaluation may take however many the others took: about 20 µs at most.
pub const SHARE: u64 = 500;

/// Bytes of text that are handled in the time of one step.
const BYTES_PER_STEP: u64 = 64;

/// The steps that are left, shared by every value of an event. One evaluation runs at a time; the
/// counters are atomic because the evaluator demands values that could be sent to other threads.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    left: AtomicU64,
    /// What this evaluation had at its beginning.
    given: AtomicU64,
    /// What evaluations for this event took, those that are over.
    taken: AtomicU64,
    /// Nodes of the largest loop: what one round costs at least.
    round: AtomicU64,
    /// How often a text may be copied into a longer one.
    copies: AtomicU64,
    /// The longest text a loop has bound, in bytes.
    bound: AtomicU64,
}

impl Meter {
    /// The evaluation of an expression begins whose largest loop has so many nodes, and which has
    /// so many additions: each may copy all texts before it once more.
    pub(crate) fn begin(&self, loop_nodes: usize, additions: usize) {
        let of_event = EVENT_STEPS_MAX.saturating_sub(self.taken.load(Ordering::Relaxed));
        let given = of_event.clamp(SHARE, STEPS_MAX);
        self.given.store(given, Ordering::Relaxed);
        self.left.store(given, Ordering::Relaxed);
        self.round.store(count(loop_nodes), Ordering::Relaxed);
        self.copies.store(1 + count(additions), Ordering::Relaxed);
        self.bound.store(0, Ordering::Relaxed);
    }

    /// A value of one piece is handled.
    pub(crate) fn touch(&self) {
        self.take(1);
    }

    /// So many bytes of text are handled.
    pub(crate) fn text(&self, bytes: usize) {
        let copies = self.copies.load(Ordering::Relaxed);
        self.take(1 + count(bytes) * copies / BYTES_PER_STEP);
    }

    /// A loop goes round once more, with a value that has so many bytes of text.
    pub(crate) fn round(&self, bytes: usize) {
        let bound = self.bound.load(Ordering::Relaxed).max(count(bytes));
        self.bound.store(bound, Ordering::Relaxed);
        self.take(self.round.load(Ordering::Relaxed) * (1 + bound / BYTES_PER_STEP));
    }

    /// The evaluation is over. An expression costs something too that touches no data: a step for
    /// each of its nodes.
    pub(crate) fn end(&self, nodes: usize) {
        let given = self.given.load(Ordering::Relaxed);
        let took = given - self.left.load(Ordering::Relaxed);
        self.taken.fetch_add(took + count(nodes), Ordering::Relaxed);
    }

    /// The steps that this evaluation had at its beginning.
    pub(crate) fn given(&self) -> u64 {
        self.given.load(Ordering::Relaxed)
    }

    pub(crate) fn is_spent(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }

    fn take(&self, steps: u64) {
        let left = self.left.load(Ordering::Relaxed);
        self.left
            .store(left.saturating_sub(steps), Ordering::Relaxed);
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_end_and_begin_again() {
        let meter = Meter::default();
        meter.begin(10, 0);
        for _ in 0..STEPS_MAX / 10 {
            assert!(!meter.is_spent());
            meter.round(0);
        }
        assert!(meter.is_spent());
        meter.begin(10, 0);
        assert!(!meter.is_spent());
    }

    #[test]
    fn a_long_text_makes_every_later_round_cost_more() {
        let meter = Meter::default();
        meter.begin(10, 0);
        meter.round(64 * 99);
        let rounds = STEPS_MAX / (10 * 100);
        for _ in 1..rounds {
            assert!(!meter.is_spent());
            meter.round(0);
        }
        assert!(meter.is_spent());
    }

    #[test]
    fn a_text_costs_its_length_and_as_often_as_it_may_be_copied() {
        let meter = Meter::default();
        let bytes = usize::try_from(STEPS_MAX * BYTES_PER_STEP).unwrap() / 4;
        meter.begin(1, 0);
        meter.text(bytes);
        meter.text(bytes);
        assert!(!meter.is_spent());
        meter.begin(1, 3);
        meter.text(bytes);
        assert!(meter.is_spent());
    }
}
