//! `X-Hub-Signature-256: sha256=<hex>`: HMAC-SHA256 of the body under the secret as text.
//!
//! It has no time and room for one signature.

use postrider_domain::SigningSecret;

use crate::mac::{from_hex, hmac_sha256, push_hex, shared};
use crate::verify::{Check, Received, VerifyError, VerifyingKey};
use crate::{Header, Message, SignError};

const HEADER: &str = "x-hub-signature-256";
const PREFIX: &str = "sha256=";

pub(crate) fn sign(
    secret: &SigningSecret,
    message: &Message<'_>,
) -> Result<[Header; 1], SignError> {
    let mut value = PREFIX.to_owned();
    push_hex(
        &mut value,
        &hmac_sha256(shared(&secret.key)?, &[message.body]),
    );
    Ok([(HEADER, value)])
}

pub(crate) fn verify(
    keys: &[VerifyingKey],
    received: &Received<'_>,
    check: &mut Check,
) -> Result<(), VerifyError> {
    let value = received.header(HEADER)?;
    let found = value.strip_prefix(PREFIX).map(from_hex);
    check.macs(HEADER, found, keys, |key| {
        hmac_sha256(key, &[received.body])
    })
}
