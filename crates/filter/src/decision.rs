//! What the end of an evaluation means.
//!
//! Decides between a plain no and "could not be decided". What is not there cannot match: a key
//! that is missing, an index past the end, a null where a value is needed. Everything else that
//! ends an evaluation says that the expression and the event do not fit each other, and nobody
//! knows whether the endpoint's owner wanted it.

use cel::ExecutionError;
use cel::common::types::CelBool;
use cel::common::value::CowVal;

use crate::source::InvalidFilter;

/// Whether an endpoint wants an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It does.
    Matches,
    /// It does not.
    Differs,
    /// That could not be said.
    Undecided(Undecided),
}

/// Why it could not be said. The words repeat nothing of the event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecided {
    /// The data is more than is read.
    #[error(
        "the filter looks at data, and the event has {bytes} bytes of it, at most {max} are read"
    )]
    TooLarge {
        /// How much there is.
        bytes: usize,
        /// How much would be read.
        max: usize,
    },
    /// The data is not JSON, or is nested more than 127 deep.
    #[error("the filter looks at data, and the event's is not JSON (byte {column} of line {line})")]
    NotJson {
        /// Line, from 1.
        line: usize,
        /// Byte of the line, from 1.
        column: usize,
    },
    /// The evaluation took more steps than it may.
    #[error(
        "the filter takes too long on this event: {} steps were not enough",
        crate::STEPS_MAX
    )]
    TooCostly,
    /// The evaluation took more steps than those before it left of the event's.
    #[error(
        "the filters of all endpoints together take too long on this event: of {} steps for all, \
         {steps} were left for this one and not enough; make the costly ones simpler",
        crate::EVENT_STEPS_MAX
    )]
    EventTooCostly {
        /// What it had, at least [`crate::SHARE`].
        steps: u64,
    },
    /// The filters asked before it have so much text that it is not compiled.
    #[error(
        "the filters of all endpoints for this event have too much text: beyond {} bytes each, {} \
         bytes of different filters are compiled, and this one would be more; make it shorter, or \
         let endpoints have the same",
        crate::SHORT_TEXT_MAX,
        crate::EVENT_TEXT_MAX
    )]
    TooMuchText,
    /// An operator or function met values it is not for: its name and their types.
    #[error("the filter does not fit the event's data: {0}")]
    Mismatch(String),
    /// A number that is out of range, a division by zero, a text that is no number.
    #[error("the filter calculates what has no result: {0}")]
    Arithmetic(&'static str),
    /// The result is not true or false.
    #[error("the filter comes to {0}, not to true or false")]
    NotBoolean(String),
    /// The expression is none.
    #[error("the filter cannot be used: {0}")]
    Invalid(#[from] InvalidFilter),
    /// The evaluator failed.
    #[error("the filter could not be evaluated; this is a bug, please report it")]
    Broken,
}

/// The decision a result is.
pub(crate) fn of(result: Result<CowVal<'_, '_>, ExecutionError>) -> Decision {
    match result {
        Ok(value) => match value.downcast_ref::<CelBool>() {
            Some(wanted) if *wanted.inner() => Decision::Matches,
            Some(_) => Decision::Differs,
            None if value.get_type().name() == NULL => Decision::Differs,
            None => Decision::Undecided(Undecided::NotBoolean(value.get_type().name().to_owned())),
        },
        Err(error) => of_error(&error),
    }
}

const NULL: &str = "null_type";

fn of_error(error: &ExecutionError) -> Decision {
    // The words of most errors repeat values, so they are not used.
    let undecided = match error {
        ExecutionError::NoSuchKey(_) | ExecutionError::IndexOutOfBounds(_) => {
            return Decision::Differs;
        }
        ExecutionError::NoSuchOverload(overload) => {
            if overload.argument_types().iter().any(|name| name == NULL) {
                return Decision::Differs;
            }
            Undecided::Mismatch(overload.to_string())
        }
        ExecutionError::UnexpectedType { got, .. } if got == NULL => return Decision::Differs,
        ExecutionError::UnexpectedType { got, want } => {
            Undecided::Mismatch(format!("expected {want}, found {got}"))
        }
        // Which values they were is not said of lists and objects, so null is no exception here.
        ExecutionError::UnsupportedBinaryOperator(operator, ..) => Undecided::Mismatch(format!(
            "{operator} of values that are not two numbers or texts"
        )),
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => {
            Undecided::Arithmetic("a division by zero")
        }
        ExecutionError::Overflow(..) => Undecided::Arithmetic("a number that is out of range"),
        ExecutionError::FunctionError { .. } => {
            Undecided::Arithmetic("a conversion of a value that cannot be converted")
        }
        _ => Undecided::Mismatch("an operator or function met values it is not for".to_owned()),
    };
    Decision::Undecided(undecided)
}
