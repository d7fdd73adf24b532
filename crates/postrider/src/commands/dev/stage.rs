//! What the demo plays on: a broker with our topics, a receiver, and endpoints that lead to it.
//!
//! Decides that on a real Kafka the demo keeps to topics of its own, below `postrider.dev.`, and
//! makes its endpoints anew at each start. Leaves what is played to `plan`.

use std::net::{Ipv4Addr, SocketAddr};

use postrider_config::{Config, Override, Sources};
use postrider_domain::{NewRecord, Scheme, SigningKey, SliceCount};
use postrider_guard::Policy;
use postrider_kafka::admin::{self, TopicSpec};
use postrider_kafka::{ClientSettings, EmbeddedBroker};
use postrider_signing::{VerifyingKey, generate_key};
use postrider_wire::{Topics, endpoint};
use tokio::runtime::Runtime;

use super::plan::{DemoEndpoint, FLAKY_FAILS, Kind};
use crate::commands::endpoint::Topic;
use crate::exit::Failure;
use crate::input;
use crate::installation::{Installation, WAIT, Where};
use crate::receiver::{Behaviour, Receiver, Seen};

/// Slices are partitions, and one machine needs few.
pub(super) const SLICES: u16 = 8;
/// Requests in flight, however many endpoints there are.
const IN_FLIGHT_MAX: usize = 512;
/// Of the intake topic.
const INTAKE_PARTITIONS: i32 = 4;
/// Below which everything of the demo is, on a Kafka that has other things in it too.
const PREFIX_ON_KAFKA: &str = "postrider.dev.";
const INTAKE: &str = "demo.events";

/// A broker, and how the roles use it.
pub(super) struct Stage {
    pub(super) installation: Installation,
    pub(super) intake: String,
    /// Last: its clients go first.
    pub(super) embedded: Option<EmbeddedBroker>,
}

impl Stage {
    /// The embedded broker, or the real one that `--brokers` names; no topics yet.
    pub(super) fn new(at: &Where) -> Result<Self, Failure> {
        let mut config = postrider_config::load(at.sources()?)?;
        let embedded = match at.brokers {
            Some(_) => None,
            None => Some(EmbeddedBroker::start()?),
        };
        let intake = match &embedded {
            Some(broker) => {
                config.kafka = embedded_kafka(broker)?;
                INTAKE.to_owned()
            }
            None => {
                PREFIX_ON_KAFKA.clone_into(&mut config.kafka.prefix);
                format!("{PREFIX_ON_KAFKA}{INTAKE}")
            }
        };
        adapt(&mut config, &intake);
        let topics = Topics::new(&config.kafka.prefix);
        Ok(Self {
            installation: Installation {
                config,
                file: at.config.clone(),
                topics,
            },
            intake,
            embedded,
        })
    }

    /// Makes what topics are missing.
    pub(super) fn make_topics(&self) -> Result<ClientSettings, Failure> {
        let mut specs = self.installation.specs();
        specs.push(TopicSpec {
            name: self.intake.clone(),
            partitions: INTAKE_PARTITIONS,
            replication: 1,
            configs: Vec::new(),
        });
        if let Some(broker) = &self.embedded {
            for spec in &specs {
                broker.create_topic(&spec.name, spec.partitions)?;
            }
            return self.installation.reach();
        }
        for spec in &mut specs {
            // There is one copy, whatever the brokers ask for by default.
            let one = ("min.insync.replicas".to_owned(), "1".to_owned());
            spec.configs.push(one);
        }
        let settings = self.installation.reach()?;
        let plan = admin::plan(&settings, &specs, WAIT)?;
        self.installation.check_slices(&plan)?;
        match admin::apply(&settings, &plan, WAIT * 3)?.first() {
            None => Ok(settings),
            Some(failure) => Err(Failure::no(format!("cannot make the topics: {failure}"))),
        }
    }

    /// Starts the receiver and writes the endpoints that lead to it.
    pub(super) fn open(
        &self,
        runtime: &Runtime,
        endpoints: &[DemoEndpoint],
        on_request: impl Fn(&Seen) + Send + Sync + 'static,
    ) -> Result<Receiver, Failure> {
        let keys = endpoints
            .iter()
            .map(|_| Ok(generate_key(&Scheme::Standard, input::random::<32>()?)))
            .collect::<Result<Vec<SigningKey>, Failure>>()?;
        let behaviours = endpoints
            .iter()
            .zip(&keys)
            .map(|(demo, key)| behaviour(demo, key))
            .collect();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let receiver = runtime
            .block_on(Receiver::start(address, behaviours, on_request))
            .map_err(|e| Failure::no(format!("cannot listen on 127.0.0.1: {e}")))?;
        self.write_endpoints(endpoints, keys, &receiver.url())?;
        Ok(receiver)
    }

    /// Replaces what an earlier demo left on a real Kafka.
    fn write_endpoints(
        &self,
        endpoints: &[DemoEndpoint],
        keys: Vec<SigningKey>,
        url: &str,
    ) -> Result<(), Failure> {
        let topic = Topic::open_with(&self.installation, self.installation.keys()?)?;
        let mut known = topic.read_all()?;
        let mut records: Vec<NewRecord> = Vec::new();
        for (demo, key) in endpoints.iter().zip(keys) {
            let mut endpoint = demo.endpoint(url, key);
            let before = known.remove(&demo.id);
            let before = before.map_or(0, |known| known.recorded.endpoint.version);
            endpoint.version = before.saturating_add(1);
            let value = endpoint::to_record(&endpoint, input::now(), topic.sealing()?);
            records.push(topic.record(&demo.id, Some(value.into())));
        }
        records.extend(known.keys().map(|id| topic.record(id, None)));
        topic.write(&records)
    }
}

/// Nothing of a configuration for a real Kafka, its passwords least of all, is for this broker.
fn embedded_kafka(broker: &EmbeddedBroker) -> Result<postrider_config::Kafka, Failure> {
    let brokers = Override {
        path: "kafka.brokers".to_owned(),
        value: broker.brokers(),
        flag: "dev".to_owned(),
    };
    let quick = ClientSettings {
        brokers: broker.brokers(),
        properties: Vec::new(),
        client_id: String::new(),
    };
    let quick = quick.quick().properties.into_iter();
    let quick = quick.map(|(name, value)| Override {
        path: format!("kafka.properties.{name}"),
        value,
        flag: "dev".to_owned(),
    });
    let sources = Sources {
        overrides: std::iter::once(brokers).chain(quick).collect(),
        ..Sources::default()
    };
    Ok(postrider_config::load(sources)?.kafka)
}

/// One copy of few slices, the demo's own events, requests to this machine.
fn adapt(config: &mut Config, intake: &str) {
    config.kafka.slices = SliceCount::new(SLICES).expect("more than none");
    config.kafka.replication = 1;
    // Connections not yet accepted by the receiver wait in a queue of 1 024.
    config.dispatcher.in_flight_max = config.dispatcher.in_flight_max.min(IN_FLIGHT_MAX);
    config.sources = vec![postrider_config::Source {
        topics: postrider_config::Topics::Names(vec![intake.to_owned()]),
        decode: postrider_config::Decode::Auto,
        map: postrider_config::SourceMap::default(),
    }];
    config.egress = Policy {
        allow_http: true,
        allow_ranges: ["127.0.0.0/8", "::1/128"]
            .iter()
            .filter_map(|range| range.parse().ok())
            .collect(),
        ..Policy::default()
    };
    let unsaid = config
        .show()
        .iter()
        .any(|row| row.path == "telemetry.log" && row.source == "default");
    if unsaid {
        // The terminal is for the demo.
        "warn".clone_into(&mut config.telemetry.log);
    }
}

fn behaviour(demo: &DemoEndpoint, key: &SigningKey) -> Behaviour {
    let key = VerifyingKey::of(key).expect("a shared key verifies");
    let healthy = Behaviour::healthy(&demo.path, Scheme::Standard, vec![key]);
    match demo.kind {
        Kind::Healthy => healthy,
        Kind::Flaky => Behaviour {
            fail_first: Some(FLAKY_FAILS),
            status: Some(409),
            ..healthy
        },
        Kind::Dead => Behaviour {
            status: Some(404),
            ..healthy
        },
    }
}
