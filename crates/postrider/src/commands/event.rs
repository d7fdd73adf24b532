//! `postrider event publish`: one event on an intake topic, as a CloudEvent in binary form.

use bytes::Bytes;
use clap::{Args, Subcommand};
use postrider_domain::{NewRecord, Tenant};
use postrider_kafka::{Writer, admin, producer::ANY_PARTITION};
use serde::Serialize;

use crate::cli::DryRun;
use crate::exit::Failure;
use crate::input;
use crate::installation::{WAIT, Where};
use crate::output::{Output, printable};

/// What the events published by hand name as their origin.
const SOURCE: &str = "/postrider/cli";

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Put one event on an intake topic
    Publish(Publish),
}

#[derive(Args)]
pub(crate) struct Publish {
    /// The intake topic; it must exist
    #[arg(long, env = "POSTRIDER_TOPIC")]
    topic: String,
    /// The event's type, for example payment.captured
    #[arg(long = "type", env = "POSTRIDER_TYPE")]
    event_type: String,
    /// The merchant account whose endpoints get it
    #[arg(long, env = "POSTRIDER_TENANT")]
    tenant: Tenant,
    /// The event's id, unique for its source; random if absent
    #[arg(long, env = "POSTRIDER_ID")]
    id: Option<String>,
    /// Record key and ordering key
    #[arg(long, env = "POSTRIDER_KEY")]
    key: Option<String>,
    /// The payload: JSON, @FILE, or @- for standard input
    #[arg(long, env = "POSTRIDER_DATA", value_name = "JSON|@FILE")]
    data: String,
    #[command(flatten)]
    dry: DryRun,
}

#[derive(Serialize)]
struct Published {
    id: String,
    topic: String,
    #[serde(rename = "type")]
    event_type: String,
    tenant: String,
    bytes: usize,
    published: bool,
}

pub(crate) fn run(command: &Command, at: &Where, output: Output) -> Result<(), Failure> {
    let Command::Publish(publish) = command;
    let id = match &publish.id {
        Some(id) => id.clone(),
        None => format!("evt_{:032x}", u128::from_be_bytes(input::random()?)),
    };
    let (data, content_type) = input::payload(&publish.data)?;
    let bytes = data.len();
    let event = CloudEvent {
        topic: &publish.topic,
        source: SOURCE,
        id: &id,
        event_type: &publish.event_type,
        tenant: publish.tenant.as_str(),
        key: publish.key.as_deref(),
        content_type,
        data,
    };
    let record = event.record();
    let installation = at.load()?;
    let settings = installation.reach()?;
    if !admin::missing(&settings, &[&publish.topic], WAIT)?.is_empty() {
        return Err(Failure::no(format!(
            "there is no topic {}; intake topics are yours to create",
            publish.topic
        )));
    }
    if !publish.dry.dry_run {
        Writer::new(&settings)?.send_and_wait(&record)?;
    }
    let done = Published {
        id,
        topic: publish.topic.clone(),
        event_type: publish.event_type.clone(),
        tenant: publish.tenant.to_string(),
        bytes,
        published: !publish.dry.dry_run,
    };
    let verb = if done.published {
        "published"
    } else {
        "would publish"
    };
    let line = format!("{verb} {} to {}", printable(&done.id), done.topic);
    Ok(output.item(&done, &line)?)
}

/// What is put on an intake topic, as a CloudEvent in binary form.
pub(super) struct CloudEvent<'a> {
    pub(super) topic: &'a str,
    pub(super) source: &'a str,
    pub(super) id: &'a str,
    pub(super) event_type: &'a str,
    pub(super) tenant: &'a str,
    /// Record key and ordering key.
    pub(super) key: Option<&'a str>,
    pub(super) content_type: &'static str,
    pub(super) data: Bytes,
}

impl CloudEvent<'_> {
    /// The record, of this moment.
    pub(super) fn record(self) -> NewRecord {
        let text = |value: &str| Some(Bytes::copy_from_slice(value.as_bytes()));
        let time = input::rfc3339(input::now());
        let mut headers = vec![
            ("ce_specversion".into(), text("1.0")),
            ("ce_id".into(), text(self.id)),
            ("ce_source".into(), text(self.source)),
            ("ce_type".into(), text(self.event_type)),
            ("ce_time".into(), text(&time)),
            ("ce_tenant".into(), text(self.tenant)),
            ("content-type".into(), text(self.content_type)),
        ];
        if let Some(key) = self.key {
            headers.push(("ce_partitionkey".into(), text(key)));
        }
        NewRecord {
            topic: self.topic.into(),
            partition: ANY_PARTITION,
            key: self.key.and_then(text),
            value: Some(self.data),
            headers,
        }
    }
}
