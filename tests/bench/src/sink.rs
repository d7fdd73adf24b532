//! The receivers of all endpoints, as one process of its own.
//!
//! Decides that a request is in the log before anything is answered, so whoever saw an answer
//! finds its request there. One thread, so the order of the log is the order of arrival. Receivers
//! are told apart by path, and live on one host or on thousands: addresses of the loopback device.
//! Leaves what each receiver does to [`order`], what the log looks like to [`log`], requests to
//! `request`, certificates to `authority`.

mod authority;
mod child;
pub mod log;
pub mod order;
mod request;
pub mod signature;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, Write};
use std::net::Ipv4Addr;
use std::path::Path;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use bytes::BytesMut;
use postrider_e2e::SECRET;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::HandshakeKind;

use authority::Authority;
pub use child::{Door, Sink};
use log::{Arrival, Connection, NO_EVENT};
use order::{Behaviour, Connections, Order, Ready};
use request::Request;
use signature::Key;

use crate::now_us;

/// The device of all loopback addresses, which nothing from elsewhere comes in by.
const LOOPBACK: &[u8] = b"lo";
/// Connections that wait to be accepted.
const BACKLOG: u32 = 4_096;
/// The first of the hosts.
const HOSTS: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 1);
/// The answer nearly all get.
const WELL: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
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
        log: RefCell::new(log),
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
    let mut behind_side_door = JoinSet::new();
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
            Order::OpenSideDoor => {
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
    log: RefCell<File>,
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
        let settings = self
            .authority
            .settings(stream.local_addr().map(|host| host.ip())?)?;
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

    /// Answers requests until the other side ends the connection, or an answer does.
    async fn converse(
        &self,
        mut stream: impl AsyncRead + AsyncWrite + Unpin,
        mut connection: Connection,
    ) -> io::Result<()> {
        let mut bytes = BytesMut::with_capacity(request::ROOM);
        loop {
            let take = |request: &Request<'_>| self.take(request, connection);
            let Some(answer) = request::next(&mut stream, &mut bytes, take).await? else {
                return Ok(());
            };
            connection = Connection::Kept;
            let Some((status, after_ms)) = answer else {
                return end(&mut stream).await;
            };
            if after_ms > 0 {
                let after = Duration::from_millis(after_ms.into());
                if let Ok(ended) = timeout(after, end(&mut stream)).await {
                    return ended;
                }
            }
            let ends = self.connections.get() != Connections::Kept;
            if status == 200 && !ends {
                stream.write_all(WELL).await?;
            } else {
                let close = if ends { "connection: close\r\n" } else { "" };
                let head = format!("HTTP/1.1 {status} \r\ncontent-length: 0\r\n{close}\r\n");
                stream.write_all(head.as_bytes()).await?;
            }
            stream.flush().await?;
            if ends {
                return stream.shutdown().await;
            }
        }
    }

    /// Writes the request down, and says what it gets.
    fn take(
        &self,
        request: &Request<'_>,
        connection: Connection,
    ) -> io::Result<Option<(u16, u32)>> {
        let receiver = request.receiver.unwrap_or(u32::MAX);
        let attempt = request.attempt.unwrap_or_default();
        let told = self.told.borrow().get(&receiver).copied();
        let answer = told.unwrap_or(Behaviour::WELL).to(attempt);
        let arrival = Arrival {
            at_us: now_us(),
            event: event(request.signed.body).unwrap_or(NO_EVENT),
            receiver,
            attempt,
            status: answer.map_or(0, |(status, _)| status),
            connection,
            signed: self.key.verifies(&request.signed),
        };
        self.log.borrow_mut().write_all(&arrival.encode())?;
        Ok(answer)
    }
}

/// Waits until the other side ends the connection; what it sends is not looked at.
async fn end(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut ignored = [0; 256];
    while stream.read(&mut ignored).await? > 0 {}
    Ok(())
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
