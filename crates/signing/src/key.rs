//! The written form of a signing key, by scheme.
//!
//! | schemes | form |
//! | --- | --- |
//! | `standard` | `whsec_` and standard padded base64 of 24 to 64 bytes |
//! | `standard-ed25519` | `whsk_` and the base64 of a seed, alone or followed by its public key |
//! | `stripe`, `github`, `shopify`, `slack`, `corefy` | any text of 6 to 256 bytes, taken as it is |
//! | `rfc9421`, `jws` | either of the first two, or a private key as PKCS#8 PEM: Ed25519, P-256, or RSA of 2 048 to 4 096 bits |
//!
//! Decides which texts are keys. Leaves sealing at rest to others. No error repeats the text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use postrider_domain::{Scheme, Secret, SigningKey};
use zeroize::Zeroizing;

use crate::asymmetric::{SEED_BYTES, ed25519_key, new_key_like, pkcs8_key, spki};

const SHARED: &str = "whsec_";
const ED25519: &str = "whsk_";
const PUBLIC: &str = "whpk_";
pub(crate) const PUBLIC_BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
pub(crate) const PUBLIC_END: &str = "-----END PUBLIC KEY-----";
const PRIVATE_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const PRIVATE_END: &str = "-----END PRIVATE KEY-----";

/// Fewest and most bytes of a shared key, from Standard Webhooks.
const SHARED_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Fewest bytes of a key that is a text. Others have made it; this keeps out its id.
const TEXT_BYTES_MIN: usize = 6;
/// Most bytes of a key that is a text.
pub(crate) const TEXT_BYTES_MAX: usize = 256;

/// Most characters of a private key in base64: RSA of 4 096 bits has 3.2 KiB.
const ENCODED_BYTES_MAX: usize = 8 << 10;

/// Why a text is not a signing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// It begins with nothing that its scheme knows.
    #[error("a signing secret of this scheme begins with {0}")]
    Prefix(&'static str),
    /// What follows is not standard base64 with its padding.
    #[error("what follows {0} is standard base64 with = padding")]
    Encoding(&'static str),
    /// Too short to be safe, or too long to be one.
    #[error("a signing secret has 24 to 64 bytes when decoded")]
    Length,
    /// Shorter than RFC 7518 §3.2 has it.
    #[error("a shared signing secret for jws has 32 to 64 bytes when decoded")]
    Jws,
    /// Neither a seed nor a seed and its public key.
    #[error("an Ed25519 key has 32 bytes when decoded, or 64: the seed and its public key")]
    Ed25519,
    /// Not a private key of a kind that signs.
    #[error(
        "a private key is PKCS#8 in PEM (BEGIN PRIVATE KEY) for Ed25519, P-256, or RSA of 2048 to \
         4096 bits"
    )]
    Private,
    /// Too short, too long, or with control characters.
    #[error(
        "a signing secret of this scheme has {TEXT_BYTES_MIN} to {TEXT_BYTES_MAX} bytes, none of \
         them control characters"
    )]
    Text,
}

/// Reads a key of a scheme.
///
/// # Errors
/// [`InvalidKey`] says which rule the text breaks, and nothing of the text.
pub fn parse_key(scheme: &Scheme, text: &str) -> Result<SigningKey, InvalidKey> {
    match scheme {
        Scheme::Standard | Scheme::None => shared(text, InvalidKey::Prefix(SHARED)),
        Scheme::StandardEd25519 => ed25519(text, InvalidKey::Prefix(ED25519)),
        Scheme::Stripe | Scheme::Github | Scheme::Shopify | Scheme::Slack | Scheme::Corefy => {
            let fits = (TEXT_BYTES_MIN..=TEXT_BYTES_MAX).contains(&text.len());
            if !fits || text.contains(char::is_control) {
                return Err(InvalidKey::Text);
            }
            Ok(SigningKey::Shared(Secret::new(text.as_bytes())))
        }
        Scheme::Rfc9421 | Scheme::Jws(_) => {
            if text.trim_start().starts_with("-----") {
                let der = from_pem(text, [PRIVATE_BEGIN, PRIVATE_END]);
                return der
                    .and_then(|der| pkcs8_key(&der))
                    .ok_or(InvalidKey::Private);
            }
            let other = InvalidKey::Prefix("whsec_, whsk_ or -----BEGIN PRIVATE KEY-----");
            if text.starts_with(ED25519) {
                return ed25519(text, other);
            }
            let key = shared(text, other)?;
            match (&key, scheme) {
                (SigningKey::Shared(key), Scheme::Jws(_)) if key.expose().len() < 32 => {
                    Err(InvalidKey::Jws)
                }
                _ => Ok(key),
            }
        }
    }
}

fn shared(text: &str, other: InvalidKey) -> Result<SigningKey, InvalidKey> {
    let key = decode(text, SHARED, *SHARED_BYTES.end(), other, InvalidKey::Length)?;
    if !SHARED_BYTES.contains(&key.len()) {
        return Err(InvalidKey::Length);
    }
    Ok(SigningKey::Shared(Secret::new(key.as_slice())))
}

fn ed25519(text: &str, other: InvalidKey) -> Result<SigningKey, InvalidKey> {
    let key = decode(text, ED25519, 2 * SEED_BYTES, other, InvalidKey::Ed25519)?;
    ed25519_key(&key).ok_or(InvalidKey::Ed25519)
}

fn decode(
    text: &str,
    prefix: &'static str,
    most: usize,
    other: InvalidKey,
    too_long: InvalidKey,
) -> Result<Zeroizing<Vec<u8>>, InvalidKey> {
    let encoded = text.strip_prefix(prefix).ok_or(other)?;
    if encoded.len() > most.div_ceil(3) * 4 {
        return Err(too_long);
    }
    // Room from the beginning: nothing of the key stays behind in memory that was grown.
    let mut key = Zeroizing::new(vec![0; most.div_ceil(3) * 3]);
    let length = STANDARD
        .decode_slice(encoded, &mut key)
        .map_err(|_| InvalidKey::Encoding(prefix))?;
    key.truncate(length);
    Ok(key)
}

/// What is between the lines; `None` when it is not PEM with these, or too long.
pub(crate) fn from_pem(text: &str, [begin, end]: [&str; 2]) -> Option<Zeroizing<Vec<u8>>> {
    let body = text.trim().strip_prefix(begin)?.strip_suffix(end)?;
    if body.len() > ENCODED_BYTES_MAX {
        return None;
    }
    let mut encoded = Zeroizing::new(String::with_capacity(body.len()));
    encoded.extend(body.split_ascii_whitespace());
    let mut der = Zeroizing::new(vec![0; encoded.len().div_ceil(4) * 3]);
    let length = STANDARD.decode_slice(encoded.as_str(), &mut der).ok()?;
    der.truncate(length);
    Some(der)
}

/// Writes a key as [`parse_key`] reads it; wiped when dropped.
#[must_use]
pub fn format_key(scheme: &Scheme, key: &SigningKey) -> Zeroizing<String> {
    let room = |bytes: &Secret| 64 + bytes.expose().len() * 2;
    match key {
        SigningKey::Shared(key) => {
            let mut text = Zeroizing::new(String::with_capacity(room(key)));
            match scheme {
                Scheme::Stripe
                | Scheme::Github
                | Scheme::Shopify
                | Scheme::Slack
                | Scheme::Corefy => {
                    text.push_str(&String::from_utf8_lossy(key.expose()));
                }
                Scheme::Standard
                | Scheme::StandardEd25519
                | Scheme::Rfc9421
                | Scheme::Jws(_)
                | Scheme::None => {
                    text.push_str(SHARED);
                    STANDARD.encode_string(key.expose(), &mut text);
                }
            }
            text
        }
        SigningKey::Ed25519(key) => {
            let mut text = Zeroizing::new(String::with_capacity(room(key)));
            text.push_str(ED25519);
            STANDARD.encode_string(key.expose(), &mut text);
            text
        }
        SigningKey::P256(key) | SigningKey::Rsa(key) => {
            to_pem(key.expose(), [PRIVATE_BEGIN, PRIVATE_END])
        }
    }
}

/// The public half of a key, for whoever verifies with it: `whpk_…` for `standard-ed25519`, PEM for
/// other schemes. `None` = it has none, or is damaged.
#[must_use]
pub fn format_public_key(scheme: &Scheme, key: &SigningKey) -> Option<String> {
    let spki = spki(key)?;
    if *scheme == Scheme::StandardEd25519 {
        // SubjectPublicKeyInfo of Ed25519 ends with the key (RFC 8410 §4).
        let (_, key) = spki.split_last_chunk::<SEED_BYTES>()?;
        let mut text = PUBLIC.to_owned();
        STANDARD.encode_string(key, &mut text);
        return Some(text);
    }
    Some(to_pem(&spki, [PUBLIC_BEGIN, PUBLIC_END]).to_string())
}

fn to_pem(der: &[u8], [begin, end]: [&str; 2]) -> Zeroizing<String> {
    let mut body = Zeroizing::new(String::with_capacity(der.len() * 2));
    STANDARD.encode_string(der, &mut body);
    let mut text = Zeroizing::new(String::with_capacity(128 + body.len() * 2));
    text.push_str(begin);
    for line in body.as_bytes().chunks(64) {
        text.push('\n');
        text.push_str(str::from_utf8(line).expect("base64 is ASCII"));
    }
    text.push('\n');
    text.push_str(end);
    text.push('\n');
    text
}

/// A new key in place of this one: of the same kind and size. P-256 and RSA keys are drawn by the
/// library, all others are made of `random`. `None` = the old one is damaged.
#[must_use]
pub fn generate_key_like(
    scheme: &Scheme,
    old: &SigningKey,
    random: [u8; SEED_BYTES],
) -> Option<SigningKey> {
    match old {
        SigningKey::Shared(_) => Some(generate_key(scheme, random)),
        _ => new_key_like(old, &Zeroizing::new(random)),
    }
}

/// A new key of a scheme from 32 random bytes.
#[must_use]
pub fn generate_key(scheme: &Scheme, random: [u8; 32]) -> SigningKey {
    let random = Zeroizing::new(random);
    match scheme {
        Scheme::StandardEd25519 => ed25519_key(&*random).expect("any 32 bytes are a seed"),
        Scheme::Stripe | Scheme::Github | Scheme::Shopify | Scheme::Slack | Scheme::Corefy => {
            let prefix = match scheme {
                Scheme::Stripe => SHARED,
                _ => "",
            };
            let mut text = Zeroizing::new(String::with_capacity(96));
            text.push_str(prefix);
            crate::mac::push_hex(&mut text, &*random);
            SigningKey::Shared(Secret::new(text.as_bytes()))
        }
        Scheme::Standard | Scheme::Rfc9421 | Scheme::Jws(_) | Scheme::None => {
            SigningKey::Shared(Secret::new(random.as_slice()))
        }
    }
}
