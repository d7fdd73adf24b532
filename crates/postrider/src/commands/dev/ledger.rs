//! What became of every delivery of the demo, against what is expected.
//!
//! Decides when the demo is settled and whether it went as it should: every delivery to a healthy
//! or a flaky endpoint delivered, every one to a dead endpoint in `dead-letters` for
//! `attempts_exhausted`, every request with a valid signature. What others publish is counted apart
//! and nothing is expected of it.

use std::collections::{HashMap, VecDeque};

use postrider_domain::{DeadLetterReason, DeliveryId, EndpointId};
use postrider_wire::delivery::delivery_id;
use serde::Serialize;

use super::plan::{self, DemoEndpoint, Kind, SOURCE};

/// Differences told in full; the rest is counted.
const UNEXPECTED_MAX: usize = 10;

/// Deliveries of other events whose event is remembered, for the screen; the oldest are forgotten.
const OTHERS_MAX: usize = 10_000;

/// How a delivery ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    Delivered,
    DeadLettered(String),
    Discarded(String),
}

impl End {
    fn is_expected_of(&self, kind: Kind) -> bool {
        let exhausted = DeadLetterReason::AttemptsExhausted.as_str();
        match kind {
            Kind::Healthy | Kind::Flaky => *self == Self::Delivered,
            Kind::Dead => matches!(self, Self::DeadLettered(reason) if reason == exhausted),
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Delivered => "was delivered".to_owned(),
            Self::DeadLettered(reason) => format!("was dead-lettered ({reason})"),
            Self::Discarded(reason) => format!("was discarded ({reason})"),
        }
    }
}

struct Followed {
    /// Index of the event and of the endpoint.
    event: u32,
    endpoint: usize,
    requests: u64,
    requests_not_valid: u64,
    end: Option<End>,
}

/// The deliveries of the demo.
pub(super) struct Ledger {
    run: String,
    endpoints: Vec<DemoEndpoint>,
    deliveries: HashMap<DeliveryId, Followed>,
    /// Index of each event of the demo that is still to be published.
    unpublished: HashMap<String, u32>,
    published: Vec<bool>,
    settled: usize,
    others: Others,
    /// The events behind deliveries that are not the demo's.
    other_events: HashMap<DeliveryId, String>,
    other_order: VecDeque<DeliveryId>,
}

/// What was not published by the demo.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Others {
    pub(super) requests: u64,
    pub(super) delivered: u64,
    pub(super) dead_lettered: u64,
    pub(super) discarded: u64,
}

impl Ledger {
    pub(super) fn new(run: &str, events: u32, endpoints: Vec<DemoEndpoint>) -> Self {
        let mut deliveries = HashMap::new();
        let mut unpublished = HashMap::new();
        for event in 0..events {
            let id = plan::event_id(run, event);
            for (endpoint, demo) in endpoints.iter().enumerate() {
                let followed = Followed {
                    event,
                    endpoint,
                    requests: 0,
                    requests_not_valid: 0,
                    end: None,
                };
                deliveries.insert(delivery_id(SOURCE, &id, &demo.id), followed);
            }
            unpublished.insert(id, event);
        }
        Self {
            run: run.to_owned(),
            endpoints,
            deliveries,
            unpublished,
            published: vec![false; events as usize],
            settled: 0,
            others: Others::default(),
            other_events: HashMap::new(),
            other_order: VecDeque::new(),
        }
    }

    /// The id of the event behind a delivery, as far as it is known.
    pub(super) fn event_of(&self, delivery: &str) -> Option<String> {
        let delivery = delivery.parse().ok()?;
        match self.deliveries.get(&delivery) {
            Some(followed) => Some(plan::event_id(&self.run, followed.event)),
            None => self.other_events.get(&delivery).cloned(),
        }
    }

    /// The endpoint behind a path of the receiver.
    pub(super) fn endpoint_at(&self, path: &str) -> Option<&EndpointId> {
        let demo = self.endpoints.iter().find(|demo| demo.path == path)?;
        Some(&demo.id)
    }

    /// An event is on the intake topic. Whether it is one of the demo's.
    pub(super) fn published(&mut self, source: &str, id: &str) -> bool {
        if source == SOURCE
            && let Some(event) = self.unpublished.remove(id)
        {
            self.published[event as usize] = true;
            return true;
        }
        for demo in &self.endpoints {
            let delivery = delivery_id(source, id, &demo.id);
            if self.other_events.insert(delivery, id.to_owned()).is_none() {
                self.other_order.push_back(delivery);
            }
        }
        while self.other_order.len() > OTHERS_MAX {
            if let Some(oldest) = self.other_order.pop_front() {
                self.other_events.remove(&oldest);
            }
        }
        false
    }

    /// Whether a delivery is one of the demo's.
    pub(super) fn follows(&self, delivery: &str) -> bool {
        let id = delivery.parse();
        id.is_ok_and(|id: DeliveryId| self.deliveries.contains_key(&id))
    }

    /// A request arrived. Whether it was one of the demo's.
    pub(super) fn arrived(&mut self, delivery: &str, valid: bool) -> bool {
        let Some(followed) = self.find(delivery) else {
            self.others.requests += 1;
            return false;
        };
        followed.requests += 1;
        followed.requests_not_valid += u64::from(!valid);
        true
    }

    /// A delivery reached a final state. Whether it was one of the demo's.
    pub(super) fn ended(&mut self, delivery: &str, end: End) -> bool {
        let Some(followed) = self.find(delivery) else {
            match end {
                End::Delivered => self.others.delivered += 1,
                End::DeadLettered(_) => self.others.dead_lettered += 1,
                End::Discarded(_) => self.others.discarded += 1,
            }
            return false;
        };
        if followed.end.replace(end).is_none() {
            self.settled += 1;
        }
        true
    }

    fn find(&mut self, delivery: &str) -> Option<&mut Followed> {
        self.deliveries.get_mut(&delivery.parse().ok()?)
    }

    /// Whether every event was published and every delivery reached a final state.
    pub(super) fn is_settled(&self) -> bool {
        self.settled == self.deliveries.len() && self.unpublished.is_empty()
    }

    /// The deliveries there are to be.
    pub(super) fn planned(&self) -> usize {
        self.deliveries.len()
    }

    /// What there is to say at the end.
    pub(super) fn summary(&self) -> Summary {
        let mut rows: Vec<Row> = Kind::ALL
            .into_iter()
            .map(|kind| Row::new(kind, &self.endpoints))
            .filter(|row| row.endpoints > 0)
            .collect();
        let mut summary = Summary {
            events: self
                .published
                .iter()
                .filter(|published| **published)
                .count(),
            endpoints: self.endpoints.len(),
            ..Summary::default()
        };
        let mut ordered: Vec<&Followed> = self.deliveries.values().collect();
        ordered.sort_by_key(|followed| (followed.event, followed.endpoint));
        let mut unexpected = Vec::new();
        for followed in ordered {
            if !self.published[followed.event as usize] {
                continue;
            }
            let demo = &self.endpoints[followed.endpoint];
            if let Some(row) = rows.iter_mut().find(|row| row.kind == demo.kind) {
                row.count(followed);
            }
            summary.count(followed);
            unexpected.extend(complaints(followed, demo, &self.run));
        }
        summary.by_behaviour = rows;
        summary.others = self.others.clone();
        summary.ok = self.is_settled() && unexpected.is_empty();
        let more = unexpected.len().saturating_sub(UNEXPECTED_MAX);
        unexpected.truncate(UNEXPECTED_MAX);
        if more > 0 {
            unexpected.push(format!("and {more} more"));
        }
        summary.unexpected = unexpected;
        summary
    }
}

/// How a delivery differs from what is expected of it.
fn complaints(followed: &Followed, demo: &DemoEndpoint, run: &str) -> Vec<String> {
    let event = plan::event_id(run, followed.event);
    let mut found = Vec::new();
    match &followed.end {
        None => found.push(format!("{event} to {} is not settled", demo.id)),
        Some(end) if !end.is_expected_of(demo.kind) => {
            found.push(format!("{event} to {} {}", demo.id, end.describe()));
        }
        Some(_) => {}
    }
    if followed.requests_not_valid > 0 {
        let count = followed.requests_not_valid;
        found.push(format!(
            "{count} requests of {event} to {} had no valid signature",
            demo.id
        ));
    }
    found
}

/// The summary: what `--json` prints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Summary {
    /// Everything was published, settled, and ended as expected.
    pub(super) ok: bool,
    pub(super) events: usize,
    pub(super) endpoints: usize,
    pub(super) deliveries: u64,
    pub(super) delivered: u64,
    pub(super) dead_lettered: u64,
    pub(super) discarded: u64,
    pub(super) unsettled: u64,
    pub(super) requests: u64,
    /// Requests whose signature was not valid.
    pub(super) requests_not_valid: u64,
    pub(super) by_behaviour: Vec<Row>,
    pub(super) others: Others,
    /// What differs from what the demo expects.
    pub(super) unexpected: Vec<String>,
}

impl Summary {
    fn count(&mut self, followed: &Followed) {
        self.deliveries += 1;
        self.requests += followed.requests;
        self.requests_not_valid += followed.requests_not_valid;
        match followed.end {
            Some(End::Delivered) => self.delivered += 1,
            Some(End::DeadLettered(_)) => self.dead_lettered += 1,
            Some(End::Discarded(_)) => self.discarded += 1,
            None => self.unsettled += 1,
        }
    }
}

/// The deliveries to all endpoints that behave alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Row {
    #[serde(rename = "behaviour")]
    pub(super) kind: Kind,
    pub(super) endpoints: u64,
    pub(super) deliveries: u64,
    pub(super) requests: u64,
    pub(super) delivered: u64,
    pub(super) dead_lettered: u64,
    /// Ended as expected.
    pub(super) as_expected: u64,
}

impl Row {
    fn new(kind: Kind, endpoints: &[DemoEndpoint]) -> Self {
        Self {
            kind,
            endpoints: endpoints.iter().filter(|demo| demo.kind == kind).count() as u64,
            deliveries: 0,
            requests: 0,
            delivered: 0,
            dead_lettered: 0,
            as_expected: 0,
        }
    }

    fn count(&mut self, followed: &Followed) {
        self.deliveries += 1;
        self.requests += followed.requests;
        let Some(end) = &followed.end else { return };
        self.delivered += u64::from(*end == End::Delivered);
        self.dead_lettered += u64::from(matches!(end, End::DeadLettered(_)));
        self.as_expected += u64::from(end.is_expected_of(self.kind));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(event: u32, endpoint: &str) -> String {
        let event = plan::event_id("r", event);
        delivery_id(SOURCE, &event, &endpoint.parse().unwrap()).to_string()
    }

    fn exhausted() -> End {
        End::DeadLettered("attempts_exhausted".to_owned())
    }

    /// One event, three endpoints, all as it should be but for what the test changes.
    fn ledger(dead: End, valid: bool) -> Ledger {
        let mut ledger = Ledger::new("r", 1, plan::endpoints(3));
        assert!(ledger.published(SOURCE, "evt_r_1"));
        for (endpoint, end) in [
            ("demo_healthy", End::Delivered),
            ("demo_flaky", End::Delivered),
            ("demo_dead", dead),
        ] {
            assert!(ledger.arrived(&id(0, endpoint), valid || endpoint != "demo_flaky"));
            assert!(ledger.ended(&id(0, endpoint), end));
        }
        ledger
    }

    #[test]
    fn a_demo_as_expected_is_ok() {
        let ledger = ledger(exhausted(), true);
        assert!(ledger.is_settled());
        let summary = ledger.summary();
        assert!(summary.ok, "{summary:?}");
        assert_eq!((summary.delivered, summary.dead_lettered), (2, 1));
        assert_eq!((summary.requests, summary.requests_not_valid), (3, 0));
        assert!(summary.by_behaviour.iter().all(|row| row.as_expected == 1));
    }

    #[test]
    fn another_end_than_expected_is_told() {
        for end in [
            End::Delivered,
            End::DeadLettered("window_passed".to_owned()),
            End::Discarded("endpoint_deleted".to_owned()),
        ] {
            let summary = ledger(end, true).summary();
            assert!(!summary.ok);
            assert_eq!(summary.unexpected.len(), 1);
            assert!(summary.unexpected[0].starts_with("evt_r_1 to demo_dead was"));
        }
    }

    #[test]
    fn one_bad_signature_is_one_too_many() {
        let summary = ledger(exhausted(), false).summary();
        assert!(!summary.ok);
        assert_eq!(summary.requests_not_valid, 1);
        assert!(summary.unexpected[0].contains("demo_flaky"));
    }

    #[test]
    fn what_is_not_settled_is_told_once_it_is_published() {
        let mut ledger = Ledger::new("r", 20, plan::endpoints(1));
        assert!(!ledger.is_settled());
        assert_eq!(ledger.summary().unexpected, [""; 0]);
        assert!(!ledger.summary().ok);
        for n in 1..=20 {
            assert!(ledger.published(SOURCE, &format!("evt_r_{n}")));
        }
        let summary = ledger.summary();
        assert_eq!(summary.unsettled, 20);
        assert_eq!(summary.unexpected.len(), UNEXPECTED_MAX + 1);
        assert_eq!(summary.unexpected[UNEXPECTED_MAX], "and 10 more");
    }

    #[test]
    fn strangers_are_counted_apart() {
        let mut ledger = ledger(exhausted(), true);
        assert!(!ledger.arrived("dlv_00000000000000000000000000000000", false));
        assert!(!ledger.ended("no id at all", End::Delivered));
        assert!(!ledger.published("/me", "evt_r_1"));
        let delivery = delivery_id("/me", "evt_r_1", &"demo_dead".parse().unwrap());
        assert_eq!(
            ledger.event_of(&delivery.to_string()).as_deref(),
            Some("evt_r_1")
        );
        let summary = ledger.summary();
        assert!(summary.ok);
        assert_eq!((summary.others.requests, summary.others.delivered), (1, 1));
    }
}
