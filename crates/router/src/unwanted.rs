//! Events that no endpoint wants: counted, and told now and then.
//!
//! Decides how often it tells. Such an event is no error, but whoever wonders where one went finds
//! it here.

use std::time::{Duration, Instant};

use postrider_domain::{Event, Origin};
use tracing::info;

/// How often it tells, at most.
const TELL: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Unwanted {
    count: u64,
    /// The event read last.
    last: Option<(Box<Event>, Origin)>,
    tell_at: Instant,
}

impl Unwanted {
    pub(crate) const fn new(now: Instant) -> Self {
        Self {
            count: 0,
            last: None,
            tell_at: now,
        }
    }

    pub(crate) fn note(&mut self, mut event: Box<Event>, origin: &Origin) {
        self.count += 1;
        // It may wait a minute, and payloads are large.
        event.data = bytes::Bytes::new();
        self.last = Some((event, origin.clone()));
    }

    /// Tells when it is time to and there were any.
    pub(crate) fn tell_when_due(&mut self, now: Instant) {
        if let Some((count, event, origin)) = self.due(now) {
            info!(
                count,
                last_id = &*event.id,
                last_type = &*event.event_type,
                last_tenant = event.tenant.as_str(),
                last_origin = %origin,
                "events no endpoint wants"
            );
        }
    }

    fn due(&mut self, now: Instant) -> Option<(u64, Box<Event>, Origin)> {
        if now < self.tell_at {
            return None;
        }
        let (event, origin) = self.last.take()?;
        self.tell_at = now + TELL;
        Some((std::mem::take(&mut self.count), event, origin))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use postrider_domain::Timestamp;

    use super::*;

    fn event(id: &str) -> Box<Event> {
        Box::new(Event {
            id: id.into(),
            source: "payments".into(),
            event_type: "payment.captured".into(),
            tenant: "acme".parse().unwrap(),
            time: None,
            ordering_key: None,
            content_type: None,
            traceparent: None,
            extensions: Vec::new(),
            data: Bytes::from_static(b"{}"),
            accepted_at: Timestamp::default(),
        })
    }

    #[test]
    fn the_first_is_told_at_once_and_the_others_once_a_minute() {
        let origin = Origin {
            topic: "intake".into(),
            partition: 0,
            offset: 7,
        };
        let start = Instant::now();
        let mut unwanted = Unwanted::new(start);
        let told = |unwanted: &mut Unwanted, after: u64| {
            let due = unwanted.due(start + Duration::from_secs(after));
            due.map(|(count, event, _)| (count, event.id.to_string()))
        };
        assert_eq!(told(&mut unwanted, 0), None, "there were none");
        unwanted.note(event("e-1"), &origin);
        assert_eq!(told(&mut unwanted, 1), Some((1, "e-1".to_owned())));
        unwanted.note(event("e-2"), &origin);
        unwanted.note(event("e-3"), &origin);
        assert_eq!(told(&mut unwanted, 60), None);
        assert_eq!(told(&mut unwanted, 61), Some((2, "e-3".to_owned())));
        assert_eq!(told(&mut unwanted, 200), None);
    }
}
