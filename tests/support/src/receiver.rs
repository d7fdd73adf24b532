//! An HTTP/1.1 receiver on 127.0.0.1 that writes down what arrives, then does as it is told.
//!
//! A request is recorded whole before anything is answered: who saw an answer finds its request.
//! Whether a request is right (signature, timing) is for the test to judge.

use std::collections::{HashMap, VecDeque};
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{self, Runtime};
use tokio::time::sleep;

/// What one request to a path gets.
#[derive(Clone, Debug)]
pub struct Reply {
    act: Act,
    delay: Duration,
    headers: Vec<(String, String)>,
    body: Bytes,
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Status(StatusCode),
    Reset,
    Never,
}

impl Reply {
    /// An answer with this status (100–999) and no body.
    pub fn status(code: u16) -> Self {
        let status = StatusCode::from_u16(code);
        Self::new(Act::Status(
            status.unwrap_or_else(|_| panic!("{code} is no HTTP status")),
        ))
    }

    /// No answer: the connection is reset (TCP RST).
    pub fn reset() -> Self {
        Self::new(Act::Reset)
    }

    /// No answer: the connection stays open until the other side or the receiver ends.
    pub fn never() -> Self {
        Self::new(Act::Never)
    }

    /// Waits before it answers or resets.
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Adds a header to the answer.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Gives the answer a body.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    fn new(act: Act) -> Self {
        Self {
            act,
            delay: Duration::ZERO,
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Request {
    /// When its last byte was read; for measuring.
    pub arrived: Instant,
    /// The same moment on the wall clock; for comparing with timestamps.
    pub arrived_at: SystemTime,
    pub method: String,
    /// The path and, if there is one, the query.
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// The sender's address: the same for requests on one connection.
    pub peer: SocketAddr,
}

impl Request {
    /// The header's value; `None` if it is missing or not text. The first, if repeated.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Listens from [`Receiver::start`] until dropped; connections still open are cut then.
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// `None` only while dropping.
    runtime: Option<Runtime>,
}

impl Receiver {
    /// Starts on a free port. A path without a script answers 200.
    pub fn start() -> Self {
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("receiver")
            .enable_all()
            .build()
            .expect("a thread for the receiver");
        let listener = runtime
            .block_on(TcpListener::bind("127.0.0.1:0"))
            .expect("a free port on 127.0.0.1");
        let address = listener.local_addr().expect("the listener is bound");
        let shared = Arc::new(Shared::default());
        runtime.spawn(accept(listener, Arc::clone(&shared)));
        Self {
            address,
            shared,
            runtime: Some(runtime),
        }
    }

    /// `http://127.0.0.1:PORT` and `path`, which starts with a slash.
    pub fn url(&self, path: &str) -> String {
        assert!(
            path.starts_with('/'),
            "{path:?} does not start with a slash"
        );
        format!("http://{}{path}", self.address)
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on the next request to `path` (query included) gets the first reply, and so on;
    /// the last one repeats. Replaces what was scripted for `path` before.
    pub fn script(&self, path: &str, replies: Vec<Reply>) {
        assert!(!replies.is_empty(), "a script has at least one reply");
        self.shared
            .lock()
            .scripts
            .insert(path.to_owned(), replies.into());
    }

    /// What `path` has received so far, in order of arrival.
    pub fn requests(&self, path: &str) -> Vec<Request> {
        self.shared.lock().requests_to(path)
    }

    /// Everything received so far, in order of arrival.
    pub fn all_requests(&self) -> Vec<Request> {
        self.shared.lock().requests.clone()
    }

    /// Waits until what `path` has received satisfies `enough`, and returns it.
    ///
    /// # Panics
    /// When it does not within `limit`; the message lists what arrived.
    #[track_caller]
    pub fn wait_for(
        &self,
        path: &str,
        limit: Duration,
        enough: impl Fn(&[Request]) -> bool,
    ) -> Vec<Request> {
        let deadline = Instant::now() + limit;
        let mut log = self.shared.lock();
        loop {
            let received = log.requests_to(path);
            if enough(&received) {
                return received;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let paths: Vec<&str> = log.requests.iter().map(|r| r.path.as_str()).collect();
                panic!("{path} still lacks requests after {limit:?}; received: {paths:?}");
            }
            log = self.shared.wait(log, left);
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // not the plain drop, which would panic inside a test's own async runtime
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[derive(Default)]
struct Shared {
    log: Mutex<Log>,
    arrival: Condvar,
}

#[derive(Default)]
struct Log {
    requests: Vec<Request>,
    scripts: HashMap<String, VecDeque<Reply>>,
}

impl Shared {
    // a test that panicked in its predicate has failed already
    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, log: MutexGuard<'a, Log>, limit: Duration) -> MutexGuard<'a, Log> {
        let waited = self.arrival.wait_timeout(log, limit);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Writes the request down and says what it gets, in one step: scripts follow arrival order.
    fn record(&self, request: Request) -> Reply {
        let mut log = self.lock();
        let reply = log.next_reply(&request.path);
        log.requests.push(request);
        drop(log);
        self.arrival.notify_all();
        reply
    }
}

impl Log {
    fn requests_to(&self, path: &str) -> Vec<Request> {
        let to_path = self.requests.iter().filter(|request| request.path == path);
        to_path.cloned().collect()
    }

    fn next_reply(&mut self, path: &str) -> Reply {
        let Some(script) = self.scripts.get_mut(path) else {
            return Reply::status(200);
        };
        match script.len() {
            1 => script[0].clone(),
            _ => script.pop_front().expect("scripts are never empty"),
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // an error here is one connection that ended before it began
    loop {
        if let Ok((stream, peer)) = listener.accept().await {
            tokio::spawn(serve(stream, peer, Arc::clone(&shared)));
        }
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>) {
    let service = service_fn(|request| answer(request, peer, &shared));
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // the service fails only to reset; what the sender does wrong ends the connection as well
    if (&mut connection).await.is_err() {
        let stream = connection.into_parts().io.into_inner();
        drop(stream.set_zero_linger());
    }
}

async fn answer(
    request: hyper::Request<Incoming>,
    peer: SocketAddr,
    shared: &Shared,
) -> Result<Response<Full<Bytes>>, io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let reply = shared.record(Request {
        arrived: Instant::now(),
        arrived_at: SystemTime::now(),
        method: head.method.to_string(),
        path: path.to_owned(),
        headers: head.headers,
        body,
        peer,
    });
    sleep(reply.delay).await;
    match reply.act {
        Act::Status(status) => Ok(response(status, &reply)),
        Act::Reset => Err(io::Error::from(io::ErrorKind::ConnectionReset)),
        Act::Never => pending().await,
    }
}

fn response(status: StatusCode, reply: &Reply) -> Response<Full<Bytes>> {
    let headers = reply.headers.iter();
    let builder = headers.fold(
        Response::builder().status(status),
        |builder, (name, value)| builder.header(name, value),
    );
    builder
        .body(Full::new(reply.body.clone()))
        .expect("the script's headers are valid")
}

#[cfg(test)]
mod tests {
    use super::{Receiver, Reply};
    use std::io::{ErrorKind, Read, Write};
    use std::net::TcpStream;
    use std::time::Duration;

    const LIMIT: Duration = Duration::from_secs(20);

    /// Sends one request on a new connection and reads until the other side closes.
    fn post(receiver: &Receiver, path: &str, body: &str) -> Result<String, ErrorKind> {
        let mut stream = TcpStream::connect(receiver.address()).expect("it listens");
        stream
            .set_read_timeout(Some(LIMIT))
            .expect("a limit above zero");
        let length = body.len();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\
             content-length: {length}\r\nx-mark: {body}\r\n\r\n{body}"
        )
        .expect("it reads");
        let mut answer = String::new();
        match stream.read_to_string(&mut answer) {
            Ok(_) => Ok(answer),
            Err(error) => Err(error.kind()),
        }
    }

    #[test]
    fn a_script_is_followed_and_its_last_reply_repeats() {
        let receiver = Receiver::start();
        let ok = Reply::status(200).header("x-from", "script").body("fine");
        receiver.script("/flaky", vec![Reply::status(500), ok]);
        let answers = ["a", "b", "c"].map(|body| post(&receiver, "/flaky", body).expect("HTTP"));
        assert!(answers[0].starts_with("HTTP/1.1 500 "), "{answers:?}");
        for answer in &answers[1..] {
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answers:?}");
            assert!(
                answer.contains("x-from: script") && answer.ends_with("fine"),
                "{answers:?}"
            );
        }
    }

    #[test]
    fn requests_are_recorded_per_path_in_order() {
        let receiver = Receiver::start();
        for body in ["a", "b"] {
            post(&receiver, "/one?x=1", body).expect("HTTP");
            post(&receiver, "/other", body).expect("HTTP");
        }
        let received = receiver.requests("/one?x=1");
        let bodies: Vec<&[u8]> = received
            .iter()
            .map(|request| request.body.as_ref())
            .collect();
        assert_eq!(bodies, [b"a", b"b"]);
        assert_eq!(received[1].header("x-mark"), Some("b"));
        assert_eq!(received[0].method, "POST");
        assert!(received[0].arrived <= received[1].arrived);
        assert_eq!(receiver.all_requests().len(), 4);
    }

    #[test]
    fn a_reset_is_a_reset_and_its_request_is_recorded() {
        let receiver = Receiver::start();
        receiver.script("/reset", vec![Reply::reset()]);
        assert_eq!(
            post(&receiver, "/reset", "a"),
            Err(ErrorKind::ConnectionReset)
        );
        assert_eq!(receiver.requests("/reset").len(), 1);
    }

    #[test]
    fn who_never_answers_has_recorded_the_request() {
        let receiver = Receiver::start();
        receiver.script("/never", vec![Reply::never()]);
        let mut stream = TcpStream::connect(receiver.address()).expect("it listens");
        write!(stream, "GET /never HTTP/1.1\r\nhost: test\r\n\r\n").expect("it reads");
        receiver.wait_for("/never", LIMIT, |requests| requests.len() == 1);
        stream
            .set_read_timeout(Some(Duration::from_millis(50)))
            .expect("a limit above zero");
        assert!(stream.read(&mut [0]).is_err(), "answered after all");
    }

    #[test]
    fn a_late_reply_is_late() {
        let receiver = Receiver::start();
        let delay = Duration::from_millis(80);
        receiver.script("/late", vec![Reply::status(204).after(delay)]);
        let answer = post(&receiver, "/late", "a").expect("HTTP");
        assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
        assert!(receiver.requests("/late")[0].arrived.elapsed() >= delay);
    }

    #[test]
    #[should_panic(expected = "/quiet still lacks requests")]
    fn waiting_in_vain_says_so() {
        let receiver = Receiver::start();
        receiver.wait_for("/quiet", Duration::from_millis(10), |requests| {
            !requests.is_empty()
        });
    }
}
