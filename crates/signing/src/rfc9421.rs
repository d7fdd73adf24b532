//! HTTP Message Signatures (RFC 9421) over the request's digest (RFC 9530).
//!
//! Covered are `@method`, `@target-uri`, `content-type`, `content-digest` and `webhook-id`; the
//! parameters are `created`, `alg` and `keyid`, in this order: a receiver's library in use takes no
//! other. The key says the algorithm, `keyid` is the secret's id. There is one signature: of two, a
//! library in use refuses both.

use postrider_domain::{SigningKey, SigningSecret};
use sha2::{Digest as _, Sha256};

use crate::asymmetric::{self, RsaHash};
use crate::mac::{from_base64, hmac_sha256, push_base64};
use crate::verify::{Check, ITEMS_MAX, Kind, Received, VerifyError, VerifyingKey};
use crate::{Header, ID_HEADER, Message, SignError};

const DIGEST: &str = "content-digest";
const INPUT: &str = "signature-input";
const SIGNATURE: &str = "signature";
/// The name of the signature.
const LABEL: &str = "sig1";
const COVERED: &str = r#"("@method" "@target-uri" "content-type" "content-digest" "webhook-id")"#;
const HASH: RsaHash = RsaHash::Sha512;

pub(crate) fn sign(
    secret: &SigningSecret,
    message: &Message<'_>,
) -> Result<[Header; 3], SignError> {
    let digest = content_digest(message.body);
    let created = message.at.as_secs();
    let algorithm = algorithm(&secret.key);
    // Ids hold neither quotes nor backslashes.
    let id = &secret.id;
    let parameters = format!("{COVERED};created={created};alg=\"{algorithm}\";keyid=\"{id}\"");
    let lines = Lines {
        url: message.url,
        content_type: message.content_type,
        digest: &digest,
        id: message.id,
    };
    let base = lines.base(&parameters);
    let signature = match &secret.key {
        SigningKey::Shared(key) => hmac_sha256(key, &[base.as_bytes()]).to_vec(),
        key => asymmetric::sign(key, HASH, base.as_bytes())?,
    };
    let mut value = format!("{LABEL}=:");
    push_base64(&mut value, &signature);
    value.push(':');
    let input = format!("{LABEL}={parameters}");
    Ok([(DIGEST, digest), (INPUT, input), (SIGNATURE, value)])
}

const fn algorithm(key: &SigningKey) -> &'static str {
    match key {
        SigningKey::Shared(_) => "hmac-sha256",
        SigningKey::Ed25519(_) => "ed25519",
        SigningKey::P256(_) => "ecdsa-p256-sha256",
        SigningKey::Rsa(_) => "rsa-pss-sha512",
    }
}

fn content_digest(body: &[u8]) -> String {
    let mut text = "sha-256=:".to_owned();
    push_base64(&mut text, &Sha256::digest(body));
    text.push(':');
    text
}

/// The values of the covered components.
struct Lines<'a> {
    url: &'a str,
    content_type: &'a str,
    digest: &'a str,
    id: &'a str,
}

impl Lines<'_> {
    /// RFC 9421 §2.5: a line for each component, the last one without an end.
    fn base(&self, parameters: &str) -> String {
        let Self {
            url,
            content_type,
            digest,
            id,
        } = self;
        // RFC 9421 §2.1
        let content_type = content_type.trim();
        format!(
            "\"@method\": POST\n\"@target-uri\": {url}\n\"content-type\": {content_type}\n\
             \"{DIGEST}\": {digest}\n\"{ID_HEADER}\": {id}\n\"@signature-params\": {parameters}"
        )
    }
}

/// One signature whose input is of the form we make must match one of the keys, and the digest the
/// body. What is wrong with one label does not concern another.
pub(crate) fn verify(
    keys: &[VerifyingKey],
    received: &Received<'_>,
    check: &mut Check,
) -> Result<(), VerifyError> {
    let digest = received.header(DIGEST)?;
    if digest != content_digest(received.body) {
        return Err(VerifyError::Mismatch(DIGEST));
    }
    let lines = Lines {
        url: received.url,
        content_type: received.header("content-type")?,
        digest,
        id: received.header(ID_HEADER)?,
    };
    let signatures: Vec<(&str, &str)> = members(received.header(SIGNATURE)?).collect();
    let mut untimely = None;
    for (label, parameters) in members(received.header(INPUT)?) {
        let Some(rest) = parameters.strip_prefix(COVERED) else {
            continue;
        };
        if let Err(error) = timely(rest, check) {
            untimely = Some(error);
            continue;
        }
        let base = lines.base(parameters);
        let found = signatures.iter().find(|(other, _)| *other == label);
        let found =
            found.map(|(_, value)| from_base64(value.strip_prefix(':')?.strip_suffix(':')?));
        for key in keys {
            match key.kind() {
                Kind::Shared(key) => {
                    check.mac(&hmac_sha256(key, &[base.as_bytes()]), found.clone());
                }
                Kind::Public(key) => {
                    check.signature(found.clone(), |found| {
                        key.holds(HASH, base.as_bytes(), found)
                    });
                }
            }
        }
    }
    match (check.verdict(SIGNATURE), untimely) {
        (Err(_), Some(error)) => Err(error),
        (verdict, _) => verdict,
    }
}

/// Whether `created`, which there is once, and `expires`, if it is there, are of now.
fn timely(parameters: &str, check: &Check) -> Result<(), VerifyError> {
    let values = |name| {
        let parameters = parameters.split(';').filter_map(|p| p.split_once('='));
        parameters.filter(move |(other, _)| *other == name)
    };
    let mut created = values("created");
    let (Some((_, at)), None) = (created.next(), created.next()) else {
        return Err(VerifyError::Timestamp(INPUT));
    };
    check.age(INPUT, at)?;
    values("expires").try_for_each(|(_, at)| check.not_ended(INPUT, at))
}

/// Labels and values of a dictionary whose strings hold no commas.
fn members(header: &str) -> impl Iterator<Item = (&str, &str)> {
    let members = header.split(',').take(ITEMS_MAX).map(str::trim);
    members.filter_map(|member| member.split_once('='))
}
