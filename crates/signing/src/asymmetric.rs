//! Signatures under a private key: Ed25519, ECDSA over P-256, RSA-PSS.
//!
//! Decides which keys are well formed. Leaves which algorithm a scheme uses to the scheme. The text
//! that is signed is one piece of memory, so a scheme that signs the body itself copies it.

use aws_lc_rs::encoding::{AsBigEndian as _, AsDer as _, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair,
    Ed25519KeyPair, KeyPair as _, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA512,
    RSA_PSS_SHA256, RSA_PSS_SHA512, UnparsedPublicKey, VerificationAlgorithm,
};
use postrider_domain::{Secret, SigningKey};

use crate::SignError;

/// Bytes of an Ed25519 seed.
pub(crate) const SEED_BYTES: usize = 32;

/// The hash of an RSA-PSS signature, whose salt is as long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RsaHash {
    Sha256,
    Sha512,
}

/// Signs under a private key; ECDSA as 64 bytes, r and s.
pub(crate) fn sign(key: &SigningKey, hash: RsaHash, text: &[u8]) -> Result<Vec<u8>, SignError> {
    let random = SystemRandom::new();
    match key {
        SigningKey::Shared(_) => Err(SignError::WrongKey),
        SigningKey::Ed25519(key) => Ok(ed25519(key)?.sign(text).as_ref().to_vec()),
        SigningKey::P256(key) => {
            let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.expose());
            let signature = key.map_err(|_| SignError::WrongKey)?.sign(&random, text);
            Ok(signature
                .map_err(|_| SignError::WrongKey)?
                .as_ref()
                .to_vec())
        }
        SigningKey::Rsa(key) => {
            let key = RsaKeyPair::from_pkcs8(key.expose()).map_err(|_| SignError::WrongKey)?;
            let padding = match hash {
                RsaHash::Sha256 => &RSA_PSS_SHA256,
                RsaHash::Sha512 => &RSA_PSS_SHA512,
            };
            let mut signature = vec![0; key.public_modulus_len()];
            key.sign(padding, &random, text, &mut signature)
                .map_err(|_| SignError::WrongKey)?;
            Ok(signature)
        }
    }
}

/// From a seed and its public key, one after the other.
fn ed25519(key: &Secret) -> Result<Ed25519KeyPair, SignError> {
    let (seed, public) = key.expose().split_at(SEED_BYTES.min(key.expose().len()));
    Ed25519KeyPair::from_seed_and_public_key(seed, public).map_err(|_| SignError::WrongKey)
}

/// A seed, alone or followed by its public key; `None` when they do not belong together.
pub(crate) fn ed25519_key(bytes: &[u8]) -> Option<SigningKey> {
    let (seed, public) = bytes.split_at_checked(SEED_BYTES)?;
    let pair = if public.is_empty() {
        Ed25519KeyPair::from_seed_unchecked(seed)
    } else {
        Ed25519KeyPair::from_seed_and_public_key(seed, public)
    };
    Some(with_public(seed, &pair.ok()?))
}

fn with_public(seed: &[u8], pair: &Ed25519KeyPair) -> SigningKey {
    let mut bytes = Vec::with_capacity(2 * SEED_BYTES);
    bytes.extend_from_slice(seed);
    bytes.extend_from_slice(pair.public_key().as_ref());
    SigningKey::Ed25519(Secret::new(bytes))
}

/// A private key of any of the three kinds; RSA of 2 048 to 4 096 bits.
pub(crate) fn pkcs8_key(der: &[u8]) -> Option<SigningKey> {
    if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
        let seed = pair.seed().ok()?.as_be_bytes().ok()?;
        return Some(with_public(seed.as_ref(), &pair));
    }
    if EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).is_ok() {
        return Some(SigningKey::P256(Secret::new(der)));
    }
    let key = RsaKeyPair::from_pkcs8(der).ok()?;
    // Larger ones take too long, and their signatures more than a header may have.
    let fits = (256..=512).contains(&key.public_modulus_len());
    fits.then(|| SigningKey::Rsa(Secret::new(der)))
}

/// A new private key of the kind and size of this one; `None` = it is damaged or has no private half.
pub(crate) fn new_key_like(key: &SigningKey, seed: &[u8; SEED_BYTES]) -> Option<SigningKey> {
    match key {
        SigningKey::Shared(_) => None,
        SigningKey::Ed25519(_) => ed25519_key(seed),
        SigningKey::P256(_) => {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).ok()?;
            pkcs8_key(pair.to_pkcs8v1().ok()?.as_ref())
        }
        SigningKey::Rsa(key) => {
            let old = RsaKeyPair::from_pkcs8(key.expose()).ok()?;
            let size = match old.public_modulus_len() {
                ..=256 => KeySize::Rsa2048,
                257..=384 => KeySize::Rsa3072,
                385.. => KeySize::Rsa4096,
            };
            let der: Pkcs8V1Der<'_> = RsaKeyPair::generate(size).ok()?.as_der().ok()?;
            pkcs8_key(der.as_ref())
        }
    }
}

/// The public half as SubjectPublicKeyInfo; `None` = it has none, or is damaged.
pub(crate) fn spki(key: &SigningKey) -> Option<Vec<u8>> {
    let der: PublicKeyX509Der<'_> = match key {
        SigningKey::Shared(_) => return None,
        SigningKey::Ed25519(key) => ed25519(key).ok()?.public_key().as_der().ok()?,
        SigningKey::P256(key) => {
            let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
            let pair = EcdsaKeyPair::from_pkcs8(algorithm, key.expose()).ok()?;
            pair.public_key().as_der().ok()?
        }
        SigningKey::Rsa(key) => {
            let pair = RsaKeyPair::from_pkcs8(key.expose()).ok()?;
            pair.public_key().as_der().ok()?
        }
    };
    Some(der.as_ref().to_vec())
}

/// What verifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PublicKey {
    /// 32 bytes.
    Ed25519(Box<[u8]>),
    /// A point, or SubjectPublicKeyInfo.
    P256(Box<[u8]>),
    /// SubjectPublicKeyInfo, or RSAPublicKey.
    Rsa(Box<[u8]>),
}

impl PublicKey {
    /// The public half; `None` = it has none, or is damaged.
    pub(crate) fn of(key: &SigningKey) -> Option<Self> {
        match key {
            SigningKey::Shared(_) => None,
            SigningKey::Ed25519(key) => {
                let pair = ed25519(key).ok()?;
                Some(Self::Ed25519(pair.public_key().as_ref().into()))
            }
            SigningKey::P256(key) => {
                let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
                let pair = EcdsaKeyPair::from_pkcs8(algorithm, key.expose()).ok()?;
                Some(Self::P256(pair.public_key().as_ref().into()))
            }
            SigningKey::Rsa(key) => {
                let pair = RsaKeyPair::from_pkcs8(key.expose()).ok()?;
                Some(Self::Rsa(pair.public_key().as_ref().into()))
            }
        }
    }

    /// From SubjectPublicKeyInfo; `None` = a key of another kind.
    pub(crate) fn of_spki(der: &[u8]) -> Option<Self> {
        // The algorithm's name, as DER has it, is near the beginning.
        let names = |oid: &[u8]| der.windows(oid.len()).take(16).any(|bytes| bytes == oid);
        let is = |algorithm: &'static dyn VerificationAlgorithm| {
            aws_lc_rs::signature::ParsedPublicKey::new(algorithm, der).is_ok()
        };
        const ED25519_OID: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];
        const EC_OID: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
        if names(ED25519_OID) && is(&ED25519) {
            return Some(Self::Ed25519(der.into()));
        }
        if names(EC_OID) && is(&ECDSA_P256_SHA256_FIXED) {
            return Some(Self::P256(der.into()));
        }
        is(&RSA_PSS_2048_8192_SHA256).then(|| Self::Rsa(der.into()))
    }

    /// Whether a signature of a text was made with the key's private half.
    pub(crate) fn holds(&self, hash: RsaHash, text: &[u8], signature: &[u8]) -> bool {
        let (algorithm, bytes): (&'static dyn VerificationAlgorithm, _) = match self {
            Self::Ed25519(bytes) => (&ED25519, bytes),
            Self::P256(bytes) => (&ECDSA_P256_SHA256_FIXED, bytes),
            Self::Rsa(bytes) => match hash {
                RsaHash::Sha256 => (&RSA_PSS_2048_8192_SHA256, bytes),
                RsaHash::Sha512 => (&RSA_PSS_2048_8192_SHA512, bytes),
            },
        };
        let key = UnparsedPublicKey::new(algorithm, bytes);
        key.verify(text, signature).is_ok()
    }
}
