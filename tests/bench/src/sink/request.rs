//! Requests of Postrider as they come over a connection: HTTP/1.1 with a body of known length.
//!
//! Decides how much is read, and which headers count. It knows no more of HTTP than what comes
//! here, for the sink shares its processors with what is measured.

use std::io;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::signature::Signed;

/// More than the heads of our requests have.
const HEADERS_MAX: usize = 48;
/// The longest request that is read.
const LENGTH_MAX: usize = 4 << 20;
/// Room for one of the usual size.
pub(super) const ROOM: usize = 4 << 10;

/// What counts of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request<'a> {
    /// Of the path; `None` = it is nobody's.
    pub(super) receiver: Option<u32>,
    /// Of `postrider-attempt`.
    pub(super) attempt: Option<u16>,
    /// What is signed, and with what.
    pub(super) signed: Signed<'a>,
}

/// A head that was read.
#[derive(Debug, PartialEq, Eq)]
struct Head<'a> {
    receiver: Option<u32>,
    attempt: Option<u16>,
    id: &'a [u8],
    timestamp: &'a [u8],
    signatures: &'a [u8],
    /// Bytes of it, and of its body.
    length: usize,
    body: usize,
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// `None` = it is not there whole.
fn head(bytes: &[u8]) -> io::Result<Option<Head<'_>>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    let status = parsed.parse(bytes).map_err(io::Error::other)?;
    let httparse::Status::Complete(length) = status else {
        return Ok(None);
    };
    let mut head = Head {
        receiver: parsed.path.and_then(receiver),
        attempt: None,
        id: &[],
        timestamp: &[],
        signatures: &[],
        length,
        body: 0,
    };
    for header in parsed.headers.iter() {
        let value = header.value;
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            head.body = number(value).ok_or_else(|| malformed("content-length"))?;
        } else if is("webhook-id") {
            head.id = value;
        } else if is("webhook-timestamp") {
            head.timestamp = value;
        } else if is("webhook-signature") {
            head.signatures = value;
        } else if is("postrider-attempt") {
            head.attempt = number(value);
        } else if is("transfer-encoding") {
            return Err(malformed("transfer-encoding"));
        }
    }
    Ok(Some(head))
}

fn receiver(path: &str) -> Option<u32> {
    path.strip_prefix("/r/")?.parse().ok()
}

fn number<N: std::str::FromStr>(value: &[u8]) -> Option<N> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// The next request of a connection, and what `take` makes of it; `None` = the other side ended
/// the connection. `bytes` is what was read and not taken.
///
/// # Errors
/// Something else than a request comes.
pub(super) async fn next<T>(
    stream: &mut (impl AsyncRead + Unpin),
    bytes: &mut BytesMut,
    take: impl FnOnce(&Request<'_>) -> io::Result<T>,
) -> io::Result<Option<T>> {
    // a head whose body is still to come is not read again before it is there
    let mut needed = 1;
    loop {
        if bytes.len() >= needed
            && let Some(head) = head(bytes)?
        {
            needed = head.length + head.body;
            if needed > LENGTH_MAX {
                return Err(malformed("too long"));
            }
            if bytes.len() >= needed {
                let taken = take(&Request {
                    receiver: head.receiver,
                    attempt: head.attempt,
                    signed: Signed {
                        id: head.id,
                        timestamp: head.timestamp,
                        body: &bytes[head.length..needed],
                        signatures: head.signatures,
                    },
                })?;
                bytes.advance(needed);
                return Ok(Some(taken));
            }
        }
        bytes.reserve(ROOM.max(needed.saturating_sub(bytes.len())));
        if bytes.len() > LENGTH_MAX {
            return Err(malformed("too long"));
        }
        if stream.read_buf(bytes).await? == 0 {
            return Ok(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::{Request, next};

    const FIRST: &[u8] = b"POST /r/17 HTTP/1.1\r\nHost: 127.1.0.1:80\r\nWebhook-Id: m\r\n\
        webhook-timestamp: 5\r\nwebhook-signature: v1,x\r\npostrider-attempt: 3\r\n\
        content-length: 4\r\n\r\nbody";
    const SECOND: &[u8] = b"POST /elsewhere HTTP/1.1\r\n\r\n";

    async fn read(mut stream: &[u8]) -> Vec<(Option<u32>, Option<u16>, Vec<u8>)> {
        let mut bytes = BytesMut::new();
        let mut read = Vec::new();
        let seen = |request: &Request<'_>| {
            let body = request.signed.body.to_vec();
            Ok((request.receiver, request.attempt, body))
        };
        while let Some(request) = next(&mut stream, &mut bytes, seen).await.unwrap() {
            read.push(request);
        }
        read
    }

    #[tokio::test]
    async fn requests_are_read_one_after_the_other_wherever_they_are_cut() {
        let first = (Some(17), Some(3), b"body".to_vec());
        let all = [FIRST, SECOND].concat();
        assert_eq!(read(&all).await, [first.clone(), (None, None, Vec::new())]);
        for cut in 0..FIRST.len() {
            let mut bytes = BytesMut::from(&FIRST[..cut]);
            let mut rest = &FIRST[cut..];
            let receiver = |request: &Request<'_>| Ok(request.receiver);
            let read = next(&mut rest, &mut bytes, receiver).await.unwrap();
            assert_eq!(read, Some(Some(17)), "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn what_ends_early_is_no_request() {
        for end in 0..FIRST.len() {
            assert_eq!(read(&FIRST[..end]).await, [], "ends at {end}");
        }
    }

    #[tokio::test]
    async fn what_is_no_request_is_refused() {
        let chunked = b"POST /r/1 HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
        let endless = b"POST /r/1 HTTP/1.1\r\ncontent-length: 9999999999\r\n\r\n";
        for mut bytes in [&chunked[..], endless, b"\x16\x03\x01"] {
            let taken = next(&mut bytes, &mut BytesMut::new(), |_| Ok(())).await;
            assert!(taken.is_err(), "{taken:?}");
        }
    }
}
