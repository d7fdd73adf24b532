//! Egress to receivers that ask who we are.

use std::sync::atomic::{AtomicUsize, Ordering};

use postrider_domain::{Auth, ClientCertificate, Credentials, OAuth2, Secret};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::*;

pub(super) struct Authority(pub(super) CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    pub(super) fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let certificate = CertificateParams::new([name.to_owned()])
            .and_then(|params| params.signed_by(&key, &self.0))
            .expect("a certificate");
        (certificate, key)
    }

    fn client(&self, name: &str) -> ClientCertificate {
        let (certificate, key) = self.issue(name);
        ClientCertificate {
            chain: certificate.pem().into(),
            key: Secret::new(key.serialize_pem().into_bytes()),
        }
    }

    /// A server that demands a certificate of this authority.
    fn demanding(&self) -> TlsAcceptor {
        let (certificate, key) = self.issue("127.0.0.1");
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("a root");
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build();
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let config = ServerConfig::builder()
            .with_client_cert_verifier(verifier.expect("a verifier"))
            .with_single_cert(vec![certificate.der().clone()], key);
        TlsAcceptor::from(Arc::new(config.expect("a server")))
    }

    fn ca(&self) -> Option<Box<str>> {
        Some(self.0.pem().into())
    }
}

#[tokio::test]
async fn a_certificate_is_shown_and_no_connection_shared_with_another() {
    let authority = Authority::new();
    let acceptor = authority.demanding();
    let (tell, mut told) = mpsc::channel(16);
    let address = listen(move |stream| {
        let (acceptor, tell) = (acceptor.clone(), tell.clone());
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                return;
            };
            let shown = stream.get_ref().1.peer_certificates().expect("one")[0].to_vec();
            while answer(&mut stream, OK).await {
                tell.send(shown.clone()).await.expect("heard");
            }
        }
    })
    .await;
    let egress = egress(dev_policy());
    let url = format!("https://{address}/");
    let auths = ["a", "b"].map(|name| Auth {
        certificate: Some(authority.client(name)),
        ca: authority.ca(),
        ..Auth::NONE
    });
    let mut shown = Vec::new();
    for auth in auths.iter().cycle().take(4) {
        let report = egress
            .send_as(Timestamp::default(), request(&url, AMPLE), auth)
            .await;
        assert_eq!(report.phases.tls.is_some(), shown.len() < 2);
        assert_eq!(response(report).status, 200);
        shown.push(told.recv().await.expect("a certificate"));
    }
    assert_eq!((&shown[0], &shown[1]), (&shown[2], &shown[3]));
    assert_ne!(shown[0], shown[1]);

    let nobody = Auth {
        certificate: None,
        ..auths[0].clone()
    };
    for auth in [&Auth::NONE, &nobody] {
        let report = egress
            .send_as(Timestamp::default(), request(&url, AMPLE), auth)
            .await;
        error(report);
    }
    assert!(told.try_recv().is_err());
}

#[tokio::test]
async fn a_private_authority_is_trusted_in_place_of_the_systems() {
    let (acceptor, root) = tls::server_identity("127.0.0.1", &[]);
    let address = listen(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                while answer(&mut stream, OK).await {}
            }
        }
    })
    .await;
    let egress = tls::trusting(root);
    let url = format!("https://{address}/");
    let auth = Auth {
        ca: Authority::new().ca(),
        ..Auth::NONE
    };
    response(
        egress
            .send(Timestamp::default(), request(&url, AMPLE))
            .await,
    );
    let report = egress.send_as(Timestamp::default(), request(&url, AMPLE), &auth);
    assert_eq!(error(report.await).kind, ErrorKind::TlsUntrusted);
}

#[tokio::test]
async fn a_certificate_that_is_none_ends_the_attempt_and_is_not_repeated() {
    let authority = Authority::new();
    let good = authority.client("a");
    let bad = [
        ClientCertificate {
            chain: "hunter2".into(),
            ..good.clone()
        },
        ClientCertificate {
            key: Secret::new(*b"hunter2"),
            ..good.clone()
        },
        ClientCertificate {
            key: authority.client("b").key,
            ..good
        },
    ];
    for certificate in bad {
        let auth = Auth {
            certificate: Some(certificate),
            ..Auth::NONE
        };
        let request = request("https://127.0.0.1:9/", AMPLE);
        let egress = egress(dev_policy());
        let error = error(egress.send_as(Timestamp::default(), request, &auth).await);
        assert_eq!((error.kind, error.ambiguous), (ErrorKind::Identity, false));
        let says = "the endpoint's auth or ca cannot be used: ";
        assert!(error.message.starts_with(says), "{}", error.message);
        assert!(!error.message.contains("hunter2"), "{}", error.message);
    }
}

/// A receiver that answers with what it is told to, and tells the header it was shown.
async fn receiver(answers: &'static [u8]) -> (String, mpsc::Receiver<String>) {
    let (tell, told) = mpsc::channel(64);
    let address = listen(move |mut stream| {
        let tell = tell.clone();
        async move {
            loop {
                let seen = read_request(&mut stream).await;
                if seen.is_empty() {
                    return;
                }
                let shown = seen
                    .lines()
                    .find(|line| line.starts_with("authorization: "));
                tell.send(shown.unwrap_or_default().to_owned())
                    .await
                    .expect("heard");
                stream.write_all(answers).await.expect("written");
            }
        }
    })
    .await;
    (format!("http://{address}/"), told)
}

fn with(credentials: Credentials) -> Auth {
    Auth {
        credentials: Some(credentials),
        ..Auth::NONE
    }
}

#[tokio::test]
async fn credentials_are_sent_and_shown_nowhere() {
    let (url, mut told) = receiver(OK).await;
    let egress = egress(dev_policy());
    let basic = Credentials::Basic {
        username: "me".into(),
        password: Secret::new(*b"hunter2"),
    };
    let bearer = Credentials::Bearer(Secret::new(*b"hunter2"));
    for (credentials, expected) in [
        (basic, "authorization: Basic bWU6aHVudGVyMg=="),
        (bearer, "authorization: Bearer hunter2"),
    ] {
        let auth = with(credentials);
        let report = egress
            .send_as(Timestamp::default(), request(&url, AMPLE), &auth)
            .await;
        assert_eq!(told.recv().await.expect("a request"), expected);
        let sent: Vec<_> = report.request.headers.iter().collect();
        let said = format!("{sent:?} {report:?} {auth:?}");
        assert!(said.contains("[redacted]"), "{said}");
        assert!(
            !said.contains("hunter2") && !said.contains("bWU6"),
            "{said}"
        );
        response(report);
    }
}

fn oauth(token_url: &str) -> Auth {
    with(Credentials::OAuth2(OAuth2 {
        token_url: token_url.into(),
        client_id: "me".into(),
        client_secret: Secret::new(*b"hunter2"),
        scopes: vec!["hooks".into()],
        audience: None,
    }))
}

/// A token endpoint that gives tokens 1, 2, 3 and so on; how many it gave.
async fn token_endpoint() -> (String, Arc<AtomicUsize>) {
    let given = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&given);
    let address = listen(move |mut stream| {
        let given = Arc::clone(&count);
        async move {
            loop {
                let seen = read_request(&mut stream).await;
                if seen.is_empty() {
                    return;
                }
                assert!(
                    seen.contains("authorization: Basic bWU6aHVudGVyMg=="),
                    "{seen}"
                );
                assert!(
                    seen.ends_with("grant_type=client_credentials&scope=hooks"),
                    "{seen}"
                );
                let number = given.fetch_add(1, Ordering::SeqCst) + 1;
                let body = format!(r#"{{"access_token": "t{number}", "expires_in": 3600}}"#);
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                stream.write_all(head.as_bytes()).await.expect("written");
                stream.write_all(body.as_bytes()).await.expect("written");
            }
        }
    })
    .await;
    (format!("http://{address}/token"), given)
}

#[tokio::test]
async fn a_token_is_asked_for_once_and_shared() {
    let (token_url, given) = token_endpoint().await;
    let (url, mut told) = receiver(OK).await;
    let egress = egress(dev_policy());
    let mut sending = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (egress, request, auth) = (egress.clone(), request(&url, AMPLE), oauth(&token_url));
        sending.spawn(async move { egress.send_as(Timestamp::default(), request, &auth).await });
    }
    for report in sending.join_all().await {
        let sent: Vec<_> = report.request.headers.iter().collect();
        let said = format!("{sent:?} {report:?}");
        assert!(
            said.contains("[redacted]") && !said.contains("Bearer"),
            "{said}"
        );
        response(report);
        assert_eq!(
            told.recv().await.expect("a request"),
            "authorization: Bearer t1"
        );
    }
    assert_eq!(given.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_refused_token_is_replaced_for_the_next_attempt_and_this_one_sent_once() {
    let (token_url, given) = token_endpoint().await;
    let (url, mut told) = receiver(b"HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n").await;
    let egress = egress(dev_policy());
    let auth = oauth(&token_url);
    let (begin, mut answered, mut paused) = (Instant::now(), 0, 0);
    // A receiver that takes no token does not make us flood who gives them.
    while answered < 2 {
        let report = egress
            .send_as(Timestamp::default(), request(&url, AMPLE), &auth)
            .await;
        if let AttemptResult::Error(error) = &report.result {
            assert_eq!(error.kind, ErrorKind::Token, "{}", error.message);
            assert!(told.try_recv().is_err(), "sent without one");
            paused += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        }
        answered += 1;
        assert_eq!(response(report).status, 401);
        let shown = told.recv().await.expect("a request");
        assert_eq!(shown, format!("authorization: Bearer t{answered}"));
        assert!(told.try_recv().is_err(), "sent twice");
    }
    assert!(begin.elapsed() >= Duration::from_secs(2) && paused > 0);
    assert_eq!(given.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn without_a_token_nothing_is_sent_and_the_reason_said() {
    let (url, mut told) = receiver(OK).await;
    let silent =
        listen(|mut stream| async move { while !read_request(&mut stream).await.is_empty() {} })
            .await;
    let endless = listen(|mut stream| async move {
        answer(&mut stream, b"HTTP/1.1 200 OK\r\n\r\n").await;
        while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
    })
    .await;
    let refusing = listen(|mut stream| async move {
        let no = b"HTTP/1.1 400 No\r\ncontent-length: 26\r\n\r\n{\"error\": \"invalid_scope\"}";
        answer(&mut stream, no).await;
    })
    .await;
    let elsewhere = listen(|mut stream| async move {
        let head = b"HTTP/1.1 302 Go\r\nlocation: http://127.0.0.1/\r\ncontent-length: 0\r\n\r\n";
        answer(&mut stream, head).await;
    })
    .await;
    let egress = egress(dev_policy());
    for (token_url, kind, says) in [
        (
            format!("http://{silent}/"),
            ErrorKind::TimeoutHead,
            "no answer within 3s",
        ),
        (
            format!("http://{endless}/"),
            ErrorKind::Token,
            "the token endpoint's answer is too long",
        ),
        (
            format!("http://{refusing}/"),
            ErrorKind::Token,
            "the token endpoint answered 400 (invalid_scope)",
        ),
        (
            format!("http://{elsewhere}/"),
            ErrorKind::Token,
            "the token endpoint answered 302",
        ),
        (
            "http://10.0.0.1/".to_owned(),
            ErrorKind::DeniedUrl,
            "10.0.0.1",
        ),
    ] {
        let request = request(&url, Duration::from_secs(4));
        let auth = oauth(&token_url);
        let sent = egress.send_as(Timestamp::default(), request, &auth).await;
        let error = error(sent);
        assert_eq!(
            (error.kind, error.ambiguous),
            (kind, false),
            "{}",
            error.message
        );
        assert!(
            error.message.starts_with("no access token: "),
            "{}",
            error.message
        );
        assert!(error.message.contains(says), "{}", error.message);
    }
    assert!(told.try_recv().is_err());
}
