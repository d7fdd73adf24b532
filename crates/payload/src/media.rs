//! What data is, by its media type, and how it stands in a JSON object.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use postrider_domain::Event;
use serde_json::value::RawValue;

use crate::OPAQUE;

/// The media type of an event's data, as a header.
pub(crate) fn of(event: &Event) -> &str {
    event.content_type.as_deref().map_or(OPAQUE, str::trim)
}

/// Type and subtype in lower case, and the `charset` if there is one.
fn parts(content_type: &str) -> (String, Option<String>) {
    let mut parts = content_type.split(';').map(str::trim);
    let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
    let charset = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        let is_charset = name.trim().eq_ignore_ascii_case("charset");
        is_charset.then(|| value.trim().trim_matches('"').to_ascii_lowercase())
    });
    (media_type, charset)
}

/// `application/json`, `text/json`, or anything `+json`.
pub(crate) fn is_json(content_type: &str) -> bool {
    has_subtype(content_type, &["json"])
}

/// XML in all its forms, HTML among them.
pub(crate) fn is_xml(content_type: &str) -> bool {
    has_subtype(content_type, &["xml", "html", "xhtml"])
}

fn has_subtype(content_type: &str, names: &[&str]) -> bool {
    let (media_type, _) = parts(content_type);
    let subtype = media_type
        .split_once('/')
        .map_or("", |(_, subtype)| subtype);
    let suffix = subtype.rsplit('+').next();
    suffix.is_some_and(|suffix| names.contains(&suffix))
}

/// Text in an encoding that a JSON text has as well.
fn is_text(content_type: &str) -> bool {
    let (media_type, charset) = parts(content_type);
    let readable = charset.is_none_or(|name| matches!(&*name, "utf-8" | "utf8" | "us-ascii"));
    media_type.starts_with("text/") && readable
}

/// Appends the member that holds the data: `data` with JSON as it stands, or with text as a string,
/// else `data_base64`. Without a media type it is JSON if it can be, as in the CloudEvents JSON
/// format (1.0.2, section 3.1.1). Without data `none` is appended.
pub(crate) fn push_data(json: &mut Vec<u8>, event: &Event, none: &str) {
    let data = &event.data;
    if data.is_empty() {
        json.extend_from_slice(none.as_bytes());
        return;
    }
    let content_type = event.content_type.as_deref();
    if content_type.is_none_or(is_json)
        && let Ok(value) = serde_json::from_slice::<&RawValue>(data)
    {
        json.extend_from_slice(b",\"data\":");
        json.extend_from_slice(value.get().as_bytes());
    } else if content_type.is_some_and(is_text)
        && let Ok(text) = std::str::from_utf8(data)
    {
        push_member(json, "data", text);
    } else {
        push_member(json, "data_base64", &STANDARD.encode(data));
    }
}

/// Appends `,"name":"text"`.
pub(crate) fn push_member(json: &mut Vec<u8>, name: &str, text: &str) {
    json.push(b',');
    push_string(json, name);
    json.push(b':');
    push_string(json, text);
}

/// Appends a JSON string.
pub(crate) fn push_string(json: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(json, text).expect("a text is written to memory");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_are_known_by_their_subtype() {
        for json in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "text/json",
            "application/problem+json",
        ] {
            assert!(is_json(json), "{json}");
        }
        for other in [
            "",
            "json",
            "application/jsonx",
            "application/x-ndjson",
            "text/plain",
        ] {
            assert!(!is_json(other), "{other}");
        }
        assert!(is_xml("application/xml") && is_xml("image/svg+xml") && is_xml("text/html"));
        assert!(!is_xml("text/plain"));
        assert!(is_text("text/csv") && is_text("text/plain;charset=\"UTF-8\""));
        assert!(!is_text("text/plain; charset=iso-8859-1") && !is_text("application/xml"));
    }
}
