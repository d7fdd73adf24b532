//! A request body that tells when it is taken, and how far its exchange came.
//!
//! Decides what counts as "sent": the client asks for the body when it has a connection, has put
//! the head into its buffer, and has not written anything. A body nobody asked for was not sent,
//! not even its head; what was asked for may have been, wholly, in part, or not at all.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// Whether a request was given out to be written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sent {
    NotYet,
    At(Instant),
    /// The exchange was over before.
    Never,
}

/// What is being done to make a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Making {
    Lookup,
    Tcp,
    Tls,
    /// The receiver allows a request on its connection of HTTP/2.
    Stream,
}

/// What an exchange waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awaited {
    Connection(Making),
    /// The receiver takes the request.
    Taking,
    Head,
    Body,
}

/// How far one exchange came.
pub(crate) struct Progress {
    /// An empty body is never asked for, so it tells nothing.
    unknown: bool,
    /// Whoever comes first decides: a connection writes on another thread than the one whose
    /// deadline passes.
    sent: Mutex<Sent>,
    /// After that nothing is sent, whatever the timers of a process that slept say.
    deadline: Instant,
    head: OnceLock<Instant>,
    making: Mutex<Option<Making>>,
    /// Something of the request was never written out.
    unwritten: AtomicBool,
    /// For a request that may have to be sent again, until its answer begins.
    again: Mutex<Option<Bytes>>,
}

impl Progress {
    pub(crate) fn new(body: &Bytes, deadline: Instant) -> Self {
        Self {
            unknown: body.is_empty(),
            sent: Mutex::new(Sent::NotYet),
            deadline,
            head: OnceLock::new(),
            making: Mutex::default(),
            unwritten: AtomicBool::new(false),
            again: Mutex::default(),
        }
    }

    fn sent(&self) -> MutexGuard<'_, Sent> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The request is about to be written; `false` when the exchange is over, and nothing may be.
    pub(crate) fn begin(&self) -> bool {
        let mut sent = self.sent();
        if *sent == Sent::NotYet {
            let now = Instant::now();
            *sent = if now < self.deadline {
                Sent::At(now)
            } else {
                Sent::Never
            };
        }
        *sent != Sent::Never
    }

    /// The body, if the receiver may say that it did not process it.
    pub(crate) fn keep(&self, body: Option<Bytes>) {
        *self.again() = body;
    }

    fn again(&self) -> MutexGuard<'_, Option<Bytes>> {
        self.again.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The receiver says that it did not process what was sent to it: all begins again, with the
    /// body that was kept.
    pub(crate) fn take_back(&self) -> Bytes {
        let mut sent = self.sent();
        if matches!(*sent, Sent::At(_)) {
            *sent = Sent::NotYet;
        }
        self.unwritten.store(false, Ordering::Relaxed);
        self.again().take().unwrap_or_default()
    }

    /// Whether the time for the exchange is up.
    pub(crate) fn is_late(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// Ends the exchange; whether the receiver may have seen the request, or part of it. After a
    /// no, nothing of it is sent any more.
    pub(crate) fn end(&self) -> bool {
        let mut sent = self.sent();
        if *sent == Sent::NotYet {
            *sent = Sent::Never;
        }
        self.unknown || *sent != Sent::Never
    }

    /// The head of the response is there.
    pub(crate) fn on_head(&self) {
        self.head.get_or_init(Instant::now);
        postrider_points::reach!("egress.head.read");
        self.keep(None);
    }

    /// How far the connection is; `None` when it stands.
    pub(crate) fn on_making(&self, making: Option<Making>) {
        *self.making() = making;
    }

    fn making(&self) -> MutexGuard<'_, Option<Making>> {
        self.making.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The attempt is over, and something of its request was still to be written.
    pub(crate) fn on_unwritten(&self) {
        self.unwritten.store(true, Ordering::Relaxed);
    }

    /// What the exchange waited for when it ended.
    pub(crate) fn awaited(&self) -> Awaited {
        let begun = matches!(*self.sent(), Sent::At(_));
        let making = *self.making();
        if self.head.get().is_some() {
            Awaited::Body
        } else if let Some(making) = making.filter(|_| !begun) {
            Awaited::Connection(making)
        } else if self.unwritten.load(Ordering::Relaxed) {
            Awaited::Taking
        } else if begun || self.unknown {
            Awaited::Head
        } else {
            Awaited::Connection(Making::Tcp)
        }
    }

    /// Request written to response head.
    pub(crate) fn first_byte(&self) -> Option<Duration> {
        let Sent::At(sent) = *self.sent() else {
            return None;
        };
        Some(self.head.get()?.saturating_duration_since(sent))
    }
}

/// The body was asked for after the end of the exchange; what the client has of the request goes
/// with the connection.
#[derive(Debug, thiserror::Error)]
#[error("the exchange is over")]
pub(crate) struct Over;

/// One chunk of known length, ready at once: the client has all of a request in its hands, and has
/// tried to write it, before it reads the answer. `http1` goes by that.
pub(crate) struct TrackedBody {
    data: Option<Bytes>,
    progress: Arc<Progress>,
}

impl TrackedBody {
    pub(crate) fn new(data: Bytes, progress: Arc<Progress>) -> Self {
        let data = Some(data).filter(|data| !data.is_empty());
        Self { data, progress }
    }

    /// What was not asked for.
    pub(crate) fn into_data(self) -> Bytes {
        self.data.unwrap_or_default()
    }
}

impl Body for TrackedBody {
    type Data = Bytes;
    type Error = Over;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Over>>> {
        if !self.progress.begin() {
            return Poll::Ready(Some(Err(Over)));
        }
        Poll::Ready(self.data.take().map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.data.as_ref().map_or(0, |data| data.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body() -> (TrackedBody, Arc<Progress>) {
        let data = Bytes::from_static(b"x");
        let deadline = Instant::now() + Duration::from_secs(60);
        let progress = Arc::new(Progress::new(&data, deadline));
        (TrackedBody::new(data, Arc::clone(&progress)), progress)
    }

    fn ask(body: &mut TrackedBody) -> Poll<Option<Result<Frame<Bytes>, Over>>> {
        Pin::new(body).poll_frame(&mut Context::from_waker(std::task::Waker::noop()))
    }

    #[test]
    fn a_body_that_was_taken_may_have_been_sent() {
        let (mut body, progress) = body();
        assert!(matches!(ask(&mut body), Poll::Ready(Some(Ok(_)))));
        assert!(progress.end());
        assert!(progress.end(), "the answer stays");
    }

    #[test]
    fn a_body_is_not_given_once_it_was_said_not_to_be_sent() {
        let (mut body, progress) = body();
        assert!(!progress.end());
        assert!(matches!(ask(&mut body), Poll::Ready(Some(Err(Over)))));
        assert!(!progress.end(), "the answer stays");
    }

    #[test]
    fn what_is_taken_back_begins_again() {
        let (mut body, progress) = body();
        assert!(matches!(ask(&mut body), Poll::Ready(Some(Ok(_)))));
        progress.keep(Some(Bytes::from_static(b"x")));
        progress.on_unwritten();
        assert_eq!(progress.awaited(), Awaited::Taking);
        assert_eq!(progress.take_back(), "x");
        assert_eq!(progress.awaited(), Awaited::Connection(Making::Tcp));
        assert!(!progress.end(), "nothing of it counts as sent");
    }

    #[test]
    fn a_body_is_let_go_when_its_answer_begins() {
        let room = Arc::new(());
        struct Held(#[expect(dead_code, reason = "counted")] Arc<()>);
        impl AsRef<[u8]> for Held {
            fn as_ref(&self) -> &[u8] {
                b"x"
            }
        }
        let (_, progress) = body();
        progress.keep(Some(Bytes::from_owner(Held(Arc::clone(&room)))));
        assert_eq!(Arc::strong_count(&room), 2);
        progress.on_head();
        assert_eq!(Arc::strong_count(&room), 1);
    }

    #[test]
    fn a_body_is_not_given_after_the_deadline_whatever_a_timer_said() {
        let data = Bytes::from_static(b"x");
        let progress = Arc::new(Progress::new(&data, Instant::now()));
        let mut body = TrackedBody::new(data, Arc::clone(&progress));
        assert!(matches!(ask(&mut body), Poll::Ready(Some(Err(Over)))));
        assert!(!progress.end(), "nothing was sent");
    }
}
