//! Detached JWS (RFC 7515, appendix F) in `x-jws-signature: <header>..<signature>`.
//!
//! The key says the algorithm: HS256, `EdDSA`, ES256 or PS256. The body is encoded when it is signed,
//! or signed as it is (RFC 7797, `b64: false`). Open Banking's UK profile adds when, by whom, and
//! under which trust anchor (`iat`, `iss`, `tan`), which a receiver must understand; it has the
//! unencoded form up to version 3.1.3 and the encoded one from 3.1.4 on. It has room for one
//! signature.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use postrider_domain::{Jws, OpenBanking, SigningKey, SigningSecret, Timestamp};
use serde::{Deserialize, Serialize};

use crate::asymmetric::{self, RsaHash};
use crate::mac::hmac_sha256;
use crate::verify::{Check, Kind, Received, VerifyError, VerifyingKey};
use crate::{Header, Message, SignError};

const HEADER: &str = "x-jws-signature";
const HASH: RsaHash = RsaHash::Sha256;
const B64: &str = "b64";
const IAT: &str = "http://openbanking.org.uk/iat";
const ISS: &str = "http://openbanking.org.uk/iss";
const TAN: &str = "http://openbanking.org.uk/tan";

/// The JOSE header.
#[derive(Deserialize, Serialize)]
struct Jose<'a> {
    #[serde(borrow)]
    alg: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b64: Option<bool>,
    #[serde(
        rename = "http://openbanking.org.uk/iat",
        skip_serializing_if = "Option::is_none"
    )]
    iat: Option<u64>,
    #[serde(
        rename = "http://openbanking.org.uk/iss",
        skip_serializing_if = "Option::is_none"
    )]
    iss: Option<Cow<'a, str>>,
    #[serde(
        rename = "http://openbanking.org.uk/tan",
        skip_serializing_if = "Option::is_none"
    )]
    tan: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    crit: Vec<Cow<'a, str>>,
}

impl Jose<'_> {
    /// What is critical is there and known (RFC 7515 §4.1.11), and an unencoded body is critical
    /// (RFC 7797 §6).
    fn is_understood(&self) -> bool {
        let is_there = |name: &Cow<'_, str>| match name.as_ref() {
            B64 => self.b64.is_some(),
            IAT => self.iat.is_some(),
            ISS => self.iss.is_some(),
            TAN => self.tan.is_some(),
            _ => false,
        };
        let says_b64 = self.crit.iter().any(|name| name == B64);
        self.crit.iter().all(is_there) && (self.b64 != Some(false) || says_b64)
    }
}

pub(crate) fn sign(
    form: &Jws,
    secret: &SigningSecret,
    message: &Message<'_>,
) -> Result<[Header; 1], SignError> {
    let header = header(form, secret, message.at);
    let header = serde_json::to_vec(&header).expect("it is made of texts and numbers");
    let header = URL_SAFE_NO_PAD.encode(header);
    let signature = match &secret.key {
        SigningKey::Shared(key) if form.encoded => {
            let body = URL_SAFE_NO_PAD.encode(message.body);
            hmac_sha256(key, &[header.as_bytes(), b".", body.as_bytes()]).to_vec()
        }
        SigningKey::Shared(key) => {
            hmac_sha256(key, &[header.as_bytes(), b".", message.body]).to_vec()
        }
        key => {
            let input = signing_input(&header, form.encoded, message.body);
            asymmetric::sign(key, HASH, &input)?
        }
    };
    let signature = URL_SAFE_NO_PAD.encode(signature);
    Ok([(HEADER, format!("{header}..{signature}"))])
}

fn header<'a>(form: &'a Jws, secret: &'a SigningSecret, at: Timestamp) -> Jose<'a> {
    let bank: Option<&OpenBanking> = form.open_banking.as_ref();
    let mut crit = Vec::new();
    if !form.encoded {
        crit.push(B64.into());
    }
    if bank.is_some() {
        crit.extend([IAT, ISS, TAN].map(Cow::from));
    }
    Jose {
        alg: match &secret.key {
            SigningKey::Shared(_) => "HS256",
            SigningKey::Ed25519(_) => "EdDSA",
            SigningKey::P256(_) => "ES256",
            SigningKey::Rsa(_) => "PS256",
        }
        .into(),
        kid: (!secret.id.is_empty()).then(|| secret.id.as_ref().into()),
        b64: (!form.encoded).then_some(false),
        iat: bank.map(|_| at.as_secs()),
        iss: bank.map(|bank| bank.issuer.as_ref().into()),
        tan: bank.map(|bank| bank.trust_anchor.as_ref().into()),
        crit,
    }
}

/// RFC 7515 §5.1, RFC 7797 §3.
fn signing_input(header: &str, encoded: bool, body: &[u8]) -> Vec<u8> {
    let mut input = Vec::with_capacity(header.len() + 1 + body.len() * 4 / 3 + 4);
    input.extend_from_slice(header.as_bytes());
    input.push(b'.');
    if encoded {
        input.extend_from_slice(URL_SAFE_NO_PAD.encode(body).as_bytes());
    } else {
        input.extend_from_slice(body);
    }
    input
}

/// The header's own `alg` is not believed: the key says which one it is for. Only what we may write
/// may be critical.
pub(crate) fn verify(
    keys: &[VerifyingKey],
    received: &Received<'_>,
    check: &mut Check,
) -> Result<(), VerifyError> {
    let value = received.header(HEADER)?;
    let parts = value.split_once("..").and_then(|(header, signature)| {
        let json = URL_SAFE_NO_PAD.decode(header).ok()?;
        Some((header, json, URL_SAFE_NO_PAD.decode(signature).ok()?))
    });
    let (header, json, found) = parts.ok_or(VerifyError::NoSignature(HEADER))?;
    let jose: Jose<'_> =
        serde_json::from_slice(&json).map_err(|_| VerifyError::NoSignature(HEADER))?;
    if !jose.is_understood() {
        return Err(VerifyError::NoSignature(HEADER));
    }
    if let Some(iat) = jose.iat {
        check.age(HEADER, &iat.to_string())?;
    }
    let input = signing_input(header, jose.b64.unwrap_or(true), received.body);
    for key in keys {
        match key.kind() {
            Kind::Shared(key) => {
                check.mac(&hmac_sha256(key, &[&input]), Some(Some(found.clone())));
            }
            Kind::Public(key) => {
                check.signature(Some(Some(found.clone())), |found| {
                    key.holds(HASH, &input, found)
                });
            }
        }
    }
    check.verdict(HEADER)
}
