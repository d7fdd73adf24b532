//! The only place an HTTP client exists.
