//! librdkafka's properties as we let them through.
//!
//! Decides which are reserved, with the reason, and which are secret. Leaves their meaning to
//! librdkafka.

use serde_json::Value;

use crate::kind::{Complaint, quote};

/// Properties that Postrider sets itself, and why another value would break it.
pub(crate) const RESERVED: [(&str, &str); 22] = [
    ("bootstrap.servers", "set kafka.brokers instead"),
    ("metadata.broker.list", "set kafka.brokers instead"),
    ("group.id", "groups are named by kafka.prefix"),
    ("group.protocol", "set dispatcher.ownership instead"),
    ("session.timeout.ms", "set dispatcher.session instead"),
    ("heartbeat.interval.ms", "set dispatcher.heartbeat instead"),
    (
        "group.instance.id",
        "a worker with a fixed name would keep its slices after a crash for a whole session",
    ),
    (
        "group.remote.assignor",
        "slices are spread by the broker's default assignor",
    ),
    (
        "partition.assignment.strategy",
        "slices are handed over one by one, which only the chosen strategy does",
    ),
    (
        "enable.auto.commit",
        "offsets are committed only once their records are settled",
    ),
    (
        "auto.commit.enable",
        "offsets are committed only once their records are settled",
    ),
    (
        "enable.auto.offset.store",
        "offsets are committed only once their records are settled",
    ),
    (
        "auto.offset.reset",
        "a reset would skip or repeat records without a word",
    ),
    (
        "isolation.level",
        "events of aborted transactions must not be delivered",
    ),
    ("check.crcs", "damaged records must not be delivered"),
    (
        "enable.idempotence",
        "without it a retried write could repeat or reorder deliveries",
    ),
    (
        "acks",
        "a write counts only when every in-sync replica has it",
    ),
    (
        "request.required.acks",
        "a write counts only when every in-sync replica has it",
    ),
    (
        "transactional.id",
        "writes are made safe by deterministic ids, not by transactions",
    ),
    (
        "partitioner",
        "the partition is the slice, written explicitly",
    ),
    (
        "enable.partition.eof",
        "end-of-partition events are asked for where they are needed",
    ),
    (
        "plugin.library.paths",
        "loading code into the process is not a matter of configuration",
    ),
];

/// Whether a property's value must not be shown.
pub(crate) fn is_secret(name: &str) -> bool {
    const MARKS: [&str; 5] = ["password", "secret", "passphrase", "private", "jaas"];
    MARKS.iter().any(|mark| name.contains(mark))
        || name.ends_with("key.pem")
        || name == "sasl.oauthbearer.config"
}

/// The property's value as librdkafka takes it, or why it is refused.
pub(crate) fn check(path: &str, name: &str, value: &Value) -> Result<String, Complaint> {
    let refuse = |found: String, expected: String| Complaint {
        path: path.to_owned(),
        found,
        expected,
    };
    if let Some((_, reason)) = RESERVED.iter().find(|(reserved, _)| *reserved == name) {
        return Err(refuse(
            "a property that Postrider sets itself".to_owned(),
            format!("it to be left out: {reason}"),
        ));
    }
    match value {
        Value::String(text) if !text.contains('\0') => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(flag) => Ok(flag.to_string()),
        _ => Err(refuse(
            if is_secret(name) {
                "another type".to_owned()
            } else {
                quote(value)
            },
            "text, a number or a boolean".to_owned(),
        )),
    }
}
