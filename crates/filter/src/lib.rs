//! Whether an endpoint wants an event, by its own expression in [CEL](https://cel.dev).
//!
//! Decides which part of the language a filter may use, what an expression sees of an event, how
//! much an evaluation may cost, and what its end means ([`Decision`]). The language itself, its
//! syntax and operators, is the crate `cel`'s. Leaves which endpoints are asked to `catalog`, and
//! what becomes of an event that could not be decided on to `router`.
//!
//! An expression and the data it looks at are written by others, and both are met with bounds
//! ([ADR 0031](../../../docs/adr/0031-filters-run-on-a-meter.md)):
//!
//! | what | bound | file |
//! | --- | --- | --- |
//! | text of an expression | [`SOURCE_BYTES_MAX`], before it is parsed also its marks and its nesting | `source` |
//! | what it may use | no regular expressions, nothing that builds lists or maps | `allowed` |
//! | its size and depth once parsed | 500 nodes, 24 deep | `allowed` |
//! | data it looks at | [`DATA_BYTES_MAX`], read once for all filters of an event | `data` |
//! | one evaluation | [`STEPS_MAX`], counted where data is touched | `meter` |
//! | all evaluations for an event | [`EVENT_STEPS_MAX`], and [`SHARE`] for each | `meter` |
//! | long texts that are compiled for an event | [`EVENT_TEXT_MAX`], each counted once | `seen` |
//!
//! The same expression on the same event always comes to the same decision, behind the same other
//! ones: there is no clock in it, and steps are counted, not timed.
#![warn(missing_docs)]

mod allowed;
mod data;
mod decision;
mod meter;
mod seen;
mod source;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use cel::parser::Expression;
use cel::{Context, Env, Value};
use postrider_domain::Event;

pub use data::DATA_BYTES_MAX;
pub use decision::{Decision, Undecided};
pub use meter::{EVENT_STEPS_MAX, SHARE, STEPS_MAX};
pub use seen::{EVENT_TEXT_MAX, SHORT_TEXT_MAX, Seen};
pub use source::{InvalidFilter, SOURCE_BYTES_MAX};

/// The functions of the standard library; which of them a filter may call is `allowed`'s.
static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let env = Env::default().with_optional_support(false);
    Arc::new(env.with_stdlib())
});

/// A compiled expression. It holds nothing of the events it was asked about.
pub struct Filter {
    expression: Expression,
    uses: allowed::Uses,
}

impl Filter {
    /// Compiles an expression.
    ///
    /// # Errors
    /// [`InvalidFilter`], with the place, when it is too long, not CEL, or uses what filters may
    /// not.
    pub fn compile(source: &str) -> Result<Self, InvalidFilter> {
        source::check(source)?;
        // Only what a text can do to a parser that others wrote; nothing is shared with it.
        let parsed = catch_unwind(AssertUnwindSafe(|| source::parse(source)));
        let (expression, places) = parsed.unwrap_or_else(|_| Err(InvalidFilter::unreadable()))?;
        let uses = allowed::check(&expression, source, &places)?;
        Ok(Self { expression, uses })
    }

    /// How many nodes it has, 1 to 500; each takes about 130 bytes.
    #[must_use]
    pub const fn nodes(&self) -> usize {
        self.uses.nodes
    }

    /// Whether the endpoint wants the event. `seen` is the event's own: what was read of it for
    /// one filter is there for the next.
    #[must_use]
    pub fn decide(&self, event: &Event, seen: &mut Seen) -> Decision {
        if let Err(undecided) = seen.prepare(event, self.uses) {
            return Decision::Undecided(undecided);
        }
        let seen = &*seen;
        // The evaluator is others' as well, and payloads are anybody's.
        let decided = catch_unwind(AssertUnwindSafe(|| {
            let variables = seen.variables(event);
            let mut context = Context::with_env(Arc::clone(&ENV));
            context.set_variable_resolver(&variables);
            decision::of(Value::resolve_val(&self.expression, &context))
        }));
        seen.meter.end(self.uses.nodes);
        if seen.meter.is_spent() {
            return Decision::Undecided(match seen.meter.given() {
                STEPS_MAX => Undecided::TooCostly,
                steps => Undecided::EventTooCostly { steps },
            });
        }
        decided.unwrap_or(Decision::Undecided(Undecided::Broken))
    }
}

/// Shows its size: an expression may name what its owner would not have in a log.
impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filter")
            .field("nodes", &self.uses.nodes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
