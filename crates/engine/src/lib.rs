//! The delivery engine: deterministic, without I/O.
