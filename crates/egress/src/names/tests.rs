//! Lookups at a name server of the test's own.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::proto::op::{Message, MessageType, OpCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use tokio::net::UdpSocket;

use super::*;

const PUBLIC: Ipv4Addr = Ipv4Addr::new(93, 184, 215, 14);

/// Answers by the first label of the name, and counts the questions.
struct Stub {
    names: Names,
    asked: Arc<AtomicUsize>,
}

impl Stub {
    async fn start() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let socket = socket.expect("a free port");
        let mut udp = ConnectionConfig::udp();
        udp.port = socket.local_addr().expect("an address").port();
        let asked = Arc::new(AtomicUsize::new(0));
        tokio::spawn(serve(socket, Arc::clone(&asked)));
        let server = NameServerConfig::new(Ipv4Addr::LOCALHOST.into(), true, vec![udp]);
        // Were search domains tried, `search.test` would answer for every name.
        let search = Name::from_ascii("search.test.").expect("a name");
        let config = ResolverConfig::from_parts(None, vec![search], vec![server]);
        let provider = TokioRuntimeProvider::default();
        let builder = TokioResolver::builder_with_config(config, provider);
        let names = Names::asking(builder).expect("a resolver");
        Self { names, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn serve(socket: UdpSocket, asked: Arc<AtomicUsize>) {
    let mut buffer = [0; 1500];
    while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
        asked.fetch_add(1, Ordering::SeqCst);
        let question = Message::from_vec(&buffer[..length]).expect("a question");
        if let Some(answer) = answer(&question) {
            let answer = answer.to_vec().expect("an answer");
            socket.send_to(&answer, from).await.expect("sent");
        }
    }
}

fn answer(question: &Message) -> Option<Message> {
    let query = question.queries.first()?.clone();
    let name = query.name().to_ascii();
    let mut answer = Message::new(question.id, MessageType::Response, OpCode::Query);
    answer.add_query(query.clone());
    let mut add = |ttl, data: RData| {
        answer.add_answer(Record::from_rdata(query.name().clone(), ttl, data));
    };
    let v4 = query.query_type() == RecordType::A;
    match name.split('.').next()? {
        _ if name.ends_with(".search.test.") => add(60, RData::A(PUBLIC.into())),
        "silent" => return None,
        "good" if v4 => add(60, RData::A(PUBLIC.into())),
        "good" => add(60, RData::AAAA(Ipv6Addr::LOCALHOST.into())),
        "inner" if v4 => add(60, RData::A(Ipv4Addr::LOCALHOST.into())),
        "many" if v4 => (0..40).for_each(|i| add(60, RData::A(Ipv4Addr::new(1, 1, 1, i).into()))),
        "broken" => answer.metadata.response_code = ResponseCode::ServFail,
        "none" | "inner" | "many" => {}
        _ => answer.metadata.response_code = ResponseCode::NXDomain,
    }
    Some(answer)
}

#[tokio::test]
async fn both_families_are_asked_for_and_remembered() {
    let stub = Stub::start().await;
    for _ in 0..3 {
        let found = stub
            .names
            .addresses("good.test", 0)
            .await
            .expect("addresses");
        let found: Vec<IpAddr> = found.iter().map(SocketAddr::ip).collect();
        assert_eq!(found, [IpAddr::from(PUBLIC), Ipv6Addr::LOCALHOST.into()]);
    }
    assert_eq!(stub.asked(), 2);
}

#[tokio::test]
async fn a_name_that_does_not_resolve_says_why_and_is_asked_again() {
    let stub = Stub::start().await;
    for (name, says) in [
        ("nowhere.test", "there is no such name"),
        ("none.test", "the name has no address"),
        ("broken.test", "the name server answers: Server Failure"),
        ("many.test", "the name has too many addresses"),
        ("nowhere", "there is no such name"),
        ("a..b", "there is no such name"),
    ] {
        for _ in 0..2 {
            let before = stub.asked();
            let failed = stub.names.addresses(name, 0).await.expect_err(name);
            assert_eq!(failed.to_string(), says, "{name}");
            assert!(stub.asked() > before || name == "a..b", "{name}");
        }
    }
}

#[tokio::test]
async fn localhost_resolves_without_a_question() {
    let stub = Stub::start().await;
    let found = stub
        .names
        .addresses("localhost", 0)
        .await
        .expect("addresses");
    assert!(found.iter().all(|a| a.ip().is_loopback()), "{found:?}");
    assert!(found.iter().any(|a| a.ip() == Ipv4Addr::LOCALHOST));
    assert_eq!(stub.asked(), 0);
}

#[tokio::test]
async fn silent_names_end_in_time_and_delay_nobody() {
    let stub = Stub::start().await;
    let mut silent = tokio::task::JoinSet::new();
    let begin = Instant::now();
    for i in 0..600 {
        let names = stub.names.clone();
        silent.spawn(async move { names.addresses(&format!("silent.{i}.test"), 0).await });
    }
    while stub.asked() < 600 {
        tokio::task::yield_now().await;
    }
    let found = stub
        .names
        .addresses("good.test", 0)
        .await
        .expect("addresses");
    assert_eq!(found.len(), 2);
    assert!(begin.elapsed() < LOOKUP_TIMEOUT, "{:?}", begin.elapsed());
    assert!(silent.try_join_next().is_none(), "a silent name ended");
    for ended in silent.join_all().await {
        assert!(matches!(ended, Err(Stopped::LookupTimeout)), "{ended:?}");
    }
    assert!(begin.elapsed() < LOOKUP_TIMEOUT + Duration::from_secs(2));
}

#[tokio::test]
async fn what_is_remembered_is_bounded_in_number_and_time() {
    let stub = Stub::start().await;
    let addresses: Arc<[IpAddr]> = Arc::new([PUBLIC.into()]);
    let now = Instant::now();
    for i in 0..10 * NAMES_MAX {
        stub.names.remember(&format!("{i}.test"), &addresses, now);
    }
    stub.names.remember(
        "year.test",
        &addresses,
        now + Duration::from_secs(31_536_000),
    );
    let remembered = stub.names.remembered.lock().expect("unpoisoned");
    assert!(remembered.len() <= NAMES_MAX, "{}", remembered.len());
    let until = remembered["year.test"].until;
    assert!(until <= Instant::now() + REMEMBERED_MAX);
}

#[tokio::test]
async fn an_old_answer_serves_while_nobody_answers_and_not_for_ever() {
    let stub = Stub::start().await;
    let known: Arc<[IpAddr]> = Arc::new([PUBLIC.into()]);
    let old = Duration::from_secs(60);
    let expected = [SocketAddr::new(PUBLIC.into(), 443)];
    for name in ["broken.test", "silent.test"] {
        stub.names.remember(name, &known, Instant::now());
        stub.names.age(name, old);
        let found = stub.names.addresses(name, 443).await.expect(name);
        assert_eq!(found, expected);
        let asked = stub.asked();
        let again = stub.names.addresses(name, 443).await.expect(name);
        assert_eq!(again, expected);
        assert_eq!(stub.asked(), asked, "{name} is asked for again at once");
    }
    stub.names.age("broken.test", STALE_MAX);
    let failed = stub.names.addresses("broken.test", 443).await;
    assert!(matches!(failed, Err(Stopped::Refused(_))), "{failed:?}");
}

#[tokio::test]
async fn an_old_answer_does_not_serve_against_a_new_one() {
    let stub = Stub::start().await;
    let known: Arc<[IpAddr]> = Arc::new([PUBLIC.into()]);
    for name in ["nowhere.test", "none.test", "many.test"] {
        stub.names.remember(name, &known, Instant::now());
        stub.names.age(name, Duration::from_secs(60));
        assert!(stub.names.addresses(name, 443).await.is_err(), "{name}");
        assert!(
            stub.names
                .remembered
                .lock()
                .expect("unpoisoned")
                .get(name)
                .is_none()
        );
    }
}
