//! `postrider endpoint test`: one signed request to one endpoint, on the way of every delivery.
//!
//! Decides what is sent when nobody says, and how long its end is waited for. That it is tried once
//! and not too often is the dispatcher's (ADR 0037); what of its end is told is `coarse`'s.

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use postrider_domain::{Delivery, Endpoint, EndpointId, EndpointState, Event, Lane, TypePattern};
use postrider_kafka::tail::From;
use postrider_kafka::{Tail, Writer};
use postrider_wire::{attempt, delivery};
use serde::Serialize;

use super::{Topic, no_endpoint};
use crate::cli::DryRun;
use crate::coarse::{Coarse, Ended};
use crate::exit::{Code, Failure};
use crate::input;
use crate::installation::{Installation, WAIT};
use crate::output::{Output, printable};

/// What a test names as its origin.
const SOURCE: &str = "/postrider/test";
/// The type of a test, unless another is asked for.
const TYPE: &str = "postrider.test";
/// How long a test may wait for its turn at the dispatcher, be read and be written down; its
/// request has the endpoint's timeout beside it.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Args)]
pub(crate) struct Test {
    /// The endpoint's id
    id: EndpointId,
    /// The event's type
    #[arg(long = "type", env = "POSTRIDER_TYPE", default_value = TYPE, value_parser = event_type)]
    event_type: String,
    /// The payload: JSON, @FILE, or @- for standard input
    #[arg(long, env = "POSTRIDER_DATA", value_name = "JSON|@FILE")]
    data: Option<String>,
    #[command(flatten)]
    dry: DryRun,
}

#[derive(Serialize)]
struct Tested {
    endpoint: String,
    delivery_id: String,
    outcome: &'static str,
    status: Option<u16>,
    duration_ms: Option<u64>,
}

pub(super) fn run(
    arguments: &Test,
    installation: &Installation,
    output: Output,
) -> Result<(), Failure> {
    let id = &arguments.id;
    let (data, content_type) = match &arguments.data {
        Some(data) => input::payload(data)?,
        None => (sample(&arguments.event_type), input::JSON),
    };
    let topic = Topic::open(installation)?;
    let stored = topic
        .read([id])?
        .remove(id)
        .ok_or_else(|| no_endpoint(id))?;
    let endpoint = stored.recorded.endpoint;
    refuse(&endpoint)?;
    let event_id = format!("test_{:032x}", u128::from_be_bytes(input::random()?));
    let test = Delivery {
        id: delivery::delivery_id(SOURCE, &event_id, id),
        endpoint: id.clone(),
        event: Event {
            id: event_id.into(),
            source: SOURCE.into(),
            event_type: arguments.event_type.as_str().into(),
            tenant: endpoint.tenant.clone(),
            time: Some(input::rfc3339(input::now()).into()),
            ordering_key: None,
            content_type: Some(content_type.into()),
            traceparent: None,
            extensions: Vec::new(),
            data,
            accepted_at: input::now(),
        },
        attempts: 0,
        due: None,
        test: true,
    };
    if arguments.dry.dry_run {
        return Ok(output.item(
            &Tested {
                endpoint: id.to_string(),
                delivery_id: test.id.to_string(),
                outcome: "dry_run",
                status: None,
                duration_ms: None,
            },
            &format!(
                "would send {} of type {} to {id}",
                bytes_of(&test),
                printable(&test.event.event_type)
            ),
        )?);
    }
    let timeout = endpoint
        .timeout
        .unwrap_or(installation.config.dispatcher.defaults.timeout);
    let ended = send(installation, &test, PATIENCE + timeout)?;
    let tested = Tested {
        endpoint: id.to_string(),
        delivery_id: test.id.to_string(),
        outcome: ended.how.name(),
        status: ended.response.map(|(status, _)| status),
        duration_ms: ended.response.map(|(_, took)| millis(took)),
    };
    output.item(&tested, &format!("{id}: {ended}"))?;
    if ended.how == Coarse::Delivered {
        Ok(())
    } else {
        Err(Failure::no(format!("the test of {id} was not delivered")))
    }
}

fn event_type(text: &str) -> Result<String, &'static str> {
    match TypePattern::new(text) {
        Some(_) if !text.contains('*') => Ok(text.to_owned()),
        _ => Err("expected 1 to 256 bytes without spaces and *, such as payment.captured"),
    }
}

/// What would wait for who knows how long is no test.
fn refuse(endpoint: &Endpoint) -> Result<(), Failure> {
    let id = &endpoint.id;
    match endpoint.state {
        EndpointState::Active => Ok(()),
        EndpointState::Paused => Err(Failure::no(format!(
            "{id} is paused: nothing is sent to it, no test either; `postrider endpoint resume {id}` \
             lets its deliveries go on"
        ))),
        EndpointState::Disabled => Err(Failure::no(format!(
            "{id} is disabled: nothing is sent to it, no test either; say state: active in its file \
             and apply it"
        ))),
    }
}

/// As Standard Webhooks advises for payloads.
fn sample(event_type: &str) -> Bytes {
    let value = serde_json::json!({
        "type": event_type,
        "timestamp": input::rfc3339(input::now()),
        "data": { "message": "a test of this endpoint; nothing happened" },
    });
    value.to_string().into()
}

fn bytes_of(test: &Delivery) -> String {
    format!("{} bytes", test.event.data.len())
}

/// Writes the test and waits for its record.
fn send(
    installation: &Installation,
    test: &Delivery,
    patience: Duration,
) -> Result<Ended, Failure> {
    let topics = &installation.topics;
    let (deliveries, attempts) = (topics.lane(Lane::Deliveries), topics.attempts());
    let settings = installation.kafka();
    installation.check_topics(&settings, &[deliveries, attempts])?;
    let partition = installation.partition(&test.endpoint);
    let group = installation.group();
    // From before the test is there, so that its record is not missed.
    let mut tail = Tail::open(
        &settings,
        &group,
        attempts,
        Some(partition),
        From::End,
        WAIT,
    )?;
    let record = delivery::encode(test, 0, None, deliveries.clone(), partition);
    Writer::new(&settings)?.send_and_wait(&record)?;
    let id = test.id.to_string();
    if io::stderr().is_terminal() {
        eprintln!("postrider: sent as {id}, waiting for its end (at most {patience:?})");
    }
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let Some(record) = tail.next(left) else {
            return Err(Failure::new(
                Code::Unavailable,
                format!(
                    "no dispatcher sent the test within {patience:?}: is one running, and does it \
                     own slice {partition} (postrider attempt tail shows what it does)? It is not \
                     sent any more 2 minutes after it was written"
                ),
            ));
        };
        let value = record.value.as_deref().unwrap_or_default();
        if let Ok(attempt) = attempt::decode(value)
            && attempt.delivery_id == id
        {
            return Ok(Ended::of_record(&attempt));
        }
    }
}

fn millis(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::topic::testing::wanted;
    use super::*;

    #[test]
    fn what_is_sent_nothing_is_not_tested() {
        let of = |state| {
            let endpoint = Endpoint {
                state,
                ..wanted("https://a.example/")
            };
            match refuse(&endpoint) {
                Ok(()) => String::new(),
                Err(Failure::Ended(Code::No, reason)) => reason,
                Err(other) => panic!("{other:?}"),
            }
        };
        assert_eq!(of(EndpointState::Active), "");
        assert!(of(EndpointState::Paused).contains("endpoint resume ep_1"));
        assert!(of(EndpointState::Disabled).contains("state: active"));
    }

    #[test]
    fn the_sample_is_json_that_names_its_type() {
        let sample: serde_json::Value = serde_json::from_slice(&sample("a.\"b")).unwrap();
        assert_eq!(sample["type"], "a.\"b");
    }
}
