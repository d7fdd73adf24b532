//! The receivers of all endpoints, as one process of its own.
//!
//! Decides that a request is in the log before anything is answered, so whoever saw an answer
//! finds its request there. One thread, so the order of the log is the order of arrival. Leaves
//! what each receiver does to [`order`], what the log looks like to [`log`].

mod child;
pub mod log;
pub mod order;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::future::pending;
use std::io::{self, BufRead, Write};
use std::net::Ipv4Addr;
use std::path::Path;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::sleep;

pub use child::{Door, Sink};
use log::{Arrival, NO_EVENT};
use order::{Behaviour, Order, Ready};

use crate::now_us;

/// Where the side door is: not where connections of others take their ports from, so that it can
/// be opened again.
const SIDE_DOOR: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// How the bodies of our events begin, before the number.
const EVENT: &[u8] = br#"{"id":"e"#;

/// The path of a receiver.
pub fn path(receiver: u32) -> String {
    format!("/r/{receiver}")
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
    let log = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .open(log)?;
    let receivers = Rc::new(Receivers {
        log: RefCell::new(log),
        told: RefCell::default(),
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
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let side = TcpListener::bind((SIDE_DOOR, 0)).await?;
    let ready = Ready {
        port: listener.local_addr()?.port(),
        side_door: side.local_addr()?.port(),
    };
    answer_order(&ready)?;
    tokio::task::spawn_local(accept(listener, Rc::clone(&receivers)));
    let mut behind_side_door = JoinSet::new();
    behind_side_door.spawn_local(accept(side, Rc::clone(&receivers)));
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
                behind_side_door.spawn_local(accept(side, Rc::clone(&receivers)));
            }
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

/// Connections end with it.
async fn accept(listener: TcpListener, receivers: Rc<Receivers>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            // an error here is one connection that ended before it began
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                connections.spawn_local(converse(stream, Rc::clone(&receivers)));
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn converse(stream: TcpStream, receivers: Rc<Receivers>) {
    // else an answer waits for the acknowledgement of the one before
    drop(stream.set_nodelay(true));
    let service = service_fn(|request| answer(request, &receivers));
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // what the sender does wrong ends the connection
    drop(connection.await);
}

struct Receivers {
    log: RefCell<File>,
    told: RefCell<HashMap<u32, Behaviour>>,
}

impl Receivers {
    /// Writes the request down, and says what it gets.
    fn take(
        &self,
        receiver: u32,
        attempt: u16,
        body: &[u8],
    ) -> Result<Option<(u16, u32)>, io::Error> {
        let told = self.told.borrow().get(&receiver).copied();
        let answer = told.unwrap_or(Behaviour::WELL).to(attempt);
        let arrival = Arrival {
            at_us: now_us(),
            event: event(body).unwrap_or(NO_EVENT),
            receiver,
            attempt,
            status: answer.map_or(0, |(status, _)| status),
        };
        self.log.borrow_mut().write_all(&arrival.encode())?;
        Ok(answer)
    }
}

async fn answer(
    request: Request<Incoming>,
    receivers: &Receivers,
) -> Result<Response<Empty<Bytes>>, io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let receiver = head.uri.path().strip_prefix("/r/");
    let receiver = receiver.and_then(|number| number.parse().ok());
    let attempt = head.headers.get("postrider-attempt");
    let attempt = attempt.and_then(|value| value.to_str().ok()?.parse().ok());
    let (receiver, attempt) = (receiver.unwrap_or(u32::MAX), attempt.unwrap_or_default());
    let Some((status, after_ms)) = receivers.take(receiver, attempt, &body)? else {
        return pending().await;
    };
    if after_ms > 0 {
        sleep(Duration::from_millis(after_ms.into())).await;
    }
    let mut response = Response::new(Empty::new());
    *response.status_mut() = StatusCode::from_u16(status).map_err(io::Error::other)?;
    Ok(response)
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
