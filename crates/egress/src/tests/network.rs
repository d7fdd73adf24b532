//! Egress through a proxy, and from addresses that were chosen.

use std::net::IpAddr;

use postrider_domain::{ProxyServer, Secret};

use super::*;

/// A proxy on the loopback interface that takes one user, connects to where it is asked to and
/// tells what it was asked.
async fn proxy(says: &'static [u8]) -> (ProxyServer, mpsc::Receiver<String>) {
    let (tell, told) = mpsc::channel(8);
    let address = listen(move |mut stream| {
        let tell = tell.clone();
        async move {
            let asked = read_request(&mut stream).await;
            let target = asked.split(' ').nth(1).unwrap_or_default().to_owned();
            tell.send(asked).await.expect("heard");
            stream.write_all(says).await.expect("written");
            if let Ok(mut to) = TcpStream::connect(target).await {
                tokio::io::copy_bidirectional(&mut stream, &mut to)
                    .await
                    .ok();
            }
        }
    })
    .await;
    let server = ProxyServer {
        host: address.ip().to_string().into(),
        port: address.port(),
        credentials: Some(Secret::new(*b"me:hunter2")),
    };
    (server, told)
}

fn through(proxy: &ProxyServer, names: Names, policy: Policy) -> Egress {
    let policy = Arc::new(policy);
    let resolver = GuardedResolver::new(names, Arc::clone(&policy));
    let proxy = Some(Proxy::new(proxy));
    let connector = Connector::new(Arc::clone(&policy), resolver, proxy, Sources::default());
    let identities = Identities::of_system().expect("certificates");
    Egress::assembled(policy, HeaderValue::from_static("t"), connector, identities)
}

#[tokio::test]
async fn a_proxy_is_told_the_address_that_was_checked() {
    let receiver = listen(|mut stream| async move { while answer(&mut stream, OK).await {} }).await;
    let (server, mut told) = proxy(b"HTTP/1.1 200 OK\r\n\r\n").await;
    let names = Names::of_system().expect("name servers");
    names.remember_always("receiver.example", receiver.ip());
    let policy = Policy {
        ports: vec![receiver.port()],
        ..dev_policy()
    };
    let egress = through(&server, names, policy);
    let url = format!("http://receiver.example:{}/hook?token=x", receiver.port());
    for _ in 0..2 {
        let report = egress
            .send(Timestamp::default(), request(&url, AMPLE))
            .await;
        assert_eq!(response(report).status, 200);
    }
    let asked = told.recv().await.expect("asked");
    assert!(
        asked.starts_with(&format!("CONNECT {receiver} HTTP/1.1\r\n")),
        "{asked}"
    );
    assert!(
        asked.contains("Proxy-Authorization: Basic bWU6aHVudGVyMg==\r\n"),
        "{asked}"
    );
    assert!(
        !asked.contains("receiver.example") && !asked.contains("token"),
        "{asked}"
    );
    assert!(told.try_recv().is_err(), "a second tunnel");
}

#[tokio::test]
async fn a_proxy_is_not_asked_for_what_is_denied() {
    let (server, mut told) = proxy(b"HTTP/1.1 200 OK\r\n\r\n").await;
    let names = Names::of_system().expect("name servers");
    names.remember_always("inner.example", Ipv4Addr::new(10, 0, 0, 1).into());
    let egress = through(
        &server,
        names,
        Policy {
            allow_http: true,
            ports: vec![80],
            ..Policy::default()
        },
    );
    for (url, kind) in [
        ("http://inner.example/", ErrorKind::DeniedAnswer),
        ("http://10.0.0.1/", ErrorKind::DeniedUrl),
        ("http://localhost/", ErrorKind::DeniedUrl),
    ] {
        let error = error(egress.send(Timestamp::default(), request(url, AMPLE)).await);
        assert_eq!((error.kind, error.ambiguous), (kind, false), "{url}");
    }
    assert!(told.try_recv().is_err());
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_and_repeated_nothing_of() {
    for (says, expected) in [
        (
            &b"HTTP/1.1 407 hunter2\r\n\r\n"[..],
            "the egress proxy: tunnel error: proxy authorization required",
        ),
        (
            b"HTTP/1.1 502 hunter2\r\n\r\n",
            "the egress proxy: tunnel error: unsuccessful",
        ),
        (
            b"SSH-2.0-hunter2\r\n",
            "the egress proxy: tunnel error: unsuccessful",
        ),
    ] {
        let (server, _told) = proxy(says).await;
        let egress = through(
            &server,
            Names::of_system().expect("name servers"),
            dev_policy(),
        );
        let error = error(
            egress
                .send(Timestamp::default(), request("http://127.0.0.1:9/", AMPLE))
                .await,
        );
        assert_eq!((error.kind, error.ambiguous), (ErrorKind::Proxy, false));
        assert_eq!(&*error.message, expected);
    }
}

#[tokio::test]
async fn requests_come_from_the_source_addresses_in_turns() {
    let (tell, mut told) = mpsc::channel(8);
    let address = listen(move |mut stream| {
        let tell = tell.clone();
        async move {
            let from = stream.peer_addr().expect("an address").ip();
            tell.send(from).await.expect("heard");
            answer(&mut stream, b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").await;
        }
    })
    .await;
    let ours = ["127.0.0.2", "127.0.0.3"].map(|ip| ip.parse::<IpAddr>().expect("an address"));
    let network = Network {
        source_addresses: ours.to_vec(),
        ..Network::default()
    };
    let egress = Egress::over(&network, dev_policy(), "t").expect("a client");
    for turn in 0..4 {
        let url = format!("http://{address}/");
        response(
            egress
                .send(Timestamp::default(), request(&url, AMPLE))
                .await,
        );
        assert_eq!(told.recv().await, Some(ours[turn % 2]));
    }
}

#[test]
fn a_source_address_of_another_machine_is_an_error_at_start() {
    let network = Network {
        source_addresses: vec!["192.0.2.1".parse().expect("an address")],
        ..Network::default()
    };
    let error = Egress::over(&network, Policy::default(), "t")
        .err()
        .expect("refused");
    assert!(
        error
            .to_string()
            .starts_with("requests cannot come from the address 192.0.2.1")
    );
}
