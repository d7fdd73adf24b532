//! Between the engine's values and Kafka's records.
//!
//! Decides nothing: `wire` knows the forms, this knows which topic and partition a write goes to.

use std::sync::Arc;

use postrider_domain::{Lane, NewRecord, Origin, Record, Slice, SliceCount, Timestamp};
use postrider_engine::io::{AttemptEntry, Content, LaneRecord, Reading, Write};
use postrider_wire::topics::Topics;
use postrider_wire::{attempt, dead_letter, delivery, endpoint_state};

use crate::settings::DispatcherSettings;

/// What an entry of the engine costs beside the record's own bytes, about.
const ENTRY_BYTES: usize = 512;

/// What a record of a lane says.
pub(crate) fn decode(reading: Reading, record: Record) -> LaneRecord {
    let offset = record.origin.offset;
    let appended_at = record.timestamp;
    let bytes = record.len() + ENTRY_BYTES;
    let content = match delivery::decode(&record) {
        Ok(delivery) => Content::Delivery(Arc::new(delivery)),
        Err(undeliverable) => Content::Unreadable {
            record: Arc::new(record),
            reason: undeliverable.reason,
            message: undeliverable.message.into(),
        },
    };
    LaneRecord {
        reading,
        offset,
        appended_at,
        bytes,
        content,
    }
}

/// Knows where writes go.
pub(crate) struct Encoder {
    topics: Topics,
    slices: SliceCount,
    worker: Box<str>,
}

impl Encoder {
    pub(crate) fn new(settings: &DispatcherSettings) -> Self {
        Self {
            topics: settings.topics.clone(),
            slices: settings.slices,
            worker: settings.worker.as_str().into(),
        }
    }

    /// The topic of a write.
    pub(crate) fn topic(&self, write: &Write) -> Arc<str> {
        Arc::clone(match write {
            Write::Attempt(_) => self.topics.attempts(),
            Write::Retry { rung, .. } => self.topics.lane(Lane::Retry(*rung)),
            Write::Backlog { .. } => self.topics.lane(Lane::Backlog),
            Write::Fence { .. } | Write::State { .. } => self.topics.endpoint_state(),
            Write::DeadLetter { .. } | Write::Unreadable { .. } => self.topics.dead_letters(),
        })
    }

    /// The topic of a write without its prefix, a label of metrics.
    pub(crate) const fn label(write: &Write) -> &'static str {
        match write {
            Write::Attempt(_) => "attempts",
            Write::Retry { rung, .. } => rung.topic(),
            Write::Backlog { .. } => "backlog",
            Write::Fence { .. } | Write::State { .. } => "endpoint-state",
            Write::DeadLetter { .. } | Write::Unreadable { .. } => "dead-letters",
        }
    }

    pub(crate) fn encode(&self, now: Timestamp, slice: Slice, write: &Write) -> NewRecord {
        let topic = self.topic(write);
        let partition = i32::from(slice.0);
        match write {
            Write::Attempt(entry) => self.attempt(slice, entry, topic),
            Write::Retry {
                delivery,
                attempts,
                due,
                ..
            } => delivery::encode(delivery, *attempts, Some(*due), topic, partition),
            Write::Backlog { delivery, attempts } => {
                delivery::encode(delivery, *attempts, None, topic, partition)
            }
            Write::Fence { epoch, claimant } => endpoint_state::encode_fence(
                epoch.0,
                *claimant,
                &self.worker,
                now,
                topic,
                partition,
            ),
            Write::State {
                endpoint,
                epoch,
                remembered,
            } => endpoint_state::encode(endpoint, epoch.0, remembered, topic, partition),
            Write::DeadLetter {
                delivery,
                attempts,
                reason,
                last_status,
                lane,
                offset,
                without_value,
            } => {
                let origin = self.origin(slice, *lane, *offset);
                let (attempts, status) = (*attempts, *last_status);
                let letter = dead_letter::of_delivery(
                    delivery, attempts, *reason, status, &origin, topic, partition,
                );
                fitting(letter, *without_value)
            }
            Write::Unreadable {
                record,
                reason,
                message,
                without_value,
            } => {
                let letter = dead_letter::of_record(record, *reason, message, topic, self.slices);
                fitting(letter, *without_value)
            }
        }
    }

    fn attempt(&self, slice: Slice, entry: &AttemptEntry, topic: Arc<str>) -> NewRecord {
        let attempt = attempt::Attempt {
            delivery: &entry.delivery,
            attempt: entry.attempt,
            report: entry.report.as_ref(),
            at: entry.at,
            outcome: entry.outcome,
            unmet: entry.unmet,
            next_attempt_at: entry.next_attempt_at,
            origin: &self.origin(slice, entry.lane, entry.offset),
            worker: &self.worker,
            slice,
            epoch: entry.epoch.0,
        };
        attempt::encode(&attempt, topic)
    }

    fn origin(&self, slice: Slice, lane: Lane, offset: i64) -> Origin {
        Origin {
            topic: Arc::clone(self.topics.lane(lane)),
            partition: slice.0.into(),
            offset,
        }
    }
}

fn fitting(letter: NewRecord, without_value: bool) -> NewRecord {
    if without_value {
        dead_letter::without_value(&letter)
    } else {
        letter
    }
}
