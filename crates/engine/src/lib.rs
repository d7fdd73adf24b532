//! The delivery engine: deterministic, without I/O.
#![warn(missing_docs)]

pub mod commit_map;
pub mod offsets;
