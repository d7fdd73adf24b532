//! What must hold for any bytes from outside: a function for each place where they come in.
//!
//! Each takes an input as a person can read and write it, and panics when something does not hold.
//! `tests/corpus.rs` runs the kept inputs and small changes of them with every other test;
//! `run.sh` gives each function to a fuzzer for as long as one likes:
//!
//! ```sh
//! tests/fuzz/run.sh 600                   # each target for ten minutes
//! tests/fuzz/run.sh 600 event commit_map  # these
//! ```
//!
//! An input that fails is put into `corpus/TARGET/` with the change that mends it.

mod address;
mod commit_map;
mod endpoint;
mod event;
mod filter;
mod framed;
mod response;
mod retry_after;
mod sample;
mod template;
mod text;

/// A place where bytes come in.
pub type Target = fn(&[u8]);

/// All of them, by the name of their corpus folder and their binary.
pub const TARGETS: [(&str, Target); 9] = [
    ("event", event::event),
    ("framed", framed::framed),
    ("filter", filter::filter),
    ("template", template::template),
    ("address", address::address),
    ("retry_after", retry_after::retry_after),
    ("response", response::response),
    ("endpoint", endpoint::endpoint),
    ("commit_map", commit_map::commit_map),
];

/// Runs one input of a target.
///
/// # Panics
/// When there is no such target, or something does not hold.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    let (_, target) = target.unwrap_or_else(|| panic!("no target is named {name}"));
    target(input);
}
