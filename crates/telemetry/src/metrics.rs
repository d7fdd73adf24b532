//! What is counted, as plain calls.
//!
//! Decides how facts become label values, all of them from closed lists. Leaves names and buckets
//! to `definitions`, and when to call to the shells.

use std::time::Duration;

use postrider_domain::{AttemptResult, DeadLetterReason, DiscardReason, ErrorKind, Outcome};
use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

use crate::definitions::{self as def, Definition, MetricKind};

/// Every metric of a process, with a registry of its own. Cloning shares the numbers.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    events_consumed: IntCounter,
    events_rejected: IntCounterVec,
    events_unmatched: IntCounter,
    schema_request_failures: IntCounter,
    partitions_awaiting_schema: IntGauge,
    filters_matched: IntCounter,
    filters_differed: IntCounter,
    filters_undecided: IntCounter,
    endpoint_records_ignored: IntCounterVec,
    endpoint_secrets_unopened: IntCounter,
    deliveries_written: IntCounter,
    attempts: IntCounterVec,
    attempt_duration: Histogram,
    first_attempt_latency: Histogram,
    delivery_latency: Histogram,
    inflight_requests: IntGauge,
    dead_letters: IntCounterVec,
    discards: IntCounterVec,
    duplicates_dropped: IntCounter,
    stale_inputs: IntCounter,
    write_failures: IntCounterVec,
    commits_accepted: IntCounter,
    commits_refused: IntCounter,
    rebalances: IntCounter,
    owned_slices: IntGauge,
    holds_exceeded: IntCounter,
    attempts_not_started: IntCounter,
    breaker_changes: IntCounterVec,
    leases_ended: IntCounter,
    former_owners_ignored: IntCounter,
}

/// What a filter said of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterDecision {
    /// The endpoint wants it.
    Matched,
    /// It does not.
    Differed,
    /// It could not be said.
    Undecided,
}

/// Why a record of `endpoints` is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IgnoredEndpoint {
    /// Its value is no endpoint.
    Unreadable,
    /// It is not in the partition of its endpoint's slice.
    WrongPartition,
}

/// What the group coordinator said to a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitResult {
    /// It counts.
    Accepted,
    /// It does not, or nobody knows.
    Refused,
}

impl Metrics {
    /// Every metric at zero; `version` goes to `build_info`.
    #[must_use]
    pub fn new(version: &str) -> Self {
        let registry = Registry::new();
        let new = Registrar(&registry);
        new.labelled_gauge(&def::BUILD_INFO, version).set(1);
        let commits = new.counters(&def::COMMITS);
        let filters = new.counters(&def::FILTER_DECISIONS);
        Self {
            events_consumed: new.counter(&def::EVENTS_CONSUMED),
            events_rejected: new.counters(&def::EVENTS_REJECTED),
            events_unmatched: new.counter(&def::EVENTS_UNMATCHED),
            schema_request_failures: new.counter(&def::SCHEMA_REQUEST_FAILURES),
            partitions_awaiting_schema: new.gauge(&def::PARTITIONS_AWAITING_SCHEMA),
            filters_matched: filters.with_label_values(&["matched"]),
            filters_differed: filters.with_label_values(&["differed"]),
            filters_undecided: filters.with_label_values(&["undecided"]),
            endpoint_records_ignored: new.counters(&def::ENDPOINT_RECORDS_IGNORED),
            endpoint_secrets_unopened: new.counter(&def::ENDPOINT_SECRETS_UNOPENED),
            deliveries_written: new.counter(&def::DELIVERIES_WRITTEN),
            attempts: new.counters(&def::ATTEMPTS),
            attempt_duration: new.histogram(&def::ATTEMPT_DURATION),
            first_attempt_latency: new.histogram(&def::FIRST_ATTEMPT_LATENCY),
            delivery_latency: new.histogram(&def::DELIVERY_LATENCY),
            inflight_requests: new.gauge(&def::INFLIGHT_REQUESTS),
            dead_letters: new.counters(&def::DEAD_LETTERS),
            discards: new.counters(&def::DISCARDS),
            duplicates_dropped: new.counter(&def::DUPLICATES_DROPPED),
            stale_inputs: new.counter(&def::STALE_INPUTS),
            write_failures: new.counters(&def::WRITE_FAILURES),
            commits_accepted: commits.with_label_values(&["accepted"]),
            commits_refused: commits.with_label_values(&["refused"]),
            rebalances: new.counter(&def::REBALANCES),
            owned_slices: new.gauge(&def::OWNED_SLICES),
            holds_exceeded: new.counter(&def::HOLDS_EXCEEDED),
            attempts_not_started: new.counter(&def::ATTEMPTS_NOT_STARTED),
            breaker_changes: new.counters(&def::BREAKER_CHANGES),
            leases_ended: new.counter(&def::LEASES_ENDED),
            former_owners_ignored: new.counter(&def::FORMER_OWNERS_IGNORED),
            registry,
        }
    }

    /// The text exposition format, as Prometheus scrapes it.
    #[must_use]
    pub fn render(&self) -> String {
        // Encoding fails only on a family without metrics, which `gather` leaves out.
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap_or_default()
    }

    /// A record of an intake topic was read.
    pub fn event_consumed(&self) {
        self.events_consumed.inc();
    }

    /// It became a dead letter instead of an event.
    pub fn event_rejected(&self, reason: DeadLetterReason) {
        let labels = [reason.as_str()];
        self.events_rejected.with_label_values(&labels).inc();
    }

    /// No endpoint wants an event.
    pub fn event_unmatched(&self) {
        self.events_unmatched.inc();
    }

    /// A request to the schema registry failed and is made again.
    pub fn schema_request_failed(&self) {
        self.schema_request_failures.inc();
    }

    /// So many intake partitions stand still until the schema registry answers.
    pub fn awaiting_schema(&self, partitions: usize) {
        self.partitions_awaiting_schema
            .set(i64::try_from(partitions).unwrap_or(i64::MAX));
    }

    /// An endpoint's filter was asked about an event.
    pub fn filter_decided(&self, decision: FilterDecision) {
        match decision {
            FilterDecision::Matched => self.filters_matched.inc(),
            FilterDecision::Differed => self.filters_differed.inc(),
            FilterDecision::Undecided => self.filters_undecided.inc(),
        }
    }

    /// A record of `endpoints` is not used.
    pub fn endpoint_record_ignored(&self, reason: IgnoredEndpoint) {
        let reason = match reason {
            IgnoredEndpoint::Unreadable => "unreadable",
            IgnoredEndpoint::WrongPartition => "wrong_partition",
        };
        self.endpoint_records_ignored
            .with_label_values(&[reason])
            .inc();
    }

    /// Secrets of an endpoint's record cannot be opened.
    pub fn endpoint_secrets_unopened(&self) {
        self.endpoint_secrets_unopened.inc();
    }

    /// A delivery was written and acknowledged.
    pub fn delivery_written(&self) {
        self.deliveries_written.inc();
    }

    /// A request begins.
    pub fn attempt_started(&self) {
        self.inflight_requests.inc();
    }

    /// A request ended, or was given up. Pairs with [`Self::attempt_started`].
    pub fn attempt_ended(&self) {
        self.inflight_requests.dec();
    }

    /// An attempt was judged: its number from 1, what came of it, and how long it took.
    pub fn attempt_judged(
        &self,
        attempt: u32,
        outcome: Outcome,
        result: &AttemptResult,
        duration: Duration,
    ) {
        let labels = [
            outcome_label(outcome, result),
            status_class(result),
            attempt_label(attempt),
        ];
        self.attempts.with_label_values(&labels).inc();
        self.attempt_duration.observe(duration.as_secs_f64());
    }

    /// A delivery's first attempt started this long after the broker accepted its event.
    pub fn first_attempt_after(&self, latency: Duration) {
        self.first_attempt_latency.observe(latency.as_secs_f64());
    }

    /// A receiver accepted a delivery this long after the broker accepted its event.
    pub fn delivered_after(&self, latency: Duration) {
        self.delivery_latency.observe(latency.as_secs_f64());
    }

    /// A record was written to `dead-letters`.
    pub fn dead_lettered(&self, reason: DeadLetterReason) {
        self.dead_letters
            .with_label_values(&[reason.as_str()])
            .inc();
    }

    /// A delivery was ended by a named rule.
    pub fn discarded(&self, reason: DiscardReason) {
        self.discards.with_label_values(&[reason.as_str()]).inc();
    }

    /// A delivery was dropped as seen before.
    pub fn duplicate_dropped(&self) {
        self.duplicates_dropped.inc();
    }

    /// An input of an earlier epoch was ignored.
    pub fn stale_input(&self) {
        self.stale_inputs.inc();
    }

    /// A write was not acknowledged. `topic` is one of Postrider's own, without the prefix.
    pub fn write_failed(&self, topic: &'static str) {
        self.write_failures.with_label_values(&[topic]).inc();
    }

    /// A commit was answered.
    pub fn commit_answered(&self, result: CommitResult) {
        match result {
            CommitResult::Accepted => self.commits_accepted.inc(),
            CommitResult::Refused => self.commits_refused.inc(),
        }
    }

    /// Slices came or went; this many are owned now.
    pub fn rebalanced(&self, owned: usize) {
        self.rebalances.inc();
        self.owned_slices.set(gauge_value(owned));
    }

    /// A delivery got no attempt in time and was moved to a rung.
    pub fn hold_exceeded(&self) {
        self.holds_exceeded.inc();
    }

    /// An attempt was given back unsent.
    pub fn attempt_not_started(&self) {
        self.attempts_not_started.inc();
    }

    /// An endpoint's breaker has this state now.
    pub fn breaker_changed(&self, to: &'static str) {
        self.breaker_changes.with_label_values(&[to]).inc();
    }

    /// Attempts wait for an accepted commit.
    pub fn lease_ended(&self) {
        self.leases_ended.inc();
    }

    /// Records of a former owner were ignored.
    pub fn former_owner_ignored(&self) {
        self.former_owners_ignored.inc();
    }
}

fn gauge_value(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// `delivered`, `http_error`, or the kind of failure.
fn outcome_label(outcome: Outcome, result: &AttemptResult) -> &'static str {
    match (outcome, result) {
        (Outcome::Delivered, _) => Outcome::Delivered.as_str(),
        (_, AttemptResult::Response(_)) => "http_error",
        (_, AttemptResult::Error(error)) => ErrorKind::as_str(error.kind),
    }
}

fn status_class(result: &AttemptResult) -> &'static str {
    let AttemptResult::Response(response) = result else {
        return "none";
    };
    match response.status {
        100..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        500..=599 => "5xx",
        _ => "other",
    }
}

fn attempt_label(attempt: u32) -> &'static str {
    match attempt {
        0 | 1 => "1",
        2 | 3 => "2-3",
        _ => "4+",
    }
}

/// Makes metrics from their definitions. The definitions are constants, so what can go wrong does
/// so in the first test that makes a [`Metrics`].
struct Registrar<'a>(&'a Registry);

impl Registrar<'_> {
    fn registered<T: Collector + Clone + 'static>(&self, made: prometheus::Result<T>) -> T {
        let metric = made.expect("a definition is well formed");
        let registered = self.0.register(Box::new(metric.clone()));
        registered.expect("a name is registered once");
        metric
    }

    fn counter(&self, definition: &Definition) -> IntCounter {
        self.registered(IntCounter::new(definition.name, definition.help))
    }

    fn counters(&self, definition: &Definition) -> IntCounterVec {
        let opts = Opts::new(definition.name, definition.help);
        self.registered(IntCounterVec::new(opts, definition.labels))
    }

    fn gauge(&self, definition: &Definition) -> IntGauge {
        self.registered(IntGauge::new(definition.name, definition.help))
    }

    fn labelled_gauge(&self, definition: &Definition, value: &str) -> IntGauge {
        let opts = Opts::new(definition.name, definition.help);
        let label = definition
            .labels
            .iter()
            .map(|name| ((*name).into(), value.into()));
        self.registered(IntGauge::with_opts(opts.const_labels(label.collect())))
    }

    fn histogram(&self, definition: &Definition) -> Histogram {
        let MetricKind::Histogram(bounds) = definition.kind else {
            unreachable!("{} is no histogram", definition.name)
        };
        let opts = HistogramOpts::new(definition.name, definition.help).buckets(bounds.to_vec());
        self.registered(Histogram::with_opts(opts))
    }
}

#[cfg(test)]
mod tests {
    use postrider_domain::{AttemptError, Response};

    use super::*;
    use crate::definitions::DEFINITIONS;

    fn response(status: u16) -> AttemptResult {
        AttemptResult::Response(Response {
            status,
            ..Response::default()
        })
    }

    fn failure(kind: ErrorKind) -> AttemptResult {
        AttemptResult::Error(AttemptError {
            kind,
            message: "".into(),
            ambiguous: false,
        })
    }

    fn touched() -> Metrics {
        let metrics = Metrics::new("1.2.3");
        metrics.event_consumed();
        metrics.event_rejected(DeadLetterReason::Undecodable);
        metrics.event_unmatched();
        metrics.schema_request_failed();
        metrics.awaiting_schema(2);
        metrics.filter_decided(FilterDecision::Matched);
        metrics.filter_decided(FilterDecision::Differed);
        metrics.filter_decided(FilterDecision::Differed);
        metrics.filter_decided(FilterDecision::Undecided);
        metrics.endpoint_record_ignored(IgnoredEndpoint::Unreadable);
        metrics.endpoint_record_ignored(IgnoredEndpoint::WrongPartition);
        metrics.endpoint_secrets_unopened();
        metrics.delivery_written();
        metrics.attempt_started();
        metrics.attempt_started();
        metrics.attempt_ended();
        let second = Duration::from_secs(1);
        metrics.attempt_judged(1, Outcome::Delivered, &response(200), second);
        metrics.attempt_judged(3, Outcome::Retry, &response(503), second);
        metrics.attempt_judged(9, Outcome::Retry, &failure(ErrorKind::TimeoutHead), second);
        metrics.first_attempt_after(second);
        metrics.delivered_after(second);
        metrics.dead_lettered(DeadLetterReason::WindowPassed);
        metrics.discarded(DiscardReason::EndpointDeleted);
        metrics.duplicate_dropped();
        metrics.stale_input();
        metrics.write_failed("deliveries");
        metrics.commit_answered(CommitResult::Accepted);
        metrics.rebalanced(7);
        metrics.hold_exceeded();
        metrics.attempt_not_started();
        metrics.breaker_changed("open");
        metrics.lease_ended();
        metrics.former_owner_ignored();
        metrics
    }

    #[test]
    fn every_definition_is_rendered() {
        let text = touched().render();
        for Definition { name, kind, .. } in DEFINITIONS {
            let kind = match kind {
                MetricKind::Counter => "counter",
                MetricKind::Gauge => "gauge",
                MetricKind::Histogram(_) => "histogram",
            };
            assert!(
                text.contains(&format!("# TYPE {name} {kind}\n")),
                "{name}\n{text}"
            );
        }
        let families = text.lines().filter(|line| line.starts_with("# TYPE "));
        assert_eq!(families.count(), DEFINITIONS.len());
    }

    #[test]
    fn facts_become_labels() {
        let text = touched().render();
        for line in [
            r#"postrider_attempts_total{attempt="1",outcome="delivered",status_class="2xx"} 1"#,
            r#"postrider_attempts_total{attempt="2-3",outcome="http_error",status_class="5xx"} 1"#,
            r#"postrider_attempts_total{attempt="4+",outcome="timeout_head",status_class="none"} 1"#,
            r#"postrider_attempt_duration_seconds_count 3"#,
            r#"postrider_inflight_requests 1"#,
            r#"postrider_events_rejected_total{reason="undecodable"} 1"#,
            r#"postrider_dead_letters_total{reason="window_passed"} 1"#,
            r#"postrider_discards_total{reason="endpoint_deleted"} 1"#,
            r#"postrider_write_failures_total{topic="deliveries"} 1"#,
            r#"postrider_commits_total{result="accepted"} 1"#,
            r#"postrider_commits_total{result="refused"} 0"#,
            r#"postrider_filter_decisions_total{decision="matched"} 1"#,
            r#"postrider_filter_decisions_total{decision="differed"} 2"#,
            r#"postrider_filter_decisions_total{decision="undecided"} 1"#,
            r#"postrider_owned_slices 7"#,
            r#"postrider_holds_exceeded_total 1"#,
            r#"postrider_attempts_not_started_total 1"#,
            r#"postrider_breaker_changes_total{to="open"} 1"#,
            r#"postrider_leases_ended_total 1"#,
            r#"postrider_former_owners_ignored_total 1"#,
            r#"postrider_endpoint_secrets_unopened_total 1"#,
            r#"postrider_build_info{version="1.2.3"} 1"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }

    #[test]
    fn two_sets_of_metrics_live_side_by_side() {
        let (one, other) = (touched(), Metrics::new("1.2.3"));
        assert!(one.render().contains("postrider_events_consumed_total 1"));
        assert!(other.render().contains("postrider_events_consumed_total 0"));
        one.clone().event_consumed();
        assert!(one.render().contains("postrider_events_consumed_total 2"));
    }
}
