//! Egress against real sockets on the loopback interface: each test scripts the other side.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};

use http::header::HeaderName;
use postrider_domain::{AttemptError, ErrorKind, Response};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::*;

mod ambiguity;
mod auth;
mod held;
mod kept;
mod network;
mod sessions;
mod streams;
mod tls;

const AMPLE: Duration = Duration::from_secs(20);
const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn dev_policy() -> Policy {
    Policy {
        allow_http: true,
        allow_ranges: vec!["127.0.0.0/8".parse().expect("a range")],
        ..Policy::default()
    }
}

fn egress(policy: Policy) -> Egress {
    Egress::new(policy, "Postrider/test").expect("a client")
}

fn request(url: &str, timeout: Duration) -> Request {
    Request {
        method: Method::POST,
        url: url.into(),
        headers: HeaderMap::new(),
        body: Bytes::from_static(b"{\"a\":1}"),
        timeout,
    }
}

async fn send(url: &str, timeout: Duration) -> AttemptReport {
    let request = request(url, timeout);
    egress(dev_policy())
        .send(Timestamp::from_secs(7), request)
        .await
}

fn response(report: AttemptReport) -> Response {
    match report.result {
        AttemptResult::Response(response) => response,
        AttemptResult::Error(error) => panic!("no response: {error:?}"),
    }
}

fn error(report: AttemptReport) -> AttemptError {
    match report.result {
        AttemptResult::Error(error) => error,
        AttemptResult::Response(response) => panic!("a response: {response:?}"),
    }
}

/// Serves every connection with `script`; the port it listens on.
async fn listen<F, S>(script: S) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
    S: Fn(TcpStream) -> F + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(script(stream));
        }
    });
    address
}

/// A port where a connection would be noticed: it waits to be accepted.
fn trap() -> std::net::TcpListener {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.set_nonblocking(true).expect("an option");
    listener
}

fn caught(trap: &std::net::TcpListener) -> bool {
    trap.accept().is_ok()
}

/// Reads one request: its head and as much body as `content-length` says. Empty at the end.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |value| value.parse().expect("a length"));
            if body.len() >= length {
                return text;
            }
        }
        if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
            return String::new();
        }
    }
}

/// Reads one request and writes `answer`, which the client may refuse to read to its end.
async fn answer(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), answer: &[u8]) -> bool {
    !read_request(stream).await.is_empty() && stream.write_all(answer).await.is_ok()
}

#[tokio::test]
async fn a_request_is_sent_byte_for_byte_and_reported_redacted() {
    let (tell, mut told) = mpsc::channel(1);
    let address = listen(move |mut stream| {
        let tell = tell.clone();
        async move {
            let seen = read_request(&mut stream).await;
            stream.write_all(OK).await.expect("written");
            tell.send(seen).await.expect("heard");
        }
    })
    .await;
    let url = format!("http://{address}/hooks?x=1");
    let mut sent = request(&url, AMPLE);
    for (name, value) in [
        ("webhook-id", "dlv_1"),
        ("webhook-signature", "v1,abc"),
        ("authorization", "Bearer abc"),
    ] {
        let name = HeaderName::from_static(name);
        sent.headers.insert(name, HeaderValue::from_static(value));
    }
    let report = egress(dev_policy())
        .send(Timestamp::from_secs(7), sent)
        .await;

    let seen = told.recv().await.expect("a request");
    assert!(seen.starts_with("POST /hooks?x=1 HTTP/1.1\r\n"), "{seen}");
    assert!(seen.ends_with("\r\n\r\n{\"a\":1}"), "{seen}");
    for line in [
        "webhook-id: dlv_1",
        "webhook-signature: v1,abc",
        "authorization: Bearer abc",
        "user-agent: Postrider/test",
        "content-length: 7",
    ] {
        assert!(seen.contains(&format!("{line}\r\n")), "{line} in {seen}");
    }
    assert!(!seen.contains("accept-encoding"), "{seen}");

    assert_eq!(report.started_at, Timestamp::from_secs(7));
    assert_eq!(&*report.request.url, url);
    let shown = |name: &str| {
        let mut fields = report.request.headers.iter();
        fields.find(|(n, _)| &**n == name).map(|(_, value)| value)
    };
    assert_eq!(shown("webhook-id"), Some("dlv_1"));
    assert_eq!(shown("webhook-signature"), Some("[redacted]"));
    assert_eq!(shown("authorization"), Some("[redacted]"));
    assert_eq!(shown("user-agent"), Some("Postrider/test"));
    let first_byte = report.phases.first_byte.expect("measured");
    assert!(first_byte <= report.phases.total);
    let response = response(report);
    assert_eq!((response.status, &*response.body), (200, &b"ok"[..]));
    assert!(!response.truncated);
}

#[tokio::test]
async fn an_empty_body_is_sent_with_its_length() {
    let (tell, mut told) = mpsc::channel(1);
    let address = listen(move |mut stream| {
        let tell = tell.clone();
        async move {
            tell.send(read_request(&mut stream).await)
                .await
                .expect("heard");
            stream.write_all(OK).await.expect("written");
        }
    })
    .await;
    let empty = Request {
        body: Bytes::new(),
        ..request(&format!("http://{address}/"), AMPLE)
    };
    response(egress(dev_policy()).send(Timestamp::default(), empty).await);
    let seen = told.recv().await.expect("a request");
    assert_eq!(seen.matches("content-length: 0\r\n").count(), 1, "{seen}");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let trap = trap();
    let elsewhere = trap.local_addr().expect("an address");
    for status in [301, 302, 303, 307, 308] {
        let address = listen(move |mut stream| async move {
            let head = format!(
                "HTTP/1.1 {status} Elsewhere\r\nlocation: http://{elsewhere}/\r\n\
                 content-length: 0\r\n\r\n"
            );
            answer(&mut stream, head.as_bytes()).await;
        })
        .await;
        let url = format!("http://{address}/");
        let response = response(send(&url, Duration::from_secs(2)).await);
        assert_eq!(response.status, status);
        let (name, _) = response.headers.iter().next().expect("one at least");
        assert_eq!(name, "location");
    }
    assert!(!caught(&trap));
}

#[tokio::test]
async fn an_endless_body_is_cut_at_16_kib_and_its_connection_dropped() {
    let (tell, mut told) = mpsc::channel(1);
    let address = listen(move |mut stream| {
        let tell = tell.clone();
        async move {
            let head = b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n";
            answer(&mut stream, head).await;
            while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
            tell.send(()).await.expect("heard");
        }
    })
    .await;
    let response = response(send(&format!("http://{address}/"), AMPLE).await);
    assert_eq!(response.body.len(), BODY_BYTES_MAX);
    assert!(response.truncated);
    told.recv().await.expect("the connection was closed");
}

#[tokio::test]
async fn a_body_of_exactly_16_kib_is_whole() {
    let address = listen(|mut stream| async move {
        let mut text = format!("HTTP/1.1 200 OK\r\ncontent-length: {BODY_BYTES_MAX}\r\n\r\n");
        text.push_str(&"x".repeat(BODY_BYTES_MAX));
        answer(&mut stream, text.as_bytes()).await;
    })
    .await;
    let response = response(send(&format!("http://{address}/"), AMPLE).await);
    assert_eq!(response.body.len(), BODY_BYTES_MAX);
    assert!(!response.truncated);
}

#[tokio::test]
async fn a_body_byte_by_byte_ends_at_the_deadline() {
    let address = listen(|mut stream| async move {
        answer(
            &mut stream,
            b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n",
        )
        .await;
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        while stream.write_all(b"x").await.is_ok() {
            tick.tick().await;
        }
    })
    .await;
    let timeout = Duration::from_millis(300);
    let report = send(&format!("http://{address}/"), timeout).await;
    assert!(report.phases.total >= timeout);
    assert!(report.phases.total < AMPLE);
    assert!(report.phases.first_byte.is_some());
    let error = error(report);
    assert_eq!(
        (error.kind, error.ambiguous),
        (ErrorKind::TimeoutBody, true)
    );
    assert_eq!(&*error.message, "no complete answer within 300ms");
}

#[tokio::test]
async fn a_body_that_stops_ends_the_attempt_before_its_deadline() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\nhalf";
    let address = listen(move |mut stream| async move {
        answer(&mut stream, head).await;
        read_request(&mut stream).await;
    })
    .await;
    let report = send(&format!("http://{address}/"), AMPLE).await;
    assert!(report.phases.total < AMPLE);
    let error = error(report);
    assert_eq!(
        (error.kind, error.ambiguous),
        (ErrorKind::TimeoutBody, true)
    );
    assert_eq!(&*error.message, "no more of the answer's body within 10s");
}

#[tokio::test]
async fn a_handshake_nobody_answers_ends_the_attempt_before_its_deadline() {
    let address = listen(|mut stream| async move {
        read_request(&mut stream).await;
    })
    .await;
    let report = send(&format!("https://{address}/"), AMPLE).await;
    assert!(report.phases.connect.is_some() && report.phases.first_byte.is_none());
    assert!(report.phases.tls.is_some_and(|took| took < AMPLE));
    let error = error(report);
    assert_eq!(
        (error.kind, error.ambiguous),
        (ErrorKind::TimeoutTls, false)
    );
    let says = "the TLS handshake was not complete within 10s";
    assert_eq!(&*error.message, says);
}

#[tokio::test]
async fn endless_headers_end_the_attempt() {
    let address = listen(|mut stream| async move {
        answer(&mut stream, b"HTTP/1.1 200 OK\r\n").await;
        while stream
            .write_all(b"x-a: bbbbbbbbbbbbbbbbbbbbbbbb\r\n")
            .await
            .is_ok()
        {}
    })
    .await;
    let error = error(send(&format!("http://{address}/"), AMPLE).await);
    assert_eq!(
        (error.kind, error.ambiguous),
        (ErrorKind::HeadTooLarge, true)
    );
}

#[tokio::test]
async fn silence_after_the_request_is_ambiguous() {
    let address = listen(|mut stream| async move {
        read_request(&mut stream).await;
        read_request(&mut stream).await;
    })
    .await;
    let url = format!("http://{address}/");
    let error = error(send(&url, Duration::from_millis(100)).await);
    assert_eq!(
        (error.kind, error.ambiguous),
        (ErrorKind::TimeoutHead, true)
    );
}

#[tokio::test]
async fn silence_before_the_request_is_not_ambiguous() {
    // A TLS handshake nobody answers: TCP stands, the request has not begun.
    let address = listen(|mut stream| async move {
        read_request(&mut stream).await;
    })
    .await;
    let url = format!("https://{address}/");
    let error = error(send(&url, Duration::from_millis(100)).await);
    assert_eq!(
        (error.kind, error.ambiguous),
        (ErrorKind::TimeoutTls, false)
    );
    assert_eq!(&*error.message, "no TLS handshake within 100ms");
}

#[tokio::test]
async fn a_reset_after_the_request_is_ambiguous() {
    let address = listen(|mut stream| async move {
        read_request(&mut stream).await;
        stream.set_zero_linger().expect("an option");
    })
    .await;
    let error = error(send(&format!("http://{address}/?token=hunter2"), AMPLE).await);
    assert_eq!((error.kind, error.ambiguous), (ErrorKind::ResetHead, true));
    assert!(!error.message.contains("hunter2"), "{}", error.message);
}

#[tokio::test]
async fn a_hang_up_inside_the_body_is_ambiguous() {
    let address = listen(|mut stream| async move {
        answer(
            &mut stream,
            b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        )
        .await;
    })
    .await;
    let error = error(send(&format!("http://{address}/"), AMPLE).await);
    assert_eq!(
        (error.kind, error.ambiguous),
        (ErrorKind::IncompleteBody, true)
    );
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_ambiguous() {
    let address = listen(|mut stream| async move {
        answer(&mut stream, b"SSH-2.0-OpenSSH_9.2\r\n").await;
    })
    .await;
    let error = error(send(&format!("http://{address}/"), AMPLE).await);
    assert_eq!(
        (error.kind, error.ambiguous),
        (ErrorKind::MalformedHead, true)
    );
}

#[tokio::test]
async fn a_refused_connection_is_not_ambiguous() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a free port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let error = error(send(&format!("http://{address}/?token=hunter2"), AMPLE).await);
    assert_eq!((error.kind, error.ambiguous), (ErrorKind::Connect, false));
    assert!(error.message.contains("refused"), "{}", error.message);
    assert!(!error.message.contains("hunter2"), "{}", error.message);
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_not_ambiguous() {
    // RFC 6761 keeps .invalid free of names.
    let error = error(send("https://nowhere.invalid/", AMPLE).await);
    assert_eq!((error.kind, error.ambiguous), (ErrorKind::Dns, false));
}

#[tokio::test]
async fn loopback_is_denied_without_an_exception() {
    let trap = trap();
    let port = trap.local_addr().expect("an address").port();
    let strict = egress(Policy {
        allow_http: true,
        ports: vec![port],
        ..Policy::default()
    });
    for host in [
        "127.0.0.1",
        "localhost",
        "[::ffff:127.0.0.1]",
        "0x7f.1",
        "localhost.",
    ] {
        let request = request(&format!("http://{host}:{port}/"), AMPLE);
        let error = error(strict.send(Timestamp::default(), request).await);
        assert_eq!(
            (error.kind, error.ambiguous),
            (ErrorKind::DeniedUrl, false),
            "{host}"
        );
    }
    assert!(!caught(&trap));
}

#[tokio::test]
async fn the_resolver_denies_what_the_url_does_not_show() {
    let trap = trap();
    let port = trap.local_addr().expect("an address").port();
    // An exception for ::1 makes `localhost` a fine name; 127.0.0.1 stays denied.
    let policy = Policy {
        allow_http: true,
        allow_ranges: vec!["::1/128".parse().expect("a range")],
        ..Policy::default()
    };
    let request = request(&format!("http://localhost:{port}/"), AMPLE);
    let error = error(egress(policy).send(Timestamp::default(), request).await);
    assert_eq!(
        (error.kind, error.ambiguous),
        (ErrorKind::DeniedAnswer, false)
    );
    assert_eq!(
        &*error.message,
        "the host's name resolves to a denied address"
    );
    assert!(!caught(&trap));
}

#[tokio::test]
async fn the_peer_is_checked_before_the_request_is_sent() {
    let (tell, mut told) = mpsc::channel(1);
    let address = listen(move |mut stream| {
        let tell = tell.clone();
        async move {
            tell.send(read_request(&mut stream).await)
                .await
                .expect("heard")
        }
    })
    .await;
    let policy = Policy {
        allow_http: true,
        ports: vec![address.port()],
        ..Policy::default()
    };
    // The resolver finds it fine, as it would an address that changed its meaning.
    let names = Names::of_system().expect("name servers");
    names.remember_always("inner.example", address.ip());
    let resolver = GuardedResolver::new(names, Arc::new(dev_policy()));
    let policy = Arc::new(policy);
    let connector = Connector::new(Arc::clone(&policy), resolver, None, Sources::default());
    let identities = Identities::of_system().expect("certificates");
    let egress = Egress::assembled(policy, HeaderValue::from_static("t"), connector, identities);
    let request = request(&format!("http://inner.example:{}/", address.port()), AMPLE);
    let error = error(egress.send(Timestamp::default(), request).await);
    assert_eq!(
        (error.kind, error.ambiguous),
        (ErrorKind::DeniedPeer, false)
    );
    assert_eq!(told.recv().await.as_deref(), Some(""));
}

#[tokio::test]
async fn a_bad_url_is_not_sent() {
    for url in [
        "ftp://example.com/",
        "https://a@example.com/",
        "https://example.com:1/",
        "",
    ] {
        let error = error(send(url, AMPLE).await);
        assert_eq!(
            (error.kind, error.ambiguous),
            (ErrorKind::BadUrl, false),
            "{url}"
        );
    }
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let (tell, mut told) = mpsc::channel(8);
    let address = listen(move |mut stream| {
        let tell = tell.clone();
        async move {
            tell.send(()).await.expect("heard");
            while answer(&mut stream, OK).await {}
        }
    })
    .await;
    let egress = egress(dev_policy());
    for _ in 0..5 {
        let request = request(&format!("http://{address}/"), AMPLE);
        response(egress.clone().send(Timestamp::default(), request).await);
    }
    assert!(told.recv().await.is_some());
    assert!(told.try_recv().is_err(), "a second connection");
}

#[test]
fn a_user_agent_is_a_header_value() {
    assert!(matches!(
        Egress::new(Policy::default(), "a\nb").err(),
        Some(EgressError::UserAgent(_))
    ));
}
