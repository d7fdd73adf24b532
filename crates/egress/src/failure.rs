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

use crate::body::Progress;
use crate::ended::Ended;
use crate::gate::Stopped;

/// Characters of a message; some causes quote what the peer sent.
const MESSAGE_CHARS_MAX: usize = 300;

/// The deadline over the whole exchange passed.
pub(crate) fn deadline(timeout: Duration, progress: &Progress) -> AttemptError {
    let ambiguous = progress.end();
    let missing = if ambiguous {
        "no complete response"
    } else {
        "no connection"
    };
    failure(
        ErrorKind::Timeout,
        format!("{missing} within {timeout:?}"),
        ambiguous,
    )
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
    failure(ErrorKind::Timeout, format!("none within {limit:?}"), false)
}

/// What ended the exchange, named.
pub(crate) fn classify(ended: &Ended, progress: &Progress) -> AttemptError {
    let (kind, message) = match ended {
        Ended::Refused(refusal) => {
            let kind = match refusal {
                UrlRefusal::Denied(_) | UrlRefusal::InnerName { .. } => ErrorKind::Denied,
                _ => ErrorKind::BadUrl,
            };
            (kind, refusal.to_string())
        }
        Ended::NotSent(error) => (ErrorKind::BadUrl, format!("not sent: {}", innermost(error))),
        // Not which: the merchant who reads this may be asking what our network looks like.
        Ended::Stopped(Stopped::Denied(_)) => (
            ErrorKind::Denied,
            "the host's name resolves to a denied address".to_owned(),
        ),
        Ended::Stopped(stopped @ Stopped::UnknownPeer) => {
            (ErrorKind::Internal, stopped.to_string())
        }
        Ended::Stopped(stopped) => (
            ErrorKind::Dns,
            format!("the host's name did not resolve: {stopped}"),
        ),
        Ended::Tcp(error) => not_connected(error.as_ref()),
        Ended::TcpLate(limit) => (
            ErrorKind::Connect,
            format!("no connection within {limit:?}"),
        ),
        Ended::Proxy(_) => (ErrorKind::Connect, ended.to_string()),
        Ended::Tls(error) => (
            ErrorKind::Tls,
            format!("the TLS handshake failed: {}", innermost(error)),
        ),
        Ended::TlsLate(limit) => (
            ErrorKind::Tls,
            format!("the TLS handshake was not complete within {limit:?}"),
        ),
        Ended::Token(error) => return error.clone(),
        Ended::Identity(_) => (ErrorKind::Tls, ended.to_string()),
        Ended::NoStream | Ended::Unprocessed { .. } => (ErrorKind::Connect, ended.to_string()),
        // The head was there, so the request was sent.
        Ended::Idle(_) => return failure(ErrorKind::Timeout, ended.to_string(), true),
        Ended::Http1(_) | Ended::Http2(_) | Ended::InterimFlood(_) | Ended::Over => {
            return broken(innermost(ended), progress);
        }
    };
    failure(kind, message, false)
}

/// The connection stood; what was sent over it may have been acted on.
fn broken(cause: &(dyn Error + 'static), progress: &Progress) -> AttemptError {
    if progress.end() {
        let what = format!("the connection broke before the response was complete: {cause}");
        return failure(ErrorKind::Reset, what, true);
    }
    let what = format!("the connection broke before the request was sent: {cause}");
    failure(ErrorKind::Connect, what, false)
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
