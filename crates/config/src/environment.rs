//! The process's environment, read in one place.
//!
//! Decides which variables matter (`POSTRIDER__…`, `NO_COLOR`). Leaves their meaning to
//! `assemble`, so that tests hand in a map. Variables with one underscore (`POSTRIDER_…`) belong
//! to the flags of the binary.

use std::ffi::OsString;

/// Environment variables as they were at one moment.
#[derive(Clone, Default)]
pub struct Environment {
    settings: Vec<(String, OsString)>,
    no_color: bool,
}

impl Environment {
    pub(crate) const PREFIX: &'static str = "POSTRIDER__";

    /// The variables of this process.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the environment; everything else is handed it"
    )]
    pub fn of_process() -> Self {
        std::env::vars_os().collect()
    }

    /// Whether `NO_COLOR` is set and not empty (<https://no-color.org>).
    #[must_use]
    pub const fn no_color(&self) -> bool {
        self.no_color
    }

    /// Name and value of each `POSTRIDER__` variable, ordered by name.
    pub(crate) fn settings(&self) -> &[(String, OsString)] {
        &self.settings
    }
}

impl<K: Into<OsString>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        let mut environment = Self::default();
        for (name, value) in variables {
            let (name, value) = (name.into().to_string_lossy().into_owned(), value.into());
            if name == "NO_COLOR" {
                environment.no_color = !value.is_empty();
            } else if name.starts_with(Self::PREFIX) {
                environment.settings.push((name, value));
            }
        }
        environment.settings.sort();
        environment
    }
}
