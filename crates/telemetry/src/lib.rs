//! Logs and metrics: their names and their output.
//!
//! Decides every metric's name, labels and buckets, and how log lines look. Leaves to others what
//! is counted when, and serving [`Metrics::render`] over HTTP.
#![warn(missing_docs)]

pub mod definitions;
pub mod logs;
pub mod metrics;

pub use definitions::{DEFINITIONS, Definition, MetricKind};
pub use logs::{Format, LogError};
pub use metrics::{CommitResult, FilterDecision, IgnoredEndpoint, Metrics};
