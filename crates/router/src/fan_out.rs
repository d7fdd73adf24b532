//! One event to every endpoint that wants it.
//!
//! Decides which records an event becomes: one delivery per matching endpoint, at the partition of
//! its slice. Leaves the form of a delivery to `wire`, matching to `catalog` and `filter`, and the
//! pace to the shell: endpoints are asked and records made one at a time, so an event for ten
//! thousand endpoints takes no more memory than their ids.

use std::sync::Arc;
use std::vec;

use bytes::Bytes;
use postrider_catalog::by_tenant::ByTenant;
use postrider_domain::{Delivery, Endpoint, EndpointId, Event, NewRecord, Origin, SliceCount};
use postrider_filter::{Decision, Seen, Undecided};
use postrider_wire::delivery;

use crate::filters::Filters;

/// An event and the endpoints that are still to be asked.
#[derive(Debug)]
pub struct FanOut {
    template: Arc<Template>,
    /// The template's record, addressed to the endpoint at hand.
    record: Option<NewRecord>,
    candidates: vec::IntoIter<Candidate>,
    /// What filters have read of the event; `None` until one is asked.
    seen: Option<Seen>,
    /// Some endpoint wanted it, or may have.
    is_wanted: bool,
}

/// An endpoint that wants events of this type.
#[derive(Debug)]
struct Candidate {
    endpoint: EndpointId,
    filter: Option<Arc<str>>,
}

/// What came of asking the next endpoint.
#[derive(Debug)]
pub enum Asked<'a> {
    /// It wants the event: the record of its delivery, which is to be sent before the next endpoint
    /// is asked, as its record is made in this one's place.
    Wanted {
        /// The endpoint.
        endpoint: EndpointId,
        /// Its delivery's record.
        record: &'a NewRecord,
        /// Whether it has a filter.
        filtered: bool,
    },
    /// Its filter says no.
    Unwanted,
    /// Its filter could not be decided.
    Undecided {
        /// The endpoint.
        endpoint: EndpointId,
        /// Why.
        why: Undecided,
    },
}

impl FanOut {
    /// # Errors
    /// The event, when no endpoint wants its type.
    pub fn new(
        event: Event,
        origin: &Origin,
        catalog: &ByTenant,
        topic: &Arc<str>,
        slices: SliceCount,
    ) -> Result<Self, Box<Event>> {
        let matching = catalog.matching(&event.tenant, &event.event_type);
        let candidate = |endpoint: &Arc<Endpoint>| Candidate {
            endpoint: endpoint.id.clone(),
            filter: endpoint.filter.clone(),
        };
        let candidates: Vec<Candidate> = matching.map(candidate).collect();
        let Some(first) = candidates.first().map(|first| first.endpoint.clone()) else {
            return Err(Box::new(event));
        };
        Ok(Self {
            template: Arc::new(Template::new(event, origin, first, topic, slices)),
            record: None,
            candidates: candidates.into_iter(),
            seen: None,
            is_wanted: false,
        })
    }

    /// Asks the next endpoint; `None` at the end.
    pub fn ask(&mut self, filters: &mut Filters) -> Option<Asked<'_>> {
        let Candidate { endpoint, filter } = self.candidates.next()?;
        if let Some(text) = &filter {
            let seen = self.seen.get_or_insert_default();
            match filters.decide(text, self.template.event(), seen) {
                Decision::Matches => {}
                Decision::Differs => return Some(Asked::Unwanted),
                Decision::Undecided(why) => {
                    self.is_wanted = true;
                    return Some(Asked::Undecided { endpoint, why });
                }
            }
        }
        self.is_wanted = true;
        let record = if endpoint == self.template.delivery.endpoint {
            &self.template.record
        } else {
            let record = self
                .record
                .get_or_insert_with(|| self.template.record.clone());
            self.template.address(record, &endpoint);
            record
        };
        Some(Asked::Wanted {
            endpoint,
            record,
            filtered: filter.is_some(),
        })
    }

    /// Whether any endpoint asked so far wanted the event, or may have.
    #[must_use]
    pub const fn is_wanted(&self) -> bool {
        self.is_wanted
    }

    /// What every record of this event shares, to make one of them again.
    #[must_use]
    pub const fn template(&self) -> &Arc<Template> {
        &self.template
    }

    /// Endpoints that are still to be asked.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.candidates.len()
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
            test: false,
        };
        let partition = i32::from(slices.slice_of(&delivery.endpoint).0);
        Self {
            record: delivery::encode(&delivery, 0, None, Arc::clone(topic), partition),
            delivery,
            origin: origin.clone(),
            slices,
        }
    }

    /// The event.
    #[must_use]
    pub const fn event(&self) -> &Event {
        &self.delivery.event
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
    use postrider_domain::{Timestamp, TypePattern};

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

    fn catalog(endpoints: impl IntoIterator<Item = Endpoint>) -> ByTenant {
        let mut catalog = ByTenant::new();
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

    fn fan_out(event: Event, catalog: &ByTenant) -> Result<FanOut, Box<Event>> {
        let origin = Origin {
            topic: "intake".into(),
            partition: 0,
            offset: 7,
        };
        FanOut::new(event, &origin, catalog, &"deliveries".into(), slices())
    }

    fn wanted(fan_out: &mut FanOut) -> Vec<String> {
        let mut filters = Filters::default();
        let mut ids = Vec::new();
        while let Some(asked) = fan_out.ask(&mut filters) {
            if let Asked::Wanted { endpoint, .. } = asked {
                ids.push(endpoint.to_string());
            }
        }
        ids
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
        assert_eq!(wanted(&mut fan_out), ["all", "payments"]);
        assert!(fan_out.seen.is_none(), "without a filter nothing is read");
    }

    #[test]
    fn of_those_with_a_filter_it_goes_to_the_ones_it_matches() {
        let filtered = |id: &str, filter: &str| Endpoint {
            filter: Some(filter.into()),
            ..endpoint(id, "acme", &["payment.*"])
        };
        let catalog = catalog([
            filtered("a_small", "data.amount > 1"),
            filtered("b_one", "data.amount == 1 && subject == 'pay_7'"),
            filtered("c_missing", "data.fee > 1"),
            filtered("d_same", "data.amount == 1 && subject == 'pay_7'"),
            endpoint("e_all", "acme", &[]),
            filtered("f_text", "data.amount.startsWith('1')"),
            filtered("g_none", "no filter"),
        ]);
        let mut fan_out = fan_out(event("payment.captured"), &catalog).unwrap();
        let mut filters = Filters::default();
        let mut found = Vec::new();
        while let Some(asked) = fan_out.ask(&mut filters) {
            found.push(match asked {
                Asked::Wanted {
                    endpoint,
                    record,
                    filtered,
                } => {
                    assert_eq!(record.key.as_deref(), Some(endpoint.as_str().as_bytes()));
                    format!("{endpoint} {filtered}")
                }
                Asked::Unwanted => "no".to_owned(),
                Asked::Undecided { endpoint, why } => format!("{endpoint}: {why}"),
            });
        }
        assert_eq!(
            found[..5],
            ["no", "b_one true", "no", "d_same true", "e_all false"]
        );
        assert!(
            found[5].starts_with("f_text: the filter does not fit"),
            "{found:?}"
        );
        assert!(
            found[6].starts_with("g_none: the filter cannot be used"),
            "{found:?}"
        );
        assert!(fan_out.is_wanted());
    }

    #[test]
    fn past_what_is_compiled_for_an_event_an_endpoint_is_undecided_not_left_out() {
        let long = "a".repeat(2_000);
        let endpoints = (0..400).map(|n| Endpoint {
            filter: Some(format!("data.amount == 1 || subject == '{n}{long}'").into()),
            ..endpoint(&format!("ep_{n:03}"), "acme", &[])
        });
        let usual = Endpoint {
            filter: Some("data.amount == 1".into()),
            ..endpoint("f_usual", "acme", &[])
        };
        let catalog = catalog(endpoints.chain([usual]));
        let mut fan_out = fan_out(event("payment.captured"), &catalog).unwrap();
        let mut filters = Filters::default();
        let (mut wanted, mut undecided) = (Vec::new(), 0);
        while let Some(asked) = fan_out.ask(&mut filters) {
            match asked {
                Asked::Wanted { endpoint, .. } => wanted.push(endpoint.to_string()),
                Asked::Undecided { why, .. } => {
                    assert_eq!(why, Undecided::TooMuchText);
                    undecided += 1;
                }
                Asked::Unwanted => panic!("all want it"),
            }
        }
        assert_eq!(wanted.len() + undecided, 401);
        assert!((280..310).contains(&wanted.len()), "{}", wanted.len());
        assert_eq!(wanted.last().unwrap(), "f_usual");
    }

    #[test]
    fn when_every_filter_says_no_the_event_is_unwanted() {
        let mut none = endpoint("a", "acme", &[]);
        none.filter = Some("data.amount > 1".into());
        let mut broken = none.clone();
        broken.filter = Some("data.amount > 'a'".into());
        for (endpoint, expected) in [(none, false), (broken, true)] {
            let mut fan_out = fan_out(event("payment.captured"), &catalog([endpoint])).unwrap();
            while fan_out.ask(&mut Filters::default()).is_some() {}
            assert_eq!(fan_out.is_wanted(), expected);
        }
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
        let mut filters = Filters::default();
        while let Some(Asked::Wanted {
            endpoint: id,
            record,
            ..
        }) = fan_out.ask(&mut filters)
        {
            assert_eq!(id.as_str(), ids[seen]);
            let delivery = Delivery {
                id: delivery::delivery_id("payments", "evt_1", &id),
                endpoint: id.clone(),
                event: event("payment.captured"),
                attempts: 0,
                due: None,
                test: false,
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
        let mut filters = Filters::default();
        while let Some(Asked::Wanted { record, .. }) = fan_out.ask(&mut filters) {
            assert_eq!(record.value.as_ref().unwrap().as_ptr(), data);
        }
    }
}
