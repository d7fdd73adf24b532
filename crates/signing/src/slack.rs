//! `X-Slack-Signature: v0=<hex>` with `X-Slack-Request-Timestamp: <seconds>`.
//!
//! Signed is `v0:{timestamp}:{body}`, with HMAC-SHA256 under the secret as text. It has room for
//! one signature.

use postrider_domain::SigningSecret;

use crate::mac::{from_hex, hmac_sha256, push_hex, shared};
use crate::verify::{Check, Received, VerifyError, VerifyingKey};
use crate::{Header, Message, SignError};

const HEADER: &str = "x-slack-signature";
const TIMESTAMP: &str = "x-slack-request-timestamp";
const PREFIX: &str = "v0=";

pub(crate) fn sign(
    secret: &SigningSecret,
    message: &Message<'_>,
) -> Result<[Header; 2], SignError> {
    let timestamp = message.at.as_secs().to_string();
    let mac = hmac_sha256(shared(&secret.key)?, &signed(&timestamp, message.body));
    let mut value = PREFIX.to_owned();
    push_hex(&mut value, &mac);
    Ok([(HEADER, value), (TIMESTAMP, timestamp)])
}

fn signed<'a>(timestamp: &'a str, body: &'a [u8]) -> [&'a [u8]; 4] {
    [b"v0:", timestamp.as_bytes(), b":", body]
}

pub(crate) fn verify(
    keys: &[VerifyingKey],
    received: &Received<'_>,
    check: &mut Check,
) -> Result<(), VerifyError> {
    let timestamp = received.header(TIMESTAMP)?;
    check.age(TIMESTAMP, timestamp)?;
    let value = received.header(HEADER)?;
    let found = value.strip_prefix(PREFIX).map(from_hex);
    let signed = signed(timestamp, received.body);
    check.macs(HEADER, found, keys, |key| hmac_sha256(key, &signed))
}
