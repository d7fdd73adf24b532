//! What is still held of attempts that are over.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpSocket;

use super::*;

/// Far less than the receivers here take to read a body.
const SOON: Duration = Duration::from_secs(5);
/// For the handshakes of all attempts on a busy machine; then they wait for their deadline.
const LONG_ENOUGH: Duration = Duration::from_secs(1);
const ATTEMPTS: usize = 16;
/// More than the socket buffers of the loopback interface take.
const BODY_BYTES: usize = 8 << 20;

/// The memory of a body that counts itself while it lives.
pub(super) struct Counted {
    data: Vec<u8>,
    alive: Arc<AtomicUsize>,
}

impl Counted {
    pub(super) fn body(alive: &Arc<AtomicUsize>) -> Bytes {
        alive.fetch_add(1, Ordering::SeqCst);
        Bytes::from_owner(Self {
            data: vec![7; BODY_BYTES],
            alive: Arc::clone(alive),
        })
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Attempts side by side against `url`, each over within `timeout`; then until no body lives, at
/// most `held`.
async fn attempts(
    egress: &Egress,
    url: &str,
    timeout: Duration,
    held: Duration,
) -> Vec<AttemptResult> {
    let alive = Arc::new(AtomicUsize::new(0));
    let requests = Vec::from_iter((0..ATTEMPTS).map(|_| Request {
        body: Counted::body(&alive),
        ..request(url, timeout)
    }));
    assert_eq!(alive.load(Ordering::SeqCst), ATTEMPTS);
    let mut attempts = tokio::task::JoinSet::new();
    for request in requests {
        let egress = egress.clone();
        attempts.spawn(async move { egress.send(Timestamp::default(), request).await.result });
    }
    let ended = attempts.join_all().await;
    none_alive(&alive, held).await;
    ended
}

/// The connections' own tasks have to see that they are cut.
pub(super) async fn none_alive(bodies: &AtomicUsize, held: Duration) {
    let freed = async {
        while bodies.load(Ordering::SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(held, freed)
        .await
        .unwrap_or_else(|_| panic!("{} bodies held", bodies.load(Ordering::SeqCst)));
}

async fn end_by_deadline(egress: &Egress, url: &str, held: Duration) {
    for ended in attempts(egress, url, LONG_ENOUGH, held).await {
        let timed_out =
            matches!(&ended, AttemptResult::Error(e) if e.kind.as_str().starts_with("timeout_"));
        assert!(timed_out, "{ended:?}");
    }
}

#[tokio::test]
async fn no_body_outlives_an_attempt_that_nobody_reads() {
    let address = listen(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let egress = egress(dev_policy());
    for scheme in ["http", "https"] {
        end_by_deadline(&egress, &format!("{scheme}://{address}/"), SOON).await;
    }
}

#[tokio::test]
async fn no_body_outlives_an_attempt_that_nobody_reads_after_the_handshake() {
    let (acceptor, root) = tls::server_identity("127.0.0.1", &[b"http/1.1"]);
    let address = listen(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let stream = acceptor.accept(stream).await.expect("a handshake");
            std::future::pending::<()>().await;
            drop(stream);
        }
    })
    .await;
    let egress = tls::trusting(root);
    end_by_deadline(&egress, &format!("https://{address}/"), SOON).await;
}

async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> bool {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return false,
        }
    }
    true
}

/// Reads to the end of the head, answers if it has an answer, and then takes little after little:
/// enough for TCP to see that it reads. Ends when the other side is gone.
async fn sip(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), answer: Option<&[u8]>) {
    assert!(read_head(stream).await, "no head");
    if let Some(answer) = answer {
        stream.write_all(answer).await.expect("written");
    }
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    let mut little = [0; 4096];
    while stream.read(&mut little).await.is_ok_and(|read| read > 0) {
        tick.tick().await;
    }
}

/// A receiver that [`sip`]s from each connection, over TLS if it has an identity, and tells when
/// one ended. Its buffers are small: what it does not read stays on the other side.
fn sipping(
    acceptor: Option<tokio_rustls::TlsAcceptor>,
    answer: Option<&'static [u8]>,
) -> (SocketAddr, mpsc::Receiver<()>) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(16 << 10).expect("an option");
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    socket.bind(any).expect("a free port");
    let listener = socket.listen(64).expect("a listener");
    let address = listener.local_addr().expect("an address");
    let (tell, told) = mpsc::channel(2 * ATTEMPTS);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (acceptor, tell) = (acceptor.clone(), tell.clone());
            tokio::spawn(async move {
                if let Some(acceptor) = acceptor {
                    let mut stream = acceptor.accept(stream).await.expect("a handshake");
                    sip(&mut stream, answer).await;
                } else {
                    sip(&mut stream, answer).await;
                }
                tell.send(()).await.expect("heard");
            });
        }
    });
    (address, told)
}

/// Every connection of [`attempts`], and no more, ended.
async fn all_closed(mut told: mpsc::Receiver<()>) {
    let closed = async {
        for _ in 0..ATTEMPTS {
            told.recv().await.expect("the receiver runs");
        }
    };
    tokio::time::timeout(SOON, closed)
        .await
        .expect("every connection closed");
    assert!(told.try_recv().is_err(), "a connection too many");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_outlives_an_attempt_that_was_answered_before_it_was_read() {
    let (acceptor, root) = tls::server_identity("127.0.0.1", &[b"http/1.1"]);
    let egress = tls::trusting(root);
    for (scheme, acceptor) in [("http", None), ("https", Some(acceptor))] {
        for answer in [OK, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"] {
            let (address, told) = sipping(acceptor.clone(), Some(answer));
            let url = format!("{scheme}://{address}/");
            for ended in attempts(&egress, &url, AMPLE, SOON).await {
                let AttemptResult::Response(response) = ended else {
                    panic!("{scheme}: {ended:?}");
                };
                assert_eq!(response.status, 200);
            }
            all_closed(told).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_outlives_an_attempt_whose_receiver_reads_little_after_little() {
    let (acceptor, root) = tls::server_identity("127.0.0.1", &[b"http/1.1"]);
    let egress = tls::trusting(root);
    for (scheme, acceptor) in [("http", None), ("https", Some(acceptor))] {
        for answer in [
            None,
            Some(&b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"[..]),
        ] {
            let (address, told) = sipping(acceptor.clone(), answer);
            end_by_deadline(&egress, &format!("{scheme}://{address}/"), SOON).await;
            all_closed(told).await;
        }
    }
}

#[tokio::test]
async fn nothing_outlives_an_attempt_that_was_abandoned() {
    let (address, told) = sipping(None, None);
    let egress = egress(dev_policy());
    let alive = Arc::new(AtomicUsize::new(0));
    let mut abandoned = tokio::task::JoinSet::new();
    for _ in 0..ATTEMPTS {
        let egress = egress.clone();
        let request = Request {
            body: Counted::body(&alive),
            ..request(&format!("http://{address}/"), AMPLE)
        };
        abandoned.spawn(async move {
            let sending = egress.send(Timestamp::default(), request);
            let ended = tokio::time::timeout(LONG_ENOUGH, sending).await;
            assert!(ended.is_err(), "{ended:?}");
        });
    }
    abandoned.join_all().await;
    none_alive(&alive, SOON).await;
    all_closed(told).await;
}

#[tokio::test]
async fn a_small_request_answered_before_it_is_read_counts_and_its_connection_is_used_again() {
    let (tell, mut told) = mpsc::channel(8);
    let address = listen(move |mut stream| {
        let tell = tell.clone();
        async move {
            tell.send(()).await.expect("heard");
            // As much as the request's first bytes, answered; the rest of it is read afterwards.
            while stream.read_u8().await.is_ok() {
                stream.write_all(OK).await.expect("written");
                read_request(&mut stream).await;
            }
        }
    })
    .await;
    let egress = egress(dev_policy());
    for _ in 0..5 {
        let request = request(&format!("http://{address}/"), AMPLE);
        response(egress.send(Timestamp::default(), request).await);
    }
    assert!(told.recv().await.is_some());
    assert!(told.try_recv().is_err(), "a second connection");
}

/// Reads whole requests of [`BODY_BYTES`] and answers them.
async fn serve_large(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let mut body = vec![0; BODY_BYTES];
    while read_head(stream).await && stream.read_exact(&mut body).await.is_ok() {
        stream.write_all(OK).await.expect("written");
    }
}

#[tokio::test]
async fn a_connection_that_had_to_wait_for_its_receiver_is_used_again() {
    let (acceptor, root) = tls::server_identity("127.0.0.1", &[b"http/1.1"]);
    let (tell, mut told) = mpsc::channel(8);
    let plain = tell.clone();
    let http = listen(move |mut stream| {
        let tell = plain.clone();
        async move {
            tell.send(()).await.expect("heard");
            serve_large(&mut stream).await;
        }
    })
    .await;
    let https = listen(move |stream| {
        let (acceptor, tell) = (acceptor.clone(), tell.clone());
        async move {
            tell.send(()).await.expect("heard");
            let mut stream = acceptor.accept(stream).await.expect("a handshake");
            serve_large(&mut stream).await;
        }
    })
    .await;
    let egress = tls::trusting(root);
    for url in [format!("http://{http}/"), format!("https://{https}/")] {
        for _ in 0..5 {
            let large = Request {
                body: vec![b'x'; BODY_BYTES].into(),
                ..request(&url, AMPLE)
            };
            response(egress.send(Timestamp::default(), large).await);
        }
        assert!(told.recv().await.is_some());
        assert!(told.try_recv().is_err(), "a second connection");
    }
}
