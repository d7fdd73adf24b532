//! An endpoint as people write it in files and as programs write it to `endpoints`.
//!
//! Decides the fields, their bounds and defaults. Every mistake of a file is reported at once, each
//! with its place. In files an unknown field is an error, for a typo must not pass; in records it
//! is ignored, for the writer may be newer. Leaves whether a URL may be sent to to `guard`, the
//! written form of a secret, open or sealed, to `signing`, what a filter may be to `filter`, what a
//! template may say to `payload`: of a file it is asked, of a record only when something is sent.

mod auth;
mod auth_form;
mod check;
mod edit;
mod entry;
mod file;
mod form;
mod format;
mod headers;
mod ordering;
mod rate_limit;
mod read;
mod retry;
mod secret_text;
mod signing;
mod success;

use std::fmt;

use postrider_domain::{Endpoint, EndpointState, Timestamp};
use postrider_signing::KeyRing;

pub use edit::{Resealed, reseal, to_display_json, with_state};
pub use entry::{Unused, of_record};
pub use file::{FILE_BYTES_MAX, FileFormat, parse_file};
pub(crate) use form::EndpointForm;
pub use secret_text::{Reseal, Sealing};
pub use signing::{SECRETS_MAX, scheme_name, scheme_named, scheme_names};

use crate::instant;
use check::check;
use read::{Mistakes, UnknownFields};

/// A mistake in a file of endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Which document of the file, from 1; 0 = the file as a whole.
    pub document: usize,
    /// The field, such as `signing.secrets[0].value`; empty = the document as a whole.
    pub path: String,
    /// What is wrong and what is expected. Never repeats a secret.
    pub message: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.document > 0 {
            write!(f, "document {}: ", self.document)?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// Largest record of `endpoints`, in bytes. The bounds of all fields add up to about 230 KiB, more
/// only where much of it is escaped.
pub const RECORD_BYTES_MAX: usize = 256 << 10;

/// Most bytes of [`InvalidEndpoint`]'s message, which goes to the log.
const MESSAGE_BYTES_MAX: usize = 4 << 10;

/// Why a record of `endpoints` is not used: its mistakes, each with its field, no secrets, cut at
/// 4 KiB.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidEndpoint(String);

impl InvalidEndpoint {
    fn new(mut message: String) -> Self {
        const CUT: &str = " …";
        if message.len() > MESSAGE_BYTES_MAX {
            message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX - CUT.len()));
            message.push_str(CUT);
        }
        Self(message)
    }
}

/// A sealed secret that is no use to this reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unopened {
    /// The field: `signing.secrets[0].sealed`.
    pub path: String,
    /// Why, and what to do. Names the key, nothing of the secret.
    pub why: String,
}

impl fmt::Display for Unopened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.why)
    }
}

/// An endpoint as its record has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// With those of its secrets that could be opened. One that lacks some is neither sent to nor
    /// written again.
    pub endpoint: Endpoint,
    /// Those that could not.
    pub unopened: Vec<Unopened>,
}

impl Recorded {
    /// The endpoint for whoever sends to it. Where a secret could not be opened nothing may be sent,
    /// unsigned or with half of its signatures, and nothing may be lost: it is paused, so that its
    /// deliveries wait until somebody can open it.
    #[must_use]
    pub fn to_send(self) -> (Endpoint, Vec<Unopened>) {
        let mut endpoint = self.endpoint;
        if !self.unopened.is_empty() && endpoint.state == EndpointState::Active {
            endpoint.state = EndpointState::Paused;
        }
        (endpoint, self.unopened)
    }
}

/// The value of an endpoint's record, its secrets sealed; its key is the endpoint id.
#[must_use]
pub fn to_record(endpoint: &Endpoint, updated_at: Timestamp, sealing: Sealing<'_>) -> Vec<u8> {
    let mut form = EndpointForm::of(endpoint);
    form.seal(sealing);
    written(form, updated_at)
}

fn written(mut form: EndpointForm, updated_at: Timestamp) -> Vec<u8> {
    form.updated_at = Some(instant::to_text_millis(updated_at));
    serde_json::to_vec(&form).expect("a form is made of texts, numbers and lists")
}

/// Reads a record of `endpoints` that is no tombstone, and opens what is sealed with `keys`. Whether
/// its URL is allowed is asked again when something is sent to it, so here it only has to be one.
///
/// # Errors
/// [`InvalidEndpoint`] when the value is not an endpoint, not the one of the key, or larger than
/// [`RECORD_BYTES_MAX`] (the topic's own bound counts compressed bytes).
pub fn from_record(key: &[u8], value: &[u8], keys: &KeyRing) -> Result<Recorded, InvalidEndpoint> {
    let invalid = |message: String| Err(InvalidEndpoint::new(message));
    let mut mistakes = Mistakes::default();
    let mut form = form_of_record(value, &mut mistakes)?;
    form.open(keys, &mut mistakes);
    match check(form, &any_http_url, &mut mistakes) {
        Some(endpoint) if endpoint.id.as_str().as_bytes() == key => Ok(Recorded {
            endpoint,
            unopened: mistakes.unopened,
        }),
        Some(endpoint) => invalid(format!("its id is {}, but not its key", endpoint.id)),
        None => invalid(mistakes.to_string()),
    }
}

fn form_of_record(value: &[u8], mistakes: &mut Mistakes) -> Result<EndpointForm, InvalidEndpoint> {
    let invalid = |message: String| Err(InvalidEndpoint::new(message));
    if value.len() > RECORD_BYTES_MAX {
        let found = value.len();
        return invalid(format!(
            "the value has {found} bytes, at most {RECORD_BYTES_MAX} are read"
        ));
    }
    let value = match serde_json::from_slice(value) {
        Ok(value) => value,
        Err(error) => return invalid(format!("the value is not JSON: {error}")),
    };
    let form = read::form(value, UnknownFields::Ignore, mistakes);
    form.ok_or_else(|| InvalidEndpoint::new(mistakes.to_string()))
}

fn any_http_url(text: &str) -> Result<String, String> {
    match postrider_guard::normalise(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(url.into()),
        Ok(_) => Err("expected an https URL".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
