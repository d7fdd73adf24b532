//! CloudEvents 1.0 on Kafka, binary and structured.
//!
//! Decides how a record becomes an event by the CloudEvents Kafka binding and JSON format. Leaves
//! defaults and bounds to `attributes`.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use postrider_domain::{Event, Record};
use serde_json::value::RawValue;

use crate::attributes::{Attributes, clip, is_attribute_name, traceparent, utf8};
use crate::event::{ENVELOPE_BYTES_MAX, Undeliverable};
use crate::json;

/// How a CloudEvent is laid out in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Attributes are headers, the value is the data.
    Binary,
    /// The value is an envelope.
    Structured,
}

impl Mode {
    /// By the content type (compared without case, as 1.0.3 asks) and the `ce_` headers.
    pub(crate) fn of(record: &Record) -> Option<Self> {
        const STRUCTURED: &[u8] = b"application/cloudevents";
        let has = |name| record.header(name).is_some();
        let structured = record
            .header("content-type")
            .and_then(|value| value.trim_ascii_start().get(..STRUCTURED.len()))
            .is_some_and(|start| start.eq_ignore_ascii_case(STRUCTURED));
        if structured {
            Some(Self::Structured)
        } else if has("ce_specversion") || (has("ce_id") && has("ce_type")) {
            Some(Self::Binary)
        } else {
            None
        }
    }
}

pub(crate) fn decode(record: &Record, mode: Mode) -> Result<Event, Undeliverable> {
    match mode {
        Mode::Binary => binary(record),
        Mode::Structured => structured(record),
    }
}

/// Header names that CloudEvents does not allow for an attribute are not attributes and are left
/// out. A null value is an event without data.
fn binary(record: &Record) -> Result<Event, Undeliverable> {
    let mut attributes = Attributes::default();
    let mut data_content_type = None;
    for (header, value) in &record.headers {
        let (Some(name), Some(value)) = (header.strip_prefix("ce_"), value) else {
            continue;
        };
        if !is_attribute_name(name) {
            continue;
        }
        let text = utf8(header, value)?;
        match name {
            // Not how the binding writes it, but some producers do.
            "datacontenttype" => data_content_type = Some(text.into()),
            _ => attributes.set(name, text)?,
        }
    }
    attributes.content_type = match record.header("content-type") {
        Some(value) => Some(utf8("content-type", value)?.into()),
        None => data_content_type,
    };
    set_trace(&mut attributes, record);
    attributes.into_event(record, record.value.clone().unwrap_or_default())
}

fn structured(record: &Record) -> Result<Event, Undeliverable> {
    check_format(record)?;
    let value = record.value.clone().unwrap_or_default();
    if value.len() > ENVELOPE_BYTES_MAX {
        return Err(Undeliverable::oversized(format!(
            "an envelope of {} bytes, at most {ENVELOPE_BYTES_MAX} are read",
            value.len()
        )));
    }
    let broken = |error: serde_json::Error| {
        Undeliverable::undecodable(format!("the structured CloudEvent is not JSON: {error}"))
    };
    let envelope = json::parse(&value).map_err(broken)?;
    if !json::is_object(envelope) {
        return Err(Undeliverable::undecodable(
            "the structured CloudEvent is JSON, but not an object",
        ));
    }
    let mut attributes = Attributes::default();
    let (mut data, mut data_base64) = (None, None);
    let mut read = Ok(());
    json::members(envelope, |name, member| match name {
        _ if read.is_err() => {}
        "data" => data = Some(member),
        "data_base64" => data_base64 = Some(member),
        _ if is_attribute_name(name) => read = set_member(&mut attributes, name, member),
        _ => {}
    })
    .map_err(broken)?;
    read?;
    set_trace(&mut attributes, record);
    let data = match (data, data_base64) {
        (Some(_), Some(_)) => {
            return Err(Undeliverable::undecodable(
                "the structured CloudEvent has both data and data_base64",
            ));
        }
        (Some(data), None) => inline(&value, data, &mut attributes)?,
        (None, Some(data)) => from_base64(data)?,
        (None, None) => Bytes::new(),
    };
    attributes.into_event(record, data)
}

/// Only the JSON format is read; batches are not defined for Kafka.
fn check_format(record: &Record) -> Result<(), Undeliverable> {
    let content_type = record.header("content-type").unwrap_or_default();
    let media_type = content_type.split(|b| *b == b';').next();
    let media_type = media_type.unwrap_or_default().trim_ascii();
    let readable: [&[u8]; 2] = [b"application/cloudevents+json", b"application/cloudevents"];
    if readable
        .iter()
        .any(|known| media_type.eq_ignore_ascii_case(known))
    {
        return Ok(());
    }
    Err(Undeliverable::undecodable(format!(
        "content-type is {:?}, of structured CloudEvents application/cloudevents+json is read",
        clip(&String::from_utf8_lossy(media_type))
    )))
}

fn set_member(
    attributes: &mut Attributes,
    name: &str,
    member: &RawValue,
) -> Result<(), Undeliverable> {
    let text = json::scalar(member).map_err(|not_scalar| {
        Undeliverable::undecodable(format!("attribute {:?} {not_scalar}", clip(name)))
    })?;
    match (name, text) {
        // "Unset attributes may be encoded as null" (JSON format 1.0.2, §2.2).
        (_, None) => Ok(()),
        ("datacontenttype", Some(text)) => {
            attributes.content_type = Some(text.into());
            Ok(())
        }
        (_, Some(text)) => attributes.set(name, &text),
    }
}

/// `data`: a JSON value is forwarded as it stands in the envelope; a string of a type that is not
/// JSON is the text in it. Without a type it is JSON (JSON format 1.0.2, §3.1.1).
fn inline(
    envelope: &Bytes,
    data: &RawValue,
    attributes: &mut Attributes,
) -> Result<Bytes, Undeliverable> {
    let content_type = attributes
        .content_type
        .get_or_insert_with(|| "application/json".into());
    let as_it_stands = || envelope.slice_ref(data.get().as_bytes());
    if is_json(content_type) || !data.get().starts_with('"') {
        return Ok(as_it_stands());
    }
    match json::scalar(data) {
        Ok(Some(text)) => Ok(Bytes::copy_from_slice(text.as_bytes())),
        Ok(None) => Ok(as_it_stands()),
        Err(not_scalar) => Err(Undeliverable::undecodable(format!("data {not_scalar}"))),
    }
}

fn is_json(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default();
    let subtype = media_type.trim().rsplit('/').next().unwrap_or_default();
    let subtype = subtype.to_ascii_lowercase();
    subtype == "json" || subtype.ends_with("+json")
}

fn from_base64(data: &RawValue) -> Result<Bytes, Undeliverable> {
    const BASE64: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let text = match json::scalar(data) {
        Ok(Some(text)) if data.get().starts_with('"') => text,
        _ => return Err(Undeliverable::undecodable("data_base64 is not a string")),
    };
    match BASE64.decode(text.as_bytes()) {
        Ok(bytes) => Ok(bytes.into()),
        Err(error) => Err(Undeliverable::undecodable(format!(
            "data_base64 is not base64: {error}"
        ))),
    }
}

/// The trace of the record itself, else the one the event carries as an extension.
fn set_trace(attributes: &mut Attributes, record: &Record) {
    let carried = attributes.extensions.iter();
    let carried = carried.rev().find(|(name, _)| &**name == "traceparent");
    attributes.traceparent = record
        .header("traceparent")
        .and_then(traceparent)
        .or_else(|| carried.and_then(|(_, value)| traceparent(value.as_bytes())));
}
