//! The checked configuration: what the rest of Postrider is started with.
//!
//! Decides the shape. Leaves reading and checking to `assemble`: a value of these types is within
//! its bounds.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use postrider_domain::{Network, RetryPolicy, Secret, SliceCount};
use postrider_guard::Policy;

use crate::assemble::{Sources, load};
use crate::reference::ShowRow;

/// Everything that can be configured, checked. Made by [`load`]; [`Config::default`] is what no
/// file, no variable and no flag give.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[kafka]`: the cluster and the installation's names in it.
    pub kafka: Kafka,
    /// `[[sources]]`: intake topics; empty when none are given (the router needs one).
    pub sources: Vec<Source>,
    /// `[schema_registry]`; `None` = there is none.
    pub schema_registry: Option<SchemaRegistry>,
    /// `[dispatcher]`.
    pub dispatcher: Dispatcher,
    /// `[egress]`: where requests may go.
    pub egress: Policy,
    /// `[egress]`: how they leave.
    pub network: Network,
    /// `[secrets]`.
    pub secrets: Secrets,
    /// `[registration]`: what an endpoint's receiver has to show before it is sent anything.
    pub registration: Registration,
    /// `[telemetry]`.
    pub telemetry: Telemetry,
    pub(crate) shown: Vec<ShowRow>,
}

impl Config {
    /// The effective value of every key and where it came from, in the order of the reference;
    /// secrets are hidden.
    #[must_use]
    pub fn show(&self) -> &[ShowRow] {
        &self.shown
    }
}

impl Default for Config {
    fn default() -> Self {
        load(Sources::default()).expect("the defaults are within their own bounds")
    }
}

/// `[kafka]`.
#[derive(Clone, Debug)]
pub struct Kafka {
    /// `host:port`, comma-separated, as librdkafka's `bootstrap.servers` takes it.
    pub brokers: String,
    /// Before each of our topics and groups; 1 to 200 of `A-Z a-z 0-9 . _ -`.
    pub prefix: String,
    /// Partitions of every per-endpoint topic.
    pub slices: SliceCount,
    /// Copies of each partition of topics that we create, 1 to 15.
    pub replication: u16,
    /// Handed to librdkafka as they are; reserved ones are already refused.
    pub properties: Properties,
}

/// librdkafka properties by name. Some hold passwords, so `Debug` shows the names only.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties(pub(crate) BTreeMap<String, String>);

impl Properties {
    /// Name and value of each, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// One of `[[sources]]`: intake topics that are decoded alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Which topics.
    pub topics: Topics,
    /// How their records become events.
    pub decode: Decode,
    /// Where a record holds its attributes; empty with [`Decode::CloudEvents`].
    pub map: SourceMap,
}

/// Which topics a source reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topics {
    /// These, by name; at least one, none of them in another source.
    Names(Vec<String>),
    /// Every topic whose name matches; begins with `^`, which is how librdkafka tells it apart.
    Regex(String),
}

/// How records become events (`docs/reference/records.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decode {
    /// CloudEvents where a record is one, otherwise JSON with the map, without a map rows of an
    /// outbox.
    Auto,
    /// CloudEvents, binary or structured.
    CloudEvents,
    /// JSON with the map.
    Json,
    /// Rows of an outbox table, as Debezium's outbox event router writes them.
    Outbox,
}

/// `[sources.map]`: where each attribute is. Syntax already checked: `key`, `header:NAME`, or a
/// JSON pointer that begins with `/` (RFC 6901).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceMap {
    /// The event's id; `None` = derived from topic, partition and offset.
    pub id: Option<String>,
    /// The event's type; always present with [`Decode::Json`].
    pub event_type: Option<String>,
    /// The tenant; `None` = `default`.
    pub tenant: Option<String>,
    /// When it happened; `None` = not known.
    pub time: Option<String>,
    /// What `ordering: key` orders by; `None` = nothing.
    pub ordering_key: Option<String>,
}

/// `[schema_registry]`.
#[derive(Clone, PartialEq, Eq)]
pub struct SchemaRegistry {
    /// `http` or `https`, without user and password.
    pub url: String,
    /// User and password for basic authentication; never with a token.
    pub user: Option<(String, Secret)>,
    /// A bearer token.
    pub token: Option<Secret>,
    /// A file with certificate authorities; `None` = the system's.
    pub ca_file: Option<PathBuf>,
}

impl fmt::Debug for SchemaRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SchemaRegistry").field(&self.url).finish()
    }
}

/// `[dispatcher]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatcher {
    /// Requests in flight per worker, 1 to 65 536.
    pub in_flight_max: usize,
    /// The group protocol that decides who owns a slice.
    pub ownership: Ownership,
    /// How long a silent worker keeps its slices.
    pub session: Duration,
    /// How often a worker is heard; at most a third of `session`.
    pub heartbeat: Duration,
    /// `[dispatcher.defaults]`: what an endpoint gets when it does not say.
    pub defaults: Defaults,
}

impl Dispatcher {
    /// What [`Self::lease`] keeps in reserve for clocks and scheduling.
    pub const LEASE_MARGIN: Duration = Duration::from_secs(2);

    /// What has to be left of the lease beside the longest attempt: an idle worker renews it every
    /// 3 s, and a cluster that elects another coordinator for the group lets it wait for 6 to 9 s.
    pub const LEASE_MIN: Duration = Duration::from_secs(10);

    /// The least [`Self::timeout_max`] may be: the shortest timeout an endpoint may ask for.
    pub const TIMEOUT_MAX_MIN: Duration = Duration::from_secs(1);

    /// How long after its last sign of life a worker is sure to own its slices still: session −
    /// heartbeat − [`Self::LEASE_MARGIN`]. Attempts end within it, so that none is under way when
    /// the group gives the slice to another.
    #[must_use]
    pub const fn lease(&self) -> Duration {
        self.session
            .saturating_sub(self.heartbeat)
            .saturating_sub(Self::LEASE_MARGIN)
    }

    /// The longest timeout that is kept: [`Self::lease`] − [`Self::LEASE_MIN`]. The default timeout
    /// is at most this; the longer timeout of an endpoint is cut to it.
    #[must_use]
    pub const fn timeout_max(&self) -> Duration {
        self.lease().saturating_sub(Self::LEASE_MIN)
    }
}

/// Who decides which worker owns a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// The broker (KIP-848), Kafka 4.0 and later.
    Consumer,
    /// The classic rebalance protocol; degraded.
    Classic,
}

/// `[dispatcher.defaults]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// Requests in flight per endpoint, 1 to 1 000.
    pub concurrency: u16,
    /// One deadline over the whole exchange, at most 60 s.
    pub timeout: Duration,
    /// When to try again and when to give up.
    pub retry: RetryPolicy,
}

/// `[secrets]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secrets {
    /// The keys that seal secrets at rest; `None` = they lie unsealed. Not read here.
    pub key_file: Option<PathBuf>,
}

/// `[registration]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// What is asked of a receiver.
    pub handshake: Handshake,
    /// A DNS name that says whose requests they are; not empty with [`Handshake::CloudEvents`].
    pub origin: String,
}

/// How a receiver agrees to be sent requests (ADR 0038).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// Nobody is asked.
    None,
    /// `OPTIONS` with an origin, as CloudEvents' webhooks have it.
    CloudEvents,
    /// A signed request whose challenge comes back.
    Challenge,
}

/// `[telemetry]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telemetry {
    /// Log filter in the syntax of `tracing`'s `EnvFilter`, not empty; checked where logging
    /// starts.
    pub log: String,
    /// How log lines look.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}
