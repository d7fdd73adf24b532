//! What a report says about a request, against what the receiver saw of it.

use std::collections::BTreeMap;

use tokio::net::TcpSocket;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::*;

/// What a receiver does to a connection whose first request it answered.
#[derive(Clone, Copy, Debug)]
enum Ending {
    /// Closes it at once.
    Close,
    /// Resets it at once.
    Reset,
    /// Ends its own side at once and goes on reading.
    HalfClose,
    /// Takes a second request and closes.
    CloseAfterAnother,
    /// Takes a second request and resets.
    ResetAfterAnother,
}

const ID: &str = "webhook-id";

/// The `webhook-id` of every request of a connection.
async fn serve(mut stream: TcpStream, ending: Ending) -> Vec<String> {
    let mut seen = Vec::new();
    loop {
        let request = read_request(&mut stream).await;
        let id = request
            .lines()
            .find_map(|line| line.strip_prefix("webhook-id: "));
        let Some(id) = id else {
            return seen;
        };
        seen.push(id.to_owned());
        let first = seen.len() == 1;
        if first && stream.write_all(OK).await.is_err() {
            return seen;
        }
        match ending {
            Ending::HalfClose if first => stream.shutdown().await.expect("half closed"),
            Ending::CloseAfterAnother | Ending::ResetAfterAnother if first => {}
            Ending::Reset | Ending::ResetAfterAnother => {
                stream.set_zero_linger().expect("an option");
                return seen;
            }
            Ending::Close | Ending::CloseAfterAnother => return seen,
            Ending::HalfClose => {}
        }
    }
}

/// The results of attempts one after the other, in their order, and how often the receiver saw
/// each of them.
async fn exchange(ending: Ending, attempts: usize) -> Vec<(AttemptResult, usize)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let (stop, mut stopped) = oneshot::channel::<()>();
    let receiver = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let (stream, _) = accepted.expect("a connection");
                    connections.spawn(serve(stream, ending));
                }
                _ = &mut stopped => return connections.join_all().await,
            }
        }
    });
    let egress = egress(dev_policy());
    let mut results = Vec::new();
    for number in 0..attempts {
        let mut request = request(&url, AMPLE);
        let id = HeaderValue::from_str(&number.to_string()).expect("a header value");
        request.headers.insert(HeaderName::from_static(ID), id);
        results.push(egress.send(Timestamp::default(), request).await.result);
    }
    // Closes what is left of its connections.
    drop(egress);
    stop.send(()).expect("the receiver runs");
    let seen = tokio::time::timeout(AMPLE, receiver).await;
    let mut counts = BTreeMap::<String, usize>::new();
    for id in seen.expect("in time").expect("no panic").concat() {
        *counts.entry(id).or_default() += 1;
    }
    let count = |number: usize| counts.get(&number.to_string()).copied().unwrap_or(0);
    let numbered = results.into_iter().enumerate();
    numbered
        .map(|(number, result)| (result, count(number)))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_is_one_request_whatever_becomes_of_its_connection() {
    for ending in [
        Ending::Close,
        Ending::Reset,
        Ending::HalfClose,
        Ending::CloseAfterAnother,
        Ending::ResetAfterAnother,
    ] {
        for (result, seen) in exchange(ending, 200).await {
            match &result {
                AttemptResult::Response(_) => assert_eq!(seen, 1, "{ending:?} {result:?}"),
                AttemptResult::Error(error) if error.ambiguous => {
                    assert!(seen <= 1, "{ending:?} {result:?}: seen {seen} times");
                }
                AttemptResult::Error(_) => assert_eq!(seen, 0, "{ending:?} {result:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_request_that_a_used_connection_swallowed_is_not_sent_again() {
    for (ending, kind) in [
        (Ending::CloseAfterAnother, ErrorKind::IncompleteHead),
        (Ending::ResetAfterAnother, ErrorKind::ResetHead),
    ] {
        let [(first, 1), (second, 1)] = &exchange(ending, 2).await[..] else {
            panic!("{ending:?}: not each attempt was seen once");
        };
        assert!(matches!(first, AttemptResult::Response(_)), "{first:?}");
        let AttemptResult::Error(error) = second else {
            panic!("{ending:?}: {second:?}");
        };
        assert_eq!(
            (error.kind, error.ambiguous),
            (kind, true),
            "{}",
            error.message
        );
    }
}

#[tokio::test]
async fn a_request_broken_off_halfway_is_ambiguous() {
    let address = listen(|mut stream| async move {
        let mut beginning = [0; 1024];
        stream.read_exact(&mut beginning).await.expect("a head");
        stream.set_zero_linger().expect("an option");
    })
    .await;
    let large = Request {
        // More than the socket buffers of the loopback interface take.
        body: vec![b'x'; 8 << 20].into(),
        ..request(&format!("http://{address}/"), AMPLE)
    };
    let report = egress(dev_policy()).send(Timestamp::default(), large).await;
    let error = error(report);
    assert_eq!(
        (error.kind, error.ambiguous),
        (ErrorKind::ResetRequest, true)
    );
}

#[tokio::test]
async fn a_deadline_while_connecting_is_not_ambiguous() {
    let socket = TcpSocket::new_v4().expect("a socket");
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    socket.bind(any).expect("a free port");
    let full = socket.listen(1).expect("a listener");
    let address = full.local_addr().expect("an address");
    // Linux queues one more than asked for, and does not answer what it has no room for.
    let _first = TcpStream::connect(address).await.expect("queued");
    let _second = TcpStream::connect(address).await.expect("queued");
    let url = format!("http://{address}/");
    let error = error(send(&url, Duration::from_millis(200)).await);
    assert_eq!(
        (error.kind, error.ambiguous),
        (ErrorKind::TimeoutConnect, false)
    );
    assert_eq!(&*error.message, "no connection within 200ms");
}

#[tokio::test]
async fn a_deadline_before_the_head_of_the_answer_is_complete_is_ambiguous() {
    let address = listen(|mut stream| async move {
        answer(&mut stream, b"HTTP/1.1 200 OK\r\ncontent-le").await;
        read_request(&mut stream).await;
    })
    .await;
    let url = format!("http://{address}/");
    let error = error(send(&url, Duration::from_millis(200)).await);
    assert_eq!(
        (error.kind, error.ambiguous),
        (ErrorKind::TimeoutHead, true)
    );
}

/// Nothing tells when a request without a body is written, so the report is on the safe side.
#[tokio::test]
async fn without_a_body_only_a_connection_that_was_not_made_is_not_ambiguous() {
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a free port");
    let refusing = closed.local_addr().expect("an address");
    drop(closed);
    let silent =
        listen(|mut stream| async move { while !read_request(&mut stream).await.is_empty() {} })
            .await;
    for (url, expected) in [
        (format!("http://{refusing}/"), (ErrorKind::Connect, false)),
        (format!("http://{silent}/"), (ErrorKind::TimeoutHead, true)),
        (format!("https://{silent}/"), (ErrorKind::TimeoutTls, true)),
    ] {
        let empty = Request {
            body: Bytes::new(),
            ..request(&url, Duration::from_millis(200))
        };
        let error = error(egress(dev_policy()).send(Timestamp::default(), empty).await);
        assert_eq!((error.kind, error.ambiguous), expected, "{url}");
    }
}
