//! Records for this crate's tests.

use bytes::Bytes;
use postrider_domain::{Delivery, EndpointId, Event, NewRecord, Origin, Record, Timestamp};

/// A record of `payments.events`, partition 3, offset 42.
pub(crate) fn record(headers: &[(&str, &[u8])], value: Option<&[u8]>) -> Record {
    Record {
        origin: Origin {
            topic: "payments.events".into(),
            partition: 3,
            offset: 42,
        },
        timestamp: Timestamp::from_millis(1_674_087_231_456),
        key: None,
        value: value.map(Bytes::copy_from_slice),
        headers: headers
            .iter()
            .map(|(name, value)| ((*name).into(), Some(Bytes::copy_from_slice(value))))
            .collect(),
    }
}

/// A written record as its reader gets it.
pub(crate) fn read_back(written: NewRecord) -> Record {
    Record {
        origin: Origin {
            topic: written.topic,
            partition: written.partition,
            offset: 7,
        },
        timestamp: Timestamp::from_millis(1_674_087_299_000),
        key: written.key,
        value: written.value,
        headers: written
            .headers
            .into_iter()
            .map(|(name, value)| (name.into(), value))
            .collect(),
    }
}

/// The headers as lines, for golden files.
pub(crate) fn header_lines(written: &NewRecord) -> String {
    let line = |(name, value): &(std::borrow::Cow<'static, str>, Option<Bytes>)| {
        let value = value.as_deref().map(String::from_utf8_lossy);
        format!("{name}: {}\n", value.as_deref().unwrap_or("(null)"))
    };
    written.headers.iter().map(line).collect()
}

/// A delivery with every field set but `due`.
pub(crate) fn delivery() -> Delivery {
    let endpoint: EndpointId = "ep_acme".parse().unwrap();
    Delivery {
        id: crate::delivery::delivery_id("/payments", "evt_1", &endpoint),
        endpoint,
        event: Event {
            id: "evt_1".into(),
            source: "/payments".into(),
            event_type: "payment.captured".into(),
            tenant: "acme".parse().unwrap(),
            time: Some("2023-01-19T00:13:51Z".into()),
            ordering_key: Some("pay_1".into()),
            content_type: Some("application/json".into()),
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
            extensions: vec![("subject".into(), "café".into())],
            data: Bytes::from_static(b"{\"id\":\"pay_1\"}"),
            accepted_at: Timestamp::from_millis(1_674_087_231_456),
        },
        attempts: 0,
        due: None,
        test: false,
    }
}
