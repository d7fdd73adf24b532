//! How a connection is made.
//!
//! Decides the order (name, TCP or the proxy's tunnel, the check of the peer, TLS), a time limit
//! for each, and the options of the socket. Leaves the addresses to `gate`, whom TLS trusts to
//! `identity`, which of our own addresses is used to `source`, and what is said over the
//! connection to `http1` and `http2`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::rt::TokioIo;
use postrider_domain::Phases;
use postrider_guard::Policy;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tower_service::Service;
use url::{Host, Url};

use crate::body::{Making, Progress};
use crate::ended::Ended;
use crate::gate::{GuardedResolver, Stopped, check_peer};
use crate::line::{Line, Stream};
use crate::proxy::Proxy;
use crate::source::Sources;

/// TCP to all addresses of a name, each an equal part of it; through a proxy, its tunnel too.
const TCP_TIMEOUT: Duration = Duration::from_secs(10);

/// The TLS handshake.
const TLS_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest time a receiver may leave what was sent to it unacknowledged, or its window shut, while
/// an attempt lasts or after its request went out whole: the operating system still has it then.
const UNREAD_MAX: Duration = Duration::from_secs(20);

/// A silent connection is asked after this time, and again, whether its other side still lives.
const PROBE_EVERY: Duration = Duration::from_secs(15);

/// Questions without an answer that end it.
const PROBES: u32 = 3;

/// Notes how long a phase took, however it ends.
struct Timed<'a> {
    phase: &'a mut Option<Duration>,
    begin: Instant,
}

impl<'a> Timed<'a> {
    fn new(phase: &'a mut Option<Duration>) -> Self {
        let begin = Instant::now();
        Self { phase, begin }
    }
}

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        *self.phase = Some(self.begin.elapsed());
    }
}

/// Makes connections to permitted peers.
pub(crate) struct Connector {
    policy: Arc<Policy>,
    resolver: GuardedResolver,
    proxy: Option<Proxy>,
    sources: Sources,
}

impl Connector {
    pub(crate) const fn new(
        policy: Arc<Policy>,
        resolver: GuardedResolver,
        proxy: Option<Proxy>,
        sources: Sources,
    ) -> Self {
        Self {
            policy,
            resolver,
            proxy,
            sources,
        }
    }

    /// A connection to the host of a URL that was checked. `phases` is told how long each step
    /// took, also the one that failed, and `progress` which one it is.
    pub(crate) async fn connect(
        &self,
        url: &Url,
        tls: &Arc<ClientConfig>,
        phases: &mut Phases,
        progress: &Progress,
    ) -> Result<Line, Ended> {
        let port = url.port_or_known_default().unwrap_or_default();
        let addresses = match url.host() {
            Some(Host::Ipv4(ip)) => vec![SocketAddr::new(ip.into(), port)],
            Some(Host::Ipv6(ip)) => vec![SocketAddr::new(ip.into(), port)],
            Some(Host::Domain(name)) => {
                let _timed = Timed::new(&mut phases.dns);
                progress.on_making(Some(Making::Lookup));
                self.resolver.addresses(name, port).await?
            }
            None => return Err(Stopped::NoSuchName.into()),
        };
        let tcp = {
            let _timed = Timed::new(&mut phases.connect);
            progress.on_making(Some(Making::Tcp));
            let reaching = self.reach(addresses);
            let reached = timeout(TCP_TIMEOUT, reaching).await;
            reached.map_err(|_| Ended::TcpLate(TCP_TIMEOUT))??
        };
        if url.scheme() != "https" {
            progress.on_making(None);
            return Ok(Line::new(Stream::Plain(tcp)));
        }
        let _timed = Timed::new(&mut phases.tls);
        progress.on_making(Some(Making::Tls));
        let name = server_name(url)?;
        let shaking = TlsConnector::from(Arc::clone(tls)).connect(name, tcp);
        let stream = timeout(TLS_TIMEOUT, shaking)
            .await
            .map_err(|_| Ended::TlsLate(TLS_TIMEOUT))?
            .map_err(Ended::Tls)?;
        progress.on_making(None);
        Ok(Line::new(Stream::Tls(Box::new(stream))))
    }

    /// TCP to one of them, checked; or a tunnel to one through the proxy, which was told the
    /// address, so that it has nothing left to look up.
    async fn reach(&self, addresses: Vec<SocketAddr>) -> Result<TcpStream, Ended> {
        let Some(proxy) = &self.proxy else {
            let stream = self.tcp(addresses)?.await?;
            check_peer(&self.policy, stream.peer_addr().ok().map(|peer| peer.ip()))?;
            return Ok(stream);
        };
        let mut last = Ended::Proxy("there was no address to ask for".to_owned());
        for address in addresses.into_iter().take(proxy.tries()) {
            match self.tunnel(proxy, address).await {
                Ok(stream) => return Ok(stream),
                Err(ended) => last = ended,
            }
        }
        Err(last)
    }

    fn tcp(
        &self,
        addresses: Vec<SocketAddr>,
    ) -> Result<impl Future<Output = Result<TcpStream, Ended>>, Ended> {
        let (mut connector, target) = self.dialer(addresses)?;
        Ok(async move {
            let stream = connector.call(target).await;
            let stream = stream.map_err(|error| Ended::Tcp(error.into()))?;
            Ok(stream.into_inner())
        })
    }

    async fn tunnel(&self, proxy: &Proxy, to: SocketAddr) -> Result<TcpStream, Ended> {
        let addresses = proxy.addresses(self.resolver.names()).await?;
        let (connector, target) = self.dialer(addresses)?;
        let mut tunnel = Tunnel::new(target, connector);
        if let Some(authorization) = proxy.authorization() {
            tunnel = tunnel.with_auth(authorization);
        }
        let stream: Result<TokioIo<TcpStream>, _> = tunnel.call(uri(to)?).await;
        Ok(stream.map_err(|error| Proxy::ended(&error))?.into_inner())
    }

    /// What connects to one of them, and the URI that asks it to.
    fn dialer(&self, addresses: Vec<SocketAddr>) -> Result<(HttpConnector<Fixed>, Uri), Ended> {
        let port = addresses.first().map_or(0, SocketAddr::port);
        let mut tcp = HttpConnector::new_with_resolver(Fixed(addresses));
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(TCP_TIMEOUT));
        tcp.set_nodelay(true);
        tcp.set_tcp_user_timeout(Some(UNREAD_MAX));
        tcp.set_keepalive(Some(PROBE_EVERY));
        tcp.set_keepalive_interval(Some(PROBE_EVERY));
        tcp.set_keepalive_retries(Some(PROBES));
        self.sources.bind(&mut tcp);
        let target = Uri::try_from(format!("http://addresses:{port}/"));
        Ok((tcp, target.map_err(http::Error::from)?))
    }
}

fn uri(address: SocketAddr) -> Result<Uri, Ended> {
    let uri = Uri::try_from(format!("http://{address}/"));
    Ok(uri.map_err(http::Error::from)?)
}

/// What the certificate has to name.
fn server_name(url: &Url) -> Result<ServerName<'static>, Ended> {
    let name = match url.host() {
        Some(Host::Ipv4(ip)) => Some(ServerName::from(IpAddr::from(ip))),
        Some(Host::Ipv6(ip)) => Some(ServerName::from(IpAddr::from(ip))),
        // A dot at the end makes the name absolute for the resolver; certificates have none.
        Some(Host::Domain(name)) => {
            let name = name.strip_suffix('.').unwrap_or(name);
            ServerName::try_from(name.to_owned()).ok()
        }
        None => None,
    };
    name.ok_or_else(|| Stopped::NoSuchName.into())
}

/// A resolver that says what was found and checked before, whatever it is asked.
#[derive(Clone)]
struct Fixed(Vec<SocketAddr>);

impl Service<Name> for Fixed {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Name) -> Self::Future {
        std::future::ready(Ok(self.0.clone().into_iter()))
    }
}
