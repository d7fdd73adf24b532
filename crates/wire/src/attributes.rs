//! The attributes of an event while they are being read.
//!
//! Decides which attributes have a field of their own, their defaults and their bounds. Leaves
//! where they are read from to `cloudevents`, `mapping` and `delivery`.

use bytes::Bytes;
use postrider_domain::{Event, Record, Tenant};

use crate::event::{Undeliverable, check_size};

/// Most further attributes (`subject`, extensions) of an event.
const EXTENSIONS_MAX: usize = 128;

/// All attribute names and values of an event together, in bytes: with [`EXTENSIONS_MAX`] it keeps
/// a delivery record below the topics' limit.
const ATTRIBUTES_BYTES_MAX: usize = 64 << 10;

/// Longest content type; it becomes an HTTP header.
const CONTENT_TYPE_BYTES_MAX: usize = 256;

/// Attributes by name, the last of a repeated one.
#[derive(Default)]
pub(crate) struct Attributes {
    pub(crate) id: Option<Box<str>>,
    pub(crate) source: Option<Box<str>>,
    pub(crate) event_type: Option<Box<str>>,
    pub(crate) tenant: Option<Box<str>>,
    pub(crate) time: Option<Box<str>>,
    pub(crate) ordering_key: Option<Box<str>>,
    pub(crate) content_type: Option<Box<str>>,
    pub(crate) traceparent: Option<Box<str>>,
    pub(crate) extensions: Vec<(Box<str>, Box<str>)>,
}

impl Attributes {
    /// Sets the attribute a CloudEvent calls `name`. The content type is not one of them: each
    /// form has its own place for it.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<(), Undeliverable> {
        let known = match name {
            "specversion" if value.starts_with("1.") => return Ok(()),
            "specversion" => {
                return Err(Undeliverable::undecodable(format!(
                    "specversion is {:?}, this reads 1.0",
                    clip(value)
                )));
            }
            "id" => &mut self.id,
            "source" => &mut self.source,
            "type" => &mut self.event_type,
            "tenant" => &mut self.tenant,
            "time" => &mut self.time,
            "partitionkey" => &mut self.ordering_key,
            _ => return self.set_extension(name, value),
        };
        *known = Some(value.into());
        Ok(())
    }

    fn set_extension(&mut self, name: &str, value: &str) -> Result<(), Undeliverable> {
        if let Some((_, old)) = self.extensions.iter_mut().find(|(n, _)| &**n == name) {
            *old = value.into();
        } else if self.extensions.len() < EXTENSIONS_MAX {
            self.extensions.push((name.into(), value.into()));
        } else {
            return Err(Undeliverable::oversized(format!(
                "more than {EXTENSIONS_MAX} extension attributes"
            )));
        }
        Ok(())
    }

    /// The event these attributes make with `data`, defaults filled in from where it was read.
    /// An empty id, source or type counts as missing.
    pub(crate) fn into_event(self, record: &Record, data: Bytes) -> Result<Event, Undeliverable> {
        check_size(data.len())?;
        self.check_bounds()?;
        let some = |text: Option<Box<str>>| text.filter(|text| !text.is_empty());
        let Some(event_type) = some(self.event_type) else {
            return Err(Undeliverable::undecodable("the event has no type"));
        };
        let tenant = match &self.tenant {
            None => Tenant::default(),
            Some(tenant) => tenant
                .parse()
                .map_err(|invalid| Undeliverable::unmappable(format!("{invalid}")))?,
        };
        Ok(Event {
            id: some(self.id).unwrap_or_else(|| derived_id(record)),
            source: some(self.source).unwrap_or_else(|| (&*record.origin.topic).into()),
            event_type,
            tenant,
            time: self.time,
            ordering_key: some(self.ordering_key),
            content_type: self.content_type,
            traceparent: self.traceparent,
            extensions: self.extensions,
            data,
            accepted_at: record.timestamp,
        })
    }

    fn check_bounds(&self) -> Result<(), Undeliverable> {
        let fields = [
            &self.id,
            &self.source,
            &self.event_type,
            &self.tenant,
            &self.time,
            &self.ordering_key,
        ];
        let fields = fields.into_iter().flatten().map(|text| text.len());
        let extensions = self.extensions.iter().map(|(n, v)| n.len() + v.len());
        let bytes: usize = fields.chain(extensions).sum();
        if bytes > ATTRIBUTES_BYTES_MAX {
            return Err(Undeliverable::oversized(format!(
                "{bytes} bytes of attributes, at most {ATTRIBUTES_BYTES_MAX} are delivered"
            )));
        }
        let sendable = |text: &str| {
            text.len() <= CONTENT_TYPE_BYTES_MAX && text.bytes().all(|b| matches!(b, b' '..=b'~'))
        };
        match &self.content_type {
            Some(text) if !sendable(text) => Err(Undeliverable::undecodable(format!(
                "content type {:?} is longer than {CONTENT_TYPE_BYTES_MAX} bytes or not ASCII",
                clip(text)
            ))),
            _ => Ok(()),
        }
    }
}

/// An id for an event that brings none: where and when the log took it. The time is the record's
/// own, so that the same record always gives the same id, and a topic that was made anew does not
/// repeat those of its past.
fn derived_id(record: &Record) -> Box<str> {
    format!("{}@{}", record.origin, record.timestamp.as_millis()).into()
}

/// Whether CloudEvents allows the name for an attribute: lower-case letters and digits, not `data`.
pub(crate) fn is_attribute_name(name: &str) -> bool {
    let clean = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    !name.is_empty() && name != "data" && name.bytes().all(clean)
}

/// A `traceparent` by the form of W3C Trace Context; anything else is no trace and is left out, as
/// that specification asks.
pub(crate) fn traceparent(bytes: &[u8]) -> Option<Box<str>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    let well_formed = text.len() == 55
        && text.bytes().enumerate().all(|(at, b)| match at {
            2 | 35 | 52 => b == b'-',
            _ => hex(b),
        });
    well_formed.then(|| text.into())
}

/// The beginning of a text from outside, for a message.
pub(crate) fn clip(text: &str) -> &str {
    &text[..text.floor_char_boundary(80)]
}

/// A header's value as text.
pub(crate) fn utf8<'a>(name: &str, bytes: &'a [u8]) -> Result<&'a str, Undeliverable> {
    std::str::from_utf8(bytes)
        .map_err(|_| Undeliverable::undecodable(format!("header {:?} is not UTF-8", clip(name))))
}
