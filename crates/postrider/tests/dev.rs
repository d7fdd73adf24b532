//! `postrider dev` as a script runs it: the whole of Postrider on the embedded broker.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long a demo of a few events may take; it takes about ten seconds, and ends itself when it is
/// stuck.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs `postrider dev` with nothing of this environment that could change it.
fn dev(arguments: &[&str]) -> Output {
    let started = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_postrider"))
        .arg("dev")
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs");
    let took = started.elapsed();
    assert!(took < LIMIT, "{took:?}: {output:?}");
    output
}

#[test]
fn every_delivery_of_the_demo_ends_as_it_should() {
    let output = dev(&["--exit", "--json", "--events", "5"]);
    let complaints = String::from_utf8_lossy(&output.stderr);
    let summary: Value = serde_json::from_slice(&output.stdout).expect(&complaints);
    assert_eq!(output.status.code(), Some(0), "{complaints}\n{summary:#}");
    assert_eq!(summary["ok"], true);
    for (name, count) in [
        ("events", 5),
        ("endpoints", 3),
        ("deliveries", 15),
        ("delivered", 10),
        ("dead_lettered", 5),
        ("discarded", 0),
        ("unsettled", 0),
        ("requests", 5 + 15 + 20),
        ("requests_not_valid", 0),
    ] {
        assert_eq!(summary[name], count, "{name} of {summary:#}");
    }
    assert_eq!(summary["unexpected"], json!([]));
    let requests: Vec<(&Value, &Value)> = summary["by_behaviour"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| (&row["behaviour"], &row["requests"]))
        .collect();
    assert_eq!(
        requests,
        [
            (&json!("healthy"), &json!(5)),
            (&json!("flaky"), &json!(15)),
            (&json!("dead"), &json!(20)),
        ]
    );
    assert_eq!(complaints, "", "nothing to warn of");
}

#[test]
fn a_demo_beyond_the_embedded_broker_is_refused() {
    let output = dev(&["--exit", "--events", "1000000"]);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{complaints}");
    assert!(complaints.contains("5 MiB"), "{complaints}");
    assert!(complaints.contains("--brokers"), "{complaints}");
    assert!(output.stdout.is_empty());
}

#[test]
fn a_demo_without_events_is_over_at_once() {
    let output = dev(&["--exit", "--json", "--events", "0", "--endpoints", "1"]);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{complaints}");
    let summary: Value = serde_json::from_slice(&output.stdout).expect("one object");
    assert_eq!(summary["deliveries"], 0);
}
