//! Every key: path, kind, default, meaning. The one table behind checks, `show` and reference.
//!
//! Decides names, defaults, bounds and words; `docs/reference/configuration.md` is made of them.
//! Leaves rules that concern several keys to `assemble`.

use std::time::Duration;

use serde_json::Value;

use crate::config::{Decode, Handshake, LogFormat, Ownership};
use crate::kind::{
    Address, BaseUrl, Choice, Flag, Hidden, Kind, List, Network, Retry, Span, Text, Whole,
};
use crate::proxy::ProxyUrl;

/// One key, with the kind its value has.
pub(crate) struct Key<K> {
    /// Dotted; `sources[]` stands for every element.
    pub(crate) path: &'static str,
    pub(crate) kind: K,
    /// As it would be written in a variable; `None` = may be left out, with no value.
    pub(crate) default: Option<&'static str>,
    /// What it does, and what raising it costs. One or two sentences.
    pub(crate) meaning: &'static str,
}

/// A key seen without its type.
pub(crate) trait AnyKey: Sync {
    fn path(&self) -> &'static str;
    fn name(&self) -> &'static str;
    fn expected(&self) -> String;
    fn of_text(&self, text: &str) -> Value;
    fn default_text(&self) -> Option<&'static str>;
    fn meaning(&self) -> &'static str;
}

impl<K: Kind> AnyKey for Key<K> {
    fn path(&self) -> &'static str {
        self.path
    }

    fn name(&self) -> &'static str {
        self.kind.name()
    }

    fn expected(&self) -> String {
        self.kind.expected()
    }

    fn of_text(&self, text: &str) -> Value {
        self.kind.of_text(text)
    }

    fn default_text(&self) -> Option<&'static str> {
        self.default
    }

    fn meaning(&self) -> &'static str {
        self.meaning
    }
}

/// The version all keys so far came with.
pub(crate) const SINCE: &str = "0.1.0";

/// The section whose names are librdkafka's, not ours.
pub(crate) const PROPERTIES: &str = "kafka.properties";
/// The section that is a list of tables.
pub(crate) const SOURCES: &str = "sources";

/// Keys and sections of the contract whose machinery is not in this version.
pub(crate) const NOT_YET: [&str; 4] = ["api", "api_url", "admin", "telemetry.otlp_endpoint"];

/// Every key, in the order of the reference.
pub(crate) const KEYS: [&dyn AnyKey; 34] = [
    &BROKERS,
    &PREFIX,
    &SLICES,
    &REPLICATION,
    &TOPICS,
    &TOPICS_REGEX,
    &DECODE,
    &MAP_ID,
    &MAP_TYPE,
    &MAP_TENANT,
    &MAP_TIME,
    &MAP_ORDERING_KEY,
    &REGISTRY_URL,
    &REGISTRY_USER,
    &REGISTRY_PASSWORD,
    &REGISTRY_TOKEN,
    &REGISTRY_CA_FILE,
    &IN_FLIGHT_MAX,
    &OWNERSHIP,
    &SESSION,
    &HEARTBEAT,
    &CONCURRENCY,
    &TIMEOUT,
    &RETRY,
    &ALLOW_HTTP,
    &PORTS,
    &ALLOW_RANGES,
    &PROXY,
    &SOURCE_ADDRESSES,
    &KEY_FILE,
    &HANDSHAKE,
    &ORIGIN,
    &LOG,
    &LOG_FORMAT,
];

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

const MAPPED: Text = Text {
    expected: "\"key\", \"header:NAME\" or a JSON pointer such as \"/data/id\"",
    accepts: is_place,
};

pub(crate) static BROKERS: Key<Text> = Key {
    path: "kafka.brokers",
    kind: Text {
        expected: "host:port, several separated by commas",
        accepts: is_broker_list,
    },
    default: Some("127.0.0.1:9092"),
    meaning: "Where the Kafka cluster is first asked; it names its other brokers itself.",
};

pub(crate) static PREFIX: Key<Text> = Key {
    path: "kafka.prefix",
    kind: Text {
        expected: "1 to 200 of A-Z a-z 0-9 . _ -",
        accepts: |text| text.len() <= 200 && is_topic(text),
    },
    default: Some("postrider."),
    meaning: "Stands before the name of each of Postrider's topics and groups; two installations \
              in one cluster need two prefixes.",
};

pub(crate) static SLICES: Key<Whole> = Key {
    path: "kafka.slices",
    kind: Whole { min: 1, max: 256 },
    default: Some("64"),
    meaning: "Partitions of every per-endpoint topic, and so the most dispatchers that can share \
              the work. Fixed for the life of an installation; each costs broker files and memory \
              on every topic.",
};

pub(crate) static REPLICATION: Key<Whole> = Key {
    path: "kafka.replication",
    kind: Whole { min: 1, max: 15 },
    default: Some("3"),
    meaning: "Copies of each partition of the topics Postrider creates; at most the number of \
              brokers. Below 3 a lost broker can lose deliveries.",
};

pub(crate) static TOPICS: Key<List<Text>> = Key {
    path: "sources[].topics",
    kind: List {
        item: Text {
            expected: "a topic name: 1 to 249 of A-Z a-z 0-9 . _ -",
            accepts: is_topic,
        },
        name: "list of text",
        min: 1,
        max: 1_000,
    },
    default: None,
    meaning: "Intake topics read by name. Each source has this or topics_regex.",
};

pub(crate) static TOPICS_REGEX: Key<Text> = Key {
    path: "sources[].topics_regex",
    kind: Text {
        expected: "a regular expression that begins with ^",
        accepts: |text| text.len() > 1 && text.starts_with('^'),
    },
    default: None,
    meaning: "Every topic whose name matches is read, those made later too.",
};

pub(crate) static DECODE: Key<Choice<Decode>> = Key {
    path: "sources[].decode",
    kind: Choice {
        options: &[
            ("auto", Decode::Auto),
            ("cloudevents", Decode::CloudEvents),
            ("json", Decode::Json),
            ("debezium-outbox", Decode::Outbox),
        ],
        not_yet: &[],
    },
    default: Some("auto"),
    meaning: "How records become events: cloudevents (binary or structured), json with the map, \
              debezium-outbox (rows of an outbox table; the map only says what is elsewhere than \
              Debezium puts it), or auto: CloudEvents where a record is one, otherwise JSON with \
              the map, without a map outbox rows on topics outbox.event.….",
};

pub(crate) static MAP_ID: Key<Text> = Key {
    path: "sources[].map.id",
    kind: MAPPED,
    default: None,
    meaning: "Where a plain JSON record has its id; without it the id is made from topic, \
              partition and offset. Of an outbox row: header id.",
};

pub(crate) static MAP_TYPE: Key<Text> = Key {
    path: "sources[].map.type",
    kind: MAPPED,
    default: None,
    meaning: "Where it has the event type; required when decode is json. Of an outbox row: header \
              eventType, else header type, else what follows outbox.event. in the topic's name.",
};

pub(crate) static MAP_TENANT: Key<Text> = Key {
    path: "sources[].map.tenant",
    kind: MAPPED,
    default: None,
    meaning: "Where it has the merchant account; without it the event belongs to tenant default. \
              Of an outbox row: header tenant.",
};

pub(crate) static MAP_TIME: Key<Text> = Key {
    path: "sources[].map.time",
    kind: MAPPED,
    default: None,
    meaning: "Where it has the time it happened, RFC 3339; forwarded as it is.",
};

pub(crate) static MAP_ORDERING_KEY: Key<Text> = Key {
    path: "sources[].map.ordering_key",
    kind: MAPPED,
    default: None,
    meaning: "Where it has what deliveries are kept in order by. Of an outbox row: the key.",
};

pub(crate) static REGISTRY_URL: Key<BaseUrl> = Key {
    path: "schema_registry.url",
    kind: BaseUrl,
    default: None,
    meaning: "Where schemas are, of records that are framed for a schema registry; of those that \
              offer Confluent's API elsewhere, with the path before it. Without it such records \
              become dead letters. Routers send requests there, whatever address it is.",
};

pub(crate) static REGISTRY_USER: Key<Text> = Key {
    path: "schema_registry.user",
    kind: Text {
        expected: "a user's name without a colon",
        accepts: |text| !text.is_empty() && !text.contains([':', '\r', '\n']),
    },
    default: None,
    meaning: "Who asks the registry, by HTTP basic authentication; with a password.",
};

pub(crate) static REGISTRY_PASSWORD: Key<Hidden> = Key {
    path: "schema_registry.password",
    kind: Hidden {
        expected: "the password of schema_registry.user",
        accepts: |text| !text.is_empty(),
    },
    default: None,
    meaning: "That user's password, better in a variable than in a file; hidden in `config show`.",
};

pub(crate) static REGISTRY_TOKEN: Key<Hidden> = Key {
    path: "schema_registry.token",
    kind: Hidden {
        expected: "a bearer token of visible ASCII",
        accepts: |text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()),
    },
    default: None,
    meaning: "A bearer token, in place of user and password; hidden in `config show`.",
};

pub(crate) static REGISTRY_CA_FILE: Key<Text> = Key {
    path: "schema_registry.ca_file",
    kind: Text {
        expected: "the path of a file",
        accepts: |text| !text.is_empty(),
    },
    default: None,
    meaning: "A PEM file with the certificate authorities that the registry's certificate may be \
              of, in place of the system's; read at the start.",
};

pub(crate) static IN_FLIGHT_MAX: Key<Whole> = Key {
    path: "dispatcher.in_flight_max",
    kind: Whole {
        min: 1,
        max: 65_536,
    },
    default: Some("2048"),
    meaning: "Requests in flight per worker. Each holds a socket and its event in memory.",
};

pub(crate) static OWNERSHIP: Key<Choice<Ownership>> = Key {
    path: "dispatcher.ownership",
    kind: Choice {
        options: &[
            ("consumer", Ownership::Consumer),
            ("classic", Ownership::Classic),
        ],
        not_yet: &[],
    },
    default: Some("consumer"),
    meaning: "The group protocol that gives slices to workers: consumer (KIP-848, Kafka 4.0 and \
              later), or classic for older brokers, where deliveries may pause up to a session on \
              each rebalance.",
};

pub(crate) static SESSION: Key<Span> = Key {
    path: "dispatcher.session",
    kind: Span {
        min: secs(13),
        max: secs(1_800),
    },
    default: Some("45s"),
    meaning: "How long a silent worker keeps its slices, and so how long a crash delays them. At \
              most what the broker grants the group, at least 13 s and a heartbeat; below the \
              default, less time for a broker failover and shorter timeouts.",
};

pub(crate) static HEARTBEAT: Key<Span> = Key {
    path: "dispatcher.heartbeat",
    kind: Span {
        min: Duration::from_millis(100),
        max: secs(60),
    },
    default: Some("5s"),
    meaning: "How often a worker is heard; at most a third of session. A clean hand-over takes \
              this long.",
};

pub(crate) static CONCURRENCY: Key<Whole> = Key {
    path: "dispatcher.defaults.concurrency",
    kind: Whole { min: 1, max: 1_000 },
    default: Some("16"),
    meaning: "Requests in flight per endpoint that does not say. Raising it loads the receiver.",
};

pub(crate) static TIMEOUT: Key<Span> = Key {
    path: "dispatcher.defaults.timeout",
    kind: Span {
        min: Duration::from_millis(100),
        max: secs(60),
    },
    default: Some("15s"),
    meaning: "Deadline over a whole exchange for endpoints that do not say. At most session - \
              heartbeat - 12 s; an endpoint's own timeout is cut to that.",
};

pub(crate) static RETRY: Key<Retry> = Key {
    path: "dispatcher.defaults.retry",
    kind: Retry,
    default: Some("standard"),
    meaning: "When a failed delivery is tried again and when it is given up, for endpoints that do \
              not say. A longer window needs longer retention of the retry topics.",
};

pub(crate) static ALLOW_HTTP: Key<Flag> = Key {
    path: "egress.allow_http",
    kind: Flag,
    default: Some("false"),
    meaning: "Whether endpoints may have an http URL. Their requests cross the network in the \
              clear.",
};

pub(crate) static PORTS: Key<List<Whole>> = Key {
    path: "egress.ports",
    kind: List {
        item: Whole {
            min: 1,
            max: 65_535,
        },
        name: "list of whole numbers",
        min: 1,
        max: 64,
    },
    default: Some("443,8443"),
    meaning: "Ports that endpoints may have.",
};

pub(crate) static ALLOW_RANGES: Key<List<Network>> = Key {
    path: "egress.allow_ranges",
    kind: List {
        item: Network,
        name: "list of networks",
        min: 0,
        max: 256,
    },
    default: Some(""),
    meaning: "Exceptions to the deny list of private and special addresses. Each lets merchants \
              send requests into that network.",
};

pub(crate) static PROXY: Key<ProxyUrl> = Key {
    path: "egress.proxy",
    kind: ProxyUrl,
    default: Some(""),
    meaning: "HTTP proxy that every request goes through, by CONNECT to an address that was \
              looked up and checked here. Variables such as HTTPS_PROXY are not read.",
};

pub(crate) static SOURCE_ADDRESSES: Key<List<Address>> = Key {
    path: "egress.source_addresses",
    kind: List {
        item: Address,
        name: "list of addresses",
        min: 0,
        max: 64,
    },
    default: Some(""),
    meaning: "Addresses of this machine that requests come from, in turns. With addresses of one \
              family alone, receivers are reached over that family alone.",
};

pub(crate) static KEY_FILE: Key<Text> = Key {
    path: "secrets.key_file",
    kind: Text {
        expected: "a path",
        accepts: |text| !text.is_empty() && !text.contains('\0'),
    },
    default: None,
    meaning: "File of the keys that seal endpoints' secrets in Kafka (secrets.md): the first seals, \
              all open. Without it secrets are written unsealed, and endpoints whose secrets are \
              sealed wait. Routers do not need it.",
};

pub(crate) static HANDSHAKE: Key<Choice<Handshake>> = Key {
    path: "registration.handshake",
    kind: Choice {
        options: &[
            ("none", Handshake::None),
            ("cloudevents", Handshake::CloudEvents),
            ("challenge", Handshake::Challenge),
        ],
        not_yet: &[],
    },
    default: Some("none"),
    meaning: "What the receiver of a new endpoint, or of one whose URL moved, has to answer before \
              the endpoint is written: the OPTIONS request of CloudEvents' webhooks, or a signed \
              request whose challenge it sends back. One request for each such endpoint.",
};

pub(crate) static ORIGIN: Key<Text> = Key {
    path: "registration.origin",
    kind: Text {
        expected: "a DNS name such as webhooks.example.com",
        accepts: |text| text.is_empty() || is_name(text),
    },
    default: Some(""),
    meaning: "Whose requests they are: WebHook-Request-Origin of the handshake and of every \
              delivery. Required when registration.handshake is cloudevents, not sent otherwise.",
};

pub(crate) static LOG: Key<Text> = Key {
    path: "telemetry.log",
    kind: Text {
        expected: "a level (error, warn, info, debug, trace) or a filter such as \
                   \"info,librdkafka=debug\"",
        accepts: |text| !text.trim().is_empty(),
    },
    default: Some("info"),
    meaning: "Which log lines are written to standard error. debug writes a line per attempt.",
};

pub(crate) static LOG_FORMAT: Key<Choice<LogFormat>> = Key {
    path: "telemetry.format",
    kind: Choice {
        options: &[("text", LogFormat::Text), ("json", LogFormat::Json)],
        not_yet: &[],
    },
    default: Some("text"),
    meaning: "How log lines look: text for people, json for collectors.",
};

/// Kafka's own rule for topic names.
fn is_topic(text: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=249).contains(&text.len()) && text.bytes().all(legal) && text != "." && text != ".."
}

/// At least two labels of letters, digits and inner hyphens (RFC 1123).
fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let clean = label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-');
        (1..=63).contains(&label.len()) && clean && !label.starts_with('-') && !label.ends_with('-')
    };
    text.len() <= 253 && text.contains('.') && text.split('.').all(is_label)
}

fn is_broker_list(text: &str) -> bool {
    text.split(',').map(str::trim).all(|broker| {
        broker.rsplit_once(':').is_some_and(|(host, port)| {
            let clean = !host.contains(|c: char| c.is_whitespace() || c.is_control());
            !host.is_empty() && clean && port.parse::<u16>().is_ok_and(|port| port > 0)
        })
    })
}

/// `key`, `header:NAME`, or a JSON pointer of at least one step (RFC 6901).
fn is_place(text: &str) -> bool {
    if let Some(name) = text.strip_prefix("header:") {
        return !name.is_empty() && !name.contains(char::is_control);
    }
    let escaped = |rest: &str| rest.starts_with(['0', '1']);
    text == "key" || (text.starts_with('/') && text.split('~').skip(1).all(escaped))
}
