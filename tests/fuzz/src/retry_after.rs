//! `Retry-After` of any text.
//!
//! Input: lines, each a value; all together are the headers of one response.

use postrider_domain::{AttemptResult, Fields, Response, Timestamp};
use postrider_engine::retry_after::{RETRY_AFTER_MAX, retry_after as asked};
use postrider_engine::verdict::{Verdict, judge};

use crate::text::head_and_body;

/// A wait is at most the longest, and a pause that is asked for ends after now and not later.
pub(crate) fn retry_after(input: &[u8]) {
    let now = Timestamp::from_secs(1_674_087_231);
    let (lines, _) = head_and_body(input);
    let headers: Fields = lines.iter().map(|line| ("Retry-After", line)).collect();
    let wait = asked(&headers, now);
    assert!(wait.is_none_or(|wait| wait <= RETRY_AFTER_MAX), "{wait:?}");
    for status in [429, 503] {
        let response = Response {
            status,
            headers: headers.clone(),
            ..Response::default()
        };
        if let Verdict::Asked { until: Some(until) } =
            judge(&AttemptResult::Response(response), None, now).0
        {
            assert!(until > now && until <= now + RETRY_AFTER_MAX, "{until:?}");
        }
    }
}
