//! Webhook signatures.
//!
//! Decides the bytes that are signed, the headers that carry the result, the written form of keys
//! ([`parse_key`]), which of an endpoint's secrets sign ([`sign`]), whether a signature holds
//! ([`verify`]), and how secrets are sealed where they lie ([`seal`], [`open`]). Each scheme is a
//! file of its name. Leaves the clock, the request and the storage of secrets to others. Only
//! ECDSA and RSA-PSS draw random numbers, to sign and for new keys, as they must; all else gives
//! the same result for the same arguments.
#![warn(missing_docs)]

mod asymmetric;
mod corefy;
mod github;
mod jws;
mod key;
mod key_ring;
mod mac;
mod rfc9421;
mod seal;
mod shopify;
mod slack;
mod standard;
mod stripe;
mod verify;

use postrider_domain::{Scheme, Signing, SigningSecret, Timestamp};

pub use key::{
    InvalidKey, format_key, format_public_key, generate_key, generate_key_like, parse_key,
};
pub use key_ring::{InvalidKeyRing, KEY_FILE_BYTES_MAX, KeyRing};
pub use seal::{NONCE_BYTES, Nonces, OpenError, Place, open, seal, sealing_key};
pub use verify::{InvalidVerifyingKey, Received, TOLERANCE, VerifyError, VerifyingKey, verify};

/// Name of the header that carries the delivery id.
pub const ID_HEADER: &str = "webhook-id";
/// Name of the header that carries the time of the attempt.
pub const TIMESTAMP_HEADER: &str = "webhook-timestamp";

/// What is signed: parts of one request, as they will be sent.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    /// `webhook-id`. An id with a dot in it is signed as it is, though Standard Webhooks advises
    /// against.
    pub id: &'a str,
    /// The time of sending, after every wait, because receivers refuse what is five minutes old.
    pub at: Timestamp,
    /// The URL of the request, absolute and normalised. The method is POST.
    pub url: &'a str,
    /// `content-type`, without space around it.
    pub content_type: &'a str,
    /// The body, byte for byte.
    pub body: &'a [u8],
}

/// A header that a scheme adds: its name in lower case, its value in printable ASCII.
pub type Header = (&'static str, String);

/// Why a request cannot be signed, so must not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// Every secret has expired, or there is none.
    #[error("the endpoint has no signing secret that is still valid; roll its secret")]
    NoValidSecret,
    /// A key is of a kind the scheme does not sign with, or is damaged.
    #[error("a signing secret of the endpoint is no key of its scheme; roll its secret")]
    WrongKey,
}

/// Whether a scheme carries a signature of each secret that is valid, so that the receiver changes
/// over whenever it likes. Elsewhere the oldest valid secret signs alone.
#[must_use]
pub const fn carries_several(scheme: &Scheme) -> bool {
    matches!(
        scheme,
        Scheme::Standard | Scheme::StandardEd25519 | Scheme::Stripe
    )
}

/// Signs one attempt; the headers of its scheme, beside `webhook-id` and `webhook-timestamp`, which
/// every request has.
///
/// Every secret that is valid at the time of the message signs where a scheme
/// [carries several](carries_several) signatures. Elsewhere the oldest valid one does, so that a
/// receiver has until its end to install the new one.
///
/// # Errors
/// [`SignError`]; never with [`Scheme::None`].
pub fn sign(signing: &Signing, message: &Message<'_>) -> Result<Vec<Header>, SignError> {
    let valid = signing
        .secrets
        .iter()
        .filter(|secret| secret.not_after.is_none_or(|end| message.at < end));
    let secrets: Vec<&SigningSecret> = valid.collect();
    let oldest = secrets.last().copied().ok_or(SignError::NoValidSecret);
    Ok(match &signing.scheme {
        Scheme::None => Vec::new(),
        Scheme::Standard | Scheme::StandardEd25519 => {
            oldest?;
            standard::sign(&secrets, message)?.into()
        }
        Scheme::Stripe => {
            oldest?;
            stripe::sign(&secrets, message)?.into()
        }
        Scheme::Github => github::sign(oldest?, message)?.into(),
        Scheme::Shopify => shopify::sign(oldest?, message)?.into(),
        Scheme::Slack => slack::sign(oldest?, message)?.into(),
        Scheme::Corefy => corefy::sign(oldest?, message)?.into(),
        Scheme::Rfc9421 => rfc9421::sign(oldest?, message)?.into(),
        Scheme::Jws(form) => jws::sign(form, oldest?, message)?.into(),
    })
}

#[cfg(test)]
mod tests;
