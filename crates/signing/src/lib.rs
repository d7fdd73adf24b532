//! Webhook signatures, pure.
