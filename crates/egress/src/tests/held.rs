//! What is still held of attempts that are over.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

const ATTEMPTS: usize = 16;
/// More than the socket buffers of the loopback interface take.
const BODY_BYTES: usize = 8 << 20;

/// The memory of a body that counts itself while it lives.
struct Counted {
    data: Vec<u8>,
    alive: Arc<AtomicUsize>,
}

impl Counted {
    fn body(alive: &Arc<AtomicUsize>) -> Bytes {
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

/// Attempts side by side against `url`, each over within `timeout`; then until no body lives.
async fn attempts(egress: &Egress, url: &str, timeout: Duration) -> Vec<AttemptResult> {
    let alive = Arc::new(AtomicUsize::new(0));
    let mut attempts = tokio::task::JoinSet::new();
    for _ in 0..ATTEMPTS {
        let egress = egress.clone();
        let request = Request {
            body: Counted::body(&alive),
            ..request(url, timeout)
        };
        attempts.spawn(async move { egress.send(Timestamp::default(), request).await.result });
    }
    assert_eq!(alive.load(Ordering::SeqCst), ATTEMPTS);
    let ended = attempts.join_all().await;
    none_alive(&alive).await;
    ended
}

/// The connections' own tasks have to see that they are cut.
async fn none_alive(bodies: &AtomicUsize) {
    let freed = async {
        while bodies.load(Ordering::SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(UNREAD_MAX + AMPLE, freed)
        .await
        .unwrap_or_else(|_| panic!("{} bodies held", bodies.load(Ordering::SeqCst)));
}

async fn end_by_deadline(egress: &Egress, url: &str) {
    for ended in attempts(egress, url, Duration::from_millis(300)).await {
        let timed_out = matches!(&ended, AttemptResult::Error(e) if e.kind == ErrorKind::Timeout);
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
    end_by_deadline(&egress, &format!("http://{address}/")).await;
    end_by_deadline(&egress, &format!("https://{address}/")).await;
}

#[tokio::test]
async fn no_body_outlives_an_attempt_that_nobody_reads_after_the_handshake() {
    let (acceptor, root) = tls::identity("127.0.0.1", &[b"h2", b"http/1.1"]);
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
    end_by_deadline(&egress, &format!("https://{address}/")).await;
}
