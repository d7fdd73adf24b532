//! Standard Webhooks 1.0.0: `v1` (HMAC-SHA256) and `v1a` (Ed25519).
//!
//! Signed is `{id}.{timestamp}.{body}`. The header has one item for each secret, newest first,
//! exactly one space between them: some receivers' libraries fail on anything else.

use postrider_domain::{SigningKey, SigningSecret};

use crate::asymmetric::{self, RsaHash};
use crate::mac::{from_base64, hmac_sha256, push_base64};
use crate::verify::{Check, ITEMS_MAX, Kind, Received, VerifyError, VerifyingKey};
use crate::{Header, ID_HEADER, Message, SignError, TIMESTAMP_HEADER};

const SIGNATURE_HEADER: &str = "webhook-signature";
const HMAC: &str = "v1,";
const ED25519: &str = "v1a,";

pub(crate) fn sign(
    secrets: &[&SigningSecret],
    message: &Message<'_>,
) -> Result<[Header; 1], SignError> {
    let timestamp = message.at.as_secs().to_string();
    let mut items = String::new();
    for secret in secrets {
        if !items.is_empty() {
            items.push(' ');
        }
        match &secret.key {
            SigningKey::Shared(key) => {
                let mac = hmac_sha256(key, &signed(message.id, &timestamp, message.body));
                items.push_str(HMAC);
                push_base64(&mut items, &mac);
            }
            SigningKey::Ed25519(_) => {
                let text = signed(message.id, &timestamp, message.body).concat();
                items.push_str(ED25519);
                push_base64(
                    &mut items,
                    &asymmetric::sign(&secret.key, RsaHash::Sha256, &text)?,
                );
            }
            SigningKey::P256(_) | SigningKey::Rsa(_) => return Err(SignError::WrongKey),
        }
    }
    Ok([(SIGNATURE_HEADER, items)])
}

fn signed<'a>(id: &'a str, timestamp: &'a str, body: &'a [u8]) -> [&'a [u8]; 5] {
    [id.as_bytes(), b".", timestamp.as_bytes(), b".", body]
}

/// One item must match one of the keys. Items of other versions are skipped.
pub(crate) fn verify(
    keys: &[VerifyingKey],
    received: &Received<'_>,
    check: &mut Check,
) -> Result<(), VerifyError> {
    let id = received.header(ID_HEADER)?;
    let timestamp = received.header(TIMESTAMP_HEADER)?;
    check.age(TIMESTAMP_HEADER, timestamp)?;
    let signed = signed(id, timestamp, received.body);
    let items = received.header(SIGNATURE_HEADER)?.split(' ');
    let items = items.take(ITEMS_MAX);
    for key in keys {
        match key.kind() {
            Kind::Shared(key) => {
                let mac = hmac_sha256(key, &signed);
                for item in items.clone() {
                    check.mac(&mac, item.strip_prefix(HMAC).map(from_base64));
                }
            }
            Kind::Public(key) => {
                let text = signed.concat();
                for item in items.clone() {
                    let found = item.strip_prefix(ED25519).map(from_base64);
                    check.signature(found, |found| key.holds(RsaHash::Sha256, &text, found));
                }
            }
        }
    }
    check.verdict(SIGNATURE_HEADER)
}
