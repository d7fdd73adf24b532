//! That nobody can abuse the egress: hostile URLs, names and receivers against the client as it is
//! released.
//!
//! | test | shows | program |
//! | --- | --- | --- |
//! | `urls` | every hostile URL is refused by its own rule | |
//! | `packets` | neither these URLs nor hostile answers of name servers, redirects or a proxy in the environment make one packet leave for a denied range | `hostile packets` |
//! | `receivers` | every hostile receiver ends in time, with a kind of error of its own | `hostile receivers` |
//! | `exchanges` | memory, sockets and tasks are the same after any number of them | `hostile exchanges --count 100000` |
//! | `reuse` | a steady load over many hosts keeps its connections | `hostile reuse --hosts 1000 --rounds 60` |
//!
//! The programs run in a network of their own ([`namespace`]): `cargo run -p postrider-hostile --`
//! and their name. Leaves how verdicts follow from kinds to `engine`, and what only a stand-in can
//! show (a peer that is not the address the resolver gave) to the tests of `egress`.
#![warn(missing_docs)]

pub mod answers;
pub mod authority;
pub mod behaviour;
pub mod name_server;
pub mod namespace;
pub mod ranges;
pub mod receiver;
pub mod runs;
pub mod urls;
pub mod usage;
