//! What receivers do with the requests the worker starts. Every start is checked: not too late for
//! its lease, not before the delivery is due.

use std::time::Duration;

use bytes::Bytes;
use postrider_domain::{
    AttemptError, AttemptReport, AttemptResult, DeliveryId, EndpointId, ErrorKind, Fields, Phases,
    RequestSummary, Response, Timestamp,
};

use super::{Happening, Harness};
use crate::io::StartAttempt;

/// What a receiver does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Status(u16, Duration),
    Fails(ErrorKind, Duration),
    /// 429 with `Retry-After`, in seconds.
    RetryAfter(u64, Duration),
}

impl Answer {
    const fn is_success(self) -> bool {
        matches!(self, Self::Status(200..300, _))
    }

    /// What the worker is told of it, and when.
    fn told(self) -> (AttemptResult, Duration) {
        match self {
            Self::Status(status, latency) => {
                let response = Response {
                    status,
                    body: Bytes::from_static(b"answer"),
                    ..Response::default()
                };
                (AttemptResult::Response(response), latency)
            }
            Self::RetryAfter(secs, latency) => {
                let response = Response {
                    status: 429,
                    headers: Fields::from_iter([("retry-after", secs.to_string())]),
                    ..Response::default()
                };
                (AttemptResult::Response(response), latency)
            }
            Self::Fails(kind, latency) => {
                let error = AttemptError {
                    kind,
                    message: "".into(),
                    ambiguous: false,
                };
                (AttemptResult::Error(error), latency)
            }
        }
    }
}

/// A request that reached a receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) at: Timestamp,
    pub(crate) delivery: DeliveryId,
    pub(crate) endpoint: EndpointId,
    pub(crate) attempt: u32,
    pub(crate) incarnation: u32,
    /// Whether the receiver took it.
    pub(crate) taken: bool,
}

impl Sent {
    /// Whether it is the first attempt of every n-th delivery.
    pub(crate) fn is_first_of(&self, n: u128) -> bool {
        let number = u128::from_str_radix(&self.delivery.to_string()["dlv_".len()..], 16);
        self.attempt == 1 && number.unwrap().is_multiple_of(n)
    }
}

impl Harness {
    pub(super) fn send(&mut self, start: StartAttempt) {
        assert!(self.now <= start.not_after, "started too late");
        let endpoint = start.endpoint.id.clone();
        let mut sent = Sent {
            at: self.now,
            delivery: start.delivery.id,
            endpoint: endpoint.clone(),
            attempt: start.attempt,
            incarnation: self.incarnation,
            taken: false,
        };
        assert!(
            start.delivery.due.is_none_or(|due| due <= self.now),
            "early: {sent:?}"
        );
        let running = self.in_flight.entry(endpoint.clone()).or_default();
        *running += 1;
        if let Some(later) = (self.not_started)(&sent) {
            self.later(later, Happening::NotStarted(start.ticket, endpoint));
            return;
        }
        let high = self.in_flight_high.entry(endpoint.clone()).or_default();
        *high = (*high).max(*running);
        let answer = (self.answer)(&sent);
        sent.taken = answer.is_success();
        self.sent.push(sent);
        let (result, latency) = answer.told();
        let report = AttemptReport {
            started_at: self.now + self.start_delay,
            phases: Phases {
                total: latency,
                ..Phases::default()
            },
            request: RequestSummary::default(),
            result,
        };
        self.later(latency, Happening::Report(start.ticket, endpoint, report));
    }
}
