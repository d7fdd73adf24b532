//! A JSON tree as a form, with every mistake in it.
//!
//! Decides how mistakes of shape (unknown fields, wrong types) are found all at once: read, note
//! the mistake, take the offending part out, read again; and how many mistakes are worth it, for a
//! record is written by anybody. Leaves mistakes of content to `check`.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;
use serde_path_to_error::Segment;

use super::Unopened;
use super::form::EndpointForm;

/// What is made of a field that no version before or at this one knows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum UnknownFields {
    /// A mistake: it is a typo.
    Refuse,
    /// Nothing: the writer is newer.
    Ignore,
}

impl UnknownFields {
    /// How often a text is read again for its next mistake of shape. A person wants to know all
    /// mistakes of a file; of a record, which others wait behind, a few tell enough.
    const fn reads_max(self) -> usize {
        match self {
            Self::Refuse => MISTAKES_MAX,
            Self::Ignore => 10,
        }
    }
}

/// Mistakes so far, as path and message: the first [`MISTAKES_MAX`].
#[derive(Default)]
pub(super) struct Mistakes {
    pub(super) noted: Vec<(String, String)>,
    /// Sealed secrets that are no use: mistakes of a file, but not of a record, for they may be of
    /// use to somebody else.
    pub(super) unopened: Vec<Unopened>,
}

impl Mistakes {
    /// Notes a mistake, unless one at the same place or inside it is noted already: then this one
    /// is its consequence. Past the most that are noted nothing is done.
    pub(super) fn push(&mut self, path: impl Into<String>, message: impl Into<String>) {
        if self.noted.len() >= MISTAKES_MAX {
            return;
        }
        let path = path.into();
        let inside = |noted: &str| {
            let rest = noted.strip_prefix(path.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        if !self.noted.iter().any(|(noted, _)| inside(noted)) {
            self.noted.push((path, message.into()));
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.noted.is_empty()
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (path, message)) in self.noted.iter().enumerate() {
            let separator = if n == 0 { "" } else { "; " };
            let colon = if path.is_empty() { "" } else { ": " };
            write!(f, "{separator}{path}{colon}{message}")?;
        }
        Ok(())
    }
}

/// Mistakes noted of one document, so that one of nothing but mistakes costs little.
pub(super) const MISTAKES_MAX: usize = 100;

/// Reads a form; what is wrong in it is noted and left out. `None` when there is no form at all,
/// which is noted too.
pub(super) fn form(
    mut value: Value,
    unknown: UnknownFields,
    mistakes: &mut Mistakes,
) -> Option<EndpointForm> {
    if value.is_array() {
        mistakes.push("", describe("expected the fields of an endpoint", &value));
        return None;
    }
    take_lists_for_fields(&mut value, mistakes);
    for _ in 0..unknown.reads_max() {
        let mut ignored = Vec::new();
        let mut note = |path: serde_ignored::Path<'_>| {
            if unknown == UnknownFields::Refuse && ignored.len() < MISTAKES_MAX {
                ignored.push(path_text(&path));
            }
        };
        let mut track = serde_path_to_error::Track::new();
        let deserializer = serde_ignored::Deserializer::new(&value, &mut note);
        let tracked = serde_path_to_error::Deserializer::new(deserializer, &mut track);
        let result = EndpointForm::deserialize(tracked);
        match result {
            Ok(form) => {
                for path in ignored {
                    mistakes.push(path, "there is no such field");
                }
                return Some(form);
            }
            Err(error) => {
                let path = track.path();
                let segments: Vec<&Segment> = path.iter().collect();
                let (text, found) = look_up(&value, &segments);
                mistakes.push(text, describe(&error.to_string(), found));
                if !remove(&mut value, &segments) {
                    return None;
                }
            }
        }
    }
    None
}

/// Fields whose value is named fields, not a list.
const LISTS: [(Option<&str>, &str, &str); 7] = [
    (None, "auth", "basic, bearer, oauth2 or mtls"),
    (Some("auth"), "basic", "username and password"),
    (Some("auth"), "bearer", "token"),
    (
        Some("auth"),
        "oauth2",
        "token_url, client_id and client_secret",
    ),
    (Some("auth"), "mtls", "certificate and key"),
    (None, "tls", "ca"),
    (None, "success", "status and body_contains"),
];

/// Serde takes a list for a struct, its items in the order of the fields; a person who writes one
/// means something else.
fn take_lists_for_fields(value: &mut Value, mistakes: &mut Mistakes) {
    if value.get("rate_limit").is_some_and(Value::is_array) {
        mistakes.push("rate_limit", "expected attempts and per, found a list");
        value["rate_limit"] = Value::Null;
    }
    for (parent, name, expected) in LISTS {
        let found = match parent {
            Some(parent) => value
                .get_mut(parent)
                .and_then(|parent| parent.get_mut(name)),
            None => value.get_mut(name),
        };
        if let Some(found) = found.filter(|found| found.is_array()) {
            let path = parent.map_or_else(|| name.to_owned(), |parent| format!("{parent}.{name}"));
            mistakes.push(path, format!("expected {expected}, found a list"));
            *found = Value::Null;
        }
    }
    let Some(Value::Object(signing)) = value.get_mut("signing") else {
        if value.get("signing").is_some_and(Value::is_array) {
            mistakes.push("signing", "expected scheme and secrets, found a list");
            value["signing"] = Value::Null;
        }
        return;
    };
    let mut refuse_list = |found: Option<&mut Value>, path: &str, expected: &str| {
        if let Some(found) = found.filter(|found| found.is_array()) {
            mistakes.push(path, format!("expected {expected}, found a list"));
            *found = Value::Null;
        }
    };
    let jws = signing.get_mut("jws");
    refuse_list(jws, "signing.jws", "b64 and open_banking");
    let bank = signing
        .get_mut("jws")
        .and_then(|jws| jws.get_mut("open_banking"));
    let path = "signing.jws.open_banking";
    refuse_list(bank, path, "issuer and trust_anchor");
    let secrets = signing.get("secrets").and_then(Value::as_array);
    let list = secrets.and_then(|secrets| secrets.iter().position(Value::is_array));
    if let Some(n) = list {
        let path = format!("signing.secrets[{n}]");
        mistakes.push(path, "expected id and value, found a list");
        signing.remove("secrets");
    }
}

/// What serde says, without the value it found (it may be a secret).
fn describe(error: &str, found: &Value) -> String {
    let expected = match error.rsplit_once("expected ") {
        Some((_, "u64")) => "a whole number",
        Some((_, "f64")) => "a number",
        Some((_, "a sequence")) => "a list",
        Some((_, "a map")) => "names and values",
        Some((_, expected)) => expected,
        None => "another value",
    };
    let found = match found {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(number) if number.is_f64() => "a number with a fraction",
        Value::Number(number) if number.is_i64() && !number.is_u64() => "a negative number",
        Value::Number(_) => "a number (quote it to make it a string)",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "names and values",
    };
    format!("expected {expected}, found {found}")
}

/// The path as text, and what is there.
fn look_up<'a>(root: &'a Value, segments: &[&Segment]) -> (String, &'a Value) {
    let mut text = String::new();
    let mut value = root;
    for segment in segments {
        match segment {
            Segment::Seq { index } => {
                text.push_str(&format!("[{index}]"));
                value = value.get(index).unwrap_or(&Value::Null);
            }
            Segment::Map { key } => {
                push_name(&mut text, key);
                value = value.get(key).unwrap_or(&Value::Null);
            }
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    (text, value)
}

/// Takes out the innermost field on the path, the whole list where the mistake is in an item of
/// one. `false` when there is none.
fn remove(root: &mut Value, segments: &[&Segment]) -> bool {
    let is_field = |segment: &&Segment| matches!(segment, Segment::Map { .. });
    let Some(last) = segments.iter().rposition(is_field) else {
        return false;
    };
    let mut value = root;
    for segment in &segments[..last] {
        let next = match segment {
            Segment::Seq { index } => value.get_mut(index),
            Segment::Map { key } => value.get_mut(key),
            Segment::Enum { .. } | Segment::Unknown => return false,
        };
        let Some(next) = next else { return false };
        value = next;
    }
    match (value, segments[last]) {
        (Value::Object(fields), Segment::Map { key }) => fields.remove(key).is_some(),
        _ => false,
    }
}

fn path_text(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", path_text(parent)),
        Path::Map { parent, key } => {
            let mut text = path_text(parent);
            push_name(&mut text, key);
            text
        }
        Path::Some { parent }
        | Path::NewtypeStruct { parent }
        | Path::NewtypeVariant { parent } => path_text(parent),
    }
}

/// A name as a path shows it: whoever forgets a colon makes a name of a secret.
pub(super) fn name_shown(name: &str) -> &str {
    const BYTES_MAX: usize = 32;
    let clean = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name.len() <= BYTES_MAX && name.bytes().all(clean) {
        name
    } else {
        "…"
    }
}

fn push_name(path: &mut String, name: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(name_shown(name));
}
