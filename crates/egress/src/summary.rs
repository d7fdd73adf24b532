//! Headers as a report shows them.
//!
//! Decides which request values are redacted and how many response headers are kept.

use std::borrow::Cow;

use http::header::{HeaderMap, HeaderValue};
use postrider_domain::Fields;

/// Response header fields kept.
const FIELDS_MAX: usize = 64;
/// Bytes of names and values kept.
const BYTES_MAX: usize = 8 * 1024;

/// Room for name and value.
const FIELD_BYTES_USUAL: usize = 48;

/// Names that nearly every request has and that are no secrets: no part is looked for in them.
const OPEN: &[&str] = &[
    "content-type",
    "postrider-attempt",
    "webhook-id",
    "webhook-timestamp",
    "user-agent",
    "accept",
];

const REDACTED: &str = "[redacted]";

/// Parts of names whose values sign or authenticate; names are lower case.
const SECRET_PARTS: &[&str] = &[
    "signature",
    "hmac",
    "authorization",
    "cookie",
    "token",
    "secret",
    "password",
    "api-key",
    "apikey",
];

/// What was sent, without what signs or authenticates.
pub(crate) fn redacted(headers: &HeaderMap) -> Fields {
    let mut fields = Fields::with_capacity(headers.len(), FIELD_BYTES_USUAL * headers.len());
    for (name, value) in headers {
        if value.is_sensitive() || is_secret(name.as_str()) {
            fields.push(name.as_str(), REDACTED);
        } else {
            fields.push(name.as_str(), &text(value));
        }
    }
    fields
}

/// The first fields of a response, as many as are kept.
pub(crate) fn capped(headers: &HeaderMap) -> Fields {
    let mut room = BYTES_MAX;
    let mut fields = Fields::new();
    for (name, value) in headers.iter().take(FIELDS_MAX) {
        let value = text(value);
        let Some(left) = room.checked_sub(name.as_str().len() + value.len()) else {
            break;
        };
        room = left;
        fields.push(name.as_str(), &value);
    }
    fields
}

fn is_secret(name: &str) -> bool {
    !OPEN.contains(&name) && SECRET_PARTS.iter().any(|part| name.contains(part))
}

fn text(value: &HeaderValue) -> Cow<'_, str> {
    String::from_utf8_lossy(value.as_bytes())
}

#[cfg(test)]
mod tests {
    use http::header::HeaderName;

    use super::*;

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| {
                let name: HeaderName = name.parse().expect("a header name");
                (name, HeaderValue::from_str(value).expect("a header value"))
            })
            .collect()
    }

    #[test]
    fn what_signs_or_authenticates_is_redacted() {
        let sent = headers(&[
            ("webhook-signature", "s"),
            ("x-hub-signature-256", "s"),
            ("stripe-signature", "s"),
            ("signature-input", "s"),
            ("x-shopify-hmac-sha256", "s"),
            ("x-jws-signature", "s"),
            ("authorization", "s"),
            ("proxy-authorization", "s"),
            ("cookie", "s"),
            ("x-api-key", "s"),
            ("x-auth-token", "s"),
        ]);
        for (name, value) in redacted(&sent).iter() {
            assert_eq!(value, "[redacted]", "{name}");
        }
        for name in OPEN {
            assert_eq!(field(&redacted(&headers(&[(name, "1")]))), (*name, "1"));
            assert!(
                !SECRET_PARTS.iter().any(|part| name.contains(part)),
                "{name}"
            );
        }
        let mut marked = HeaderValue::from_static("s");
        marked.set_sensitive(true);
        let marked = redacted(&HeaderMap::from_iter([(
            HeaderName::from_static("x-a"),
            marked,
        )]));
        assert_eq!(field(&marked), ("x-a", "[redacted]"));
    }

    fn field(fields: &Fields) -> (&str, &str) {
        fields.iter().next().expect("one at least")
    }

    #[test]
    fn response_headers_are_capped_by_count_and_by_bytes() {
        let names: Vec<String> = (0..100).map(|n| format!("x-{n}")).collect();
        let many: Vec<_> = names.iter().map(|name| (name.as_str(), "v")).collect();
        assert_eq!(capped(&headers(&many)).len(), FIELDS_MAX);

        let long = "v".repeat(1_000);
        let big: Vec<_> = names.iter().map(|name| (name.as_str(), &*long)).collect();
        let kept = capped(&headers(&big));
        let bytes: usize = kept.iter().map(|(n, v)| n.len() + v.len()).sum();
        assert_eq!(kept.len(), 8);
        assert!(bytes <= BYTES_MAX, "{bytes}");
    }

    #[test]
    fn bytes_that_are_not_utf8_are_shown_as_replaced() {
        let value = HeaderValue::from_bytes(b"a\xff").expect("obs-text is allowed");
        let odd = HeaderMap::from_iter([(HeaderName::from_static("x-a"), value)]);
        assert_eq!(field(&capped(&odd)), ("x-a", "a\u{fffd}"));
    }
}
