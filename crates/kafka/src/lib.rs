//! The only place that talks to Kafka.
//!
//! Decides how librdkafka is configured and driven: one `BaseConsumer` per thread, explicit
//! offsets, an idempotent producer, no automatic anything. Leaves every judgement to others: what a
//! record means is `wire`'s, what to do about it `engine`'s.
//!
//! Every loop keeps trying while a broker is away; only a wrong setting is an error at once.

pub mod admin;
mod background;
pub mod client;
pub mod embedded;
mod granted;
mod group;
pub mod intake;
pub mod lanes;
mod logs;
pub mod membership;
pub mod offsets;
pub mod producer;
mod record;
pub mod table;
pub mod tail;

pub use client::{ClientError, ClientSettings, ClusterInfo, Unreachable, connect_check};
pub use embedded::EmbeddedBroker;
pub use granted::{Granted, granted};
pub use group::GroupProtocol;
pub use producer::{Producer, WriteError, Writer};
pub use table::{TableEvent, TableReader};
pub use tail::Tail;
