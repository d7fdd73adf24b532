//! What is wrong with a configuration, for the person who wrote it.
//!
//! Decides how a mistake reads: path, where the value came from, what was found, what was expected.

use std::fmt;

use serde::Serialize;

/// One thing to put right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mistake {
    /// The key (`kafka.slices`, `sources[0].topics`), or empty when it is about a whole file.
    pub path: String,
    /// Where the value came from: a file's name, `environment variable …`, `flag …`, `default`.
    pub source: String,
    /// What stands there; values of secret keys are hidden.
    pub found: String,
    /// What should stand there.
    pub expected: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            source,
            found,
            expected,
        } = self;
        if path.is_empty() {
            write!(f, "{source}: ")?;
        } else {
            write!(f, "{path} ({source}): ")?;
        }
        write!(f, "found {found}, expected {expected}")
    }
}

/// Every mistake of a configuration, ordered by path; never empty. The exit code for it is 64.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the configuration has {} mistake(s):{}", .0.len(), lines(.0))]
pub struct ConfigErrors(Vec<Mistake>);

impl ConfigErrors {
    pub(crate) fn new(mut mistakes: Vec<Mistake>) -> Self {
        mistakes.sort_by(|a, b| a.path.cmp(&b.path));
        Self(mistakes)
    }

    /// The mistakes.
    #[must_use]
    pub fn mistakes(&self) -> &[Mistake] {
        &self.0
    }
}

fn lines(mistakes: &[Mistake]) -> String {
    mistakes
        .iter()
        .map(|mistake| format!("\n  {mistake}"))
        .collect()
}
