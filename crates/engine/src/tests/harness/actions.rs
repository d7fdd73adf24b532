//! What a test does to the world: ownership comes and goes, endpoints change, records are written.

use std::sync::Arc;

use postrider_domain::{Delivery, DeliveryId, Endpoint, EndpointId, Event, Lane, Slice};

use super::samples::event;
use super::{Happening, Harness, SLICE, plain, settings};
use crate::io::{LaneRecord, StateEntry};
use crate::worker::Worker;

impl Harness {
    pub(crate) fn assign(&mut self, slices: impl IntoIterator<Item = Slice>) {
        self.worker.handle_assigned(slices);
        self.settle_orders();
    }

    pub(crate) fn revoke(&mut self, slices: impl IntoIterator<Item = Slice>) {
        self.worker.handle_revoked(self.now, slices);
        self.settle_orders();
    }

    pub(crate) fn shut_down(&mut self) {
        self.worker.handle_shutdown(self.now);
        self.settle_orders();
    }

    /// The process dies and a new one starts; what the broker has, it has.
    pub(crate) fn crash(&mut self, slices: impl IntoIterator<Item = Slice>) {
        self.incarnation += 1;
        self.worker = Worker::new(settings(64, u64::from(self.incarnation)));
        self.happenings.clear();
        self.readers.clear();
        self.state_readers.clear();
        self.in_flight.clear();
        self.assign(slices);
    }

    /// As [`Self::crash`], but what was on its way to the broker arrives there.
    pub(crate) fn crash_with_writes(&mut self, slices: impl IntoIterator<Item = Slice>) {
        for (_, happening) in std::mem::take(&mut self.happenings) {
            if let Happening::WriteDone(id, write) = happening {
                self.readers.clear();
                self.store(id.slice, write);
            }
        }
        self.crash(slices);
    }

    pub(crate) fn lose(&mut self, slices: impl IntoIterator<Item = Slice>) {
        self.worker.handle_lost(self.now);
        self.settle_orders();
        self.assign(slices);
    }

    /// Creates or changes an endpoint.
    pub(crate) fn endpoint(&mut self, id: &str, change: impl FnOnce(&mut Endpoint)) -> EndpointId {
        let id: EndpointId = id.parse().unwrap();
        let endpoint = self
            .endpoints
            .entry(id.clone())
            .or_insert_with(|| plain(&id));
        endpoint.version += 1;
        change(endpoint);
        let endpoint = endpoint.clone();
        self.worker
            .handle_endpoint(self.now, SLICE, id.clone(), Some(endpoint));
        self.settle_orders();
        id
    }

    pub(crate) fn delete_endpoint(&mut self, id: &EndpointId) {
        self.endpoints.remove(id);
        self.worker
            .handle_endpoint(self.now, SLICE, id.clone(), None);
        self.settle_orders();
    }

    /// The router wrote a delivery.
    pub(crate) fn deliver(&mut self, endpoint: &str) -> DeliveryId {
        self.deliver_sized(endpoint, 100)
    }

    pub(crate) fn deliver_sized(&mut self, endpoint: &str, bytes: usize) -> DeliveryId {
        let event = event(self.now, bytes);
        self.deliver_event(SLICE, endpoint, event)
    }

    /// One that is ordered by a key.
    pub(crate) fn deliver_keyed(&mut self, endpoint: &str, key: &str) -> DeliveryId {
        let event = Event {
            ordering_key: Some(key.into()),
            ..event(self.now, 100)
        };
        self.deliver_event(SLICE, endpoint, event)
    }

    /// A delivery to an endpoint of another slice.
    pub(crate) fn deliver_in(&mut self, slice: Slice, endpoint: &str) {
        let event = event(self.now, 100);
        self.deliver_event(slice, endpoint, event);
    }

    fn deliver_event(&mut self, slice: Slice, endpoint: &str, event: Event) -> DeliveryId {
        self.deliver_as(slice, endpoint, event, false)
    }

    /// Somebody tests an endpoint.
    pub(crate) fn test(&mut self, endpoint: &str) -> DeliveryId {
        let event = event(self.now, 100);
        self.deliver_as(SLICE, endpoint, event, true)
    }

    fn deliver_as(&mut self, slice: Slice, endpoint: &str, event: Event, test: bool) -> DeliveryId {
        self.made += 1;
        let id = DeliveryId::from_bytes(self.made.to_be_bytes());
        if let Some(key) = &event.ordering_key {
            self.keys.insert(id, key.clone());
        }
        let delivery = Delivery {
            id,
            endpoint: endpoint.parse().unwrap(),
            event,
            attempts: 0,
            due: None,
            test,
        };
        self.append_in(slice, Lane::Deliveries, Arc::new(delivery));
        id
    }

    /// A record comes that no log of this world holds.
    pub(crate) fn hand(&mut self, record: LaneRecord) {
        self.worker.handle_record(self.now, record);
        self.settle_orders();
    }

    pub(crate) fn last_delivery(&self) -> Arc<Delivery> {
        let log = &self.logs[&(SLICE, Lane::Deliveries)];
        Arc::clone(&log[log.len() - 1].delivery)
    }

    /// Another process writes to `endpoint-state`.
    pub(crate) fn write_state(&mut self, entry: (Slice, StateEntry)) {
        self.state.push(entry);
        self.feed_state();
        self.settle_orders();
    }

    /// The router crashed and wrote a delivery again.
    pub(crate) fn repeat_last(&mut self) {
        self.append(Lane::Deliveries, self.last_delivery());
    }

    pub(crate) fn append(&mut self, lane: Lane, delivery: Arc<Delivery>) {
        self.append_in(SLICE, lane, delivery);
    }
}
