//! An event with the data of an input, for what is made of events.

use bytes::Bytes;
use postrider_domain::{Event, Timestamp};

/// As a payment platform might write it, around this data.
pub(crate) fn event(data: &[u8]) -> Event {
    Event {
        id: "evt_1".into(),
        source: "/payments".into(),
        event_type: "payment.captured".into(),
        tenant: "acme".parse().expect("a tenant"),
        time: Some("2023-01-19T00:13:51Z".into()),
        ordering_key: Some("pay_1".into()),
        content_type: Some("application/json".into()),
        traceparent: None,
        extensions: vec![("subject".into(), "café €".into())],
        data: Bytes::copy_from_slice(data),
        accepted_at: Timestamp::from_millis(1_674_087_231_456),
    }
}
