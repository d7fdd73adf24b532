//! What was given up, and input that could not be read: topic `dead-letters`.
//!
//! Decides the headers that say why and from where, and how both kinds are told apart: a delivery
//! is keyed by its endpoint, unreadable input has a null key and is otherwise as it was. Leaves when
//! something is given up to `engine`, when input cannot be read to [`event`](crate::event).

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use postrider_domain::shown::{Length, Names};
use postrider_domain::{
    DeadLetterReason, Delivery, NewRecord, Origin, Record, SliceCount, Timestamp,
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::attributes::clip;
use crate::delivery::{self, Header, text};
use crate::event::{Undeliverable, check_headers};
use crate::instant;
use crate::shared::{EventSummary, Place};

/// Longest message kept in a header, in bytes.
const MESSAGE_BYTES_MAX: usize = 1_024;

/// Most bytes of headers that a letter without its value keeps.
const HEADERS_BYTES_MAX: usize = 64 << 10;
/// Above it those that say what and why are kept, each up to this size.
const HEADER_BYTES_MAX: usize = 1 << 10;

/// A dead letter as it is read. Unknown reasons are kept: the writer may be newer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Why, one of the names of [`DeadLetterReason`].
    pub reason: Box<str>,
    /// Why, in words; of unreadable input, and of filters that could not be decided.
    pub message: Option<Box<str>>,
    /// Where it was read before it was given up.
    pub origin: Option<Origin>,
    /// Attempts made.
    pub attempts: u32,
    /// Status of the last response, if there was one.
    pub last_status: Option<u16>,
    /// The thing itself.
    pub content: Content,
    /// Where the dead letter is.
    pub record: Origin,
    /// When it was written.
    pub at: Timestamp,
}

/// What a dead letter holds.
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// A delivery that was given up.
    Delivery(Box<Delivery>),
    /// A record that could not be read, as it was.
    Input {
        /// Its key.
        key: Option<Bytes>,
        /// Its value.
        value: Option<Bytes>,
        /// Its headers.
        headers: Vec<(Arc<str>, Option<Bytes>)>,
    },
}

/// The delivery, or how much there is of what is none.
impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = |bytes: &Bytes| Length(bytes.len());
        match self {
            Self::Delivery(delivery) => delivery.fmt(f),
            Self::Input {
                key,
                value,
                headers,
            } => f
                .debug_struct("Input")
                .field("key", &key.as_ref().map(length))
                .field("value", &value.as_ref().map(length))
                .field("headers", &Names(headers))
                .finish(),
        }
    }
}

/// The dead letter of a delivery after `attempts` attempts, read at `origin`.
#[must_use]
pub fn of_delivery(
    delivery: &Delivery,
    attempts: u32,
    reason: DeadLetterReason,
    last_status: Option<u16>,
    origin: &Origin,
    topic: Arc<str>,
    partition: i32,
) -> NewRecord {
    let mut record = delivery::encode(delivery, attempts, None, topic, partition);
    record.headers.extend(reason_headers(reason, origin));
    record
        .headers
        .push(header("pr_attempts", attempts.to_string().into()));
    if let Some(status) = last_status {
        record
            .headers
            .push(header("pr_last_status", status.to_string().into()));
    }
    record
}

/// The dead letter with its reason in words, header `pr_message`, cut at 1 KiB.
#[must_use]
pub fn with_message(mut letter: NewRecord, message: &str) -> NewRecord {
    letter.headers.push(message_header(message));
    letter
}

/// The dead letter of input that could not be read: value and headers untouched, the key, if there
/// was one, in `pr_key`, at the partition of its origin modulo the slices. More headers
/// than are read of an intake record (1 000, 64 KiB) are left out, for producers bound only keys
/// and values; `pr_headers_omitted` tells how many.
#[must_use]
pub fn of_record(
    record: &Record,
    reason: DeadLetterReason,
    message: &str,
    topic: Arc<str>,
    slices: SliceCount,
) -> NewRecord {
    let own =
        |(name, value): &(Arc<str>, Option<Bytes>)| (Cow::Owned(name.to_string()), value.clone());
    let kept = check_headers(record).is_ok();
    let theirs = record.headers.iter().filter(|_| kept);
    let mut headers: Vec<Header> = theirs.map(own).collect();
    headers.extend(reason_headers(reason, &record.origin));
    headers.push(message_header(message));
    if let Some(key) = &record.key {
        headers.push(header("pr_key", key.clone()));
    }
    if !kept {
        let omitted = record.headers.len().to_string();
        headers.push(header("pr_headers_omitted", omitted.into()));
    }
    NewRecord {
        topic,
        partition: record.origin.partition.rem_euclid(slices.get().into()),
        key: None,
        value: record.value.clone(),
        headers,
    }
}

/// The letter for a topic that takes no record so large: the value stays where it came from, and
/// the header `pr_value_omitted` tells its size. Headers past 64 KiB are cut down to ours.
#[must_use]
pub fn without_value(letter: &NewRecord) -> NewRecord {
    let length = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
    let mut headers = letter.headers.clone();
    if headers
        .iter()
        .map(|(name, value)| name.len() + length(value))
        .sum::<usize>()
        > HEADERS_BYTES_MAX
    {
        // Ours stand last, from the last reason on.
        let ours = headers
            .iter()
            .rposition(|(name, _)| name == "pr_reason")
            .unwrap_or_default();
        headers.drain(..ours);
        headers.retain(|(_, value)| length(value) <= HEADER_BYTES_MAX);
    }
    let omitted = length(&letter.value).to_string();
    headers.push(("pr_value_omitted".into(), Some(omitted.into())));
    NewRecord {
        value: None,
        headers,
        ..letter.clone()
    }
}

/// Reads a dead letter.
///
/// # Errors
/// [`Undeliverable`] when it has no `pr_reason`: somebody else wrote it.
pub fn decode(record: &Record) -> Result<DeadLetter, Undeliverable> {
    // Input may have headers of these names itself; ours begin with the last reason.
    let ours = record
        .headers
        .iter()
        .rposition(|(name, _)| &**name == "pr_reason");
    let Some(ours) = ours else {
        return Err(Undeliverable::undecodable(
            "not a dead letter: header pr_reason is missing",
        ));
    };
    let (theirs, ours) = record.headers.split_at(ours);
    let bytes = |name: &str| {
        let found = ours.iter().find(|(known, _)| &**known == name);
        found.and_then(|(_, value)| value.clone())
    };
    let read = |name: &str| {
        let bytes = bytes(name)?;
        Some(Box::<str>::from(String::from_utf8_lossy(&bytes)))
    };
    let delivery = record
        .key
        .is_some()
        .then(|| delivery::decode(record).ok())
        .flatten();
    Ok(DeadLetter {
        reason: read("pr_reason").unwrap_or_default(),
        message: read("pr_message"),
        origin: read("pr_origin").and_then(|text| parse_origin(&text)),
        attempts: read("pr_attempts")
            .and_then(|text| text.parse().ok())
            .unwrap_or_default(),
        last_status: read("pr_last_status").and_then(|text| text.parse().ok()),
        content: match delivery {
            Some(delivery) => Content::Delivery(delivery.into()),
            None => Content::Input {
                key: bytes("pr_key"),
                value: record.value.clone(),
                headers: theirs.to_vec(),
            },
        },
        record: record.origin.clone(),
        at: record.timestamp,
    })
}

/// A dead letter for lists: everything but payload and headers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "DeadLetter")]
pub struct DeadLetterSummary<'a> {
    /// Why, header `pr_reason`: `attempts_exhausted`, `window_passed`, `endpoint_unknown`,
    /// `endpoint_gone`, `egress_denied`, `bad_url`, `unrenderable`, `undecodable`, `oversized`,
    /// `unmappable` or `filter_failed`.
    pub reason: &'a str,
    /// Why, in words, header `pr_message`; of input that could not be read, and of filters that
    /// could not be decided.
    pub message: Option<&'a str>,
    /// Where it was read before, header `pr_origin` (`topic/partition/offset`).
    pub origin: Option<Place<'a>>,
    /// Where the dead letter is.
    pub record: Place<'a>,
    /// When it was written, RFC 3339.
    pub dead_lettered_at: String,
    /// Attempts made, header `pr_attempts`.
    pub attempts: u32,
    /// Status of the last response, header `pr_last_status`; null when there was none.
    pub last_status: Option<u16>,
    /// Header `pr_delivery`; null for input that could not be read.
    pub delivery_id: Option<String>,
    /// Header `pr_endpoint`, the key; null for input that could not be read.
    pub endpoint_id: Option<&'a str>,
    /// Headers `ce_id`, `ce_source`, `ce_type`, `ce_tenant`, `ce_time`; null for input that could
    /// not be read.
    pub event: Option<EventSummary<'a>>,
    /// The original key of input that could not be read, header `pr_key`, its first 80 characters.
    pub key: Option<String>,
    /// Size of the value in bytes; null = there is none.
    pub value_bytes: Option<usize>,
}

impl DeadLetter {
    /// What lists show of it.
    #[must_use]
    pub fn summary(&self) -> DeadLetterSummary<'_> {
        let (delivery, key, value_bytes) = match &self.content {
            Content::Delivery(delivery) => (Some(delivery), None, Some(delivery.event.data.len())),
            Content::Input { key, value, .. } => {
                (None, key.as_ref(), value.as_ref().map(Bytes::len))
            }
        };
        DeadLetterSummary {
            reason: &self.reason,
            message: self.message.as_deref(),
            origin: self.origin.as_ref().map(Place::of),
            record: Place::of(&self.record),
            dead_lettered_at: instant::to_text_millis(self.at),
            attempts: self.attempts,
            last_status: self.last_status,
            delivery_id: delivery.map(|delivery| delivery.id.to_string()),
            endpoint_id: delivery.map(|delivery| delivery.endpoint.as_str()),
            event: delivery.map(|delivery| EventSummary::of(&delivery.event)),
            key: key.map(|key| clip(&String::from_utf8_lossy(key)).to_owned()),
            value_bytes,
        }
    }
}

fn message_header(message: &str) -> Header {
    let end = message.floor_char_boundary(MESSAGE_BYTES_MAX);
    header("pr_message", text(&message[..end]))
}

fn header(name: &'static str, value: Bytes) -> Header {
    (Cow::Borrowed(name), Some(value))
}

/// `pr_reason` stands first: what comes from it on is ours.
fn reason_headers(reason: DeadLetterReason, origin: &Origin) -> [Header; 2] {
    [
        header("pr_reason", Bytes::from_static(reason.as_str().as_bytes())),
        header("pr_origin", origin.to_string().into()),
    ]
}

/// Reads `topic/partition/offset`; no topic has a slash in its name.
fn parse_origin(text: &str) -> Option<Origin> {
    let mut parts = text.split('/');
    let origin = Origin {
        topic: parts.next()?.into(),
        partition: parts.next()?.parse().ok()?,
        offset: parts.next()?.parse().ok()?,
    };
    parts.next().is_none().then_some(origin)
}

#[cfg(test)]
mod tests;
