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
use crate::gate::Stopped;

/// Characters of a message; some causes quote what the peer sent.
const MESSAGE_CHARS_MAX: usize = 300;

/// The URL did not pass.
pub(crate) fn refused(refusal: UrlRefusal) -> AttemptError {
    let kind = match refusal {
        UrlRefusal::Denied(_) | UrlRefusal::InnerName { .. } => ErrorKind::Denied,
        _ => ErrorKind::BadUrl,
    };
    failure(kind, refusal.to_string(), false)
}

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

/// The client takes no such URL.
pub(crate) fn not_sent(error: &(dyn Error + 'static)) -> AttemptError {
    let what = format!("not sent: {}", innermost(error));
    failure(ErrorKind::BadUrl, what, false)
}

/// The client gave up; `connecting` when it did not get to sending.
pub(crate) fn classify(
    error: &(dyn Error + 'static),
    connecting: bool,
    progress: &Progress,
) -> AttemptError {
    let cause = innermost(error);
    if let Some(stopped) = causes(error).find_map(|e| e.downcast_ref::<Stopped>()) {
        return match stopped {
            // Not which: the merchant who reads this may be asking what our network looks like.
            Stopped::Denied(_) => {
                let what = "the host's name resolves to a denied address".to_owned();
                failure(ErrorKind::Denied, what, false)
            }
            Stopped::UnknownPeer => failure(ErrorKind::Internal, stopped.to_string(), false),
            _ => failure(
                ErrorKind::Dns,
                format!("the host's name did not resolve: {stopped}"),
                false,
            ),
        };
    }
    if connecting {
        let (kind, what) = not_connected(error);
        return failure(kind, format!("{what}: {cause}"), false);
    }
    if progress.end() {
        let what = format!("the connection broke before the response was complete: {cause}");
        return failure(ErrorKind::Reset, what, true);
    }
    let what = format!("the connection broke before the request was sent: {cause}");
    failure(ErrorKind::Connect, what, false)
}

/// TCP, TLS, or this machine. The TLS library reports through `InvalidData`; a peer that hangs up
/// once TCP stands hangs up on the handshake.
fn not_connected(error: &(dyn Error + 'static)) -> (ErrorKind, &'static str) {
    for cause in causes(error).filter_map(|e| e.downcast_ref::<io::Error>()) {
        match cause.kind() {
            io::ErrorKind::InvalidData
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe => {
                return (ErrorKind::Tls, "the TLS handshake failed");
            }
            io::ErrorKind::AddrNotAvailable | io::ErrorKind::OutOfMemory => {
                return (ErrorKind::Internal, "no free local port or memory");
            }
            // EMFILE and ENFILE have no kind of their own.
            _ if matches!(cause.raw_os_error(), Some(23 | 24)) => {
                return (ErrorKind::Internal, "too many open files");
            }
            _ => {}
        }
    }
    (ErrorKind::Connect, "no connection")
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
