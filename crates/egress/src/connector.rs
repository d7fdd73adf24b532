//! How a connection is made.
//!
//! Decides the order (name, TCP, TLS, the check of the peer), one time limit over all of it, the
//! options of the socket, and that TLS offers HTTP/1.1 alone. Leaves the addresses to `gate`, and
//! what becomes of the connection to `line`.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use postrider_guard::Policy;
use tokio_rustls::rustls::client::WantsClientCert;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::{self, ClientConfig, ConfigBuilder, WantsVerifier};
use tower_service::Service;

use crate::gate::{BoxError, GuardedResolver, check_peer};
use crate::line::Line;

/// Name, TCP and TLS together, within the request's own deadline.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest time a receiver may leave what was sent to it unacknowledged, or its window shut, while
/// an attempt lasts or after its request went out whole: the operating system still has it then.
const UNREAD_MAX: Duration = Duration::from_secs(20);

/// A silent connection is asked after this time, and again, whether its other side still lives.
const PROBE_EVERY: Duration = Duration::from_secs(15);

/// Questions without an answer that end it.
const PROBES: u32 = 3;

/// TLS that trusts the system's certificate authorities.
///
/// # Errors
/// The TLS library did not start, or the system has no certificates.
pub(crate) fn system_tls() -> Result<ClientConfig, rustls::Error> {
    Ok(tls(tls_builder()?.try_with_platform_verifier()?))
}

/// TLS of which it is not said yet whom it trusts.
pub(crate) fn tls_builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, rustls::Error> {
    // Named, for another crate of the build may bring a second one.
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
}

/// Offers HTTP/1.1, whatever the library was built with (ADR 0012).
pub(crate) fn tls(builder: ConfigBuilder<ClientConfig, WantsClientCert>) -> ClientConfig {
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

/// Makes connections to permitted peers. Cloning is a few reference counts.
#[derive(Clone)]
pub(crate) struct Connector {
    https: HttpsConnector<HttpConnector<GuardedResolver>>,
    policy: Arc<Policy>,
}

impl Connector {
    pub(crate) fn new(policy: Arc<Policy>, resolver: GuardedResolver, tls: ClientConfig) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(resolver);
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_nodelay(true);
        tcp.set_tcp_user_timeout(Some(UNREAD_MAX));
        tcp.set_keepalive(Some(PROBE_EVERY));
        tcp.set_keepalive_interval(Some(PROBE_EVERY));
        tcp.set_keepalive_retries(Some(PROBES));
        Self {
            https: HttpsConnector::from((tcp, tls)),
            policy,
        }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Line>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<Line>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.https.poll_ready(cx)
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        let connecting = self.https.call(target);
        let policy = Arc::clone(&self.policy);
        Box::pin(async move {
            let stream = tokio::time::timeout(CONNECT_TIMEOUT, connecting)
                .await
                .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "operation timed out"))??;
            check_peer(&policy, &stream)?;
            Ok(TokioIo::new(Line::new(stream)))
        })
    }
}
