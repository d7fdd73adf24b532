//! `postrider endpoint`: merchants' endpoints, straight on the `endpoints` topic.
//!
//! Decides when a change is one (same content is not written again) and which version it gets. The
//! form of file and record is `wire`'s. Two of these at once on one endpoint: the later write wins.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, Subcommand};
use postrider_domain::{
    Endpoint, EndpointId, EndpointState, NewRecord, Record, Scheme, SigningSecret, Timestamp,
};
use postrider_kafka::tail::From;
use postrider_kafka::{ClientSettings, Tail, Writer};
use postrider_wire::endpoint::{self, FileFormat};
use serde::Serialize;

use crate::cli::DryRun;
use crate::exit::Failure;
use crate::input;
use crate::installation::{Installation, WAIT, Where};
use crate::output::{Format, Output};

/// How long a broker may be silent before the end of the topic.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Create or change the endpoints of a file
    Apply(Apply),
    /// List all endpoints
    List,
    /// Show one endpoint; secrets are masked
    Get(One),
    /// Delete one endpoint
    Delete(Delete),
}

#[derive(Args)]
pub(crate) struct Apply {
    /// YAML or JSON, one document or many; - is standard input
    #[arg(short, long, env = "POSTRIDER_FILE")]
    file: String,
    #[command(flatten)]
    dry: DryRun,
}

#[derive(Args)]
pub(crate) struct One {
    /// The endpoint's id
    id: EndpointId,
}

#[derive(Args)]
pub(crate) struct Delete {
    /// The endpoint's id
    id: EndpointId,
    #[command(flatten)]
    dry: DryRun,
}

pub(crate) fn run(command: &Command, at: &Where, output: Output) -> Result<(), Failure> {
    let installation = at.load()?;
    match command {
        Command::Apply(arguments) => {
            // Mistakes in the file are told without waiting for a broker.
            let wanted = read_file(&arguments.file, &installation)?;
            apply(
                wanted,
                arguments.dry.dry_run,
                &Topic::open(&installation)?,
                output,
            )
        }
        Command::List => list(&Topic::open(&installation)?, output),
        Command::Get(One { id }) => get(id, &Topic::open(&installation)?, output),
        Command::Delete(Delete { id, dry }) => {
            delete(id, dry.dry_run, &Topic::open(&installation)?, output)
        }
    }
}

fn read_file(file: &str, installation: &Installation) -> Result<Vec<Endpoint>, Failure> {
    let bytes = input::read(file)?;
    let parsed = endpoint::parse_file(&bytes, format(file, &bytes), &installation.config.egress);
    let mistakes = match parsed {
        Ok(endpoints) => match expired(&endpoints, input::now()) {
            none if none.is_empty() => return Ok(endpoints),
            mistakes => mistakes,
        },
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    };
    let lines: Vec<String> = mistakes.iter().map(|line| format!("\n  {line}")).collect();
    let file = if file == "-" { "standard input" } else { file };
    Err(Failure::usage(format!(
        "{file} has {} mistakes, nothing was written:{}",
        lines.len(),
        lines.concat()
    )))
}

/// The endpoints whose every secret has expired: nothing could be signed for them.
fn expired(endpoints: &[Endpoint], now: Timestamp) -> Vec<String> {
    let mistake = |endpoint: &Endpoint| {
        let secrets = endpoint.signing.secrets.iter();
        let ended = |secret: &SigningSecret| {
            let end = secret.not_after.filter(|end| *end <= now)?;
            Some(format!("{} on {}", secret.id, input::rfc3339(end)))
        };
        let ended: Vec<String> = secrets.map(ended).collect::<Option<_>>()?;
        let signed = endpoint.signing.scheme != Scheme::None;
        (signed && !ended.is_empty()).then(|| {
            format!(
                "{}: signing.secrets: every secret has expired ({}); add one that is valid",
                endpoint.id,
                ended.join(", ")
            )
        })
    };
    endpoints.iter().filter_map(mistake).collect()
}

/// By the extension; standard input by how it begins.
fn format(file: &str, bytes: &[u8]) -> FileFormat {
    let extension = Path::new(file).extension().and_then(|e| e.to_str());
    let json = match extension {
        Some(extension) => extension.eq_ignore_ascii_case("json"),
        None => bytes.trim_ascii_start().starts_with(b"{"),
    };
    if json {
        FileFormat::Json
    } else {
        FileFormat::Yaml
    }
}

#[derive(Serialize)]
struct Change {
    endpoint: String,
    tenant: String,
    change: &'static str,
    version: u64,
    slice: i32,
}

const CHANGE_COLUMNS: [&str; 5] = ["endpoint", "tenant", "change", "version", "slice"];

fn apply(
    wanted: Vec<Endpoint>,
    dry_run: bool,
    topic: &Topic<'_>,
    output: Output,
) -> Result<(), Failure> {
    let current = topic.read(wanted.iter().map(|endpoint| &endpoint.id))?;
    let mut changes = Vec::new();
    let mut records = Vec::new();
    for mut endpoint in wanted {
        let known = current.get(&endpoint.id);
        let change = settle(&mut endpoint, known);
        changes.push(Change {
            endpoint: endpoint.id.to_string(),
            tenant: endpoint.tenant.to_string(),
            change: change.word(dry_run),
            version: endpoint.version,
            slice: topic.installation.partition(&endpoint.id),
        });
        if change != Settled::Unchanged {
            let value = endpoint::to_record(&endpoint, input::now());
            records.push(topic.record(&endpoint.id, Some(value.into())));
        }
    }
    if !dry_run {
        topic.write(&records)?;
    }
    Ok(output.rows(&CHANGE_COLUMNS, &changes)?)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settled {
    Created,
    Updated,
    Unchanged,
}

impl Settled {
    const fn word(self, dry_run: bool) -> &'static str {
        match (self, dry_run) {
            (Self::Created, false) => "created",
            (Self::Created, true) => "would be created",
            (Self::Updated, false) => "updated",
            (Self::Updated, true) => "would be updated",
            (Self::Unchanged, _) => "unchanged",
        }
    }
}

/// Gives the endpoint its version: 1 when new, one more when it differs. What the file says of the
/// version does not count.
fn settle(wanted: &mut Endpoint, known: Option<&Endpoint>) -> Settled {
    let Some(known) = known else {
        wanted.version = 1;
        return Settled::Created;
    };
    wanted.version = known.version;
    if wanted == known {
        return Settled::Unchanged;
    }
    wanted.version = known.version.saturating_add(1);
    Settled::Updated
}

#[derive(Serialize)]
struct Row {
    endpoint: String,
    tenant: String,
    url: String,
    state: &'static str,
    types: Vec<String>,
    version: u64,
    slice: i32,
}

const COLUMNS: [&str; 6] = ["endpoint", "tenant", "url", "state", "types", "version"];

fn list(topic: &Topic<'_>, output: Output) -> Result<(), Failure> {
    let endpoints = topic.read_all()?;
    let in_table = output.format() == Format::Table;
    let row = |endpoint: &Endpoint| Row {
        endpoint: endpoint.id.to_string(),
        tenant: endpoint.tenant.to_string(),
        url: endpoint.url.to_string(),
        state: match endpoint.state {
            EndpointState::Active => "active",
            EndpointState::Paused => "paused",
            EndpointState::Disabled => "disabled",
        },
        types: match &*endpoint.types {
            [] if in_table => vec!["all".to_owned()],
            types => types.iter().map(|t| t.as_str().to_owned()).collect(),
        },
        version: endpoint.version,
        slice: topic.installation.partition(&endpoint.id),
    };
    let rows: Vec<Row> = endpoints.values().map(row).collect();
    Ok(output.rows(&COLUMNS, &rows)?)
}

fn get(id: &EndpointId, topic: &Topic<'_>, output: Output) -> Result<(), Failure> {
    let endpoints = topic.read([id])?;
    let found = endpoints.get(id).ok_or_else(|| no_endpoint(id))?;
    Ok(output.one(&endpoint::to_display_json(found))?)
}

#[derive(Serialize)]
struct Deleted {
    endpoint: String,
    deleted: bool,
}

fn delete(
    id: &EndpointId,
    dry_run: bool,
    topic: &Topic<'_>,
    output: Output,
) -> Result<(), Failure> {
    if !topic.read([id])?.contains_key(id) {
        return Err(no_endpoint(id));
    }
    if !dry_run {
        topic.write(&[topic.record(id, None)])?;
    }
    let deleted = Deleted {
        endpoint: id.to_string(),
        deleted: !dry_run,
    };
    let verb = if dry_run { "would delete" } else { "deleted" };
    Ok(output.item(&deleted, &format!("{verb} {id}"))?)
}

fn no_endpoint(id: &EndpointId) -> Failure {
    Failure::no(format!("there is no endpoint {id}"))
}

/// The `endpoints` topic, known to be there with one partition per slice.
pub(super) struct Topic<'a> {
    installation: &'a Installation,
    settings: ClientSettings,
}

impl<'a> Topic<'a> {
    pub(super) fn open(installation: &'a Installation) -> Result<Self, Failure> {
        let settings = installation.reach()?;
        installation.check_topics(&settings, &[installation.topics.endpoints()])?;
        Ok(Self {
            installation,
            settings,
        })
    }

    /// The endpoints of the slices these ids belong to.
    fn read<'i>(
        &self,
        ids: impl IntoIterator<Item = &'i EndpointId>,
    ) -> Result<BTreeMap<EndpointId, Endpoint>, Failure> {
        let partition = |id| self.installation.partition(id);
        let partitions: BTreeSet<i32> = ids.into_iter().map(partition).collect();
        let mut partitions = partitions.into_iter();
        match (partitions.next(), partitions.next()) {
            (Some(only), None) => self.read_partition(Some(only)),
            _ => self.read_all(),
        }
    }

    pub(super) fn read_all(&self) -> Result<BTreeMap<EndpointId, Endpoint>, Failure> {
        self.read_partition(None)
    }

    fn read_partition(
        &self,
        partition: Option<i32>,
    ) -> Result<BTreeMap<EndpointId, Endpoint>, Failure> {
        let tail = Tail::open(
            &self.settings,
            &self.installation.group(),
            self.installation.topics.endpoints(),
            partition,
            From::Beginning,
            WAIT,
        )?;
        let mut endpoints = BTreeMap::new();
        tail.read_all(PATIENCE, |record| {
            let right = |id: &EndpointId| self.installation.partition(id);
            if let Err(reason) = fold(&mut endpoints, &record, right) {
                eprintln!("postrider: {} is not used: {reason}", record.origin);
            }
        })?;
        Ok(endpoints)
    }

    pub(super) fn record(&self, id: &EndpointId, value: Option<Bytes>) -> NewRecord {
        NewRecord {
            topic: self.installation.topics.endpoints().clone(),
            partition: self.installation.partition(id),
            key: Some(Bytes::copy_from_slice(id.as_str().as_bytes())),
            value,
            headers: Vec::new(),
        }
    }

    /// All or an error that says how many were written.
    pub(super) fn write(&self, records: &[NewRecord]) -> Result<(), Failure> {
        let writer = Writer::new(&self.settings)?;
        for (written, record) in records.iter().enumerate() {
            writer.send_and_wait(record).map_err(|error| {
                eprintln!("postrider: {written} of {} were written", records.len());
                Failure::from(error)
            })?;
        }
        Ok(())
    }
}

/// Folds one record in: a newer version wins, a tombstone deletes.
fn fold(
    endpoints: &mut BTreeMap<EndpointId, Endpoint>,
    record: &Record,
    partition_of: impl Fn(&EndpointId) -> i32,
) -> Result<(), String> {
    let key = record.key.as_deref().unwrap_or_default();
    let id: EndpointId = String::from_utf8_lossy(key)
        .parse()
        .map_err(|invalid| format!("{invalid}"))?;
    let right = partition_of(&id);
    if record.origin.partition != right {
        return Err(format!(
            "{id} belongs to partition {right}: whoever wrote it must key by endpoint id with \
             the murmur2 partitioner"
        ));
    }
    let Some(value) = &record.value else {
        endpoints.remove(&id);
        return Ok(());
    };
    let endpoint = endpoint::from_record(key, value).map_err(|invalid| invalid.to_string())?;
    match endpoints.get(&id) {
        Some(known) if known.version > endpoint.version => {}
        _ => {
            endpoints.insert(id, endpoint);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use postrider_domain::Origin;

    fn wanted(url: &str) -> Endpoint {
        let file = format!("{{id: ep_1, url: '{url}', signing: {{scheme: none}}}}");
        let policy = postrider_guard::Policy::default();
        let mut parsed = endpoint::parse_file(file.as_bytes(), FileFormat::Yaml, &policy).unwrap();
        parsed.remove(0)
    }

    fn record(endpoint: Option<&Endpoint>, partition: i32) -> Record {
        Record {
            origin: Origin {
                topic: "endpoints".into(),
                partition,
                offset: 0,
            },
            timestamp: Timestamp::default(),
            key: Some(Bytes::from_static(b"ep_1")),
            value: endpoint.map(|e| endpoint::to_record(e, Timestamp::default()).into()),
            headers: Vec::new(),
        }
    }

    #[test]
    fn an_endpoint_whose_every_secret_has_expired_is_refused() {
        let secret = |id: &str, not_after: Option<u64>| SigningSecret {
            id: id.into(),
            key: postrider_domain::Secret::new([7; 32]),
            not_after: not_after.map(Timestamp::from_secs),
        };
        let expired = |secrets: Vec<SigningSecret>| {
            let mut endpoint = wanted("https://a.example/");
            endpoint.signing.scheme = Scheme::Standard;
            endpoint.signing.secrets = secrets;
            expired(&[endpoint], Timestamp::from_secs(1_000))
        };
        assert_eq!(
            expired(vec![secret("s1", Some(0)), secret("s2", Some(1_000))]),
            [
                "ep_1: signing.secrets: every secret has expired (s1 on 1970-01-01T00:00:00Z, s2 on \
              1970-01-01T00:16:40Z); add one that is valid"
            ]
        );
        let none: [String; 0] = [];
        assert_eq!(
            expired(vec![secret("s1", Some(0)), secret("s2", None)]),
            none
        );
        assert_eq!(expired(vec![secret("s1", Some(1_001))]), none);
        assert_eq!(expired(Vec::new()), none, "sent without a signature");
    }

    #[test]
    fn only_a_difference_makes_a_version() {
        let mut first = wanted("https://a.example/");
        assert_eq!(settle(&mut first, None), Settled::Created);
        assert_eq!(first.version, 1);
        let mut same = wanted("https://a.example/");
        assert_eq!(settle(&mut same, Some(&first)), Settled::Unchanged);
        assert_eq!(same.version, 1);
        let mut moved = wanted("https://b.example/");
        moved.version = 99;
        assert_eq!(settle(&mut moved, Some(&first)), Settled::Updated);
        assert_eq!(moved.version, 2);
    }

    #[test]
    fn what_was_written_reads_as_unchanged() {
        let mut first = wanted("https://a.example/");
        settle(&mut first, None);
        let mut endpoints = BTreeMap::new();
        fold(&mut endpoints, &record(Some(&first), 3), |_| 3).unwrap();
        let mut again = wanted("https://a.example/");
        let known = endpoints.get(&first.id);
        assert_eq!(settle(&mut again, known), Settled::Unchanged);
    }

    #[test]
    fn newer_wins_tombstones_delete_and_strays_are_refused() {
        let mut endpoints = BTreeMap::new();
        let mut apply = |endpoint: Option<&Endpoint>, partition| {
            let outcome = fold(&mut endpoints, &record(endpoint, partition), |_| 3);
            (
                outcome.is_ok(),
                endpoints.values().next().map(|e| e.version),
            )
        };
        let version = |version| Endpoint {
            version,
            ..wanted("https://a.example/")
        };
        assert_eq!(apply(Some(&version(5)), 3), (true, Some(5)));
        assert_eq!(apply(Some(&version(4)), 3), (true, Some(5)));
        assert_eq!(apply(Some(&version(6)), 2), (false, Some(5)));
        assert_eq!(apply(None, 3), (true, None));
    }

    #[test]
    fn the_format_follows_the_extension_or_the_first_byte() {
        assert_eq!(format("a.json", b"id: x"), FileFormat::Json);
        assert_eq!(format("a.yaml", b"{}"), FileFormat::Yaml);
        assert_eq!(format("-", b" {}"), FileFormat::Json);
        assert_eq!(format("-", b"id: x"), FileFormat::Yaml);
    }
}
