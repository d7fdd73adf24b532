//! What went wrong, as a kind and a sentence.
//!
//! Decides the [`ErrorKind`] of each failure, whether the receiver may have acted on the request,
//! and the words. The words are the innermost cause: the client's own message repeats the URL,
//! whose query may hold a secret. Leaves what follows from a kind to `engine`.

use std::error::Error;
use std::io;
use std::time::Duration;

use postrider_domain::{AttemptError, ErrorKind};
use postrider_guard::UrlRefusal;
use tokio_rustls::rustls::{self, AlertDescription, CertificateError, PeerIncompatible};

use crate::body::{Awaited, Making, Progress};
use crate::ended::Ended;
use crate::gate::Stopped;
use crate::line::NoHead;

/// Characters of a message; some causes quote what the peer sent.
const MESSAGE_CHARS_MAX: usize = 300;

/// The deadline over the whole exchange passed.
pub(crate) fn deadline(timeout: Duration, progress: &Progress) -> AttemptError {
    let ambiguous = progress.end();
    let (kind, missing) = match progress.awaited() {
        Awaited::Connection(Making::Lookup) => (ErrorKind::TimeoutDns, "no address for the name"),
        Awaited::Connection(Making::Tcp) => (ErrorKind::TimeoutConnect, "no connection"),
        Awaited::Connection(Making::Tls) => (ErrorKind::TimeoutTls, "no TLS handshake"),
        Awaited::Connection(Making::Stream) => (ErrorKind::TimeoutStream, "no HTTP/2 stream"),
        Awaited::Taking => (ErrorKind::TimeoutRequest, "the request was not taken"),
        Awaited::Head => (ErrorKind::TimeoutHead, "no answer"),
        Awaited::Body => (ErrorKind::TimeoutBody, "no complete answer"),
    };
    failure(kind, format!("{missing} within {timeout:?}"), ambiguous)
}

/// The question for an access token cannot be written.
pub(crate) fn unmade(error: &http::Error) -> AttemptError {
    failure(
        ErrorKind::BadUrl,
        format!("it cannot be asked for: {error}"),
        false,
    )
}

/// Somebody else asks for the access token and was not answered in time either.
pub(crate) fn no_token(limit: Duration) -> AttemptError {
    let what = format!("none within {limit:?}");
    failure(ErrorKind::TimeoutToken, what, false)
}

/// What ended the exchange, named.
pub(crate) fn classify(ended: &Ended, progress: &Progress) -> AttemptError {
    let (kind, message) = match ended {
        Ended::Refused(refusal) => {
            let kind = match refusal {
                UrlRefusal::Denied(_) | UrlRefusal::InnerName { .. } => ErrorKind::DeniedUrl,
                _ => ErrorKind::BadUrl,
            };
            (kind, refusal.to_string())
        }
        Ended::NotSent(error) => (ErrorKind::BadUrl, format!("not sent: {}", innermost(error))),
        Ended::Stopped(stopped) => stopped_by(stopped),
        Ended::Tcp(error) => not_connected(error.as_ref()),
        Ended::TcpLate(limit) => (
            ErrorKind::TimeoutConnect,
            format!("no connection within {limit:?}"),
        ),
        Ended::Proxy(_) => (ErrorKind::Proxy, ended.to_string()),
        Ended::Tls(error) => (
            not_shaken(error),
            format!("the TLS handshake failed: {}", innermost(error)),
        ),
        Ended::TlsLate(limit) => (
            ErrorKind::TimeoutTls,
            format!("the TLS handshake was not complete within {limit:?}"),
        ),
        Ended::Token(error) => return error.clone(),
        Ended::Identity(_) => (ErrorKind::Identity, ended.to_string()),
        Ended::NoStream => (ErrorKind::UnprocessedNoStream, ended.to_string()),
        Ended::Unprocessed { leaving: true, .. } => {
            (ErrorKind::UnprocessedGoaway, ended.to_string())
        }
        Ended::Unprocessed { .. } => (ErrorKind::UnprocessedRefused, ended.to_string()),
        // The head was there, so the request was sent.
        Ended::Idle(_) => return failure(ErrorKind::TimeoutBody, ended.to_string(), true),
        Ended::Http1(_) | Ended::Http2(_) | Ended::InterimFlood(_) | Ended::Flood | Ended::Over => {
            return broken(ended, progress);
        }
    };
    failure(kind, message, false)
}

fn stopped_by(stopped: &Stopped) -> (ErrorKind, String) {
    let kind = match stopped {
        // Not which: the merchant who reads this may be asking what our network looks like.
        Stopped::Denied(_) => {
            let what = "the host's name resolves to a denied address".to_owned();
            return (ErrorKind::DeniedAnswer, what);
        }
        Stopped::DeniedPeer(_) => {
            let what = "the connection leads to a denied address".to_owned();
            return (ErrorKind::DeniedPeer, what);
        }
        Stopped::UnknownPeer => return (ErrorKind::Internal, stopped.to_string()),
        Stopped::LookupTimeout => ErrorKind::TimeoutDns,
        _ => ErrorKind::Dns,
    };
    (kind, format!("the host's name did not resolve: {stopped}"))
}

/// What TLS did not like.
fn not_shaken(error: &io::Error) -> ErrorKind {
    use CertificateError as Certificate;
    let Some(error) = causes(error).find_map(|e| e.downcast_ref::<rustls::Error>()) else {
        return ErrorKind::Tls;
    };
    match error {
        rustls::Error::AlertReceived(AlertDescription::ProtocolVersion)
        | rustls::Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => ErrorKind::TlsVersion,
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            Certificate::Expired | Certificate::ExpiredContext { .. } => ErrorKind::TlsExpired,
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
                ErrorKind::TlsWrongName
            }
            // A name that an authority of ours has as well, with another key.
            Certificate::UnknownIssuer | Certificate::BadSignature => ErrorKind::TlsUntrusted,
            _ => ErrorKind::TlsCertificate,
        },
        rustls::Error::NoCertificatesPresented => ErrorKind::TlsCertificate,
        _ => ErrorKind::Tls,
    }
}

const NOT_HTTP2: &str = "the receiver broke the rules of HTTP/2";

/// The connection stood; what was sent over it may have been acted on.
fn broken(ended: &Ended, progress: &Progress) -> AttemptError {
    let cause = innermost(ended);
    if !progress.end() {
        let what = format!("the connection broke before the request was sent: {cause}");
        return failure(ErrorKind::Connect, what, false);
    }
    let named = match ended {
        Ended::InterimFlood(_) => Some((ErrorKind::InterimFlood, "no answer but interim ones")),
        _ if causes(ended).any(|e| e.is::<NoHead>()) => {
            Some((ErrorKind::InterimFlood, "no answer but interim ones"))
        }
        Ended::Flood => Some((ErrorKind::H2Protocol, NOT_HTTP2)),
        Ended::Http1(error) => not_http(error),
        Ended::Http2(error) => not_http2(error),
        _ => None,
    };
    let (kind, what) = named.unwrap_or_else(|| broken_off(ended, progress));
    failure(kind, format!("{what}: {cause}"), true)
}

fn not_http(error: &hyper::Error) -> Option<(ErrorKind, &'static str)> {
    if error.is_parse_too_large() {
        return Some((
            ErrorKind::HeadTooLarge,
            "the head of the answer is too large",
        ));
    }
    error
        .is_parse()
        .then_some((ErrorKind::MalformedHead, "the answer is not HTTP"))
}

fn not_http2(error: &h2::Error) -> Option<(ErrorKind, &'static str)> {
    if error.is_io() {
        return None;
    }
    Some(match (error.is_remote(), error.is_go_away()) {
        (true, true) => (ErrorKind::H2Goaway, "the receiver ended the connection"),
        (true, false) => (ErrorKind::H2Reset, "the receiver ended the exchange"),
        (false, _) => (ErrorKind::H2Protocol, NOT_HTTP2),
    })
}

/// How a connection ended, and where in the exchange.
fn broken_off(ended: &Ended, progress: &Progress) -> (ErrorKind, &'static str) {
    let system = match ended {
        Ended::Http2(error) => error.get_io(),
        _ => causes(ended).find_map(|e| e.downcast_ref::<io::Error>()),
    };
    let system = system.map(io::Error::kind);
    let in_order = match ended {
        Ended::Http1(error) if error.is_incomplete_message() => true,
        // So the library calls the end of a connection on which streams are open.
        Ended::Http2(_) if system == Some(io::ErrorKind::BrokenPipe) => true,
        _ => system == Some(io::ErrorKind::UnexpectedEof),
    };
    // TLS reports through the same kinds as the framing does.
    let of_tls = causes(ended).any(|e| e.is::<rustls::Error>());
    let framing = matches!(
        system,
        Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData)
    );
    match progress.awaited() {
        Awaited::Body if in_order => (
            ErrorKind::IncompleteBody,
            "the receiver closed the connection within its answer",
        ),
        Awaited::Body if framing && !of_tls => (
            ErrorKind::MalformedBody,
            "the body of the answer is not HTTP",
        ),
        Awaited::Body => (
            ErrorKind::ResetBody,
            "the connection broke within the answer",
        ),
        Awaited::Taking => (
            ErrorKind::ResetRequest,
            "the connection broke before the request was taken",
        ),
        _ if in_order => (
            ErrorKind::IncompleteHead,
            "the receiver closed the connection without an answer",
        ),
        _ => (
            ErrorKind::ResetHead,
            "the connection broke before an answer",
        ),
    }
}

/// TCP, or this machine.
fn not_connected(error: &(dyn Error + 'static)) -> (ErrorKind, String) {
    let cause = innermost(error);
    for cause in causes(error).filter_map(|e| e.downcast_ref::<io::Error>()) {
        let what = match cause.kind() {
            io::ErrorKind::AddrNotAvailable | io::ErrorKind::OutOfMemory => {
                "no free local port or memory"
            }
            // EMFILE and ENFILE have no kind of their own.
            _ if matches!(cause.raw_os_error(), Some(23 | 24)) => "too many open files",
            _ => continue,
        };
        return (ErrorKind::Internal, format!("{what}: {cause}"));
    }
    (ErrorKind::Connect, format!("no connection: {cause}"))
}

/// The last of [`causes`].
pub(crate) fn innermost<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    causes(error).last().unwrap_or(error)
}

/// The error and what caused it, outermost first. `io::Error` passes over the error inside it when
/// asked for its source, so it is looked into.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        let inside = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
            .map(|inner| inner as &(dyn Error + 'static));
        inside.or_else(|| error.source())
    })
}

fn failure(kind: ErrorKind, message: String, ambiguous: bool) -> AttemptError {
    let message = match message.char_indices().nth(MESSAGE_CHARS_MAX) {
        Some((end, _)) => message[..end].into(),
        None => message.into_boxed_str(),
    };
    AttemptError {
        kind,
        message,
        ambiguous,
    }
}
