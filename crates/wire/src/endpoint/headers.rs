//! The headers an endpoint may add to its requests.

use std::collections::BTreeMap;

use super::check::at_most;
use super::read::{Mistakes, name_shown};

const HEADERS_MAX: usize = 32;
const HEADER_VALUE_BYTES_MAX: usize = 1_024;

/// What the protocol, the signature or Postrider itself sets: a merchant's header must not change
/// how a request is framed, routed or verified.
const FORBIDDEN_HEADERS: [&str; 28] = [
    "accept-encoding",
    "connection",
    "content-digest",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "hmacsignature",
    "host",
    "http2-settings",
    "keep-alive",
    "signature",
    "signature-input",
    "stripe-signature",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "x-hub-signature",
    "x-hub-signature-256",
    "x-jws-signature",
    "x-shopify-hmac-sha256",
    "x-signature",
    "x-slack-request-timestamp",
    "x-slack-signature",
];
const FORBIDDEN_PREFIXES: [&str; 5] = ["webhook-", "svix-", "postrider-", "proxy-", "ce-"];

/// The headers with their names in lower case, sorted.
pub(super) fn headers(
    form: BTreeMap<String, String>,
    mistakes: &mut Mistakes,
) -> Vec<(Box<str>, Box<str>)> {
    at_most("headers", "headers", form.len(), HEADERS_MAX, mistakes);
    let mut headers: Vec<(Box<str>, Box<str>)> = Vec::with_capacity(form.len().min(HEADERS_MAX));
    for (written, value) in form.into_iter().take(HEADERS_MAX) {
        let path = format!("headers.{}", name_shown(&written));
        let name = written.to_ascii_lowercase();
        let forbidden = FORBIDDEN_HEADERS.contains(&&*name)
            || FORBIDDEN_PREFIXES
                .iter()
                .any(|prefix| name.starts_with(prefix));
        if !is_header_name(&name) {
            mistakes.push(
                path,
                "is not a header name of 1 to 64 letters, digits and - _ .",
            );
        } else if forbidden {
            mistakes.push(
                path,
                "is set by Postrider or by the protocol and cannot be changed",
            );
        } else if headers.iter().any(|(other, _)| **other == *name) {
            mistakes.push(path, "is there twice, in different case");
        } else if !is_header_value(&value) {
            let message = format!(
                "expected visible ASCII, spaces inside, at most {HEADER_VALUE_BYTES_MAX} bytes"
            );
            mistakes.push(path, message);
        } else {
            headers.push((name.into(), value.into()));
        }
    }
    headers.sort_unstable();
    headers
}

fn is_header_name(name: &str) -> bool {
    let clean = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=64).contains(&name.len()) && name.bytes().all(clean)
}

fn is_header_value(value: &str) -> bool {
    value.len() <= HEADER_VALUE_BYTES_MAX
        && value.bytes().all(|b| matches!(b, b' '..=b'~'))
        && !value.starts_with(' ')
        && !value.ends_with(' ')
}
