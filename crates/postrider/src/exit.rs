//! How a command ends when it does not end well.
//!
//! Decides the exit code of each kind of trouble (`docs/reference/cli.md`) and that the reason goes
//! to standard error, in one piece.

use std::fmt;
use std::io;
use std::process::ExitCode;

use postrider_config::ConfigErrors;
use postrider_kafka::{ClientError, WriteError};

/// The exit codes of the contract, but 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// The answer is no: a check failed, something asked for is not there.
    No = 1,
    /// Wrong usage or configuration.
    Usage = 64,
    /// A server cannot be reached.
    Unavailable = 69,
    /// A bug.
    Bug = 70,
}

/// Why a command did not do what it was asked to.
#[derive(Debug)]
pub(crate) enum Failure {
    /// With a reason to print.
    Ended(Code, String),
    /// The reader of our output went away (`| head`): not worth a word.
    OutputClosed,
}

impl Failure {
    pub(crate) fn new(code: Code, reason: impl fmt::Display) -> Self {
        Self::Ended(code, reason.to_string())
    }

    pub(crate) fn no(reason: impl fmt::Display) -> Self {
        Self::new(Code::No, reason)
    }

    pub(crate) fn usage(reason: impl fmt::Display) -> Self {
        Self::new(Code::Usage, reason)
    }

    /// With a note on a line of its own.
    pub(crate) fn and(self, note: &str) -> Self {
        match self {
            Self::Ended(code, reason) => Self::Ended(code, format!("{reason}\n{note}")),
            Self::OutputClosed => self,
        }
    }

    /// Prints the reason.
    pub(crate) fn report(self) -> ExitCode {
        match self {
            Self::Ended(code, reason) => {
                eprintln!("postrider: {reason}");
                ExitCode::from(code as u8)
            }
            Self::OutputClosed => ExitCode::SUCCESS,
        }
    }
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        Self::usage(errors)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let code = match error {
            ClientError::Unreachable(_) => Code::Unavailable,
            ClientError::Settings(_) => Code::Usage,
            ClientError::Refused { .. } => Code::No,
        };
        Self::new(code, error)
    }
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        let code = match error {
            WriteError::TooLarge => Code::Usage,
            WriteError::UnknownTopic => Code::No,
            WriteError::QueueFull | WriteError::Fatal(_) | WriteError::Other(_) => {
                Code::Unavailable
            }
        };
        Self::new(code, format!("not written: {error}"))
    }
}

/// Only writing our output is left to this: what is read says itself what it was reading.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::OutputClosed
        } else {
            Self::no(format!("cannot write the output: {error}"))
        }
    }
}
