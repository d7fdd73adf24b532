//! `postrider endpoint apply`: a file of endpoints onto the topic.
//!
//! Decides when a change is one (same content is not written again) and which version it gets.

use std::path::Path;

use clap::Args;
use postrider_domain::{Endpoint, Scheme, SigningSecret, Timestamp};
use postrider_wire::endpoint::{self, FileFormat};
use serde::Serialize;

use super::Topic;
use crate::cli::DryRun;
use crate::exit::Failure;
use crate::input;
use crate::installation::Installation;
use crate::output::Output;

#[derive(Args)]
pub(crate) struct Apply {
    /// YAML or JSON, one document or many; - is standard input
    #[arg(short, long, env = "POSTRIDER_FILE")]
    file: String,
    #[command(flatten)]
    dry: DryRun,
}

pub(super) fn run(
    arguments: &Apply,
    installation: &Installation,
    output: Output,
) -> Result<(), Failure> {
    // Mistakes in the file are told without waiting for a broker.
    let wanted = read_file(&arguments.file, installation)?;
    apply(
        wanted,
        arguments.dry.dry_run,
        &Topic::open(installation)?,
        output,
    )
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
            slice: topic.partition(&endpoint.id),
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::topic::fold;
    use super::super::topic::testing::{record, wanted};
    use super::*;

    #[test]
    fn an_endpoint_whose_every_secret_has_expired_is_refused() {
        let secret = |id: &str, not_after: Option<u64>| SigningSecret {
            id: id.into(),
            key: postrider_domain::SigningKey::Shared(postrider_domain::Secret::new([7; 32])),
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
    fn the_format_follows_the_extension_or_the_first_byte() {
        assert_eq!(format("a.json", b"id: x"), FileFormat::Json);
        assert_eq!(format("a.yaml", b"{}"), FileFormat::Yaml);
        assert_eq!(format("-", b" {}"), FileFormat::Json);
        assert_eq!(format("-", b"id: x"), FileFormat::Yaml);
    }
}
