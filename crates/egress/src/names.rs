//! Names to addresses.
//!
//! Decides whom to ask (the system's hosts file and name servers, both read once), for how long,
//! and what is remembered: an answer for its time, and past that while nobody can be asked. Leaves to `gate` which answers are fine.
//!
//! A lookup ends with the attempt that asked, so there are never more than requests in flight, and names whose servers are silent delay nobody else. (The system's
//! own resolver takes a thread for each, for as long as it likes.)

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_resolver::config::{LookupIpStrategy, ResolveHosts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::Name;
use hickory_resolver::{ResolverBuilder, TokioResolver};
use tracing::debug;

use crate::gate::Stopped;

/// One lookup, all questions and repetitions included.
pub(crate) const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// One question to one name server. One server is asked four times within [`LOOKUP_TIMEOUT`], two
/// twice each; `timeout` and `attempts` of resolv.conf are too patient for a second server.
const QUESTION_TIMEOUT: Duration = Duration::from_millis(1200);

/// Questions repeated after no answer.
const REPETITIONS: usize = 3;

/// How long an answer is remembered, whatever its TTL says. Failures are not.
const REMEMBERED_MIN: Duration = Duration::from_secs(1);
const REMEMBERED_MAX: Duration = Duration::from_secs(300);

/// How long after its time an answer still serves when nobody can be asked.
const STALE_MAX: Duration = Duration::from_secs(3600);

/// A name is asked for again this long after nobody could be asked, so that an outage of the name
/// servers does not cost every attempt the whole of [`LOOKUP_TIMEOUT`].
const STALE_PAUSE: Duration = Duration::from_secs(10);

/// Names remembered; some 8 MB with the addresses and the longest of names.
const NAMES_MAX: usize = 8192;

/// Addresses of one name. More make no sense for a receiver, and a name server could send
/// thousands.
const ADDRESSES_MAX: usize = 32;

/// Why names cannot be looked up.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NoNameServers(NetError);

/// Cloning is a reference count.
#[derive(Clone)]
pub(crate) struct Names {
    resolver: TokioResolver,
    remembered: Arc<Mutex<HashMap<Box<str>, Remembered>>>,
}

struct Remembered {
    addresses: Arc<[IpAddr]>,
    /// Until then nobody is asked.
    until: Instant,
    /// Until then it serves when nobody answers.
    stale_until: Instant,
}

impl Names {
    /// Asks whom `/etc/hosts` and `/etc/resolv.conf` say.
    ///
    /// # Errors
    /// `/etc/resolv.conf` is not there, cannot be read, or names no server.
    pub(crate) fn of_system() -> Result<Self, NoNameServers> {
        let builder = TokioResolver::builder_tokio().map_err(NoNameServers)?;
        Self::asking(builder)
    }

    fn asking(mut builder: ResolverBuilder<TokioRuntimeProvider>) -> Result<Self, NoNameServers> {
        let options = builder.options_mut();
        options.timeout = QUESTION_TIMEOUT;
        options.attempts = REPETITIONS;
        // Both families, whatever the system has; IPv4 first, for it is the one that works where
        // only one does.
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.use_hosts_file = ResolveHosts::Always;
        // One server at a time: an open question holds up to three sockets.
        options.num_concurrent_reqs = 1;
        // Questions on one TCP connection, which long answers need; bounded by the lookups.
        options.max_active_requests = usize::from(u16::MAX);
        // Its entries are whole messages, up to 64 KiB each on the wire: `remembered` is ours.
        options.cache_size = 0;
        Ok(Self {
            resolver: builder.build().map_err(NoNameServers)?,
            remembered: Arc::default(),
        })
    }

    /// The addresses of `name`, at least one, with the port. The name is taken as it stands:
    /// search domains are never tried.
    ///
    /// # Errors
    /// [`Stopped`]: there is none, or nobody says within [`LOOKUP_TIMEOUT`].
    pub(crate) async fn addresses(
        &self,
        name: &str,
        port: u16,
    ) -> Result<Vec<SocketAddr>, Stopped> {
        let addresses = match self.recall(name) {
            Some(addresses) => addresses,
            None => {
                let asked = tokio::time::timeout(LOOKUP_TIMEOUT, self.ask(name)).await;
                match asked.unwrap_or(Err(Stopped::LookupTimeout)) {
                    Ok(addresses) => addresses,
                    Err(stopped) => self.recall_stale(name, &stopped).ok_or(stopped)?,
                }
            }
        };
        Ok(addresses
            .iter()
            .map(|&address| SocketAddr::new(address, port))
            .collect())
    }

    async fn ask(&self, name: &str) -> Result<Arc<[IpAddr]>, Stopped> {
        let mut absolute = Name::from_str_relaxed(name).map_err(|_| Stopped::NoSuchName)?;
        absolute.set_fqdn(true);
        let answer = self.resolver.lookup_ip(absolute).await;
        let answer = answer.map_err(|error| stopped(name, &error))?;
        let addresses: Arc<[IpAddr]> = answer.iter().take(ADDRESSES_MAX + 1).collect();
        match addresses.len() {
            0 => Err(Stopped::NoAddress),
            1..=ADDRESSES_MAX => {
                self.remember(name, &addresses, answer.valid_until());
                Ok(addresses)
            }
            _ => Err(Stopped::TooManyAddresses),
        }
    }

    /// An answer without a question, for tests.
    #[cfg(test)]
    pub(crate) fn remember_always(&self, name: &str, address: IpAddr) {
        self.remember(name, &Arc::from([address]), Instant::now() + REMEMBERED_MAX);
    }

    /// Makes an answer as old as this, for tests.
    #[cfg(test)]
    fn age(&self, name: &str, by: Duration) {
        let mut remembered = self.remembered.lock().expect("unpoisoned");
        let entry = remembered.get_mut(name).expect("remembered");
        entry.until -= by;
        entry.stale_until -= by;
    }

    fn recall(&self, name: &str) -> Option<Arc<[IpAddr]>> {
        let remembered = self.remembered.lock();
        let remembered = remembered.unwrap_or_else(PoisonError::into_inner);
        let found = remembered.get(name)?;
        (Instant::now() < found.until).then(|| Arc::clone(&found.addresses))
    }

    /// What was known before nobody answered. A name server that says that there is no such name,
    /// or nothing behind it, has answered.
    fn recall_stale(&self, name: &str, stopped: &Stopped) -> Option<Arc<[IpAddr]>> {
        let unanswered = match stopped {
            Stopped::LookupTimeout | Stopped::Lookup => true,
            Stopped::Refused(code) => *code == ResponseCode::ServFail.to_str(),
            _ => false,
        };
        let now = Instant::now();
        let remembered = self.remembered.lock();
        let mut remembered = remembered.unwrap_or_else(PoisonError::into_inner);
        if !unanswered {
            remembered.remove(name);
            return None;
        }
        let found = remembered.get_mut(name)?;
        if now >= found.stale_until {
            return None;
        }
        found.until = now + STALE_PAUSE;
        debug!(name, %stopped, "an answer of before serves");
        Some(Arc::clone(&found.addresses))
    }

    fn remember(&self, name: &str, addresses: &Arc<[IpAddr]>, until: Instant) {
        let now = Instant::now();
        let until = until.clamp(now + REMEMBERED_MIN, now + REMEMBERED_MAX);
        let remembered = self.remembered.lock();
        let mut remembered = remembered.unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= NAMES_MAX && !remembered.contains_key(name) {
            remembered.retain(|_, entry| now < entry.until);
        }
        if remembered.len() >= NAMES_MAX && !remembered.contains_key(name) {
            remembered.clear();
        }
        let addresses = Arc::clone(addresses);
        let entry = Remembered {
            addresses,
            until,
            stale_until: until + STALE_MAX,
        };
        remembered.insert(name.into(), entry);
    }
}

/// What a merchant may read: nothing of our name servers, which the log has.
fn stopped(name: &str, error: &NetError) -> Stopped {
    match error {
        NetError::Timeout => Stopped::LookupTimeout,
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => Stopped::NoSuchName,
            ResponseCode::NoError => Stopped::NoAddress,
            code => Stopped::Refused(code.to_str()),
        },
        NetError::Dns(DnsError::ResponseCode(code)) => Stopped::Refused(code.to_str()),
        _ => {
            debug!(name, %error, "a lookup failed");
            Stopped::Lookup
        }
    }
}

#[cfg(test)]
mod tests;
