//! librdkafka's messages as plain records, and back.
//!
//! Decides how often bytes are copied: once in, into one allocation that key, value and header values
//! share; once out, by librdkafka. Leaves what the bytes mean to `wire`.

use std::ffi::CStr;
use std::ptr;
use std::slice;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use postrider_domain::{NewRecord, Origin, Record, Timestamp};
use rdkafka::bindings::{rd_kafka_header_get_all, rd_kafka_headers_t, rd_kafka_message_headers};
use rdkafka::message::{BorrowedMessage, Header, Message, OwnedHeaders};
use rdkafka::types::RDKafkaRespErr;

/// How many names of headers are remembered, and how long they are: any producer can write any.
const NAMES_MAX: usize = 64;
const NAME_BYTES_MAX: usize = 64;

/// Turns messages of one consumer into records; remembers topic names so that they are allocated
/// once per topic.
#[derive(Default)]
pub(crate) struct RecordReader {
    topics: Vec<Arc<str>>,
    last: usize,
    /// Names of headers by their place: records of one topic have the same in the same order.
    names: Vec<Arc<str>>,
}

impl RecordReader {
    pub(crate) fn read(&mut self, message: &BorrowedMessage<'_>) -> Record {
        let headers = raw_headers(message);
        let part = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        let header_values: usize = headers.iter().map(|(_, value)| part(*value)).sum();
        let size = part(message.key()) + part(message.payload()) + header_values;
        let mut shared = BytesMut::with_capacity(size);
        let mut take = |bytes: Option<&[u8]>| {
            bytes.map(|bytes| {
                shared.extend_from_slice(bytes);
                shared.split().freeze()
            })
        };
        Record {
            key: take(message.key()),
            value: take(message.payload()),
            headers: headers
                .iter()
                .enumerate()
                .map(|(place, (name, value))| (self.name(place, name), take(*value)))
                .collect(),
            origin: Origin {
                topic: self.topic(message.topic()),
                partition: message.partition(),
                offset: message.offset(),
            },
            timestamp: timestamp(message.timestamp()),
        }
    }

    fn name(&mut self, place: usize, name: &CStr) -> Arc<str> {
        let known = self.names.get(place);
        if let Some(known) = known.filter(|known| known.as_bytes() == name.to_bytes()) {
            return Arc::clone(known);
        }
        let name: Arc<str> = name.to_string_lossy().into();
        if name.len() <= NAME_BYTES_MAX && place < NAMES_MAX {
            let more = self.names.len().max(place + 1);
            self.names.resize_with(more, Arc::default);
            self.names[place] = Arc::clone(&name);
        }
        name
    }

    fn topic(&mut self, name: &str) -> Arc<str> {
        if self
            .topics
            .get(self.last)
            .is_none_or(|topic| **topic != *name)
        {
            let known = self.topics.iter().position(|topic| **topic == *name);
            self.last = known.unwrap_or_else(|| {
                self.topics.push(name.into());
                self.topics.len() - 1
            });
        }
        Arc::clone(&self.topics[self.last])
    }
}

/// Absent and negative timestamps (a producer may write any) count as the epoch.
fn timestamp(timestamp: rdkafka::Timestamp) -> Timestamp {
    let millis = timestamp.to_millis().unwrap_or(0);
    Timestamp::from_millis(u64::try_from(millis).unwrap_or(0))
}

/// The headers as librdkafka holds them.
///
/// Not through the binding's own `headers()`: it panics on a name that is not UTF-8, which any
/// producer can write.
#[expect(unsafe_code, reason = "the safe binding panics on untrusted names")]
fn raw_headers<'a>(message: &'a BorrowedMessage<'_>) -> Vec<(&'a CStr, Option<&'a [u8]>)> {
    let mut found = Vec::new();
    let mut headers: *mut rd_kafka_headers_t = ptr::null_mut();
    // SAFETY: the message pointer is valid while `message` lives; librdkafka parses the headers
    // into memory the message owns, so what they point to lives as long (`'a`). It answers NOENT
    // when there are none and past the last one, and leaves the out-pointers alone then.
    unsafe {
        if rd_kafka_message_headers(message.ptr(), &raw mut headers)
            != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
        {
            return found;
        }
        loop {
            let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
            let answer = rd_kafka_header_get_all(
                headers,
                found.len(),
                &raw mut name,
                &raw mut value,
                &raw mut size,
            );
            if answer != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                return found;
            }
            let value = (!value.is_null()).then(|| slice::from_raw_parts(value.cast(), size));
            found.push((CStr::from_ptr(name), value));
        }
    }
}

/// The headers of a record to write.
pub(crate) fn owned_headers(record: &NewRecord) -> OwnedHeaders {
    let empty = OwnedHeaders::new_with_capacity(record.headers.len());
    record.headers.iter().fold(empty, |headers, (key, value)| {
        headers.insert(Header {
            key,
            value: value.as_ref().map(Bytes::as_ref),
        })
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;

    use super::*;

    #[test]
    fn topic_names_are_allocated_once() {
        let mut reader = RecordReader::default();
        let (a, b) = (reader.topic("a"), reader.topic("b"));
        assert!(Arc::ptr_eq(&a, &reader.topic("a")));
        assert!(Arc::ptr_eq(&b, &reader.topic("b")));
        assert_eq!(reader.topics.len(), 2);
    }

    #[test]
    fn names_of_headers_are_shared_by_place_and_few_are_kept() {
        let mut reader = RecordReader::default();
        let long = CString::new("n".repeat(NAME_BYTES_MAX + 1)).unwrap();
        let mut name = |place, name: &CStr| reader.name(place, name);
        let one = name(1, c"ce_id");
        assert!(Arc::ptr_eq(&one, &name(1, c"ce_id")));
        assert_eq!(&*name(0, c""), "");
        assert_eq!(&*name(1, c"other"), "other");
        assert!(
            !Arc::ptr_eq(&one, &name(1, c"ce_id")),
            "one is known of a place"
        );
        for (place, kept) in [(2, &*long), (NAMES_MAX, c"ce_id")] {
            assert!(!Arc::ptr_eq(&name(place, kept), &name(place, kept)));
        }
        assert_eq!(&*name(0, c"a\xff"), "a\u{fffd}");
        assert_eq!(reader.names.len(), 2);
    }

    #[test]
    fn a_timestamp_before_the_epoch_is_the_epoch() {
        assert_eq!(
            timestamp(rdkafka::Timestamp::CreateTime(-5)),
            Timestamp::default()
        );
        assert_eq!(
            timestamp(rdkafka::Timestamp::LogAppendTime(5)),
            Timestamp::from_millis(5)
        );
    }
}
