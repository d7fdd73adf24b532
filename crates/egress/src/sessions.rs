//! TLS sessions that can be resumed.
//!
//! Decides of how many hosts they are kept, how many of one host, and how long: who resumes does not
//! look at the receiver's certificate again. Leaves what a session is to the TLS library, which also
//! sees to it that one is only resumed under the trust it was made under; and whose sessions are kept
//! to `identity`.
//!
//! The library's own store keeps eight tickets of a host, and lets the host go that came first,
//! however often it is met.

use std::collections::VecDeque;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;
use tokio_rustls::rustls::NamedGroup;
use tokio_rustls::rustls::client::{
    ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use tokio_rustls::rustls::pki_types::ServerName;

/// Hosts of which sessions are kept; the one that was not connected to for the longest time goes
/// first.
///
/// Each session has a copy of the receiver's certificates, so a host with two tickets takes twice
/// their length and about 1.2 KiB: with 3 KiB of certificates 7.3 KiB, 1.9 MiB in all. The library
/// takes 64 KiB of certificates and 64 KiB of ticket at most, and does not tell how long they are:
/// then it is 256 KiB, 64 MiB in all. With 1 024 hosts the pieces also lay between all else in memory, and
/// pinned several MiB more (`hostile exchanges`).
pub const SESSION_HOSTS_MAX: NonZeroUsize = NonZeroUsize::new(256).expect("more than none");

/// Tickets of TLS 1.3 kept of one host, the newest: each resumes once, and brings others.
const TICKETS_MAX: usize = 2;

/// After this a host's sessions are let go, so that its certificate is looked at again: each
/// resumed session brings another, and they could go on past the certificate's end.
pub(crate) const KEPT_FOR: Duration = Duration::from_secs(3600);

struct Host {
    /// What it chose to exchange keys with, so that it need not ask for it again.
    group: Option<NamedGroup>,
    /// A session of TLS 1.2, or tickets of TLS 1.3: what was spoken last.
    tls12: Option<Tls12ClientSessionValue>,
    /// The newest last.
    tls13: VecDeque<Tls13ClientSessionValue>,
    /// When there were none and a full handshake had to be made.
    since: Instant,
}

impl Host {
    fn new() -> Self {
        Self {
            group: None,
            tls12: None,
            tls13: VecDeque::with_capacity(TICKETS_MAX),
            since: Instant::now(),
        }
    }

    /// Without sessions that are too old.
    fn up_to_date(&mut self) -> &mut Self {
        if self.since.elapsed() >= KEPT_FOR {
            self.tls12 = None;
            self.tls13.clear();
            self.since = Instant::now();
        }
        self
    }
}

/// Sessions by the name in the receiver's certificate.
pub(crate) struct Sessions(Mutex<LruCache<ServerName<'static>, Host>>);

impl Default for Sessions {
    fn default() -> Self {
        Self::of_hosts(SESSION_HOSTS_MAX)
    }
}

impl Sessions {
    /// Of so many hosts at most.
    pub(crate) fn of_hosts(hosts_max: NonZeroUsize) -> Self {
        Self(Mutex::new(LruCache::new(hosts_max)))
    }

    fn hosts(&self) -> MutexGuard<'_, LruCache<ServerName<'static>, Host>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn edit(&self, name: ServerName<'static>, edit: impl FnOnce(&mut Host)) {
        edit(self.hosts().get_or_insert_mut(name, Host::new));
    }

    /// Makes all of them as old as this, for tests.
    #[cfg(test)]
    pub(crate) fn age(&self, by: Duration) {
        for (_, host) in &mut *self.hosts() {
            host.since -= by;
        }
    }

    /// Of how many hosts there are any.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.hosts().len()
    }
}

/// Says nothing of what is in it: sessions are secrets.
impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.edit(name, |host| host.group = Some(group));
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.hosts().get(&name.to_owned())?.group
    }

    fn set_tls12_session(&self, name: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.edit(name, |host| {
            host.tls13.clear();
            host.tls12 = Some(session);
        });
    }

    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        let mut hosts = self.hosts();
        hosts.get_mut(&name.to_owned())?.up_to_date().tls12.clone()
    }

    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        if let Some(host) = self.hosts().get_mut(name) {
            host.tls12 = None;
        }
    }

    fn insert_tls13_ticket(&self, name: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.edit(name, |host| {
            host.tls12 = None;
            if host.tls13.len() == TICKETS_MAX {
                host.tls13.pop_front();
            }
            host.tls13.push_back(ticket);
        });
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.hosts().get_mut(name)?.up_to_date().tls13.pop_back()
    }
}
