//! The sink by itself: who it tells apart, and what it writes down of a request.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::time::Duration;

use postrider_bench::baseline::FIRST_RECEIVER;
use postrider_bench::handshakes::{Handshakes, Wire};
use postrider_bench::sink::log::{Arrival, Connection, NO_EVENT};
use postrider_bench::sink::order::{Behaviour, Connections};
use postrider_bench::sink::{Door, Sink};
use tempfile::TempDir;

const FEW: Handshakes = Handshakes {
    hosts: 5,
    in_flight: 4,
    time: Duration::from_millis(300),
    body: 1_000,
    wire: Wire::Plain,
};

fn start() -> (TempDir, Sink) {
    let folder = TempDir::new().expect("a folder for its log");
    let program = Path::new(env!("CARGO_BIN_EXE_bench"));
    let sink = Sink::start(program, folder.path().join("log")).expect("it starts");
    (folder, sink)
}

#[test]
fn every_answer_has_a_record_that_says_what_the_request_came_over() {
    let (_folder, mut sink) = start();
    let mut reader = sink.reader().unwrap();
    for (connections, wire, new) in [
        (Connections::Kept, Wire::Plain, Connection::Plain),
        (Connections::Kept, Wire::Tls, Connection::Handshake),
        (Connections::New, Wire::Plain, Connection::Plain),
        (Connections::New, Wire::Tls, Connection::Handshake),
        (Connections::New, Wire::TlsWithSessions, Connection::Resumed),
        (
            Connections::NewWithoutSessions,
            Wire::TlsWithSessions,
            Connection::Handshake,
        ),
    ] {
        sink.connections(connections).unwrap();
        let outcome = Handshakes { wire, ..FEW }.run(&sink).unwrap();
        let arrivals = reader.more().unwrap();
        let told = format!("{connections:?} {wire:?}: {outcome:?}");
        assert_eq!(outcome.pace.failed, 0, "{told}");
        assert_eq!(arrivals.len() as u64, outcome.pace.requests, "{told}");
        let right = |arrival: &Arrival| {
            arrival.signed
                && arrival.receiver == FIRST_RECEIVER
                && arrival.event == NO_EVENT
                && (arrival.attempt, arrival.status) == (1, 200)
        };
        assert!(arrivals.iter().all(right), "{told}");
        let over = |connection| {
            let of = arrivals.iter().filter(|a| a.connection == connection);
            of.count() as u64
        };
        let opened = arrivals.len() as u64 - over(Connection::Kept);
        assert_eq!(opened, outcome.connections, "{told}");
        assert_eq!(over(Connection::Resumed), outcome.resumed, "{told}");
        assert!(over(new) > 0, "{told}");
        let kept = over(Connection::Kept) > 0;
        assert_eq!(kept, connections == Connections::Kept, "{told}");
    }
}

#[test]
fn receivers_are_spread_over_hosts_and_others_are_not_let_in() {
    let (_folder, sink) = start();
    let url = |receiver, door| sink.url(receiver, door);
    let port = sink.port(false);
    assert_eq!(
        url(300, Door::Hosts(256)),
        format!("http://127.1.0.45:{port}/r/300")
    );
    let tls = sink.port(true);
    assert_eq!(
        url(999, Door::Tls(1_000)),
        format!("https://127.1.3.232:{tls}/r/999")
    );
    for host in [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 200, 3, 4)] {
        TcpStream::connect((host, port)).expect("a loopback address");
    }
}

#[test]
fn a_signature_that_is_wrong_is_written_down_as_such() {
    let (_folder, mut sink) = start();
    sink.behave(0, 10, 1, Behaviour::WELL).unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", sink.port(false))).unwrap();
    let body = r#"{"id":"e7"}"#;
    let head = "POST /r/3 HTTP/1.1\r\nwebhook-id: e7\r\nwebhook-timestamp: 1\r\n\
         webhook-signature: v1,AAAA\r\npostrider-attempt: 2\r\ncontent-length: 11\r\n\r\n";
    stream
        .write_all(format!("{head}{body}").as_bytes())
        .unwrap();
    let mut answer = [0; 15];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    let arrivals = sink.reader().unwrap().more().unwrap();
    let [arrival] = arrivals[..] else {
        panic!("{arrivals:?}");
    };
    assert!(!arrival.signed);
    let Arrival {
        receiver,
        attempt,
        event,
        ..
    } = arrival;
    assert_eq!((receiver, attempt, event), (3, 2, 7));
}
