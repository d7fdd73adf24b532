//! File, environment and flags to one checked [`Config`].
//!
//! Decides the keys, their defaults, bounds and meaning (one table, `keys`, from which
//! the checks, `config show`, `config reference` and the reference page all follow), and reports
//! every mistake at once with its path, the value's source and what was expected.
//! It is the only reader of environment variables.
//! Leaves to others: what the values do, and the flags' own names (the binary hands them in as
//! overrides).
#![warn(missing_docs)]

mod assemble;
mod config;
mod environment;
mod file;
mod keys;
mod kind;
mod mistake;
mod property;
mod proxy;
mod reference;
mod tree;

pub use assemble::{Override, Sources, load};
pub use config::{
    Config, Decode, Defaults, Dispatcher, Handshake, Kafka, LogFormat, Ownership, Properties,
    Registration, SchemaRegistry, Secrets, Source, SourceMap, Telemetry, Topics,
};
pub use environment::Environment;
pub use file::File;
pub use mistake::{ConfigErrors, Mistake};
pub use reference::{ReferenceRow, ShowRow, reference, reference_markdown};
