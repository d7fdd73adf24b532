//! What tests share: a real broker, a scripted receiver, a schema registry, an
//! independent verifier, names that do not meet.
//!
//! Everything here panics with an explanation when it cannot do its work: a test that lacks its
//! broker must fail, not pass.

mod broker;
mod names;
mod receiver;
mod registry;
mod verifier;

pub use broker::Broker;
pub use names::unique_prefix;
pub use receiver::{Receiver, Reply, Request};
pub use registry::SchemaRegistry;
pub use verifier::{Receipt, Verifier};
