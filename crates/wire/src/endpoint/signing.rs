//! How an endpoint's requests are signed, as it is written.
//!
//! Decides the names of the schemes, what a scheme needs beside its secrets, and how many secrets
//! there may be. Leaves the written form of a key to `signing`.

use postrider_domain::{Jws, OpenBanking, Scheme, Signing, SigningKey, SigningSecret};
use postrider_signing::{format_key, parse_key};

use super::Unopened;
use super::check::{at_most, note};
use super::form::{JwsForm, OpenBankingForm, SecretForm, SigningForm};
use super::read::Mistakes;
use crate::attributes::clip;
use crate::instant;

/// Most signing secrets of an endpoint.
pub const SECRETS_MAX: usize = 10;
const OPEN_BANKING_BYTES_MAX: usize = 256;

/// The names of the schemes, and the scheme of a name alone.
const SCHEMES: [(&str, Scheme); 10] = [
    ("standard", Scheme::Standard),
    ("standard-ed25519", Scheme::StandardEd25519),
    ("stripe", Scheme::Stripe),
    ("github", Scheme::Github),
    ("shopify", Scheme::Shopify),
    ("slack", Scheme::Slack),
    ("corefy", Scheme::Corefy),
    ("rfc9421", Scheme::Rfc9421),
    ("jws", Scheme::Jws(JWS)),
    ("none", Scheme::None),
];

/// What a JWS is made like when nothing is said.
const JWS: Jws = Jws {
    encoded: true,
    open_banking: None,
};

/// The scheme of a name, with nothing said beside it; `None` = there is none of this name.
#[must_use]
pub fn scheme_named(name: &str) -> Option<Scheme> {
    let found = SCHEMES.into_iter().find(|(other, _)| *other == name);
    found.map(|(_, scheme)| scheme)
}

/// The names of all schemes.
pub fn scheme_names() -> impl Iterator<Item = &'static str> {
    SCHEMES.into_iter().map(|(name, _)| name)
}

/// The name of a scheme.
#[must_use]
pub fn scheme_name(scheme: &Scheme) -> &'static str {
    let same = |other: &Scheme| std::mem::discriminant(other) == std::mem::discriminant(scheme);
    let found = SCHEMES.into_iter().find(|(_, other)| same(other));
    found.expect("every scheme has a name").0
}

pub(super) fn signing(form: Option<SigningForm>, mistakes: &mut Mistakes) -> Option<Signing> {
    let Some(form) = form else {
        let message = "is required: a secret, or scheme: none to send without a signature";
        return note(mistakes, "signing", message);
    };
    let scheme = scheme(form.scheme.as_deref(), form.jws, mistakes);
    let forms = form.secrets.unwrap_or_default();
    at_most(
        "signing.secrets",
        "secrets",
        forms.len(),
        SECRETS_MAX,
        mistakes,
    );
    if forms.is_empty() && scheme.as_ref().is_some_and(|s| *s != Scheme::None) {
        let message =
            "at least one secret is required, or scheme: none to send without a signature";
        mistakes.push("signing.secrets", message);
    }
    let mut secrets: Vec<SigningSecret> = Vec::with_capacity(forms.len().min(SECRETS_MAX));
    for (n, form) in forms.into_iter().enumerate().take(SECRETS_MAX) {
        let path = format!("signing.secrets[{n}]");
        let Some(secret) = secret(form, scheme.as_ref(), &path, mistakes) else {
            continue;
        };
        if secrets.iter().any(|other| other.id == secret.id) {
            mistakes.push(
                format!("{path}.id"),
                format!("{:?} is there twice", secret.id),
            );
        }
        secrets.push(secret);
    }
    if let Some(Scheme::Jws(form)) = &scheme
        && form.open_banking.is_some()
        && secrets.iter().any(|s| !matches!(s.key, SigningKey::Rsa(_)))
    {
        mistakes.push("signing.jws.open_banking", "asks for RSA keys (PS256)");
    }
    Some(Signing {
        scheme: scheme?,
        secrets,
    })
}

fn scheme(name: Option<&str>, jws: Option<JwsForm>, mistakes: &mut Mistakes) -> Option<Scheme> {
    let scheme = match name {
        None => Some(Scheme::default()),
        Some(name) => scheme_named(name),
    };
    match (scheme, jws) {
        (None, _) => {
            let names: Vec<&str> = scheme_names().collect();
            let names = names.join(", ");
            let found = clip(name.unwrap_or_default());
            mistakes.push(
                "signing.scheme",
                format!("expected one of {names}, found {found:?}"),
            );
            None
        }
        (Some(Scheme::Jws(_)), Some(form)) => Some(Scheme::Jws(jws_form(form, mistakes))),
        (Some(scheme), None) => Some(scheme),
        (Some(_), Some(_)) => note(mistakes, "signing.jws", "is for scheme: jws alone"),
    }
}

fn jws_form(form: JwsForm, mistakes: &mut Mistakes) -> Jws {
    let open_banking = form.open_banking.map(|form| {
        let mut text = |name: &str, found: Option<String>| {
            let found = found.unwrap_or_default();
            let fits = (1..=OPEN_BANKING_BYTES_MAX).contains(&found.len());
            if !fits || found.contains(char::is_control) {
                let message =
                    format!("is required, 1 to {OPEN_BANKING_BYTES_MAX} bytes of plain text");
                mistakes.push(format!("signing.jws.open_banking.{name}"), message);
            }
            found.into_boxed_str()
        };
        OpenBanking {
            issuer: text("issuer", form.issuer),
            trust_anchor: text("trust_anchor", form.trust_anchor),
        }
    });
    Jws {
        encoded: form.b64.unwrap_or(JWS.encoded),
        open_banking,
    }
}

fn secret(
    form: SecretForm,
    scheme: Option<&Scheme>,
    path: &str,
    mistakes: &mut Mistakes,
) -> Option<SigningSecret> {
    let mut wrong =
        |field: &str, message: String| mistakes.push(format!("{path}.{field}"), message);
    let id = match form.id {
        Some(id) if is_secret_id(&id) => Some(id),
        // Not what was found: it may be the secret, in the wrong place.
        Some(_) => {
            wrong("id", "expected 1 to 64 of A-Z a-z 0-9 _ -".to_owned());
            None
        }
        None => {
            wrong("id", "is required, such as s1".to_owned());
            None
        }
    };
    let mut unfit = None;
    let key = match (form.value.as_ref(), &form.sealed, scheme) {
        (Some(text), None, Some(scheme)) => parse_key(scheme, text)
            .map_err(|error| wrong("value", error.to_string()))
            .ok(),
        // A router cannot know this: it has to be held up, as what cannot be opened.
        (Some(text), Some(_), Some(scheme)) => parse_key(scheme, text)
            .map_err(|error| unfit = Some(format!("opens, but not to a key: {error}")))
            .ok(),
        // Of which form it has to be is not known.
        (Some(_), _, None) => None,
        // It could not be opened, which is noted.
        (None, Some(_), _) => None,
        (None, None, _) => {
            wrong("value", "is required, such as whsec_ and base64".to_owned());
            None
        }
    };
    let not_after = form.not_after.as_deref().map(instant::from_text);
    if not_after == Some(None) {
        wrong(
            "not_after",
            "expected a time such as 2026-12-01T00:00:00Z".to_owned(),
        );
    }
    mistakes.unopened.extend(unfit.map(|why| Unopened {
        path: format!("{path}.sealed"),
        why,
    }));
    Some(SigningSecret {
        id: id?.into(),
        key: key?,
        not_after: not_after.flatten(),
    })
}

fn is_secret_id(id: &str) -> bool {
    let clean = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    (1..=64).contains(&id.len()) && id.bytes().all(clean)
}

/// The form of what [`signing`] made.
pub(super) fn form_of(signing: &Signing) -> SigningForm {
    let scheme = &signing.scheme;
    let secrets = signing.secrets.iter().map(|secret| SecretForm {
        id: Some(secret.id.to_string()),
        value: Some(format_key(scheme, &secret.key)),
        sealed: None,
        not_after: secret.not_after.map(instant::to_text),
    });
    let jws = match scheme {
        Scheme::Jws(form) if *form != JWS => Some(JwsForm {
            b64: (form.encoded != JWS.encoded).then_some(form.encoded),
            open_banking: form.open_banking.as_ref().map(|bank| OpenBankingForm {
                issuer: Some(bank.issuer.to_string()),
                trust_anchor: Some(bank.trust_anchor.to_string()),
            }),
        }),
        _ => None,
    };
    SigningForm {
        scheme: Some(scheme_name(scheme).to_owned()),
        secrets: Some(secrets.collect()),
        jws,
    }
}
