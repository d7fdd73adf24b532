//! Tests through the binary against a real broker.
