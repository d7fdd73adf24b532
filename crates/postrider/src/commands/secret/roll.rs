//! `postrider secret roll`: a new signing secret in front, the old ones with an end.
//!
//! Decides what the new one is (a key of the kind the newest one is), how long the old ones sign,
//! and what the person is told: which secret signs until when. Leaves what a key is, and which of
//! several signs, to `signing`.

use std::time::Duration;

use clap::Args;
use postrider_domain::{
    Endpoint, EndpointId, Format, Scheme, SigningKey, SigningSecret, Timestamp,
};
use postrider_signing::{
    carries_several, format_key, format_public_key, generate_key, generate_key_like,
};
use postrider_wire::endpoint::{self, Recorded, SECRETS_MAX};
use serde::Serialize;

use crate::cli::DryRun;
use crate::commands::endpoint::log::{Log, Unused};
use crate::commands::endpoint::{Topic, no_endpoint};
use crate::exit::Failure;
use crate::input;
use crate::installation::Installation;
use crate::output::Output;

/// Longest time an old secret signs along.
const EXPIRE_MAX: Duration = Duration::from_secs(30 * 86_400);

#[derive(Args)]
pub(crate) struct Roll {
    /// The endpoint's id
    id: EndpointId,
    /// How long the old secrets sign along: 1h, 3h, 24h, 7d, or any duration up to 30d; 0s = not
    /// at all
    #[arg(
        long,
        env = "POSTRIDER_EXPIRE_OLD",
        value_name = "DURATION",
        default_value = "24h",
        value_parser = expiry
    )]
    expire_old: Duration,
    #[command(flatten)]
    dry: DryRun,
}

fn expiry(text: &str) -> Result<Duration, String> {
    let duration = input::duration(text)?;
    if duration > EXPIRE_MAX {
        return Err("at most 30d".to_owned());
    }
    Ok(duration)
}

/// A secret, and from when until when it signs.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Signs {
    id: String,
    from: Option<String>,
    until: Option<String>,
}

#[derive(Serialize)]
struct Rolled<'a> {
    endpoint: String,
    scheme: &'static str,
    /// The new one's.
    id: String,
    /// `null` where nothing was done.
    secret: Option<&'a str>,
    public_key: Option<String>,
    version: u64,
    /// Which secret signs when: all at once, or one after the other.
    signs: Vec<Signs>,
    dry_run: bool,
}

pub(super) fn run(
    arguments: &Roll,
    installation: &Installation,
    output: Output,
) -> Result<(), Failure> {
    let Roll {
        id,
        expire_old,
        dry,
    } = arguments;
    let topic = Topic::open_with(installation, installation.keys()?)?;
    let mut log = Log::read(&topic, Some(topic.partition(id)))?;
    let stored = log.get(id).ok_or_else(|| no_endpoint(id))?;
    if log.unused(id) == Some(Unused::Unreadable) {
        return Err(Failure::no(format!(
            "the newest record of {id} cannot be read, nothing was written over it"
        )));
    }
    let key = new_key(opened(&stored.recorded)?)?;
    let now = input::now();
    let roll = |recorded: &Recorded| rolled(opened(recorded)?, key.clone(), now, *expire_old);
    let mut endpoint = roll(&stored.recorded)?;
    let mut due = !dry.dry_run;
    while due {
        let value = endpoint::to_record(&endpoint, now, topic.sealing()?);
        let mut covered = log.write(&[(id.clone(), Some(value.into()))])?;
        due = false;
        if let Some(covered) = covered.pop() {
            // Somebody else's change of the same moment counts: the roll is made of that, or is none.
            let read = covered.theirs.as_deref().map(|value| {
                let recorded = endpoint::from_record(id.as_str().as_bytes(), value, topic.keys());
                let mut recorded = recorded.map_err(Failure::no)?;
                let version = &mut recorded.endpoint.version;
                *version = log.version(id).max(*version);
                roll(&recorded)
            });
            match read {
                Some(Ok(again)) => endpoint = again,
                _ => {
                    log.put_all_back(vec![covered])?;
                    return Err(Failure::no(format!(
                        "{id} was changed or deleted at the same moment: that stays, its secret \
                         was not rolled"
                    )));
                }
            }
            due = true;
        }
    }
    let secret = format_key(&endpoint.signing.scheme, &key);
    tell(&endpoint, (!dry.dry_run).then_some(&secret), now, output)
}

/// Half of the secrets of an endpoint are not enough to write it.
fn opened(recorded: &Recorded) -> Result<&Endpoint, Failure> {
    match recorded.unopened.first() {
        None => Ok(&recorded.endpoint),
        Some(first) => Err(Failure::usage(format!(
            "{}: its secrets cannot be opened, nothing was written ({first})",
            recorded.endpoint.id
        ))),
    }
}

/// A key of the kind the endpoint's newest one is.
fn new_key(endpoint: &Endpoint) -> Result<SigningKey, Failure> {
    let scheme = &endpoint.signing.scheme;
    if *scheme == Scheme::None {
        return Err(Failure::no(format!(
            "{} is sent to unsigned (scheme: none): give it a scheme and a secret in its file",
            endpoint.id
        )));
    }
    let random = input::random()?;
    match endpoint.signing.secrets.first() {
        None => Ok(generate_key(scheme, random)),
        Some(newest) => generate_key_like(scheme, &newest.key, random).ok_or_else(|| {
            Failure::no(format!(
                "no key like the secret {} of {} can be made: put a new one into its file",
                newest.id, endpoint.id
            ))
        }),
    }
}

/// The endpoint with the key as its newest secret, and its old ones with an end.
fn rolled(
    before: &Endpoint,
    key: SigningKey,
    now: Timestamp,
    expire_old: Duration,
) -> Result<Endpoint, Failure> {
    // Whole seconds, as one writes them.
    let end = Timestamp::from_secs((now + expire_old).as_micros().div_ceil(1_000_000));
    let end = if expire_old.is_zero() { now } else { end };
    let mut endpoint = before.clone();
    endpoint.version = endpoint.version.saturating_add(1);
    let secrets = &mut endpoint.signing.secrets;
    // There already where somebody made something of an earlier writing of the same roll.
    secrets.retain(|secret| secret.key != key);
    let id = new_id(secrets);
    for old in secrets.iter_mut() {
        old.not_after = Some(old.not_after.map_or(end, |sooner| sooner.min(end)));
    }
    secrets.retain(|old| old.not_after.is_none_or(|end| now < end));
    if secrets.len() >= SECRETS_MAX {
        return Err(Failure::no(format!(
            "{} has {} secrets that are still valid, at most {SECRETS_MAX} are possible: wait until \
             one expires, or roll with a shorter --expire-old",
            endpoint.id,
            secrets.len()
        )));
    }
    let new = SigningSecret {
        id: id.into(),
        key,
        not_after: None,
    };
    secrets.insert(0, new);
    keeps_template(before, &endpoint)?;
    Ok(endpoint)
}

/// A template that uses a secret which is gone could make nothing any more.
fn keeps_template(before: &Endpoint, after: &Endpoint) -> Result<(), Failure> {
    let Format::Template(template) = &after.format else {
        return Ok(());
    };
    let check = |endpoint: &Endpoint| postrider_payload::check(template, &endpoint.signing);
    match check(after) {
        Err(mistakes) if check(before).is_ok() => Err(Failure::no(format!(
            "the template of {} uses a secret that has expired or would now ({}): change the \
             template first, or roll with a longer --expire-old",
            after.id,
            mistakes.join("; ")
        ))),
        _ => Ok(()),
    }
}

/// `s` and the number after the highest: a name never stands for two keys, since receivers may know
/// a key by it.
fn new_id(secrets: &[SigningSecret]) -> String {
    let number = |secret: &SigningSecret| secret.id.strip_prefix('s')?.parse::<u64>().ok();
    let highest = secrets.iter().filter_map(number).max().unwrap_or_default();
    format!("s{}", highest.saturating_add(1))
}

/// Which secret signs when, as `signing` has it: every valid one where the scheme carries several
/// signatures, else the oldest.
fn signs(endpoint: &Endpoint, now: Timestamp) -> Vec<Signs> {
    let secrets = &endpoint.signing.secrets;
    let text = |at: Option<Timestamp>| at.map(input::rfc3339);
    if carries_several(&endpoint.signing.scheme) {
        let one = |secret: &SigningSecret| Signs {
            id: secret.id.to_string(),
            from: None,
            until: text(secret.not_after),
        };
        return secrets.iter().map(one).collect();
    }
    let (mut from, mut signs) = (now, Vec::new());
    for secret in secrets.iter().rev() {
        if secret.not_after.is_some_and(|end| end <= from) {
            continue;
        }
        signs.push(Signs {
            id: secret.id.to_string(),
            from: text(Some(from)).filter(|_| from > now),
            until: text(secret.not_after),
        });
        match secret.not_after {
            Some(end) => from = end,
            None => break,
        }
    }
    signs
}

fn tell(
    endpoint: &Endpoint,
    secret: Option<&str>,
    now: Timestamp,
    output: Output,
) -> Result<(), Failure> {
    let scheme = &endpoint.signing.scheme;
    let newest = endpoint.signing.secrets.first();
    let newest = newest.expect("a rolled endpoint has a new secret");
    let public_key = secret.and_then(|_| format_public_key(scheme, &newest.key));
    let rolled = Rolled {
        endpoint: endpoint.id.to_string(),
        scheme: endpoint::scheme_name(scheme),
        id: newest.id.to_string(),
        secret,
        public_key,
        version: endpoint.version,
        signs: signs(endpoint, now),
        dry_run: secret.is_none(),
    };
    Ok(output.item(&rolled, &for_people(&rolled, carries_several(scheme)))?)
}

fn for_people(rolled: &Rolled<'_>, several: bool) -> String {
    let mut lines = match rolled.secret {
        Some(secret) => vec![
            format!(
                "secret {} of {} (scheme {}), shown this once:",
                rolled.id, rolled.endpoint, rolled.scheme
            ),
            secret.trim_end().to_owned(),
        ],
        None => vec![format!(
            "would give {} a secret {}",
            rolled.endpoint, rolled.id
        )],
    };
    if let Some(public) = &rolled.public_key {
        lines.push("its public key, for the receiver:".to_owned());
        lines.push(public.trim_end().to_owned());
    }
    let parts = rolled.signs.iter().map(|signs| {
        let until = signs.until.as_ref();
        let until = until.map_or_else(String::new, |end| format!(" until {end}"));
        format!("{}{until}", signs.id)
    });
    let parts: Vec<String> = parts.collect();
    lines.push(if several {
        format!("each of these signs every request: {}", parts.join(", "))
    } else {
        format!(
            "one secret signs at a time: {}; the receiver installs {} before its turn comes",
            parts.join(", then "),
            rolled.id
        )
    });
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use postrider_domain::Secret;

    use super::*;
    use crate::commands::endpoint::topic::testing::wanted;

    const NOW: Timestamp = Timestamp::from_secs(1_000);
    const HOUR: Duration = Duration::from_secs(3_600);

    fn shared(byte: u8) -> SigningKey {
        SigningKey::Shared(Secret::new([byte; 32]))
    }

    fn with(scheme: Scheme, secrets: &[(&str, Option<u64>)]) -> Endpoint {
        let mut endpoint = wanted("https://a.example/");
        endpoint.version = 7;
        endpoint.signing.scheme = scheme;
        let secret = |(id, end): &(&str, Option<u64>)| SigningSecret {
            id: (*id).into(),
            key: shared(1),
            not_after: end.map(Timestamp::from_secs),
        };
        endpoint.signing.secrets = secrets.iter().map(secret).collect();
        endpoint
    }

    fn ends(endpoint: &Endpoint) -> Vec<(&str, Option<u64>)> {
        let secrets = endpoint.signing.secrets.iter();
        secrets
            .map(|secret| (&*secret.id, secret.not_after.map(|end| end.as_secs())))
            .collect()
    }

    #[test]
    fn the_old_ones_end_no_later_than_asked_and_expired_ones_go() {
        let secrets = [("s3", None), ("s2", Some(2_000)), ("s1", Some(999))];
        let after = rolled(&with(Scheme::Standard, &secrets), shared(9), NOW, HOUR).unwrap();
        assert_eq!(
            ends(&after),
            [("s4", None), ("s3", Some(4_600)), ("s2", Some(2_000))]
        );
        assert_eq!(after.version, 8);
        assert!(after.signing.secrets[0].key == shared(9));
    }

    #[test]
    fn without_a_grace_the_old_ones_are_gone_at_once() {
        let before = with(Scheme::Standard, &[("s1", None)]);
        let after = rolled(&before, shared(9), NOW, Duration::ZERO).unwrap();
        assert_eq!(ends(&after), [("s2", None)]);
    }

    #[test]
    fn a_secret_that_the_template_uses_is_not_taken_away() {
        let mut before = with(Scheme::Standard, &[("s1", None)]);
        before.format = Format::Template(postrider_domain::Template {
            source: "{{ webhook_id | hmac_sha256('s1') | hex }}".into(),
            content_type: "text/plain".into(),
        });
        assert!(rolled(&before, shared(9), NOW, HOUR).is_ok());
        match rolled(&before, shared(9), NOW, Duration::ZERO) {
            Err(Failure::Ended(crate::exit::Code::No, reason)) => {
                assert!(reason.contains("change the template first"), "{reason}");
            }
            other => panic!("{:?}", other.is_ok()),
        }
    }

    #[test]
    fn an_end_is_a_whole_second_and_not_too_soon() {
        let before = with(Scheme::Standard, &[("s1", None)]);
        let now = Timestamp::from_micros(1_000_000_001);
        let after = rolled(&before, shared(9), now, HOUR).unwrap();
        assert_eq!(ends(&after)[1], ("s1", Some(4_601)));
    }

    #[test]
    fn there_are_ten_at_most() {
        let ids: Vec<String> = (1..=10).map(|n| format!("s{n}")).collect();
        let mut secrets: Vec<(&str, Option<u64>)> = ids.iter().map(|id| (&**id, None)).collect();
        let full = with(Scheme::Standard, &secrets);
        match rolled(&full, shared(9), NOW, HOUR) {
            Err(Failure::Ended(crate::exit::Code::No, reason)) => {
                assert!(reason.starts_with("ep_1 has 10 secrets"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
        secrets[3].1 = Some(1);
        let room = rolled(&with(Scheme::Standard, &secrets), shared(9), NOW, HOUR).unwrap();
        assert_eq!(room.signing.secrets.len(), 10);
        assert_eq!(&*room.signing.secrets[0].id, "s11");
    }

    #[test]
    fn no_name_is_given_twice() {
        let id = |secrets: &[(&str, Option<u64>)]| {
            new_id(&with(Scheme::Jws(jws()), secrets).signing.secrets)
        };
        assert_eq!(id(&[]), "s1");
        assert_eq!(id(&[("key-a", None)]), "s1");
        assert_eq!(id(&[("s2", None), ("s10", None), ("sx", None)]), "s11");
    }

    fn jws() -> postrider_domain::Jws {
        postrider_domain::Jws {
            encoded: true,
            open_banking: None,
        }
    }

    #[test]
    fn where_one_signs_the_oldest_does_until_its_end() {
        let after = rolled(
            &with(Scheme::Github, &[("s2", None), ("s1", Some(2_000))]),
            shared(9),
            NOW,
            HOUR,
        )
        .unwrap();
        let found = signs(&after, NOW);
        let at = |secs| Some(input::rfc3339(Timestamp::from_secs(secs)));
        let expected = |id: &str, from, until| Signs {
            id: id.to_owned(),
            from,
            until,
        };
        assert_eq!(
            found,
            [
                expected("s1", None, at(2_000)),
                expected("s2", at(2_000), at(4_600)),
                expected("s3", at(4_600), None),
            ]
        );
        // What is told is what signs.
        for (second, id) in [(1_000, "s1"), (2_000, "s2"), (4_599, "s2"), (4_600, "s3")] {
            let at = Timestamp::from_secs(second);
            let valid = |s: &&SigningSecret| s.not_after.is_none_or(|end| at < end);
            let oldest = after.signing.secrets.iter().rfind(valid).unwrap();
            assert_eq!(&*oldest.id, id);
        }
    }

    #[test]
    fn where_all_sign_all_are_told() {
        let before = with(Scheme::Standard, &[("s1", None)]);
        let after = rolled(&before, shared(9), NOW, HOUR).unwrap();
        let ids: Vec<String> = signs(&after, NOW).into_iter().map(|s| s.id).collect();
        assert_eq!(ids, ["s2", "s1"]);
    }

    #[test]
    fn people_are_told_the_secret_and_who_signs_when() {
        let rolled = |secret, public_key| Rolled {
            endpoint: "ep_1".to_owned(),
            scheme: "rfc9421",
            id: "s2".to_owned(),
            secret,
            public_key,
            version: 8,
            signs: signs(
                &with(Scheme::Rfc9421, &[("s2", None), ("s1", Some(4_600))]),
                NOW,
            ),
            dry_run: false,
        };
        let public = Some("PUBLIC\n".to_owned());
        assert_eq!(
            for_people(&rolled(Some("PRIVATE\n"), public), false),
            "secret s2 of ep_1 (scheme rfc9421), shown this once:\nPRIVATE\n\
             its public key, for the receiver:\nPUBLIC\n\
             one secret signs at a time: s1 until 1970-01-01T01:16:40Z, then s2; the receiver \
             installs s2 before its turn comes"
        );
        assert_eq!(
            for_people(&rolled(None, None), true),
            "would give ep_1 a secret s2\n\
             each of these signs every request: s1 until 1970-01-01T01:16:40Z, s2"
        );
    }

    #[test]
    fn an_unsigned_endpoint_has_nothing_to_roll() {
        match new_key(&wanted("https://a.example/")) {
            Err(Failure::Ended(crate::exit::Code::No, reason)) => {
                assert!(reason.contains("scheme: none"), "{reason}");
            }
            _ => panic!("rolled"),
        }
    }

    #[test]
    fn an_expiry_is_at_most_thirty_days() {
        for good in ["0s", "1h", "3h", "24h", "7d", "30d"] {
            assert!(expiry(good).is_ok(), "{good}");
        }
        assert!(expiry("31d").is_err());
        assert!(expiry("soon").is_err());
    }
}
