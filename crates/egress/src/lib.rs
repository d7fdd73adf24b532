//! The only place an HTTP client exists.
//!
//! Decides how a request is put on the wire: one shared client, HTTP/1.1 alone, no redirect, no proxy, no
//! decompression, one deadline over the whole exchange, caps on what is read, and the deny list
//! asked at every point where an address turns up (`docs/security.md`), and that no connection waits for its receiver once its attempt is over. Judges nothing: whatever happens becomes
//! an [`AttemptReport`], whose verdict is the engine's. Leaves which addresses are fine to `guard`,
//! headers and signature to the caller.
//!
//! Where an address is checked, and what each check is for:
//!
//! | where | covers | before |
//! | --- | --- | --- |
//! | the URL | address literals, which never reach the resolver; names like `localhost` | anything |
//! | the resolver | every answer for a name; one denied answer fails the attempt | connecting |
//! | the connected socket | whatever slipped past both | the first byte of the request |
//!
//! A pooled connection was checked when it was made, under the policy it is used with: the policy
//! of an [`Egress`] never changes.
#![warn(missing_docs)]

mod body;
mod connector;
mod failure;
mod gate;
mod line;
mod names;
mod summary;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_LENGTH, HeaderMap, HeaderValue, USER_AGENT};
use http::{Method, Uri};
use http_body::Body;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use postrider_domain::{
    AttemptError, AttemptReport, AttemptResult, Phases, RequestSummary, Response, Timestamp,
};
use postrider_guard::Policy;
use tokio_rustls::rustls::ClientConfig;

use body::{Progress, TrackedBody};
use connector::Connector;
use gate::GuardedResolver;
use line::Hold;
use names::Names;

/// Bytes of a response body that are kept; what follows is not read.
pub const BODY_BYTES_MAX: usize = 16 * 1024;

/// Idle connections kept for one host. Many hosts, each with few requests at a time.
const IDLE_PER_HOST_MAX: usize = 2;

/// The library bounds idle connections per host alone, so this bounds their sum: as many as hosts
/// are newly sent to in that time. With 45 s, 100 new hosts a second held 4,500 sockets. It is also
/// far below the idle limits of common load balancers (60 s and more), so that we rarely write to
/// a connection the other side is closing.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// It cannot be sent as a header.
    #[error("the user agent must be visible ASCII, found {0:?}")]
    UserAgent(String),
    /// The TLS library did not start: on a bare system because no CA certificates are there.
    #[error(
        "the HTTP client cannot be set up ({reason}); are the system's CA certificates installed (package ca-certificates)?"
    )]
    Client {
        /// The innermost cause.
        reason: String,
    },
    /// Names could never be looked up.
    #[error(
        "the system's name servers are not known: /etc/resolv.conf cannot be used ({reason}); it must be readable and have a line `nameserver ADDRESS`"
    )]
    NameServers {
        /// What is wrong with it.
        reason: String,
    },
}

/// One request, ready to be sent: nothing is added but `user-agent`, `host`, `accept` and
/// `content-length`.
#[derive(Clone)]
pub struct Request {
    /// Checked again before sending.
    pub url: Arc<str>,
    /// Sent as they are, signature included.
    pub headers: HeaderMap,
    /// Sent byte for byte.
    pub body: Bytes,
    /// One deadline over everything: name, connection, request, and the response to its end.
    pub timeout: Duration,
}

/// The HTTP client. Cloning is a reference count; all clones share their connections.
#[derive(Clone)]
pub struct Egress {
    client: Client<Connector, TrackedBody>,
    policy: Arc<Policy>,
    user_agent: HeaderValue,
}

impl Egress {
    /// A client that obeys `policy` and trusts the system's certificate authorities.
    ///
    /// # Errors
    /// [`EgressError`] for a user agent that is no header value, or a system without CA
    /// certificates or name servers.
    pub fn new(policy: Policy, user_agent: &str) -> Result<Self, EgressError> {
        let user_agent = HeaderValue::from_str(user_agent)
            .ok()
            .filter(|value| value.to_str().is_ok())
            .ok_or_else(|| EgressError::UserAgent(user_agent.to_owned()))?;
        let names = Names::of_system().map_err(|error| EgressError::NameServers {
            reason: error.to_string(),
        })?;
        let tls = connector::system_tls().map_err(|error| EgressError::Client {
            reason: failure::innermost(&error).to_string(),
        })?;
        let policy = Arc::new(policy);
        let resolver = GuardedResolver::new(names, Arc::clone(&policy));
        Ok(Self::assembled(policy, user_agent, resolver, tls))
    }

    fn assembled(
        policy: Arc<Policy>,
        user_agent: HeaderValue,
        resolver: GuardedResolver,
        tls: ClientConfig,
    ) -> Self {
        let connector = Connector::new(Arc::clone(&policy), resolver, tls);
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build(connector);
        Self {
            client,
            policy,
            user_agent,
        }
    }

    /// Makes one attempt; `started_at` is copied into the report. Never fails: what goes wrong is
    /// in the report. Dropping the future abandons the request and its connection.
    pub async fn send(&self, started_at: Timestamp, request: Request) -> AttemptReport {
        let begin = Instant::now();
        let progress = Arc::new(Progress::new(&request.body, begin + request.timeout));
        let headers = self.complete(request.headers, &request.body);
        let summary = RequestSummary {
            headers: summary::redacted(&headers),
            url: Arc::clone(&request.url),
        };
        let body = TrackedBody::new(request.body, Arc::clone(&progress));
        let exchange = Box::pin(self.exchange(&request.url, headers, body, &progress));
        let result = match tokio::time::timeout(request.timeout, exchange).await {
            Ok(Ok(response)) => AttemptResult::Response(response),
            // The body sees the deadline too, maybe before the timer.
            Ok(Err(error)) if begin.elapsed() < request.timeout => AttemptResult::Error(error),
            _ => AttemptResult::Error(failure::deadline(request.timeout, &progress)),
        };
        AttemptReport {
            started_at,
            phases: Phases {
                first_byte: progress.first_byte(),
                total: begin.elapsed(),
                ..Phases::default()
            },
            request: summary,
            result,
        }
    }

    /// Adds what belongs to us, so that the report shows it too.
    fn complete(&self, mut headers: HeaderMap, body: &Bytes) -> HeaderMap {
        headers
            .entry(USER_AGENT)
            .or_insert_with(|| self.user_agent.clone());
        if body.is_empty() {
            // The client leaves it out, and some servers answer 411.
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        headers
    }

    async fn exchange(
        &self,
        url: &str,
        headers: HeaderMap,
        body: TrackedBody,
        progress: &Progress,
    ) -> Result<Response, AttemptError> {
        let url = self.policy.check_url(url).map_err(failure::refused)?;
        let uri = Uri::try_from(url.as_str()).map_err(|error| failure::not_sent(&error))?;
        let mut request = http::Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        let any = || HeaderValue::from_static("*/*");
        request.headers_mut().entry(ACCEPT).or_insert_with(any);
        let hold = Hold::new(capture_connection(&mut request));
        let response = self.client.request(request).await;
        let response = response.map_err(|e| failure::classify(&e, e.is_connect(), progress))?;
        progress.on_head();
        let status = response.status().as_u16();
        let headers = summary::capped(response.headers());
        let (body, truncated) = read_capped(response.into_body())
            .await
            .map_err(|e| failure::classify(&e, false, progress))?;
        hold.answered();
        Ok(Response {
            status,
            headers,
            body,
            truncated,
        })
    }
}

/// The first [`BODY_BYTES_MAX`] bytes and whether more followed. Memory grows with what arrives,
/// never by `content-length`. Dropping a body with a rest closes its connection.
async fn read_capped<B: Body<Data = Bytes>>(body: B) -> Result<(Bytes, bool), B::Error> {
    let mut body = pin!(body);
    let mut kept = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        // Trailers are no part of what is kept.
        let Ok(chunk) = frame?.into_data() else {
            continue;
        };
        let room = BODY_BYTES_MAX - kept.len();
        kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            return Ok((kept.freeze(), true));
        }
    }
    Ok((kept.freeze(), false))
}

#[cfg(test)]
mod tests;
