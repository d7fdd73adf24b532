//! `X-Signature: <base64>`: SHA-1 of `{secret}{body}{secret}`, as Corefy (PayCore.io) signs.
//!
//! Legacy: it is no HMAC, SHA-1 is broken for collisions, and there is no time in it, so that a
//! captured request can be sent again. It is here for receivers that check it already. It has room
//! for one signature.

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use postrider_domain::{Secret, SigningSecret};

use crate::mac::{from_base64, push_base64, shared};
use crate::verify::{Check, Received, VerifyError, VerifyingKey};
use crate::{Header, Message, SignError};

const HEADER: &str = "x-signature";

pub(crate) fn sign(
    secret: &SigningSecret,
    message: &Message<'_>,
) -> Result<[Header; 1], SignError> {
    let mut value = String::new();
    push_base64(&mut value, &digest(shared(&secret.key)?, message.body));
    Ok([(HEADER, value)])
}

fn digest(key: &Secret, body: &[u8]) -> [u8; 20] {
    let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    for part in [key.expose(), body, key.expose()] {
        context.update(part);
    }
    let digest = context.finish();
    *digest.as_ref().first_chunk().expect("SHA-1 has 20 bytes")
}

pub(crate) fn verify(
    keys: &[VerifyingKey],
    received: &Received<'_>,
    check: &mut Check,
) -> Result<(), VerifyError> {
    let found = Some(from_base64(received.header(HEADER)?));
    check.macs(HEADER, found, keys, |key| digest(key, received.body))
}
