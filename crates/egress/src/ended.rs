//! Why an exchange ended without a response.
//!
//! Decides nothing: the facts, for `failure` to name.

use std::error::Error;
use std::io;
use std::time::Duration;

use postrider_domain::AttemptError;
use postrider_guard::UrlRefusal;

use crate::gate::Stopped;

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// What ended an exchange.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    /// The URL did not pass.
    #[error(transparent)]
    Refused(#[from] UrlRefusal),
    /// No request can be made of it.
    #[error("not sent")]
    NotSent(#[from] http::Error),
    /// The name, or an address.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// TCP, perhaps to the proxy.
    #[error("no connection")]
    Tcp(#[source] BoxError),
    /// TCP was not there in time.
    #[error("within {0:?}")]
    TcpLate(Duration),
    /// The proxy did not let us through.
    #[error("the egress proxy: {0}")]
    Proxy(String),
    /// The TLS handshake failed.
    #[error("the TLS handshake failed")]
    Tls(#[source] io::Error),
    /// TLS was not there in time.
    #[error("within {0:?}")]
    TlsLate(Duration),
    /// HTTP/2 was agreed on, and then no request allowed.
    #[error("the receiver allows no HTTP/2 stream")]
    NoStream,
    /// The receiver said that it did not process the request.
    #[error("the receiver refused the request before processing it: {reason}")]
    Unprocessed {
        /// What it gave as the reason.
        reason: h2::Reason,
        /// It takes no more requests on this connection, and says so politely.
        leaving: bool,
    },
    /// What the endpoint wants to be shown cannot be.
    #[error("the endpoint's auth or ca cannot be used: {0}")]
    Identity(String),
    /// There is no access token for the request.
    #[error("{}", .0.message)]
    Token(AttemptError),
    /// HTTP/1.1 broke.
    #[error(transparent)]
    Http1(#[from] hyper::Error),
    /// HTTP/2 broke.
    #[error(transparent)]
    Http2(#[from] h2::Error),
    /// More interim answers than are waited out.
    #[error("more than {0} interim answers (1xx)")]
    InterimFlood(usize),
    /// Much came over HTTP/2, and no answer.
    #[error("more came that is no answer than is read")]
    Flood,
    /// Nothing more of the answer came.
    #[error("no more of the answer's body within {0:?}")]
    Idle(Duration),
    /// The time was up when the request was to be written.
    #[error("the exchange is over")]
    Over,
}
