//! Whether a request is signed as its endpoint says: Standard Webhooks, `v1`.
//!
//! Decides it from the specification, without the code that signs. The sender's clock is not
//! judged: a signature is made for each attempt, and the sink may read it late.

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// A tag of 32 bytes in Base64.
const TAG_LENGTH: usize = 44;

/// What a signature is about, and those that came with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signed<'a> {
    /// `webhook-id`
    pub id: &'a [u8],
    /// `webhook-timestamp`
    pub timestamp: &'a [u8],
    /// The body.
    pub body: &'a [u8],
    /// `webhook-signature`: any number of them, with spaces between.
    pub signatures: &'a [u8],
}

/// The secret, ready to be used.
#[derive(Clone)]
pub struct Key(Hmac<Sha256>);

impl Key {
    /// Of a secret as merchants have it: `whsec_…`.
    ///
    /// # Errors
    /// It is none.
    pub fn new(secret: &str) -> anyhow::Result<Self> {
        let secret = secret.strip_prefix("whsec_").context("it has no whsec_")?;
        let secret = STANDARD.decode(secret)?;
        Ok(Self(Hmac::new_from_slice(&secret)?))
    }

    /// The signature of these, in Base64.
    pub fn tag(&self, id: &[u8], timestamp: &[u8], body: &[u8]) -> [u8; TAG_LENGTH] {
        let mut mac = self.0.clone();
        for part in [id, b".", timestamp, b".", body] {
            mac.update(part);
        }
        let mut tag = [0; TAG_LENGTH];
        let written = STANDARD.encode_slice(mac.finalize().into_bytes(), &mut tag);
        debug_assert_eq!(written, Ok(TAG_LENGTH));
        tag
    }

    /// Whether one of the signatures is right.
    pub fn verifies(&self, signed: &Signed<'_>) -> bool {
        let tag = self.tag(signed.id, signed.timestamp, signed.body);
        // it need not take the same time for all: nobody attacks the sink
        let mut signatures = signed.signatures.split(|byte| *byte == b' ');
        signatures.any(|signature| signature.strip_prefix(b"v1,") == Some(&tag))
    }
}

#[cfg(test)]
mod tests {
    use super::{Key, Signed};

    /// The example of the specification.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const SIGNED: Signed<'_> = Signed {
        id: b"msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp: b"1614265330",
        body: br#"{"test": 2432232314}"#,
        signatures: b"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    };

    #[test]
    fn the_example_of_the_specification_verifies() {
        let key = Key::new(SECRET).unwrap();
        assert!(key.verifies(&SIGNED));
        let other = [b"v1,AAAA v1a,x ", SIGNED.signatures].concat();
        let signatures = other.as_slice();
        assert!(key.verifies(&Signed {
            signatures,
            ..SIGNED
        }));
    }

    #[test]
    fn whatever_is_changed_does_not_verify() {
        let key = Key::new(SECRET).unwrap();
        let (id, timestamp) = (&b"msg_other"[..], &b"1614265331"[..]);
        let (body, signatures) = (&b"{}"[..], &b""[..]);
        for changed in [
            Signed { id, ..SIGNED },
            Signed {
                timestamp,
                ..SIGNED
            },
            Signed { body, ..SIGNED },
            Signed {
                signatures,
                ..SIGNED
            },
        ] {
            assert!(!key.verifies(&changed), "{changed:?}");
        }
        let other = Key::new("whsec_AAAAr8GKYqrTwjUPD8ILPZIo2LaLaSw=");
        assert!(!other.unwrap().verifies(&SIGNED));
    }
}
