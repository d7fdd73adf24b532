//! The dispatcher role: deliveries in, requests out.
