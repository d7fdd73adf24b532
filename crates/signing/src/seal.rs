//! A secret where it lies: sealed, so that whoever reads the record has nothing.
//!
//! Decides the written form, `v1.KEY.…`: the id of the key, and the base64 (RFC 4648 §5, without
//! padding) of a nonce of 24 bytes and what XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03) makes
//! of the secret under it, tag included. Bound to it are key id, tenant, endpoint and which of the
//! endpoint's secrets it is, each preceded by its length: moved to another place it does not open.
//! Random numbers are the caller's. ADR 0029.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use crate::key_ring::{KeyRing, is_id};

const VERSION: &str = "v1";
/// Stands before what a seal is bound to, so that it is a seal of ours and of this version.
const CONTEXT: &[u8] = b"postrider sealed secret v1";

/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 24;

/// Where a secret lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// The endpoint's tenant.
    pub tenant: &'a str,
    /// The endpoint's id.
    pub endpoint: &'a str,
    /// Which of its secrets: the id of a signing secret, or, with a dot in it, the path of another
    /// field, such as `auth.bearer.token`.
    pub secret: &'a str,
}

/// The nonces of one record: random ones, each good once.
pub struct Nonces([u8; NONCE_BYTES]);

impl Nonces {
    /// From bytes drawn for this record alone. Counting on from them is as good as drawing again:
    /// two records meet only where the first 128 bits of theirs do.
    #[must_use]
    pub const fn new(random: [u8; NONCE_BYTES]) -> Self {
        Self(random)
    }

    /// The next one.
    pub const fn draw(&mut self) -> [u8; NONCE_BYTES] {
        let nonce = self.0;
        let mut n = NONCE_BYTES;
        while n > NONCE_BYTES / 3 * 2 {
            n -= 1;
            let (byte, carry) = self.0[n].overflowing_add(1);
            self.0[n] = byte;
            if !carry {
                break;
            }
        }
        nonce
    }
}

/// Why a sealed secret cannot be opened. Ids of keys are no secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not a form that this version knows.
    #[error("is not of the form v1.KEY.… that this version opens")]
    Form,
    /// There is no key at all.
    #[error(
        "is sealed under key {0}, and no keys are given: name the key file as secrets.key_file"
    )]
    NoKeys(Box<str>),
    /// Not under one of these keys.
    #[error("is sealed under key {0}, which is not in the key file: add it")]
    UnknownKey(Box<str>),
    /// The key is there, but this is not what it sealed.
    #[error(
        "does not open under key {0}: it was changed or sealed for another endpoint, tenant or \
         secret, or the key file has another key of that id"
    )]
    Refused(Box<str>),
}

/// Seals a secret under the ring's first key; `None` = the ring has none. A nonce is never used
/// twice under one key.
#[must_use]
pub fn seal(
    ring: &KeyRing,
    place: Place<'_>,
    nonce: [u8; NONCE_BYTES],
    secret: &str,
) -> Option<String> {
    let key = ring.first()?;
    let cipher = XChaCha20Poly1305::new((&*key.bytes).into());
    let bound = bound(&key.id, place);
    let payload = Payload {
        msg: secret.as_bytes(),
        aad: &bound,
    };
    let sealed = cipher
        .encrypt(&XNonce::from(nonce), payload)
        .expect("a secret is shorter than 256 GiB");
    let mut text = format!("{VERSION}.{}.", key.id);
    URL_SAFE_NO_PAD.encode_string([&nonce[..], &sealed].concat(), &mut text);
    Some(text)
}

/// Opens what [`seal`] made for the same place.
///
/// # Errors
/// [`OpenError`]; nothing of the secret.
pub fn open(
    ring: &KeyRing,
    place: Place<'_>,
    sealed: &str,
) -> Result<Zeroizing<String>, OpenError> {
    let (id, encoded) = parts(sealed).ok_or(OpenError::Form)?;
    if ring.is_empty() {
        return Err(OpenError::NoKeys(id.into()));
    }
    let key = ring
        .find(id)
        .ok_or_else(|| OpenError::UnknownKey(id.into()))?;
    let bytes = URL_SAFE_NO_PAD
        .decode(encoded)
        .map_err(|_| OpenError::Form)?;
    let (nonce, msg) = bytes
        .split_first_chunk::<NONCE_BYTES>()
        .ok_or(OpenError::Form)?;
    let cipher = XChaCha20Poly1305::new((&*key.bytes).into());
    let bound = bound(id, place);
    let payload = Payload { msg, aad: &bound };
    let refused = || OpenError::Refused(id.into());
    let opened = cipher.decrypt(&XNonce::from(*nonce), payload);
    let opened = Zeroizing::new(opened.map_err(|_| refused())?);
    let text = std::str::from_utf8(&opened).map_err(|_| refused())?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// The id of the key that a sealed secret says it is sealed under; `None` = it is none.
#[must_use]
pub fn sealing_key(sealed: &str) -> Option<&str> {
    parts(sealed).map(|(id, _)| id)
}

fn parts(sealed: &str) -> Option<(&str, &str)> {
    let rest = sealed.strip_prefix(VERSION)?.strip_prefix('.')?;
    let (id, encoded) = rest.split_once('.')?;
    is_id(id).then_some((id, encoded))
}

/// What the tag covers beside the secret.
fn bound(key: &str, place: Place<'_>) -> Vec<u8> {
    let Place {
        tenant,
        endpoint,
        secret,
    } = place;
    let mut bytes = CONTEXT.to_vec();
    for part in [key, tenant, endpoint, secret] {
        let length = u64::try_from(part.len()).expect("no text has more bytes");
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    use super::*;

    const PLACE: Place<'static> = Place {
        tenant: "acme",
        endpoint: "ep_1",
        secret: "s1",
    };

    fn ring(keys: &[(&str, u8)]) -> KeyRing {
        let line = |(id, byte): &(&str, u8)| format!("{id} = {}\n", STANDARD.encode([*byte; 32]));
        let text: String = keys.iter().map(line).collect();
        KeyRing::parse(text.as_bytes()).expect("a key file")
    }

    fn hex(text: &str) -> Vec<u8> {
        crate::mac::from_hex(text).expect("hexadecimal")
    }

    /// draft-irtf-cfrg-xchacha-03, A.3.1.
    #[test]
    fn the_primitive_is_that_of_the_draft() {
        let key: [u8; 32] = hex("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f")
            .try_into()
            .unwrap();
        let nonce: [u8; 24] = hex("404142434445464748494a4b4c4d4e4f5051525354555657")
            .try_into()
            .unwrap();
        let payload = Payload {
            msg: b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip \
                   for the future, sunscreen would be it.",
            aad: &hex("50515253c0c1c2c3c4c5c6c7"),
        };
        let sealed = XChaCha20Poly1305::new(&key.into())
            .encrypt(&XNonce::from(nonce), payload)
            .unwrap();
        let expected = hex(
            "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb\
                            731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b452\
                            2f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9\
                            21f9664c97637da9768812f615c68b13b52ec0875924c1c7987947deafd8780a\
                            cf49",
        );
        assert_eq!(sealed, expected);
    }

    #[test]
    fn the_written_form_stays_as_it_is() {
        let sealed = seal(
            &ring(&[("k1", 7)]),
            PLACE,
            [9; NONCE_BYTES],
            "whsec_c2VjcmV0",
        )
        .unwrap();
        assert_eq!(sealed, VECTOR);
        assert_eq!(sealing_key(&sealed), Some("k1"));
        let opened = open(&ring(&[("k2", 1), ("k1", 7)]), PLACE, VECTOR).unwrap();
        assert_eq!(*opened, "whsec_c2VjcmV0");
    }

    /// Made by libsodium's `crypto_aead_xchacha20poly1305_ietf_encrypt`.
    const VECTOR: &str =
        "v1.k1.CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJyRqR7x_1GlCieGtRPkMb_IK3IX_7eS9IX7w2X-ws";

    #[test]
    fn it_opens_where_it_was_sealed_and_nowhere_else() {
        let ring = ring(&[("k1", 7)]);
        let sealed = seal(&ring, PLACE, [9; NONCE_BYTES], "secret").unwrap();
        for place in [
            Place {
                tenant: "acm",
                ..PLACE
            },
            Place {
                endpoint: "ep_2",
                ..PLACE
            },
            Place {
                secret: "s2",
                ..PLACE
            },
            // the same letters, parted otherwise
            Place {
                tenant: "acmee",
                endpoint: "p_1",
                ..PLACE
            },
            Place {
                endpoint: "ep_1s",
                secret: "1",
                ..PLACE
            },
        ] {
            let refused = Err(OpenError::Refused("k1".into()));
            assert_eq!(open(&ring, place, &sealed), refused, "{place:?}");
        }
        assert_eq!(&**open(&ring, PLACE, &sealed).as_ref().unwrap(), "secret");
    }

    #[test]
    fn no_character_of_it_can_be_changed() {
        let ring = ring(&[("k1", 7), ("k2", 8), ("j1", 9)]);
        let sealed = seal(&ring, PLACE, [9; NONCE_BYTES], "secret").unwrap();
        for n in 0..sealed.len() {
            for other in *b"AQgwk2j.-_=" {
                let mut changed = sealed.clone().into_bytes();
                if changed[n] == other {
                    continue;
                }
                changed[n] = other;
                let changed = String::from_utf8(changed).unwrap();
                assert!(open(&ring, PLACE, &changed).is_err(), "{changed}");
            }
            assert!(open(&ring, PLACE, &sealed[..n]).is_err(), "cut at {n}");
        }
        assert!(open(&ring, PLACE, &format!("{sealed}A")).is_err());
    }

    #[test]
    fn what_cannot_be_opened_says_why() {
        let sealed = seal(&ring(&[("k1", 7)]), PLACE, [0; NONCE_BYTES], "secret").unwrap();
        let why = |ring: &KeyRing, text: &str| open(ring, PLACE, text).unwrap_err();
        assert_eq!(
            why(&KeyRing::default(), &sealed),
            OpenError::NoKeys("k1".into())
        );
        assert_eq!(
            why(&ring(&[("k2", 7)]), &sealed),
            OpenError::UnknownKey("k1".into())
        );
        assert_eq!(
            why(&ring(&[("k1", 8)]), &sealed),
            OpenError::Refused("k1".into())
        );
        for text in [
            "",
            "v1",
            "v1.k1",
            "v2.k1.AA",
            "v1.k 1.AA",
            "v1.k1.",
            "v1.k1.AA==",
            "whsec_AA",
        ] {
            let error = why(&ring(&[("k1", 7)]), text);
            assert_eq!(error, OpenError::Form, "{text}");
        }
        assert_eq!(
            seal(&KeyRing::default(), PLACE, [0; NONCE_BYTES], "secret"),
            None
        );
    }

    #[test]
    fn nonces_of_a_record_differ() {
        let mut nonces = Nonces::new([0xff; NONCE_BYTES]);
        let (first, second, third) = (nonces.draw(), nonces.draw(), nonces.draw());
        assert_eq!(first, [0xff; NONCE_BYTES]);
        assert_eq!(second[..16], [0xff; 16]);
        assert_eq!(second[16..], [0; 8]);
        assert_eq!(third[16..], [0, 0, 0, 0, 0, 0, 0, 1]);
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens(
            tenant in ".{0,20}", endpoint in ".{0,20}", secret in ".{0,20}", text in ".{0,300}",
            nonce: [u8; NONCE_BYTES],
        ) {
            let ring = ring(&[("k1", 7)]);
            let place = Place { tenant: &tenant, endpoint: &endpoint, secret: &secret };
            let sealed = seal(&ring, place, nonce, &text).unwrap();
            prop_assert_eq!(&*open(&ring, place, &sealed).unwrap(), &text);
        }

        #[test]
        fn texts_of_others_do_not_panic(text in "(v1\\.k1\\.)?[A-Za-z0-9_-]{0,80}|.{0,80}") {
            prop_assert!(open(&ring(&[("k1", 7)]), PLACE, &text).is_err());
        }
    }
}
