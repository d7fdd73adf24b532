//! Plain JSON as an event, by the mapping of its source, `sources.map`.
//!
//! Decides what a mapping may refer to and what a missing part means: a type or tenant that is
//! asked for and missing makes the record unmappable (an event must not reach the wrong merchant),
//! a missing id is derived, a missing time or ordering key is none.

use std::borrow::Cow;
use std::fmt;

use postrider_domain::{Event, Record};
use serde_json::value::RawValue;

use crate::attributes::{Attributes, clip, traceparent, utf8};
use crate::event::{Undeliverable, check_size};
use crate::json;

/// Where the attributes of an event are found in a JSON record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// `type`, which every event needs.
    pub event_type: FieldRef,
    /// `id`; `None` = derived from where the record was read.
    pub id: Option<FieldRef>,
    /// `tenant`; `None` = the default tenant.
    pub tenant: Option<FieldRef>,
    /// `time`, forwarded as it came.
    pub time: Option<FieldRef>,
    /// `ordering_key`.
    pub ordering_key: Option<FieldRef>,
}

impl Mapping {
    /// Whether any of it is the key.
    pub(crate) fn reads_key(&self) -> bool {
        let optional = [&self.id, &self.tenant, &self.time, &self.ordering_key];
        let optional = optional.into_iter().flatten();
        optional.chain([&self.event_type]).any(FieldRef::is_key)
    }
}

/// A part of a record: `header:NAME`, `key`, or a JSON pointer (RFC 6901) such as `/a/b` into its
/// value. Strings are taken as they are, numbers and booleans by their JSON text.
#[derive(Clone, PartialEq, Eq)]
pub struct FieldRef {
    text: Box<str>,
    place: Place,
}

#[derive(Clone, PartialEq, Eq)]
enum Place {
    Header(Box<str>),
    Key,
    Pointer(Box<[Box<str>]>),
}

/// Why a text refers to no part of a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected header:NAME, key, or a JSON pointer such as /data/id, found {0:?}")]
pub struct InvalidFieldRef(String);

impl FieldRef {
    /// Reads a reference.
    ///
    /// # Errors
    /// When it is none of the three forms, or a `~` in a pointer is not followed by `0` or `1`.
    pub fn parse(text: &str) -> Result<Self, InvalidFieldRef> {
        let invalid = || InvalidFieldRef(clip(text).to_owned());
        let place = if text == "key" {
            Place::Key
        } else if let Some(name) = text.strip_prefix("header:") {
            if name.is_empty() {
                return Err(invalid());
            }
            Place::Header(name.into())
        } else if let Some(pointer) = text.strip_prefix('/') {
            let tokens = pointer.split('/').map(unescape);
            Place::Pointer(tokens.collect::<Option<_>>().ok_or_else(invalid)?)
        } else {
            return Err(invalid());
        };
        Ok(Self {
            text: text.into(),
            place,
        })
    }

    pub(crate) const fn is_key(&self) -> bool {
        matches!(self.place, Place::Key)
    }

    /// Whether it leads into the value.
    pub(crate) const fn is_pointer(&self) -> bool {
        matches!(self.place, Place::Pointer(_))
    }

    /// What it refers to in this record, `None` when it is not there or null.
    ///
    /// Without a body, which is not JSON then, a pointer leads nowhere.
    pub(crate) fn read<'a>(
        &self,
        record: &'a Record,
        body: Option<&'a RawValue>,
    ) -> Result<Option<Cow<'a, str>>, Undeliverable> {
        let wrong = |what: &str| Undeliverable::unmappable(format!("{self} {what}"));
        let text = |bytes: &'a [u8]| {
            std::str::from_utf8(bytes)
                .map(Cow::Borrowed)
                .map_err(|_| wrong("is not UTF-8"))
        };
        match &self.place {
            Place::Header(name) => record.header(name).map(text).transpose(),
            Place::Key => record.key.as_deref().map(text).transpose(),
            Place::Pointer(tokens) => match body
                .and_then(|body| json::find(body, tokens))
                .map(json::scalar)
            {
                None => Ok(None),
                Some(Ok(found)) => Ok(found),
                Some(Err(not_scalar)) => Err(wrong(&not_scalar.to_string())),
            },
        }
    }
}

impl fmt::Display for FieldRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for FieldRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

pub(crate) fn decode(record: &Record, mapping: &Mapping) -> Result<Event, Undeliverable> {
    let Some(value) = &record.value else {
        return Err(Undeliverable::undecodable(
            "expected JSON, the value is null",
        ));
    };
    check_size(value.len())?;
    let body = json::parse(value)
        .map_err(|error| Undeliverable::undecodable(format!("the value is not JSON: {error}")))?;
    let optional = |field: &Option<FieldRef>| match field {
        None => Ok(None),
        Some(field) => field.read(record, Some(body)),
    };
    let required = |name: &str, field: &FieldRef| match field.read(record, Some(body))? {
        Some(text) if !text.is_empty() => Ok(text),
        _ => Err(Undeliverable::unmappable(format!(
            "no {name}: there is nothing at {field}"
        ))),
    };
    let tenant = match &mapping.tenant {
        None => None,
        Some(field) => Some(required("tenant", field)?.into()),
    };
    let content_type = match record.header("content-type") {
        Some(value) => utf8("content-type", value)?,
        None => "application/json",
    };
    let attributes = Attributes {
        event_type: Some(required("type", &mapping.event_type)?.into()),
        id: optional(&mapping.id)?.map(Into::into),
        tenant,
        time: optional(&mapping.time)?.map(Into::into),
        ordering_key: optional(&mapping.ordering_key)?.map(Into::into),
        content_type: Some(content_type.into()),
        traceparent: record.header("traceparent").and_then(traceparent),
        ..Attributes::default()
    };
    attributes.into_event(record, value.clone())
}

/// A pointer's token with `~1` and `~0` resolved.
fn unescape(token: &str) -> Option<Box<str>> {
    let mut parts = token.split('~');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = if let Some(rest) = part.strip_prefix('0') {
            text.push('~');
            rest
        } else {
            text.push('/');
            part.strip_prefix('1')?
        };
        text.push_str(rest);
    }
    Some(text.into())
}
