//! The delivery engine: deterministic, without I/O.
//!
//! [`worker::Worker`] is the whole of it as a shell sees it: it owns slices, and each slice is a
//! [`slice::SliceEngine`] that leads deliveries from being read to being settled. Inputs are
//! `handle_*` methods with the time as an argument, outputs are polled, the seed is given at
//! construction: same inputs, same outputs. There is no clock, no socket, no thread, no map with
//! random order in here (`clippy.toml` bans them, `tests/tidy` checks the dependencies).
//!
//! Which rule is where:
//!
//! | rule | file |
//! | --- | --- |
//! | frontier, holes | [`offsets`] |
//! | when a lane is read, reading ahead of a rung | [`lane`] |
//! | what is committed beside the frontier | [`commit_map`] |
//! | life of a delivery, what settles it, holding and moving it | [`mod@slice`] |
//! | failed writes, closed admission | `failed_writes` |
//! | turns of endpoints, concurrency | `queues` |
//! | what a response means | [`verdict`] |
//! | what `Retry-After` says | [`mod@retry_after`] |
//! | when the next attempt is due | [`schedule`] |
//! | dropping repeated copies | [`recent`] |
//! | ownership, drain, hand-back, shared budget | [`worker`] |
//! | pace of commits | [`commits`] |
#![warn(missing_docs)]

#[cfg_attr(
    not(test),
    expect(dead_code, reason = "used by the slice in the next step")
)]
mod breaker;
pub mod commit_map;
pub mod commits;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "used by the slice in the next step")
)]
mod concurrency;
mod entry;
mod failed_writes;
mod gate;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "used by the slice in the next step")
)]
mod health;
pub mod io;
pub mod lane;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "used by the slice in the next step")
)]
mod limit;
pub mod offsets;
mod queues;
pub mod recent;
pub mod retry_after;
pub mod schedule;
pub mod slice;
#[cfg(test)]
mod tests;
pub mod verdict;
pub mod worker;
