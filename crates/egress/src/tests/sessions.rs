//! Which TLS sessions are resumed, as the receiver says.

use std::num::NonZeroUsize;

use tokio_rustls::rustls::client::{ClientSessionStore, Resumption};
use tokio_rustls::rustls::crypto::aws_lc_rs::Ticketer;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    ClientConfig, HandshakeKind, RootCertStore, ServerConfig, SupportedProtocolVersion,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::auth::Authority;
use super::*;
use crate::sessions::{KEPT_FOR, Sessions};

const LAST: &[u8] = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// A receiver of all names below `shop.example` that keeps no connection and tells of each handshake.
async fn receiver(
    authority: &Authority,
    version: &'static SupportedProtocolVersion,
) -> (SocketAddr, mpsc::UnboundedReceiver<HandshakeKind>) {
    let (certificate, key) = authority.issue("*.shop.example");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let mut config = ServerConfig::builder_with_protocol_versions(&[version])
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("a server");
    // all that it has to remember is in the tickets
    config.ticketer = Ticketer::new().expect("a ticketer");
    config.send_tls13_tickets = 4;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (tell, told) = mpsc::unbounded_channel();
    let address = listen(move |stream| {
        let (acceptor, tell) = (acceptor.clone(), tell.clone());
        async move {
            let mut stream = acceptor.accept(stream).await.expect("a handshake");
            let kind = stream.get_ref().1.handshake_kind().expect("it is over");
            tell.send(kind).expect("heard");
            answer(&mut stream, LAST).await;
        }
    })
    .await;
    (address, told)
}

fn host(number: usize) -> String {
    format!("host{number}.shop.example")
}

#[tokio::test]
async fn sessions_of_hundreds_of_hosts_are_resumed() {
    for version in [&TLS12, &TLS13] {
        let authority = Authority::new();
        let (address, mut told) = receiver(&authority, version).await;
        let names = Names::of_system().expect("name servers");
        for number in 0..200 {
            names.remember_always(&host(number), address.ip());
        }
        let policy = Policy {
            ports: vec![address.port()],
            ..dev_policy()
        };
        let egress = tls::reaching(names, policy, authority.0.der().clone());
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let mut met = 0;
            for number in 0..200 {
                let url = format!("https://{}:{}/", host(number), address.port());
                let report = egress.send(Timestamp::default(), request(&url, AMPLE));
                assert_eq!(response(report.await).status, 200);
                met += usize::from(told.recv().await == Some(expected));
            }
            assert_eq!(met, 200, "{version:?}: {expected:?}");
        }
    }
}

/// A client that keeps sessions of so many hosts, without the rest of the egress.
struct Client {
    sessions: Arc<Sessions>,
    tls: TlsConnector,
}

impl Client {
    fn of_hosts(hosts_max: usize, authority: &Authority) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority.0.der().clone()).expect("a root");
        let mut config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let hosts_max = NonZeroUsize::new(hosts_max).expect("some");
        let sessions = Arc::new(Sessions::of_hosts(hosts_max));
        config.resumption = Resumption::store(Arc::clone(&sessions) as _);
        let tls = TlsConnector::from(Arc::new(config));
        Self { sessions, tls }
    }

    async fn ask(&self, name: &ServerName<'static>, address: SocketAddr) {
        let tcp = TcpStream::connect(address).await.expect("a connection");
        let stream = self.tls.connect(name.clone(), tcp).await;
        let mut stream = stream.expect("a handshake");
        stream
            .write_all(b"GET / HTTP/1.1\r\n\r\n")
            .await
            .expect("written");
        while stream.read_u8().await.is_ok() {}
    }
}

fn server_name(number: usize) -> ServerName<'static> {
    host(number).try_into().expect("a name")
}

#[tokio::test]
async fn the_host_that_was_not_met_for_the_longest_time_goes_first() {
    for version in [&TLS12, &TLS13] {
        let authority = Authority::new();
        let (address, mut told) = receiver(&authority, version).await;
        let client = Client::of_hosts(20, &authority);
        let (full, resumed) = (HandshakeKind::Full, HandshakeKind::Resumed);
        // host 0 comes first and again: it stays
        for (numbers, expected) in [
            (0..20, full),
            (0..1, resumed),
            (20..30, full),
            (0..1, resumed),
            (11..30, resumed),
            (1..11, full),
        ] {
            for number in numbers {
                client.ask(&server_name(number), address).await;
                let told = told.recv().await;
                assert_eq!(told, Some(expected), "{version:?}: {number}");
                assert!(client.sessions.len() <= 20);
            }
        }
        assert_eq!(client.sessions.len(), 20);
    }
}

#[tokio::test]
async fn of_one_host_two_tickets_are_kept_or_one_session_of_tls_1_2() {
    let authority = Authority::new();
    let (older, _older) = receiver(&authority, &TLS12).await;
    let (newer, _newer) = receiver(&authority, &TLS13).await;
    let client = Client::of_hosts(20, &authority);
    let (name, sessions) = (server_name(0), &client.sessions);
    let tickets = || std::iter::from_fn(|| sessions.take_tls13_ticket(&name)).count();
    for _ in 0..2 {
        client.ask(&name, newer).await;
        assert!(sessions.tls12_session(&name).is_none());
        assert_eq!(tickets(), 2, "of four");
        client.ask(&name, newer).await;
        client.ask(&name, older).await;
        assert!(sessions.tls12_session(&name).is_some());
        assert_eq!(tickets(), 0);
    }
    assert_eq!(format!("{sessions:?}"), "Sessions { .. }");
}

#[tokio::test]
async fn a_certificate_is_looked_at_again_after_an_hour() {
    for version in [&TLS12, &TLS13] {
        let authority = Authority::new();
        let (address, mut told) = receiver(&authority, version).await;
        let client = Client::of_hosts(20, &authority);
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
            client.ask(&server_name(0), address).await;
            assert_eq!(told.recv().await, Some(expected), "{version:?}");
        }
        // what was resumed since does not make it younger
        for expected in [
            HandshakeKind::Resumed,
            HandshakeKind::Full,
            HandshakeKind::Resumed,
        ] {
            client.sessions.age(KEPT_FOR / 2);
            client.ask(&server_name(0), address).await;
            assert_eq!(told.recv().await, Some(expected), "{version:?}");
        }
    }
}
