//! Logs and metrics: their names and their output.
