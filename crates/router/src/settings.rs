//! What a router is started with.
//!
//! Decides how the configuration becomes a router's settings. Leaves checking it to `config`.

use postrider_config::{
    Config, Decode, Ownership, SchemaRegistry, SourceMap, Topics as ConfiguredTopics,
};
use postrider_domain::SliceCount;
use postrider_kafka::{ClientSettings, GroupProtocol};
use postrider_registry::{Credentials, RegistrySettings};
use postrider_wire::{DecodeRule, FieldRef, InvalidFieldRef, Mapping, OutboxMapping, Topics};

use crate::sources::{Source, SourceTopics};

/// What a router is started with. No `Debug`: client properties hold passwords.
#[derive(Clone)]
pub struct RouterSettings {
    /// How to reach Kafka.
    pub client: ClientSettings,
    /// The installation's names.
    pub topics: Topics,
    /// The installation's slices: partitions of `endpoints`, `deliveries` and `dead-letters`.
    pub slices: SliceCount,
    /// What to read.
    pub sources: Vec<Source>,
    /// Where the schemas of framed values are; `None` = such values become dead letters.
    pub schema_registry: Option<RegistrySettings>,
    /// How routers share the intake partitions.
    pub protocol: GroupProtocol,
}

impl RouterSettings {
    /// The router's part of the configuration.
    ///
    /// # Errors
    /// When a mapping refers to no part of a record, which a checked configuration does not.
    pub fn from_config(config: &Config, client: ClientSettings) -> Result<Self, InvalidFieldRef> {
        let sources = config
            .sources
            .iter()
            .map(source)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            client,
            topics: Topics::new(&config.kafka.prefix),
            slices: config.kafka.slices,
            sources,
            schema_registry: config.schema_registry.as_ref().map(registry),
            protocol: match config.dispatcher.ownership {
                Ownership::Consumer => GroupProtocol::Consumer,
                Ownership::Classic => GroupProtocol::Classic,
            },
        })
    }
}

fn registry(configured: &SchemaRegistry) -> RegistrySettings {
    let credentials = match (&configured.user, &configured.token) {
        (Some((user, password)), _) => Credentials::Basic {
            user: user.clone(),
            password: password.clone(),
        },
        (None, Some(token)) => Credentials::Bearer(token.clone()),
        (None, None) => Credentials::None,
    };
    RegistrySettings {
        url: configured.url.clone(),
        credentials,
        ca_file: configured.ca_file.clone(),
    }
}

fn source(configured: &postrider_config::Source) -> Result<Source, InvalidFieldRef> {
    let map = mapping(&configured.map)?;
    let rule = match (configured.decode, map) {
        (Decode::CloudEvents, _) => DecodeRule::CloudEvents,
        (Decode::Outbox, _) => DecodeRule::Outbox(outbox_mapping(&configured.map)?),
        (Decode::Json, Some(mapping)) => DecodeRule::Json(mapping),
        // JSON without a type is refused by `config`; reading nothing of it as JSON is as strict.
        (Decode::Auto | Decode::Json, map) => DecodeRule::Auto(map),
    };
    let topics = match &configured.topics {
        ConfiguredTopics::Names(names) => SourceTopics::Names(names.clone()),
        ConfiguredTopics::Regex(pattern) => SourceTopics::Pattern(pattern.clone()),
    };
    Ok(Source { topics, rule })
}

fn field(text: &Option<String>) -> Result<Option<FieldRef>, InvalidFieldRef> {
    text.as_deref().map(FieldRef::parse).transpose()
}

fn outbox_mapping(map: &SourceMap) -> Result<OutboxMapping, InvalidFieldRef> {
    Ok(OutboxMapping {
        event_type: field(&map.event_type)?,
        id: field(&map.id)?,
        tenant: field(&map.tenant)?,
        time: field(&map.time)?,
        ordering_key: field(&map.ordering_key)?,
    })
}

/// `None` without a type, which every event needs.
fn mapping(map: &SourceMap) -> Result<Option<Mapping>, InvalidFieldRef> {
    let Some(event_type) = field(&map.event_type)? else {
        return Ok(None);
    };
    Ok(Some(Mapping {
        event_type,
        id: field(&map.id)?,
        tenant: field(&map.tenant)?,
        time: field(&map.time)?,
        ordering_key: field(&map.ordering_key)?,
    }))
}
