//! What tests share: a real broker, a scripted receiver.
