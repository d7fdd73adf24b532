//! `Stripe-Signature: t=<seconds>,v1=<hex>[,v1=<hex>…]`.
//!
//! Signed is `{t}.{body}`, with HMAC-SHA256 under the whole secret as text, its prefix included.

use std::fmt::Write as _;

use postrider_domain::SigningSecret;

use crate::mac::{from_hex, hmac_sha256, push_hex, shared};
use crate::verify::{Check, ITEMS_MAX, Received, VerifyError, VerifyingKey};
use crate::{Header, Message, SignError};

const HEADER: &str = "stripe-signature";

pub(crate) fn sign(
    secrets: &[&SigningSecret],
    message: &Message<'_>,
) -> Result<[Header; 1], SignError> {
    let timestamp = message.at.as_secs().to_string();
    let mut value = String::new();
    write!(value, "t={timestamp}").expect("a string takes all");
    for secret in secrets {
        let mac = hmac_sha256(shared(&secret.key)?, &signed(&timestamp, message.body));
        value.push_str(",v1=");
        push_hex(&mut value, &mac);
    }
    Ok([(HEADER, value)])
}

fn signed<'a>(timestamp: &'a str, body: &'a [u8]) -> [&'a [u8]; 3] {
    [timestamp.as_bytes(), b".", body]
}

/// One `v1` must match one of the keys; what else there is, such as `v0`, is skipped.
pub(crate) fn verify(
    keys: &[VerifyingKey],
    received: &Received<'_>,
    check: &mut Check,
) -> Result<(), VerifyError> {
    let items = received.header(HEADER)?.split(',').take(ITEMS_MAX);
    let items = items.filter_map(|item| item.trim().split_once('='));
    let timestamp = items.clone().find(|(name, _)| *name == "t");
    let (_, timestamp) = timestamp.ok_or(VerifyError::Timestamp(HEADER))?;
    check.age(HEADER, timestamp)?;
    for key in keys {
        let mac = hmac_sha256(key.shared()?, &signed(timestamp, received.body));
        for (_, found) in items.clone().filter(|(name, _)| *name == "v1") {
            check.mac(&mac, Some(from_hex(found)));
        }
    }
    check.verdict(HEADER)
}
