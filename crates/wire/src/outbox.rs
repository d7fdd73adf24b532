//! A row of an outbox table, as Debezium's outbox event router writes it, as an event.
//!
//! Decides where the attributes of such a record are (`id` in a header, the aggregate's id as key,
//! the type in a header or in the topic's name), what a mapping of the source changes, and which
//! wrappings of Kafka Connect's JSON converter are taken off. Leaves bounds to `attributes`.
//!
//! Source: Debezium's documentation of the outbox event router. The converter is the connector's
//! setting, not the record's, so each of its forms is recognised: text as it is, text as a JSON
//! string, and `{"schema":…,"payload":…}`.

use std::borrow::Cow;

use bytes::Bytes;
use postrider_domain::{Event, Record};
use serde_json::value::RawValue;

use crate::attributes::{Attributes, traceparent, utf8};
use crate::event::{ENVELOPE_BYTES_MAX, Undeliverable};
use crate::json;
use crate::mapping::FieldRef;

/// What a source's mapping changes; `None` = where the outbox event router puts it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutboxMapping {
    /// `type`; by itself header `eventType`, else header `type`, else what follows
    /// `outbox.event.` in the topic's name.
    pub event_type: Option<FieldRef>,
    /// `id`; by itself header `id`.
    pub id: Option<FieldRef>,
    /// `tenant`; by itself header `tenant`, else the default tenant.
    pub tenant: Option<FieldRef>,
    /// `time`; by itself none.
    pub time: Option<FieldRef>,
    /// `ordering_key`; by itself the record's key, which is the aggregate's id.
    pub ordering_key: Option<FieldRef>,
}

impl OutboxMapping {
    /// Whether any of it is the key.
    pub(crate) fn reads_key(&self) -> bool {
        let mapped = [&self.event_type, &self.id, &self.tenant, &self.time];
        let mut mapped = mapped.into_iter().chain([&self.ordering_key]).flatten();
        self.ordering_key.is_none() || mapped.any(FieldRef::is_key)
    }
}

/// What Debezium calls its topics, before the type of the aggregate.
const TOPIC: &str = "outbox.event.";

/// Whether a record says of itself that an outbox event router wrote it: the topic's name and a
/// UUID in the header `id`.
pub(crate) fn is_one(record: &Record) -> bool {
    let id = record.header("id").and_then(|id| str::from_utf8(id).ok());
    let id = id.and_then(|id| plain(id.into()));
    let is_uuid = |id: Cow<'_, str>| {
        id.len() == 36
            && id.bytes().enumerate().all(|(at, b)| match at {
                8 | 13 | 18 | 23 => b == b'-',
                _ => b.is_ascii_hexdigit(),
            })
    };
    aggregate_type(&record.origin.topic).is_some() && id.is_some_and(is_uuid)
}

/// # Errors
/// `undecodable` without an id, `unmappable` without a type or without a tenant that is asked for.
pub(crate) fn decode(record: &Record, mapping: &OutboxMapping) -> Result<Event, Undeliverable> {
    let data = payload(record.value.as_ref())?;
    let body = json::parse(&data).ok();
    let header = |name: &str| match record.header(name) {
        None => Ok(None),
        Some(value) => Ok(plain(utf8(name, value)?.into())),
    };
    let mapped = |field: &FieldRef| {
        let found = field.read(record, body)?;
        Ok::<_, Undeliverable>(if field.is_pointer() {
            found
        } else {
            found.and_then(plain)
        })
    };
    let some = |text: &Cow<'_, str>| !text.is_empty();
    let id = match &mapping.id {
        Some(field) => mapped(field)?,
        None => header("id")?,
    };
    let Some(id) = id.filter(some) else {
        let place = mapping.id.as_ref().map_or_else(
            || "the header id, where Debezium's outbox event router puts the event's UUID".into(),
            ToString::to_string,
        );
        return Err(Undeliverable::undecodable(format!(
            "not a record of an outbox: looked for its id at {place}"
        )));
    };
    let event_type = match &mapping.event_type {
        Some(field) => mapped(field)?,
        None => match header("eventType")?.filter(some) {
            Some(found) => Some(found),
            None => header("type")?
                .filter(some)
                .or_else(|| aggregate_type(&record.origin.topic).map(Into::into)),
        },
    };
    let Some(event_type) = event_type.filter(some) else {
        let place = mapping.event_type.as_ref().map_or_else(
            || format!("the headers eventType and type, and in the topic's name after {TOPIC}"),
            ToString::to_string,
        );
        return Err(Undeliverable::unmappable(format!(
            "no type: looked at {place}"
        )));
    };
    let tenant = match &mapping.tenant {
        None => header("tenant")?,
        Some(field) => match mapped(field)?.filter(some) {
            Some(tenant) => Some(tenant),
            None => {
                return Err(Undeliverable::unmappable(format!(
                    "no tenant: there is nothing at {field}"
                )));
            }
        },
    };
    let time = match &mapping.time {
        Some(field) => mapped(field)?,
        None => None,
    };
    let ordering_key = match &mapping.ordering_key {
        Some(field) => mapped(field)?,
        None => record.key.as_deref().and_then(aggregate_id),
    };
    let content_type = match header("content-type")? {
        Some(text) => Some(text),
        None => body.map(|_| "application/json".into()),
    };
    let attributes = Attributes {
        event_type: Some(event_type.into()),
        id: Some(id.into()),
        tenant: tenant.map(Into::into),
        time: time.map(Into::into),
        ordering_key: ordering_key.map(Into::into),
        content_type: content_type.map(Into::into),
        traceparent: header("traceparent")?.and_then(|text| traceparent(text.as_bytes())),
        ..Attributes::default()
    };
    attributes.into_event(record, data.clone())
}

/// The aggregate's id, by the key. One that is not text is told by its digits, so that deliveries are
/// kept in order by it all the same.
fn aggregate_id(key: &[u8]) -> Option<Cow<'_, str>> {
    match str::from_utf8(key) {
        Ok(text) => plain(text.into()),
        Err(_) => {
            let digits = key.iter().map(|byte| format!("{byte:02x}"));
            Some(Cow::Owned(digits.collect()))
        }
    }
}

/// The type of the aggregate, by the topic's name.
fn aggregate_type(topic: &str) -> Option<&str> {
    let (before, aggregate) = topic.split_once(TOPIC)?;
    let whole_words = before.is_empty() || before.ends_with('.');
    (whole_words && !aggregate.is_empty()).then_some(aggregate)
}

/// The column `payload`: what is in the envelope, and of a JSON string the object or array that is
/// its text. Anything else, JSON or not, is forwarded as it stands. A null value is an event without
/// data: the router writes it for a row whose payload is empty.
fn payload(value: Option<&Bytes>) -> Result<Bytes, Undeliverable> {
    let Some(value) = value else {
        return Ok(Bytes::new());
    };
    if value.len() > ENVELOPE_BYTES_MAX {
        return Err(Undeliverable::oversized(format!(
            "a value of {} bytes, at most {ENVELOPE_BYTES_MAX} are read",
            value.len()
        )));
    }
    let Ok(whole) = json::parse(value) else {
        return Ok(value.clone());
    };
    let wrapped = enveloped(whole);
    let inner = wrapped.unwrap_or(whole);
    if inner.get().starts_with('"') {
        let text = json::scalar(inner).ok().flatten().unwrap_or_default();
        let compound = text.trim_start().starts_with(['{', '[']);
        if wrapped.is_some() || (compound && json::parse(text.as_bytes()).is_ok()) {
            return Ok(Bytes::copy_from_slice(text.as_bytes()));
        }
    }
    Ok(match wrapped {
        None => value.clone(),
        Some(null) if null.get() == "null" => Bytes::new(),
        Some(inner) => value.slice_ref(inner.get().as_bytes()),
    })
}

/// A header's or key's text without what a JSON converter puts around it; `None` for a null.
fn plain(text: Cow<'_, str>) -> Option<Cow<'_, str>> {
    if !text.starts_with(['"', '{']) {
        return Some(text);
    }
    let inner = json::parse(text.as_bytes()).ok().and_then(|raw| {
        let inner = enveloped(raw).or_else(|| text.starts_with('"').then_some(raw))?;
        json::scalar(inner)
            .ok()
            .map(|text| text.map(Cow::into_owned))
    });
    match inner {
        Some(inner) => inner.map(Cow::Owned),
        None => Some(text),
    }
}

/// What is in the JSON converter's envelope: an object of exactly `schema`, an object or null, and
/// `payload`.
fn enveloped(raw: &RawValue) -> Option<&RawValue> {
    if !json::is_object(raw) {
        return None;
    }
    let (mut schema, mut payload, mut members) = (false, None, 0);
    json::members(raw, |name, value| {
        members += 1;
        match name {
            "schema" => schema = value.get().starts_with(['{', 'n']),
            "payload" => payload = Some(value),
            _ => {}
        }
    })
    .ok()?;
    payload.filter(|_| schema && members == 2)
}

#[cfg(test)]
mod tests;
