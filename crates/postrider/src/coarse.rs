//! What a merchant may know of how a request to its endpoint ended.
//!
//! Decides the few words. A merchant chooses the URL, so whoever may have requests sent could ask
//! our network about itself: a refused connection, a name that does not resolve, one that resolves to
//! a denied address and a failed TLS handshake are one word, none tells an address, a port or a cause, and only a response says how
//! long it took. Operators read the cause in `attempts`.

use std::fmt;
use std::time::Duration;

use postrider_domain::AttemptError;
use postrider_wire::attempt::AttemptRecord;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coarse {
    /// The receiver took it.
    Delivered,
    /// The receiver answered otherwise.
    Refused,
    /// There was no connection, or it broke, or it would have led where nothing is sent.
    NotReachable,
    /// Nothing is sent to that URL, as its text says.
    NotAllowed,
    /// No complete answer came in time.
    TimedOut,
    /// The endpoint took nothing.
    NotSent,
    /// There is nothing to send: the endpoint's format cannot be made of the event.
    Unrenderable,
    /// Postrider itself could not send.
    Internal,
    /// Another test was made a moment ago.
    TooSoon,
}

impl Coarse {
    /// The name in output for programs.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Refused => "refused",
            Self::NotReachable => "not_reachable",
            Self::NotAllowed => "not_allowed",
            Self::TimedOut => "timed_out",
            Self::NotSent => "not_sent",
            Self::Unrenderable => "unrenderable",
            Self::Internal => "internal",
            Self::TooSoon => "too_soon",
        }
    }

    /// Of an `error.kind`. Kinds of newer versions are failures to reach the receiver.
    fn of_error(kind: &str) -> Self {
        let (class, _) = kind.split_once('_').unwrap_or((kind, ""));
        match class {
            "timeout" => Self::TimedOut,
            // What a name resolves to is not told: names of inner networks could be tried out.
            _ if matches!(kind, "denied_url" | "bad_url") => Self::NotAllowed,
            "unrenderable" => Self::Unrenderable,
            "internal" => Self::Internal,
            _ => Self::NotReachable,
        }
    }
}

/// How a request ended, and what the response says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ended {
    pub(crate) how: Coarse,
    /// Status and duration; `None` = there is no response.
    pub(crate) response: Option<(u16, Duration)>,
}

impl Ended {
    const fn without_response(how: Coarse) -> Self {
        Self {
            how,
            response: None,
        }
    }

    /// By the record of a test.
    pub(crate) fn of_record(record: &AttemptRecord<'_>) -> Self {
        let delivered = record.outcome == "delivered";
        match (&record.response, &record.error) {
            (Some(response), _) => Self {
                how: if delivered {
                    Coarse::Delivered
                } else {
                    Coarse::Refused
                },
                response: Some((
                    response.status,
                    Duration::try_from_secs_f64(record.duration_ms / 1_000.0).unwrap_or_default(),
                )),
            },
            (None, Some(error)) => Self::without_response(Coarse::of_error(&error.kind)),
            (None, None) if record.reason.as_deref() == Some("test_too_soon") => {
                Self::without_response(Coarse::TooSoon)
            }
            (None, None) => Self::without_response(Coarse::NotSent),
        }
    }

    /// Of a request that is no delivery.
    pub(crate) fn of_error(error: &AttemptError) -> Self {
        Self::without_response(Coarse::of_error(error.kind.as_str()))
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self.how {
            Coarse::Delivered => "delivered",
            Coarse::Refused => "refused by the receiver",
            Coarse::NotReachable => "not reachable",
            Coarse::NotAllowed => "not allowed",
            Coarse::TimedOut => "timed out",
            Coarse::NotSent => "not sent: the endpoint takes nothing now",
            Coarse::Unrenderable => "not sent: the endpoint's format cannot be made of the event",
            Coarse::Internal => "not sent: the platform itself failed",
            Coarse::TooSoon => "not sent: another test was made less than 10 s ago",
        };
        f.write_str(words)?;
        match self.response {
            Some((status, took)) => write!(f, " (status {status}) in {} ms", took.as_millis()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use postrider_domain::ErrorKind;
    use serde_json::json;

    use super::*;

    /// What is said of a record with these fields.
    fn said(fields: &serde_json::Value) -> String {
        let mut record = json!({
            "delivery_id": "dlv_1", "endpoint_id": "ep_1", "attempt": 1, "outcome": "discarded",
            "event": {"id": "e", "source": "s", "type": "t", "tenant": "acme", "time": null},
            "started_at": "2026-01-01T00:00:00Z", "duration_ms": 12.5, "reason": "test_failed",
        });
        let record_fields = record.as_object_mut().unwrap();
        record_fields.extend(fields.as_object().unwrap().clone());
        let text = record.to_string();
        let record = postrider_wire::attempt::decode(text.as_bytes()).unwrap();
        Ended::of_record(&record).to_string()
    }

    #[test]
    fn a_response_says_its_status_and_how_long_it_took() {
        let answered = json!({"response": {"status": 503}});
        assert_eq!(
            said(&answered),
            "refused by the receiver (status 503) in 12 ms"
        );
        let taken = json!({"response": {"status": 204}, "outcome": "delivered"});
        assert_eq!(said(&taken), "delivered (status 204) in 12 ms");
    }

    #[test]
    fn what_failed_on_the_way_is_one_word() {
        let error = |kind: &str| {
            let message = "no connection: Connection refused (10.1.2.3:22)";
            said(&json!({"error": {"kind": kind, "message": message}}))
        };
        for &kind in ErrorKind::ALL {
            let (class, _) = kind.as_str().split_once('_').unwrap_or((kind.as_str(), ""));
            let expected = match class {
                "timeout" => "timed out",
                _ if [ErrorKind::DeniedUrl, ErrorKind::BadUrl].contains(&kind) => "not allowed",
                "unrenderable" => "not sent: the endpoint's format cannot be made of the event",
                "internal" => "not sent: the platform itself failed",
                _ => "not reachable",
            };
            assert_eq!(error(kind.as_str()), expected, "{kind:?}");
        }
        assert_eq!(error("of_the_future"), "not reachable");
    }

    #[test]
    fn what_was_not_sent_says_why() {
        assert!(said(&json!({})).starts_with("not sent: the endpoint"));
        assert!(said(&json!({"reason": "test_too_soon"})).contains("10 s ago"));
    }
}
