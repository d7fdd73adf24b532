//! What the raw facts of an attempt mean (`docs/reference/outcomes.md`).
//!
//! Decides whether the receiver took the event, failed, asked for a pause, is gone, or can never
//! be sent to or given what it wants. Leaves when the next attempt is due to [`crate::schedule`],
//! what `Retry-After` says to [`crate::retry_after`], what becomes of the endpoint to `slice`, and whether a response meets
//! an endpoint's own rule to [`Success`].

use postrider_domain::{
    AttemptResult, DeadLetterReason, ErrorKind, Response, Success, Timestamp, Unmet,
};

use crate::retry_after::retry_after;

/// What an attempt came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The receiver took the event.
    Delivered,
    /// It may take it another time, by the schedule.
    Failed {
        /// What kind of failure it was.
        kind: FailureKind,
        /// The receiver refuses this request and will most likely refuse the next one. It is
        /// tried again all the same, as receivers heal; its owner should hear of it early.
        likely_permanent: bool,
    },
    /// The receiver asks for a pause: a state of the endpoint, which uses up no attempt of the
    /// delivery's schedule.
    Asked {
        /// Not before this time, which is later than now; `None` when it did not say.
        until: Option<Timestamp>,
    },
    /// The receiver says that there is no such endpoint any more. Once may be a mistake.
    Gone,
    /// No attempt can succeed.
    Hopeless(DeadLetterReason),
}

/// What a failed attempt says about the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// No answer in time, from the receiver or from what stands behind it (408, 504).
    Timeout,
    /// No connection: name, TCP or TLS.
    Connect,
    /// It answered with a status of failure, broke the connection, or does not speak HTTP.
    Other,
    /// Postrider itself failed: nothing about the endpoint.
    Internal,
}

/// The verdict on a result that came at `now` from an endpoint with this rule, and what of the rule
/// a response did not meet, where that is why it is no success.
///
/// The rule comes before everything else that a status means: what it names is success, be it a
/// 429. What it does not name means what it always does, and a 2xx is then a failure.
#[must_use]
pub fn judge(
    result: &AttemptResult,
    success: Option<&Success>,
    now: Timestamp,
) -> (Verdict, Option<Unmet>) {
    let response = match result {
        AttemptResult::Response(response) => response,
        AttemptResult::Error(error) => return (judge_error(error.kind), None),
    };
    let verdict = judge_response(response, now);
    match success.map(|rule| rule.check(response)) {
        None => (verdict, None),
        Some(Ok(())) => (Verdict::Delivered, None),
        Some(Err(unmet)) if verdict == Verdict::Delivered => {
            (failed(FailureKind::Other), Some(unmet))
        }
        Some(Err(Unmet::Body)) => (verdict, Some(Unmet::Body)),
        // It is a failure with or without the rule.
        Some(Err(Unmet::Status)) => (verdict, None),
    }
}

const fn judge_error(kind: ErrorKind) -> Verdict {
    match kind {
        ErrorKind::BadUrl => Verdict::Hopeless(DeadLetterReason::BadUrl),
        ErrorKind::DeniedUrl | ErrorKind::DeniedAnswer | ErrorKind::DeniedPeer => {
            Verdict::Hopeless(DeadLetterReason::EgressDenied)
        }
        ErrorKind::TimeoutDns
        | ErrorKind::TimeoutConnect
        | ErrorKind::TimeoutToken
        | ErrorKind::TimeoutStream
        | ErrorKind::TimeoutTls
        | ErrorKind::TimeoutRequest
        | ErrorKind::TimeoutHead
        | ErrorKind::TimeoutBody => failed(FailureKind::Timeout),
        ErrorKind::Dns
        | ErrorKind::Connect
        | ErrorKind::Tls
        | ErrorKind::TlsVersion
        | ErrorKind::TlsExpired
        | ErrorKind::TlsWrongName
        | ErrorKind::TlsUntrusted
        | ErrorKind::TlsCertificate
        | ErrorKind::Proxy
        | ErrorKind::Identity
        | ErrorKind::Token
        | ErrorKind::UnprocessedNoStream
        | ErrorKind::UnprocessedRefused
        | ErrorKind::UnprocessedGoaway => failed(FailureKind::Connect),
        ErrorKind::ResetRequest
        | ErrorKind::ResetHead
        | ErrorKind::ResetBody
        | ErrorKind::H2Reset
        | ErrorKind::H2Goaway
        | ErrorKind::H2Protocol
        | ErrorKind::IncompleteHead
        | ErrorKind::IncompleteBody
        | ErrorKind::MalformedHead
        | ErrorKind::MalformedBody
        | ErrorKind::HeadTooLarge
        | ErrorKind::InterimFlood => failed(FailureKind::Other),
        // The same event and the same endpoint make the same error.
        ErrorKind::Unrenderable => Verdict::Hopeless(DeadLetterReason::Unrenderable),
        ErrorKind::Internal => failed(FailureKind::Internal),
    }
}

/// `Retry-After` is looked at with 429 (RFC 6585 section 4) and 503 alone. RFC 9110 section 10.2.3
/// gives it a meaning with 503 and with 3xx, where it delays following the redirect: none is
/// followed. Its other uses (section 15.5.14: 413) are about one request, not the endpoint.
fn judge_response(response: &Response, now: Timestamp) -> Verdict {
    match response.status {
        200..=299 => Verdict::Delivered,
        408 | 504 => failed(FailureKind::Timeout),
        410 => Verdict::Gone,
        425 => failed(FailureKind::Other),
        429 => Verdict::Asked {
            until: asked_until(response, now),
        },
        // Without a time it is an outage like any other 5xx.
        503 => asked_until(response, now).map_or(failed(FailureKind::Other), |until| {
            Verdict::Asked { until: Some(until) }
        }),
        400..=499 => Verdict::Failed {
            kind: FailureKind::Other,
            likely_permanent: true,
        },
        _ => failed(FailureKind::Other),
    }
}

/// No wait is no request for a pause: it would be tried again and again without an end.
fn asked_until(response: &Response, now: Timestamp) -> Option<Timestamp> {
    let wait = retry_after(&response.headers, now)?;
    (!wait.is_zero()).then(|| now + wait)
}

const fn failed(kind: FailureKind) -> Verdict {
    Verdict::Failed {
        kind,
        likely_permanent: false,
    }
}

#[cfg(test)]
mod tests {
    use postrider_domain::Fields;

    use std::time::Duration;

    use bytes::Bytes;
    use postrider_domain::AttemptError;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(784_111_777);

    fn answered(status: u16, retry_after: Option<&str>) -> Verdict {
        let headers = retry_after.map(|value| ("Retry-After", value));
        let response = Response {
            status,
            headers: headers.into_iter().collect(),
            ..Response::default()
        };
        judge(&AttemptResult::Response(response), None, NOW).0
    }

    fn broke(kind: ErrorKind) -> Verdict {
        let error = AttemptError {
            kind,
            message: "".into(),
            ambiguous: false,
        };
        judge(&AttemptResult::Error(error), None, NOW).0
    }

    fn asked(secs: u64) -> Verdict {
        Verdict::Asked {
            until: Some(NOW + Duration::from_secs(secs)),
        }
    }

    #[test]
    fn every_status_has_one_row_of_the_table() {
        let refused = Verdict::Failed {
            kind: FailureKind::Other,
            likely_permanent: true,
        };
        let rows = [
            (100..=199, failed(FailureKind::Other)),
            (200..=299, Verdict::Delivered),
            (300..=399, failed(FailureKind::Other)),
            (400..=407, refused),
            (408..=408, failed(FailureKind::Timeout)),
            (409..=409, refused),
            (410..=410, Verdict::Gone),
            (411..=424, refused),
            (425..=425, failed(FailureKind::Other)),
            (426..=428, refused),
            (429..=429, Verdict::Asked { until: None }),
            (430..=499, refused),
            (500..=503, failed(FailureKind::Other)),
            (504..=504, failed(FailureKind::Timeout)),
            (505..=599, failed(FailureKind::Other)),
        ];
        let mut next = 100;
        for (statuses, expected) in rows {
            assert_eq!(*statuses.start(), next, "the rows leave nothing out");
            next = statuses.end() + 1;
            for status in statuses {
                assert_eq!(answered(status, None), expected, "{status}");
            }
        }
        assert_eq!(next, 600);
    }

    #[test]
    fn every_kind_of_error_has_one_row_of_the_table() {
        for &kind in ErrorKind::ALL {
            let (class, _) = kind.as_str().split_once('_').unwrap_or((kind.as_str(), ""));
            let expected = match class {
                "bad" => Verdict::Hopeless(DeadLetterReason::BadUrl),
                "denied" => Verdict::Hopeless(DeadLetterReason::EgressDenied),
                "timeout" => failed(FailureKind::Timeout),
                "dns" | "connect" | "tls" | "proxy" | "identity" | "token" | "unprocessed" => {
                    failed(FailureKind::Connect)
                }
                "reset" | "incomplete" | "malformed" | "head" | "interim" | "h2" => {
                    failed(FailureKind::Other)
                }
                "unrenderable" => Verdict::Hopeless(DeadLetterReason::Unrenderable),
                "internal" => failed(FailureKind::Internal),
                _ => panic!("{kind:?} is in no row"),
            };
            assert_eq!(broke(kind), expected, "{kind:?}");
        }
    }

    #[test]
    fn only_429_and_503_are_heard_when_they_ask_for_a_pause() {
        for status in 100..=599 {
            let expected = match status {
                429 | 503 => asked(60),
                _ => answered(status, None),
            };
            assert_eq!(answered(status, Some("60")), expected, "{status}");
        }
    }

    #[test]
    fn a_pause_may_be_asked_for_by_date() {
        let date = "Sun, 06 Nov 1994 08:50:37 GMT";
        assert_eq!(answered(429, Some(date)), asked(60));
        assert_eq!(answered(503, Some(date)), asked(60));
    }

    #[test]
    fn a_pause_is_a_day_at_most() {
        assert_eq!(
            answered(503, Some("99999999999999999999999")),
            asked(86_400)
        );
    }

    #[test]
    fn a_pause_that_cannot_be_read_or_has_no_length_was_not_asked_for() {
        for value in ["", "-1", "soon", "0", "Sun, 06 Nov 1994 08:49:37 GMT"] {
            let no_time = Verdict::Asked { until: None };
            assert_eq!(answered(429, Some(value)), no_time, "{value:?}");
            let outage = failed(FailureKind::Other);
            assert_eq!(answered(503, Some(value)), outage, "{value:?}");
        }
    }

    fn ruled(status: u16, body: &'static [u8], rule: &Success) -> (Verdict, Option<Unmet>) {
        let response = Response {
            status,
            headers: Fields::from_iter([("retry-after", "60")]),
            body: Bytes::from_static(body),
            truncated: false,
        };
        judge(&AttemptResult::Response(response), Some(rule), NOW)
    }

    #[test]
    fn what_an_endpoint_names_is_success_whatever_it_means_otherwise() {
        let rule = Success {
            statuses: vec![200..=200, 300..=499],
            body_contains: None,
        };
        for status in [200, 301, 400, 408, 410, 425, 429, 499] {
            assert_eq!(
                ruled(status, b"", &rule),
                (Verdict::Delivered, None),
                "{status}"
            );
        }
    }

    #[test]
    fn what_it_does_not_name_means_what_it_always_does_and_a_2xx_is_a_failure() {
        let rule = Success {
            statuses: vec![200..=200],
            body_contains: Some("[accepted]".into()),
        };
        let failure = failed(FailureKind::Other);
        let accepted = b"[accepted]";
        assert_eq!(ruled(200, accepted, &rule), (Verdict::Delivered, None));
        assert_eq!(ruled(200, b"\xff", &rule), (failure, Some(Unmet::Body)));
        for status in 201..=299 {
            let expected = (failure, Some(Unmet::Status));
            assert_eq!(ruled(status, accepted, &rule), expected, "{status}");
        }
        for status in (100..=199).chain(300..=599) {
            let expected = (answered(status, Some("60")), None);
            assert_eq!(ruled(status, accepted, &rule), expected, "{status}");
        }
    }

    #[test]
    fn a_status_that_is_named_means_what_it_always_does_where_the_body_lacks_the_text() {
        let rule = Success {
            statuses: vec![200..=200, 409..=429],
            body_contains: Some("[accepted]".into()),
        };
        for status in [409, 410, 429] {
            let expected = (answered(status, Some("60")), Some(Unmet::Body));
            assert_eq!(ruled(status, b"no", &rule), expected, "{status}");
        }
    }

    #[test]
    fn without_a_response_no_rule_is_asked() {
        let rule = Success {
            statuses: vec![200..=200],
            body_contains: None,
        };
        let error = AttemptError {
            kind: ErrorKind::TimeoutHead,
            message: "".into(),
            ambiguous: true,
        };
        let expected = (failed(FailureKind::Timeout), None);
        assert_eq!(
            judge(&AttemptResult::Error(error), Some(&rule), NOW),
            expected
        );
    }
}
