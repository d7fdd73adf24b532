//! Webhook signatures.
//!
//! Decides the bytes that are signed, the headers that carry the result, the written form of a
//! secret ([`secret`](parse_secret)), and whether a signature holds ([`verify`]). Today Standard
//! Webhooks v1. Leaves the clock, the request and the storage of secrets to others.
#![warn(missing_docs)]

mod secret;
mod verify;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use postrider_domain::{DeliveryId, Scheme, Secret, Signing, Timestamp};
use sha2::Sha256;

pub use secret::{InvalidSecret, SECRET_BYTES_MAX, SECRET_BYTES_MIN, format_secret, parse_secret};
pub use verify::{TOLERANCE, VerifyError, verify};

/// Name of the header that carries the delivery id.
pub const ID_HEADER: &str = "webhook-id";
/// Name of the header that carries the time of the attempt.
pub const TIMESTAMP_HEADER: &str = "webhook-timestamp";
/// Name of the header that carries the signatures.
pub const SIGNATURE_HEADER: &str = "webhook-signature";

/// The values of the signature headers of one request, ASCII.
#[derive(Clone, PartialEq, Eq)]
pub struct Headers {
    /// `webhook-id`: the same on every attempt.
    pub id: String,
    /// `webhook-timestamp`: of this attempt, whole seconds since the epoch.
    pub timestamp: String,
    /// `webhook-signature`: one item per secret, newest secret first, one space between items.
    /// `None` with [`Scheme::None`].
    pub signature: Option<String>,
}

/// Why a request cannot be signed, so must not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// Every secret has expired, or there is none.
    #[error("the endpoint has no signing secret that is still valid; roll its secret")]
    NoValidSecret,
}

/// Signs one attempt. `body` is what will be sent, byte for byte; `now` the time of sending, after
/// every wait, because receivers refuse what is five minutes old.
///
/// # Errors
/// [`SignError::NoValidSecret`] when signing is on and no secret is valid at `now`.
pub fn sign(
    signing: &Signing,
    id: DeliveryId,
    now: Timestamp,
    body: &[u8],
) -> Result<Headers, SignError> {
    sign_as(signing, id.to_string(), now, body)
}

/// [`sign`] with an id of any form, for trying out a signature by hand. An id with a dot in it is
/// signed as it is, though Standard Webhooks advises against.
///
/// # Errors
/// As [`sign`].
pub fn sign_as(
    signing: &Signing,
    id: impl Into<String>,
    now: Timestamp,
    body: &[u8],
) -> Result<Headers, SignError> {
    let id = id.into();
    let timestamp = now.as_secs().to_string();
    let signature = match signing.scheme {
        Scheme::None => None,
        Scheme::Standard => Some(standard(signing, now, [&id, &timestamp], body)?),
    };
    Ok(Headers {
        id,
        timestamp,
        signature,
    })
}

/// `v1,<base64>` of every secret valid at `now`. Exactly one space between them: some receivers'
/// libraries fail on anything else.
fn standard(
    signing: &Signing,
    now: Timestamp,
    [id, timestamp]: [&str; 2],
    body: &[u8],
) -> Result<String, SignError> {
    let valid = signing
        .secrets
        .iter()
        .filter(|secret| secret.not_after.is_none_or(|end| now < end));
    let mut items = String::new();
    for secret in valid {
        if !items.is_empty() {
            items.push(' ');
        }
        items.push_str("v1,");
        STANDARD.encode_string(mac_v1(&secret.key, id, timestamp, body), &mut items);
    }
    if items.is_empty() {
        return Err(SignError::NoValidSecret);
    }
    Ok(items)
}

/// HMAC-SHA256 over `{id}.{timestamp}.{body}`.
fn mac_v1(key: &Secret, id: &str, timestamp: &str, body: &[u8]) -> [u8; 32] {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key.expose()).expect("HMAC takes a key of any length");
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests;
