//! Records, headers and topics: the serialised twins of domain values.
//!
//! Decides what Postrider's records look like on Kafka (`docs/reference/records.md`, `topics.md`) and
//! turns them into domain values and back. Bytes from outside never panic here. Leaves reading and
//! writing them to `kafka`, and what they mean to `engine`.
#![warn(missing_docs)]

pub mod attempt;
mod attributes;
mod cloudevents;
pub mod dead_letter;
pub mod delivery;
pub mod endpoint;
pub mod endpoint_state;
pub mod event;
mod instant;
mod json;
pub mod mapping;
pub mod outbox;
pub mod schemas;
mod shared;
#[cfg(test)]
mod testing;
pub mod topics;

pub use attempt::AttemptRecord;
pub use dead_letter::DeadLetter;
pub use endpoint::{FieldError, FileFormat, InvalidEndpoint};
pub use event::{DecodeRule, EVENT_BYTES_MAX, Undeliverable};
pub use mapping::{FieldRef, InvalidFieldRef, Mapping};
pub use outbox::OutboxMapping;
pub use shared::{EventSummary, Place};
pub use topics::{TopicSpec, Topics};
