//! What the demo consists of and what is expected of it.
//!
//! Decides the endpoints, how each behaves and is retried, the events, and how much of it all the
//! embedded broker can hold. Knows no clock and no broker.

use std::sync::Arc;
use std::time::Duration;

use postrider_domain::{
    Endpoint, EndpointId, RetryPolicy, Scheme, Signing, SigningKey, SigningSecret, SliceCount,
    Tenant,
};
use postrider_kafka::EmbeddedBroker;
use serde::Serialize;
use serde_json::json;

/// The merchant account of the demo.
pub(super) const TENANT: &str = "demo";
/// What the demo's events name as their origin.
pub(super) const SOURCE: &str = "/postrider/dev";
/// Requests the flaky endpoint fails before it takes a delivery.
pub(super) const FLAKY_FAILS: u32 = 2;
/// Deliveries that are followed; on the embedded broker far fewer fit. The receiver counts as many.
const DELIVERIES_MAX: u64 = 100_000;

/// How an endpoint behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Healthy,
    Flaky,
    Dead,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Healthy, Self::Flaky, Self::Dead];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Flaky => "flaky",
            Self::Dead => "dead",
        }
    }

    /// Seconds before attempt 2, 3, …: short, so that all is over within 20 s of the start.
    pub(super) const fn schedule(self) -> &'static [u64] {
        match self {
            Self::Healthy | Self::Flaky => &[1, 2],
            Self::Dead => &[1, 2, 3],
        }
    }

    pub(super) const fn behaviour(self) -> &'static str {
        match self {
            Self::Healthy => "answers 200",
            Self::Flaky => "answers 409 twice, then 200",
            Self::Dead => "always answers 404",
        }
    }

    /// Requests a delivery costs when all goes as expected.
    pub(super) const fn attempts(self) -> u64 {
        match self {
            Self::Healthy => 1,
            Self::Flaky => 1 + FLAKY_FAILS as u64,
            Self::Dead => 1 + self.schedule().len() as u64,
        }
    }
}

/// One endpoint of the demo.
#[derive(Clone, Debug)]
pub(super) struct DemoEndpoint {
    pub(super) kind: Kind,
    pub(super) id: EndpointId,
    /// On the built-in receiver.
    pub(super) path: String,
}

impl DemoEndpoint {
    /// As it is written to `endpoints`; `base` is the receiver's address.
    pub(super) fn endpoint(&self, base: &str, key: SigningKey) -> Endpoint {
        let schedule = self.kind.schedule().iter().copied();
        let tenant = TENANT.parse::<Tenant>().expect("a short word");
        Endpoint {
            signing: Signing {
                scheme: Scheme::Standard,
                secrets: vec![SigningSecret {
                    id: "s1".into(),
                    key,
                    not_after: None,
                }],
            },
            retry: Some(RetryPolicy {
                schedule: schedule.map(Duration::from_secs).collect::<Arc<[_]>>(),
                window: Duration::from_secs(3_600),
                jitter_permille: 100,
            }),
            description: self.kind.behaviour().into(),
            ..Endpoint::new(self.id.clone(), tenant, format!("{base}{}", self.path))
        }
    }
}

/// `count` endpoints: healthy, flaky, dead, and again.
pub(super) fn endpoints(count: u16) -> Vec<DemoEndpoint> {
    let endpoint = |n: usize| {
        let kind = Kind::ALL[n % Kind::ALL.len()];
        let name = match n / Kind::ALL.len() + 1 {
            1 => kind.name().to_owned(),
            round => format!("{}_{round}", kind.name()),
        };
        DemoEndpoint {
            kind,
            id: format!("demo_{name}").parse().expect("a short word"),
            path: format!("/{name}"),
        }
    };
    (0..usize::from(count)).map(endpoint).collect()
}

/// One event of the demo.
pub(super) struct DemoEvent {
    pub(super) id: String,
    pub(super) event_type: &'static str,
    /// What it is about: record key and ordering key.
    pub(super) key: String,
    pub(super) data: String,
}

const TYPES: [&str; 6] = [
    "payment.authorized",
    "payment.captured",
    "payment.failed",
    "refund.created",
    "dispute.opened",
    "payout.paid",
];

/// The `n`th event (from 0); `run` tells this run's events from another's.
pub(super) fn event(run: &str, n: u32) -> DemoEvent {
    let event_type = TYPES[n as usize % TYPES.len()];
    let (object, status) = event_type.split_once('.').unwrap_or((event_type, ""));
    let key = format!("{object}_{run}_{n}");
    let amount = 1_000 + n.wrapping_mul(1_237) % 90_000;
    let data = json!({
        "id": key, "object": object, "status": status, "amount": amount, "currency": "EUR",
        "merchant": TENANT, "reference": format!("order-{}", 10_000 + u64::from(n)),
    });
    DemoEvent {
        id: event_id(run, n),
        event_type,
        key,
        data: data.to_string(),
    }
}

/// Its id alone.
pub(super) fn event_id(run: &str, n: u32) -> String {
    format!("evt_{run}_{}", u64::from(n) + 1)
}

/// The most one record takes on the log.
const EVENT_BYTES: u64 = 1_024;
const DELIVERY_BYTES: u64 = 1_024;
const DEAD_LETTER_BYTES: u64 = 1_280;
const ATTEMPT_BYTES: u64 = 2_048;
const ENDPOINT_BYTES: u64 = 1_024;

/// What the demo may fill of a partition; the rest is for what else is published.
const PLANNED_BYTES_MAX: u64 = EmbeddedBroker::PARTITION_BYTES_MAX / 5 * 4;

/// Refuses a demo that cannot be held or followed.
pub(super) fn check(
    events: u32,
    endpoints: &[DemoEndpoint],
    slices: SliceCount,
    embedded: bool,
) -> Result<(), String> {
    let count = endpoints.len() as u64;
    let followed = DELIVERIES_MAX / count.max(1);
    if !embedded && u64::from(events) > followed {
        return Err(format!(
            "--events {events} to {count} endpoints is more than the {DELIVERIES_MAX} deliveries \
             this command follows; at most {followed} events"
        ));
    }
    let fitting = events_fitting(endpoints, slices).min(followed);
    if embedded && u64::from(events) > fitting {
        return Err(format!(
            "--events {events} to {count} endpoints does not fit into the embedded broker, which \
             keeps only {} MiB of a partition: at most {fitting} events, or a real Kafka with \
             --brokers",
            EmbeddedBroker::PARTITION_BYTES_MAX >> 20
        ));
    }
    Ok(())
}

/// How many events fit, whichever partition they are on.
fn events_fitting(endpoints: &[DemoEndpoint], slices: SliceCount) -> u64 {
    let per_event = slices.iter().map(|slice| {
        let here = || endpoints.iter().filter(|e| slices.slice_of(&e.id) == slice);
        let attempts: u64 = here().map(|e| e.kind.attempts()).sum();
        let dead = here().filter(|e| e.kind == Kind::Dead).count() as u64;
        let deliveries = here().count() as u64;
        (attempts * ATTEMPT_BYTES)
            .max(deliveries * DELIVERY_BYTES)
            .max(dead * DEAD_LETTER_BYTES)
    });
    let per_event = per_event.max().unwrap_or(0).max(EVENT_BYTES);
    let endpoints = endpoints.len() as u64 * ENDPOINT_BYTES;
    if endpoints > PLANNED_BYTES_MAX {
        return 0;
    }
    PLANNED_BYTES_MAX / per_event
}

#[cfg(test)]
mod tests {
    use postrider_domain::Secret;

    use super::*;
    use bytes::Bytes;
    use postrider_domain::{
        AttemptReport, AttemptResult, DeadLetterReason, Delivery, Event, NewRecord, Origin,
        Outcome, Phases, RequestSummary, Response, Slice, Timestamp,
    };
    use postrider_wire::{attempt, dead_letter, delivery, endpoint};

    fn eight() -> SliceCount {
        SliceCount::new(8).unwrap()
    }

    #[test]
    fn endpoints_repeat_with_a_number() {
        let ids: Vec<String> = endpoints(5).iter().map(|e| e.id.to_string()).collect();
        assert_eq!(
            ids,
            [
                "demo_healthy",
                "demo_flaky",
                "demo_dead",
                "demo_healthy_2",
                "demo_flaky_2"
            ]
        );
    }

    #[test]
    fn a_demo_that_does_not_fit_names_the_limit_and_the_way_out() {
        let three = endpoints(3);
        assert_eq!(check(10, &three, eight(), true), Ok(()));
        let refused = check(1_000_000, &three, eight(), true).unwrap_err();
        assert!(refused.contains("5 MiB"), "{refused}");
        assert!(refused.contains("--brokers"), "{refused}");
        let fitting = u32::try_from(events_fitting(&three, eight())).unwrap();
        assert_eq!(check(fitting, &three, eight(), true), Ok(()));
        assert!(check(fitting + 1, &three, eight(), true).is_err());
        assert_eq!(check(fitting + 1, &three, eight(), false), Ok(()));
        assert!(check(1_000_000, &three, eight(), false).is_err());
        assert!(events_fitting(&endpoints(1_000), eight()) < 20);
    }

    /// The largest record of each kind the demo makes is smaller than what is planned for it.
    #[test]
    fn records_are_no_larger_than_planned() {
        let demo = &endpoints(1_000)[998];
        let event = event("ffffffff", u32::MAX);
        let event = Event {
            id: event.id.into(),
            source: SOURCE.into(),
            event_type: event.event_type.into(),
            tenant: TENANT.parse().unwrap(),
            time: Some("2026-01-01T00:00:00.000000000Z".into()),
            ordering_key: Some(event.key.into()),
            content_type: Some("application/json".into()),
            traceparent: None,
            extensions: Vec::new(),
            data: event.data.into(),
            accepted_at: Timestamp::from_secs(2_000_000_000),
        };
        let made = Delivery {
            id: delivery::delivery_id(SOURCE, &event.id, &demo.id),
            endpoint: demo.id.clone(),
            event,
            attempts: 0,
            due: None,
            test: false,
        };
        let endpoint = demo.endpoint(
            "http://127.0.0.1:65535",
            SigningKey::Shared(Secret::new([7; 32])),
        );
        let origin = Origin {
            topic: "postrider.dev.deliveries".into(),
            partition: 7,
            offset: 1 << 40,
        };
        let header = |name| (name, "x".repeat(48));
        let names = [
            "content-type",
            "user-agent",
            "webhook-id",
            "webhook-timestamp",
        ];
        let report = AttemptReport {
            started_at: made.event.accepted_at,
            phases: Phases {
                total: Duration::from_nanos(123_456_789),
                ..Phases::default()
            },
            request: RequestSummary {
                url: Arc::clone(&endpoint.url),
                headers: names.into_iter().map(header).collect(),
            },
            result: AttemptResult::Response(Response {
                status: 404,
                headers: ["content-length", "date"].into_iter().map(header).collect(),
                body: Bytes::new(),
                truncated: false,
            }),
        };
        let tried = attempt::Attempt {
            delivery: &made,
            attempt: 4,
            report: Some(&report),
            at: report.started_at,
            outcome: Outcome::Retry,
            unmet: None,
            next_attempt_at: Some(report.started_at),
            origin: &origin,
            worker: &"w".repeat(80),
            slice: Slice(7),
            epoch: u64::MAX,
        };
        let bytes = |record: NewRecord| {
            let part = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
            let headers = record.headers.iter();
            let headers: usize = headers.map(|(n, v)| n.len() + part(v) + 10).sum();
            (part(&record.key) + part(&record.value) + headers + 100) as u64
        };
        let delivered = delivery::encode(&made, 0, None, "t".into(), 7);
        assert!(bytes(delivered) < DELIVERY_BYTES.min(EVENT_BYTES));
        assert!(bytes(attempt::encode(&tried, "t".into())) < ATTEMPT_BYTES);
        let reason = DeadLetterReason::AttemptsExhausted;
        let given_up =
            dead_letter::of_delivery(&made, 4, reason, Some(404), &origin, "t".into(), 7);
        assert!(bytes(given_up) < DEAD_LETTER_BYTES);
        let keys = crate::commands::endpoint::topic::testing::keys();
        let sealing = endpoint::Sealing::new(&keys, postrider_signing::Nonces::new([1; 24]));
        let written = endpoint::to_record(&endpoint, report.started_at, sealing);
        assert!(written.len() as u64 + 200 < ENDPOINT_BYTES);
    }
}
