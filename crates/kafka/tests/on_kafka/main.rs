//! Members, offsets, lanes, tables and writes on a real broker.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod group;
mod lanes;
mod offsets;
mod ownership;
mod tables;
mod world;
