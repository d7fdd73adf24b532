//! The one list of metrics: names, labels, meaning, buckets.
//!
//! Decides names that dashboards and alerts hold on to. Base units, `_total` on counters alone, and
//! labels whose values are closed lists: an endpoint, tenant or event type is never a label.

/// A metric as it is registered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Definition {
    /// Full name, with the prefix `postrider_`.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: MetricKind,
    /// Label names; each has few values, all known here or in `domain`.
    pub labels: &'static [&'static str],
    /// One sentence.
    pub help: &'static str,
}

/// What kind of metric it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations up to each of these bounds, in the base unit.
    Histogram(&'static [f64]),
}

/// Seconds of one HTTP exchange, which ends at 60 s at the latest.
const EXCHANGE: MetricKind = MetricKind::Histogram(&[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0,
]);
/// Seconds up to a first attempt: milliseconds when all is well, hours after an outage.
const FRESHNESS: MetricKind = MetricKind::Histogram(&[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3_600.0,
]);
/// Seconds up to delivery: as above, or up to a whole retry window.
const WINDOW: MetricKind = MetricKind::Histogram(&[
    0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1_800.0, 7_200.0, 43_200.0, 259_200.0,
]);

macro_rules! definitions {
    ($($id:ident = $name:literal, $kind:expr, $labels:expr, $help:literal;)*) => {
        $(pub(crate) const $id: Definition = Definition {
            name: concat!("postrider_", $name),
            kind: $kind,
            labels: &$labels,
            help: $help,
        };)*

        /// Every metric.
        pub const DEFINITIONS: &[Definition] = &[$($id),*];
    };
}

definitions! {
    EVENTS_CONSUMED = "events_consumed_total", MetricKind::Counter, [],
        "Records read from intake topics.";
    EVENTS_REJECTED = "events_rejected_total", MetricKind::Counter, ["reason"],
        "Records of intake topics that became dead letters instead of events.";
    EVENTS_UNMATCHED = "events_unmatched_total", MetricKind::Counter, [],
        "Events that no endpoint of their tenant wants.";
    SCHEMA_REQUEST_FAILURES = "schema_request_failures_total", MetricKind::Counter, [],
        "Requests to the schema registry that failed and are made again.";
    PARTITIONS_AWAITING_SCHEMA = "partitions_awaiting_schema", MetricKind::Gauge, [],
        "Intake partitions that stand still until the schema registry answers.";
    FILTER_DECISIONS = "filter_decisions_total", MetricKind::Counter, ["decision"],
        "Endpoints' filters asked about events; an undecided one is a dead letter.";
    ENDPOINT_RECORDS_IGNORED = "endpoint_records_ignored_total", MetricKind::Counter, ["reason"],
        "Records of the endpoints topic that are not used: unreadable, or in the wrong partition.";
    ENDPOINT_SECRETS_UNOPENED = "endpoint_secrets_unopened_total", MetricKind::Counter, [],
        "Endpoint records whose secrets this worker cannot open: their deliveries wait.";
    DELIVERIES_WRITTEN = "deliveries_written_total", MetricKind::Counter, [],
        "Deliveries made from events and acknowledged by the brokers.";
    ATTEMPTS = "attempts_total", MetricKind::Counter, ["outcome", "status_class", "attempt"],
        "HTTP requests that ended, by what came of them and which attempt they were.";
    ATTEMPT_DURATION = "attempt_duration_seconds", EXCHANGE, [],
        "Whole time of an HTTP request, from name resolution to the end of the response.";
    FIRST_ATTEMPT_LATENCY = "first_attempt_latency_seconds", FRESHNESS, [],
        "Time from the broker's timestamp of an event to the start of a delivery's first attempt.";
    DELIVERY_LATENCY = "delivery_latency_seconds", WINDOW, [],
        "Time from the broker's timestamp of an event to its acceptance by the receiver.";
    INFLIGHT_REQUESTS = "inflight_requests", MetricKind::Gauge, [],
        "HTTP requests under way.";
    DEAD_LETTERS = "dead_letters_total", MetricKind::Counter, ["reason"],
        "Records written to dead-letters.";
    DISCARDS = "discards_total", MetricKind::Counter, ["reason"],
        "Deliveries ended by a named rule without a request.";
    DUPLICATES_DROPPED = "duplicates_dropped_total", MetricKind::Counter, [],
        "Deliveries dropped because the same delivery was seen before.";
    STALE_INPUTS = "stale_inputs_total", MetricKind::Counter, [],
        "Inputs ignored because they belong to an earlier ownership of their slice.";
    WRITE_FAILURES = "write_failures_total", MetricKind::Counter, ["topic"],
        "Writes to Postrider's own topics that the brokers did not acknowledge.";
    COMMITS = "commits_total", MetricKind::Counter, ["result"],
        "Offset commits, by whether the group coordinator accepted them.";
    REBALANCES = "rebalances_total", MetricKind::Counter, [],
        "Changes of the slices this worker owns.";
    OWNED_SLICES = "owned_slices", MetricKind::Gauge, [],
        "Slices this worker owns.";
    HOLDS_EXCEEDED = "holds_exceeded_total", MetricKind::Counter, [],
        "Deliveries moved to a rung because they got no attempt in time.";
    ATTEMPTS_NOT_STARTED = "attempts_not_started_total", MetricKind::Counter, [],
        "Attempts given back because their time had passed before they reached the network.";
    BREAKER_CHANGES = "breaker_changes_total", MetricKind::Counter, ["to"],
        "Changes of endpoints' breakers, by their new state.";
    LEASES_ENDED = "leases_ended_total", MetricKind::Counter, [],
        "Times that attempts had to wait for an accepted commit.";
    FORMER_OWNERS_IGNORED = "former_owners_ignored_total", MetricKind::Counter, [],
        "Acquisitions that found endpoint-state records of a former owner behind its successor's.";
    BUILD_INFO = "build_info", MetricKind::Gauge, ["version"],
        "Always 1; says which version runs.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules() {
        for definition in DEFINITIONS {
            let Definition {
                name,
                kind,
                labels,
                help,
            } = definition;
            let legal = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            assert!(name.starts_with("postrider_") && legal(name), "{name}");
            let is_counter = *kind == MetricKind::Counter;
            assert_eq!(name.ends_with("_total"), is_counter, "{name}");
            for unit in [
                "_ms",
                "_millis",
                "_milliseconds",
                "_micros",
                "_minutes",
                "_kb",
            ] {
                assert!(!name.contains(unit), "{name}: base units only");
            }
            if let MetricKind::Histogram(bounds) = kind {
                assert!(name.ends_with("_seconds"), "{name}");
                assert!(bounds.is_sorted_by(|a, b| a < b), "{name}");
            }
            assert!(labels.iter().all(|label| legal(label)), "{name}");
            for unbounded in ["endpoint", "tenant", "type", "url", "id"] {
                assert!(!labels.contains(&unbounded), "{name}");
            }
            assert!(help.ends_with('.'), "{name}");
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = DEFINITIONS.iter().map(|d| d.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DEFINITIONS.len());
    }
}
