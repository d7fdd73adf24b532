//! Records that can be delivered to nobody, on their way to `dead-letters`.
//!
//! Decides what happens when a topic takes no record so large: the letter is written without the
//! value, so that nothing is skipped and nothing blocks. Leaves the form of a dead letter to `wire`.

use std::sync::Arc;

use bytes::Bytes;
use postrider_domain::{DeadLetterReason, NewRecord, Record, SliceCount};
use postrider_wire::{Topics, Undeliverable, dead_letter};

use crate::writes::What;

/// A dead letter to write.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) record: Arc<NewRecord>,
    pub(crate) reason: DeadLetterReason,
}

/// An intake record that is no event.
pub(crate) fn record(
    record: &Record,
    why: &Undeliverable,
    topics: &Topics,
    slices: SliceCount,
) -> Letter {
    let topic = Arc::clone(topics.dead_letters());
    let letter = dead_letter::of_record(record, why.reason, &why.message, topic, slices);
    Letter {
        record: Arc::new(letter),
        reason: why.reason,
    }
}

/// What takes the place of a record that its topic refused as too large: a dead letter, and of that
/// one without the value, whose size the header `pr_value_omitted` tells.
pub(crate) fn refused(what: &What, topics: &Topics) -> Letter {
    match what {
        What::Delivery { template, endpoint } => {
            let reason = DeadLetterReason::Oversized;
            let (delivery, origin) = (template.delivery(endpoint), template.origin());
            let topic = Arc::clone(topics.dead_letters());
            let partition = template.partition(endpoint);
            let letter =
                dead_letter::of_delivery(&delivery, 0, reason, None, origin, topic, partition);
            Letter {
                record: Arc::new(letter),
                reason,
            }
        }
        What::DeadLetter(letter) => Letter {
            record: Arc::new(without_value(&letter.record)),
            reason: letter.reason,
        },
    }
}

/// Most bytes of headers that a letter without its value keeps.
const HEADERS_BYTES_MAX: usize = 64 << 10;
/// Above it those that say what and why are kept, each up to this size.
const HEADER_BYTES_MAX: usize = 1 << 10;

fn without_value(letter: &NewRecord) -> NewRecord {
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

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    fn letter(headers: Vec<(&'static str, usize)>) -> NewRecord {
        let header = |(name, size)| (Cow::Borrowed(name), Some(Bytes::from(vec![b'x'; size])));
        NewRecord {
            topic: "dead-letters".into(),
            partition: 0,
            key: None,
            value: Some(Bytes::from_static(b"value")),
            headers: headers.into_iter().map(header).collect(),
        }
    }

    fn names(letter: &NewRecord) -> Vec<&str> {
        letter.headers.iter().map(|(name, _)| &**name).collect()
    }

    #[test]
    fn a_letter_that_is_too_large_loses_its_value_and_says_so() {
        let shorter = without_value(&letter(vec![("theirs", 9), ("pr_reason", 9)]));
        assert_eq!(shorter.value, None);
        assert_eq!(names(&shorter), ["theirs", "pr_reason", "pr_value_omitted"]);
        assert_eq!(shorter.headers[2].1.as_deref(), Some(&b"5"[..]));
    }

    #[test]
    fn headers_that_are_too_large_go_as_well() {
        let headers = vec![("pr_reason", 70_000), ("pr_reason", 9), ("pr_key", 70_000)];
        assert_eq!(
            names(&without_value(&letter(headers))),
            ["pr_reason", "pr_value_omitted"]
        );
    }
}
