//! Records that can be delivered to nobody, and deliveries nobody can say are wanted, on their way to
//! `dead-letters`.
//!
//! Decides what happens when a topic takes no record so large: the letter is written without the
//! value, so that nothing is skipped and nothing blocks. Leaves the form of a dead letter to `wire`.

use std::sync::Arc;

use postrider_domain::{DeadLetterReason, EndpointId, NewRecord, Record, SliceCount};
use postrider_filter::Undecided;
use postrider_wire::{Topics, Undeliverable, dead_letter};

use crate::fan_out::Template;
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

/// A delivery whose endpoint's filter could not be decided: nobody can say that it was not wanted.
pub(crate) fn undecided(
    template: &Template,
    endpoint: &EndpointId,
    why: &Undecided,
    topics: &Topics,
) -> Letter {
    let reason = DeadLetterReason::FilterFailed;
    let letter = of_delivery(template, endpoint, reason, topics);
    Letter {
        record: Arc::new(dead_letter::with_message(letter, &why.to_string())),
        reason,
    }
}

fn of_delivery(
    template: &Template,
    endpoint: &EndpointId,
    reason: DeadLetterReason,
    topics: &Topics,
) -> NewRecord {
    let (delivery, origin) = (template.delivery(endpoint), template.origin());
    let topic = Arc::clone(topics.dead_letters());
    let partition = template.partition(endpoint);
    dead_letter::of_delivery(&delivery, 0, reason, None, origin, topic, partition)
}

/// What takes the place of a record that its topic refused as too large: a dead letter, and of that
/// one without the value, whose size the header `pr_value_omitted` tells.
pub(crate) fn refused(what: &What, topics: &Topics) -> Letter {
    match what {
        What::Delivery { template, endpoint } => {
            let reason = DeadLetterReason::Oversized;
            Letter {
                record: Arc::new(of_delivery(template, endpoint, reason, topics)),
                reason,
            }
        }
        What::DeadLetter(letter) => Letter {
            record: Arc::new(dead_letter::without_value(&letter.record)),
            reason: letter.reason,
        },
    }
}
