//! The bytes of one connection.
//!
//! Decides what is known of them: whether something was written that the operating system has not
//! taken yet, and how much came before the head of an answer was complete. A connection that is
//! dropped with something unwritten is reset: the operating system would go on sending what it has
//! taken, for as long as the receiver reads a little. Leaves to `http1` and `http2` when it is dropped.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// More came than is read without an answer in it.
#[derive(Debug, thiserror::Error)]
#[error("more came before the head of the answer was complete than is read")]
pub(crate) struct NoHead;

/// What a line and those who use it know of each other.
#[derive(Default)]
pub(crate) struct Traffic {
    unwritten: AtomicBool,
    /// Bytes that may still come; 0 = they are not counted.
    before_head: AtomicUsize,
    /// More came.
    flooded: AtomicBool,
}

impl Traffic {
    /// Something was written that the operating system has not taken.
    pub(crate) fn is_unwritten(&self) -> bool {
        self.unwritten.load(Ordering::Acquire)
    }

    /// A request goes out, or a part of an answer came; from now on bytes count, up to so many.
    pub(crate) fn await_head(&self, bytes_max: usize) {
        self.before_head.store(bytes_max, Ordering::Release);
    }

    /// Whether more came than was allowed; then nothing more is read.
    pub(crate) fn is_flooded(&self) -> bool {
        self.flooded.load(Ordering::Acquire)
    }

    /// The head is there.
    pub(crate) fn on_head(&self) {
        self.before_head.store(0, Ordering::Release);
    }

    fn on_read(&self, bytes: usize) -> io::Result<()> {
        let room = self.before_head.load(Ordering::Acquire);
        if room == 0 {
            return Ok(());
        }
        if bytes >= room {
            self.flooded.store(true, Ordering::Release);
            return Err(io::Error::new(io::ErrorKind::InvalidData, NoHead));
        }
        // Not over the end of counting, which another thread may have told in between.
        let counted = self.before_head.compare_exchange(
            room,
            room - bytes,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        counted.ok();
        Ok(())
    }
}

/// TCP, with TLS or without.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// One connection.
pub(crate) struct Line {
    stream: Stream,
    traffic: Arc<Traffic>,
}

impl Line {
    pub(crate) fn new(stream: Stream) -> Self {
        Self {
            stream,
            traffic: Arc::default(),
        }
    }

    pub(crate) fn traffic(&self) -> Arc<Traffic> {
        Arc::clone(&self.traffic)
    }

    /// Whether both sides agreed on HTTP/2 (ALPN).
    pub(crate) fn is_http2(&self) -> bool {
        match &self.stream {
            Stream::Plain(_) => false,
            Stream::Tls(tls) => tls.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }

    fn socket(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(tcp) => tcp,
            Stream::Tls(tls) => tls.get_ref().0,
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.traffic.is_unwritten() {
            // If it cannot be told, it goes on sending.
            self.socket().set_zero_linger().ok();
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Stream::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        })?;
        Poll::Ready(self.traffic.on_read(buf.filled().len() - before))
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.traffic.unwritten.store(true, Ordering::Release);
        match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Stream::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.traffic.unwritten.store(true, Ordering::Release);
        match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Stream::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(tcp) => tcp.is_write_vectored(),
            Stream::Tls(tls) => tls.is_write_vectored(),
        }
    }

    /// The protocols flush when they have nothing left of their own; TLS may.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Stream::Tls(tls) => Pin::new(tls).poll_flush(cx),
        })?;
        postrider_points::reach!("egress.request.written", if self.traffic.is_unwritten());
        self.traffic.unwritten.store(false, Ordering::Release);
        Poll::Ready(Ok(()))
    }

    /// The farewell of TLS is tried, not waited for: dropping the connection closes it as well.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Stream::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        };
        match shut {
            Poll::Pending => Poll::Ready(Ok(())),
            done => done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_comes_before_a_head_is_counted() {
        let traffic = Traffic::default();
        assert!(traffic.on_read(usize::MAX).is_ok(), "nothing is awaited");
        traffic.await_head(1024);
        assert!(traffic.on_read(512).is_ok() && !traffic.is_flooded());
        assert!(traffic.on_read(512).is_err() && traffic.is_flooded());
        traffic.on_head();
        assert!(traffic.on_read(1024).is_ok());
    }
}
