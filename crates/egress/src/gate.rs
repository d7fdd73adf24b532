//! The deny list between a name and a socket.
//!
//! Decides that every answer of the resolver is checked and one denied answer fails them all (a
//! name that answers with an inner address is not to be trusted with its others), and that the
//! address really connected to is checked once more before the request. Connections go only to
//! the addresses checked: the client gets them from here and does not look the name up again.
//! Leaves the list itself to `guard`.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::{Connection, HttpInfo};
use postrider_guard::{DeniedAddress, Policy};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tower_layer::Layer;
use tower_service::Service;
use tracing::debug;

use crate::names::{LOOKUP_TIMEOUT, Names};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why no connection is made, or a made one is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stopped {
    // The lookup itself failed; nothing was checked, so nothing passes.
    #[error("the name servers cannot be asked")]
    Lookup,
    #[error("no answer within {} s", LOOKUP_TIMEOUT.as_secs())]
    LookupTimeout,
    #[error("there is no such name")]
    NoSuchName,
    #[error("the name server answers: {0}")]
    Refused(&'static str),
    #[error("the name has too many addresses")]
    TooManyAddresses,
    #[error("the name has no address")]
    NoAddress,
    #[error(transparent)]
    Denied(#[from] DeniedAddress),
    #[error("the connection does not tell its peer address")]
    UnknownPeer,
}

/// Names to addresses, every answer checked.
pub(crate) struct GuardedResolver {
    names: Names,
    policy: Arc<Policy>,
}

impl GuardedResolver {
    pub(crate) fn new(names: Names, policy: Arc<Policy>) -> Self {
        Self { names, policy }
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (names, policy) = (self.names.clone(), Arc::clone(&self.policy));
        Box::pin(async move {
            let answers = names.addresses(name.as_str()).await?;
            let passed = checked(&policy, answers).inspect_err(|stopped| {
                // Whoever sends often to such a name must not fill the log.
                debug!(name = name.as_str(), %stopped, "a name is not connected to");
            })?;
            Ok(Box::new(passed.into_iter()) as Addrs)
        })
    }
}

/// All of them, or none.
fn checked(policy: &Policy, answers: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Stopped> {
    for answer in &answers {
        policy.check_address(answer.ip())?;
    }
    if answers.is_empty() {
        return Err(Stopped::NoAddress);
    }
    Ok(answers)
}

/// Checks the peer of each new connection. A TLS handshake with it has been made by then; of the
/// request nothing was sent.
#[derive(Clone)]
pub(crate) struct PeerGate {
    policy: Arc<Policy>,
}

impl PeerGate {
    pub(crate) fn new(policy: Arc<Policy>) -> Self {
        Self { policy }
    }
}

impl<S> Layer<S> for PeerGate {
    type Service = GatedConnector<S>;

    fn layer(&self, inner: S) -> GatedConnector<S> {
        GatedConnector {
            inner,
            policy: Arc::clone(&self.policy),
        }
    }
}

/// A connector that hands out only connections to permitted peers.
#[derive(Clone)]
pub(crate) struct GatedConnector<S> {
    inner: S,
    policy: Arc<Policy>,
}

impl<S, Target> Service<Target> for GatedConnector<S>
where
    S: Service<Target>,
    S::Response: Connection,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, target: Target) -> Self::Future {
        let connecting = self.inner.call(target);
        let policy = Arc::clone(&self.policy);
        Box::pin(async move {
            let connection = connecting.await.map_err(Into::into)?;
            let peer = peer_address(&connection).ok_or(Stopped::UnknownPeer)?;
            policy.check_address(peer).map_err(Stopped::Denied)?;
            Ok(connection)
        })
    }
}

fn peer_address(connection: &impl Connection) -> Option<IpAddr> {
    let mut extras = http::Extensions::new();
    connection.connected().get_extras(&mut extras);
    Some(extras.get::<HttpInfo>()?.remote_addr().ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(answers: &[&str]) -> Result<usize, Stopped> {
        let answers: Vec<SocketAddr> = answers
            .iter()
            .map(|ip| SocketAddr::new(ip.parse().unwrap(), 0))
            .collect();
        checked(&Policy::default(), answers).map(|passed| passed.len())
    }

    #[test]
    fn one_denied_answer_fails_them_all() {
        assert!(matches!(check(&["1.1.1.1", "2606:4700::1111"]), Ok(2)));
        for mixed in [
            ["10.0.0.1", "1.1.1.1"],
            ["1.1.1.1", "10.0.0.1"],
            ["1.1.1.1", "::ffff:10.0.0.1"],
            ["1.1.1.1", "::1"],
        ] {
            assert!(
                matches!(check(&mixed), Err(Stopped::Denied(_))),
                "{mixed:?}"
            );
        }
    }

    #[test]
    fn no_answer_is_no_permission() {
        assert!(matches!(check(&[]), Err(Stopped::NoAddress)));
    }
}
