//! The names of Postrider's topics and groups, and how the topics are to be made.
//!
//! Decides names, partition counts and topic configuration (`docs/reference/topics.md`). Leaves
//! asking a broker for them to `kafka`, and the validity of the prefix (a topic name is at most 249
//! of `A-Z a-z 0-9 . _ -`) to `config`.

use std::sync::Arc;
use std::time::Duration;

use postrider_domain::{Lane, Rung, SliceCount};

use crate::endpoint;

/// Every topic and group name of an installation. Cloning is a reference count.
#[derive(Clone, Debug)]
pub struct Topics(Arc<Names>);

#[derive(Debug)]
struct Names {
    prefix: Box<str>,
    lanes: [Arc<str>; Lane::COUNT],
    endpoints: Arc<str>,
    dead_letters: Arc<str>,
    endpoint_state: Arc<str>,
    attempts: Arc<str>,
    notices: Arc<str>,
    router_group: Arc<str>,
    dispatcher_group: Arc<str>,
    history_group: Arc<str>,
}

/// A topic as it should be on the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// Full name.
    pub name: Arc<str>,
    /// Partition count.
    pub partitions: u16,
    /// Copies of each partition.
    pub replication: u16,
    /// Topic configuration, Kafka's names.
    pub configs: Vec<(&'static str, String)>,
}

impl Topics {
    /// The names behind a prefix, by default `postrider.`.
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        let name = |stem: &str| -> Arc<str> { format!("{prefix}{stem}").into() };
        let mut lanes: [Arc<str>; Lane::COUNT] = std::array::from_fn(|_| name(""));
        for lane in Lane::all() {
            lanes[lane.index()] = name(&lane.to_string());
        }
        Self(Arc::new(Names {
            prefix: prefix.into(),
            lanes,
            endpoints: name("endpoints"),
            dead_letters: name("dead-letters"),
            endpoint_state: name("endpoint-state"),
            attempts: name("attempts"),
            notices: name("notices"),
            router_group: name("router"),
            dispatcher_group: name("dispatcher"),
            history_group: name("history"),
        }))
    }

    /// What every name begins with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.0.prefix
    }

    /// The topic of a lane.
    #[must_use]
    pub fn lane(&self, lane: Lane) -> &Arc<str> {
        &self.0.lanes[lane.index()]
    }

    /// First attempts, written by the router.
    #[must_use]
    pub fn deliveries(&self) -> &Arc<str> {
        self.lane(Lane::Deliveries)
    }

    /// Endpoint configurations, compacted.
    #[must_use]
    pub fn endpoints(&self) -> &Arc<str> {
        &self.0.endpoints
    }

    /// What was given up, and input that could not be read.
    #[must_use]
    pub fn dead_letters(&self) -> &Arc<str> {
        &self.0.dead_letters
    }

    /// Who owns a slice and what it remembers of its endpoints, compacted.
    #[must_use]
    pub fn endpoint_state(&self) -> &Arc<str> {
        &self.0.endpoint_state
    }

    /// One record per request.
    #[must_use]
    pub fn attempts(&self) -> &Arc<str> {
        &self.0.attempts
    }

    /// Events about endpoints, keyed by tenant.
    #[must_use]
    pub fn notices(&self) -> &Arc<str> {
        &self.0.notices
    }

    /// The consumer group of the routers.
    #[must_use]
    pub fn router_group(&self) -> &Arc<str> {
        &self.0.router_group
    }

    /// The consumer group whose members own the slices.
    #[must_use]
    pub fn dispatcher_group(&self) -> &Arc<str> {
        &self.0.dispatcher_group
    }

    /// The consumer group that feeds the attempt history.
    #[must_use]
    pub fn history_group(&self) -> &Arc<str> {
        &self.0.history_group
    }

    /// Every topic as it should be made: the thirteen per-endpoint topics, then `notices`.
    #[must_use]
    pub fn specs(&self, slices: SliceCount, replication: u16) -> Vec<TopicSpec> {
        let spec = |name: &Arc<str>, configs: Vec<(&'static str, String)>| TopicSpec {
            name: Arc::clone(name),
            partitions: slices.get(),
            replication,
            configs: configs
                .into_iter()
                .chain((replication >= 3).then(|| ("min.insync.replicas", "2".to_owned())))
                .collect(),
        };
        let rungs = Rung::all().map(|rung| spec(self.lane(Lane::Retry(rung)), rung_configs(rung)));
        let first = [
            spec(self.endpoints(), endpoints_configs()),
            spec(self.deliveries(), kept_for(OUTAGE)),
        ];
        let rest = [
            spec(self.lane(Lane::Backlog), kept_for(WINDOW + OUTAGE)),
            spec(self.lane(Lane::Redeliveries), kept_for(WINDOW + OUTAGE)),
            spec(self.dead_letters(), dead_letters_configs()),
            spec(self.endpoint_state(), endpoint_state_configs()),
            spec(self.attempts(), kept_for(OUTAGE)),
            spec(self.notices(), kept_for(OUTAGE)),
        ];
        first.into_iter().chain(rungs).chain(rest).collect()
    }
}

const DAY: Duration = Duration::from_secs(86_400);

/// How long every reader of a topic may be down before records are lost. Records of `deliveries`
/// and of the rungs are moved on as soon as they are read (a hot one within 45 s, a waiting one
/// when it is due), so an outage is all their retention has to cover.
const OUTAGE: Duration = Duration::from_secs(7 * 86_400);

/// Rounds the longest retry window (30 d) up. A record may stay in `backlog` and `redeliveries` for
/// the whole of it, and must then still be there to be dead-lettered by name.
const WINDOW: Duration = Duration::from_secs(31 * 86_400);

/// Largest record of a per-endpoint topic that is not compacted: an event of 1 MiB with its attributes, twice over.
const MESSAGE_BYTES_MAX: u32 = 2 << 20;

/// Largest dead letter: undecodable and oversized input is kept byte for byte, and this is the
/// largest value librdkafka and most brokers are ever run with.
const DEAD_LETTER_BYTES_MAX: u32 = 100 << 20;

fn kept_for(retention: Duration) -> Vec<(&'static str, String)> {
    vec![
        ("cleanup.policy", "delete".to_owned()),
        ("retention.ms", retention.as_millis().to_string()),
        // A size limit set broker-wide would drop records nobody has read.
        ("retention.bytes", "-1".to_owned()),
        ("max.message.bytes", MESSAGE_BYTES_MAX.to_string()),
    ]
}

/// Append time, because the reader of a rung waits `delay` from it: the clock of one broker, and
/// never going back within a partition, whatever the writers' clocks say.
fn rung_configs(rung: Rung) -> Vec<(&'static str, String)> {
    let mut configs = kept_for(rung.delay() * 2 + OUTAGE);
    configs.push(("message.timestamp.type", "LogAppendTime".to_owned()));
    configs
}

/// Its records are written one by one and read whole into memory by every role that starts.
///
/// Tombstones stay as long as a delivery of the deleted endpoint may: with the tombstone it is
/// discarded by the rule `endpoint_deleted`, without it would become a dead letter of an unknown
/// endpoint.
fn endpoints_configs() -> Vec<(&'static str, String)> {
    let tombstones_kept = (WINDOW + OUTAGE).as_millis();
    vec![
        ("cleanup.policy", "compact".to_owned()),
        ("max.message.bytes", endpoint::RECORD_BYTES_MAX.to_string()),
        ("delete.retention.ms", tombstones_kept.to_string()),
    ]
}

/// A limited or draining endpoint is written anew every second or so, and the next owner of a slice
/// reads its whole partition before it sends anything: what is overwritten has to go soon.
/// - Small segments, because the newest one is never compacted; by bytes and not by time, because a
///   reader pays for bytes and a quiet partition has few.
/// - Compaction begins when a tenth is overwritten, not half.
/// - But not before [`STATE_LAG`].
///
/// Records are small, but a producer's batch of them is not, and the bound counts batches.
fn endpoint_state_configs() -> Vec<(&'static str, String)> {
    vec![
        ("cleanup.policy", "compact".to_owned()),
        ("max.message.bytes", MESSAGE_BYTES_MAX.to_string()),
        ("segment.bytes", STATE_SEGMENT_BYTES.to_string()),
        ("min.cleanable.dirty.ratio", "0.1".to_owned()),
        ("min.compaction.lag.ms", STATE_LAG.as_millis().to_string()),
    ]
}

/// Read within a second.
const STATE_SEGMENT_BYTES: u32 = 16 << 20;

/// Compaction keeps the last record of a key, whoever wrote it. A worker that has lost its slice can
/// overwrite the owner's record once more; the owner's has to stay until the owner, or its
/// successor after a session, has read both and knows which one counts.
const STATE_LAG: Duration = Duration::from_secs(2 * 60);

/// A month to look at a dead letter and redrive it, and a week for its reader's outage.
fn dead_letters_configs() -> Vec<(&'static str, String)> {
    let mut configs = kept_for(31 * DAY + OUTAGE);
    configs.retain(|(name, _)| *name != "max.message.bytes");
    configs.push(("max.message.bytes", DEAD_LETTER_BYTES_MAX.to_string()));
    configs
}

#[cfg(test)]
mod tests {
    use postrider_domain::RetryPolicy;

    use super::*;

    fn config<'a>(specs: &'a [TopicSpec], topic: &str, key: &str) -> Option<&'a str> {
        let spec = specs.iter().find(|spec| &*spec.name == topic)?;
        let (_, value) = spec.configs.iter().find(|(name, _)| *name == key)?;
        Some(value)
    }

    #[test]
    fn names_are_those_of_the_contract() {
        let slices = SliceCount::new(64).unwrap();
        let specs = Topics::new("postrider.").specs(slices, 3);
        let names: Vec<&str> = specs.iter().map(|spec| &*spec.name).collect();
        assert_eq!(
            names,
            [
                "postrider.endpoints",
                "postrider.deliveries",
                "postrider.retry.30s",
                "postrider.retry.2m",
                "postrider.retry.10m",
                "postrider.retry.1h",
                "postrider.retry.4h",
                "postrider.retry.12h",
                "postrider.backlog",
                "postrider.redeliveries",
                "postrider.dead-letters",
                "postrider.endpoint-state",
                "postrider.attempts",
                "postrider.notices",
            ]
        );
        assert!(specs.iter().all(|s| s.partitions == 64));
        let topics = Topics::new("postrider.");
        assert_eq!(&**topics.router_group(), "postrider.router");
        assert_eq!(&**topics.dispatcher_group(), "postrider.dispatcher");
        assert_eq!(&**topics.history_group(), "postrider.history");
    }

    #[test]
    fn settings_that_loss_depends_on() {
        let specs = Topics::new("").specs(SliceCount::new(8).unwrap(), 3);
        assert_eq!(
            config(&specs, "endpoints", "cleanup.policy"),
            Some("compact")
        );
        assert_eq!(
            config(&specs, "endpoint-state", "cleanup.policy"),
            Some("compact")
        );
        assert_eq!(
            config(&specs, "endpoints", "max.message.bytes"),
            Some("262144"),
            "it is read into memory whole"
        );
        let state = |key| -> u64 {
            let value = config(&specs, "endpoint-state", key).unwrap();
            value.parse().unwrap()
        };
        assert!(
            state("max.message.bytes") > 1_000_000,
            "librdkafka makes batches of so many bytes"
        );
        assert!(state("segment.bytes") <= 16 << 20);
        assert!(
            state("min.compaction.lag.ms") > 2 * 45_000,
            "two sessions by default"
        );
        for rung in Rung::all() {
            let topic = format!("retry.{}", rung.name());
            assert_eq!(
                config(&specs, &topic, "message.timestamp.type"),
                Some("LogAppendTime")
            );
            let kept: u128 = config(&specs, &topic, "retention.ms")
                .unwrap()
                .parse()
                .unwrap();
            assert!(kept >= (rung.delay() * 2 + OUTAGE).as_millis());
        }
        let days = |topic| {
            let ms: u64 = config(&specs, topic, "retention.ms")
                .unwrap()
                .parse()
                .unwrap();
            ms / 86_400_000
        };
        assert_eq!([days("deliveries"), days("attempts")], [7, 7]);
        let window = RetryPolicy::WINDOW_MAX.as_secs() / 86_400;
        for topic in ["backlog", "redeliveries", "dead-letters"] {
            assert!(days(topic) >= window + 7, "{topic}");
        }
        assert!(
            specs
                .iter()
                .all(|s| s.configs.contains(&("min.insync.replicas", "2".to_owned())))
        );
        let single = Topics::new("").specs(SliceCount::new(8).unwrap(), 1);
        assert_eq!(config(&single, "deliveries", "min.insync.replicas"), None);
        for spec in &specs {
            let mut keys: Vec<_> = spec.configs.iter().map(|(key, _)| key).collect();
            keys.sort_unstable();
            keys.dedup();
            assert_eq!(keys.len(), spec.configs.len(), "{}", spec.name);
        }
    }
}
