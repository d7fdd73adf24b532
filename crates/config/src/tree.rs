//! The layers, laid over each other, as a flat list of settings.
//!
//! Decides which layer wins (the last), which names are keys at all, and remembers where each value
//! came from. Leaves the values to `kind`.

use std::collections::BTreeMap;

use figment::value::{Dict, Map, Tag, Value as Tagged};
use figment::{Figment, Metadata, Profile, Provider};
use serde_json::Value;

use crate::keys::{AnyKey, KEYS, NOT_YET, PROPERTIES, SOURCES};
use crate::mistake::Mistake;

/// One layer: a tree of values that all come from one place.
pub(crate) struct Layer {
    pub(crate) source: String,
    pub(crate) tree: Dict,
}

impl Layer {
    /// A layer that holds one value.
    pub(crate) fn single(source: String, path: &[&str], value: &Value) -> Self {
        let leaf = tagged(value);
        let (first, rest) = path.split_first().expect("a path has a step");
        let nested = rest.iter().rev().fold(leaf, |inner, step| {
            Tagged::from(Dict::from([((*step).to_owned(), inner)]))
        });
        Self {
            source,
            tree: Dict::from([((*first).to_owned(), nested)]),
        }
    }

    /// A layer from a file's tree; `None` when that is not a table.
    pub(crate) fn whole(source: String, tree: &Value) -> Option<Self> {
        let tree = tagged(tree).into_dict()?;
        Some(Self { source, tree })
    }
}

fn tagged(value: &Value) -> Tagged {
    Tagged::serialize(value).expect("JSON is a subset of what figment holds")
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.source.clone())
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Map::from([(Profile::Default, self.tree.clone())]))
    }
}

/// A value and where it came from.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) value: Value,
    pub(crate) source: String,
}

/// What the layers say, by path.
#[derive(Default)]
pub(crate) struct Settings {
    /// Values of keys; elements of `sources` as `sources[0].topics`.
    pub(crate) keys: BTreeMap<String, Setting>,
    /// Values under `kafka.properties`, by librdkafka's name.
    pub(crate) properties: BTreeMap<String, Setting>,
    /// How many `sources` there are.
    pub(crate) sources: usize,
    pub(crate) mistakes: Vec<Mistake>,
}

/// Lays the layers over each other, the last on top.
pub(crate) fn merge(layers: Vec<Layer>) -> Settings {
    let merged = layers.into_iter().fold(Figment::new(), Figment::merge);
    let mut settings = Settings::default();
    let mut profiles = merged.data().expect("a layer always has its table");
    let tree = profiles.remove(&Profile::Default).unwrap_or_default();
    let mut walk = Walk {
        merged: &merged,
        settings: &mut settings,
    };
    walk.table("", tree);
    settings
}

/// What a path is.
pub(crate) enum Place {
    Key(&'static dyn AnyKey),
    Properties,
    Sources,
    Section,
    /// Not a key, or one that has no effect yet.
    Stray,
}

/// Looks a path up; indices may stand in it.
pub(crate) fn place(path: &str) -> Place {
    let general = without_indices(path);
    let is_section = |path: &str| {
        let below = |key: &str| key.strip_prefix(path).is_some_and(|r| r.starts_with('.'));
        KEYS.iter().any(|key| below(key.path()))
    };
    if let Some(key) = KEYS.iter().find(|key| key.path() == general) {
        Place::Key(*key)
    } else if general == PROPERTIES {
        Place::Properties
    } else if general == SOURCES {
        Place::Sources
    } else if is_section(&general) {
        Place::Section
    } else {
        Place::Stray
    }
}

/// What to say of a path that is no key.
pub(crate) fn stray(path: &str, source: String) -> Mistake {
    let below = |section: &str| {
        let rest = path.strip_prefix(section);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let (found, expected) = if NOT_YET.into_iter().any(below) {
        (
            "a key that is not available in this version",
            "it to be left out".to_owned(),
        )
    } else {
        let expected = match nearest(path) {
            Some(key) => format!("a key; did you mean {key}?"),
            None => "a key that `postrider config reference` lists".to_owned(),
        };
        ("an unknown key", expected)
    };
    Mistake {
        path: path.to_owned(),
        source,
        found: found.to_owned(),
        expected,
    }
}

/// The key that was probably meant, for "did you mean".
fn nearest(path: &str) -> Option<&'static str> {
    let general = without_indices(path);
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let name = last(&general);
    let paths = || KEYS.iter().map(|key| key.path());
    let distance = |path: &str| strsim::damerau_levenshtein(path, &general);
    paths()
        .filter(|path| last(path) == name || distance(path) <= 3)
        .min_by_key(|path| distance(path))
}

fn without_indices(path: &str) -> String {
    let digits = |c: char| c.is_ascii_digit();
    let parts = path.split('[').map(|part| part.trim_start_matches(digits));
    parts.collect::<Vec<_>>().join("[")
}

struct Walk<'a> {
    merged: &'a Figment,
    settings: &'a mut Settings,
}

impl Walk<'_> {
    fn table(&mut self, path: &str, table: Dict) {
        for (name, value) in table {
            let at = if path.is_empty() {
                name
            } else {
                format!("{path}.{name}")
            };
            self.value(at, value);
        }
    }

    fn value(&mut self, path: String, value: Tagged) {
        match place(&path) {
            Place::Key(_) => {
                let setting = self.setting(&value);
                self.settings.keys.insert(path, setting);
            }
            Place::Stray => {
                let source = self.source(&value);
                self.settings.mistakes.push(stray(&path, source));
            }
            Place::Sources => self.sources(path, value),
            Place::Section => match value {
                Tagged::Dict(_, table) => self.table(&path, table),
                other => self.mistake(path, &other, "a single value", "a table".to_owned()),
            },
            Place::Properties => match value {
                Tagged::Dict(_, table) => self.properties("", table),
                other => self.mistake(path, &other, "a single value", "a table".to_owned()),
            },
        }
    }

    fn sources(&mut self, path: String, value: Tagged) {
        let expected = "a list of tables ([[sources]])";
        let Tagged::Array(_, items) = value else {
            self.mistake(path, &value, "another type", expected.to_owned());
            return;
        };
        self.settings.sources = items.len();
        for (index, item) in items.into_iter().enumerate() {
            let at = format!("{path}[{index}]");
            match item {
                Tagged::Dict(_, table) => self.table(&at, table),
                other => self.mistake(at, &other, "another type", expected.to_owned()),
            }
        }
    }

    /// A dotted name that was not quoted arrives as nested tables; it means the same.
    fn properties(&mut self, prefix: &str, table: Dict) {
        for (name, value) in table {
            let name = format!("{prefix}{name}");
            match value {
                Tagged::Dict(_, inner) => self.properties(&format!("{name}."), inner),
                value => {
                    let setting = self.setting(&value);
                    self.settings.properties.insert(name, setting);
                }
            }
        }
    }

    fn setting(&self, value: &Tagged) -> Setting {
        Setting {
            value: serde_json::to_value(value).unwrap_or_default(),
            source: self.source(value),
        }
    }

    /// The layer's name. A table or list that is empty or mixed has its own tag as well.
    fn source(&self, value: &Tagged) -> String {
        let tag: Tag = value.tag();
        let metadata = self.merged.get_metadata(tag);
        metadata.map_or_else(|| "default".to_owned(), |m| m.name.to_string())
    }

    fn mistake(&mut self, path: String, value: &Tagged, found: &str, expected: String) {
        let source = self.source(value);
        self.settings.mistakes.push(Mistake {
            path,
            source,
            found: found.to_owned(),
            expected,
        });
    }
}
