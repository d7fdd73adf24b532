//! A topic and a group of one test's own, and what tests do to them.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, unbounded};
use futures_executor::block_on;
use postrider_domain::NewRecord;
use postrider_kafka::admin::{self, TopicSpec};
use postrider_kafka::membership::{CommitOffset, Membership, MembershipEvent, MembershipSettings};
use postrider_kafka::offsets::{OffsetReader, Place, Standing};
use postrider_kafka::{ClientSettings, GroupProtocol, Writer};
use postrider_test_support::{Broker, unique_prefix};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;

pub(crate) const LIMIT: Duration = Duration::from_secs(30);
pub(crate) const SLICES: i32 = 6;

pub(crate) struct World {
    pub(crate) settings: ClientSettings,
    pub(crate) topic: Arc<str>,
    pub(crate) group: String,
}

impl World {
    pub(crate) fn new(name: &str) -> Self {
        Self::with(name, &[])
    }

    /// With these settings of its topic.
    pub(crate) fn with(name: &str, configs: &[(&str, &str)]) -> Self {
        let prefix = unique_prefix(name);
        let settings = ClientSettings {
            brokers: Broker::shared().bootstrap().to_owned(),
            properties: Vec::new(),
            client_id: name.to_owned(),
        };
        let world = Self {
            settings,
            topic: format!("{prefix}deliveries").into(),
            group: format!("{prefix}dispatcher"),
        };
        world.make(configs);
        world
    }

    /// Makes its topic, also again.
    pub(crate) fn make(&self, configs: &[(&str, &str)]) {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let spec = TopicSpec {
            name: self.topic.to_string(),
            partitions: SLICES,
            replication: 1,
            configs: configs.iter().map(owned).collect(),
        };
        let plan = admin::plan(&self.settings, &[spec], LIMIT).unwrap();
        assert_eq!(admin::apply(&self.settings, &plan, LIMIT).unwrap(), []);
    }

    pub(crate) fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.settings.admin().create().unwrap()
    }

    pub(crate) fn delete(&self) {
        let options = AdminOptions::new().operation_timeout(Some(LIMIT));
        let deleted = block_on(self.admin().delete_topics(&[&self.topic], &options));
        assert!(deleted.unwrap().iter().all(Result::is_ok));
    }

    /// What the offset reader says of partitions of its topic.
    pub(crate) fn standings(&self, partitions: &[i32]) -> Vec<Standing> {
        let topic = |partition: &i32| (Arc::clone(&self.topic), *partition);
        self.standings_of(partitions.iter().map(topic).collect())
    }

    pub(crate) fn standings_of(&self, places: Vec<Place>) -> Vec<Standing> {
        let (answers, answered) = bounded(1);
        let reader = OffsetReader::start(&self.settings, &self.group, move |(), standings| {
            drop(answers.send(standings));
        });
        let reader = reader.unwrap();
        reader.fetch((), places);
        answered.recv_timeout(LIMIT).unwrap()
    }

    pub(crate) fn join(&self, protocol: GroupProtocol) -> (Membership, Receiver<MembershipEvent>) {
        let (events, happened) = unbounded();
        let membership = MembershipSettings {
            group: self.group.clone(),
            topic: self.topic.to_string(),
            protocol,
            session: Duration::from_secs(45),
            heartbeat: Duration::from_secs(3),
        };
        let member = Membership::start(&self.settings, &membership, move |event| {
            drop(events.send(event))
        });
        (member.unwrap(), happened)
    }

    pub(crate) fn offset(&self, partition: i32, offset: i64, metadata: &str) -> CommitOffset {
        let topic = Arc::clone(&self.topic);
        CommitOffset {
            topic,
            partition,
            offset,
            metadata: metadata.to_owned(),
        }
    }

    pub(crate) fn record(&self, partition: i32, key: &str, value: Option<&str>) -> NewRecord {
        NewRecord {
            topic: Arc::clone(&self.topic),
            partition,
            key: Some(key.to_owned().into()),
            value: value.map(|value| value.to_owned().into()),
            headers: Vec::new(),
        }
    }

    pub(crate) fn write(&self, partition: i32, values: &[&str]) {
        let writer = Writer::new(&self.settings).unwrap();
        for value in values {
            let record = self.record(partition, "k", Some(value));
            writer.send_and_wait(&record).unwrap();
        }
    }
}
