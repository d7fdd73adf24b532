//! A request body that tells when it is taken.
//!
//! Decides what counts as "sent": the client asks for the body only once it has a connection to
//! write to, so a body nobody asked for was not sent, not even its head.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// How far one exchange came.
pub(crate) struct Progress {
    /// An empty body is never asked for, so it tells nothing.
    unknown: bool,
    sent: OnceLock<Instant>,
    head: OnceLock<Instant>,
}

impl Progress {
    pub(crate) fn new(body: &Bytes) -> Self {
        Self {
            unknown: body.is_empty(),
            sent: OnceLock::new(),
            head: OnceLock::new(),
        }
    }

    /// Whether the receiver may have seen the request, or part of it.
    pub(crate) fn may_be_sent(&self) -> bool {
        self.unknown || self.sent.get().is_some()
    }

    /// The head of the response is there.
    pub(crate) fn on_head(&self) {
        self.head.get_or_init(Instant::now);
    }

    /// Request written to response head.
    pub(crate) fn first_byte(&self) -> Option<Duration> {
        Some(
            self.head
                .get()?
                .saturating_duration_since(*self.sent.get()?),
        )
    }
}

/// One chunk of known length.
pub(crate) struct TrackedBody {
    data: Option<Bytes>,
    progress: Arc<Progress>,
}

impl TrackedBody {
    pub(crate) fn new(data: Bytes, progress: Arc<Progress>) -> Self {
        let data = Some(data).filter(|data| !data.is_empty());
        Self { data, progress }
    }
}

impl Body for TrackedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.progress.sent.get_or_init(Instant::now);
        Poll::Ready(self.data.take().map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.data.as_ref().map_or(0, |data| data.len() as u64))
    }
}
