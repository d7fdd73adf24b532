//! A receiver of webhooks, as a merchant would run one: it verifies, misbehaves as told, and tells
//! what it saw. Used by `listen` and by `dev`.
//!
//! Decides the answer to each request. Leaves showing it to the caller.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use postrider_domain::{AttemptResult, Scheme, Timestamp};
use postrider_egress::Egress;
use postrider_signing::{ID_HEADER, Received, TOLERANCE, VerifyError, VerifyingKey};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::input;

/// Largest body that is taken in.
const BODY_BYTES_MAX: usize = 32 << 20;

/// Deliveries whose requests are counted; the oldest are forgotten first.
const COUNTED_MAX: usize = 100_000;

/// How a receiver treats the requests below a path.
#[derive(Clone)]
pub(crate) struct Behaviour {
    /// Prefix of the path; the longest that fits counts.
    pub(crate) path: String,
    /// How requests are signed.
    pub(crate) scheme: Scheme,
    /// One of these must have signed; empty = signatures are not looked at.
    pub(crate) keys: Vec<VerifyingKey>,
    /// Scheme, host and port that requests are sent to; `None` = where they arrive.
    pub(crate) url: Option<String>,
    /// Wait before answering.
    pub(crate) delay: Duration,
    /// The status of every answer, or with `fail_first` of the failing ones; default 200 or 500.
    pub(crate) status: Option<u16>,
    /// How many requests of each delivery fail before one succeeds.
    pub(crate) fail_first: Option<u32>,
    /// Pass on what does not fail here, and answer what comes back.
    pub(crate) forward: Option<Forward>,
}

impl Behaviour {
    /// Says 200 to whatever is signed with one of `keys`.
    pub(crate) fn healthy(
        path: impl Into<String>,
        scheme: Scheme,
        keys: Vec<VerifyingKey>,
    ) -> Self {
        Self {
            path: path.into(),
            scheme,
            keys,
            url: None,
            delay: Duration::ZERO,
            status: None,
            fail_first: None,
            forward: None,
        }
    }

    /// The status told in advance for the `nth` request (from 1) of a delivery, if any.
    fn told(&self, nth: u32) -> Option<u16> {
        match self.fail_first {
            Some(failing) if nth <= failing => Some(self.status.unwrap_or(500)),
            Some(_) => None,
            None => self.status,
        }
    }
}

/// Where to pass requests on to.
#[derive(Clone)]
pub(crate) struct Forward {
    pub(crate) egress: Egress,
    pub(crate) url: Arc<str>,
    pub(crate) timeout: Duration,
}

/// What a request's signature is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Signed with one of the keys, lately.
    Valid,
    /// Signed, but not so.
    Invalid(VerifyError),
    /// A signature header is missing.
    Unsigned,
    /// There is no secret to check with.
    Unchecked,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Valid => f.write_str("valid"),
            Self::Invalid(why) => write!(f, "invalid ({why})"),
            Self::Unsigned => f.write_str("unsigned"),
            Self::Unchecked => f.write_str("not checked"),
        }
    }
}

/// A request that was answered.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// When it had arrived.
    pub(crate) at: Timestamp,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) verdict: Verdict,
    /// The status it was answered with.
    pub(crate) status: u16,
    /// Where it was passed on to and that failed: why.
    pub(crate) forward_error: Option<String>,
}

impl Seen {
    /// A header's value, if it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        text(&self.headers, name)
    }
}

type OnRequest = Arc<dyn Fn(&Seen) + Send + Sync>;

/// A running receiver; dropping it without [`stop`](Self::stop) leaves it to the runtime.
pub(crate) struct Receiver {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<io::Result<()>>,
}

impl Receiver {
    /// Listens on `address` (port 0 = any free one). `on_request` is called after each answer is
    /// decided, on the receiver's task: it must not block for long.
    ///
    /// # Errors
    /// The address is taken or not ours.
    pub(crate) async fn start(
        address: SocketAddr,
        behaviours: Vec<Behaviour>,
        on_request: impl Fn(&Seen) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let shared = Shared {
            behaviours: behaviours.into(),
            counts: Arc::default(),
            on_request: Arc::new(on_request),
        };
        let router = Router::new().fallback(answer).with_state(shared);
        let (stop, stopped) = oneshot::channel();
        let server = axum::serve(listener, router).with_graceful_shutdown(async {
            // Ends the same when the handle is gone.
            drop(stopped.await);
        });
        Ok(Self {
            address,
            stop,
            task: tokio::spawn(async { server.await }),
        })
    }

    /// `http://ADDRESS:PORT`, without a path.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Takes no more requests and waits for the answers under way, at most five seconds.
    pub(crate) async fn stop(self) {
        // The server may have ended by itself.
        self.stop.send(()).ok();
        drop(tokio::time::timeout(Duration::from_secs(5), self.task).await);
    }
}

#[derive(Clone)]
struct Shared {
    behaviours: Arc<[Behaviour]>,
    counts: Arc<Mutex<Counts>>,
    on_request: OnRequest,
}

impl Behaviour {
    fn verdict(&self, url: &str, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Verdict {
        if self.keys.is_empty() {
            return Verdict::Unchecked;
        }
        let readable = |(name, value): (&'_ HeaderName, &'_ HeaderValue)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        };
        let headers: Vec<(String, String)> = headers.iter().filter_map(readable).collect();
        let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (&**n, &**v)).collect();
        let received = Received {
            url,
            headers: &headers,
            body,
        };
        let keys = &self.keys;
        match postrider_signing::verify(&self.scheme, keys, &received, now, TOLERANCE) {
            Ok(()) => Verdict::Valid,
            Err(VerifyError::NoHeader(_)) => Verdict::Unsigned,
            Err(why) => Verdict::Invalid(why),
        }
    }
}

impl Shared {
    fn behaviour(&self, path: &str) -> Option<&Behaviour> {
        let fitting = self
            .behaviours
            .iter()
            .filter(|b| path.starts_with(&*b.path));
        fitting.max_by_key(|behaviour| behaviour.path.len())
    }
}

/// How often each delivery was seen.
#[derive(Default)]
struct Counts {
    seen: HashMap<Arc<str>, u32>,
    order: VecDeque<Arc<str>>,
}

impl Counts {
    fn next(&mut self, key: String) -> u32 {
        if let Some(count) = self.seen.get_mut(&*key) {
            *count += 1;
            return *count;
        }
        if self.order.len() == COUNTED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        let key: Arc<str> = key.into();
        self.order.push_back(Arc::clone(&key));
        self.seen.insert(key, 1);
        1
    }
}

async fn answer(State(shared): State<Shared>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let Some(behaviour) = shared.behaviour(&path) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if head.method != Method::POST {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let Ok(body) = to_bytes(body, BODY_BYTES_MAX).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let at = input::now();
    let host = text(&head.headers, header::HOST.as_str()).unwrap_or_default();
    let url = match &behaviour.url {
        Some(base) => format!("{base}{}", head.uri),
        None => format!("http://{host}{}", head.uri),
    };
    let verdict = behaviour.verdict(&url, &head.headers, &body, at);
    let id = text(&head.headers, ID_HEADER).unwrap_or_default();
    let nth = {
        let mut counts = shared.counts.lock().unwrap_or_else(|e| e.into_inner());
        counts.next(format!("{} {id}", behaviour.path))
    };
    tokio::time::sleep(behaviour.delay).await;
    let mut forward_error = None;
    let (status, reply) = match (behaviour.told(nth), &behaviour.forward) {
        (Some(status), _) => (status, Bytes::new()),
        (None, Some(forward)) => match pass_on(forward, &head.headers, &body, at).await {
            Ok(answer) => answer,
            Err(why) => {
                forward_error = Some(why);
                (502, Bytes::new())
            }
        },
        (None, None) if matches!(verdict, Verdict::Valid | Verdict::Unchecked) => {
            (200, Bytes::new())
        }
        (None, None) => (401, Bytes::new()),
    };
    (shared.on_request)(&Seen {
        at,
        path,
        headers: head.headers,
        body,
        verdict,
        status,
        forward_error,
    });
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, Body::from(reply)).into_response()
}

/// The request as it came, but for what belongs to one connection.
async fn pass_on(
    forward: &Forward,
    headers: &HeaderMap,
    body: &Bytes,
    at: Timestamp,
) -> Result<(u16, Bytes), String> {
    let mut headers = headers.clone();
    for own in [
        header::HOST,
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
    ] {
        headers.remove(own);
    }
    let request = postrider_egress::Request {
        method: Method::POST,
        url: Arc::clone(&forward.url),
        headers,
        body: body.clone(),
        timeout: forward.timeout,
    };
    match forward.egress.send(at, request).await.result {
        AttemptResult::Response(response) => Ok((response.status, response.body)),
        AttemptResult::Error(error) => Err(error.message.into()),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use postrider_domain::{Secret, Signing, SigningKey, SigningSecret};
    use postrider_signing::{Message, TIMESTAMP_HEADER};

    fn key() -> SigningKey {
        SigningKey::Shared(Secret::new([7; 32]))
    }

    fn healthy(path: &str, keys: &[SigningKey]) -> Behaviour {
        let keys = keys.iter().map(|key| VerifyingKey::of(key).unwrap());
        Behaviour::healthy(path, Scheme::Standard, keys.collect())
    }

    fn signed(body: &[u8], now: Timestamp) -> HeaderMap {
        let signing = Signing {
            scheme: Scheme::Standard,
            secrets: vec![SigningSecret {
                id: "s".into(),
                key: key(),
                not_after: None,
            }],
        };
        let message = Message {
            id: "dlv_1",
            at: now,
            url: "http://127.0.0.1/",
            content_type: "text/plain",
            body,
        };
        let mut headers = HeaderMap::new();
        headers.insert(ID_HEADER, HeaderValue::from_static("dlv_1"));
        headers.insert(TIMESTAMP_HEADER, HeaderValue::from(now.as_secs()));
        for (name, value) in postrider_signing::sign(&signing, &message).unwrap() {
            headers.insert(name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_signature_is_valid_invalid_missing_or_not_looked_at() {
        let now = Timestamp::from_secs(1_000_000);
        let headers = signed(b"body", now);
        let check = |keys: &[SigningKey], headers: &HeaderMap, body: &[u8]| {
            healthy("/", keys).verdict("http://127.0.0.1/", headers, body, now)
        };
        assert_eq!(check(&[key()], &headers, b"body"), Verdict::Valid);
        assert_eq!(
            check(&[key()], &headers, b"other"),
            Verdict::Invalid(VerifyError::Mismatch("webhook-signature"))
        );
        assert_eq!(
            check(&[key()], &HeaderMap::new(), b"body"),
            Verdict::Unsigned
        );
        assert_eq!(check(&[], &headers, b"body"), Verdict::Unchecked);
    }

    #[test]
    fn each_delivery_fails_as_often_as_told() {
        let flaky = Behaviour {
            fail_first: Some(2),
            ..healthy("/", &[])
        };
        let told: Vec<_> = (1..=3).map(|nth| flaky.told(nth)).collect();
        assert_eq!(told, [Some(500), Some(500), None]);
        let dead = Behaviour {
            status: Some(503),
            ..healthy("/", &[])
        };
        assert_eq!(dead.told(9), Some(503));
        let mut counts = Counts::default();
        let mut next = |key: &str| counts.next(key.to_owned());
        assert_eq!([next("a"), next("b"), next("a")], [1, 1, 2]);
    }

    #[test]
    fn the_oldest_delivery_is_forgotten_first() {
        let mut counts = Counts::default();
        for n in 0..=COUNTED_MAX {
            assert_eq!(counts.next(n.to_string()), 1);
        }
        assert_eq!(counts.seen.len(), COUNTED_MAX);
        assert_eq!(counts.next("1".to_owned()), 2);
        assert_eq!(counts.next("0".to_owned()), 1);
    }

    #[tokio::test]
    async fn requests_are_verified_answered_and_told() {
        let (told_in, told) = std::sync::mpsc::channel();
        let behaviours = vec![
            healthy("/hooks", &[key()]),
            Behaviour {
                fail_first: Some(1),
                ..healthy("/hooks/flaky", &[])
            },
        ];
        let receiver = Receiver::start(
            ([127, 0, 0, 1], 0).into(),
            behaviours,
            move |seen: &Seen| told_in.send((seen.status, seen.verdict)).unwrap(),
        )
        .await
        .unwrap();
        let policy = postrider_guard::Policy {
            allow_http: true,
            allow_ranges: vec!["127.0.0.0/8".parse().unwrap()],
            ..postrider_guard::Policy::default()
        };
        let egress = Egress::new(policy, "test").unwrap();
        let post = async |path: &str, headers: HeaderMap| {
            let request = postrider_egress::Request {
                method: Method::POST,
                url: format!("{}{path}", receiver.url()).into(),
                headers,
                body: Bytes::from_static(b"body"),
                timeout: Duration::from_secs(10),
            };
            match egress.send(Timestamp::default(), request).await.result {
                AttemptResult::Response(response) => response.status,
                AttemptResult::Error(error) => panic!("{}", error.message),
            }
        };
        assert_eq!(post("/hooks/a", signed(b"body", input::now())).await, 200);
        assert_eq!(post("/hooks/a", HeaderMap::new()).await, 401);
        assert_eq!(post("/hooks/flaky", HeaderMap::new()).await, 500);
        assert_eq!(post("/hooks/flaky", HeaderMap::new()).await, 200);
        assert_eq!(post("/elsewhere", HeaderMap::new()).await, 404);
        receiver.stop().await;
        assert_eq!(
            told.iter().collect::<Vec<_>>(),
            [
                (200, Verdict::Valid),
                (401, Verdict::Unsigned),
                (500, Verdict::Unchecked),
                (200, Verdict::Unchecked),
            ]
        );
    }
}
