//! The catalogue, kept up to date from the `endpoints` topic.
//!
//! Decides which records of the topic are used: those at the partition of their endpoint's slice
//! that can be read; the others are counted and logged. Leaves folding to `catalog`, the form of a
//! record to `wire`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use postrider_catalog::by_tenant::ByTenant;
use postrider_domain::{Endpoint, Record, Signing, SliceCount};
use postrider_kafka::{ClientError, ClientSettings, TableEvent, TableReader};
use postrider_signing::KeyRing;
use postrider_telemetry::{IgnoredEndpoint, Metrics};
use postrider_wire::endpoint::Unused;
use postrider_wire::{Topics, endpoint};
use tracing::warn;

/// The catalogue and its source.
pub(crate) struct Endpoints {
    catalog: ByTenant,
    slices: SliceCount,
    loading: BTreeSet<i32>,
    events: Receiver<TableEvent>,
    reader: TableReader,
    metrics: Metrics,
}

impl Endpoints {
    /// Changes that wait for the router; the reader waits beyond. At 256 KiB each, the most of
    /// `endpoints`, they are 64 MiB.
    const EVENTS_MAX: usize = 256;
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
            catalog: ByTenant::new(),
            slices,
            loading: partitions.into_iter().collect(),
            events,
            reader,
            metrics,
        })
    }

    pub(crate) const fn by_tenant(&self) -> &ByTenant {
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
            TableEvent::Record(record) => self.apply(&record),
            TableEvent::Loaded { partition } => {
                self.loading.remove(&partition);
            }
            TableEvent::Removed { .. } => {}
        }
    }

    /// A router has no use for secrets and addresses: it opens none and keeps what matching needs.
    fn apply(&mut self, record: &Record) {
        match endpoint::of_record(record, self.slices, &KeyRing::default()) {
            Ok((id, recorded)) => {
                let endpoint = recorded.map(|recorded| recorded.endpoint);
                let slim = |endpoint: Endpoint| Endpoint {
                    signing: Signing {
                        secrets: Vec::new(),
                        ..endpoint.signing
                    },
                    auth: None,
                    headers: Vec::new(),
                    url: Arc::from(""),
                    ..endpoint
                };
                self.catalog.apply(id, endpoint.map(slim));
            }
            Err(unused) => {
                self.metrics.endpoint_record_ignored(match unused {
                    Unused::Elsewhere { .. } => IgnoredEndpoint::WrongPartition,
                    Unused::Key(_) | Unused::Value(_) => IgnoredEndpoint::Unreadable,
                });
                warn!(origin = %record.origin, %unused, "endpoint record not used");
            }
        }
    }
}

/// The table reader ended, which it does only when it panicked.
#[derive(Debug)]
pub(crate) struct ReaderEnded;
