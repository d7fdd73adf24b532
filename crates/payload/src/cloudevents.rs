//! CloudEvents 1.0.2 over HTTP: structured in JSON, and binary.
//!
//! Decides how attributes are written. Extensions are text, as they are kept; so is a number that
//! was one in the event. The tenant `default` is left out, as nobody said it.

use postrider_domain::{Event, Tenant};

use crate::media::{push_data, push_member, push_string};
use crate::{Unrenderable, standard};

/// As the libraries compare it, letter by letter.
pub(crate) const MEDIA_TYPE: &str = "application/cloudevents+json; charset=utf-8";

/// Most bytes of attributes as headers, names and values together. Many servers take 16 KiB of
/// headers and no more.
pub const HEADERS_BYTES_MAX: usize = 12 << 10;

/// Attributes that have a place of their own, and are no extensions whatever a record says.
const CORE: [&str; 8] = [
    "specversion",
    "id",
    "source",
    "type",
    "time",
    "datacontenttype",
    "tenant",
    "partitionkey",
];

/// Structured mode, JSON format.
pub(crate) fn envelope(event: &Event) -> Vec<u8> {
    let mut json = Vec::with_capacity(event.data.len() + 512);
    json.extend_from_slice(b"{\"specversion\":");
    push_string(&mut json, "1.0");
    for (name, value) in attributes(event) {
        push_member(&mut json, name, value);
    }
    if let Some(content_type) = &event.content_type {
        push_member(&mut json, "datacontenttype", content_type.trim());
    }
    push_data(&mut json, event, "");
    json.push(b'}');
    json
}

/// Binary mode: the headers of the attributes (HTTP binding, section 3.1.3).
pub(crate) fn headers(event: &Event) -> Result<Vec<(String, String)>, Unrenderable> {
    let mut headers = vec![("ce-specversion".to_owned(), "1.0".to_owned())];
    let mut bytes = 0;
    for (name, value) in attributes(event) {
        let header = (format!("ce-{name}"), percent_encoded(value));
        bytes += header.0.len() + header.1.len();
        if bytes > HEADERS_BYTES_MAX {
            return Err(Unrenderable::new(format!(
                "the attributes have more than {HEADERS_BYTES_MAX} bytes as headers: use format \
                 cloudevents, which has them in the body"
            )));
        }
        headers.push(header);
    }
    Ok(headers)
}

/// All but `specversion` and `datacontenttype`.
fn attributes(event: &Event) -> impl Iterator<Item = (&str, &str)> {
    let tenant = (event.tenant != Tenant::default()).then(|| event.tenant.as_str());
    let named = [
        ("id", Some(&*event.id)),
        ("source", Some(&*event.source)),
        ("type", Some(&*event.event_type)),
        ("time", standard::time(event)),
        ("tenant", tenant),
        ("partitionkey", event.ordering_key.as_deref()),
    ];
    let named = named
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    let extensions = event
        .extensions
        .iter()
        .map(|(name, value)| (&**name, &**value));
    named.chain(extensions.filter(|(name, _)| !CORE.contains(name)))
}

/// Everything but printable ASCII, and of that the space, `"` and `%` (HTTP binding, section
/// 3.1.3.2).
fn percent_encoded(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'"' | b'%' => encoded.push_str(&format!("%{byte:02X}")),
            b'!'..=b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_are_encoded_as_the_binding_shows() {
        let encoded = percent_encoded("Euro € 😀");
        assert_eq!(encoded, "Euro%20%E2%82%AC%20%F0%9F%98%80");
        assert_eq!(percent_encoded("100% \"a~!/"), "100%25%20%22a~!/");
    }

    proptest! {
        /// Decoded by what decodes forms, to which a plus is a space.
        #[test]
        fn what_was_encoded_is_decoded_by_another(value in "\\PC*|.{0,50}") {
            let encoded = percent_encoded(&value);
            prop_assert!(encoded.bytes().all(|b| (b'!'..=b'~').contains(&b) && b != b'"'));
            let form = encoded.replace('+', "%2B").replace('&', "%26").replace('=', "%3D");
            let decoded = url::form_urlencoded::parse(form.as_bytes()).next();
            let decoded = decoded.map_or_else(String::new, |(name, _)| name.into_owned());
            prop_assert_eq!(decoded, value);
        }
    }
}
