//! The router role: events in, deliveries out.
//!
//! Decides which deliveries an event becomes and when the offset behind it may be committed: once
//! every record written because of it is acknowledged by all in-sync replicas. No event is skipped:
//! what cannot be read, or is too large, becomes a dead letter; what cannot be written is tried
//! again for as long as it takes. A crash repeats at most what was not committed (about a second),
//! with the same delivery ids, so no transaction is needed.
//!
//! Pure, tested without Kafka: [`fan_out`] (event × catalogue → deliveries), [`filters`] (those kept
//! compiled) and [`progress`] (what is settled). Leaves decoding to `wire`, matching to `catalog` and
//! `filter`, Kafka to `kafka`.
#![warn(missing_docs)]

mod endpoints;
pub mod fan_out;
pub mod filters;
pub mod progress;
mod reject;
mod router;
mod run;
mod schemas;
mod settings;
mod sources;
mod standing;
mod start;
mod unanswered;
mod unwanted;
mod waiting;
mod writes;

pub use settings::RouterSettings;
pub use sources::{InvalidSources, Source, SourceTopics};
pub use start::{Router, RouterHandle, StartError};
