//! `postrider attempt tail`: what is being sent right now, from the `attempts` topic.
//!
//! Decides what of an attempt record is shown. Its fields are public (`docs/reference/records.md`)
//! and are read by name, so that a newer writer's record is shown too.

use std::time::Duration;

use clap::{Args, Subcommand};
use postrider_domain::EndpointId;
use postrider_kafka::Tail;
use postrider_kafka::tail::From;
use serde_json::Value;

use crate::exit::Failure;
use crate::installation::{WAIT, Where};
use crate::output::{Format, Output, Tone, printable};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Print attempts as they are made, until interrupted
    Tail(TailArguments),
}

#[derive(Args)]
pub(crate) struct TailArguments {
    /// Only of this endpoint
    #[arg(long, env = "POSTRIDER_ENDPOINT", value_name = "ID")]
    endpoint: Option<EndpointId>,
    /// Only those that did not deliver
    #[arg(long, env = "POSTRIDER_FAILED", value_parser = clap::builder::BoolishValueParser::new())]
    failed: bool,
}

pub(crate) fn run(command: &Command, at: &Where, output: Output) -> Result<(), Failure> {
    let Command::Tail(arguments) = command;
    let installation = at.load()?;
    let settings = installation.reach()?;
    let topic = installation.topics.attempts();
    installation.check_topics(&settings, &[topic])?;
    let partition = arguments
        .endpoint
        .as_ref()
        .map(|id| installation.partition(id));
    let group = installation.group();
    let mut tail = Tail::open(&settings, &group, topic, partition, From::End, WAIT)?;
    if output.format() == Format::Table {
        eprintln!("postrider: waiting for attempts made from now on; Ctrl-C ends");
    }
    loop {
        let Some(record) = tail.next(Duration::from_secs(60)) else {
            continue;
        };
        let value = record.value.as_deref().unwrap_or_default();
        let Ok(attempt) = serde_json::from_slice::<Value>(value) else {
            eprintln!(
                "postrider: {} is not an attempt record, skipped",
                record.origin
            );
            continue;
        };
        if arguments.wants(&attempt) {
            output.item(&attempt, &line(&attempt, output))?;
        }
    }
}

impl TailArguments {
    fn wants(&self, attempt: &Value) -> bool {
        let of_endpoint = |id: &EndpointId| attempt["endpoint_id"] == id.as_str();
        self.endpoint.as_ref().is_none_or(of_endpoint)
            && !(self.failed && attempt["outcome"] == "delivered")
    }
}

/// One line: when, what, where, and what came of it.
fn line(attempt: &Value, output: Output) -> String {
    let text = |value: &Value| printable(value.as_str().unwrap_or("-"));
    let outcome = text(&attempt["outcome"]);
    let tone = match &*outcome {
        "delivered" => Tone::Good,
        "retry" => Tone::Faint,
        _ => Tone::Bad,
    };
    let error = &attempt["error"];
    let answer = match (&attempt["response"]["status"], &error["kind"]) {
        (Value::Number(status), _) => match &attempt["unmet"] {
            Value::String(unmet) => format!("{status}: {}", printable(unmet)),
            _ => status.to_string(),
        },
        (_, Value::String(kind)) => match &error["message"] {
            Value::String(message) => format!("{}: {}", printable(kind), printable(message)),
            _ => printable(kind),
        },
        _ => "-".to_owned(),
    };
    let mut line = format!(
        "{} {} {} {} attempt {} {answer} {} ms {}",
        text(&attempt["started_at"]),
        text(&attempt["delivery_id"]),
        text(&attempt["event"]["type"]),
        text(&attempt["endpoint_id"]),
        attempt["attempt"],
        attempt["duration_ms"],
        output.paint(tone, &outcome),
    );
    if let Value::String(reason) = &attempt["reason"] {
        line += &format!(" ({})", printable(reason));
    }
    if let Value::String(next) = &attempt["next_attempt_at"] {
        line += &format!(", next at {}", printable(next));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_tells_outcome_and_what_comes_next() {
        let attempt = json!({
            "started_at": "2026-01-01T00:00:00Z", "delivery_id": "dlv_1", "endpoint_id": "ep_1",
            "event": {"type": "payment.captured"}, "attempt": 2, "duration_ms": 12,
            "response": {"status": 500}, "error": null, "outcome": "retry", "reason": null,
            "next_attempt_at": "2026-01-01T00:05:00Z",
        });
        let line = line(&attempt, Output::new(Format::Table, true));
        assert_eq!(
            line,
            "2026-01-01T00:00:00Z dlv_1 payment.captured ep_1 attempt 2 500 12 ms retry, \
             next at 2026-01-01T00:05:00Z"
        );
    }

    #[test]
    fn a_line_without_an_answer_says_why() {
        let attempt = json!({
            "started_at": "2026-01-01T00:00:00Z", "delivery_id": "dlv_1", "endpoint_id": "ep_1",
            "event": {"type": "payment.captured"}, "attempt": 1, "duration_ms": 2,
            "response": null, "outcome": "retry",
            "error": {"kind": "connect", "message": "no connection: Connection refused"},
        });
        let line = line(&attempt, Output::new(Format::Table, true));
        let why = " attempt 1 connect: no connection: Connection refused 2 ms retry";
        assert!(line.ends_with(why), "{line}");
    }

    #[test]
    fn filters_are_by_endpoint_and_failure() {
        let wants = |endpoint: Option<&str>, failed, outcome| {
            let arguments = TailArguments {
                endpoint: endpoint.map(|id| id.parse().unwrap()),
                failed,
            };
            arguments.wants(&json!({"endpoint_id": "ep_1", "outcome": outcome}))
        };
        assert!(wants(None, false, "delivered"));
        assert!(wants(Some("ep_1"), true, "retry"));
        assert!(!wants(Some("ep_2"), false, "delivered"));
        assert!(!wants(None, true, "delivered"));
    }
}
