//! Whether a request was signed with one of these keys, lately.
//!
//! Decides the receiver's side of every scheme, as far as schemes have it in common. Leaves where a
//! signature is to the scheme, reading the request and the clock to the caller.

use std::time::Duration;

use postrider_domain::{Scheme, Secret, SigningKey, Timestamp};
use subtle::{Choice, ConstantTimeEq as _};

use crate::asymmetric::{PublicKey, SEED_BYTES};
use crate::key::{PUBLIC_BEGIN, PUBLIC_END, from_pem};
use crate::mac::from_base64;
use crate::{
    InvalidKey, corefy, github, jws, parse_key, rfc9421, shopify, slack, standard, stripe,
};

/// How far a timestamp may be from the receiver's clock, in either direction, as the libraries of
/// Standard Webhooks have it.
pub const TOLERANCE: Duration = Duration::from_secs(300);

/// Most signatures of a header that are looked at.
pub(crate) const ITEMS_MAX: usize = 32;

/// Why a request is not to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// A header that the scheme needs is missing.
    #[error("there is no {0} header")]
    NoHeader(&'static str),
    /// A header that the scheme reads is there more than once.
    #[error("there is more than one {0} header")]
    Repeated(&'static str),
    /// Not a number of seconds.
    #[error("the timestamp in {0} is not whole seconds since the epoch")]
    Timestamp(&'static str),
    /// Sent too long ago: perhaps a replay.
    #[error("the timestamp is {seconds} s in the past")]
    TooOld {
        /// How far, in seconds.
        seconds: u64,
    },
    /// Sent in the future: one clock is wrong.
    #[error("the timestamp is {seconds} s in the future")]
    TooNew {
        /// How far, in seconds.
        seconds: u64,
    },
    /// Nothing in the header is a signature of the scheme.
    #[error("{0} holds no signature of this scheme")]
    NoSignature(&'static str),
    /// Another key, or something that is signed is not as it was.
    #[error("no signature in {0} matches")]
    Mismatch(&'static str),
    /// A key is of a kind that the scheme does not verify with.
    #[error("the key is not one of this scheme")]
    WrongKey,
}

/// A request as it came.
#[derive(Clone, Copy)]
pub struct Received<'a> {
    /// The URL it was sent to, absolute.
    pub url: &'a str,
    /// Names, in any case, and values.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body, byte for byte.
    pub body: &'a [u8],
}

impl<'a> Received<'a> {
    pub(crate) fn header(&self, name: &'static str) -> Result<&'a str, VerifyError> {
        let headers = self.headers.iter();
        let mut found = headers.filter(|(other, _)| other.eq_ignore_ascii_case(name));
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Ok(value),
            // Which one counts is not for us to say.
            (Some(_), Some(_)) => Err(VerifyError::Repeated(name)),
            (None, _) => Err(VerifyError::NoHeader(name)),
        }
    }
}

/// What a receiver verifies with.
#[derive(Clone)]
pub struct VerifyingKey(Kind);

#[derive(Clone)]
pub(crate) enum Kind {
    Shared(Secret),
    Public(PublicKey),
}

/// Why a text is nothing to verify with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidVerifyingKey {
    /// It is no key that signs either.
    #[error("{0}")]
    Key(#[from] InvalidKey),
    /// It looks like a public key and is none of a kind that verifies.
    #[error(
        "a public key is whpk_ and the base64 of 32 bytes, or PEM (BEGIN PUBLIC KEY) of Ed25519, \
         P-256 or RSA"
    )]
    Public,
}

impl VerifyingKey {
    /// What verifies the signatures of a key.
    ///
    /// # Errors
    /// [`VerifyError::WrongKey`] when the key is damaged.
    pub fn of(key: &SigningKey) -> Result<Self, VerifyError> {
        if let SigningKey::Shared(key) = key {
            return Ok(Self(Kind::Shared(key.clone())));
        }
        let public = PublicKey::of(key).ok_or(VerifyError::WrongKey)?;
        Ok(Self(Kind::Public(public)))
    }

    /// Reads a public key (`whpk_…`, or PEM), or a key as [`parse_key`] does.
    ///
    /// # Errors
    /// [`InvalidVerifyingKey`], which repeats nothing of the text.
    pub fn parse(scheme: &Scheme, text: &str) -> Result<Self, InvalidVerifyingKey> {
        const PEM: [&str; 2] = [PUBLIC_BEGIN, PUBLIC_END];
        let with_public = matches!(
            scheme,
            Scheme::StandardEd25519 | Scheme::Rfc9421 | Scheme::Jws(_)
        );
        let public = if !with_public {
            None
        } else if let Some(encoded) = text.strip_prefix("whpk_") {
            let bytes = from_base64(encoded).filter(|bytes| bytes.len() == SEED_BYTES);
            Some(bytes.map(|bytes| PublicKey::Ed25519(bytes.into())))
        } else if text.trim_start().starts_with(PEM[0]) {
            Some(from_pem(text, PEM).and_then(|der| PublicKey::of_spki(&der)))
        } else {
            None
        };
        if let Some(public) = public {
            let key = public.ok_or(InvalidVerifyingKey::Public)?;
            return Ok(Self(Kind::Public(key)));
        }
        let key = parse_key(scheme, text)?;
        Self::of(&key).map_err(|_| InvalidVerifyingKey::Public)
    }

    pub(crate) const fn kind(&self) -> &Kind {
        &self.0
    }

    /// The key of a scheme in which both sides know it.
    pub(crate) const fn shared(&self) -> Result<&Secret, VerifyError> {
        match &self.0 {
            Kind::Shared(key) => Ok(key),
            Kind::Public(_) => Err(VerifyError::WrongKey),
        }
    }
}

/// Holds a request against the keys of which one must have signed it. Its time, where the scheme
/// has one, must be within `tolerance` (usually [`TOLERANCE`]) of `now`. What is compared with a
/// shared key takes the same time wherever the first difference is.
///
/// # Errors
/// [`VerifyError`]; a signature is looked at only when the time is right. With [`Scheme::None`]
/// every request holds.
pub fn verify(
    scheme: &Scheme,
    keys: &[VerifyingKey],
    received: &Received<'_>,
    now: Timestamp,
    tolerance: Duration,
) -> Result<(), VerifyError> {
    let mut check = Check {
        now,
        tolerance,
        seen: false,
        matches: Choice::from(0),
    };
    match scheme {
        Scheme::None => Ok(()),
        Scheme::Standard | Scheme::StandardEd25519 => standard::verify(keys, received, &mut check),
        Scheme::Stripe => stripe::verify(keys, received, &mut check),
        Scheme::Github => github::verify(keys, received, &mut check),
        Scheme::Shopify => shopify::verify(keys, received, &mut check),
        Scheme::Slack => slack::verify(keys, received, &mut check),
        Scheme::Corefy => corefy::verify(keys, received, &mut check),
        Scheme::Rfc9421 => rfc9421::verify(keys, received, &mut check),
        Scheme::Jws(_) => jws::verify(keys, received, &mut check),
    }
}

/// What was found so far.
pub(crate) struct Check {
    now: Timestamp,
    tolerance: Duration,
    /// There was something to compare.
    seen: bool,
    matches: Choice,
}

/// Bytes that a header holds: `None` = none of the kind that is looked for, `Some(None)` = one that
/// is not well written.
pub(crate) type Found = Option<Option<Vec<u8>>>;

impl Check {
    /// The time that a header holds, in whole seconds.
    pub(crate) fn age(&self, header: &'static str, text: &str) -> Result<(), VerifyError> {
        // `parse` alone would take a plus sign.
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        let sent: u64 = text
            .parse()
            .ok()
            .filter(|_| digits)
            .ok_or(VerifyError::Timestamp(header))?;
        let now = self.now.as_secs();
        let seconds = now.abs_diff(sent);
        if seconds <= self.tolerance.as_secs() {
            Ok(())
        } else if sent < now {
            Err(VerifyError::TooOld { seconds })
        } else {
            Err(VerifyError::TooNew { seconds })
        }
    }

    /// The end that a header holds, in whole seconds, is not past.
    pub(crate) fn not_ended(&self, header: &'static str, text: &str) -> Result<(), VerifyError> {
        let end: u64 = text.parse().map_err(|_| VerifyError::Timestamp(header))?;
        let seconds = self.now.as_secs().saturating_sub(end);
        if seconds > self.tolerance.as_secs() {
            return Err(VerifyError::TooOld { seconds });
        }
        Ok(())
    }

    /// Whether what is found is what a shared key gives.
    pub(crate) fn mac(&mut self, expected: &[u8], found: Found) {
        self.seen |= found.is_some();
        if let Some(Some(found)) = found {
            self.matches |= expected.ct_eq(&found);
        }
    }

    /// Whether a public key says so of what is found.
    pub(crate) fn signature(&mut self, found: Found, holds: impl FnOnce(&[u8]) -> bool) {
        self.seen |= found.is_some();
        if let Some(Some(found)) = found {
            self.matches |= Choice::from(u8::from(holds(&found)));
        }
    }

    /// Whether what a header holds is what one of the shared keys gives.
    pub(crate) fn macs<M: AsRef<[u8]>>(
        &mut self,
        header: &'static str,
        found: Found,
        keys: &[VerifyingKey],
        mac: impl Fn(&Secret) -> M,
    ) -> Result<(), VerifyError> {
        for key in keys {
            self.mac(mac(key.shared()?).as_ref(), found.clone());
        }
        self.verdict(header)
    }

    pub(crate) fn verdict(&self, header: &'static str) -> Result<(), VerifyError> {
        match (bool::from(self.matches), self.seen) {
            (true, _) => Ok(()),
            (false, true) => Err(VerifyError::Mismatch(header)),
            (false, false) => Err(VerifyError::NoSignature(header)),
        }
    }
}
