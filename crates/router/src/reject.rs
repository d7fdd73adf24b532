//! Records that can be delivered to nobody, on their way to `dead-letters`.
//!
//! Decides what happens when a topic takes no record so large: the letter is written without the
//! value, so that nothing is skipped and nothing blocks. Leaves the form of a dead letter to `wire`.

use std::sync::Arc;

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
            record: Arc::new(dead_letter::without_value(&letter.record)),
            reason: letter.reason,
        },
    }
}
