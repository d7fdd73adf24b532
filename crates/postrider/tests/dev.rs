//! `postrider dev` as a script runs it: the whole of Postrider on the embedded broker.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Output, Stdio};
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

#[test]
fn brokers_of_the_environment_are_named_before_they_are_used() {
    let output = Command::new(env!("CARGO_BIN_EXE_postrider"))
        .args(["dev", "--events", "0"])
        .env_clear()
        // Nobody listens there.
        .env("POSTRIDER_BROKERS", "127.0.0.1:1")
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs");
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    let expected = "Using Kafka at 127.0.0.1:1 because POSTRIDER_BROKERS is set";
    assert!(said.starts_with(expected), "{said}");
}

/// Killed when the test fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn an_event_no_endpoint_wants_is_shown() {
    let binary = env!("CARGO_BIN_EXE_postrider");
    let child = Command::new(binary)
        .args(["dev", "--events", "0"])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut running = Running(child);
    let stdout = running.0.stdout.take().expect("it is piped");
    let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
    let mut line_with = |part: &str| {
        let line = lines.find(|line| line.contains(part));
        line.unwrap_or_else(|| panic!("it ended before {part:?}"))
    };
    let first = line_with("embedded broker at ");
    let brokers = first.split_whitespace().find(|word| word.contains(':'));
    let brokers = brokers.expect("an address").trim_end_matches('.');
    // What is printed is what can be typed, whatever is on the path.
    let printed = line_with("event publish");
    assert!(printed.trim_start().starts_with(binary), "{printed}");
    line_with("deliveries are settled");
    let published = Command::new(binary)
        .args(["event", "publish", "--topic", "demo.events", "--id", "lost"])
        .args(["--type", "payment.captured", "--tenant", "default"])
        .args(["--data", "1", "--brokers", brokers])
        .env_clear()
        .output()
        .expect("the binary runs");
    assert!(published.status.success(), "{published:?}");
    let line = line_with("no endpoint");
    let expected = "lost  tenant default has no endpoint for payment.captured";
    assert!(line.ends_with(expected), "{line}");
}
