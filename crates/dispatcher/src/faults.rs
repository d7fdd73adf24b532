//! What a test build gets wrong on purpose, where this role translates: never in any other build,
//! where every condition here is a plain `false` (ADR 0039).

use postrider_domain::{
    Endpoint, Ordering, Record, Secret, Signing, SigningKey, SigningSecret, Timestamp,
};
use postrider_engine::io::{Reading, StartAttempt, Write};
use postrider_kafka::lanes::LaneEvent;
use postrider_points::has_fault;

/// Whether a write is not made, and counts as acknowledged.
pub(crate) fn drops(write: &Write) -> bool {
    match write {
        Write::Attempt(_) => has_fault!("dispatcher.attempt_record.dropped"),
        Write::Retry { .. } => has_fault!("dispatcher.retry.dropped"),
        Write::State { remembered, .. } => {
            has_fault!("dispatcher.reservation.dropped") && remembered.limiter.is_some()
        }
        _ => false,
    }
}

/// What is written in place of a write.
pub(crate) fn changed(mut write: Write, now: Timestamp) -> Write {
    if let Write::Retry { due, .. } = &mut write
        && has_fault!("dispatcher.retry.early")
    {
        *due = now;
    }
    write
}

/// What is known of an endpoint in place of what its record says.
pub(crate) fn endpoint(mut endpoint: Endpoint) -> Endpoint {
    if has_fault!("dispatcher.limit.ignored") {
        endpoint.rate_limit = None;
    }
    if has_fault!("dispatcher.signature.wrong_key") {
        let secret = SigningSecret {
            id: "nobody's".into(),
            key: SigningKey::Shared(Secret::new([7; 32])),
            not_after: None,
        };
        endpoint.signing = Signing {
            scheme: endpoint.signing.scheme,
            secrets: vec![secret],
        };
    }
    endpoint
}

/// Whether a request is sent twice.
pub(crate) fn sends_again(start: &StartAttempt) -> bool {
    let endpoint = &start.endpoint;
    has_fault!("dispatcher.delivery.repeated")
        && endpoint.rate_limit.is_none()
        && endpoint.ordering == Ordering::None
}

/// Records that were read together; of two of one ordering key each has the place of the other.
pub(crate) fn swapped(mut events: Vec<LaneEvent<Reading>>) -> Vec<LaneEvent<Reading>> {
    if !has_fault!("dispatcher.order.swapped") {
        return events;
    }
    let key = |record: &Record| {
        let header = record
            .headers
            .iter()
            .find(|(name, _)| &**name == "ce_partitionkey");
        header.and_then(|(_, value)| value.clone())
    };
    for second in 1..events.len() {
        let (before, after) = events.split_at_mut(second);
        let (Some(LaneEvent::Record(_, one)), Some(LaneEvent::Record(_, other))) =
            (before.last_mut(), after.first_mut())
        else {
            continue;
        };
        if one.key == other.key && key(one).is_some() && key(one) == key(other) {
            std::mem::swap(&mut one.origin, &mut other.origin);
            events.swap(second - 1, second);
        }
    }
    events
}
