//! The deny list between a name and a socket.
//!
//! Decides that every answer of the resolver is checked and one denied answer fails them all (a
//! name that answers with an inner address is not to be trusted with its others), and that the
//! address really connected to is checked once more before the request. Connections go only to
//! the addresses checked: the client gets them from here and does not look the name up again.
//! Leaves the list itself to `guard`.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::connect::{Connection, HttpInfo};
use postrider_guard::{DeniedAddress, Policy};
use tower_service::Service;
use tracing::debug;

use crate::names::{LOOKUP_TIMEOUT, Names};

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

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
#[derive(Clone)]
pub(crate) struct GuardedResolver {
    names: Names,
    policy: Arc<Policy>,
}

impl GuardedResolver {
    pub(crate) fn new(names: Names, policy: Arc<Policy>) -> Self {
        Self { names, policy }
    }
}

impl Service<Name> for GuardedResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Stopped;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Stopped>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (names, policy) = (self.names.clone(), Arc::clone(&self.policy));
        Box::pin(async move {
            let answers = names.addresses(name.as_str()).await?;
            let passed = checked(&policy, answers).inspect_err(|stopped| {
                // Whoever sends often to such a name must not fill the log.
                debug!(name = name.as_str(), %stopped, "a name is not connected to");
            })?;
            Ok(passed.into_iter())
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

/// Checks the peer of a new connection. A TLS handshake with it has been made by then; of the
/// request nothing was sent.
pub(crate) fn check_peer(policy: &Policy, connection: &impl Connection) -> Result<(), Stopped> {
    let peer = peer_address(connection).ok_or(Stopped::UnknownPeer)?;
    Ok(policy.check_address(peer)?)
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
