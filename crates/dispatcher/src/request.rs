//! From an attempt the engine wants to the facts of the exchange.
//!
//! Decides the headers of a request (`docs/reference/request.md`) and signs it at send time. Leaves
//! the exchange to `egress` and the verdict to `engine`.

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use postrider_domain::{
    AttemptError, AttemptReport, AttemptResult, Auth, ErrorKind, Phases, RequestSummary, Timestamp,
};
use postrider_egress::{Egress, Request};
use postrider_engine::io::StartAttempt;
use postrider_signing::{ID_HEADER, Message, TIMESTAMP_HEADER};

use crate::clock::Clock;

/// Number of the attempt, from 1.
const ATTEMPT: HeaderName = HeaderName::from_static("postrider-attempt");
/// When the producer did not say what its data is.
const OPAQUE: &str = "application/octet-stream";

/// Sends one attempt; `None` when its time had passed before that, so that nothing was sent.
/// `wall` stamps the signature.
pub(crate) async fn send(
    egress: &Egress,
    start: &StartAttempt,
    wall: Timestamp,
    clock: &Clock,
) -> Option<AttemptReport> {
    let headers = headers(start, wall);
    // As late as it can be looked at: whatever follows is on its way.
    let started_at = clock.now();
    if started_at > start.not_after {
        return None;
    }
    let headers = match headers {
        Ok(headers) => headers,
        Err(message) => return Some(failed(start, started_at, &message)),
    };
    let request = Request {
        url: start.endpoint.url.clone(),
        headers,
        body: start.delivery.event.data.clone(),
        timeout: start.timeout,
    };
    let nothing = Auth::NONE;
    let auth = start.endpoint.auth.as_deref().unwrap_or(&nothing);
    Some(egress.send_as(started_at, request, auth).await)
}

/// The report of an attempt that Postrider itself could not make.
pub(crate) fn failed(start: &StartAttempt, started_at: Timestamp, message: &str) -> AttemptReport {
    let error = AttemptError {
        kind: ErrorKind::Internal,
        message: message.into(),
        ambiguous: false,
    };
    AttemptReport {
        started_at,
        phases: Phases::default(),
        request: RequestSummary {
            url: start.endpoint.url.clone(),
            headers: Vec::new(),
        },
        result: AttemptResult::Error(error),
    }
}

fn headers(start: &StartAttempt, wall: Timestamp) -> Result<HeaderMap, String> {
    let StartAttempt {
        delivery,
        endpoint,
        attempt,
        ..
    } = start;
    let id = delivery.id.to_string();
    let content_type = delivery.event.content_type.as_deref();
    let content_type = content_type.map_or(OPAQUE, str::trim);
    let message = Message {
        id: &id,
        at: wall,
        url: &endpoint.url,
        content_type,
        body: &delivery.event.data,
    };
    let signatures =
        postrider_signing::sign(&endpoint.signing, &message).map_err(|error| error.to_string())?;
    let mut headers = HeaderMap::with_capacity(8 + endpoint.headers.len());
    for (name, value) in &endpoint.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|e| format!("{name}: {e}"))?;
        headers.append(name, text(value)?);
    }
    headers.insert(CONTENT_TYPE, text(content_type)?);
    headers.insert(ATTEMPT, HeaderValue::from(*attempt));
    headers.insert(ID_HEADER, text(&id)?);
    headers.insert(TIMESTAMP_HEADER, HeaderValue::from(wall.as_secs()));
    for (name, value) in &signatures {
        headers.insert(*name, text(value)?);
    }
    Ok(headers)
}

fn text(value: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(value).map_err(|_| "a header value is not printable text".to_owned())
}
