//! A connection that waits for its receiver only while an attempt does.
//!
//! Decides when a connection is closed hard, whatever the client still wants to write to it: when
//! the attempt failed, or was answered early, and something of its request was not taken by the
//! operating system yet. The
//! client itself would hold the socket and the whole body until it has written it all out; a
//! receiver that answers before it reads, and then reads little after little, decided how long.
//! Leaves to the client which connections are used again: those whose request went out whole.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use hyper_rustls::MaybeHttpsStream;
use hyper_util::client::legacy::connect::{CaptureConnection, Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// What a [`Line`] and the attempt that uses it know of each other.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// The client began to write something it has not written out.
    unwritten: bool,
    /// The receiver answered before it had all of that. Else what is unwritten when an attempt ends
    /// well is the next one's: the client lends the connection again before the attempt has read
    /// its answer.
    early: bool,
    /// The attempt failed; what cannot be written at once is not waited for.
    failed: bool,
    /// Nothing goes over the connection any more.
    cut: bool,
    /// Who writes; to be woken when the connection is cut.
    writer: Option<Waker>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client has something to write. Once it has begun, the end of the attempt wakes it.
    fn on_write(&self, cx: &Context<'_>) -> io::Result<()> {
        let mut state = self.state();
        if state.cut {
            return Err(Self::is_cut());
        }
        if !std::mem::replace(&mut state.unwritten, true) {
            state.early = false;
        }
        let writer = state.writer.as_ref();
        if !writer.is_some_and(|writer| writer.will_wake(cx.waker())) {
            state.writer = Some(cx.waker().clone());
        }
        Ok(())
    }

    /// Something came from the receiver.
    fn on_read(&self) {
        let mut state = self.state();
        state.early |= state.unwritten;
    }

    /// What was to be written has to wait.
    fn on_wait<T>(&self) -> Poll<io::Result<T>> {
        let mut state = self.state();
        state.cut |= state.failed;
        if state.cut {
            Poll::Ready(Err(Self::is_cut()))
        } else {
            Poll::Pending
        }
    }

    /// All was written out. With [`Self::end`] this decides under one lock whether the connection
    /// is used again.
    fn on_written(&self) -> io::Result<()> {
        let mut state = self.state();
        if state.cut {
            return Err(Self::is_cut());
        }
        state.unwritten = false;
        Ok(())
    }

    /// The attempt is over; whether the connection goes on.
    fn end(&self, failed: bool) -> bool {
        let mut state = self.state();
        state.failed |= failed;
        if state.unwritten && (failed || state.early) {
            state.cut = true;
            if let Some(writer) = state.writer.take() {
                writer.wake();
            }
        }
        !state.failed && !state.cut
    }

    fn is_cut() -> io::Error {
        io::Error::new(io::ErrorKind::ConnectionAborted, "the attempt is over")
    }
}

/// One connection, with TLS or without.
pub(crate) struct Line {
    stream: TokioIo<Stream>,
    shared: Shared,
}

impl Line {
    pub(crate) fn new(stream: Stream) -> Self {
        Self {
            stream: TokioIo::new(stream),
            shared: Shared::default(),
        }
    }

    fn socket(&self) -> &TcpStream {
        match self.stream.inner() {
            MaybeHttpsStream::Http(tcp) => tcp.inner(),
            MaybeHttpsStream::Https(tls) => tls.inner().get_ref().0.inner().inner(),
        }
    }

    fn stream(&mut self) -> Pin<&mut TokioIo<Stream>> {
        Pin::new(&mut self.stream)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.shared.state().cut {
            // The operating system would go on sending what it has taken, for as long as the
            // receiver reads a little. If it cannot be told otherwise, it does.
            self.socket().set_zero_linger().ok();
        }
    }
}

impl Connection for Line {
    fn connected(&self) -> Connected {
        self.stream.connected().extra(self.shared.clone())
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = self.stream().poll_read(cx, buf);
        if buf.filled().len() > before {
            self.shared.on_read();
        }
        read
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.shared.on_write(cx)?;
        match self.stream().poll_write(cx, buf) {
            Poll::Pending => self.shared.on_wait(),
            written => written,
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.shared.on_write(cx)?;
        match self.stream().poll_write_vectored(cx, bufs) {
            Poll::Pending => self.shared.on_wait(),
            written => written,
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// The client flushes when it has nothing left of its own; TLS may.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.stream().poll_flush(cx) {
            Poll::Pending => self.shared.on_wait(),
            flushed => {
                ready!(flushed)?;
                Poll::Ready(self.shared.on_written())
            }
        }
    }

    /// The farewell of TLS is tried, not waited for: dropping the connection closes it as well.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.stream().poll_shutdown(cx) {
            Poll::Pending => Poll::Ready(Ok(())),
            done => done,
        }
    }
}

/// An attempt's hold of the connection it is given, if it is given one. When it is dropped the
/// attempt is over: failed, unless it was [`Self::answered`].
pub(crate) struct Hold {
    connection: CaptureConnection,
    failed: bool,
}

impl Hold {
    pub(crate) const fn new(connection: CaptureConnection) -> Self {
        Self {
            connection,
            failed: true,
        }
    }

    /// The response was read as far as it is wanted.
    pub(crate) fn answered(mut self) {
        self.failed = false;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let connection = self.connection.connection_metadata();
        let Some(connected) = connection.as_ref() else {
            return;
        };
        let mut extras = http::Extensions::new();
        connected.get_extras(&mut extras);
        let goes_on = extras
            .get::<Shared>()
            .is_some_and(|shared| shared.end(self.failed));
        if !goes_on {
            connected.poison();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(line: &Shared) -> bool {
        line.on_write(&Context::from_waker(Waker::noop())).is_ok()
    }

    #[test]
    fn the_next_request_is_not_cut_by_the_end_of_the_one_before() {
        let line = Shared::default();
        assert!(write(&line) && line.on_written().is_ok());
        line.on_read();
        assert!(write(&line), "the next one has the connection");
        assert!(line.end(false), "the first one ends well");
        assert!(write(&line) && line.on_written().is_ok());
        line.on_read();
        assert!(line.end(false));
    }

    #[test]
    fn an_answer_that_came_too_early_ends_the_connection() {
        let line = Shared::default();
        assert!(write(&line));
        line.on_read();
        assert!(!line.end(false) && !write(&line));
    }

    #[test]
    fn who_answered_early_and_read_the_rest_keeps_the_connection() {
        let line = Shared::default();
        assert!(write(&line));
        line.on_read();
        assert!(line.on_written().is_ok() && line.end(false) && write(&line));
    }

    #[test]
    fn a_failed_attempt_ends_what_it_wrote() {
        let line = Shared::default();
        assert!(write(&line));
        assert!(!line.end(true) && !write(&line));
    }
}
