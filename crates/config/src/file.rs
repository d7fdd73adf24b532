//! A configuration file: TOML, or YAML or JSON by its extension.
//!
//! Decides the syntax. Leaves the keys to `tree`.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::mistake::{ConfigErrors, Mistake};

/// Largest file that is read, in bytes; a configuration has a few kilobytes.
const SIZE_MAX: usize = 1 << 20;

/// A file's name and text.
#[derive(Clone)]
pub struct File {
    name: String,
    text: String,
}

impl File {
    /// A file's text under the name it is reported by; the extension decides the syntax.
    #[must_use]
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            text: text.into(),
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read or is not UTF-8: one mistake with the system's reason.
    pub fn read(path: &Path) -> Result<Self, ConfigErrors> {
        let name = path.display().to_string();
        match fs::read_to_string(path) {
            Ok(text) => Ok(Self { name, text }),
            Err(error) => Err(ConfigErrors::new(vec![Mistake {
                path: String::new(),
                source: name,
                found: format!("no readable file ({error})"),
                expected: "a configuration file in UTF-8".to_owned(),
            }])),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The file as a tree, or the parser's complaint.
    pub(crate) fn parse(&self) -> Result<Value, Mistake> {
        let extension = Path::new(&self.name).extension().and_then(|e| e.to_str());
        let (syntax, parsed) = if self.text.len() > SIZE_MAX {
            ("a file", Err(format!("more than {SIZE_MAX} bytes")))
        } else {
            match extension.map(str::to_ascii_lowercase).as_deref() {
                Some("json") => ("JSON", text_of(serde_json::from_str(&self.text))),
                Some("yaml" | "yml") => ("YAML", text_of(serde_saphyr::from_str(&self.text))),
                _ => ("TOML", text_of(toml::from_str(&self.text))),
            }
        };
        parsed
            .map(|tree| match tree {
                Value::Null => Value::Object(serde_json::Map::new()),
                tree => tree,
            })
            .map_err(|error| Mistake {
                path: String::new(),
                source: self.name.clone(),
                found: error.trim_end().to_owned(),
                expected: format!("{syntax} that can be read"),
            })
    }
}

fn text_of<E: std::fmt::Display>(parsed: Result<Value, E>) -> Result<Value, String> {
    parsed.map_err(|error| error.to_string())
}
