//! What an endpoint gets of an event.
//!
//! Decides which of the fields go together. Leaves what a template may say to `payload`.

use postrider_domain::{Format, Template};

use super::check::{at_most, note};
use super::form::format_name;
use super::read::Mistakes;
use crate::attributes::clip;

const CONTENT_TYPE_BYTES_MAX: usize = 256;
const CONTENT_TYPE: &str = "application/json";

/// The formats that need nothing else.
const PLAIN: [Format; 5] = [
    Format::Raw,
    Format::Standard,
    Format::CloudEvents,
    Format::CloudEventsBinary,
    Format::Form,
];

/// The format, or `None` with at least one mistake noted.
pub(super) fn format(
    name: Option<&str>,
    template: Option<String>,
    content_type: Option<String>,
    mistakes: &mut Mistakes,
) -> Option<Format> {
    let name = name.unwrap_or(format_name(&Format::Raw));
    if name == "template" {
        return templated(template, content_type, mistakes).map(Format::Template);
    }
    let known = PLAIN.into_iter().find(|format| format_name(format) == name);
    let Some(format) = known else {
        let message = format!(
            "expected raw, standard, cloudevents, cloudevents-binary, form or template, found {:?}",
            clip(name)
        );
        return note(mistakes, "format", &message);
    };
    for (path, is_there) in [
        ("template", template.is_some()),
        ("content_type", content_type.is_some()),
    ] {
        if is_there {
            mistakes.push(path, "goes with format: template alone");
        }
    }
    Some(format)
}

fn templated(
    source: Option<String>,
    content_type: Option<String>,
    mistakes: &mut Mistakes,
) -> Option<Template> {
    let content_type = content_type.unwrap_or_else(|| CONTENT_TYPE.to_owned());
    if !is_content_type(&content_type) {
        let message = format!(
            "expected a media type of at most {CONTENT_TYPE_BYTES_MAX} bytes, such as \
             {CONTENT_TYPE}, found {:?}",
            clip(&content_type)
        );
        mistakes.push("content_type", message);
    }
    let Some(source) = source.filter(|source| !source.is_empty()) else {
        return note(mistakes, "template", "is required with format: template");
    };
    at_most(
        "template",
        "bytes",
        source.len(),
        Template::SOURCE_BYTES_MAX,
        mistakes,
    );
    Some(Template {
        source: source.into(),
        content_type: content_type.into(),
    })
}

/// A type and a subtype, then parameters, which nobody reads here; it becomes a header as it is.
fn is_content_type(text: &str) -> bool {
    let is_token = |part: &str| {
        let clean = |b: u8| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b);
        !part.is_empty() && part.bytes().all(clean)
    };
    let media_type = text.split(';').next().unwrap_or_default().trim_end();
    let (kind, subtype) = media_type.split_once('/').unwrap_or_default();
    text.len() <= CONTENT_TYPE_BYTES_MAX
        && text.bytes().all(|b| matches!(b, b' '..=b'~'))
        && !text.ends_with(' ')
        && is_token(kind)
        && is_token(subtype)
}
