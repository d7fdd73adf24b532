//! The fact that happened, as it was read from an intake topic.
//!
//! Decides nothing; decoding is `wire`'s.

use bytes::Bytes;

use crate::ids::Tenant;
use crate::time::Timestamp;

/// One trigger event: its CloudEvents attributes and its data, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
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
