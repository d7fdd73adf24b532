//! Egress against TLS, with a certificate authority made for the test.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::*;

/// A server identity for `name` that offers `protocols`, and the authority that signed it.
pub(super) fn server_identity(
    name: &str,
    protocols: &[&[u8]],
) -> (TlsAcceptor, CertificateDer<'static>) {
    server(name, protocols, false)
}

/// As [`server_identity`]; a `demanding` one wants a certificate of the client, by the same authority.
fn server(
    name: &str,
    protocols: &[&[u8]],
    demanding: bool,
) -> (TlsAcceptor, CertificateDer<'static>) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().expect("a key"))
        .expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new([name.to_owned()])
        .and_then(|params| params.signed_by(&key, &authority))
        .expect("a certificate");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config = ServerConfig::builder();
    let config = if demanding {
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).expect("a root");
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build();
        config.with_client_cert_verifier(verifier.expect("a verifier"))
    } else {
        config.with_no_client_auth()
    };
    let mut config = config
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("a server");
    config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
    let root = authority.der().clone();
    (TlsAcceptor::from(Arc::new(config)), root)
}

pub(super) fn trusting(root: CertificateDer<'static>) -> Egress {
    let names = Names::of_system().expect("name servers");
    reaching(names, dev_policy(), root)
}

/// As [`trusting`], for receivers that have names.
pub(super) fn reaching(names: Names, policy: Policy, root: CertificateDer<'static>) -> Egress {
    let mut roots = RootCertStore::empty();
    roots.add(root).expect("a root");
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), identity::provider()).build();
    let identities = Identities::trusting(verifier.expect("a verifier")).expect("a TLS library");
    let policy = Arc::new(policy);
    let resolver = GuardedResolver::new(names, Arc::clone(&policy));
    let connector = Connector::new(Arc::clone(&policy), resolver, None, Sources::default());
    let agent = HeaderValue::from_static("Postrider/test");
    Egress::assembled(policy, agent, connector, identities)
}

async fn send_with(egress: &Egress, address: SocketAddr) -> AttemptReport {
    let request = request(&format!("https://{address}/?token=hunter2"), AMPLE);
    egress.send(Timestamp::default(), request).await
}

#[tokio::test]
async fn a_trusted_certificate_is_enough() {
    let (acceptor, root) = server_identity("127.0.0.1", &[b"http/1.1"]);
    let address = listen(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let mut stream = acceptor.accept(stream).await.expect("a handshake");
            answer(&mut stream, OK).await;
        }
    })
    .await;
    let response = response(send_with(&trusting(root), address).await);
    assert_eq!(response.status, 200);
}

#[tokio::test]
async fn a_certificate_for_another_name_or_of_another_authority_fails() {
    let (other_name, root) = server_identity("192.0.2.1", &[]);
    let (other_authority, _) = server_identity("127.0.0.1", &[]);
    let egress = trusting(root);
    for (acceptor, kind) in [
        (other_name, ErrorKind::TlsWrongName),
        (other_authority, ErrorKind::TlsUntrusted),
    ] {
        let address = listen(move |stream| {
            let acceptor = acceptor.clone();
            async move { assert!(acceptor.accept(stream).await.is_err()) }
        })
        .await;
        let error = error(send_with(&egress, address).await);
        assert_eq!(
            (error.kind, error.ambiguous),
            (kind, false),
            "{}",
            error.message
        );
        assert!(error.message.contains("certificate"), "{}", error.message);
        assert!(!error.message.contains("hunter2"), "{}", error.message);
    }
}

#[tokio::test]
async fn a_peer_that_does_not_speak_tls_fails_the_handshake() {
    let plain = listen(|mut stream| async move {
        let mut hello = [0; 16];
        stream.read_exact(&mut hello).await.expect("a hello");
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .expect("written");
    })
    .await;
    let silent = listen(|mut stream| async move {
        let mut hello = [0; 16];
        stream.read_exact(&mut hello).await.expect("a hello");
    })
    .await;
    let egress = egress(dev_policy());
    for address in [plain, silent] {
        let error = error(send_with(&egress, address).await);
        assert_eq!(
            (error.kind, error.ambiguous),
            (ErrorKind::Tls, false),
            "{}",
            error.message
        );
    }
}

#[tokio::test]
async fn a_receiver_that_demands_a_client_certificate_ends_the_attempt() {
    let (acceptor, root) = server("127.0.0.1", &[], true);
    let address = listen(move |stream| {
        let acceptor = acceptor.clone();
        async move { assert!(acceptor.accept(stream).await.is_err()) }
    })
    .await;
    let error = error(send_with(&trusting(root), address).await);
    // For the client the handshake of TLS 1.3 was complete: the refusal may cross the request.
    let expected = if error.ambiguous {
        ErrorKind::ResetHead
    } else {
        ErrorKind::Connect
    };
    assert_eq!(error.kind, expected, "{}", error.message);
}
