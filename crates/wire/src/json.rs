//! Reading parts of a JSON text without building a tree of it.
//!
//! Decides how hostile JSON is met: nothing here recurses or allocates by the depth or the number
//! of members of the input. What a part means is its caller's.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// A JSON text, checked to be one.
pub(crate) fn parse(bytes: &[u8]) -> Result<&RawValue, serde_json::Error> {
    serde_json::from_slice(bytes)
}

/// Whether the value is an object.
pub(crate) fn is_object(raw: &RawValue) -> bool {
    raw.get().starts_with('{')
}

/// Calls `each` with every member of an object, in order, repeated names included. A name whose
/// escapes do not form a text ends it with an error.
pub(crate) fn members<'a>(
    object: &'a RawValue,
    each: impl FnMut(&str, &'a RawValue),
) -> Result<(), serde_json::Error> {
    serde_json::Deserializer::from_str(object.get()).deserialize_map(Members(each))
}

/// The value a JSON pointer (RFC 6901), already cut into unescaped tokens, leads to. Of members
/// with the same name the last counts, as in most parsers.
pub(crate) fn find<'a>(root: &'a RawValue, tokens: &[Box<str>]) -> Option<&'a RawValue> {
    tokens.iter().try_fold(root, |raw, token| child(raw, token))
}

/// What is no text, number or boolean.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotScalar {
    /// An object or an array.
    Compound,
    /// A string with escapes that form no text, such as half a surrogate pair.
    NotText,
}

impl fmt::Display for NotScalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Compound => "is an object or array, expected a string, number or boolean",
            Self::NotText => "is a string whose escapes form no Unicode text",
        })
    }
}

/// A scalar as text: strings as they are, numbers and booleans by their JSON text, `None` for null.
pub(crate) fn scalar(raw: &RawValue) -> Result<Option<Cow<'_, str>>, NotScalar> {
    match raw.get().as_bytes().first() {
        Some(b'"') => match serde_json::from_str::<Text<'_>>(raw.get()) {
            Ok(text) => Ok(Some(text.0)),
            Err(_) => Err(NotScalar::NotText),
        },
        Some(b'{' | b'[') => Err(NotScalar::Compound),
        Some(b'n') => Ok(None),
        _ => Ok(Some(Cow::Borrowed(raw.get()))),
    }
}

fn child<'a>(raw: &'a RawValue, token: &str) -> Option<&'a RawValue> {
    let mut found = None;
    let scanned = match raw.get().as_bytes().first() {
        Some(b'{') => members(raw, |name, value| {
            if name == token {
                found = Some(value);
            }
        }),
        Some(b'[') => {
            let leading_zero = token.len() > 1 && token.starts_with('0');
            let digits = token.bytes().all(|b| b.is_ascii_digit());
            if leading_zero || !digits {
                return None;
            }
            let index = token.parse().ok()?;
            serde_json::Deserializer::from_str(raw.get())
                .deserialize_seq(Element(index))
                .map(|value| found = value)
        }
        _ => return None,
    };
    scanned.ok().and(found)
}

/// A string, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

struct Members<F>(F);

impl<'de, F: FnMut(&str, &'de RawValue)> Visitor<'de> for Members<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some((name, value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
            (self.0)(&name.0, value);
        }
        Ok(())
    }
}

struct Element(usize);

impl<'de> Visitor<'de> for Element {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        for _ in 0..self.0 {
            if seq.next_element::<IgnoredAny>()?.is_none() {
                return Ok(None);
            }
        }
        let found = seq.next_element()?;
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at<'a>(text: &'a str, tokens: &[&str]) -> Option<&'a str> {
        let tokens: Vec<Box<str>> = tokens.iter().map(|&token| token.into()).collect();
        find(parse(text.as_bytes()).unwrap(), &tokens).map(RawValue::get)
    }

    #[test]
    fn a_pointer_leads_to_a_part() {
        let text =
            r#" {"a": {"b": [1, "x", {"c": 1.50}]}, "a/b": 2, "d": 1, "d": 2, "\u0065": 3} "#;
        assert_eq!(at(text, &["a", "b", "2", "c"]), Some("1.50"));
        assert_eq!(at(text, &["a/b"]), Some("2"));
        assert_eq!(at(text, &["d"]), Some("2"));
        assert_eq!(at(text, &["e"]), Some("3"));
        for missing in [
            &["x"][..],
            &["a", "b", "3"],
            &["a", "b", "-"],
            &["a", "b", "01"],
        ] {
            assert_eq!(at(text, missing), None, "{missing:?}");
        }
        assert_eq!(at(text, &["d", "x"]), None);
        assert!(at("[1,2]", &["18446744073709551616"]).is_none());
    }

    #[test]
    fn depth_is_no_danger() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(500_000), "]".repeat(500_000));
        assert!(at(&deep, &["a", "0", "0"]).is_some());
        assert!(parse("[".repeat(500_000).as_bytes()).is_err());
    }

    #[test]
    fn scalars_are_their_text() {
        let text = |json: &'static str| scalar(parse(json.as_bytes()).unwrap());
        assert_eq!(text(r#""a\n""#), Ok(Some("a\n".into())));
        assert_eq!(
            text("12345678901234567890.10"),
            Ok(Some("12345678901234567890.10".into()))
        );
        assert_eq!(text("true"), Ok(Some("true".into())));
        assert_eq!(text("null"), Ok(None));
        assert_eq!(text("{}"), Err(NotScalar::Compound));
        assert_eq!(text(r#""\ud800""#), Err(NotScalar::NotText));
    }
}
