//! An installation of its own on the tests' broker, and kcat: a client that is not ours.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use postrider_domain::{EndpointId, NewRecord, Record, SliceCount};
use postrider_kafka::admin::{self, TopicSpec};
use postrider_kafka::tail::{From, Tail};
use postrider_kafka::{ClientSettings, GroupProtocol, Writer};
use postrider_registry::{Credentials, RegistrySettings};
use postrider_router::{Router, RouterHandle, RouterSettings, Source, SourceTopics};
use postrider_telemetry::Metrics;
use postrider_test_support::unique_prefix;
use postrider_wire::{DecodeRule, FieldRef, Mapping, Topics};

/// Longer than anything here takes, however busy the machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const SLICES: u16 = 8;

pub(crate) struct Installation {
    pub(crate) client: ClientSettings,
    pub(crate) prefix: String,
    pub(crate) topics: Topics,
    pub(crate) slices: SliceCount,
    writer: Writer,
}

impl Installation {
    pub(crate) fn new(bootstrap: &str, name: &str) -> Self {
        Self::with_limits(bootstrap, name, &[])
    }

    /// With topics that take records of so many bytes only, by their names without the prefix.
    pub(crate) fn with_limits(bootstrap: &str, name: &str, limits: &[(&str, usize)]) -> Self {
        let this = Self::without_topics(bootstrap, name);
        this.create(&["endpoints", "deliveries", "dead-letters"], limits);
        this
    }

    pub(crate) fn without_topics(bootstrap: &str, name: &str) -> Self {
        let client = ClientSettings {
            brokers: bootstrap.to_owned(),
            properties: Vec::new(),
            client_id: name.to_owned(),
        };
        let prefix = format!("{}.", unique_prefix(name));
        Self {
            topics: Topics::new(&prefix),
            prefix,
            slices: SliceCount::new(SLICES).unwrap(),
            writer: Writer::new(&client).unwrap(),
            client,
        }
    }

    /// Creates these of our topics.
    pub(crate) fn create(&self, names: &[&str], limits: &[(&str, usize)]) {
        let specs = self.topics.specs(self.slices, 1).into_iter();
        let spec = |spec: postrider_wire::TopicSpec| {
            let name = spec.name.strip_prefix(&self.prefix)?;
            let limit = limits.iter().find(|(of, _)| *of == name);
            names.contains(&name).then(|| TopicSpec {
                configs: configs(&spec, limit.map(|(_, bytes)| *bytes)),
                name: spec.name.to_string(),
                partitions: spec.partitions.into(),
                replication: spec.replication.into(),
            })
        };
        create(&self.client, specs.filter_map(spec).collect());
    }

    /// The full name of an intake topic of this test.
    pub(crate) fn intake(&self, stem: &str) -> String {
        format!("in.{}{stem}", self.prefix)
    }

    pub(crate) fn create_intake(&self, stem: &str, partitions: i32) -> String {
        let name = self.intake(stem);
        let spec = TopicSpec {
            name: name.clone(),
            partitions,
            replication: 1,
            configs: vec![("max.message.bytes".to_owned(), (20 << 20).to_string())],
        };
        create(&self.client, vec![spec]);
        name
    }

    /// Writes an endpoint's record to the partition of its slice.
    pub(crate) fn endpoint(&self, id: &str, tenant: &str, types: &str) {
        self.endpoint_with(id, tenant, &format!(r#""types":{types}"#));
    }

    /// The same with further fields, as JSON.
    pub(crate) fn endpoint_with(&self, id: &str, tenant: &str, fields: &str) {
        let id: EndpointId = id.parse().unwrap();
        let value = format!(
            r#"{{"id":"{id}","tenant":"{tenant}","url":"https://shop.example/",{fields},
                "signing":{{"scheme":"none"}},"version":1}}"#
        );
        let record = NewRecord {
            topic: self.topics.endpoints().clone(),
            partition: self.partition_of(&id),
            key: Some(Bytes::from(id.to_string())),
            value: Some(Bytes::from(value)),
            headers: Vec::new(),
        };
        self.writer.send_and_wait(&record).unwrap();
    }

    pub(crate) fn partition_of(&self, id: &EndpointId) -> i32 {
        i32::from(self.slices.slice_of(id).0)
    }

    pub(crate) fn settings(&self, sources: Vec<Source>) -> RouterSettings {
        RouterSettings {
            client: self.client.clone(),
            topics: self.topics.clone(),
            slices: self.slices,
            sources,
            schema_registry: None,
            protocol: GroupProtocol::Consumer,
        }
    }

    pub(crate) fn route(&self, sources: Vec<Source>) -> (RouterHandle, Metrics) {
        start(self.settings(sources))
    }

    /// With a schema registry.
    pub(crate) fn route_framed(&self, sources: Vec<Source>, url: &str) -> (RouterHandle, Metrics) {
        start(RouterSettings {
            schema_registry: Some(RegistrySettings {
                url: url.to_owned(),
                credentials: Credentials::None,
                ca_file: None,
            }),
            ..self.settings(sources)
        })
    }

    /// Reads a topic from the beginning until `enough`.
    pub(crate) fn read_until(
        &self,
        topic: &str,
        mut enough: impl FnMut(&[Record]) -> bool,
    ) -> Vec<Record> {
        let mut tail =
            Tail::open(&self.client, "test", topic, None, From::Beginning, PATIENCE).unwrap();
        let deadline = Instant::now() + PATIENCE;
        let mut records = Vec::new();
        while !enough(&records) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{topic}: only {} records", records.len());
            records.extend(tail.next(left));
        }
        records
    }

    pub(crate) fn read_some(&self, topic: &str, count: usize) -> Vec<Record> {
        self.read_until(topic, |records| records.len() >= count)
    }

    /// Reads everything there is now.
    pub(crate) fn read_all(&self, topic: &str) -> Vec<Record> {
        let tail =
            Tail::open(&self.client, "test", topic, None, From::Beginning, PATIENCE).unwrap();
        let mut records = Vec::new();
        tail.read_all(PATIENCE, |record| records.push(record))
            .unwrap();
        records
    }

    /// Reads deliveries until there are `count` different ones.
    pub(crate) fn read_distinct(&self, count: usize) -> Vec<Record> {
        let (mut seen, mut looked_at) = (HashSet::new(), 0);
        self.read_until(self.topics.deliveries(), |records| {
            let new = records[looked_at..].iter();
            seen.extend(new.map(|record| record.header("pr_delivery").map(<[u8]>::to_vec)));
            looked_at = records.len();
            seen.len() >= count
        })
    }

    pub(crate) fn kcat(&self, topic: &str, arguments: &[&str], input: &[u8]) {
        let mut kcat = Command::new("kcat")
            .args([
                "-P",
                "-b",
                &self.client.brokers,
                "-t",
                topic,
                "-X",
                "message.max.bytes=20971520",
            ])
            .args(arguments)
            .stdin(Stdio::piped())
            .spawn()
            .expect("kcat is installed by scripts/setup.sh test");
        kcat.stdin.take().unwrap().write_all(input).unwrap();
        assert!(kcat.wait().unwrap().success());
    }

    /// One record whose value is exactly these bytes.
    pub(crate) fn kcat_bytes(&self, topic: &str, arguments: &[&str], value: &[u8]) {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().write_all(value).unwrap();
        let path = file.path().to_str().unwrap();
        self.kcat(topic, &[arguments, &[path]].concat(), b"");
    }

    /// Events `from..to` as JSON lines, to partitions by key.
    pub(crate) fn kcat_json(&self, topic: &str, ids: std::ops::Range<usize>) {
        let mut lines = String::new();
        for id in ids {
            let event = format!(r#"{{"id":"evt_{id}","type":"payment.captured","shop":"acme"}}"#);
            writeln!(lines, "key_{id}\t{event}").unwrap();
        }
        self.kcat(topic, &["-K", "\\t"], lines.as_bytes());
    }
}

fn start(settings: RouterSettings) -> (RouterHandle, Metrics) {
    let metrics = Metrics::new("test");
    let handle = Router::start(settings, metrics.clone()).unwrap();
    (handle, metrics)
}

fn configs(spec: &postrider_wire::TopicSpec, limit: Option<usize>) -> Vec<(String, String)> {
    let mut configs: Vec<_> = spec.configs.clone();
    if let Some(limit) = limit {
        configs.retain(|(name, _)| *name != "max.message.bytes");
        configs.push(("max.message.bytes", limit.to_string()));
    }
    let configs = configs.into_iter();
    configs
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn create(client: &ClientSettings, specs: Vec<TopicSpec>) {
    let plan = admin::plan(client, &specs, PATIENCE).unwrap();
    assert_eq!(admin::apply(client, &plan, PATIENCE).unwrap(), []);
}

pub(crate) fn distinct(records: &[Record]) -> usize {
    records
        .iter()
        .map(|r| text(r, "pr_delivery"))
        .collect::<HashSet<_>>()
        .len()
}

pub(crate) fn text<'a>(record: &'a Record, header: &str) -> Option<&'a str> {
    record
        .header(header)
        .map(|value| std::str::from_utf8(value).unwrap())
}

pub(crate) fn named(topics: &[&str], rule: DecodeRule) -> Source {
    Source {
        topics: SourceTopics::Names(topics.iter().map(|&t| t.to_owned()).collect()),
        rule,
    }
}

pub(crate) fn mapping() -> Mapping {
    let field = |text| Some(FieldRef::parse(text).unwrap());
    Mapping {
        event_type: FieldRef::parse("/type").unwrap(),
        id: field("/id"),
        tenant: field("/shop"),
        time: None,
        ordering_key: field("key"),
    }
}

pub(crate) fn json(topics: &[&str]) -> Vec<Source> {
    vec![named(topics, DecodeRule::Json(mapping()))]
}
