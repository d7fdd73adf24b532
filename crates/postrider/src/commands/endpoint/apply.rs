//! `postrider endpoint apply`: a file of endpoints onto the topic.
//!
//! Decides when a change is one (same content is not written again), which version it gets, and
//! that an endpoint whose receiver has to agree and does not is left out while the others go on, as
//! one is that somebody else changed at the same moment. Leaves when that is so to `written`.

mod written;

use std::collections::BTreeMap;
use std::path::Path;

use clap::Args;
use postrider_config::Handshake;
use postrider_domain::{Endpoint, EndpointId, Scheme, SigningSecret, Timestamp};
use postrider_guard::consent::{self, Consent};
use postrider_signing::KeyRing;
use postrider_wire::endpoint::{self, FileFormat, Recorded};
use serde::Serialize;
use zeroize::Zeroizing;

use super::Topic;
use super::log::Log;
use crate::cli::DryRun;
use crate::exit::Failure;
use crate::handshake;
use crate::input;
use crate::installation::Installation;
use crate::output::Output;
use written::{Written, write};

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
    // Mistakes in the files are told without waiting for a broker.
    let keys = installation.keys()?;
    let wanted = read_file(&arguments.file, installation, &keys)?;
    let topic = Topic::open_with(installation, keys)?;
    apply(wanted, arguments.dry.dry_run, installation, &topic, output)
}

fn read_file(
    file: &str,
    installation: &Installation,
    keys: &KeyRing,
) -> Result<Vec<Endpoint>, Failure> {
    let bytes = Zeroizing::new(input::read(file)?);
    let policy = &installation.config.egress;
    let parsed = endpoint::parse_file(&bytes, format(file, &bytes), policy, keys);
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
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

const CHANGE_COLUMNS: [&str; 5] = ["endpoint", "tenant", "change", "version", "slice"];

fn apply(
    wanted: Vec<Endpoint>,
    dry_run: bool,
    installation: &Installation,
    topic: &Topic<'_>,
    output: Output,
) -> Result<(), Failure> {
    let only = topic.only(wanted.iter().map(|endpoint| &endpoint.id));
    let mut log = Log::read(topic, only)?;
    let current: BTreeMap<EndpointId, Recorded> = wanted
        .iter()
        .filter_map(|endpoint| Some((endpoint.id.clone(), log.get(&endpoint.id)?.recorded.clone())))
        .collect();
    for endpoint in &wanted {
        let known = current.get(&endpoint.id);
        known.map_or(Ok(()), |known| may_replace(known, topic.keys()))?;
    }
    let asked = if dry_run {
        Vec::new()
    } else {
        to_be_asked(
            &wanted,
            &current,
            installation.config.registration.handshake,
        )
    };
    let mut answers = handshake::ask(asked, installation)?;
    let mut changes = Vec::new();
    let mut due = Vec::new();
    let mut refused = 0;
    for mut endpoint in wanted {
        let (known, deleted) = (current.get(&endpoint.id), log.deleted(&endpoint.id));
        let (change, reason) = match answers.remove(&endpoint.id).transpose() {
            Err(reason) => {
                refused += 1;
                endpoint.version = known.map_or(0, |known| known.endpoint.version);
                (Settled::Refused, Some(reason))
            }
            Ok(consent) => {
                if let Some(consent) = consent {
                    bound(&mut endpoint, consent);
                }
                (settle(&mut endpoint, known, deleted), None)
            }
        };
        if let Some(reason) = &reason {
            eprintln!("postrider: {} is not written: {reason}", endpoint.id);
        }
        changes.push(Change {
            endpoint: endpoint.id.to_string(),
            tenant: endpoint.tenant.to_string(),
            change: change.word(dry_run),
            version: endpoint.version,
            slice: topic.partition(&endpoint.id),
            reason,
        });
        if matches!(change, Settled::Created | Settled::Updated) {
            due.push(endpoint);
        }
    }
    let written = if dry_run {
        BTreeMap::new()
    } else {
        write(due, &current, &mut log, topic)?
    };
    let mut overtaken = 0;
    for change in &mut changes {
        match written.get(&*change.endpoint) {
            Some(Written::Done { version }) => change.version = *version,
            Some(Written::Overtaken { version }) => {
                overtaken += 1;
                eprintln!("postrider: {} is not written: {OVERTAKEN}", change.endpoint);
                change.version = *version;
                change.change = Settled::Refused.word(dry_run);
                change.reason = Some(OVERTAKEN.to_owned());
            }
            None => {}
        }
    }
    output.rows(&CHANGE_COLUMNS, &changes)?;
    let mut reasons = Vec::new();
    if refused > 0 {
        reasons.push("their receivers did not agree (registration.handshake)");
    }
    if overtaken > 0 {
        reasons.push(OVERTAKEN);
    }
    match refused + overtaken {
        0 => Ok(()),
        refused => Err(Failure::no(format!(
            "{refused} of {} endpoints refused: {}",
            changes.len(),
            reasons.join("; ")
        ))),
    }
}

const OVERTAKEN: &str =
    "changed by somebody else at the same moment, which stays; look at the change and apply again";

/// Keeps an endpoint to what its receiver allows, and says so where that is less than its file.
fn bound(endpoint: &mut Endpoint, consent: Consent) {
    let limit = consent::bounded(endpoint.rate_limit, consent);
    if let (Some(limit), Some(allowed)) = (limit, consent.per_minute)
        && endpoint.rate_limit != Some(limit)
    {
        eprintln!(
            "postrider: the receiver of {} allows {allowed} requests a minute: its rate_limit is {} \
             per {}{}",
            endpoint.id,
            limit.attempts,
            humantime::format_duration(limit.per),
            if limit.smooth { ", smooth" } else { "" }
        );
    }
    endpoint.rate_limit = limit;
}

/// Those whose receivers have to agree first.
fn to_be_asked(
    wanted: &[Endpoint],
    current: &BTreeMap<EndpointId, Recorded>,
    handshake: Handshake,
) -> Vec<Endpoint> {
    if handshake == Handshake::None {
        return Vec::new();
    }
    let with_rate = handshake == Handshake::CloudEvents;
    let needed = |endpoint: &&Endpoint| {
        let known = current.get(&endpoint.id);
        let known = known.map(|recorded| &recorded.endpoint);
        consent::is_needed(known, endpoint, with_rate)
    };
    wanted.iter().filter(needed).cloned().collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settled {
    Created,
    Updated,
    Unchanged,
    /// Its receiver did not agree.
    Refused,
}

impl Settled {
    const fn word(self, dry_run: bool) -> &'static str {
        match (self, dry_run) {
            (Self::Created, false) => "created",
            (Self::Created, true) => "would be created",
            (Self::Updated, false) => "updated",
            (Self::Updated, true) => "would be updated",
            (Self::Unchanged, _) => "unchanged",
            (Self::Refused, _) => "refused",
        }
    }
}

/// Without a key, secrets that lie sealed would lie open from then on. With keys, a secret that they
/// do not open is replaced by that of the file: there is no other way back once its key is lost.
fn may_replace(known: &Recorded, keys: &KeyRing) -> Result<(), Failure> {
    let Some(first) = known.unopened.first() else {
        return Ok(());
    };
    let id = &known.endpoint.id;
    if keys.is_empty() {
        return Err(Failure::usage(format!(
            "{id}: its secrets are sealed, and written from here they would not be; nothing was \
             written ({first})"
        )));
    }
    eprintln!("postrider: {id}: replaced by the file's: {first}");
    Ok(())
}

/// Gives the endpoint its version: one more when it differs, and when it is new one more than it had
/// before it was `deleted`, 1 if it never was: whoever knows it from then makes nothing that counts.
/// A record behind its tombstone that is no newer was written by somebody like that, who will delete
/// it again: it is no endpoint that could stay unchanged.
/// What the file says of the version does not count; how secrets are sealed is no difference, that
/// they cannot be opened is.
fn settle(wanted: &mut Endpoint, known: Option<&Recorded>, deleted: u64) -> Settled {
    let Some(Recorded {
        endpoint: known,
        unopened,
    }) = known
    else {
        wanted.version = deleted.saturating_add(1);
        return Settled::Created;
    };
    wanted.version = known.version;
    if unopened.is_empty() && wanted == known && known.version > deleted {
        return Settled::Unchanged;
    }
    wanted.version = known.version.max(deleted).saturating_add(1);
    Settled::Updated
}

#[cfg(test)]
mod tests {
    use super::super::topic::fold;
    use super::super::topic::testing::{keys, record_under, wanted};
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

    pub(super) fn recorded(endpoint: &Endpoint) -> Recorded {
        Recorded {
            endpoint: endpoint.clone(),
            unopened: Vec::new(),
        }
    }

    pub(super) fn signed() -> Endpoint {
        let mut endpoint = wanted("https://a.example/");
        endpoint.signing.scheme = Scheme::Standard;
        endpoint.signing.secrets = vec![SigningSecret {
            id: "s1".into(),
            key: postrider_domain::SigningKey::Shared(postrider_domain::Secret::new([7; 32])),
            not_after: None,
        }];
        endpoint
    }

    /// What is known of [`signed`], which was written under `sealed`, to whom has `opened`.
    fn known(sealed: &KeyRing, opened: &KeyRing) -> Recorded {
        let mut first = signed();
        settle(&mut first, None, 0);
        let mut endpoints = BTreeMap::new();
        fold(
            &mut endpoints,
            &record_under(sealed, Some(&first), 3),
            opened,
            |_| 3,
        )
        .unwrap();
        endpoints.remove(&first.id).unwrap().recorded
    }

    #[test]
    fn only_a_difference_makes_a_version() {
        let mut first = wanted("https://a.example/");
        assert_eq!(settle(&mut first, None, 0), Settled::Created);
        assert_eq!(first.version, 1);
        let mut same = wanted("https://a.example/");
        assert_eq!(
            settle(&mut same, Some(&recorded(&first)), 0),
            Settled::Unchanged
        );
        assert_eq!(same.version, 1);
        let mut moved = wanted("https://b.example/");
        moved.version = 99;
        assert_eq!(
            settle(&mut moved, Some(&recorded(&first)), 0),
            Settled::Updated
        );
        assert_eq!(moved.version, 2);
    }

    #[test]
    fn what_is_made_anew_is_newer_than_what_was_deleted() {
        let mut anew = wanted("https://a.example/");
        assert_eq!(settle(&mut anew, None, 5), Settled::Created);
        assert_eq!(anew.version, 6);
        let mut same = wanted("https://a.example/");
        assert_eq!(
            settle(&mut same, Some(&recorded(&anew)), 5),
            Settled::Unchanged
        );
    }

    #[test]
    fn what_came_back_behind_its_tombstone_does_not_stay_unchanged() {
        let mut back = wanted("https://a.example/");
        back.version = 5;
        let mut same = wanted("https://a.example/");
        assert_eq!(
            settle(&mut same, Some(&recorded(&back)), 5),
            Settled::Updated
        );
        assert_eq!(same.version, 6);
    }

    #[test]
    fn what_was_written_reads_as_unchanged_sealed_or_not() {
        for (sealed, opened) in [
            (KeyRing::default(), KeyRing::default()),
            (KeyRing::default(), keys()),
            (keys(), keys()),
        ] {
            let known = known(&sealed, &opened);
            assert!(may_replace(&known, &opened).is_ok());
            assert_eq!(settle(&mut signed(), Some(&known), 0), Settled::Unchanged);
        }
    }

    #[test]
    fn without_keys_nothing_sealed_is_unsealed() {
        let known = known(&keys(), &KeyRing::default());
        match may_replace(&known, &KeyRing::default()) {
            Err(Failure::Ended(crate::exit::Code::Usage, reason)) => {
                assert!(
                    reason.starts_with("ep_1: its secrets are sealed"),
                    "{reason}"
                );
                assert!(reason.contains("secrets.key_file"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_secret_whose_key_is_lost_is_replaced() {
        let other = KeyRing::parse(b"k2 = AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=").unwrap();
        let known = known(&keys(), &other);
        assert!(may_replace(&known, &other).is_ok());
        assert_eq!(settle(&mut signed(), Some(&known), 0), Settled::Updated);
    }

    #[test]
    fn the_format_follows_the_extension_or_the_first_byte() {
        assert_eq!(format("a.json", b"id: x"), FileFormat::Json);
        assert_eq!(format("a.yaml", b"{}"), FileFormat::Yaml);
        assert_eq!(format("-", b" {}"), FileFormat::Json);
        assert_eq!(format("-", b"id: x"), FileFormat::Yaml);
    }
}
