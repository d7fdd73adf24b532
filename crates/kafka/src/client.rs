//! How every Kafka client of ours is configured, and what it says when a broker is away.
//!
//! Decides the settings that hold for all clients, which of them a user may override, and how
//! librdkafka's complaints reach the log (its error events come about twenty a second while a broker
//! is away). Leaves refusing reserved properties by name to `config`.

use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use tracing::{debug, error, info, warn};

/// Where the brokers are and how to speak to them. No `Debug`: properties hold passwords.
#[derive(Clone)]
pub struct ClientSettings {
    /// `host:port`, comma-separated.
    pub brokers: String,
    /// librdkafka properties of the user; they override our defaults, not what safety rests on.
    pub properties: Vec<(String, String)>,
    /// Names the client in the broker's logs and quotas.
    pub client_id: String,
}

impl ClientSettings {
    /// The same settings for the embedded broker: it does not wake a waiting fetch when data
    /// arrives, so a fetch must not wait long.
    #[must_use]
    pub fn quick(mut self) -> Self {
        let property = ("fetch.wait.max.ms".to_owned(), "10".to_owned());
        self.properties.push(property);
        self
    }

    /// For a consumer that decides its own offsets: nothing is committed, stored or reset by itself.
    ///
    /// The small queues keep a client at about 10 MB, at no cost in speed that HTTP would notice.
    #[must_use]
    pub fn consumer(&self, group: &str) -> ClientConfig {
        let base = [
            ("fetch.wait.max.ms", "100"),
            ("queued.min.messages", "1000"),
            ("queued.max.messages.kbytes", "8192"),
            ("max.partition.fetch.bytes", "262144"),
            ("fetch.queue.backoff.ms", "20"),
            // A response with one record of 100 MiB, the most a broker takes, must fit.
            ("receive.message.max.bytes", "209715200"),
        ];
        let fixed = [
            ("group.id", group),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "error"),
            ("allow.auto.create.topics", "false"),
        ];
        self.config(&base, &fixed)
    }

    /// For the idempotent producer: what is acknowledged is on all in-sync replicas, once, in order.
    ///
    /// lz4 because it is always built in and costs least. 100 MiB is librdkafka's bound only: the
    /// broker's own, lower limit decides what is too large. The queue holds 256 MiB of keys and
    /// values at most; headers are not counted, and are bounded by who writes them.
    #[must_use]
    pub fn producer(&self) -> ClientConfig {
        let base = [
            ("linger.ms", "1"),
            ("compression.type", "lz4"),
            // Only for records without a partition: as the Java client would choose.
            ("partitioner", "murmur2_random"),
            ("message.max.bytes", "104857600"),
            ("message.timeout.ms", "30000"),
            ("queue.buffering.max.messages", "1000000"),
            ("queue.buffering.max.kbytes", "262144"),
        ];
        let fixed = [("enable.idempotence", "true"), ("acks", "all")];
        self.config(&base, &fixed)
    }

    /// As [`Self::producer`], but no record is given up because it waited long or failed often,
    /// whatever the user's properties say.
    ///
    /// What is given up can only be sent again behind younger records that librdkafka still holds;
    /// who writes in order must not let it come to that. A request still ends after 30 s without an
    /// answer, as it does with [`Self::producer`], or a broker that vanished would hold up its
    /// partitions for librdkafka's 60 s.
    #[must_use]
    pub fn tireless_producer(&self) -> ClientConfig {
        let mut config = self.producer();
        if config.get("socket.timeout.ms").is_none() {
            config.set("socket.timeout.ms", "30000");
        }
        config.set("message.timeout.ms", "0");
        config.set("retries", i32::MAX.to_string());
        config
    }

    /// For creating topics and asking about them.
    #[must_use]
    pub fn admin(&self) -> ClientConfig {
        self.config(&[], &[])
    }

    fn config(&self, base: &[(&str, &str)], fixed: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        // librdkafka's 10 s outlast the session of a group: a member that waits so long after a
        // broker came back is no member any more.
        config.set("reconnect.backoff.max.ms", "1000");
        // In its 30 s the kernel tries less and less often, at last 8 s apart and then not for 11 s: so
        // long after a network is whole again a client would wait. As the Java client has it.
        config.set("socket.connection.setup.timeout.ms", "10000");
        for (name, value) in base {
            config.set(*name, *value);
        }
        for (name, value) in &self.properties {
            config.set(own_name(name), value);
        }
        config.set("bootstrap.servers", &self.brokers);
        config.set("client.id", &self.client_id);
        for (name, value) in fixed {
            config.set(*name, *value);
        }
        // Without it librdkafka's warnings (rejected commits, expired sessions) are invisible.
        config.set_log_level(RDKafkaLogLevel::Info);
        config
    }
}

/// The name by which we set the property. librdkafka has several for some, and gets them in no
/// particular order: a user's word under another name could win over ours.
fn own_name(name: &str) -> &str {
    match name.strip_prefix("topic.").unwrap_or(name) {
        "message.timeout.ms" | "delivery.timeout.ms" => "message.timeout.ms",
        "retries" | "message.send.max.retries" => "retries",
        "acks" | "request.required.acks" => "acks",
        "auto.offset.reset" => "auto.offset.reset",
        _ => name,
    }
}

/// Why Kafka could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No broker answered in time.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// librdkafka refuses a property or its value.
    #[error("librdkafka refuses the settings: {0}; see kafka.properties")]
    Settings(String),
    /// A broker answered with an error.
    #[error("{doing}: {source}")]
    Refused {
        /// What was asked for.
        doing: String,
        /// The broker's or librdkafka's answer.
        source: KafkaError,
    },
}

impl ClientError {
    pub(crate) fn refused(doing: impl Into<String>) -> impl FnOnce(KafkaError) -> Self {
        let doing = doing.into();
        move |source| match source {
            KafkaError::ClientConfig(_, what, name, value) if name.contains("password") => {
                Self::Settings(format!("{what} ({name}, {} characters)", value.len()))
            }
            KafkaError::ClientConfig(_, what, name, value) => {
                Self::Settings(format!("{what} ({name} = {value:?})"))
            }
            KafkaError::ClientCreation(what) => Self::Settings(what),
            source => Self::Refused { doing, source },
        }
    }
}

/// No broker answered in the time given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no broker of {brokers} answered within {}: {reason}", Seconds(*waited))]
pub struct Unreachable {
    /// The addresses tried.
    pub brokers: String,
    /// How long.
    pub waited: Duration,
    /// librdkafka's own words.
    pub reason: String,
}

struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0.as_secs_f32())
    }
}

/// What a first contact tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterInfo {
    /// `host:port` as the brokers advertise themselves.
    pub brokers: Vec<String>,
}

/// Waits at most `wait` for any broker to answer.
///
/// # Errors
/// [`ClientError::Unreachable`] with librdkafka's reason, [`ClientError::Settings`] at once.
pub fn connect_check(
    settings: &ClientSettings,
    wait: Duration,
) -> Result<ClusterInfo, ClientError> {
    let metadata = metadata(settings, wait)?;
    let address = |b: &rdkafka::metadata::MetadataBroker| format!("{}:{}", b.host(), b.port());
    Ok(ClusterInfo {
        brokers: metadata.brokers().iter().map(address).collect(),
    })
}

/// The cluster's metadata, all topics.
pub(crate) fn metadata(settings: &ClientSettings, wait: Duration) -> Result<Metadata, ClientError> {
    let client: BaseConsumer<LogContext> = settings
        .admin()
        .create_with_context(LogContext::silent())
        .map_err(ClientError::refused("connect"))?;
    patient(&client, settings, wait, |step| {
        client.fetch_metadata(None, step)
    })
}

/// Asks again until it is answered or `wait` is over, collecting librdkafka's reasons meanwhile.
pub(crate) fn patient<T>(
    client: &BaseConsumer<LogContext>,
    settings: &ClientSettings,
    wait: Duration,
    ask: impl Fn(Duration) -> Result<T, KafkaError>,
) -> Result<T, ClientError> {
    let deadline = Instant::now() + wait;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let error = match ask(left.min(Duration::from_millis(500))) {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        // Serves the error events; a message cannot come, nothing is assigned.
        drop(client.poll(Duration::from_millis(20)));
        if Instant::now() >= deadline {
            let reason = client.context().complaints.last_reason();
            return Err(ClientError::Unreachable(Unreachable {
                brokers: settings.brokers.clone(),
                waited: wait,
                reason: reason.unwrap_or_else(|| error.to_string()),
            }));
        }
    }
}

/// The context of clients with nothing to add: logs, and remembers the last complaint.
pub(crate) struct LogContext {
    pub(crate) complaints: Complaints,
}

impl LogContext {
    pub(crate) fn new() -> Self {
        Self {
            complaints: Complaints::new(true),
        }
    }

    /// For a client whose caller prints the reason itself.
    pub(crate) fn silent() -> Self {
        Self {
            complaints: Complaints::new(false),
        }
    }
}

impl ClientContext for LogContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.complaints.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.complaints.error(&error, reason);
    }
}

impl ConsumerContext for LogContext {}

/// The target of librdkafka's lines in our log, to filter by.
const LOG: &str = "librdkafka";

/// Librdkafka's error events and log lines on their way to our log, each kind of error at most once
/// in ten seconds.
pub(crate) struct Complaints {
    aloud: bool,
    kinds: Mutex<Vec<Kind>>,
}

/// One kind of error: as many as there are error codes, so the list is bounded.
struct Kind {
    code: Option<RDKafkaErrorCode>,
    reason: String,
    logged_at: Option<Instant>,
    unlogged: u32,
}

impl Complaints {
    const INTERVAL: Duration = Duration::from_secs(10);

    pub(crate) fn new(aloud: bool) -> Self {
        Self {
            aloud,
            kinds: Mutex::new(Vec::new()),
        }
    }

    /// For `ClientContext::error`, which is also called at the end of a partition: no complaint.
    pub(crate) fn error(&self, error: &KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        if code == Some(RDKafkaErrorCode::PartitionEOF) {
            return;
        }
        let mut kinds = self.kinds.lock().unwrap_or_else(|e| e.into_inner());
        // The latest goes last, where `last_reason` looks first.
        let mut kind = match kinds.iter().position(|kind| kind.code == code) {
            Some(index) => kinds.remove(index),
            None => Kind {
                code,
                reason: String::new(),
                logged_at: None,
                unlogged: 0,
            },
        };
        reason.clone_into(&mut kind.reason);
        let due = kind
            .logged_at
            .is_none_or(|at| at.elapsed() >= Self::INTERVAL);
        if due && self.aloud {
            let unlogged = kind.unlogged;
            match code {
                // Passes only when somebody mends it, while brokers that are away come back.
                Some(RDKafkaErrorCode::Authentication) => error!(
                    target: LOG, reason, unlogged,
                    "alarm: the brokers refuse the credentials of kafka.properties; this is tried \
                     again, nothing is lost or skipped"
                ),
                Some(RDKafkaErrorCode::SSL) => error!(
                    target: LOG, reason, unlogged,
                    "alarm: no TLS with the brokers: has their certificate expired, is it for \
                     another name, or from an authority that ssl.ca.location does not hold? This \
                     is tried again, nothing is lost or skipped"
                ),
                _ => warn!(target: LOG, reason, unlogged, "{error}"),
            }
            kind.logged_at = Some(Instant::now());
            kind.unlogged = 0;
        } else {
            kind.unlogged += 1;
        }
        kinds.push(kind);
    }

    /// For `ClientContext::log`. Failed connections come as error events too, properties of
    /// producers are reported by every consumer, and the first producer of a new cluster waits for
    /// its id: none is worth a warning.
    pub(crate) fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let harmless = matches!(facility, "FAIL" | "ERROR" | "CONFWARN" | "GETPID");
        match level {
            _ if harmless || !self.aloud => debug!(target: LOG, facility, "{message}"),
            RDKafkaLogLevel::Debug | RDKafkaLogLevel::Info => {
                debug!(target: LOG, facility, "{message}");
            }
            RDKafkaLogLevel::Notice => info!(target: LOG, facility, "{message}"),
            _ => warn!(target: LOG, facility, "{message}"),
        }
    }

    /// The latest reason; "all brokers are down" only when there is no better one.
    pub(crate) fn last_reason(&self) -> Option<String> {
        let kinds = self.kinds.lock().unwrap_or_else(|e| e.into_inner());
        let telling = |kind: &&Kind| kind.code != Some(RDKafkaErrorCode::AllBrokersDown);
        let latest = kinds.iter().rev().find(telling).or_else(|| kinds.last());
        latest.map(|kind| kind.reason.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(properties: &[(&str, &str)]) -> ClientSettings {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        ClientSettings {
            brokers: "127.0.0.1:9".to_owned(),
            properties: properties.iter().map(owned).collect(),
            client_id: "test".to_owned(),
        }
    }

    #[test]
    fn users_override_defaults_but_not_safety() {
        let settings = settings(&[("fetch.wait.max.ms", "7"), ("enable.auto.commit", "true")]);
        let config = settings.consumer("group");
        assert_eq!(config.get("fetch.wait.max.ms"), Some("7"));
        assert_eq!(config.get("enable.auto.commit"), Some("false"));
        assert_eq!(
            settings.quick().consumer("group").get("fetch.wait.max.ms"),
            Some("10")
        );
    }

    #[test]
    fn a_tireless_producer_gives_nothing_up_whatever_a_user_says() {
        let names = [
            ("message.timeout.ms", "retries"),
            ("delivery.timeout.ms", "message.send.max.retries"),
            ("topic.delivery.timeout.ms", "retries"),
        ];
        for (timeout, retries) in names {
            let settings = settings(&[(timeout, "1000"), (retries, "3")]);
            let read = |config: ClientConfig, name| {
                let native = config.create_native_config().unwrap();
                native.get(name).unwrap()
            };
            let tireless = || settings.tireless_producer();
            assert_eq!(read(tireless(), "message.timeout.ms"), "0", "{timeout}");
            let most = i32::MAX.to_string();
            assert_eq!(read(tireless(), "retries"), most, "{retries}");
            assert_eq!(read(tireless(), "socket.timeout.ms"), "30000");
            // Others give up as they are told to.
            let usual = settings.producer();
            assert_eq!(read(usual, "message.timeout.ms"), "1000", "{timeout}");
        }
    }

    #[test]
    fn an_absent_broker_is_named_with_the_reason() {
        let wait = Duration::from_millis(300);
        match connect_check(&settings(&[]), wait) {
            Err(ClientError::Unreachable(unreachable)) => {
                assert_eq!(unreachable.brokers, "127.0.0.1:9");
                let reason = unreachable.reason;
                assert!(reason.contains("Connection refused"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_wrong_property_is_refused_at_once() {
        match connect_check(&settings(&[("no.such", "1")]), Duration::from_secs(60)) {
            Err(ClientError::Settings(what)) => assert!(what.contains("no.such"), "{what}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_telling_reason_wins_over_all_brokers_down() {
        let complaints = Complaints::new(false);
        assert_eq!(complaints.last_reason(), None);
        let error = |code| KafkaError::Global(code);
        complaints.error(&error(RDKafkaErrorCode::BrokerTransportFailure), "refused");
        complaints.error(&error(RDKafkaErrorCode::AllBrokersDown), "1/1 down");
        complaints.error(&error(RDKafkaErrorCode::PartitionEOF), "the end");
        assert_eq!(complaints.last_reason().as_deref(), Some("refused"));
    }
}
