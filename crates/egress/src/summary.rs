//! Headers as a report shows them.
//!
//! Decides which request values are redacted and how many response headers are kept.

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Response header fields kept.
const FIELDS_MAX: usize = 64;
/// Bytes of names and values kept.
const BYTES_MAX: usize = 8 * 1024;

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

type Fields = Vec<(Box<str>, Box<str>)>;

/// What was sent, without what signs or authenticates.
pub(crate) fn redacted(headers: &HeaderMap) -> Fields {
    let shown = |name: &HeaderName, value: &HeaderValue| {
        if value.is_sensitive() || is_secret(name) {
            REDACTED.into()
        } else {
            text(value)
        }
    };
    headers
        .iter()
        .map(|(name, value)| (name.as_str().into(), shown(name, value)))
        .collect()
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
        fields.push((name.as_str().into(), value));
    }
    fields
}

fn is_secret(name: &HeaderName) -> bool {
    SECRET_PARTS.iter().any(|part| name.as_str().contains(part))
}

fn text(value: &HeaderValue) -> Box<str> {
    String::from_utf8_lossy(value.as_bytes()).into()
}

#[cfg(test)]
mod tests {
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
        for (name, value) in redacted(&sent) {
            assert_eq!(&*value, "[redacted]", "{name}");
        }
        for (_, value) in redacted(&headers(&[("webhook-id", "1"), ("content-type", "2")])) {
            assert_ne!(&*value, "[redacted]");
        }
        let mut marked = HeaderValue::from_static("s");
        marked.set_sensitive(true);
        let marked = redacted(&HeaderMap::from_iter([(
            HeaderName::from_static("x-a"),
            marked,
        )]));
        assert_eq!(&*marked[0].1, "[redacted]");
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
        assert_eq!(&*capped(&odd)[0].1, "a\u{fffd}");
    }
}
