//! The catalogue, kept up to date from the `endpoints` topic.
//!
//! Decides which records of the topic are used: those at the partition of their endpoint's slice
//! that can be read; the others are counted and logged. Leaves folding to `catalog`, the form of a
//! record to `wire`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use postrider_catalog::Catalog;
use postrider_domain::{Endpoint, EndpointId, Origin, Record, SliceCount};
use postrider_kafka::{ClientError, ClientSettings, TableEvent, TableReader};
use postrider_telemetry::{IgnoredEndpoint, Metrics};
use postrider_wire::{Topics, endpoint};
use tracing::{error, warn};

/// The catalogue and its source.
pub(crate) struct Endpoints {
    catalog: Catalog,
    slices: SliceCount,
    loading: BTreeSet<i32>,
    events: Receiver<TableEvent>,
    reader: TableReader,
    metrics: Metrics,
}

impl Endpoints {
    /// Changes that wait for the router; the reader waits beyond.
    const EVENTS_MAX: usize = 4_096;
    /// Changes taken at once, so that a flood of them does not hold up events.
    const BATCH: usize = 1_000;

    pub(crate) fn start(
        client: &ClientSettings,
        topics: &Topics,
        slices: SliceCount,
        metrics: Metrics,
    ) -> Result<Self, ClientError> {
        let (sender, events) = bounded(Self::EVENTS_MAX);
        let reader = TableReader::start(client, topics.endpoints(), topics.router_group(), sender)?;
        let partitions: Vec<i32> = slices.iter().map(|slice| i32::from(slice.0)).collect();
        reader.add(&partitions);
        Ok(Self {
            catalog: Catalog::new(),
            slices,
            loading: partitions.into_iter().collect(),
            events,
            reader,
            metrics,
        })
    }

    pub(crate) const fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Waits at most `timeout` for the topic to be read to its end; whether it is.
    pub(crate) fn load(&mut self, timeout: Duration) -> Result<bool, ReaderEnded> {
        match self.events.recv_timeout(timeout) {
            Ok(event) => self.take(event),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(ReaderEnded),
        }
        self.take_changes();
        Ok(self.loading.is_empty())
    }

    /// Partitions that are not read to their end yet.
    pub(crate) fn loading(&self) -> usize {
        self.loading.len()
    }

    /// Takes what has changed.
    pub(crate) fn take_changes(&mut self) {
        for _ in 0..Self::BATCH {
            match self.events.try_recv() {
                Ok(event) => self.take(event),
                Err(_) => return,
            }
        }
    }

    pub(crate) fn stop(self) {
        self.reader.stop();
    }

    fn take(&mut self, event: TableEvent) {
        match event {
            TableEvent::Record(record) => self.apply(record),
            TableEvent::Loaded { partition } => {
                self.loading.remove(&partition);
            }
            TableEvent::Removed { .. } => {}
        }
    }

    fn apply(&mut self, record: Record) {
        match used(&record, self.slices) {
            Ok((id, endpoint)) => {
                self.catalog.apply(id, endpoint);
            }
            Err(ignored) => self.ignore(&record.origin, ignored),
        }
    }

    fn ignore(&self, origin: &Origin, ignored: Ignored) {
        match ignored {
            Ignored::Elsewhere { id, slice } => {
                self.metrics
                    .endpoint_record_ignored(IgnoredEndpoint::WrongPartition);
                error!(
                    %origin, endpoint = %id, slice,
                    "an endpoint record is not in the partition of its slice and is not used: \
                     write it to that partition, with the murmur2 partitioner or with \
                     `postrider endpoint apply`"
                );
            }
            Ignored::Unreadable(reason) => {
                self.metrics
                    .endpoint_record_ignored(IgnoredEndpoint::Unreadable);
                warn!(
                    %origin, reason,
                    "an endpoint record cannot be read and is not used; what was known before stays"
                );
            }
        }
    }
}

/// The table reader ended, which it does only when it panicked.
#[derive(Debug)]
pub(crate) struct ReaderEnded;

#[derive(Debug, PartialEq, Eq)]
enum Ignored {
    Elsewhere { id: EndpointId, slice: u16 },
    Unreadable(String),
}

type Used = (EndpointId, Option<Endpoint>);

/// What a record says, as much of it as matching needs: a router has no use for secrets.
fn used(record: &Record, slices: SliceCount) -> Result<Used, Ignored> {
    let key = record.key.as_deref().unwrap_or_default();
    let id: EndpointId = std::str::from_utf8(key)
        .map_err(|_| Ignored::Unreadable("its key is not UTF-8".to_owned()))?
        .parse()
        .map_err(|error| Ignored::Unreadable(format!("its key: {error}")))?;
    let slice = slices.slice_of(&id).0;
    if record.origin.partition != i32::from(slice) {
        return Err(Ignored::Elsewhere { id, slice });
    }
    let Some(value) = &record.value else {
        return Ok((id, None));
    };
    let mut endpoint = endpoint::from_record(key, value)
        .map_err(|error| Ignored::Unreadable(error.to_string()))?;
    endpoint.signing.secrets = Vec::new();
    endpoint.headers = Vec::new();
    endpoint.url = Arc::from("");
    Ok((id, Some(endpoint)))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use postrider_domain::Timestamp;

    use super::*;

    const VALUE: &str = r#"{"id": "ep_1", "tenant": "acme", "url": "https://a.example/",
        "signing": {"scheme": "none"}, "version": 1}"#;

    fn record(key: &str, value: Option<&str>, partition: i32) -> Record {
        Record {
            origin: Origin {
                topic: "endpoints".into(),
                partition,
                offset: 0,
            },
            timestamp: Timestamp::default(),
            key: Some(Bytes::copy_from_slice(key.as_bytes())),
            value: value.map(|v| Bytes::copy_from_slice(v.as_bytes())),
            headers: Vec::new(),
        }
    }

    fn slices() -> SliceCount {
        SliceCount::new(64).unwrap()
    }

    fn home(id: &str) -> i32 {
        i32::from(slices().slice_of(&id.parse().unwrap()).0)
    }

    #[test]
    fn a_record_at_home_is_used_and_a_tombstone_too() {
        let (id, endpoint) = used(&record("ep_1", Some(VALUE), home("ep_1")), slices()).unwrap();
        assert_eq!(id.as_str(), "ep_1");
        assert_eq!(endpoint.unwrap().tenant.as_str(), "acme");
        let (_, gone) = used(&record("ep_1", None, home("ep_1")), slices()).unwrap();
        assert_eq!(gone, None);
    }

    #[test]
    fn a_record_elsewhere_is_not_used() {
        let elsewhere = (home("ep_1") + 1) % 64;
        let ignored = used(&record("ep_1", Some(VALUE), elsewhere), slices());
        assert!(
            matches!(ignored, Err(Ignored::Elsewhere { .. })),
            "{ignored:?}"
        );
    }

    #[test]
    fn what_cannot_be_read_is_not_used() {
        let home = home("ep_1");
        for bad in [record("a.b", None, 0), record("ep_1", Some("{"), home)] {
            let ignored = used(&bad, slices());
            assert!(
                matches!(ignored, Err(Ignored::Unreadable(_))),
                "{ignored:?}"
            );
        }
    }
}
