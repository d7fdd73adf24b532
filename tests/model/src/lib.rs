//! An exhaustive model of how two members own two slices: claim, commit, revoke, fence.
//!
//! Explores every order of events within bounds and decides whether the promises of [`promises`]
//! hold in each state. It is a model: it shares no code with `crates/engine`, which it describes,
//! and a rule that changes there has to change in [`rules`]. What the code does with whole lanes
//! under random faults is for the engine's own tests.
//!
//! # What is modelled
//!
//! - The coordinator (KIP-848): a target, reconciled member by member. A slice goes to its next
//!   owner when the former handed it back, left, or was silent for a session. Commits are checked
//!   by member and epoch, never by slice; an empty group takes anybody's.
//! - The client library: heartbeats, events the engine has not seen yet, commits that are stamped
//!   when they are sent and not when they are ordered, one answer for all open revocations,
//!   a rejoin that waits for the answer to a loss.
//! - The engine: what it owns (loading, owned, contested, draining), attempts under the lease, one
//!   commit in flight with the values it was ordered with, merged revocations, shutdown.
//! - The state log: fences, state records, what readers accept; writes that arrive after their
//!   writer is no owner any more.
//! - Faults: a process freezes and thaws, or crashes and starts again; the coordinator cannot be
//!   reached for any time; a commit's answer is lost, and the request arrives later or never; a
//!   drain passes its deadline. Every thread may be slow at any point.
//!
//! # What is abstracted
//!
//! - Time is in ticks: a session is [`rules::SESSION`] of them, a heartbeat and an attempt one
//!   each. Ages are kept, not times, so runs may be of any length. A heartbeat that tells nobody
//!   anything new happens right before the tick, which makes sessions as short as they can be.
//! - A record is settled in one step with the end of its attempt; a commit says which records are
//!   settled (frontier and map in one).
//! - A look at the clock and the handing over to the HTTP client are one step. What was handed
//!   over before a freeze is with the kernel: for it [`promises::NO_OVERLAP`] says nothing.
//!   Likewise for a crash.
//! - The session of a process that died ends before it starts again; until then it could own
//!   other slices as a third member.
//! - A request that is answered is sent and answered in one step; what takes longer is a late one.
//! - Loading endpoints, lanes beside `deliveries`, and what state says are left out.
//! - Of two slices that are alike the first moves first.
//!
//! # Bounds
//!
//! The tests name records per slice, faults and moves of each exploration. Within them every state
//! is seen; states are told apart by 64-bit hashes. At the time of writing:
//!
//! | slices and records | faults | moves | beside | states |
//! | --- | --- | --- | --- | --- |
//! | 1 + 1 | 0 | 2 | every state is healed | 454 475 |
//! | 1 + 1 | 1 | 1 | | 3 265 622 |
//! | 2 | 1 | 1 | | 2 235 468 |
//! | 1 | 1 | 1 | every state is healed | 323 720 |
//! | 0 | 1 | 1 | fences; every state is healed | 95 241 |
//!
//! "Healed": from each state one fixed schedule without further faults leads to every slice owned
//! and every record settled and committed. That shows no state is a dead end, not that every
//! schedule is a good one.
#![warn(missing_docs)]

mod calm;
mod coordinator;
mod fence;
mod member;
pub mod model;
pub mod promises;
pub mod rules;
pub mod state;

#[cfg(test)]
mod tests;
