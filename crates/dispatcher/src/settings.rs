//! What a dispatcher is told, and where it finds that in the configuration.

use std::sync::Arc;

use postrider_config::{Config, Handshake};
use postrider_domain::SliceCount;
use postrider_engine::io::Defaults;
use postrider_kafka::membership::MembershipSettings;
use postrider_kafka::{ClientSettings, GroupProtocol};
use postrider_signing::KeyRing;
use postrider_wire::topics::Topics;

/// Everything a dispatcher needs to know. No `Debug`: client properties hold passwords.
#[derive(Clone)]
pub struct DispatcherSettings {
    /// How to reach Kafka.
    pub client: ClientSettings,
    /// Our topics' names.
    pub topics: Topics,
    /// How many slices the installation has.
    pub slices: SliceCount,
    /// How to join the group.
    pub membership: MembershipSettings,
    /// Requests in flight over all slices.
    pub in_flight_max: usize,
    /// What endpoints get that do not say.
    pub defaults: Defaults,
    /// Where requests may go.
    pub policy: postrider_guard::Policy,
    /// How they leave.
    pub network: postrider_domain::Network,
    /// What opens the secrets of endpoints.
    pub keys: Arc<KeyRing>,
    /// Whose requests they are, sent with each: receivers were asked for their consent by it.
    pub origin: Option<String>,
    /// Names this worker in attempt records.
    pub worker: String,
}

impl DispatcherSettings {
    /// As the configuration says; `keys` are those of its key file, `worker` names this process.
    #[must_use]
    pub fn from_config(config: &Config, keys: Arc<KeyRing>, worker: &str) -> Self {
        let topics = Topics::new(&config.kafka.prefix);
        let dispatcher = &config.dispatcher;
        let protocol = match dispatcher.ownership {
            postrider_config::Ownership::Consumer => GroupProtocol::Consumer,
            postrider_config::Ownership::Classic => GroupProtocol::Classic,
        };
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Self {
            client: ClientSettings {
                brokers: config.kafka.brokers.clone(),
                properties: config.kafka.properties.iter().map(owned).collect(),
                client_id: format!("postrider-dispatcher-{worker}"),
            },
            slices: config.kafka.slices,
            membership: MembershipSettings {
                group: topics.dispatcher_group().to_string(),
                topic: topics.deliveries().to_string(),
                protocol,
                session: dispatcher.session,
                heartbeat: dispatcher.heartbeat,
            },
            topics,
            in_flight_max: dispatcher.in_flight_max,
            defaults: Defaults {
                concurrency: dispatcher.defaults.concurrency,
                timeout: dispatcher.defaults.timeout,
                retry: dispatcher.defaults.retry.clone(),
            },
            policy: config.egress.clone(),
            network: config.network.clone(),
            keys,
            origin: (config.registration.handshake == Handshake::CloudEvents)
                .then(|| config.registration.origin.clone()),
            worker: worker.to_owned(),
        }
    }
}
