//! How values that may hold a payload, a credential or a person's data look in `{:?}`.
//!
//! Decides what stands in their place: how long they are, what the names beside them are, which
//! host a URL names. `Debug` is for failures and logs, and what is in a log is out of our hands.

use std::fmt;

/// Bytes, by their number.
pub struct Length(
    /// How many there are.
    pub usize,
);

impl fmt::Debug for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0)
    }
}

/// Names and values, by their names.
pub struct Names<'a, N, V>(
    /// All of them.
    pub &'a [(N, V)],
);

impl<N: fmt::Debug, V> fmt::Debug for Names<'_, N, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

/// A URL, by scheme, host and port: tokens stand in paths as well as in queries.
pub struct Host<'a>(
    /// The whole URL.
    pub &'a str,
);

impl fmt::Debug for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((scheme, rest)) = self.0.split_once("://") else {
            return Length(self.0.len()).fmt(f);
        };
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        // what stands before an @ is a password
        let host = host.rsplit('@').next().unwrap_or_default();
        write!(f, "{scheme}://{host}/…")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::{
        AttemptReport, AttemptResult, Delivery, DeliveryId, Endpoint, Event, Fields, NewRecord,
        Origin, Phases, Record, RequestSummary, Response, Scheme, Secret, Signing, SigningKey,
        SigningSecret, Tenant, Timestamp,
    };

    const CANARY: &str = "canary-4111111111111111";

    fn event() -> Event {
        Event {
            id: "e-1".into(),
            source: "/till".into(),
            event_type: "payment.captured".into(),
            tenant: Tenant::default(),
            time: None,
            ordering_key: Some(CANARY.into()),
            content_type: None,
            traceparent: None,
            extensions: vec![("subject".into(), CANARY.into())],
            data: CANARY.into(),
            accepted_at: Timestamp::default(),
        }
    }

    fn endpoint() -> Endpoint {
        let id = "ep_1".parse().expect("an id");
        let url = format!("https://{CANARY}@shop.example:8443/{CANARY}?token={CANARY}");
        Endpoint {
            signing: Signing {
                scheme: Scheme::Stripe,
                secrets: vec![SigningSecret {
                    id: "s1".into(),
                    key: SigningKey::Shared(Secret::new(CANARY.as_bytes())),
                    not_after: None,
                }],
            },
            headers: vec![("x-shop".into(), CANARY.into())],
            description: CANARY.into(),
            metadata: vec![("contact".into(), CANARY.into())],
            ..Endpoint::new(id, Tenant::default(), url)
        }
    }

    fn report(result: AttemptResult) -> AttemptReport {
        AttemptReport {
            started_at: Timestamp::default(),
            phases: Phases {
                total: Duration::from_millis(7),
                ..Phases::default()
            },
            request: RequestSummary {
                url: endpoint().url,
                headers: Fields::from_iter([("x-shop", CANARY)]),
            },
            result,
        }
    }

    fn response() -> Response {
        Response {
            status: 503,
            headers: Fields::from_iter([("set-cookie", CANARY)]),
            body: CANARY.into(),
            truncated: false,
        }
    }

    fn record() -> Record {
        Record {
            origin: Origin {
                topic: "deliveries".into(),
                partition: 3,
                offset: 9,
            },
            timestamp: Timestamp::default(),
            key: Some(CANARY.into()),
            value: Some(CANARY.into()),
            headers: vec![("ce_subject".into(), Some(CANARY.into()))],
        }
    }

    #[test]
    fn no_value_shows_what_may_not_be_seen() {
        let endpoint = endpoint();
        let delivery = Delivery {
            id: DeliveryId::from_bytes([7; 16]),
            endpoint: endpoint.id.clone(),
            event: event(),
            attempts: 1,
            due: None,
            test: false,
        };
        let new = NewRecord {
            topic: "deliveries".into(),
            partition: 3,
            key: record().key,
            value: record().value,
            headers: vec![(
                "ce_subject".into(),
                Some(Bytes::from_static(CANARY.as_bytes())),
            )],
        };
        // what it is said of, and a part that must be seen
        let shown = [
            (format!("{:?}", event()), "payment.captured"),
            (format!("{delivery:?}"), "23 bytes"),
            (format!("{endpoint:?}"), "https://shop.example:8443/…"),
            (
                format!("{:?}", report(AttemptResult::Response(response()))),
                "503",
            ),
            (format!("{:#?}", response()), "set-cookie"),
            (format!("{:?}", record()), "ce_subject"),
            (format!("{new:#?}"), "deliveries"),
        ];
        for (text, part) in shown {
            assert!(!text.contains(CANARY), "{text}");
            assert!(
                !text.contains(&format!("{:?}", CANARY.as_bytes())),
                "{text}"
            );
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn what_is_no_url_shows_nothing() {
        assert_eq!(format!("{:?}", Host(CANARY)), "23 bytes");
        assert_eq!(
            format!("{:?}", Host("https://a.example")),
            "https://a.example/…"
        );
        assert_eq!(
            format!("{:?}", Host("https://a.example?x")),
            "https://a.example/…"
        );
    }
}
