//! The envelope that Standard Webhooks 1.0.0 recommends ("Payload structure").

use postrider_domain::{Event, Timestamp};

use crate::media::{push_data, push_member, push_string};

/// `type`, `timestamp` and the data.
pub(crate) fn envelope(event: &Event) -> Vec<u8> {
    let mut json = Vec::with_capacity(event.data.len() + event.event_type.len() + 128);
    json.extend_from_slice(b"{\"type\":");
    push_string(&mut json, &event.event_type);
    match time(event) {
        Some(time) => push_member(&mut json, "timestamp", time),
        None => push_member(&mut json, "timestamp", &accepted(event.accepted_at)),
    }
    push_data(&mut json, event, ",\"data\":null");
    json.push(b'}');
    json
}

/// When the event happened, as its producer wrote it; `None` when it did not say, or wrote what is
/// no time.
pub(crate) fn time(event: &Event) -> Option<&str> {
    let time = event.time.as_deref()?;
    time.parse::<jiff::Timestamp>().is_ok().then_some(time)
}

/// With milliseconds, which is what the broker's time has. Past the year 9999 its end.
fn accepted(at: Timestamp) -> String {
    let millis = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
    let instant = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX);
    format!("{instant:.3}")
}
