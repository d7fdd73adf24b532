//! `postrider dead-letter list`: what was given up and why, from the `dead-letters` topic.
//!
//! Decides what of a dead letter is shown: its headers, which are public
//! (`docs/reference/records.md`); payloads stay where they are.

use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use postrider_domain::{DeadLetterReason, EndpointId, Record, Timestamp};
use postrider_kafka::Tail;
use postrider_kafka::tail::From;
use postrider_wire::dead_letter;
use serde_json::{Value, json};

use crate::exit::Failure;
use crate::input;
use crate::installation::{WAIT, Where};
use crate::output::{Format, Output};

/// How long a broker may be silent before the end of the topic.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Subcommand)]
pub(crate) enum Command {
    /// List dead letters, oldest first
    List(ListArguments),
}

#[derive(Args)]
pub(crate) struct ListArguments {
    /// Only of this endpoint
    #[arg(long, env = "POSTRIDER_ENDPOINT", value_name = "ID")]
    endpoint: Option<EndpointId>,
    /// Only with this reason, for example attempts_exhausted
    #[arg(long, env = "POSTRIDER_REASON", value_parser = PossibleValuesParser::new(REASONS))]
    reason: Option<String>,
    /// Only those since a time (RFC 3339) or within a duration (24h)
    #[arg(long, env = "POSTRIDER_SINCE", value_name = "TIME|DURATION", value_parser = since)]
    since: Option<Timestamp>,
}

const REASONS: [&str; 11] = [
    DeadLetterReason::AttemptsExhausted.as_str(),
    DeadLetterReason::WindowPassed.as_str(),
    DeadLetterReason::EndpointUnknown.as_str(),
    DeadLetterReason::EndpointGone.as_str(),
    DeadLetterReason::EgressDenied.as_str(),
    DeadLetterReason::BadUrl.as_str(),
    DeadLetterReason::Unrenderable.as_str(),
    DeadLetterReason::Undecodable.as_str(),
    DeadLetterReason::Oversized.as_str(),
    DeadLetterReason::Unmappable.as_str(),
    DeadLetterReason::FilterFailed.as_str(),
];

const COLUMNS: [&str; 10] = [
    "at",
    "endpoint",
    "delivery",
    "event",
    "type",
    "reason",
    "attempts",
    "last_status",
    "origin",
    "message",
];

pub(crate) fn run(command: &Command, at: &Where, output: Output) -> Result<(), Failure> {
    let Command::List(arguments) = command;
    let installation = at.load()?;
    let settings = installation.reach()?;
    let topic = installation.topics.dead_letters();
    installation.check_topics(&settings, &[topic])?;
    let partition = arguments
        .endpoint
        .as_ref()
        .map(|id| installation.partition(id));
    let group = installation.group();
    let tail = Tail::open(&settings, &group, topic, partition, From::Beginning, WAIT)?;
    let mut found: Vec<(Timestamp, Value)> = Vec::new();
    let mut foreign = 0_usize;
    tail.read_all(PATIENCE, |record| {
        if arguments.wants(&record) {
            match dead_letter::decode(&record) {
                // Not the letter itself: it holds the payload.
                Ok(letter) => found.push((letter.at, json!(letter.summary()))),
                Err(_) => foreign += 1,
            }
        }
    })?;
    found.sort_by_key(|(at, _)| *at);
    let summaries = found.into_iter().map(|(_, summary)| summary);
    match output.format() {
        Format::Table => output.rows(&COLUMNS, &summaries.map(row).collect::<Vec<_>>())?,
        Format::Json | Format::Yaml => output.rows(&[], &summaries.collect::<Vec<_>>())?,
    }
    match foreign {
        0 => Ok(()),
        _ => Err(Failure::no(format!(
            "{foreign} records of {topic} are no dead letters"
        ))),
    }
}

impl ListArguments {
    fn wants(&self, record: &Record) -> bool {
        let key = record.key.as_deref();
        let of_endpoint = |id: &EndpointId| key == Some(id.as_str().as_bytes());
        let with_reason = |reason: &String| record.header("pr_reason") == Some(reason.as_bytes());
        self.endpoint.as_ref().is_none_or(of_endpoint)
            && self.reason.as_ref().is_none_or(with_reason)
            && self.since.is_none_or(|since| record.timestamp >= since)
    }
}

/// What the table shows; JSON and YAML have the whole summary, as its schema says.
fn row(summary: Value) -> Value {
    let origin = match &summary["origin"] {
        Value::Null => Value::Null,
        place => format!(
            "{}/{}/{}",
            place["topic"].as_str().unwrap_or_default(),
            place["partition"],
            place["offset"]
        )
        .into(),
    };
    json!({
        "at": summary["dead_lettered_at"],
        "endpoint": summary["endpoint_id"],
        "delivery": summary["delivery_id"],
        "event": summary["event"]["id"],
        "type": summary["event"]["type"],
        "reason": summary["reason"],
        "attempts": summary["attempts"],
        "last_status": summary["last_status"],
        "origin": origin,
        "message": summary["message"],
    })
}

/// A moment, or how long ago it was.
fn since(text: &str) -> Result<Timestamp, String> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(input::now() - ago);
    }
    let time: jiff::Timestamp = text
        .parse()
        .map_err(|_| "write 24h or 2026-01-31T12:00:00Z".to_owned())?;
    let millis = u64::try_from(time.as_millisecond()).map_err(|_| "before 1970".to_owned())?;
    Ok(Timestamp::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use postrider_domain::Origin;

    fn letter() -> Record {
        let header = |name: &str, value: &'static str| {
            (name.into(), Some(Bytes::from_static(value.as_bytes())))
        };
        Record {
            origin: Origin {
                topic: "postrider.dead-letters".into(),
                partition: 3,
                offset: 9,
            },
            timestamp: Timestamp::from_secs(1_000),
            key: Some(Bytes::from_static(b"ep_1")),
            value: Some(Bytes::from_static(b"\xff")),
            headers: vec![
                header("pr_reason", "attempts_exhausted"),
                header("pr_attempts", "10"),
                header("pr_origin", "postrider.deliveries/3/7"),
            ],
        }
    }

    #[test]
    fn a_row_shows_what_the_headers_say() {
        let letter = dead_letter::decode(&letter()).unwrap();
        let row = row(json!(letter.summary()));
        assert_eq!(row["reason"], "attempts_exhausted");
        assert_eq!(row["attempts"], 10);
        assert_eq!(row["origin"], "postrider.deliveries/3/7");
        for column in COLUMNS {
            assert!(row.get(column).is_some(), "{column}");
        }
    }

    #[test]
    fn filters_hold_together() {
        let wants = |endpoint: Option<&str>, reason: Option<&str>, since: Option<u64>| {
            let arguments = ListArguments {
                endpoint: endpoint.map(|id| id.parse().unwrap()),
                reason: reason.map(str::to_owned),
                since: since.map(Timestamp::from_secs),
            };
            arguments.wants(&letter())
        };
        assert!(wants(None, None, None));
        assert!(wants(Some("ep_1"), Some("attempts_exhausted"), Some(1_000)));
        assert!(!wants(Some("ep_2"), None, None));
        assert!(!wants(None, Some("undecodable"), None));
        assert!(!wants(None, None, Some(1_001)));
    }

    #[test]
    fn since_is_a_time_or_a_duration() {
        assert_eq!(
            since("1970-01-01T00:16:40Z"),
            Ok(Timestamp::from_secs(1_000))
        );
        let then = since("24h").unwrap();
        let ago = input::now().since(then);
        assert!(ago >= Duration::from_secs(86_400) && ago < Duration::from_secs(86_460));
        assert!(since("yesterday").is_err());
    }
}
