//! A Kafka record as plain values, in and out.
//!
//! Decides nothing: it is what the Kafka shell hands to the codecs of `wire` and takes from them,
//! so that neither knows the other.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::delivery::Origin;
use crate::shown::{Length, Names};
use crate::time::Timestamp;

/// A record as it was read.
#[derive(Clone, PartialEq, Eq)]
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
    pub headers: Vec<(Arc<str>, Option<Bytes>)>,
}

impl Record {
    /// What holding a header costs beside its bytes, about: its place in the list, its name's allocation
    /// where no other record shares it.
    pub const HEADER_BYTES: usize = 64;

    /// The last header of that name with a value, which is the one that counts.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let with_value =
            |(key, value): &'_ (Arc<str>, Option<Bytes>)| &**key == name && value.is_some();
        let index = self.headers.iter().rposition(with_value)?;
        self.headers[index].1.as_deref()
    }

    /// What holding it costs, in bytes: of key, value and headers, and [`Self::HEADER_BYTES`] for
    /// each header, as thousands of empty ones are not free.
    #[must_use]
    pub fn len(&self) -> usize {
        part(self.key.as_ref())
            + part(self.value.as_ref())
            + self.headers_len()
            + self.headers.len() * Self::HEADER_BYTES
    }

    /// Bytes of header names and values.
    #[must_use]
    pub fn headers_len(&self) -> usize {
        self.headers
            .iter()
            .map(|(name, value)| name.len() + part(value.as_ref()))
            .sum()
    }

    /// Whether it has neither key nor value nor headers.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn part(bytes: Option<&Bytes>) -> usize {
    bytes.map_or(0, Bytes::len)
}

/// A record to write, to an explicit partition.
#[derive(Clone, PartialEq, Eq)]
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

/// Where it was read, the names of its headers, and how much there is of all else.
impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("origin", &self.origin)
            .field("timestamp", &self.timestamp)
            .field("key", &self.key.as_ref().map(length))
            .field("value", &self.value.as_ref().map(length))
            .field("headers", &Names(&self.headers))
            .finish()
    }
}

/// Where it goes, the names of its headers, and how much there is of all else.
impl fmt::Debug for NewRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewRecord")
            .field("topic", &self.topic)
            .field("partition", &self.partition)
            .field("key", &self.key.as_ref().map(length))
            .field("value", &self.value.as_ref().map(length))
            .field("headers", &Names(&self.headers))
            .finish()
    }
}

fn length(bytes: &Bytes) -> Length {
    Length(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_header_is_not_free() {
        let record = |headers: usize| Record {
            origin: Origin {
                topic: "t".into(),
                partition: 0,
                offset: 0,
            },
            timestamp: Timestamp::default(),
            key: Some(Bytes::from_static(b"key")),
            value: None,
            headers: vec![("".into(), None); headers],
        };
        assert_eq!(record(0).len(), 3);
        assert_eq!(record(1_000).len(), 64_003);
        assert_eq!(record(1_000).headers_len(), 0);
    }
}
