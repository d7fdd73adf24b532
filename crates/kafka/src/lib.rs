//! The only place that talks to Kafka.
