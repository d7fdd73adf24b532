//! `X-Shopify-Hmac-Sha256: <base64>`: HMAC-SHA256 of the body under the secret as text.
//!
//! It has no time and room for one signature.

use postrider_domain::SigningSecret;

use crate::mac::{from_base64, hmac_sha256, push_base64, shared};
use crate::verify::{Check, Received, VerifyError, VerifyingKey};
use crate::{Header, Message, SignError};

const HEADER: &str = "x-shopify-hmac-sha256";

pub(crate) fn sign(
    secret: &SigningSecret,
    message: &Message<'_>,
) -> Result<[Header; 1], SignError> {
    let mut value = String::new();
    push_base64(
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
    let found = Some(from_base64(received.header(HEADER)?));
    check.macs(HEADER, found, keys, |key| {
        hmac_sha256(key, &[received.body])
    })
}
