//! One HTTP request for a delivery: what the wire said, and what it means.
//!
//! Decides the closed lists of error kinds, outcomes and reasons, and their names in records and
//! metrics. Leaves the verdict (report to outcome) to `engine`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::fields::Fields;
use crate::shown::{Host, Length};
use crate::time::Timestamp;

/// The raw facts of one HTTP exchange, judged by nobody yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptReport {
    /// When the attempt began.
    pub started_at: Timestamp,
    /// Where the time went; `phases.total` is the whole duration.
    pub phases: Phases,
    /// What was sent, signatures and credentials redacted.
    pub request: RequestSummary,
    /// What came of it.
    pub result: AttemptResult,
}

/// Time spent per phase; `None` = the phase did not happen (a reused connection has no DNS) or was
/// not measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// Name resolution.
    pub dns: Option<Duration>,
    /// TCP connect.
    pub connect: Option<Duration>,
    /// TLS handshake.
    pub tls: Option<Duration>,
    /// Request sent to response head.
    pub first_byte: Option<Duration>,
    /// All of it.
    pub total: Duration,
}

/// The request as the attempt log shows it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RequestSummary {
    /// Where it went.
    pub url: Arc<str>,
    /// What was sent; values that sign or authenticate are replaced by `[redacted]`.
    pub headers: Fields,
}

/// Which host, and which headers.
impl fmt::Debug for RequestSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestSummary")
            .field("url", &Host(&self.url))
            .field("headers", &self.headers)
            .finish()
    }
}

/// A response, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptResult {
    /// The receiver answered.
    Response(Response),
    /// It did not, or not to the end.
    Error(AttemptError),
}

/// The receiver's answer, as much of it as is kept.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Header fields; at most 64 fields and 8 KiB in all.
    pub headers: Fields,
    /// The first bytes of the body, at most 16 KiB.
    pub body: Bytes,
    /// Whether the body went on after them.
    pub truncated: bool,
}

/// The status, and how much there is of all else.
impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("headers", &self.headers)
            .field("body", &Length(self.body.len()))
            .field("truncated", &self.truncated)
            .finish()
    }
}

/// Why there is no response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptError {
    /// The kind, for the verdict and the metrics.
    pub kind: ErrorKind,
    /// The cause in words, without secrets.
    pub message: Box<str>,
    /// The receiver may have acted on the request: it was sent, at least in part.
    pub ambiguous: bool,
}

/// Kinds and their names from one table, so that neither list can miss one.
macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $kind:ident = $name:literal,)+) => {
        /// What kind of failure ended an attempt without a response: one kind for each thing that a
        /// receiver, its name or its URL can do (ADR 0036). `docs/reference/outcomes.md` says what
        /// follows from it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorKind {
            $($(#[doc = $doc])+ $kind,)+
        }

        impl ErrorKind {
            /// All of them, in the order of an exchange.
            pub const ALL: &[Self] = &[$(Self::$kind,)+];

            /// The name in records and metrics.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)+
                }
            }
        }
    };
}

kinds! {
    /// The URL cannot be sent to.
    BadUrl = "bad_url",
    /// The URL names a denied address, or a name that only means something inside a network.
    DeniedUrl = "denied_url",
    /// The host's name resolves to a denied address, perhaps among others.
    DeniedAnswer = "denied_answer",
    /// The connection leads to a denied address, whatever the resolver said.
    DeniedPeer = "denied_peer",
    /// The name did not resolve.
    Dns = "dns",
    /// Nobody said in time what the name resolves to.
    TimeoutDns = "timeout_dns",
    /// No connection: refused, unreachable, or broken before anything was written to it.
    Connect = "connect",
    /// No connection in time.
    TimeoutConnect = "timeout_connect",
    /// The receiver has no version of TLS that is spoken here.
    TlsVersion = "tls_version",
    /// The certificate is no longer valid.
    TlsExpired = "tls_expired",
    /// The certificate is for another name.
    TlsWrongName = "tls_wrong_name",
    /// The certificate is of no authority that is trusted, perhaps its own.
    TlsUntrusted = "tls_untrusted",
    /// The certificate is not acceptable in another way.
    TlsCertificate = "tls_certificate",
    /// The TLS handshake failed in another way than those above.
    Tls = "tls",
    /// TCP stands, TLS did not in time.
    TimeoutTls = "timeout_tls",
    /// The egress proxy made no connection.
    Proxy = "proxy",
    /// What the endpoint's `auth` or `tls` says cannot be used.
    Identity = "identity",
    /// The token endpoint gave no access token.
    Token = "token",
    /// Nobody else got an access token in time either.
    TimeoutToken = "timeout_token",
    /// The receiver agreed on HTTP/2 and did not allow a request in time.
    TimeoutStream = "timeout_stream",
    /// The receiver agreed on HTTP/2 and allows no request.
    UnprocessedNoStream = "unprocessed_no_stream",
    /// The receiver refused the stream of HTTP/2 before processing anything.
    UnprocessedRefused = "unprocessed_refused",
    /// The receiver ended the connection of HTTP/2 (GOAWAY) before it came to the request.
    UnprocessedGoaway = "unprocessed_goaway",
    /// The connection broke before the request was written out.
    ResetRequest = "reset_request",
    /// The receiver did not take the request in time.
    TimeoutRequest = "timeout_request",
    /// The receiver closed the connection before the head of its answer was complete.
    IncompleteHead = "incomplete_head",
    /// The connection broke before the head of the answer was complete.
    ResetHead = "reset_head",
    /// The receiver broke the stream of HTTP/2 that the request was on.
    H2Reset = "h2_reset",
    /// The receiver ended the connection of HTTP/2 (GOAWAY) within its answer.
    H2Goaway = "h2_goaway",
    /// The receiver broke the rules of HTTP/2, or sent more of something than is put up with.
    H2Protocol = "h2_protocol",
    /// The head of the answer is not HTTP.
    MalformedHead = "malformed_head",
    /// The head of the answer is larger than what is read.
    HeadTooLarge = "head_too_large",
    /// More interim answers (1xx) than are waited out.
    InterimFlood = "interim_flood",
    /// No complete head of an answer in time.
    TimeoutHead = "timeout_head",
    /// The receiver closed the connection before the body of its answer was complete.
    IncompleteBody = "incomplete_body",
    /// The connection broke before the body of the answer was complete.
    ResetBody = "reset_body",
    /// The body of the answer is not framed as HTTP asks.
    MalformedBody = "malformed_body",
    /// The body of the answer was not complete in time.
    TimeoutBody = "timeout_body",
    /// The endpoint's format cannot be made of the event: nothing was sent.
    Unrenderable = "unrenderable",
    /// Postrider itself failed.
    Internal = "internal",
}

/// What becomes of a delivery after an attempt, or without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver took it.
    Delivered,
    /// It will be tried again.
    Retry,
    /// It is given up.
    DeadLettered(DeadLetterReason),
    /// A named rule ended it without an attempt.
    Discarded(DiscardReason),
}

impl Outcome {
    /// The name in records and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Retry => "retry",
            Self::DeadLettered(_) => "dead_lettered",
            Self::Discarded(_) => "discarded",
        }
    }

    /// The reason, where there is one.
    #[must_use]
    pub const fn reason(self) -> Option<&'static str> {
        match self {
            Self::Delivered | Self::Retry => None,
            Self::DeadLettered(reason) => Some(reason.as_str()),
            Self::Discarded(reason) => Some(reason.as_str()),
        }
    }
}

/// Why a record ended in `dead-letters`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeadLetterReason {
    /// Every attempt of the schedule failed.
    AttemptsExhausted,
    /// The next attempt would fall after the retry window.
    WindowPassed,
    /// No endpoint of that id is known.
    EndpointUnknown,
    /// The receiver said, and confirmed, that the endpoint is gone (410).
    EndpointGone,
    /// The endpoint's address is on the deny list.
    EgressDenied,
    /// The endpoint's URL cannot be sent to.
    BadUrl,
    /// The endpoint's format cannot be made of the event.
    Unrenderable,
    /// The record is not an event, or a delivery, that can be read.
    Undecodable,
    /// The record is larger than what is delivered.
    Oversized,
    /// The JSON lacks what the source's mapping asks for.
    Unmappable,
    /// The endpoint's filter could not be decided on the event.
    FilterFailed,
}

impl DeadLetterReason {
    /// The name in records and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AttemptsExhausted => "attempts_exhausted",
            Self::WindowPassed => "window_passed",
            Self::EndpointUnknown => "endpoint_unknown",
            Self::EndpointGone => "endpoint_gone",
            Self::EgressDenied => "egress_denied",
            Self::BadUrl => "bad_url",
            Self::Unrenderable => "unrenderable",
            Self::Undecodable => "undecodable",
            Self::Oversized => "oversized",
            Self::Unmappable => "unmappable",
            Self::FilterFailed => "filter_failed",
        }
    }
}

impl fmt::Display for DeadLetterReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The named rules that end a delivery without a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DiscardReason {
    /// The endpoint was deleted after the delivery was made.
    EndpointDeleted,
    /// The endpoint was disabled after the delivery was made.
    EndpointDisabled,
    /// A test of the endpoint was not delivered by its one attempt, or got none in time.
    TestFailed,
    /// A test of the endpoint came too soon after another.
    TestTooSoon,
}

impl DiscardReason {
    /// The name in records and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EndpointDeleted => "endpoint_deleted",
            Self::EndpointDisabled => "endpoint_disabled",
            Self::TestFailed => "test_failed",
            Self::TestTooSoon => "test_too_soon",
        }
    }
}
