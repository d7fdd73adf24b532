//! The fact that happened, as it was read from an intake topic.
//!
//! Decides nothing; decoding is `wire`'s.

use std::fmt;

use bytes::Bytes;

use crate::ids::Tenant;
use crate::shown::{Length, Names};
use crate::time::Timestamp;

/// One trigger event: its CloudEvents attributes and its data, byte for byte.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    /// `id`: unique within `source`.
    pub id: Box<str>,
    /// `source`: a URI reference of what produced it.
    pub source: Box<str>,
    /// `type`: for example `payment.captured`.
    pub event_type: Box<str>,
    /// The merchant account whose endpoints get it.
    pub tenant: Tenant,
    /// `time` as RFC 3339 text, forwarded as it came; `None` when the producer gave none.
    pub time: Option<Box<str>>,
    /// `partitionkey`: what `ordering: key` orders by.
    pub ordering_key: Option<Box<str>>,
    /// Media type of `data` (`datacontenttype`).
    pub content_type: Option<Box<str>>,
    /// W3C trace context of the producer.
    pub traceparent: Option<Box<str>>,
    /// Further attributes in the order they came, names lower case without prefix (`subject`,
    /// `dataschema`, extensions).
    pub extensions: Vec<(Box<str>, Box<str>)>,
    /// The payload, never parsed on the way; may be empty.
    pub data: Bytes,
    /// When the broker accepted the event, the origin of every freshness figure.
    pub accepted_at: Timestamp,
}

/// What names it, and how much there is of all else.
impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.ordering_key.as_deref();
        f.debug_struct("Event")
            .field("id", &self.id)
            .field("source", &self.source)
            .field("event_type", &self.event_type)
            .field("tenant", &self.tenant)
            .field("time", &self.time)
            .field("ordering_key", &key.map(|key| Length(key.len())))
            .field("content_type", &self.content_type)
            .field("traceparent", &self.traceparent)
            .field("extensions", &Names(&self.extensions))
            .field("data", &Length(self.data.len()))
            .field("accepted_at", &self.accepted_at)
            .finish()
    }
}
