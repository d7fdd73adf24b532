//! How much memory a schema takes that is made to take much. Alone in its process, as it looks at
//! what the process had at most.

use std::fs;

use postrider_schema::{Kind, Schema, TEXT_BYTES_MAX};

/// The most that was in memory so far, in bytes.
fn peak() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("Linux tells it");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    kib.expect("a number").parse::<usize>().expect("of KiB") << 10
}

#[test]
fn a_long_namespace_costs_its_length_once() {
    let long = "n".repeat(50_000);
    let fixed = |number: usize| {
        let fixed = format!(r#"{{"type":"fixed","name":"f{number}","size":1}}"#);
        format!(r#"{{"name":"a","type":{fixed}}},"#)
    };
    let fields: String = (0..TEXT_BYTES_MAX / 80).map(fixed).collect();
    let last = r#"{"name":"a","type":"int"}"#;
    let record =
        format!(r#"{{"type":"record","name":"r","namespace":"{long}","fields":[{fields}{last}]}}"#);
    let messages: String = (0..TEXT_BYTES_MAX / 32)
        .map(|n| format!("message A{n}{{}}"))
        .collect();
    let file = format!("package {long}; {messages}");
    let before = peak();
    for (kind, text) in [(Kind::Avro, record), (Kind::Protobuf, file)] {
        assert!(Schema::new(kind, &text, &[]).is_err());
        let more = peak() - before;
        assert!(more < 100 << 20, "{kind:?}: {more} bytes");
    }
}
