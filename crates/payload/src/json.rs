//! JSON as a tree that keeps numbers as they are written: `10.50` is not `10.5`, and twenty digits
//! are twenty digits.
//!
//! Decides how deep and how large a tree may be. Leaves what is made of it to `form` and `template`.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::Unrenderable;

/// Deepest nesting. Each level is read again by the one above it, and what walks a tree recurses.
const DEPTH_MAX: usize = 32;

/// Most values, lists and objects included. In memory each takes up to 100 bytes.
const VALUES_MAX: usize = 100_000;

/// A JSON value.
#[derive(Debug, PartialEq)]
pub(crate) enum Json<'a> {
    Null,
    Bool(bool),
    /// Its text.
    Number(&'a str),
    Text(Cow<'a, str>),
    List(Vec<Self>),
    /// In the order of the text; of members with the same name the last.
    Object(Vec<(Cow<'a, str>, Self)>),
}

/// Reads the data of an event.
pub(crate) fn parse(data: &[u8]) -> Result<Json<'_>, Unrenderable> {
    let raw: &RawValue = serde_json::from_slice(data).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        Unrenderable::new(format!(
            "the data is not JSON (line {line}, column {column}), which this format is made of"
        ))
    })?;
    let mut left = VALUES_MAX;
    value(raw, 0, &mut left)
}

fn value<'a>(raw: &'a RawValue, depth: usize, left: &mut usize) -> Result<Json<'a>, Unrenderable> {
    if depth > DEPTH_MAX {
        return Err(Unrenderable::new(format!(
            "the data is nested more than {DEPTH_MAX} deep"
        )));
    }
    *left = left
        .checked_sub(1)
        .ok_or_else(|| Unrenderable::new(format!("the data has more than {VALUES_MAX} values")))?;
    let text = raw.get();
    Ok(match text.as_bytes().first() {
        Some(b'n') => Json::Null,
        Some(b't') => Json::Bool(true),
        Some(b'f') => Json::Bool(false),
        Some(b'"') => Json::Text(string(text)?),
        Some(b'[') => {
            let mut items = Vec::new();
            for item in elements(raw, *left)? {
                items.push(value(item, depth + 1, left)?);
            }
            Json::List(items)
        }
        Some(b'{') => {
            let mut fields: Vec<(Cow<'a, str>, Json<'a>)> = Vec::new();
            for (name, member) in members(raw, *left)? {
                fields.push((name, value(member, depth + 1, left)?));
            }
            last_of_each(&mut fields);
            Json::Object(fields)
        }
        _ => Json::Number(text),
    })
}

/// Keeps the last of members with the same name.
fn last_of_each(fields: &mut Vec<(Cow<'_, str>, Json<'_>)>) {
    let mut seen = BTreeSet::new();
    let mut is_last: Vec<bool> = fields
        .iter()
        .rev()
        .map(|(name, _)| seen.insert(name))
        .collect();
    drop(seen);
    fields.retain(|_| is_last.pop().unwrap_or(true));
}

fn string(text: &str) -> Result<Cow<'_, str>, Unrenderable> {
    let text: Result<Text<'_>, _> = serde_json::from_str(text);
    text.map(|text| text.0).map_err(|_| not_text())
}

fn not_text() -> Unrenderable {
    Unrenderable::new("the data has a string whose escapes form no Unicode text")
}

/// A string, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// One more than `max` at most, so that its caller sees that there are too many.
fn elements(list: &RawValue, max: usize) -> Result<Vec<&RawValue>, Unrenderable> {
    let visited = serde_json::Deserializer::from_str(list.get()).deserialize_seq(Elements(max));
    visited.map_err(|_| not_text())
}

fn members(object: &RawValue, max: usize) -> Result<Members<'_>, Unrenderable> {
    let visited = serde_json::Deserializer::from_str(object.get()).deserialize_map(Fields(max));
    visited.map_err(|_| not_text())
}

type Members<'a> = Vec<(Cow<'a, str>, &'a RawValue)>;

struct Elements(usize);

impl<'de> Visitor<'de> for Elements {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            if items.len() <= self.0 {
                items.push(item);
            }
        }
        Ok(items)
    }
}

struct Fields(usize);

impl<'de> Visitor<'de> for Fields {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some((name, value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
            if fields.len() <= self.0 {
                fields.push((name.0, value));
            }
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_text_and_members_their_order() {
        let json = parse(br#" {"b":10.50,"a":[null,true,"\u00e9"],"b":12345678901234567890.1} "#);
        let expected = Json::Object(vec![
            (
                "a".into(),
                Json::List(vec![Json::Null, Json::Bool(true), Json::Text("é".into())]),
            ),
            ("b".into(), Json::Number("12345678901234567890.1")),
        ]);
        assert_eq!(json, Ok(expected));
    }

    #[test]
    fn what_is_too_deep_too_large_or_no_json_is_refused() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(parse(nested(DEPTH_MAX + 1).as_bytes()).is_ok());
        for (data, said) in [
            (nested(DEPTH_MAX + 2), "deep"),
            (nested(500_000), "deep"),
            (format!("[{}0]", "0,".repeat(VALUES_MAX)), "values"),
            (format!("[{}0]", "[],".repeat(VALUES_MAX)), "values"),
            (String::new(), "not JSON"),
            ("{".to_owned(), "not JSON"),
            (r#"["\ud800"]"#.to_owned(), "Unicode"),
            (r#"{"\ud800":1}"#.to_owned(), "Unicode"),
        ] {
            let refused = parse(data.as_bytes()).unwrap_err().to_string();
            assert!(refused.contains(said), "{refused}");
        }
    }
}
