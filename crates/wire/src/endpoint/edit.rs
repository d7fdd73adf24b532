//! A record as it lies, with something changed or masked, its secrets unopened where they need not be.
//!
//! Decides that what is not changed stays, what only a newer version knows too. Leaves whether the
//! record is that of an endpoint to [`super::from_record`], which comes first.

use postrider_domain::{Endpoint, EndpointState, Timestamp};
use serde_json::Value;

use super::form::{EndpointForm, state_name};
use super::read::Mistakes;
use super::secret_text::{Reseal, Sealing};
use super::{InvalidEndpoint, Unopened, form_of_record};
use crate::instant;

/// A record with another state and version. Its secrets stay as they lie, sealed ones unopened; those
/// that lie open are sealed.
///
/// # Errors
/// The value is no record of an endpoint.
pub fn with_state(
    value: &[u8],
    state: EndpointState,
    version: u64,
    updated_at: Timestamp,
    sealing: Sealing<'_>,
) -> Result<Vec<u8>, InvalidEndpoint> {
    let mut form = form_to_edit(value)?;
    form.state = Some(state_name(state).to_owned());
    form.version = Some(version);
    form.seal(sealing);
    written_over(value, form, updated_at)
}

/// What became of a record whose secrets were to be sealed anew.
#[derive(Debug)]
pub struct Resealed {
    /// The same version of the same endpoint, otherwise sealed; `None` = nothing changed.
    pub value: Option<Vec<u8>>,
    /// How many secrets were sealed.
    pub sealed: usize,
    /// Those that were to be and could not be opened. They stay as they are.
    pub unopened: Vec<Unopened>,
}

/// A record with its secrets sealed anew. Nothing about the endpoint changes, so its version stays:
/// written over a newer version it is ignored.
///
/// # Errors
/// The value is no record of an endpoint.
pub fn reseal(
    value: &[u8],
    which: Reseal,
    updated_at: Timestamp,
    sealing: Sealing<'_>,
) -> Result<Resealed, InvalidEndpoint> {
    let mut form = form_to_edit(value)?;
    let (sealed, unopened) = form.reseal(which, sealing);
    let written = (sealed > 0).then(|| written_over(value, form, updated_at));
    Ok(Resealed {
        value: written.transpose()?,
        sealed,
        unopened,
    })
}

/// The record with what the form says. Fields that only a newer version knows stay.
fn written_over(
    value: &[u8],
    mut form: EndpointForm,
    updated_at: Timestamp,
) -> Result<Vec<u8>, InvalidEndpoint> {
    form.updated_at = Some(instant::to_text_millis(updated_at));
    let not_json = |error| InvalidEndpoint::new(format!("the value is not JSON: {error}"));
    let mut record = serde_json::from_slice(value).map_err(not_json)?;
    let form = serde_json::to_value(&form).expect("a form is made of texts, numbers and lists");
    lay_over(&mut record, form);
    Ok(serde_json::to_vec(&record).expect("it was JSON"))
}

fn lay_over(record: &mut Value, form: Value) {
    match (record, form) {
        (Value::Object(record), Value::Object(form)) => {
            if form.contains_key("sealed") {
                record.remove("value");
            }
            for (name, value) in form {
                lay_over(record.entry(name).or_insert(Value::Null), value);
            }
        }
        (Value::Array(record), Value::Array(form)) if record.len() == form.len() => {
            for (record, form) in record.iter_mut().zip(form) {
                lay_over(record, form);
            }
        }
        (record, form) => *record = form,
    }
}

/// Whole: what is left out of it would be lost.
fn form_to_edit(value: &[u8]) -> Result<EndpointForm, InvalidEndpoint> {
    let mut mistakes = Mistakes::default();
    let form = form_of_record(value, &mut mistakes)?;
    if mistakes.is_empty() {
        Ok(form)
    } else {
        Err(InvalidEndpoint::new(mistakes.to_string()))
    }
}

/// The endpoint for people to read: as in a file, its secrets masked, with the keys that those of its
/// record are sealed under.
///
/// # Errors
/// The value is no record of an endpoint.
pub fn to_display_json(endpoint: &Endpoint, value: &[u8]) -> Result<Value, InvalidEndpoint> {
    let mut form = EndpointForm::of(endpoint);
    let mut lying = form_to_edit(value)?;
    if let (Some(form), Some(lying)) = (&mut form.signing, &mut lying.signing) {
        form.secrets = lying.secrets.take();
    }
    form.auth = lying.auth;
    form.mask_secrets();
    Ok(serde_json::to_value(&form).expect("a form is made of texts, numbers and lists"))
}
