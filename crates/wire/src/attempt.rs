//! The record of one attempt, or of a delivery that ended without one: topic `attempts`.
//!
//! Decides its JSON. A response body that is UTF-8 is text in `body`; any other is base64 in
//! `body_base64`, so that nothing of it is lost or made up. Reading is tolerant: a field that is
//! missing has its default, one that is not known is ignored. Leaves what is redacted to whoever
//! made the report.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use postrider_domain::shown::{Host, Length};
use postrider_domain::{
    AttemptReport, AttemptResult, Delivery, Fields, NewRecord, Origin, Outcome, Phases,
    RequestSummary, Response, Slice, Timestamp, Unmet,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::instant;
use crate::shared::{EventSummary, Place};

/// The version of the form that is written.
const VERSION: u32 = 1;

/// Room for a record with an empty body, in most cases.
const BYTES_USUAL: usize = 1_536;

/// What is to be recorded.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The delivery.
    pub delivery: &'a Delivery,
    /// Number of the attempt, from 1; attempts made, when there was no request.
    pub attempt: u32,
    /// The facts; `None` = no request was made.
    pub report: Option<&'a AttemptReport>,
    /// When, if there is no report.
    pub at: Timestamp,
    /// What became of it.
    pub outcome: Outcome,
    /// What of the endpoint's own rule of success the response did not meet.
    pub unmet: Option<Unmet>,
    /// When it is tried again.
    pub next_attempt_at: Option<Timestamp>,
    /// Where the delivery was read.
    pub origin: &'a Origin,
    /// Who made it.
    pub worker: &'a str,
    /// The slice of the endpoint; the partition of the record.
    pub slice: Slice,
    /// The ownership of the slice it was made under.
    pub epoch: u64,
}

/// The record, keyed by endpoint id, at the partition of the slice.
#[must_use]
pub fn encode(attempt: &Attempt<'_>, topic: Arc<str>) -> NewRecord {
    let record = AttemptRecord::of(attempt);
    let body = record.response.as_ref().and_then(|r| r.body.as_deref());
    let mut json = Vec::with_capacity(BYTES_USUAL + body.map_or(0, str::len));
    serde_json::to_writer(&mut json, &record).expect("a record is made of texts and numbers");
    NewRecord {
        topic,
        partition: attempt.slice.0.into(),
        key: Some(Bytes::copy_from_slice(
            attempt.delivery.endpoint.as_str().as_bytes(),
        )),
        value: Some(json.into()),
        headers: vec![(
            Cow::Borrowed("content-type"),
            Some(Bytes::from_static(b"application/json")),
        )],
    }
}

/// Reads the value of a record of `attempts`.
///
/// # Errors
/// When it is not JSON, or lacks what every version has: ids, number and outcome.
pub fn decode(value: &[u8]) -> Result<AttemptRecord<'static>, serde_json::Error> {
    serde_json::from_slice(value)
}

/// One request, or one delivery that ended without a request.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[schemars(rename = "Attempt")]
pub struct AttemptRecord<'a> {
    /// Version of this form, 1.
    #[serde(default)]
    pub v: u32,
    /// The same on every attempt; the `webhook-id`.
    pub delivery_id: Cow<'a, str>,
    /// What was to be delivered.
    pub event: EventSummary<'a>,
    /// Where to.
    pub endpoint_id: Cow<'a, str>,
    /// Number of the attempt, from 1; attempts made so far, when there was no request.
    pub attempt: u32,
    /// When it began, RFC 3339.
    pub started_at: Cow<'a, str>,
    /// How long it took, milliseconds.
    #[serde(default)]
    pub duration_ms: f64,
    /// Where the time went; null when there was no request.
    #[serde(default)]
    pub phases_ms: Option<PhasesRecord>,
    /// What was sent; null when there was no request.
    #[serde(default)]
    pub request: Option<RequestRecord<'a>>,
    /// What came back; null when nothing did.
    #[serde(default)]
    pub response: Option<ResponseRecord<'a>>,
    /// Why there is no response; null when there is one.
    #[serde(default)]
    pub error: Option<ErrorRecord<'a>>,
    /// There is no response, and the receiver may have acted on the request nevertheless.
    #[serde(default)]
    pub ambiguous: bool,
    /// `delivered`, `retry`, `dead_lettered` or `discarded`.
    pub outcome: Cow<'a, str>,
    /// Why it was dead-lettered or discarded.
    #[serde(default)]
    pub reason: Option<Cow<'a, str>>,
    /// What of the endpoint's `success` the response did not meet; null when it met all of it or its
    /// status is a failure anyway, when the endpoint has none, and when there is no response.
    #[serde(default)]
    pub unmet: Option<Cow<'a, str>>,
    /// When it is tried again, RFC 3339.
    #[serde(default)]
    pub next_attempt_at: Option<Cow<'a, str>>,
    /// Where the delivery was read.
    #[serde(default)]
    pub record: Option<Place<'a>>,
    /// Who made the attempt.
    #[serde(default)]
    pub worker: Cow<'a, str>,
    /// The slice of the endpoint.
    #[serde(default)]
    pub slice: u16,
    /// Which ownership of the slice it was made under: of two attempts in one slice the higher is the
    /// later ownership, whichever worker had it (ADR 0023).
    #[serde(default)]
    pub epoch: u64,
}

/// Time spent, milliseconds; null = did not happen, or was not measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[schemars(rename = "Phases")]
#[serde(default)]
pub struct PhasesRecord {
    /// Name resolution.
    pub dns: Option<f64>,
    /// TCP connect.
    pub connect: Option<f64>,
    /// TLS handshake.
    pub tls: Option<f64>,
    /// Request sent to response head.
    pub first_byte: Option<f64>,
    /// All of it.
    pub total: f64,
}

/// The request.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[schemars(rename = "Request")]
pub struct RequestRecord<'a> {
    /// Where it went.
    pub url: Cow<'a, str>,
    /// In the order they were sent; what signs or authenticates is `[redacted]`, and so are the
    /// values of the endpoint's own headers.
    #[serde(default)]
    pub headers: Vec<HeaderRecord<'a>>,
}

/// The response.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[schemars(rename = "Response")]
pub struct ResponseRecord<'a> {
    /// HTTP status.
    pub status: u16,
    /// In the order they came, at most 64.
    #[serde(default)]
    pub headers: Vec<HeaderRecord<'a>>,
    /// The first bytes of the body, at most 16 KiB, if they are UTF-8.
    #[serde(default)]
    pub body: Option<Cow<'a, str>>,
    /// The same in base64, if they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
    /// Whether the body went on.
    #[serde(default)]
    pub truncated: bool,
}

/// Which host, and which headers.
impl fmt::Debug for RequestRecord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestRecord")
            .field("url", &Host(&self.url))
            .field("headers", &self.headers)
            .finish()
    }
}

/// The status, and how much there is of all else.
impl fmt::Debug for ResponseRecord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = self.body.as_deref().or(self.body_base64.as_deref());
        f.debug_struct("ResponseRecord")
            .field("status", &self.status)
            .field("headers", &self.headers)
            .field("body", &body.map(|body| Length(body.len())))
            .field("truncated", &self.truncated)
            .finish()
    }
}

/// The name.
impl fmt::Debug for HeaderRecord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

/// One header field. A list of these, not a map, because names repeat.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[schemars(rename = "Header")]
pub struct HeaderRecord<'a> {
    /// Lower case.
    pub name: Cow<'a, str>,
    /// As it was.
    pub value: Cow<'a, str>,
}

/// Why there is no response.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[schemars(rename = "Error")]
pub struct ErrorRecord<'a> {
    /// Such as `timeout_head` or `tls_expired`: the kinds of errors in `docs/reference/outcomes.md`.
    pub kind: Cow<'a, str>,
    /// The cause in words.
    #[serde(default)]
    pub message: Cow<'a, str>,
}

impl<'a> AttemptRecord<'a> {
    /// The record of an attempt, borrowing all texts of it.
    #[must_use]
    pub fn of(attempt: &Attempt<'a>) -> Self {
        let report = attempt.report;
        let (response, error) = match report.map(|report| &report.result) {
            Some(AttemptResult::Response(response)) => (Some(ResponseRecord::of(response)), None),
            Some(AttemptResult::Error(error)) => (None, Some(error)),
            None => (None, None),
        };
        let started_at = report.map_or(attempt.at, |report| report.started_at);
        Self {
            v: VERSION,
            delivery_id: attempt.delivery.id.to_string().into(),
            event: EventSummary::of(&attempt.delivery.event),
            endpoint_id: attempt.delivery.endpoint.as_str().into(),
            attempt: attempt.attempt,
            started_at: instant::to_text_millis(started_at).into(),
            duration_ms: report.map_or(0.0, |report| millis(report.phases.total)),
            phases_ms: report.map(|report| PhasesRecord::of(report.phases)),
            request: report.map(|report| RequestRecord::of(&report.request)),
            response,
            error: error.map(|error| ErrorRecord {
                kind: error.kind.as_str().into(),
                message: (&*error.message).into(),
            }),
            ambiguous: error.is_some_and(|error| error.ambiguous),
            outcome: attempt.outcome.as_str().into(),
            reason: attempt.outcome.reason().map(Cow::Borrowed),
            unmet: attempt.unmet.map(|unmet| unmet.as_str().into()),
            next_attempt_at: attempt
                .next_attempt_at
                .map(|time| instant::to_text_millis(time).into()),
            record: Some(Place::of(attempt.origin)),
            worker: attempt.worker.into(),
            slice: attempt.slice.0,
            epoch: attempt.epoch,
        }
    }
}

impl PhasesRecord {
    fn of(phases: Phases) -> Self {
        Self {
            dns: phases.dns.map(millis),
            connect: phases.connect.map(millis),
            tls: phases.tls.map(millis),
            first_byte: phases.first_byte.map(millis),
            total: millis(phases.total),
        }
    }
}

impl<'a> RequestRecord<'a> {
    fn of(request: &'a RequestSummary) -> Self {
        Self {
            url: (&*request.url).into(),
            headers: HeaderRecord::all(&request.headers),
        }
    }
}

impl<'a> ResponseRecord<'a> {
    fn of(response: &'a Response) -> Self {
        let body = text(&response.body, response.truncated);
        Self {
            status: response.status,
            headers: HeaderRecord::all(&response.headers),
            body_base64: body.is_none().then(|| STANDARD.encode(&response.body)),
            body: body.map(Cow::Borrowed),
            truncated: response.truncated,
        }
    }
}

impl<'a> HeaderRecord<'a> {
    fn all(headers: &'a Fields) -> Vec<Self> {
        let record = |(name, value): (&'a str, &'a str)| Self {
            name: name.into(),
            value: value.into(),
        };
        headers.iter().map(record).collect()
    }
}

/// The body as text. Where it was cut off inside a character, the text ends before it.
fn text(body: &[u8], truncated: bool) -> Option<&str> {
    match std::str::from_utf8(body) {
        Ok(text) => Some(text),
        Err(error) if truncated && error.error_len().is_none() => {
            std::str::from_utf8(&body[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    }
}

/// Milliseconds to the microsecond.
fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1_000.0
}

#[cfg(test)]
mod tests;
