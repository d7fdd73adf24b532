//! The receivers of all endpoints, as one process of its own.
//!
//! Decides that a request is in the log before anything is answered, so whoever saw an answer
//! finds its request there. One thread, so the order of the log is the order of arrival. Receivers
//! are told apart by path, and live on one host or on thousands: addresses of the loopback device.
//! Leaves what each receiver does to [`order`], what the log looks like to [`log`], whether a
//! request is signed to [`signature`], certificates to `authority`.

mod authority;
mod child;
pub mod log;
pub mod order;
pub mod signature;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::future::pending;
use std::io::{self, BufRead, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use postrider_e2e::SECRET;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::{JoinSet, LocalSet, yield_now};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::HandshakeKind;

use authority::Authority;
pub use child::{Door, Sink};
use log::{Arrival, Connection, NO_EVENT};
use order::{Behaviour, Connections, Order, Ready};
use signature::{Key, Signed};

use crate::now_us;

/// The device of all loopback addresses, which nothing from elsewhere comes in by.
const LOOPBACK: &[u8] = b"lo";
/// Connections that wait to be accepted.
const BACKLOG: u32 = 4_096;
/// The first of the hosts.
const HOSTS: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 1);
/// Where the side door is: not where connections of others take their ports from, so that it can
/// be opened again.
const SIDE_DOOR: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// How the bodies of our events begin, before the number.
const EVENT: &[u8] = br#"{"id":"e"#;

/// The path of a receiver.
pub fn path(receiver: u32) -> String {
    format!("/r/{receiver}")
}

/// The address of a host, counted from 0.
///
/// # Panics
/// Past the loopback addresses, of which there are 16 million.
pub fn host(number: u32) -> Ipv4Addr {
    let host = Ipv4Addr::from_bits(HOSTS.to_bits() + number);
    assert!(host.is_loopback(), "{host} is no loopback address");
    host
}

/// Runs the sink until standard input ends.
///
/// # Errors
/// The log cannot be written, or no port is free.
pub fn run(log: &Path) -> anyhow::Result<()> {
    let (sender, orders) = unbounded_channel();
    thread::spawn(move || {
        let lines = io::stdin().lock().lines().map_while(Result::ok);
        // without a reader the process is about to end
        lines
            .map(|line| sender.send(line))
            .take_while(Result::is_ok)
            .count()
    });
    // each connection is one
    rlimit::increase_nofile_limit(u64::MAX)?;
    let authority = Authority::new(&authority::file(log))?;
    let log = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .open(log)?;
    let receivers = Rc::new(Receivers {
        log: RefCell::new(Log {
            file: log,
            records: Vec::new(),
        }),
        told: RefCell::default(),
        connections: Cell::new(Connections::Kept),
        key: Key::new(SECRET)?,
        authority,
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, serve(receivers, orders))
}

async fn serve(
    receivers: Rc<Receivers>,
    mut orders: UnboundedReceiver<String>,
) -> anyhow::Result<()> {
    let (main, tls) = (loopback()?, loopback()?);
    let side = TcpListener::bind((SIDE_DOOR, 0)).await?;
    let ready = Ready {
        port: main.local_addr()?.port(),
        side_door: side.local_addr()?.port(),
        tls: tls.local_addr()?.port(),
    };
    answer_order(&ready)?;
    tokio::task::spawn_local(accept(main, Wire::Plain, Rc::clone(&receivers)));
    tokio::task::spawn_local(accept(tls, Wire::Tls, Rc::clone(&receivers)));
    let (mut behind_side_door, mut muted) = (JoinSet::new(), None);
    behind_side_door.spawn_local(accept(side, Wire::Plain, Rc::clone(&receivers)));
    while let Some(line) = orders.recv().await {
        match serde_json::from_str(&line).with_context(|| format!("the order {line}"))? {
            Order::Behave {
                receivers: whom,
                step,
                behaviour,
            } => {
                let mut told = receivers.told.borrow_mut();
                told.extend(whom.step_by(step.max(1) as usize).map(|r| (r, behaviour)));
            }
            Order::CloseSideDoor => behind_side_door.shutdown().await,
            Order::MuteSideDoor => {
                behind_side_door.shutdown().await;
                muted = Some(Muted::at((SIDE_DOOR, ready.side_door).into()).await?);
            }
            Order::OpenSideDoor => {
                drop(muted.take());
                let side = TcpListener::bind((SIDE_DOOR, ready.side_door)).await?;
                behind_side_door.spawn_local(accept(side, Wire::Plain, Rc::clone(&receivers)));
            }
            Order::Connections(connections) => receivers.connections.set(connections),
        }
        answer_order(&"done")?;
    }
    Ok(())
}

fn answer_order(answer: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(answer)?)?;
    Ok(out.flush()?)
}

/// Listens on all loopback addresses with one socket, and on no others.
fn loopback() -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.bind_device(Some(LOOPBACK))?;
    socket.bind((Ipv4Addr::UNSPECIFIED, 0).into())?;
    socket.listen(BACKLOG)
}

/// A door that does not answer: as many connections wait behind it as it has room for, so the
/// kernel drops what asks for another one.
struct Muted {
    _listener: TcpListener,
    _waiting: Vec<TcpStream>,
}

impl Muted {
    /// A connection that is not there by then will not be.
    const ANSWERED_WITHIN: Duration = Duration::from_millis(200);

    async fn at(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(1)?;
        let mut waiting = Vec::new();
        while let Ok(connected) = timeout(Self::ANSWERED_WITHIN, TcpStream::connect(address)).await
        {
            waiting.push(connected?);
        }
        Ok(Self {
            _listener: listener,
            _waiting: waiting,
        })
    }
}

/// The log, and what of it is still to be written.
struct Log {
    file: File,
    records: Vec<u8>,
}

impl Log {
    fn write(&mut self) -> io::Result<()> {
        self.file.write_all(&self.records)?;
        self.records.clear();
        Ok(())
    }
}

/// What is spoken behind a door.
#[derive(Clone, Copy)]
enum Wire {
    Plain,
    Tls,
}

/// Connections end with it.
async fn accept(listener: TcpListener, wire: Wire, receivers: Rc<Receivers>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            // an error here is one connection that ended before it began
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                let receivers = Rc::clone(&receivers);
                connections.spawn_local(async move {
                    // what the sender does wrong ends the connection
                    drop(receivers.serve(stream, wire).await);
                });
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

struct Receivers {
    log: RefCell<Log>,
    told: RefCell<HashMap<u32, Behaviour>>,
    connections: Cell<Connections>,
    key: Key,
    authority: Authority,
}

impl Receivers {
    async fn serve(&self, stream: TcpStream, wire: Wire) -> anyhow::Result<()> {
        // else an answer waits for the acknowledgement of the one before
        stream.set_nodelay(true)?;
        let Wire::Tls = wire else {
            return Ok(self.converse(stream, Connection::Plain).await?);
        };
        let host = stream.local_addr()?.ip();
        if self.is_hung(host) {
            return pending().await;
        }
        let settings = self.authority.settings(host)?;
        let settings = match self.connections.get() {
            Connections::NewWithoutSessions => settings.without_sessions,
            Connections::New | Connections::Kept => settings.with_sessions,
        };
        let stream = TlsAcceptor::from(settings).accept(stream).await?;
        let connection = match stream.get_ref().1.handshake_kind() {
            Some(HandshakeKind::Resumed) => Connection::Resumed,
            _ => Connection::Handshake,
        };
        Ok(self.converse(stream, connection).await?)
    }

    /// Whether the receiver of that number hangs: with a host each, it is the one on this host.
    fn is_hung(&self, host: IpAddr) -> bool {
        let IpAddr::V4(host) = host else { return false };
        let number = host.to_bits().wrapping_sub(HOSTS.to_bits());
        self.told.borrow().get(&number) == Some(&Behaviour::Hang)
    }

    /// Answers requests until the other side ends the connection, or an answer does.
    async fn converse(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        new: Connection,
    ) -> hyper::Result<()> {
        let connection = Cell::new(new);
        let service = service_fn(|request| self.answer(request, connection.take()));
        http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .await
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        connection: Connection,
    ) -> io::Result<Response<Empty<Bytes>>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let answer = self.take(&head, &body, connection);
        // all requests that are there by now are written together, by whoever comes first
        yield_now().await;
        self.log.borrow_mut().write()?;
        let Some((status, after_ms)) = answer else {
            return pending().await;
        };
        if after_ms > 0 {
            sleep(Duration::from_millis(after_ms.into())).await;
        }
        let mut response = Response::new(Empty::new());
        *response.status_mut() = StatusCode::from_u16(status).map_err(io::Error::other)?;
        if self.connections.get() != Connections::Kept {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        Ok(response)
    }

    /// Notes the request for the log, and says what it gets.
    fn take(&self, head: &Parts, body: &[u8], connection: Connection) -> Option<(u16, u32)> {
        let receiver = head.uri.path().strip_prefix("/r/");
        let receiver = receiver.and_then(|number| number.parse().ok());
        let receiver = receiver.unwrap_or(u32::MAX);
        let header = |name| {
            head.headers
                .get(name)
                .map_or(&[][..], HeaderValue::as_bytes)
        };
        let attempt = std::str::from_utf8(header("postrider-attempt"));
        let attempt = attempt.ok().and_then(|number| number.parse().ok());
        let attempt = attempt.unwrap_or_default();
        let told = self.told.borrow().get(&receiver).copied();
        let answer = told.unwrap_or(Behaviour::WELL).to(attempt);
        let arrival = Arrival {
            at_us: now_us(),
            event: event(body).unwrap_or(NO_EVENT),
            receiver,
            attempt,
            status: answer.map_or(0, |(status, _)| status),
            connection,
            signed: self.key.verifies(&Signed {
                id: header("webhook-id"),
                timestamp: header("webhook-timestamp"),
                body,
                signatures: header("webhook-signature"),
            }),
        };
        let mut log = self.log.borrow_mut();
        log.records.extend_from_slice(&arrival.encode());
        answer
    }
}

/// The number of the event in a body of ours.
pub(crate) fn event(body: &[u8]) -> Option<u64> {
    let rest = body.strip_prefix(EVENT)?;
    let end = rest.iter().position(|byte| *byte == b'"')?;
    std::str::from_utf8(&rest[..end]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::event;

    #[test]
    fn a_body_of_ours_is_known_by_its_number() {
        assert_eq!(event(br#"{"id":"e17","type":"a"}"#), Some(17));
        assert_eq!(event(br#"{"id":"f17"}"#), None);
        assert_eq!(event(br#"{"id":"e17"#), None);
        assert_eq!(event(b""), None);
    }
}
