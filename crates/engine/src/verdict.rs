//! What the raw facts of an attempt mean (`docs/reference/outcomes.md`).
//!
//! Decides delivered, failed or hopeless. Leaves the time of the next attempt to
//! [`crate::schedule`]. The rows on `Retry-After`, 410 and the endpoint's own success matcher
//! belong here when they come.

use postrider_domain::{AttemptResult, DeadLetterReason, ErrorKind};

/// What an attempt came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The receiver took the event.
    Delivered,
    /// It may take it another time.
    Failed,
    /// No attempt can succeed.
    Hopeless(DeadLetterReason),
}

/// The verdict on a result. 2xx is success; redirects are failures and never followed; 4xx are
/// tried again, as receivers heal.
#[must_use]
pub const fn judge(result: &AttemptResult) -> Verdict {
    match result {
        AttemptResult::Response(response) if matches!(response.status, 200..=299) => {
            Verdict::Delivered
        }
        AttemptResult::Response(_) => Verdict::Failed,
        AttemptResult::Error(error) => match error.kind {
            ErrorKind::Denied => Verdict::Hopeless(DeadLetterReason::EgressDenied),
            ErrorKind::BadUrl => Verdict::Hopeless(DeadLetterReason::BadUrl),
            ErrorKind::Dns
            | ErrorKind::Connect
            | ErrorKind::Tls
            | ErrorKind::Timeout
            | ErrorKind::Reset
            | ErrorKind::Internal => Verdict::Failed,
        },
    }
}

#[cfg(test)]
mod tests {
    use postrider_domain::{AttemptError, Response};

    use super::*;

    #[test]
    fn the_outcome_table() {
        for (status, expected) in [
            (200, Verdict::Delivered),
            (204, Verdict::Delivered),
            (299, Verdict::Delivered),
            (199, Verdict::Failed),
            (302, Verdict::Failed),
            (404, Verdict::Failed),
            (410, Verdict::Failed),
            (429, Verdict::Failed),
            (500, Verdict::Failed),
        ] {
            let response = Response {
                status,
                ..Response::default()
            };
            assert_eq!(
                judge(&AttemptResult::Response(response)),
                expected,
                "{status}"
            );
        }
        for (kind, expected) in [
            (ErrorKind::Timeout, Verdict::Failed),
            (ErrorKind::Reset, Verdict::Failed),
            (
                ErrorKind::Denied,
                Verdict::Hopeless(DeadLetterReason::EgressDenied),
            ),
            (
                ErrorKind::BadUrl,
                Verdict::Hopeless(DeadLetterReason::BadUrl),
            ),
        ] {
            let error = AttemptError {
                kind,
                message: "".into(),
                ambiguous: false,
            };
            assert_eq!(judge(&AttemptResult::Error(error)), expected, "{kind:?}");
        }
    }
}
