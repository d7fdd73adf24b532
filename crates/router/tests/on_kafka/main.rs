//! Routers on a real broker, with kcat as the producer.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
mod continuity;
mod events;
mod filters;
mod intake;
mod schemas;
