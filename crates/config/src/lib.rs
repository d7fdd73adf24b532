//! File, environment and flags to a checked configuration.
