//! What an endpoint asks of its callers, and whom its certificate has to be of, as it is written.
//!
//! Decides which kinds go together, the bounds of each, and that PEM holds what it should. Leaves
//! to `egress` whether a key belongs to its certificate.

use postrider_domain::{Auth, ClientCertificate, Credentials, OAuth2, Secret};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::Unopened;
use super::auth_form::{AuthForm, BasicForm, BearerForm, MtlsForm, OAuth2Form, TlsForm};
use super::check::at_most;
use super::read::Mistakes;
use super::secret_text::SecretText;

const NAME_BYTES_MAX: usize = 256;
const SECRET_BYTES_MAX: usize = 1_024;
const TOKEN_BYTES_MAX: usize = 8_192;
const URL_BYTES_MAX: usize = 2_048;
const SCOPES_MAX: usize = 32;
const AUDIENCE_BYTES_MAX: usize = 1_024;
const CERTIFICATE_BYTES_MAX: usize = 16 << 10;
const KEY_BYTES_MAX: usize = 8 << 10;
const CA_BYTES_MAX: usize = 32 << 10;

type UrlRule<'a> = &'a dyn Fn(&str) -> Result<String, String>;

/// Both fields as one value; `None` when neither asks for anything, or with a mistake noted.
pub(super) fn auth(
    form: Option<AuthForm>,
    tls: Option<TlsForm>,
    url_rule: UrlRule<'_>,
    mistakes: &mut Mistakes,
) -> Option<Box<Auth>> {
    let ca = tls.and_then(|form| ca(form, mistakes));
    let Some(form) = form else {
        return ca.map(|ca| {
            Box::new(Auth {
                ca: Some(ca),
                ..Auth::NONE
            })
        });
    };
    let AuthForm {
        basic: as_basic,
        bearer: as_bearer,
        oauth2: as_oauth2,
        mtls: as_mtls,
    } = form;
    let written = [as_basic.is_some(), as_bearer.is_some(), as_oauth2.is_some()];
    match written.into_iter().filter(|written| *written).count() {
        0 if as_mtls.is_none() => mistakes.push("auth", "expected basic, bearer, oauth2 or mtls"),
        0 | 1 => {}
        _ => mistakes.push(
            "auth",
            "expected one of basic, bearer and oauth2, found more",
        ),
    }
    let credentials = (as_basic.and_then(|form| basic(form, mistakes)))
        .or_else(|| as_bearer.and_then(|form| bearer(form, mistakes)))
        .or_else(|| as_oauth2.and_then(|form| oauth2(form, url_rule, mistakes)));
    let certificate = as_mtls.and_then(|form| certificate(form, mistakes));
    Some(Box::new(Auth {
        credentials,
        certificate,
        ca,
    }))
}

fn basic(form: BasicForm, mistakes: &mut Mistakes) -> Option<Credentials> {
    let is_name = |text: &str| !text.contains(|c: char| c == ':' || c.is_control());
    let says = format!("is required, 1 to {NAME_BYTES_MAX} bytes without a colon");
    let username = field(form.username, NAME_BYTES_MAX, is_name);
    let username = noted(username, "auth.basic.username", &says, mistakes);
    let is_plain = |text: &str| !text.contains(char::is_control);
    let says = format!("is required, 1 to {SECRET_BYTES_MAX} bytes of plain text");
    let rule = |text: &str| text.len() <= SECRET_BYTES_MAX && is_plain(text);
    let password = secret(form.password, "auth.basic.password", rule, &says, mistakes);
    Some(Credentials::Basic {
        username: username?,
        password: password?,
    })
}

fn bearer(form: BearerForm, mistakes: &mut Mistakes) -> Option<Credentials> {
    let says = format!("is required, 1 to {TOKEN_BYTES_MAX} bytes of visible ASCII");
    let rule = |text: &str| text.len() <= TOKEN_BYTES_MAX && is_visible(text);
    let token = secret(form.token, "auth.bearer.token", rule, &says, mistakes);
    token.map(Credentials::Bearer)
}

fn oauth2(form: OAuth2Form, rule: UrlRule<'_>, mistakes: &mut Mistakes) -> Option<Credentials> {
    let token_url = match form.token_url.as_deref().map(rule) {
        Some(Ok(url)) if url.len() <= URL_BYTES_MAX => Some(url.into_boxed_str()),
        Some(Ok(url)) => {
            at_most(
                "auth.oauth2.token_url",
                "bytes",
                url.len(),
                URL_BYTES_MAX,
                mistakes,
            );
            None
        }
        Some(Err(message)) => noted(None, "auth.oauth2.token_url", &message, mistakes),
        None => noted(None, "auth.oauth2.token_url", "is required", mistakes),
    };
    let is_plain = |text: &str| !text.contains(char::is_control);
    let says = format!("is required, 1 to {NAME_BYTES_MAX} bytes of plain text");
    let client_id = field(form.client_id, NAME_BYTES_MAX, is_plain);
    let client_id = noted(client_id, "auth.oauth2.client_id", &says, mistakes);
    let says = format!("is required, 1 to {SECRET_BYTES_MAX} bytes of plain text");
    let rule = |text: &str| text.len() <= SECRET_BYTES_MAX && is_plain(text);
    let path = "auth.oauth2.client_secret";
    let client_secret = secret(form.client_secret, path, rule, &says, mistakes);
    let written = form.scopes.unwrap_or_default();
    at_most(
        "auth.oauth2.scopes",
        "scopes",
        written.len(),
        SCOPES_MAX,
        mistakes,
    );
    let mut scopes = Vec::with_capacity(written.len().min(SCOPES_MAX));
    for (n, scope) in written.into_iter().enumerate().take(SCOPES_MAX) {
        let path = format!("auth.oauth2.scopes[{n}]");
        let says =
            format!("expected 1 to {NAME_BYTES_MAX} bytes of visible ASCII without \" and \\");
        let is_scope = |text: &str| is_visible(text) && !text.contains(['"', '\\']);
        let scope = field(Some(scope), NAME_BYTES_MAX, is_scope);
        scopes.extend(noted(scope, &path, &says, mistakes));
    }
    let audience = form.audience.map(|text| {
        let says = format!("expected 1 to {AUDIENCE_BYTES_MAX} bytes of plain text");
        let audience = field(Some(text), AUDIENCE_BYTES_MAX, is_plain);
        noted(audience, "auth.oauth2.audience", &says, mistakes)
    });
    Some(Credentials::OAuth2(OAuth2 {
        token_url: token_url?,
        client_id: client_id?,
        client_secret: client_secret?,
        scopes,
        audience: audience.flatten(),
    }))
}

fn certificate(form: MtlsForm, mistakes: &mut Mistakes) -> Option<ClientCertificate> {
    let says = format!(
        "is required: PEM with BEGIN CERTIFICATE, our own first, at most {CERTIFICATE_BYTES_MAX} \
         bytes"
    );
    let chain = field(form.certificate, CERTIFICATE_BYTES_MAX, are_certificates);
    let chain = noted(chain, "auth.mtls.certificate", &says, mistakes);
    let says = format!(
        "is required: PEM with BEGIN PRIVATE KEY, RSA PRIVATE KEY or EC PRIVATE KEY, not \
         encrypted, at most {KEY_BYTES_MAX} bytes"
    );
    let rule = |text: &str| {
        text.len() <= KEY_BYTES_MAX && PrivateKeyDer::from_pem_slice(text.as_bytes()).is_ok()
    };
    let key = secret(form.key, "auth.mtls.key", rule, &says, mistakes);
    Some(ClientCertificate {
        chain: chain?,
        key: key?,
    })
}

fn ca(form: TlsForm, mistakes: &mut Mistakes) -> Option<Box<str>> {
    let says = format!("is required: PEM with BEGIN CERTIFICATE, at most {CA_BYTES_MAX} bytes");
    let ca = field(form.ca, CA_BYTES_MAX, are_certificates);
    noted(ca, "tls.ca", &says, mistakes)
}

/// At least one, and nothing that is broken.
fn are_certificates(pem: &str) -> bool {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    read.is_ok_and(|certificates| !certificates.is_empty())
}

fn is_visible(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_graphic())
}

fn field(text: Option<String>, max: usize, rule: impl Fn(&str) -> bool) -> Option<Box<str>> {
    let text = text.filter(|text| (1..=max).contains(&text.len()) && rule(text))?;
    Some(text.into())
}

/// The secret; `None` with a mistake noted, or when a sealed one is no use to this reader, which is
/// noted as that.
fn secret(
    written: Option<SecretText>,
    path: &str,
    rule: impl Fn(&str) -> bool,
    says: &str,
    mistakes: &mut Mistakes,
) -> Option<Secret> {
    let sealed = written.as_ref().is_some_and(SecretText::is_sealed);
    let text = written.as_ref().and_then(SecretText::text);
    let fits = text.filter(|text| !text.is_empty() && rule(text));
    if fits.is_none() && !sealed {
        mistakes.push(path, says);
    } else if fits.is_none() && text.is_some() {
        // A router cannot know this: it has to be held up, as what cannot be opened.
        mistakes.unopened.push(Unopened {
            path: format!("{path}.sealed"),
            why: format!("opens, but to nothing that can be used: {says}"),
        });
    }
    fits.map(|text| Secret::new(text.as_bytes()))
}

/// What is missing is a mistake; what was found is not repeated, it may be a secret.
fn noted<T>(value: Option<T>, path: &str, says: &str, mistakes: &mut Mistakes) -> Option<T> {
    if value.is_none() {
        mistakes.push(path, says);
    }
    value
}

fn text_of(secret: &Secret) -> Option<SecretText> {
    let text = String::from_utf8_lossy(secret.expose()).into_owned();
    Some(SecretText::of(Zeroizing::new(text)))
}

/// The form of what [`auth`] made, but for the authorities.
pub(super) fn form_of(auth: &Auth) -> Option<AuthForm> {
    let mut form = AuthForm::default();
    match &auth.credentials {
        Some(Credentials::Basic { username, password }) => {
            form.basic = Some(BasicForm {
                username: Some(username.to_string()),
                password: text_of(password),
            });
        }
        Some(Credentials::Bearer(token)) => {
            form.bearer = Some(BearerForm {
                token: text_of(token),
            });
        }
        Some(Credentials::OAuth2(oauth)) => {
            let scopes = oauth.scopes.iter().map(ToString::to_string).collect();
            form.oauth2 = Some(OAuth2Form {
                token_url: Some(oauth.token_url.to_string()),
                client_id: Some(oauth.client_id.to_string()),
                client_secret: text_of(&oauth.client_secret),
                scopes: Some(scopes).filter(|scopes: &Vec<_>| !scopes.is_empty()),
                audience: oauth.audience.as_ref().map(ToString::to_string),
            });
        }
        None if auth.certificate.is_none() => return None,
        None => {}
    }
    form.mtls = auth.certificate.as_ref().map(|shown| MtlsForm {
        certificate: Some(shown.chain.to_string()),
        key: text_of(&shown.key),
    });
    Some(form)
}

/// The form of the authorities.
pub(super) fn tls_form_of(auth: &Auth) -> Option<TlsForm> {
    let ca = auth.ca.as_ref()?.to_string();
    Some(TlsForm { ca: Some(ca) })
}
