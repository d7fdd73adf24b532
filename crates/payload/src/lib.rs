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
            Format::Standard => rendered("application/json", exact(standard::envelope(event))),
            Format::CloudEvents => {
                rendered(cloudevents::MEDIA_TYPE, exact(cloudevents::envelope(event)))
            }
            Format::CloudEventsBinary => Rendered {
                headers: cloudevents::headers(event)?,
                ..rendered(media::of(event), event.data.clone())
            },
            Format::Form => rendered(form::MEDIA_TYPE, exact(form::encode(&event.data)?)),
            Format::Template(template) => {
                let compiled = self
                    .0
                    .get_or_init(|| Compiled::new(template, &endpoint.signing));
                let compiled = compiled.as_ref().map_err(Clone::clone)?;
                rendered(&template.content_type, exact(compiled.render(delivery)?))
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

/// Most bytes of the body that is made, and of its memory; `None` where it is the event's own data.
#[must_use]
pub fn bytes_at_most(endpoint: &Endpoint, delivery: &Delivery) -> Option<usize> {
    /// A byte as `\u0000`.
    const ESCAPED: usize = 6;
    /// Names of members, and what stands between them.
    const AROUND: usize = 1 << 10;
    let event = &delivery.event;
    match endpoint.format {
        Format::Raw | Format::CloudEventsBinary => None,
        Format::Template(_) | Format::Form => Some(BODY_BYTES_MAX),
        Format::Standard | Format::CloudEvents => {
            let named = [&event.id, &event.source, &event.event_type].map(|text| text.len());
            let said = [&event.time, &event.ordering_key, &event.content_type];
            let said = said.map(|text| text.as_deref().map_or(0, str::len));
            let extensions = event.extensions.iter();
            let extensions = extensions.map(|(name, value)| name.len() + value.len() + 1);
            let text = named
                .into_iter()
                .chain(said)
                .chain(extensions)
                .sum::<usize>();
            let text = text + event.tenant.as_str().len();
            Some(AROUND + ESCAPED * (text + event.data.len()))
        }
    }
}

/// Without the room that was left to grow into.
fn exact(bytes: impl Into<Vec<u8>>) -> Bytes {
    bytes.into().into_boxed_slice().into()
}

#[cfg(test)]
mod tests;
