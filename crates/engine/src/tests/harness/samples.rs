//! What endpoints, events and settings look like when a test does not care.

use std::time::Duration;

use bytes::Bytes;
use postrider_domain::{Endpoint, EndpointId, Event, RetryPolicy, Timestamp};

use crate::io::Defaults;
use crate::worker::Settings;

pub(crate) fn retry(schedule: &[u64]) -> Option<RetryPolicy> {
    let schedule = schedule.iter().copied().map(Duration::from_secs).collect();
    Some(RetryPolicy {
        schedule,
        window: Duration::from_secs(86_400),
        jitter_permille: 0,
    })
}

pub(crate) fn settings(in_flight_max: usize, seed: u64) -> Settings {
    let defaults = Defaults {
        concurrency: 4,
        timeout: Duration::from_secs(15),
        retry: retry(&[5, 20, 60]).expect("a policy"),
    };
    Settings {
        in_flight_max,
        defaults,
        session: Duration::from_secs(45),
        heartbeat: Duration::from_secs(5),
        claimant: seed,
        seed,
    }
}

pub(super) fn event(now: Timestamp, bytes: usize) -> Event {
    Event {
        id: "e".into(),
        source: "s".into(),
        event_type: "t".into(),
        tenant: "acme".parse().unwrap(),
        time: None,
        ordering_key: None,
        content_type: None,
        traceparent: None,
        extensions: Vec::new(),
        data: Bytes::from(vec![0; bytes]),
        accepted_at: now,
    }
}

pub(crate) fn plain(id: &EndpointId) -> Endpoint {
    let tenant = "acme".parse().unwrap();
    Endpoint::new(id.clone(), tenant, "https://acme.example/")
}
