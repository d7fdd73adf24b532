//! A connection that speaks HTTP/2 (ADR 0033).
//!
//! Decides how many requests it carries at once: as many streams as the receiver allows, at most
//! [`STREAMS_MAX`], each of them promised to one attempt before it is asked for, so that none waits
//! inside the library. The attempt itself gives its body to the library, part by part, as the
//! receiver has room, so that nothing of it is held once it is over. A connection on which an
//! attempt failed takes no other, and is ended when the last one on it is. Leaves keeping it to
//! `pool`.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use http::{HeaderMap, Method, Request, Response, Uri, Version};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::answer::{Answer, Kept};
use crate::body::Progress;
use crate::driver::Driver;
use crate::ended::Ended;
use crate::http1::HEAD_BYTES_MAX;
use crate::line::{Line, Traffic};

/// Requests of one connection at a time, whatever the receiver allows.
const STREAMS_MAX: usize = 100;

/// How long a new connection may allow no stream; its first frame says how many it allows.
const SETTINGS_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes a receiver may send of one answer before we read it; we keep half of that.
const STREAM_WINDOW: u32 = 32 * 1024;

/// Bytes a receiver may send of all its answers before we read them.
const CONNECTION_WINDOW: u32 = 256 * 1024;

/// Bytes of one body that the library holds, whatever window the receiver opens: one frame.
const PART_BYTES_MAX: usize = 16 * 1024;

/// Streams the library remembers after we ended them, for frames still on their way.
const ENDED_STREAMS_MAX: usize = 32;

/// Frames of the receiver's that break the rules of one stream, until the connection is closed.
const BROKEN_STREAMS_MAX: usize = 32;

/// Interim answers (1xx) to one request. The library keeps them until they are read.
const INTERIM_MAX: usize = 16;

/// Bytes that are read without any of them being a part of an answer: settings, pings and farewells
/// could go on until the deadline. What attempts have not come to yet counts too: heads of
/// [`STREAMS_MAX`] answers, and [`CONNECTION_WINDOW`].
const UNASKED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// One connection, shared by its attempts.
pub(crate) struct Http2 {
    sender: SendRequest<Part>,
    /// Streams promised to attempts.
    taken: AtomicUsize,
    /// How many the receiver allows; 0 until it has said so.
    allowed: watch::Receiver<usize>,
    /// An attempt failed on it.
    failed: AtomicBool,
    traffic: Arc<Traffic>,
    driver: Driver,
    made: Instant,
}

impl Http2 {
    /// A connection of which it is known how many streams its receiver allows: one at least.
    pub(crate) async fn new(line: Line) -> Result<Arc<Self>, Ended> {
        let mut builder = Builder::new();
        builder
            .enable_push(false)
            .initial_max_send_streams(0)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
            .max_send_buffer_size(PART_BYTES_MAX)
            .max_concurrent_reset_streams(ENDED_STREAMS_MAX)
            .max_local_error_reset_streams(Some(BROKEN_STREAMS_MAX));
        let traffic = line.traffic();
        traffic.await_head(UNASKED_BYTES_MAX);
        let (sender, connection) = builder.handshake::<_, Part>(line).await?;
        let (tell, mut allowed) = watch::channel(0);
        let driver = Driver::new(&tokio::spawn(drive(connection, tell)));
        match timeout(SETTINGS_TIMEOUT, allowed.wait_for(|allowed| *allowed > 0)).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return Err(Ended::NoStream),
        }
        Ok(Arc::new(Self {
            sender,
            taken: AtomicUsize::new(0),
            allowed,
            failed: AtomicBool::new(false),
            traffic,
            driver,
            made: Instant::now(),
        }))
    }

    pub(crate) const fn made(&self) -> Instant {
        self.made
    }

    /// Whether it is any use for another attempt, now or when one ends.
    pub(crate) fn is_open(&self) -> bool {
        let mut asked = self.sender.clone();
        let ready = asked.poll_ready(&mut Context::from_waker(Waker::noop()));
        !self.failed.load(Ordering::Acquire) && !matches!(ready, Poll::Ready(Err(_)))
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.taken.load(Ordering::Acquire) == 0
    }

    /// The promise of a stream; `None` when all are taken.
    pub(crate) fn stream(self: &Arc<Self>) -> Option<Promise> {
        let allowed = STREAMS_MAX.min(*self.allowed.borrow());
        let take = |taken: usize| (taken < allowed).then_some(taken + 1);
        let taken = self
            .taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, take);
        taken.ok().map(|_| Promise {
            connection: Arc::clone(self),
            failed: true,
        })
    }
}

impl Drop for Http2 {
    /// Nobody uses it any more: one that is well says farewell, the other is cut.
    fn drop(&mut self) {
        if !*self.failed.get_mut() && !self.traffic.is_unwritten() {
            self.driver.release();
        }
    }
}

async fn drive(mut connection: Connection<Line, Part>, allowed: watch::Sender<usize>) {
    let driven = poll_fn(|cx| {
        let driven = Pin::new(&mut connection).poll(cx);
        let now = connection.max_concurrent_send_streams();
        allowed.send_if_modified(|before| std::mem::replace(before, now) != now);
        driven
    });
    // Whoever waits on a stream is told as well.
    driven.await.ok();
}

/// The right to open one stream. An attempt that drops it before it was answered has failed.
pub(crate) struct Promise {
    connection: Arc<Http2>,
    failed: bool,
}

impl Drop for Promise {
    fn drop(&mut self) {
        if self.failed {
            self.connection.failed.store(true, Ordering::Release);
        }
        self.connection.taken.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Promise {
    /// One request and its answer. Dropping the future, or failing, resets the stream.
    pub(crate) async fn send(
        mut self,
        method: Method,
        uri: &Uri,
        headers: HeaderMap,
        data: Bytes,
        progress: &Progress,
    ) -> Result<Answer, Ended> {
        let sent = self.exchange(method, uri, headers, data, progress).await;
        // The library repeats only what kind of error it was.
        let flooded = self.connection.traffic.is_flooded();
        sent.map_err(|ended| if flooded { Ended::Flood } else { ended })
    }

    async fn exchange(
        &mut self,
        method: Method,
        uri: &Uri,
        headers: HeaderMap,
        data: Bytes,
        progress: &Progress,
    ) -> Result<Answer, Ended> {
        let traffic = Arc::clone(&self.connection.traffic);
        traffic.await_head(UNASKED_BYTES_MAX);
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = uri.clone();
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = headers;
        if !progress.begin() {
            return Err(Ended::Over);
        }
        let mut sender = self.connection.sender.clone();
        let opened = sender.send_request(request, data.is_empty());
        let (response, stream) = opened.map_err(before_head)?;
        let mut exchange = Exchange {
            response,
            upload: Upload {
                stream,
                data,
                unwritten: Arc::default(),
                progress,
            },
            interim: 0,
        };
        let response = poll_fn(|cx| exchange.poll_head(cx)).await?;
        progress.on_head();
        traffic.await_head(UNASKED_BYTES_MAX);
        let (head, mut body) = response.into_parts();
        let mut kept = Kept::default();
        let mut upload = exchange.upload;
        loop {
            let part = poll_fn(|cx| {
                // Who has answered need not read the rest.
                if let Poll::Ready(Err(Ended::Over)) = upload.poll(cx) {
                    return Poll::Ready(Some(Err(Ended::Over)));
                }
                body.poll_data(cx).map_err(Ended::Http2)
            });
            let Some(chunk) = Kept::in_time(part).await? else {
                break;
            };
            let chunk = chunk?;
            if !chunk.is_empty() {
                traffic.await_head(UNASKED_BYTES_MAX);
            }
            if !kept.take(&chunk) {
                break;
            }
            body.flow_control().release_capacity(chunk.len())?;
        }
        // A receiver that answers before it reads keeps what is not written from being dropped.
        self.failed = !upload.is_written();
        Ok(kept.answer(head.status, &head.headers))
    }
}

/// An error before anything of an answer was seen. What a receiver refused, or had not come to when
/// it said that it goes, it did not process (RFC 9113, 8.7); this also covers streams that were
/// never opened.
fn before_head(error: h2::Error) -> Ended {
    let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
    if error.is_remote() && (error.is_go_away() || refused) {
        return Ended::Unprocessed {
            reason: error.reason().unwrap_or(Reason::NO_ERROR),
            leaving: error.is_go_away(),
        };
    }
    Ended::Http2(error)
}

/// A request on its way.
struct Exchange<'a> {
    response: ResponseFuture,
    upload: Upload<'a>,
    interim: usize,
}

impl Exchange<'_> {
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<h2::RecvStream>, Ended>> {
        while let Poll::Ready(Some(Ok(_))) = self.response.poll_informational(cx) {
            self.interim += 1;
            if self.interim > INTERIM_MAX {
                return Poll::Ready(Err(Ended::InterimFlood(INTERIM_MAX)));
            }
        }
        if let Poll::Ready(response) = Pin::new(&mut self.response).poll(cx) {
            return Poll::Ready(response.map_err(before_head));
        }
        match self.upload.poll(cx) {
            Poll::Ready(Err(Ended::Over)) => Poll::Ready(Err(Ended::Over)),
            // Why the stream broke is said with the answer.
            _ => Poll::Pending,
        }
    }
}

/// The body, as much of it as the receiver has not made room for yet.
struct Upload<'a> {
    stream: SendStream<Part>,
    data: Bytes,
    /// Shared with each part that the library has.
    unwritten: Arc<()>,
    progress: &'a Progress,
}

impl Drop for Upload<'_> {
    fn drop(&mut self) {
        if !self.data.is_empty() {
            self.progress.on_unwritten();
        }
    }
}

impl Upload<'_> {
    /// Whether all of it went out, and the library has nothing of it.
    fn is_written(&self) -> bool {
        self.data.is_empty() && Arc::strong_count(&self.unwritten) == 1
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        while !self.data.is_empty() {
            // A process that slept must not go on.
            if self.progress.is_late() {
                return Poll::Ready(Err(Ended::Over));
            }
            self.stream
                .reserve_capacity(self.data.len().min(PART_BYTES_MAX));
            let room = match self.stream.capacity() {
                0 => match ready!(self.stream.poll_capacity(cx)) {
                    Some(room) => room?,
                    None => return Poll::Ready(Ok(())),
                },
                room => room,
            };
            let part = self.part(room);
            if part.has_remaining() {
                self.stream.send_data(part, self.data.is_empty())?;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The next bytes. Of a large body a copy: the library may hold a part for as long as the
    /// receiver does not read, and a slice would hold the whole.
    fn part(&mut self, room: usize) -> Part {
        let whole = self.data.len() <= PART_BYTES_MAX;
        let slice = self.data.split_to(room.min(self.data.len()));
        Part {
            data: if whole {
                slice
            } else {
                Bytes::copy_from_slice(&slice)
            },
            _held: Arc::clone(&self.unwritten),
        }
    }
}

/// Bytes that count as unwritten while the library has them.
struct Part {
    data: Bytes,
    _held: Arc<()>,
}

impl Buf for Part {
    fn remaining(&self) -> usize {
        self.data.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.data.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.data.advance(count);
    }
}
