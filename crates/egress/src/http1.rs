//! A connection that speaks HTTP/1.1.
//!
//! Decides how large a head may be, and when the connection may be used again: when its request
//! was written out and its answer read to the end. Else it is ended with the attempt, and with it
//! whatever the library wanted to write to it (ADR 0028). Leaves keeping it to `pool`.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body::Body;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use std::future::poll_fn;

use crate::answer::{Answer, Kept};
use crate::body::{Progress, TrackedBody};
use crate::driver::Driver;
use crate::ended::Ended;
use crate::line::{Line, Traffic};

/// Bytes of the head of an answer; twice what common servers send at most.
pub(crate) const HEAD_BYTES_MAX: usize = 32 * 1024;

/// Bytes that are read before anybody has asked for them. (A head may have 100 fields, the library's
/// own bound: another would cost an allocation for each answer.)
const READ_BUFFER_MAX: usize = 64 * 1024;

/// Bytes read between a request and the head of its answer: interim answers (1xx), each of them as
/// large as a head may be, could go on until the deadline. What is read along with the head of the
/// body that follows counts too, hence the room.
const BEFORE_HEAD_BYTES_MAX: usize = 256 * 1024;

/// After an answer was read the connection's task has a last step to do, which waits for nobody.
const SETTLE_TIMEOUT: Duration = Duration::from_millis(100);

/// One connection, for one request at a time.
pub(crate) struct Http1 {
    sender: SendRequest<TrackedBody>,
    traffic: Arc<Traffic>,
    driver: Driver,
    made: Instant,
}

/// How a request on a connection ended.
pub(crate) enum Sent {
    /// Answered. The connection, if it can be used again.
    Answer(Answer, Option<Box<Http1>>),
    /// The connection was closed before anything of the request was written to it. Its headers and
    /// body again.
    Untouched(Ended, Box<(HeaderMap, Bytes)>),
}

impl Http1 {
    pub(crate) async fn new(line: Line) -> Result<Self, Ended> {
        let traffic = line.traffic();
        let mut builder = Builder::new();
        builder
            .max_header_size(HEAD_BYTES_MAX)
            .max_buf_size(READ_BUFFER_MAX);
        let (sender, connection) = builder.handshake(TokioIo::new(line)).await?;
        let task = tokio::spawn(async move {
            // Whoever waits for an answer is told as well.
            connection.await.ok();
        });
        Ok(Self {
            sender,
            traffic,
            driver: Driver::new(&task),
            made: Instant::now(),
        })
    }

    pub(crate) const fn made(&self) -> Instant {
        self.made
    }

    /// Whether a request can be given to it.
    pub(crate) fn is_open(&self) -> bool {
        self.sender.is_ready() && !self.sender.is_closed()
    }

    /// Lets go of a connection that nothing is under way on.
    pub(crate) fn release(mut self) {
        self.driver.release();
    }

    /// One request and its answer. Dropping the future, or failing, ends the connection at once.
    pub(crate) async fn send(
        mut self: Box<Self>,
        method: Method,
        path: &Uri,
        headers: HeaderMap,
        data: Bytes,
        progress: &Arc<Progress>,
    ) -> Result<Sent, Ended> {
        let mut request = Request::new(TrackedBody::new(data, Arc::clone(progress)));
        *request.method_mut() = method;
        *request.uri_mut() = path.clone();
        *request.headers_mut() = headers;
        let _tell = Tell {
            traffic: Arc::clone(&self.traffic),
            progress,
        };
        self.traffic.await_head(BEFORE_HEAD_BYTES_MAX);
        let response = match self.sender.try_send_request(request).await {
            Ok(response) => response,
            Err(mut error) => {
                let untouched = error.take_message();
                let ended = Ended::Http1(error.into_error());
                return match untouched {
                    Some(request) => {
                        let (head, body) = request.into_parts();
                        let unsent = Box::new((head.headers, body.into_data()));
                        Ok(Sent::Untouched(ended, unsent))
                    }
                    None => Err(ended),
                };
            }
        };
        self.traffic.on_head();
        progress.on_head();
        let (head, body) = response.into_parts();
        let mut kept = Kept::default();
        let whole = read(body, &mut kept).await?;
        let answer = kept.answer(head.status, &head.headers);
        let again = whole && head.status != StatusCode::SWITCHING_PROTOCOLS;
        let again = if again { self.settled().await } else { None };
        Ok(Sent::Answer(answer, again))
    }

    /// The connection when it is ready for another request: nothing of the last one is unwritten,
    /// and neither side closes it.
    async fn settled(mut self: Box<Self>) -> Option<Box<Self>> {
        if self.traffic.is_unwritten() {
            return None;
        }
        let ready = tokio::time::timeout(SETTLE_TIMEOUT, self.sender.ready()).await;
        matches!(ready, Ok(Ok(()))).then_some(self)
    }
}

/// Tells, however the request ends, whether it went out.
struct Tell<'a> {
    traffic: Arc<Traffic>,
    progress: &'a Progress,
}

impl Drop for Tell<'_> {
    fn drop(&mut self) {
        if self.traffic.is_unwritten() {
            self.progress.on_unwritten();
        }
    }
}

/// Reads as much as is kept; whether that was all.
async fn read(body: hyper::body::Incoming, kept: &mut Kept) -> Result<bool, Ended> {
    let mut body = pin!(body);
    loop {
        let frame = poll_fn(|cx| body.as_mut().poll_frame(cx));
        let Some(frame) = Kept::in_time(frame).await? else {
            return Ok(true);
        };
        // Trailers are no part of what is kept.
        let Ok(chunk) = frame?.into_data() else {
            continue;
        };
        if !kept.take(&chunk) {
            return Ok(false);
        }
    }
}
