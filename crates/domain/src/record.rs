//! A Kafka record as plain values, in and out.
//!
//! Decides nothing: it is what the Kafka shell hands to the codecs of `wire` and takes from them,
//! so that neither knows the other.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

use crate::delivery::Origin;
use crate::time::Timestamp;

/// A record as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it was read.
    pub origin: Origin,
    /// The record's timestamp: of the producer, or of the broker on topics with append time.
    pub timestamp: Timestamp,
    /// Its key; `None` = null.
    pub key: Option<Bytes>,
    /// Its value; `None` = null (a tombstone), which is not the same as empty.
    pub value: Option<Bytes>,
    /// Its headers in order; a name may repeat, a value may be null.
    pub headers: Vec<(Box<str>, Option<Bytes>)>,
}

impl Record {
    /// The last header of that name with a value, which is the one that counts.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let with_value =
            |(key, value): &'_ (Box<str>, Option<Bytes>)| &**key == name && value.is_some();
        let index = self.headers.iter().rposition(with_value)?;
        self.headers[index].1.as_deref()
    }

    /// Bytes of key, value and headers: what holding it costs.
    #[must_use]
    pub fn len(&self) -> usize {
        let part = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers: usize = self
            .headers
            .iter()
            .map(|(name, value)| name.len() + part(value))
            .sum();
        part(&self.key) + part(&self.value) + headers
    }

    /// Whether it has neither key nor value nor headers.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A record to write, to an explicit partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRecord {
    /// Full topic name.
    pub topic: Arc<str>,
    /// Partition; on per-endpoint topics the slice.
    pub partition: i32,
    /// Its key; `None` = null.
    pub key: Option<Bytes>,
    /// Its value; `None` = null.
    pub value: Option<Bytes>,
    /// Its headers in order; a value may be null.
    pub headers: Vec<(Cow<'static, str>, Option<Bytes>)>,
}
