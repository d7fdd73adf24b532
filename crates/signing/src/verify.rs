//! Whether a request was signed with one of these secrets, lately.
//!
//! Decides the receiver's side of Standard Webhooks v1. Leaves reading the headers and the clock
//! to the caller.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use postrider_domain::{Secret, Timestamp};
use subtle::{Choice, ConstantTimeEq as _};

use crate::mac_v1;

/// How far a timestamp may be from the receiver's clock, in either direction, as the Standard
/// Webhooks libraries have it.
pub const TOLERANCE: Duration = Duration::from_secs(300);

/// Why a request is not to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// Not a number of seconds.
    #[error("webhook-timestamp is not whole seconds since the epoch")]
    Timestamp,
    /// Sent too long ago: perhaps a replay.
    #[error("webhook-timestamp is {seconds} s in the past")]
    TooOld {
        /// How far, in seconds.
        seconds: u64,
    },
    /// Sent in the future: one clock is wrong.
    #[error("webhook-timestamp is {seconds} s in the future")]
    TooNew {
        /// How far, in seconds.
        seconds: u64,
    },
    /// Nothing in the header is of a version we know.
    #[error("webhook-signature has no v1 item")]
    NoSignature,
    /// Another secret, another body, id or timestamp.
    #[error("no v1 item of webhook-signature matches")]
    Mismatch,
}

/// Holds the headers of a request against its body: one `v1` item must match one of `secrets`, and
/// the timestamp must be within `tolerance` (usually [`TOLERANCE`]) of `now`. Items of other
/// versions are skipped. Comparison takes the same time wherever the first difference is.
///
/// # Errors
/// [`VerifyError`]; the signature is looked at only when the timestamp is right.
pub fn verify(
    secrets: &[Secret],
    id: &str,
    timestamp_header: &str,
    signature_header: &str,
    body: &[u8],
    now: Timestamp,
    tolerance: Duration,
) -> Result<(), VerifyError> {
    check_age(timestamp_header, now, tolerance)?;
    let expected: Vec<[u8; 32]> = secrets
        .iter()
        .map(|key| mac_v1(key, id, timestamp_header, body))
        .collect();
    let mut seen = false;
    let mut matches = Choice::from(0);
    for item in signature_header.split(' ') {
        let Some(encoded) = item.strip_prefix("v1,") else {
            continue;
        };
        seen = true;
        let Some(found) = decode(encoded) else {
            continue;
        };
        for mac in &expected {
            matches |= mac.ct_eq(&found);
        }
    }
    match (bool::from(matches), seen) {
        (true, _) => Ok(()),
        (false, true) => Err(VerifyError::Mismatch),
        (false, false) => Err(VerifyError::NoSignature),
    }
}

fn check_age(header: &str, now: Timestamp, tolerance: Duration) -> Result<(), VerifyError> {
    // `parse` alone would take a plus sign.
    let digits = header.bytes().all(|b| b.is_ascii_digit());
    let sent: u64 = header
        .parse()
        .ok()
        .filter(|_| digits)
        .ok_or(VerifyError::Timestamp)?;
    let now = now.as_secs();
    let seconds = now.abs_diff(sent);
    if seconds <= tolerance.as_secs() {
        Ok(())
    } else if sent < now {
        Err(VerifyError::TooOld { seconds })
    } else {
        Err(VerifyError::TooNew { seconds })
    }
}

/// `None` unless it is the base64 of 32 bytes.
fn decode(encoded: &str) -> Option<[u8; 32]> {
    let mut buffer = [0; 33];
    match STANDARD.decode_slice(encoded, &mut buffer) {
        Ok(32) => buffer.first_chunk().copied(),
        _ => None,
    }
}
