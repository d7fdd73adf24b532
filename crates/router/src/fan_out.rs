//! One event to every endpoint that wants it.
//!
//! Decides which records an event becomes: one delivery per matching endpoint, at the partition of
//! its slice. Leaves the form of a delivery to `wire`, matching to `catalog`, and the pace to the
//! shell: records are made one at a time, so an event for ten thousand endpoints takes no more
//! memory than their ids.

use std::sync::Arc;
use std::vec;

use bytes::Bytes;
use postrider_catalog::Catalog;
use postrider_domain::{Delivery, EndpointId, Event, NewRecord, Origin, SliceCount};
use postrider_wire::delivery;

/// An event and the endpoints it still has to be written for.
#[derive(Debug)]
pub struct FanOut {
    template: Arc<Template>,
    /// The template's record, addressed to the endpoint at hand.
    record: Option<NewRecord>,
    endpoints: vec::IntoIter<EndpointId>,
}

impl FanOut {
    /// # Errors
    /// The event, when no endpoint wants it.
    pub fn new(
        event: Event,
        origin: &Origin,
        catalog: &Catalog,
        topic: &Arc<str>,
        slices: SliceCount,
    ) -> Result<Self, Box<Event>> {
        let matching = catalog.matching(&event.tenant, &event.event_type);
        let endpoints: Vec<EndpointId> = matching.map(|endpoint| endpoint.id.clone()).collect();
        let Some(first) = endpoints.first().cloned() else {
            return Err(Box::new(event));
        };
        Ok(Self {
            template: Arc::new(Template::new(event, origin, first, topic, slices)),
            record: None,
            endpoints: endpoints.into_iter(),
        })
    }

    /// The next endpoint and the record of its delivery; `None` at the end. The record is to be
    /// sent before the next one is asked for, as that is made in its place.
    pub fn next_record(&mut self) -> Option<(EndpointId, &NewRecord)> {
        let endpoint = self.endpoints.next()?;
        if endpoint == self.template.delivery.endpoint {
            return Some((endpoint, &self.template.record));
        }
        let record = self
            .record
            .get_or_insert_with(|| self.template.record.clone());
        self.template.address(record, &endpoint);
        Some((endpoint, record))
    }

    /// What every record of this event shares, to make one of them again.
    #[must_use]
    pub const fn template(&self) -> &Arc<Template> {
        &self.template
    }

    /// Endpoints it still has to be written for.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.endpoints.len()
    }
}

/// The delivery of an event to its first endpoint, from which the others are made by changing what
/// differs: encoding an event costs several times what addressing it costs.
#[derive(Debug)]
pub struct Template {
    delivery: Delivery,
    record: NewRecord,
    origin: Origin,
    slices: SliceCount,
}

impl Template {
    fn new(
        event: Event,
        origin: &Origin,
        endpoint: EndpointId,
        topic: &Arc<str>,
        slices: SliceCount,
    ) -> Self {
        let delivery = Delivery {
            id: delivery::delivery_id(&event.source, &event.id, &endpoint),
            endpoint,
            event,
            attempts: 0,
            due: None,
        };
        let partition = i32::from(slices.slice_of(&delivery.endpoint).0);
        Self {
            record: delivery::encode(&delivery, 0, None, Arc::clone(topic), partition),
            delivery,
            origin: origin.clone(),
            slices,
        }
    }

    /// Where the event was read.
    #[must_use]
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// One of its records. The others have its size, but for the length of the endpoint's id.
    pub(crate) const fn sample(&self) -> &NewRecord {
        &self.record
    }

    /// The record of the delivery to an endpoint.
    #[must_use]
    pub fn record(&self, endpoint: &EndpointId) -> NewRecord {
        let mut record = self.record.clone();
        self.address(&mut record, endpoint);
        record
    }

    /// The delivery to an endpoint.
    #[must_use]
    pub fn delivery(&self, endpoint: &EndpointId) -> Delivery {
        let event = &self.delivery.event;
        Delivery {
            id: delivery::delivery_id(&event.source, &event.id, endpoint),
            endpoint: endpoint.clone(),
            ..self.delivery.clone()
        }
    }

    /// The partition of an endpoint's slice.
    pub(crate) fn partition(&self, endpoint: &EndpointId) -> i32 {
        i32::from(self.slices.slice_of(endpoint).0)
    }

    fn address(&self, record: &mut NewRecord, endpoint: &EndpointId) {
        let event = &self.delivery.event;
        let id = delivery::delivery_id(&event.source, &event.id, endpoint);
        let key = Bytes::copy_from_slice(endpoint.as_str().as_bytes());
        for (name, value) in &mut record.headers {
            match &**name {
                "pr_delivery" => *value = Some(id.to_string().into()),
                "pr_endpoint" => *value = Some(key.clone()),
                _ => {}
            }
        }
        record.partition = self.partition(endpoint);
        record.key = Some(key);
    }
}

#[cfg(test)]
mod tests {
    use postrider_domain::{Endpoint, Timestamp, TypePattern};

    use super::*;

    fn endpoint(id: &str, tenant: &str, types: &[&str]) -> Endpoint {
        Endpoint {
            version: 1,
            types: types.iter().map(|t| TypePattern::new(t).unwrap()).collect(),
            ..Endpoint::new(
                id.parse().unwrap(),
                tenant.parse().unwrap(),
                "https://shop.example/hook",
            )
        }
    }

    fn catalog(endpoints: impl IntoIterator<Item = Endpoint>) -> Catalog {
        let mut catalog = Catalog::new();
        for endpoint in endpoints {
            catalog.apply(endpoint.id.clone(), Some(endpoint));
        }
        catalog
    }

    fn event(event_type: &str) -> Event {
        Event {
            id: "evt_1".into(),
            source: "payments".into(),
            event_type: event_type.into(),
            tenant: "acme".parse().unwrap(),
            time: Some("2026-01-01T00:00:00Z".into()),
            ordering_key: Some("pay_7".into()),
            content_type: Some("application/json".into()),
            traceparent: None,
            extensions: vec![("subject".into(), "pay_7".into())],
            data: Bytes::from_static(b"{\"amount\":1}"),
            accepted_at: Timestamp::from_millis(5),
        }
    }

    fn slices() -> SliceCount {
        SliceCount::new(64).unwrap()
    }

    fn fan_out(event: Event, catalog: &Catalog) -> Result<FanOut, Box<Event>> {
        let origin = Origin {
            topic: "intake".into(),
            partition: 0,
            offset: 7,
        };
        FanOut::new(event, &origin, catalog, &"deliveries".into(), slices())
    }

    #[test]
    fn an_event_goes_to_the_endpoints_of_its_tenant_that_want_its_type() {
        let catalog = catalog([
            endpoint("all", "acme", &[]),
            endpoint("payments", "acme", &["payment.*"]),
            endpoint("refunds", "acme", &["refund.*"]),
            endpoint("neighbour", "other", &[]),
        ]);
        let mut fan_out = fan_out(event("payment.captured"), &catalog).unwrap();
        let mut ids = Vec::new();
        while let Some((endpoint, _)) = fan_out.next_record() {
            ids.push(endpoint.to_string());
        }
        assert_eq!(ids, ["all", "payments"]);
    }

    #[test]
    fn without_an_endpoint_there_is_nothing_to_write() {
        let catalog = catalog([endpoint("refunds", "acme", &["refund.*"])]);
        let unwanted = fan_out(event("payment.captured"), &catalog).unwrap_err();
        assert_eq!(*unwanted, event("payment.captured"));
    }

    #[test]
    fn every_record_is_what_wire_makes_of_the_delivery() {
        let ids: Vec<String> = (0..10_000).map(|n| format!("ep_{n:05}")).collect();
        let catalog = catalog(ids.iter().map(|id| endpoint(id, "acme", &[])));
        let mut fan_out = fan_out(event("payment.captured"), &catalog).unwrap();
        let template = Arc::clone(fan_out.template());
        let mut seen = 0;
        while let Some((id, record)) = fan_out.next_record() {
            assert_eq!(id.as_str(), ids[seen]);
            let delivery = Delivery {
                id: delivery::delivery_id("payments", "evt_1", &id),
                endpoint: id.clone(),
                event: event("payment.captured"),
                attempts: 0,
                due: None,
            };
            let partition = i32::from(slices().slice_of(&id).0);
            let expected = delivery::encode(&delivery, 0, None, "deliveries".into(), partition);
            assert_eq!(*record, expected);
            assert_eq!(
                template.record(&id),
                expected,
                "made again after a failed write"
            );
            assert_eq!(template.delivery(&id), delivery);
            seen += 1;
        }
        assert_eq!((seen, fan_out.remaining()), (10_000, 0));
    }

    #[test]
    fn the_payload_is_shared() {
        let catalog = catalog([endpoint("a", "acme", &[]), endpoint("b", "acme", &[])]);
        let event = event("payment.captured");
        let data = event.data.as_ptr();
        let mut fan_out = fan_out(event, &catalog).unwrap();
        while let Some((_, record)) = fan_out.next_record() {
            assert_eq!(record.value.as_ref().unwrap().as_ptr(), data);
        }
    }
}
