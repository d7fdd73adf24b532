//! HMAC-SHA256, and the two ways in which schemes write bytes down.
//!
//! Decides nothing of a scheme.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use postrider_domain::{Secret, SigningKey};
use sha2::Sha256;

use crate::SignError;

/// Over the parts, one after the other.
pub(crate) fn hmac_sha256(key: &Secret, parts: &[&[u8]]) -> [u8; 32] {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key.expose()).expect("HMAC takes a key of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// The key of a scheme in which both sides know it.
pub(crate) const fn shared(key: &SigningKey) -> Result<&Secret, SignError> {
    match key {
        SigningKey::Shared(key) => Ok(key),
        SigningKey::Ed25519(_) | SigningKey::P256(_) | SigningKey::Rsa(_) => {
            Err(SignError::WrongKey)
        }
    }
}

/// Standard base64 with its padding, appended.
pub(crate) fn push_base64(text: &mut String, bytes: &[u8]) {
    STANDARD.encode_string(bytes, text);
}

/// `None` when it is not standard base64 with its padding.
pub(crate) fn from_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// Lower-case hexadecimal, appended.
pub(crate) fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

/// `None` when it is not hexadecimal, of either case.
pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = text.as_bytes().chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs
        .map(|pair| u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok())
        .collect()
}
