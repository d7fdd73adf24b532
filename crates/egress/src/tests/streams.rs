//! Egress against receivers that speak HTTP/2: a real one, and one whose frames are written by hand.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::BytesMut;
use h2::server;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::held::{Counted, none_alive};
use super::*;

const SOON: Duration = Duration::from_secs(5);

/// What a receiver saw.
#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    requests: AtomicUsize,
    open: AtomicUsize,
    most_open: AtomicUsize,
}

/// A receiver that allows so many streams of a connection and answers after `delay`.
async fn receiver(streams: u32, delay: Duration) -> (String, Egress, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    let told = Arc::clone(&seen);
    let (url, egress) = over_tls(move |stream| {
        let seen = Arc::clone(&told);
        async move {
            seen.connections.fetch_add(1, Ordering::SeqCst);
            let mut builder = server::Builder::new();
            builder.max_concurrent_streams(streams);
            let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else {
                return;
            };
            while let Some(Ok((request, respond))) = connection.accept().await {
                tokio::spawn(respond_to(request, respond, delay, Arc::clone(&seen)));
            }
        }
    })
    .await;
    (url, egress, seen)
}

async fn respond_to(
    request: http::Request<h2::RecvStream>,
    mut respond: server::SendResponse<Bytes>,
    delay: Duration,
    seen: Arc<Seen>,
) {
    let open = seen.open.fetch_add(1, Ordering::SeqCst) + 1;
    seen.most_open.fetch_max(open, Ordering::SeqCst);
    assert_eq!(request.headers()["content-length"], "7");
    assert!(!request.headers().contains_key("host"));
    let mut body = request.into_body();
    while let Some(Ok(part)) = body.data().await {
        body.flow_control()
            .release_capacity(part.len())
            .expect("released");
    }
    tokio::time::sleep(delay).await;
    seen.open.fetch_sub(1, Ordering::SeqCst);
    seen.requests.fetch_add(1, Ordering::SeqCst);
    if let Ok(mut stream) = respond.send_response(http::Response::new(()), false) {
        stream.send_data(Bytes::from_static(b"ok"), true).ok();
    }
}

/// A receiver that agrees on HTTP/2 and then does as `script` says.
async fn over_tls<F, S>(script: S) -> (String, Egress)
where
    F: Future<Output = ()> + Send + 'static,
    S: Fn(TlsStream<TcpStream>) -> F + Clone + Send + Sync + 'static,
{
    let (acceptor, root): (TlsAcceptor, _) =
        tls::server_identity("127.0.0.1", &[b"h2", b"http/1.1"]);
    let address = listen(move |stream| {
        let (acceptor, script) = (acceptor.clone(), script.clone());
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
                script(stream).await;
            }
        }
    })
    .await;
    (format!("https://{address}/hook"), tls::trusting(root))
}

async fn at_once(
    egress: &Egress,
    url: &str,
    attempts: usize,
    timeout: Duration,
) -> Vec<AttemptReport> {
    let mut sending = tokio::task::JoinSet::new();
    for _ in 0..attempts {
        let (egress, request) = (egress.clone(), request(url, timeout));
        sending.spawn(async move { egress.send(Timestamp::default(), request).await });
    }
    sending.join_all().await
}

#[tokio::test]
async fn http2_is_spoken_where_the_receiver_does_and_a_connection_carries_many_requests() {
    let (url, egress, seen) = receiver(100, Duration::from_millis(50)).await;
    let first = egress
        .send(Timestamp::default(), request(&url, AMPLE))
        .await;
    for phase in [
        first.phases.connect,
        first.phases.tls,
        first.phases.first_byte,
    ] {
        assert!(
            phase.is_some_and(|took| took <= first.phases.total),
            "{first:?}"
        );
    }
    assert_eq!(&*response(first).body, b"ok");
    for report in at_once(&egress, &url, 50, AMPLE).await {
        assert_eq!((report.phases.connect, report.phases.tls), (None, None));
        assert_eq!(response(report).status, 200);
    }
    assert_eq!(seen.connections.load(Ordering::SeqCst), 1);
    assert!(seen.most_open.load(Ordering::SeqCst) > 10);
}

#[tokio::test]
async fn a_receiver_that_allows_one_stream_gets_one_at_a_time_on_each_connection() {
    let (url, egress, seen) = receiver(1, Duration::from_millis(20)).await;
    for _ in 0..3 {
        for report in at_once(&egress, &url, 10, AMPLE).await {
            assert_eq!(response(report).status, 200);
        }
    }
    assert_eq!(seen.requests.load(Ordering::SeqCst), 30);
    assert!(seen.connections.load(Ordering::SeqCst) <= 10);
}

#[tokio::test]
async fn a_receiver_that_allows_no_stream_is_not_waited_for_and_holds_nothing() {
    let (url, egress, seen) = receiver(0, Duration::ZERO).await;
    let alive = Arc::new(AtomicUsize::new(0));
    let mut sending = tokio::task::JoinSet::new();
    for timeout in [Duration::from_millis(300), AMPLE].repeat(8) {
        let egress = egress.clone();
        let request = Request {
            body: Counted::body(&alive),
            ..request(&url, timeout)
        };
        sending.spawn(async move { error(egress.send(Timestamp::default(), request).await) });
    }
    for error in sending.join_all().await {
        assert!(!error.ambiguous, "{error:?}");
        // A busy machine may not come as far as to wait for a stream.
        let expected = match error.kind {
            ErrorKind::UnprocessedNoStream => "the receiver allows no HTTP/2 stream",
            _ => "within 300ms",
        };
        assert!(error.message.ends_with(expected), "{error:?}");
    }
    none_alive(&alive, SOON).await;
    assert_eq!(seen.requests.load(Ordering::SeqCst), 0);
    assert_eq!(egress.0.pool.len(), 0);
}

/// The receiver takes the head of every request, and of the bodies as much as its window says.
async fn unread(answer: bool) -> (String, Egress) {
    over_tls(move |stream| async move {
        let mut builder = server::Builder::new();
        builder
            .initial_window_size(1 << 20)
            .initial_connection_window_size(1 << 30);
        let mut connection = builder.handshake::<_, Bytes>(stream).await.expect("HTTP/2");
        let mut kept = Vec::new();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            if answer {
                respond
                    .send_response(http::Response::new(()), true)
                    .expect("answered");
            }
            kept.push((request, respond));
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_body_outlives_an_attempt_that_an_http2_receiver_does_not_read() {
    for answers in [false, true] {
        let (url, egress) = unread(answers).await;
        let alive = Arc::new(AtomicUsize::new(0));
        for _ in 0..3 {
            let mut sending = tokio::task::JoinSet::new();
            for _ in 0..16 {
                let egress = egress.clone();
                let request = Request {
                    body: Counted::body(&alive),
                    ..request(&url, Duration::from_secs(2))
                };
                sending.spawn(async move { egress.send(Timestamp::default(), request).await });
            }
            for report in sending.join_all().await {
                match report.result {
                    AttemptResult::Response(response) => assert!(answers && response.status == 200),
                    AttemptResult::Error(error) => {
                        assert!(!answers && error.ambiguous, "{error:?}");
                        assert_eq!(error.kind, ErrorKind::TimeoutRequest);
                    }
                }
            }
            none_alive(&alive, SOON).await;
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .expect("a short frame")
        .to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_HEADERS: u8 = 4;
const END_STREAM: u8 = 1;

/// Reads frames until one of this kind, and says of which stream it is.
async fn read_frame(stream: &mut TlsStream<TcpStream>, kind: u8) -> Option<u32> {
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.ok()?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await.ok()?;
        if head[3] == kind {
            return Some(u32::from_be_bytes([head[5], head[6], head[7], head[8]]));
        }
    }
}

/// Both sides' first words.
async fn greet(stream: &mut TlsStream<TcpStream>) -> Option<()> {
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await.ok()?;
    assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.ok()?;
    read_frame(stream, SETTINGS).await?;
    stream.write_all(&frame(SETTINGS, 1, 0, &[])).await.ok()
}

fn status(stream: u32, status: &str, last: bool) -> Vec<u8> {
    // Literal without indexing, name 8 of the static table: `:status`.
    let mut block = vec![0x08, 3];
    block.extend(status.as_bytes());
    let flags = if last {
        END_HEADERS | END_STREAM
    } else {
        END_HEADERS
    };
    frame(HEADERS, flags, stream, &block)
}

fn go_away(last_stream: u32) -> Vec<u8> {
    let mut payload = last_stream.to_be_bytes().to_vec();
    payload.extend(0_u32.to_be_bytes());
    frame(GOAWAY, 0, 0, &payload)
}

/// A receiver that answers `good` requests of each connection and then writes `rest` for another.
async fn by_hand(
    good: usize,
    rest: impl Fn(u32) -> Vec<u8> + Clone + Send + Sync + 'static,
) -> (String, Egress, Arc<AtomicUsize>) {
    let requests = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&requests);
    let (url, egress) = over_tls(move |mut stream| {
        let (rest, requests) = (rest.clone(), Arc::clone(&count));
        async move {
            if greet(&mut stream).await.is_none() {
                return;
            }
            for number in 0.. {
                let Some(id) = read_frame(&mut stream, HEADERS).await else {
                    return;
                };
                requests.fetch_add(1, Ordering::SeqCst);
                let words = if number < good {
                    status(id, "200", true)
                } else {
                    rest(id)
                };
                stream.write_all(&words).await.expect("written");
                if number >= good {
                    break;
                }
            }
            // Until the other side has had enough.
            stream.shutdown().await.ok();
            let mut unread = BytesMut::new();
            while stream
                .read_buf(&mut unread)
                .await
                .is_ok_and(|read| read > 0)
            {
                unread.clear();
            }
        }
    })
    .await;
    (url, egress, requests)
}

#[tokio::test]
async fn what_a_receiver_refuses_or_leaves_behind_is_not_ambiguous() {
    let refuse = |id| frame(RST_STREAM, 0, id, &7_u32.to_be_bytes());
    for (rest, kind) in [
        (refuse as fn(u32) -> Vec<u8>, ErrorKind::UnprocessedRefused),
        (|id| go_away(id - 1), ErrorKind::UnprocessedGoaway),
    ] {
        let (url, egress, requests) = by_hand(0, rest).await;
        let error = error(
            egress
                .send(Timestamp::default(), request(&url, AMPLE))
                .await,
        );
        assert_eq!((error.kind, error.ambiguous), (kind, false));
        assert!(
            error.message.contains("before processing it"),
            "{}",
            error.message
        );
        assert_eq!(requests.load(Ordering::SeqCst), 1, "sent once");
    }
}

#[tokio::test]
async fn what_a_receiver_took_before_it_left_is_ambiguous() {
    let cancel = |id| frame(RST_STREAM, 0, id, &8_u32.to_be_bytes());
    for (rest, kind) in [
        (cancel as fn(u32) -> Vec<u8>, ErrorKind::H2Reset),
        (go_away, ErrorKind::IncompleteHead),
        (|_| Vec::new(), ErrorKind::IncompleteHead),
    ] {
        let (url, egress, requests) = by_hand(0, rest).await;
        let error = error(
            egress
                .send(Timestamp::default(), request(&url, AMPLE))
                .await,
        );
        assert_eq!(
            (error.kind, error.ambiguous),
            (kind, true),
            "{}",
            error.message
        );
        assert_eq!(requests.load(Ordering::SeqCst), 1, "sent once");
    }
}

#[tokio::test]
async fn a_request_that_crosses_a_farewell_is_sent_again_once() {
    let (url, egress, requests) = by_hand(1, |id| go_away(id - 1)).await;
    for _ in 0..5 {
        let report = egress
            .send(Timestamp::default(), request(&url, AMPLE))
            .await;
        assert_eq!(response(report).status, 200);
    }
    // The first of each connection is answered, the next one left behind.
    assert_eq!(requests.load(Ordering::SeqCst), 9);
}

#[tokio::test]
async fn a_flood_of_interim_answers_ends_the_attempt() {
    let flood = |id| (0..10_000).flat_map(|_| status(id, "103", false)).collect();
    let (url, egress, _) = by_hand(0, flood).await;
    let http1 = listen(|mut stream| async move {
        answer(&mut stream, b"").await;
        let early = b"HTTP/1.1 103 Early Hints\r\nlink: </>\r\n\r\n".repeat(100);
        while stream.write_all(&early).await.is_ok() {}
    })
    .await;
    for (url, says) in [
        (url, "more than 16 interim answers"),
        (
            format!("http://{http1}/"),
            "more came before the head of the answer",
        ),
    ] {
        let begin = Instant::now();
        let error = error(
            egress
                .send(Timestamp::default(), request(&url, AMPLE))
                .await,
        );
        assert_eq!(
            (error.kind, error.ambiguous),
            (ErrorKind::InterimFlood, true)
        );
        assert!(error.message.contains(says), "{}", error.message);
        assert!(begin.elapsed() < AMPLE / 2);
    }
}

#[tokio::test]
async fn a_few_interim_answers_are_passed_over() {
    let (url, egress, _) = by_hand(0, |id| {
        let mut words = status(id, "103", false).repeat(3);
        words.extend(status(id, "204", true));
        words
    })
    .await;
    let report = egress
        .send(Timestamp::default(), request(&url, AMPLE))
        .await;
    assert_eq!(response(report).status, 204);
}

#[tokio::test]
async fn a_head_that_is_too_large_ends_the_attempt() {
    let (url, egress, _) = by_hand(0, |id| {
        let mut block = vec![0x08, 3];
        block.extend(b"200");
        for _ in 0..4 {
            // Literal without indexing, a new name; 16,000 bytes of value in Huffman-free text.
            block.extend([0x00, 1, b'x', 0x7f, 0x81, 0x7c]);
            block.extend([b'v'; 16_000]);
        }
        let mut words = frame(HEADERS, END_STREAM, id, &block[..16_000]);
        let mut parts = block[16_000..].chunks(16_000).peekable();
        while let Some(part) = parts.next() {
            let flags = if parts.peek().is_none() {
                END_HEADERS
            } else {
                0
            };
            words.extend(frame(9, flags, id, part));
        }
        words
    })
    .await;
    let error = error(
        egress
            .send(Timestamp::default(), request(&url, AMPLE))
            .await,
    );
    assert_eq!(
        (error.kind, error.ambiguous),
        (ErrorKind::H2Protocol, true),
        "{}",
        error.message
    );
    assert!(
        error.message.contains("stream error detected"),
        "{}",
        error.message
    );
}
