//! The delivery engine: deterministic, without I/O.
//!
//! [`worker::Worker`] is the whole of it as a shell sees it: it owns slices, and each slice is a
//! `SliceEngine` that leads deliveries from being read to being settled. Inputs are
//! `handle_*` methods with the time as an argument, outputs are polled, the seed is given at
//! construction: same inputs, same outputs. There is no clock, no socket, no thread, no map with
//! random order in here (`clippy.toml` bans them, `tests/tidy` checks the dependencies).
//!
//! Which rule is where:
//!
//! | rule | file |
//! | --- | --- |
//! | which slice an input is for, when to call again | [`worker`] |
//! | how a slice becomes ours | `worker/claim` |
//! | how it stops being ours, hand-back | `worker/hand_back` |
//! | what is committed | `worker/commit` |
//! | requests in flight over all slices | `worker/start` |
//! | the claim on a slice, whose state records count | `fence` |
//! | how long attempts may start | [`lease`] |
//! | pace of commits | [`commits`] |
//! | frontier, holes | [`offsets`] |
//! | what is committed beside the frontier | [`commit_map`] |
//! | when a lane is read, reading ahead of a rung | [`lane`] |
//! | life of a delivery, holding it | `slice` |
//! | the way of a record into memory | `slice/enter` |
//! | what makes room at a bound | `slice/room` |
//! | what settles a record | `slice/settle` |
//! | what ends or moves without an attempt | `slice/give_up` |
//! | tests of an endpoint | `slice/test_send` |
//! | the end of an ownership | `slice/drain` |
//! | fences of others behind ours | `slice/overtaken` |
//! | ordered endpoints' keys | `slice/ordered` |
//! | which attempt starts | `slice/start` |
//! | what the end of an attempt leads to | `slice/finish` |
//! | the way over the backlog, patience with what is to be discarded | `slice/spill` |
//! | cursors, passes over a backlog, order of its copies | [`backlog`] |
//! | what a successor must know | `slice/save` |
//! | how much may wait in memory | [`admission`] |
//! | turns of endpoints, room for those that hang, the share of one | `turns` |
//! | first attempts, retries and replays of an endpoint | `queue` |
//! | order per key | [`order`] |
//! | rate limit | `limit` |
//! | breaker | [`breaker`] |
//! | the receiver asked for a pause | `gate` |
//! | adaptive concurrency | `concurrency` |
//! | breaker, gate and concurrency together | `health` |
//! | what a response means | [`verdict`] |
//! | what `Retry-After` says | [`mod@retry_after`] |
//! | when the next attempt is due | [`schedule`] |
//! | dropping repeated copies | [`recent`] |
//! | failed writes, closed admission | `failed_writes` |
//! | how much of the room replays may use | `spare` |
#![warn(missing_docs)]

pub mod admission;
pub mod backlog;
pub mod breaker;
pub mod commit_map;
pub mod commits;
mod concurrency;
mod entry;
mod failed_writes;
mod fence;
mod flow;
mod gate;
mod health;
pub mod io;
pub mod lane;
pub mod lease;
mod limit;
pub mod offsets;
pub mod order;
mod queue;
pub mod recent;
pub mod retry_after;
pub mod schedule;
mod slice;
mod spare;
#[cfg(test)]
mod tests;
mod turns;
pub mod verdict;
pub mod worker;
