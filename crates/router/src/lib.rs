//! The router role: events in, deliveries out.
