//! What a merchant gets of an event: the formats of an endpoint.
//!
//! Decides the body of a request, its content type and the headers that carry attributes
//! (`docs/reference/formats.md`), from the delivery and the endpoint alone, so that every attempt
//! has the same bytes. Leaves the other headers and the signature to `dispatcher` and `signing`,
//! when it is made to `dispatcher` ([ADR 0030](../../../docs/adr/0030-formats-are-made-per-attempt.md)),
//! and the endpoint's written form to `wire`.
//!
//! | rule | file |
//! | --- | --- |
//! | which media type is JSON, XML, text, and how data is embedded in JSON | `media` |
//! | Standard Webhooks' envelope | `standard` |
//! | CloudEvents, structured and binary | `cloudevents` |
//! | a JSON object as a form | `form` |
//! | JSON with its numbers as they are written | `json` |
//! | templates: what they see and how much they may do | `template`; what they may say: `sandbox`, what data is to them: `data`, what they can call: `filters`, how values are written: `escape` |
//! | minor units of currencies | `money` |
#![warn(missing_docs)]

mod cloudevents;
mod data;
mod escape;
mod filters;
mod form;
mod json;
mod media;
mod money;
mod sandbox;
mod standard;
mod template;

use std::borrow::Cow;
use std::sync::OnceLock;

use bytes::Bytes;
use postrider_domain::{Delivery, Endpoint, Format};

pub use cloudevents::HEADERS_BYTES_MAX;
pub use template::check;
use template::{Compiled, VARIABLES};

/// Most bytes of a body that a form or a template makes. The other formats make bodies of at most
/// six times the data, which is what escaping it as a JSON string can come to, and the attributes.
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// When the producer did not say what its data is.
const OPAQUE: &str = "application/octet-stream";

/// What is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered<'a> {
    /// Printable ASCII.
    pub content_type: Cow<'a, str>,
    /// Further headers, names in lower case, values printable ASCII; at most
    /// [`HEADERS_BYTES_MAX`] together.
    pub headers: Vec<(String, String)>,
    /// With [`Format::Raw`] and [`Format::CloudEventsBinary`] the event's data itself, not a copy.
    pub body: Bytes,
}

impl Rendered<'_> {
    /// The same, of its own.
    #[must_use]
    pub fn into_owned(self) -> Rendered<'static> {
        Rendered {
            content_type: self.content_type.into_owned().into(),
            headers: self.headers,
            body: self.body,
        }
    }
}

/// Why a format cannot be made of an event. It never will be, unless the endpoint changes. Repeats
/// nothing of the event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unrenderable(String);

impl Unrenderable {
    fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// The format of one endpoint, of one version: a template is read when it is first used, then kept.
#[derive(Default)]
pub struct Renderer(OnceLock<Result<Compiled, Unrenderable>>);

impl Renderer {
    /// What an endpoint gets of a delivery. Of an endpoint with a template always the same renderer
    /// is asked, and of no other; any will do for the rest.
    ///
    /// # Errors
    /// [`Unrenderable`] when its format cannot be made of this event.
    pub fn render<'a>(
        &self,
        endpoint: &'a Endpoint,
        delivery: &'a Delivery,
    ) -> Result<Rendered<'a>, Unrenderable> {
        let event = &delivery.event;
        let rendered = |content_type: &'a str, body: Bytes| Rendered {
            content_type: content_type.into(),
            headers: Vec::new(),
            body,
        };
        Ok(match &endpoint.format {
            Format::Raw => rendered(media::of(event), event.data.clone()),
            Format::Standard => rendered("application/json", standard::envelope(event).into()),
            Format::CloudEvents => {
                rendered(cloudevents::MEDIA_TYPE, cloudevents::envelope(event).into())
            }
            Format::CloudEventsBinary => Rendered {
                headers: cloudevents::headers(event)?,
                ..rendered(media::of(event), event.data.clone())
            },
            Format::Form => rendered(form::MEDIA_TYPE, form::encode(&event.data)?.into()),
            Format::Template(template) => {
                let compiled = self
                    .0
                    .get_or_init(|| Compiled::new(template, &endpoint.signing));
                let compiled = compiled.as_ref().map_err(Clone::clone)?;
                rendered(&template.content_type, compiled.render(delivery)?.into())
            }
        })
    }
}

/// Whether making it may take longer than a thread that others wait for should be held up: a
/// template may run for tens of milliseconds, the others take a few for a large body.
#[must_use]
pub fn takes_long(endpoint: &Endpoint, delivery: &Delivery) -> bool {
    /// A form of this size takes half a millisecond on a busy machine, an envelope far less.
    const DATA_BYTES: usize = 16 << 10;
    match endpoint.format {
        Format::Raw | Format::CloudEventsBinary => false,
        Format::Template(_) => true,
        Format::Standard | Format::CloudEvents | Format::Form => {
            delivery.event.data.len() > DATA_BYTES
        }
    }
}

#[cfg(test)]
mod tests;
