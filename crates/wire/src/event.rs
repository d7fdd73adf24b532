//! An intake record as an event (`docs/reference/records.md`).
//!
//! Decides which decoding a record gets and how large an event may be. Leaves the decodings
//! themselves to `cloudevents`, `mapping` and `outbox`, and what becomes of a record that is none to
//! `dead_letter`.

use bytes::Bytes;
use postrider_domain::{DeadLetterReason, Event, Record};

use crate::cloudevents::{self, Mode};
use crate::json;
use crate::mapping::{self, Mapping};
use crate::outbox::{self, OutboxMapping};

/// Largest data of an event, in bytes. Above it a record is `oversized`.
pub const EVENT_BYTES_MAX: usize = 1 << 20;

/// An envelope with the data in it is refused unread above this size: escapes and base64 blow data up
/// by at most 6.
pub(crate) const ENVELOPE_BYTES_MAX: usize = 8 * EVENT_BYTES_MAX;

/// Most headers of an intake record. Above it the record is `oversized`.
const HEADERS_MAX: usize = 1_000;

/// All header names and values of an intake record together, in bytes; as many as the attributes
/// of an event may have.
const HEADERS_BYTES_MAX: usize = 64 << 10;

/// How the records of a source are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodeRule {
    /// By what a record says of itself: CloudEvents structured or binary, else JSON with the
    /// mapping where there is one, else a row of an outbox.
    Auto(Option<Mapping>),
    /// CloudEvents, structured or binary.
    CloudEvents,
    /// JSON with a mapping, whatever the headers say.
    Json(Mapping),
    /// Rows of an outbox table, as Debezium's outbox event router writes them.
    Outbox(OutboxMapping),
}

/// Why a record can be delivered to nobody; it becomes a dead letter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Undeliverable {
    /// The reason, for the record and the metrics.
    pub reason: DeadLetterReason,
    /// The cause in words.
    pub message: String,
}

impl Undeliverable {
    /// Not what the rule asks for.
    pub fn undecodable(message: impl Into<String>) -> Self {
        Self {
            reason: DeadLetterReason::Undecodable,
            message: message.into(),
        }
    }

    pub(crate) fn unmappable(message: impl Into<String>) -> Self {
        Self {
            reason: DeadLetterReason::Unmappable,
            message: message.into(),
        }
    }

    /// Beyond a bound.
    pub fn oversized(message: impl Into<String>) -> Self {
        Self {
            reason: DeadLetterReason::Oversized,
            message: message.into(),
        }
    }
}

/// Reads an intake record. The event's data is the record's value, or a part of it, byte for byte
/// and without a copy (but for base64 and JSON strings, which are decoded).
///
/// Without an id one is derived from where the record was read, without a source it is the topic,
/// without a tenant it is [`Tenant::default`](postrider_domain::Tenant::default).
///
/// # Errors
/// [`Undeliverable`] with `undecodable` (not what the rule asks for), `unmappable` (no type by the
/// mapping, or a tenant that is none) or `oversized` (data above [`EVENT_BYTES_MAX`], attributes
/// or headers above 64 KiB, more than 128 extensions or 1 000 headers).
pub fn decode(record: &Record, rule: &DecodeRule) -> Result<Event, Undeliverable> {
    check_headers(record)?;
    match rule {
        DecodeRule::Json(mapping) => mapping::decode(record, mapping),
        DecodeRule::CloudEvents => match Mode::of(record) {
            Some(mode) => cloudevents::decode(record, mode),
            None => Err(Undeliverable::undecodable(
                "not a CloudEvent: looked for a content-type of application/cloudevents+json \
                 (structured) and for the headers ce_specversion, or ce_id and ce_type (binary)",
            )),
        },
        DecodeRule::Outbox(mapping) => outbox::decode(record, mapping),
        DecodeRule::Auto(mapping) => match (Mode::of(record), mapping) {
            (Some(mode), _) => cloudevents::decode(record, mode),
            (None, Some(mapping)) => mapping::decode(record, mapping),
            (None, None) if outbox::is_one(record) => {
                outbox::decode(record, &OutboxMapping::default())
            }
            (None, None) => Err(Undeliverable::undecodable(
                "not an event: looked for a content-type of application/cloudevents+json \
                 (structured), for the headers ce_specversion, or ce_id and ce_type (binary), for a \
                 JSON mapping of its source, which has none (sources.map), and for a topic \
                 outbox.event.… with a UUID in the header id (Debezium's outbox)",
            )),
        },
    }
}

/// Whether a value of this record may be framed for a schema registry, where it says that it is: the
/// data of a CloudEvent is what its content type says, whatever it begins with.
#[must_use]
pub fn takes_frames(record: &Record, rule: &DecodeRule) -> bool {
    match rule {
        DecodeRule::CloudEvents => false,
        DecodeRule::Json(_) | DecodeRule::Outbox(_) => true,
        DecodeRule::Auto(mapping) => {
            Mode::of(record).is_none() && (mapping.is_some() || outbox::is_one(record))
        }
    }
}

/// Whether the rule reads a record's key.
#[must_use]
pub fn reads_key(rule: &DecodeRule) -> bool {
    match rule {
        DecodeRule::CloudEvents => false,
        DecodeRule::Auto(Some(mapping)) | DecodeRule::Json(mapping) => mapping.reads_key(),
        DecodeRule::Auto(None) => true,
        DecodeRule::Outbox(mapping) => mapping.reads_key(),
    }
}

/// A record of which value or key were framed for a schema registry, with what was in the frames.
/// `value` is JSON, whatever content type the record had before; `None` = it was not framed and stays,
/// null too. `key`, JSON too, takes the place of a framed key: a string by its text.
#[must_use]
pub fn unframed(record: &Record, value: Option<Bytes>, key: Option<Bytes>) -> Record {
    let text = |key: Bytes| match json::parse(&key).map(json::scalar) {
        Ok(Ok(Some(text))) => Bytes::copy_from_slice(text.as_bytes()),
        _ => key,
    };
    let headers = record.headers.iter();
    let headers = headers.filter(|(name, _)| value.is_none() || &**name != "content-type");
    Record {
        origin: record.origin.clone(),
        timestamp: record.timestamp,
        key: key.map(text).or_else(|| record.key.clone()),
        headers: headers.cloned().collect(),
        value: value.or_else(|| record.value.clone()),
    }
}

/// The data, unless it is larger than what is delivered.
pub(crate) fn check_size(bytes: usize) -> Result<(), Undeliverable> {
    if bytes > EVENT_BYTES_MAX {
        return Err(Undeliverable::oversized(format!(
            "{bytes} bytes of data, at most {EVENT_BYTES_MAX} are delivered"
        )));
    }
    Ok(())
}

/// Whether a record has no more headers than are read.
pub(crate) fn check_headers(record: &Record) -> Result<(), Undeliverable> {
    let (count, bytes) = (record.headers.len(), record.headers_len());
    if count > HEADERS_MAX || bytes > HEADERS_BYTES_MAX {
        return Err(Undeliverable::oversized(format!(
            "{count} headers of {bytes} bytes, at most {HEADERS_MAX} of {HEADERS_BYTES_MAX} bytes \
             are read"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
