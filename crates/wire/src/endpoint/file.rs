//! Files of endpoints: YAML or JSON, one document or many.

use std::collections::BTreeMap;

use postrider_domain::{Endpoint, Format};
use postrider_guard::Policy;
use postrider_signing::KeyRing;
use serde_json::Value;
use zeroize::Zeroizing;

use super::check::check;
use super::form::EndpointForm;
use super::read::{self, Mistakes, UnknownFields};
use super::{FieldError, RECORD_BYTES_MAX, Unopened};

/// Largest file that is read, in bytes. 10 000 endpoints fit many times over.
pub const FILE_BYTES_MAX: usize = 64 << 20;

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    /// Documents parted by `---`.
    Yaml,
    /// JSON texts one after the other.
    Json,
}

/// Reads a file of endpoints. Their `version` is what the file says, 0 when it does not; who writes
/// the record sets it. What is sealed in it is opened with `keys`.
///
/// # Errors
/// Every mistake in it (of one document at most 100), each with document and field; nothing of the file is used then.
pub fn parse_file(
    bytes: &[u8],
    format: FileFormat,
    policy: &Policy,
    keys: &KeyRing,
) -> Result<Vec<Endpoint>, Vec<FieldError>> {
    let documents = documents(bytes, format).map_err(|message| vec![whole(message)])?;
    if documents.is_empty() {
        return Err(vec![whole("there is no endpoint in it".to_owned())]);
    }
    let url_rule = |text: &str| match policy.check_url(text) {
        Ok(url) => Ok(url.into()),
        Err(refusal) => Err(refusal.to_string()),
    };
    let mut endpoints = Vec::with_capacity(documents.len());
    let mut errors = Vec::new();
    let mut seen = BTreeMap::new();
    for (index, document) in documents.into_iter().enumerate() {
        let number = index + 1;
        let mut mistakes = Mistakes::default();
        if let Some(mut form) = read::form(document, UnknownFields::Refuse, &mut mistakes) {
            form.open(keys, &mut mistakes);
            let id = form.id.clone();
            if let Some(endpoint) = check(form, &url_rule, &mut mistakes) {
                check_template(&endpoint, &mut mistakes);
                check_record(&endpoint, &mut mistakes);
                endpoints.push(endpoint);
            }
            if let Some(first) = id.and_then(|id| seen.insert(id, number)) {
                mistakes.push("id", format!("is also the id of document {first}"));
            }
        }
        for Unopened { path, why } in std::mem::take(&mut mistakes.unopened) {
            mistakes.push(path, why);
        }
        errors.extend(
            mistakes
                .noted
                .into_iter()
                .map(|(path, message)| FieldError {
                    document: number,
                    path,
                    message,
                }),
        );
    }
    if errors.is_empty() {
        Ok(endpoints)
    } else {
        Err(errors)
    }
}

/// What is wrong in a template is found here, before there is an event.
fn check_template(endpoint: &Endpoint, mistakes: &mut Mistakes) {
    let Format::Template(template) = &endpoint.format else {
        return;
    };
    if let Err(found) = postrider_payload::check(template, &endpoint.signing) {
        mistakes.push("template", found.join("; "));
    }
}

/// Text that grows when it is escaped can keep every bound of its field and still be too much.
fn check_record(endpoint: &Endpoint, mistakes: &mut Mistakes) {
    /// For what is not known yet (the version, the time) and for Kafka's own part of a record.
    const RESERVE: usize = 1 << 10;
    let mut form = EndpointForm::of(endpoint);
    let open = Zeroizing::new(serde_json::to_vec(&form).unwrap_or_default()).len();
    let bytes = open + form.growth_when_sealed();
    let most = RECORD_BYTES_MAX - RESERVE;
    if bytes > most {
        let message = format!(
            "as a record it has {bytes} bytes, at most {most} are taken: shorten metadata, \
             headers, types, template, auth or certificates"
        );
        mistakes.push("", message);
    }
}

const fn whole(message: String) -> FieldError {
    FieldError {
        document: 0,
        path: String::new(),
        message,
    }
}

fn documents(bytes: &[u8], format: FileFormat) -> Result<Vec<Value>, String> {
    if bytes.len() > FILE_BYTES_MAX {
        return Err(format!(
            "it has {} bytes, at most {FILE_BYTES_MAX} are read; cut it into several",
            bytes.len()
        ));
    }
    match format {
        FileFormat::Json => serde_json::Deserializer::from_slice(bytes)
            .into_iter()
            .collect::<Result<_, _>>()
            .map_err(|error| format!("not JSON: {error}")),
        FileFormat::Yaml => serde_saphyr::from_slice_multiple_with_options(bytes, yaml_options())
            .map_err(|error| format!("not YAML: {error}")),
    }
}

/// Room for a large file of endpoints, none for aliases that grow a small file into a large one.
/// Messages show no excerpt of the file, for there are secrets in it.
fn yaml_options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 32,
            max_documents: 100_000,
            max_nodes: 10_000_000,
            max_events: 20_000_000,
            max_recorded_anchor_events: 10_000,
        },
        with_snippet: false,
    }
}
