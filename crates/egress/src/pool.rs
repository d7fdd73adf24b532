//! Connections that wait for another request.
//!
//! Decides how many are kept, in all and for one host, for how long unused, and to which age: a
//! connection outlives neither a change of a name's addresses nor of a certificate by much. One is
//! only ever given to the identity and the host that it was made for. Leaves making them to
//! `connector`, and whether one can be used again to `http1` and `http2`.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::http1::Http1;
use crate::http2::{Http2, Promise};
use crate::identity::IdentityId;

/// Connections kept, over all hosts; the least lately used goes first.
pub const CONNECTIONS_KEPT_MAX: usize = 2048;

/// Connections kept for one host.
pub(crate) const KEPT_PER_HOST_MAX: usize = 16;

/// An unused connection is closed after this: far below the idle limits of common load balancers
/// (60 s and more), so that we rarely write to a connection the other side is closing.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection takes no request after this age.
pub(crate) const AGE_MAX: Duration = Duration::from_secs(300);

const REAP_EVERY: Duration = Duration::from_secs(1);

/// Whose connection to which host.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    identity: IdentityId,
    origin: Arc<str>,
}

impl Key {
    pub(crate) fn new(identity: IdentityId, origin: &Arc<str>) -> Self {
        let origin = Arc::clone(origin);
        Self { identity, origin }
    }
}

/// A connection that can take a request now.
pub(crate) enum Ready {
    Http1(Box<Http1>),
    Http2(Promise),
}

enum Connection {
    Http1(Box<Http1>),
    Http2(Arc<Http2>),
}

impl Connection {
    fn is_usable(&self, now: Instant) -> bool {
        let (open, made) = match self {
            Self::Http1(line) => (line.is_open(), line.made()),
            Self::Http2(line) => (line.is_open(), line.made()),
        };
        open && now.saturating_duration_since(made) < AGE_MAX
    }

    /// Nothing is under way on it.
    fn is_idle(&self) -> bool {
        match self {
            Self::Http1(_) => true,
            Self::Http2(line) => line.is_idle(),
        }
    }

    fn release(self) {
        match self {
            Self::Http1(line) => line.release(),
            // Whoever uses it last lets it go.
            Self::Http2(line) => drop(line),
        }
    }
}

struct Waiting {
    key: Key,
    connection: Connection,
    since: Instant,
}

/// Ids grow with each use, so the lowest was not used for the longest time.
#[derive(Default)]
struct State {
    waiting: BTreeMap<u64, Waiting>,
    of_host: HashMap<Key, Vec<u64>>,
    next: u64,
    /// A task looks after what waits too long.
    reaped: bool,
}

impl State {
    fn remove(&mut self, id: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&id)?;
        if let Some(ids) = self.of_host.get_mut(&waiting.key) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.of_host.remove(&waiting.key);
            }
        }
        Some(waiting)
    }

    fn insert(&mut self, waiting: Waiting) {
        let id = self.next;
        self.next += 1;
        self.of_host
            .entry(waiting.key.clone())
            .or_default()
            .push(id);
        self.waiting.insert(id, waiting);
    }

    /// Makes room for one more of this host.
    fn make_room(&mut self, key: &Key) {
        let ids = self.of_host.get(key);
        let oldest = match ids.filter(|ids| ids.len() >= KEPT_PER_HOST_MAX) {
            Some(ids) => ids.first().copied(),
            None if self.waiting.len() >= CONNECTIONS_KEPT_MAX => {
                self.waiting.keys().next().copied()
            }
            None => None,
        };
        if let Some(waiting) = oldest.and_then(|id| self.remove(id)) {
            waiting.connection.release();
        }
    }
}

/// All of them.
#[derive(Default)]
pub(crate) struct Pool(Mutex<State>);

impl Pool {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection used last that can take a request.
    pub(crate) fn take(&self, key: &Key, now: Instant) -> Option<Ready> {
        let mut state = self.state();
        let mut left = state.of_host.get(key)?.len();
        while left > 0 {
            left -= 1;
            // what is put back below comes behind those that are left
            let id = state.of_host.get(key).and_then(|ids| ids.get(left));
            let Some(waiting) = id.copied().and_then(|id| state.remove(id)) else {
                continue;
            };
            if !waiting.connection.is_usable(now) {
                waiting.connection.release();
                continue;
            }
            match waiting.connection {
                Connection::Http1(line) => return Some(Ready::Http1(line)),
                Connection::Http2(line) => {
                    let promise = line.stream();
                    let taken = promise.is_some();
                    let since = if taken { now } else { waiting.since };
                    state.insert(Waiting {
                        key: waiting.key,
                        connection: Connection::Http2(line),
                        since,
                    });
                    if taken {
                        return promise.map(Ready::Http2);
                    }
                }
            }
        }
        None
    }

    /// Keeps a connection that answered.
    pub(crate) fn keep_http1(self: &Arc<Self>, key: Key, line: Box<Http1>) {
        self.keep(key, Connection::Http1(line));
    }

    /// Keeps a new connection, and gives it a request; `None` when its receiver has changed its
    /// mind about how many it takes.
    pub(crate) fn keep_http2(self: &Arc<Self>, key: Key, line: Arc<Http2>) -> Option<Promise> {
        let promise = line.stream();
        self.keep(key, Connection::Http2(line));
        promise
    }

    fn keep(self: &Arc<Self>, key: Key, connection: Connection) {
        let since = Instant::now();
        let mut state = self.state();
        if !connection.is_usable(since) {
            connection.release();
            return;
        }
        state.make_room(&key);
        state.insert(Waiting {
            key,
            connection,
            since,
        });
        if !std::mem::replace(&mut state.reaped, true) {
            tokio::spawn(reap(Arc::downgrade(self)));
        }
    }

    /// Closes what waited too long; whether anything is left.
    pub(crate) fn reap(&self, now: Instant) -> bool {
        let mut state = self.state();
        let over = |waiting: &Waiting| {
            let unused = now.saturating_duration_since(waiting.since) >= IDLE_TIMEOUT;
            (unused && waiting.connection.is_idle()) || !waiting.connection.is_usable(now)
        };
        let ids: Vec<u64> = state
            .waiting
            .iter()
            .filter(|(_, waiting)| over(waiting))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            if let Some(waiting) = state.remove(id) {
                waiting.connection.release();
            }
        }
        state.reaped = !state.waiting.is_empty();
        state.reaped
    }

    /// How many wait.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.state().waiting.len()
    }
}

/// Until nothing waits any more.
async fn reap(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(REAP_EVERY).await;
        if !pool.upgrade().is_some_and(|pool| pool.reap(Instant::now())) {
            return;
        }
    }
}
