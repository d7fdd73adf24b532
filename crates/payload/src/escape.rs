//! How the values of a template stand in what it makes.
//!
//! Decides, by the content type, that no value can be more than a value: in JSON it is a JSON value,
//! in a form it is percent-encoded, in XML it is escaped. Anything else has its text as it is.

use std::fmt::Write as _;

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Output, State, Value};
use url::form_urlencoded::byte_serialize;

use crate::data::Exact;
use crate::filters::fault;
use crate::form;
use crate::media::{is_json, is_xml};

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Escape {
    Json,
    Form,
    Xml,
    Nothing,
}

/// Deepest nesting of a value that is written, as it is written by recursion.
const DEPTH_MAX: usize = 64;

impl Escape {
    pub(crate) fn of(content_type: &str) -> Self {
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        if is_json(content_type) {
            Self::Json
        } else if is_xml(content_type) {
            Self::Xml
        } else if media_type.eq_ignore_ascii_case(form::MEDIA_TYPE) {
            Self::Form
        } else {
            Self::Nothing
        }
    }

    /// Writes a value where a template prints one.
    pub(crate) fn write(
        self,
        out: &mut Output<'_>,
        state: &State<'_, '_>,
        value: &Value,
    ) -> Result<(), Error> {
        if self == Self::Json {
            // What `tojson` made is JSON already.
            let json = value.as_str().filter(|_| value.is_safe());
            return match json {
                Some(json) => Ok(out.write_str(json)?),
                None => Ok(out.write_str(&json_of(state, value)?)?),
            };
        }
        let text = text(value)?;
        match self {
            Self::Json | Self::Nothing => out.write_str(&text)?,
            Self::Form => {
                for part in byte_serialize(text.as_bytes()) {
                    out.write_str(part)?;
                }
            }
            Self::Xml => {
                for (n, part) in text.split_inclusive(SPECIAL).enumerate() {
                    debug_assert!(n == 0 || !part.is_empty(), "parts end with what parts them");
                    let (plain, special) = match part.char_indices().next_back() {
                        Some((at, last)) if SPECIAL.contains(&last) => (&part[..at], entity(last)),
                        _ => (part, ""),
                    };
                    out.write_str(plain)?;
                    out.write_str(special)?;
                }
            }
        }
        Ok(())
    }
}

const SPECIAL: [char; 5] = ['&', '<', '>', '"', '\''];

const fn entity(special: char) -> &'static str {
    match special {
        '&' => "&amp;",
        '<' => "&lt;",
        '>' => "&gt;",
        '"' => "&#34;",
        _ => "&#39;",
    }
}

/// The text of a value that has one; that of none is empty.
pub(crate) fn text(value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::Undefined => Err(Error::from(ErrorKind::UndefinedError)),
        ValueKind::None => Ok(String::new()),
        ValueKind::Number => number(value),
        ValueKind::Bool | ValueKind::String => Ok(value.to_string()),
        ValueKind::Bytes => Err(fault("bytes have no text: use hex or base64")),
        _ => match value.downcast_object_ref::<Exact>() {
            Some(Exact(text)) => Ok(text.to_string()),
            None => Err(fault("a list or an object has no text: use tojson")),
        },
    }
}

fn number(value: &Value) -> Result<String, Error> {
    if value.is_integer() {
        return Ok(value.to_string());
    }
    match f64::try_from(value.clone()) {
        Ok(number) if number.is_finite() => Ok(value.to_string()),
        _ => Err(fault("a number came out as infinite or as none")),
    }
}

/// A value as JSON.
pub(crate) fn json_of(state: &State<'_, '_>, value: &Value) -> Result<String, Error> {
    let mut json = String::new();
    push_json(state, value, 0, &mut json)?;
    Ok(json)
}

fn push_json(
    state: &State<'_, '_>,
    value: &Value,
    depth: usize,
    json: &mut String,
) -> Result<(), Error> {
    if depth > DEPTH_MAX {
        return Err(fault("a value is nested too deep for tojson"));
    }
    state.consume_fuel(1)?;
    match value.kind() {
        ValueKind::None => json.push_str("null"),
        ValueKind::Seq | ValueKind::Iterable => {
            json.push('[');
            for (n, item) in value.try_iter()?.enumerate() {
                json.push_str(if n == 0 { "" } else { "," });
                push_json(state, &item, depth + 1, json)?;
            }
            json.push(']');
        }
        ValueKind::Map => {
            json.push('{');
            for (n, name) in value.try_iter()?.enumerate() {
                json.push_str(if n == 0 { "" } else { "," });
                push_text(state, &text(&name)?, json)?;
                json.push(':');
                push_json(state, &value.get_item(&name)?, depth + 1, json)?;
            }
            json.push('}');
        }
        ValueKind::String => push_text(state, value.as_str().unwrap_or_default(), json)?,
        _ => json.push_str(&text(value)?),
    }
    Ok(())
}

fn push_text(state: &State<'_, '_>, text: &str, json: &mut String) -> Result<(), Error> {
    state.consume_fuel(text.len() as u64 / 64)?;
    let quoted = serde_json::to_string(text).expect("a text is JSON");
    Ok(json.write_str(&quoted)?)
}
