//! Names for topics, groups and endpoints that no other test uses, so that tests share a broker.

use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

static COUNT: AtomicU64 = AtomicU64::new(0);

/// `name` and a suffix that differs between calls, processes and runs: `orders-18c5a0b9f3d-41b2-0`.
///
/// As long as `name` keeps to letters, digits, `.`, `_` and `-`, so does the result: it can open
/// the name of a Kafka topic or group.
pub fn unique_prefix(name: &str) -> String {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    let millis = since_epoch.map_or(0, |elapsed| elapsed.as_millis());
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{name}-{millis:x}-{:x}-{count:x}", process::id())
}

#[cfg(test)]
mod tests {
    use super::unique_prefix;

    #[test]
    fn two_calls_give_two_names_that_kafka_accepts() {
        let (one, other) = (unique_prefix("orders"), unique_prefix("orders"));
        assert_ne!(one, other);
        assert!(one.starts_with("orders-"));
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        assert!(one.chars().all(allowed), "{one}");
    }
}
