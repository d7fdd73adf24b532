//! The duty to bring one event to one endpoint.
//!
//! Decides nothing; its life is `engine`'s, its form in Kafka `wire`'s.

use std::fmt;
use std::sync::Arc;

use crate::event::Event;
use crate::ids::{DeliveryId, EndpointId};
use crate::time::Timestamp;

/// One event for one endpoint, at a point of its life: how many attempts were made and when the
/// next one is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Same on every attempt and every copy.
    pub id: DeliveryId,
    /// Where it goes.
    pub endpoint: EndpointId,
    /// What it brings.
    pub event: Event,
    /// Attempts already made; the next attempt's number is one more.
    pub attempts: u32,
    /// Not before this time; `None` = at once.
    pub due: Option<Timestamp>,
    /// Somebody tries the endpoint out: one attempt, and no trace but its record (ADR 0037).
    pub test: bool,
}

/// Where a record was read: for dead letters and attempt records.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// Full topic name.
    pub topic: Arc<str>,
    /// Partition number.
    pub partition: i32,
    /// Offset in it.
    pub offset: i64,
}

/// `topic/partition/offset`, the form of the `pr_origin` header.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.topic, self.partition, self.offset)
    }
}
