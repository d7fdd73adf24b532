//! A delivery as a record, and back (`docs/reference/records.md`).
//!
//! Decides the headers and the derivation of the delivery id (ADR 0004). Leaves which topic a
//! delivery is written to, and when, to `engine`.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use postrider_domain::{Delivery, DeliveryId, EndpointId, Event, NewRecord, Record, Timestamp};
use sha2::{Digest, Sha256};

use crate::attributes::{Attributes, clip, utf8};
use crate::event::Undeliverable;

/// The version of the record form that is written, and the only one that is read.
const VERSION: &str = "1";

/// The id of an event's delivery to an endpoint: the first 16 bytes of SHA-256 over source, event
/// id and endpoint id, each preceded by its length in 8 bytes, big endian, so that no two triples
/// are one text. The same triple always gives the same id, and with it the same `webhook-id`.
#[must_use]
pub fn delivery_id(source: &str, event_id: &str, endpoint: &EndpointId) -> DeliveryId {
    let mut hash = Sha256::new();
    for part in [source, event_id, endpoint.as_str()] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest: [u8; 32] = hash.finalize().into();
    DeliveryId::from_bytes(std::array::from_fn(|i| digest[i]))
}

/// The record of a delivery after `attempts` attempts, due at `due` (rounded up to milliseconds,
/// so that it is never early). The data is shared, not copied.
#[must_use]
pub fn encode(
    delivery: &Delivery,
    attempts: u32,
    due: Option<Timestamp>,
    topic: Arc<str>,
    partition: i32,
) -> NewRecord {
    NewRecord {
        topic,
        partition,
        key: Some(text(delivery.endpoint.as_str())),
        value: Some(delivery.event.data.clone()),
        headers: headers(delivery, attempts, due),
    }
}

/// Reads a delivery.
///
/// # Errors
/// [`Undeliverable`] with `undecodable` when a header is missing, malformed, or of another version.
pub fn decode(record: &Record) -> Result<Delivery, Undeliverable> {
    let mut read = Headers::default();
    for (header, value) in &record.headers {
        if let Some(value) = value {
            read.take(header, value)?;
        }
    }
    read.into_delivery(record)
}

/// Room for the values of all headers, in most cases.
const HEADER_BYTES_USUAL: usize = 512;

/// A header as it is written.
pub(crate) type Header = (Cow<'static, str>, Option<Bytes>);

pub(crate) fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn headers(delivery: &Delivery, attempts: u32, due: Option<Timestamp>) -> Vec<Header> {
    let event = &delivery.event;
    let mut headers: Vec<Header> = Vec::with_capacity(16 + event.extensions.len());
    // all values in one piece of memory
    let mut shared = BytesMut::with_capacity(HEADER_BYTES_USUAL);
    let mut value = |text: fmt::Arguments<'_>| {
        shared.write_fmt(text).expect("it grows");
        shared.split().freeze()
    };
    let mut put =
        |name: &'static str, value: Bytes| headers.push((Cow::Borrowed(name), Some(value)));
    put("pr_v", Bytes::from_static(VERSION.as_bytes()));
    put("pr_delivery", value(format_args!("{}", delivery.id)));
    put("pr_endpoint", value(format_args!("{}", delivery.endpoint)));
    put("pr_attempt", value(format_args!("{attempts}")));
    if let Some(due) = due {
        let millis = due.as_micros().div_ceil(1_000);
        put("pr_due", value(format_args!("{millis}")));
    }
    if delivery.test {
        put("pr_test", Bytes::from_static(b"1"));
    }
    let accepted = event.accepted_at.as_millis();
    put("pr_accepted", value(format_args!("{accepted}")));
    put("ce_specversion", Bytes::from_static(b"1.0"));
    put("ce_id", value(format_args!("{}", event.id)));
    put("ce_source", value(format_args!("{}", event.source)));
    put("ce_type", value(format_args!("{}", event.event_type)));
    put("ce_tenant", value(format_args!("{}", event.tenant)));
    let optional = [
        ("ce_time", &event.time),
        ("ce_partitionkey", &event.ordering_key),
        ("content-type", &event.content_type),
        ("traceparent", &event.traceparent),
    ];
    for (name, text) in optional {
        if let Some(text) = text {
            put(name, value(format_args!("{text}")));
        }
    }
    for (name, text) in &event.extensions {
        let value = value(format_args!("{text}"));
        headers.push((Cow::Owned(format!("ce_{name}")), Some(value)));
    }
    headers
}

/// The headers of a delivery record, each the last of its name.
#[derive(Default)]
struct Headers {
    version: bool,
    id: Option<DeliveryId>,
    endpoint: Option<EndpointId>,
    attempts: Option<u32>,
    due: Option<Timestamp>,
    test: bool,
    accepted_at: Option<Timestamp>,
    attributes: Attributes,
}

impl Headers {
    fn take(&mut self, header: &str, value: &Bytes) -> Result<(), Undeliverable> {
        match header {
            "pr_v" => {
                let version = utf8(header, value)?;
                if version != VERSION {
                    return Err(Undeliverable::undecodable(format!(
                        "a delivery of version {:?}, this reads {VERSION}; upgrade first",
                        clip(version)
                    )));
                }
                self.version = true;
            }
            "pr_delivery" => self.id = Some(parse(header, value)?),
            "pr_endpoint" => self.endpoint = Some(parse(header, value)?),
            "pr_attempt" => self.attempts = Some(parse(header, value)?),
            "pr_due" => self.due = Some(Timestamp::from_millis(parse(header, value)?)),
            "pr_test" => self.test = utf8(header, value)? == "1",
            "pr_accepted" => self.accepted_at = Some(Timestamp::from_millis(parse(header, value)?)),
            "content-type" => {
                self.attributes.content_type = Some(utf8(header, value)?.into());
            }
            "traceparent" => self.attributes.traceparent = Some(utf8(header, value)?.into()),
            _ => {
                if let Some(name) = header.strip_prefix("ce_") {
                    self.attributes.set(name, utf8(header, value)?)?;
                }
            }
        }
        Ok(())
    }

    fn into_delivery(self, record: &Record) -> Result<Delivery, Undeliverable> {
        if !self.version {
            return Err(missing("pr_v"));
        }
        let endpoint = self.endpoint.ok_or_else(|| missing("pr_endpoint"))?;
        if record.key.as_deref() != Some(endpoint.as_str().as_bytes()) {
            return Err(Undeliverable::undecodable(format!(
                "the key is not the endpoint id of pr_endpoint, {endpoint}"
            )));
        }
        let attributes = self.attributes;
        let tenant = attributes.tenant.ok_or_else(|| missing("ce_tenant"))?;
        Ok(Delivery {
            id: self.id.ok_or_else(|| missing("pr_delivery"))?,
            endpoint,
            event: Event {
                id: attributes.id.ok_or_else(|| missing("ce_id"))?,
                source: attributes.source.ok_or_else(|| missing("ce_source"))?,
                event_type: attributes.event_type.ok_or_else(|| missing("ce_type"))?,
                tenant: parse("ce_tenant", tenant.as_bytes())?,
                time: attributes.time,
                ordering_key: attributes.ordering_key,
                content_type: attributes.content_type,
                traceparent: attributes.traceparent,
                extensions: attributes.extensions,
                data: record.value.clone().unwrap_or_default(),
                accepted_at: self.accepted_at.ok_or_else(|| missing("pr_accepted"))?,
            },
            attempts: self.attempts.ok_or_else(|| missing("pr_attempt"))?,
            due: self.due,
            test: self.test,
        })
    }
}

fn missing(header: &str) -> Undeliverable {
    Undeliverable::undecodable(format!("not a delivery: header {header} is missing"))
}

fn parse<T: std::str::FromStr<Err: fmt::Display>>(
    header: &str,
    value: &[u8],
) -> Result<T, Undeliverable> {
    let text = utf8(header, value)?;
    text.parse()
        .map_err(|error| Undeliverable::undecodable(format!("header {header}: {error}")))
}

#[cfg(test)]
mod tests;
