//! The only way to merchants' receivers and their token endpoints. (`registry` has a client of its
//! own, for the one address in the configuration: ADR 0032.)
//!
//! Decides how a request is put on the wire: HTTP/2 or HTTP/1.1, whichever the receiver prefers, no
//! redirect, no decompression, a deadline for each step and one over the whole exchange, caps on
//! what is read, the deny list asked at every point where an address turns up (`docs/security.md`),
//! and that nothing of an attempt outlives it. Judges nothing: whatever happens becomes an
//! [`AttemptReport`], whose verdict is the engine's. Leaves which addresses are fine to `guard`,
//! headers and signature to the caller.
//!
//! Where an address is checked, and what each check is for:
//!
//! | where | covers | before |
//! | --- | --- | --- |
//! | the URL | address literals, which never reach the resolver; names like `localhost` | anything |
//! | the resolver | every answer for a name; one denied answer fails the attempt | connecting |
//! | the connected socket | whatever slipped past both | the first byte |
//!
//! Through an egress proxy the third falls away: the proxy is told the address that was checked.
//!
//! A connection that is used again was checked when it was made, under the policy it is used with: the policy
//! of an [`Egress`] never changes.
#![warn(missing_docs)]

mod answer;
mod body;
mod connector;
mod driver;
mod ended;
mod failure;
mod gate;
mod http1;
mod http2;
mod identity;
mod line;
mod names;
mod pool;
mod proxy;
mod sessions;
mod source;
mod summary;
mod target;
mod tokens;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_LENGTH, HOST, HeaderMap, HeaderValue, USER_AGENT,
};
use postrider_domain::{
    AttemptReport, AttemptResult, Auth, Credentials, Network, OAuth2, Phases, RequestSummary,
    Timestamp,
};
use postrider_guard::Policy;
use postrider_points as points;
use zeroize::Zeroizing;

use answer::Answer;
use body::{Making, Progress};
use connector::Connector;
use ended::Ended;
use gate::GuardedResolver;
use http1::{Http1, Sent};
use http2::Http2;
use identity::{Identities, Identity};
use names::Names;
pub use pool::CONNECTIONS_KEPT_MAX;
use pool::{Key, Pool, Ready};
use proxy::Proxy;
pub use sessions::SESSION_HOSTS_MAX;
use source::Sources;
use target::{Target, Targets};
use tokens::{Slot, Tokens};

/// Bytes of a response body that are kept; what follows is not read.
pub const BODY_BYTES_MAX: usize = 16 * 1024;

/// Longest wait for an access token, and at most three quarters of the deadline.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// It cannot be sent as a header.
    #[error("the user agent must be visible ASCII, found {0:?}")]
    UserAgent(String),
    /// The TLS library did not start: on a bare system because no CA certificates are there.
    #[error(
        "the HTTP client cannot be set up ({reason}); are the system's CA certificates installed (package ca-certificates)?"
    )]
    Client {
        /// The innermost cause.
        reason: String,
    },
    /// Names could never be looked up.
    #[error(
        "the system's name servers are not known: /etc/resolv.conf cannot be used ({reason}); it must be readable and have a line `nameserver ADDRESS`"
    )]
    NameServers {
        /// What is wrong with it.
        reason: String,
    },
    /// Requests cannot come from it.
    #[error(
        "requests cannot come from the address {address}: {reason}; is it one of this machine?"
    )]
    SourceAddress {
        /// As configured.
        address: IpAddr,
        /// What the operating system says.
        reason: String,
    },
}

/// One request, ready to be sent: nothing is added but `user-agent`, `host`, `accept` and
/// `content-length`.
#[derive(Clone)]
pub struct Request {
    /// `POST` for deliveries.
    pub method: Method,
    /// Checked again before sending.
    pub url: Arc<str>,
    /// Sent as they are, signature included.
    pub headers: HeaderMap,
    /// Sent byte for byte.
    pub body: Bytes,
    /// One deadline over everything: name, connection, request, and the response to its end.
    pub timeout: Duration,
}

/// A request on its way.
struct Outgoing<'a> {
    method: Method,
    url: &'a str,
    headers: HeaderMap,
    data: Bytes,
}

/// The HTTP client. Cloning is a reference count; all clones share their connections.
#[derive(Clone)]
pub struct Egress(Arc<Client>);

struct Client {
    policy: Arc<Policy>,
    user_agent: HeaderValue,
    connector: Connector,
    identities: Identities,
    tokens: Tokens,
    targets: Targets,
    pool: Arc<Pool>,
}

impl Egress {
    /// A client that obeys `policy`, trusts the system's certificate authorities and connects
    /// directly.
    ///
    /// # Errors
    /// [`EgressError`] for a user agent that is no header value, or a system without CA
    /// certificates or name servers.
    pub fn new(policy: Policy, user_agent: &str) -> Result<Self, EgressError> {
        Self::over(&Network::default(), policy, user_agent)
    }

    /// As [`Self::new`], over a network where there is more to say.
    ///
    /// # Errors
    /// As [`Self::new`], and for a source address that is not one of this machine.
    pub fn over(network: &Network, policy: Policy, user_agent: &str) -> Result<Self, EgressError> {
        let user_agent = HeaderValue::from_str(user_agent)
            .ok()
            .filter(|value| value.to_str().is_ok())
            .ok_or_else(|| EgressError::UserAgent(user_agent.to_owned()))?;
        let names = Names::of_system().map_err(|error| EgressError::NameServers {
            reason: error.to_string(),
        })?;
        let identities = Identities::of_system().map_err(|error| EgressError::Client {
            reason: failure::innermost(&error).to_string(),
        })?;
        let sources = Sources::new(&network.source_addresses);
        let sources = sources.map_err(|(address, error)| EgressError::SourceAddress {
            address,
            reason: error.to_string(),
        })?;
        let policy = Arc::new(policy);
        let resolver = GuardedResolver::new(names, Arc::clone(&policy));
        let proxy = network.proxy.as_ref().map(Proxy::new);
        let connector = Connector::new(Arc::clone(&policy), resolver, proxy, sources);
        Ok(Self::assembled(policy, user_agent, connector, identities))
    }

    fn assembled(
        policy: Arc<Policy>,
        user_agent: HeaderValue,
        connector: Connector,
        identities: Identities,
    ) -> Self {
        Self(Arc::new(Client {
            policy,
            user_agent,
            connector,
            identities,
            tokens: Tokens::default(),
            targets: Targets::default(),
            pool: Arc::default(),
        }))
    }

    /// Makes one attempt; `started_at` is copied into the report. Never fails: what goes wrong is
    /// in the report. Dropping the future abandons the request and its connection.
    pub async fn send(&self, started_at: Timestamp, request: Request) -> AttemptReport {
        self.send_as(started_at, request, &Auth::NONE).await
    }

    /// As [`Self::send`], to a receiver that asks who we are. What that takes, an access token for
    /// one, counts into the deadline.
    pub async fn send_as(
        &self,
        started_at: Timestamp,
        request: Request,
        auth: &Auth,
    ) -> AttemptReport {
        let begin = Instant::now();
        let Request {
            method,
            url,
            headers,
            body,
            timeout,
        } = request;
        let progress = Arc::new(Progress::new(&body, begin + timeout));
        let mut headers = self.0.complete(headers, &body);
        let authorization = authorization(auth).transpose();
        if let Ok(Some(header)) = &authorization {
            headers.insert(AUTHORIZATION, header.clone());
        }
        let summary = RequestSummary {
            headers: summary::redacted(&headers),
            url: Arc::clone(&url),
        };
        let mut phases = Phases::default();
        let exchange = async {
            authorization.map_err(|error| Ended::Identity(error.to_string()))?;
            let identity = self.0.identities.of(auth)?;
            let token = match &auth.credentials {
                Some(Credentials::OAuth2(oauth)) => {
                    let slot = self.0.tokens.slot(oauth, identity.id);
                    let header = self.0.token(&slot, oauth, &identity, timeout).await?;
                    headers.insert(AUTHORIZATION, header.clone());
                    Some((slot, header))
                }
                _ => None,
            };
            let outgoing = Outgoing {
                method,
                url: &url,
                headers,
                data: body,
            };
            let sent = self.0.exchange(outgoing, &identity, &progress, &mut phases);
            let answer = sent.await?;
            points::reach!("egress.answer.read");
            if let Some((slot, header)) = token.filter(|_| answer.status == 401) {
                slot.refused(&header);
            }
            Ok(answer)
        };
        let exchange = Box::pin(exchange);
        let result = match tokio::time::timeout(timeout, exchange).await {
            Ok(Ok(answer)) => AttemptResult::Response(answer),
            // The body sees the deadline too, maybe before the timer.
            Ok(Err(ended)) if begin.elapsed() < timeout => {
                AttemptResult::Error(failure::classify(&ended, &progress))
            }
            _ => AttemptResult::Error(failure::deadline(timeout, &progress)),
        };
        phases.first_byte = progress.first_byte();
        phases.total = begin.elapsed();
        AttemptReport {
            started_at,
            phases,
            request: summary,
            result,
        }
    }
}

impl Client {
    /// Adds what belongs to us, so that the report shows it too.
    fn complete(&self, mut headers: HeaderMap, body: &Bytes) -> HeaderMap {
        headers
            .entry(USER_AGENT)
            .or_insert_with(|| self.user_agent.clone());
        if body.is_empty() {
            // The client leaves it out, and some servers answer 411.
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        headers
    }

    /// One request and its answer, over a connection that waits or a new one. A connection that
    /// waits may turn out to be closed; then the next one is tried.
    async fn exchange(
        &self,
        outgoing: Outgoing<'_>,
        identity: &Identity,
        progress: &Arc<Progress>,
        phases: &mut Phases,
    ) -> Result<Answer, Ended> {
        let Outgoing {
            method,
            url,
            mut headers,
            mut data,
        } = outgoing;
        let target = self.targets.of(&self.policy, url)?;
        let any = || HeaderValue::from_static("*/*");
        headers.entry(ACCEPT).or_insert_with(any);
        let key = Key::new(identity.id, &target.origin);
        let mut may_repeat = true;
        loop {
            let (ready, waited) = match self.pool.take(&key, Instant::now()) {
                Some(ready) => (ready, true),
                None => (
                    self.connect(&key, &target, identity, phases, progress)
                        .await?,
                    false,
                ),
            };
            match ready {
                Ready::Http1(line) => {
                    headers.insert(HOST, target.host.clone());
                    let sent = line.send(method.clone(), &target.path, headers, data, progress);
                    match sent.await? {
                        Sent::Answer(answer, again) => {
                            if let Some(line) = again {
                                self.pool.keep_http1(key, line);
                            }
                            return Ok(answer);
                        }
                        Sent::Untouched(_, unsent) if waited => (headers, data) = *unsent,
                        Sent::Untouched(ended, _) => return Err(ended),
                    }
                }
                Ready::Http2(promise) => {
                    headers.remove(HOST);
                    headers.insert(CONTENT_LENGTH, HeaderValue::from(data.len()));
                    let repeats = waited && may_repeat;
                    progress.keep(repeats.then(|| data.clone()));
                    let sent =
                        promise.send(method.clone(), &target.uri, headers.clone(), data, progress);
                    let sent = sent.await;
                    match sent {
                        // As closing an idle connection is in HTTP/1.1.
                        Err(Ended::Unprocessed { leaving: true, .. }) if repeats => {
                            may_repeat = false;
                            data = progress.take_back();
                        }
                        sent => return sent,
                    }
                }
            }
        }
    }

    /// An access token, asked for if there is none. The rest of the time is the request's own.
    async fn token(
        &self,
        slot: &Slot,
        oauth: &OAuth2,
        identity: &Identity,
        of: Duration,
    ) -> Result<HeaderValue, Ended> {
        let limit = TOKEN_TIMEOUT.min(of / 4 * 3);
        let by = Instant::now() + limit;
        let asking = async {
            let (headers, form) = tokens::question(oauth).map_err(|e| failure::unmade(&e))?;
            let outgoing = Outgoing {
                method: Method::POST,
                url: &oauth.token_url,
                headers: self.complete(headers, &form),
                data: form.clone(),
            };
            let progress = Arc::new(Progress::new(&form, by));
            let phases = &mut Phases::default();
            let exchange = self.exchange(outgoing, identity, &progress, phases);
            match tokio::time::timeout_at(by.into(), exchange).await {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(ended)) => Err(failure::classify(&ended, &progress)),
                Err(_) => Err(failure::deadline(limit, &progress)),
            }
        };
        let turn = async {
            let waited = tokio::time::timeout_at(by.into(), slot.turn()).await;
            waited.map_err(|_| failure::no_token(limit))
        };
        slot.header(turn, Box::pin(asking))
            .await
            .map_err(Ended::Token)
    }

    async fn connect(
        &self,
        key: &Key,
        target: &Target,
        identity: &Identity,
        phases: &mut Phases,
        progress: &Progress,
    ) -> Result<Ready, Ended> {
        points::reach!("egress.connection.unmade");
        let connecting = self
            .connector
            .connect(&target.url, &identity.tls, phases, progress);
        let line = connecting.await?;
        points::reach!("egress.connection.made");
        if !line.is_http2() {
            return Ok(Ready::Http1(Box::new(Http1::new(line).await?)));
        }
        progress.on_making(Some(Making::Stream));
        let line = Http2::new(line).await?;
        progress.on_making(None);
        let promise = self.pool.keep_http2(key.clone(), line);
        promise.map(Ready::Http2).ok_or(Ended::NoStream)
    }
}

/// What stands in the header; of a token only that it will.
fn authorization(auth: &Auth) -> Option<Result<HeaderValue, http::Error>> {
    Some(match auth.credentials.as_ref()? {
        Credentials::Basic { username, password } => {
            let pair = [username.as_bytes(), b":", password.expose()].concat();
            tokens::basic(&Zeroizing::new(pair))
        }
        Credentials::Bearer(token) => tokens::authorization("Bearer", token.expose()),
        Credentials::OAuth2(_) => tokens::authorization("Bearer", b""),
    })
}

#[cfg(test)]
mod tests;
