//! What tests share: real brokers, a scripted receiver, a schema registry, an
//! independent verifier, names that do not meet, bounds on CPU and memory, a wrong clock.
//!
//! Everything here panics with an explanation when it cannot do its work: a test that lacks its
//! broker must fail, not pass.

mod broker;
mod budget;
mod clock;
mod cluster;
mod keeper;
mod names;
mod namespace;
mod receiver;
mod registry;
mod verifier;

pub use broker::Broker;
pub use budget::Budget;
pub use clock::WrongClock;
pub use cluster::{Cluster, Member};
pub use names::unique_prefix;
pub use namespace::unshare_arguments;
pub use receiver::{Receiver, Reply, Request};
pub use registry::SchemaRegistry;
pub use verifier::{Receipt, Verifier};
