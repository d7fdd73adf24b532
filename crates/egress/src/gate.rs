//! The deny list between a name and a socket.
//!
//! Decides that every answer of the resolver is checked and one denied answer fails them all (a
//! name that answers with an inner address is not to be trusted with its others), and that the
//! address really connected to is checked once more before anything is written. Connections go only
//! to the addresses checked: whoever connects gets them from here and does not look the name up again.
//! Leaves the list itself to `guard`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use postrider_guard::{DeniedAddress, Policy};
use tracing::debug;

use crate::names::{LOOKUP_TIMEOUT, Names};

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
    #[error("the connection leads elsewhere: {0}")]
    DeniedPeer(DeniedAddress),
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
    pub(crate) const fn new(names: Names, policy: Arc<Policy>) -> Self {
        Self { names, policy }
    }

    /// Who answers, for names that the operator chose.
    pub(crate) const fn names(&self) -> &Names {
        &self.names
    }

    /// The addresses of a name that a merchant chose.
    pub(crate) async fn addresses(
        &self,
        name: &str,
        port: u16,
    ) -> Result<Vec<SocketAddr>, Stopped> {
        let answers = self.names.addresses(name, port).await?;
        checked(&self.policy, answers).inspect_err(|stopped| {
            // Whoever sends often to such a name must not fill the log.
            debug!(name, %stopped, "a name is not connected to");
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

/// Checks the peer of a new connection, before anything is written to it.
pub(crate) fn check_peer(policy: &Policy, peer: Option<IpAddr>) -> Result<(), Stopped> {
    let peer = peer.ok_or(Stopped::UnknownPeer)?;
    policy.check_address(peer).map_err(Stopped::DeniedPeer)
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
