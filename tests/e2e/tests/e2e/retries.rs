//! Retries at their schedule, measured from what was promised to what arrived.

use std::time::Duration;

use postrider_e2e::{Attempt, Installation, SECRET, now_ms};
use postrider_test_support::{Broker, Receipt, Verifier};

use crate::{SOON, endpoint, event, wait_until_ready};

/// Later than this is late, on a machine that does other things too.
const LATE_MS: u64 = 1_000;
/// Reading the clock before and after a wait is drawn.
const CLOCK_MS: u64 = 100;

#[test]
fn a_failing_endpoint_is_retried_at_its_schedule() {
    let attempts = retried(3, "1s, 2s, 3s", &[1_000, 2_000, 3_000]);
    let outcomes: Vec<&str> = attempts.iter().map(|a| &*a.outcome).collect();
    assert_eq!(outcomes, ["retry", "retry", "retry", "delivered"]);
}

#[test]
fn a_longer_wait_goes_over_a_rung_and_is_met() {
    let attempts = retried(1, "31s", &[31_000]);
    assert_eq!(attempts.len(), 2, "{attempts:?}");
}

/// What was in flight when an endpoint was deleted may still arrive.
const DELETED_MS: u64 = 5_000;

/// One waits for its retry in memory, one on a rung.
#[test]
fn no_retry_reaches_an_endpoint_that_was_deleted_meanwhile() {
    let verifier = Verifier::start(SECRET, &["--fail-first", "/flaky=1000"]);
    let installation = Installation::new(Broker::shared(), 2, &["orders"]);
    let url = verifier.url("/flaky");
    let retry = |each: &str| {
        let schedule = [each; 20].join(", ");
        format!("retry: {{ schedule: [{schedule}], window: 1h, jitter: 0 }}")
    };
    let soon = endpoint("ep_soon", "acme", &url, &retry("1s"));
    let late = endpoint("ep_late", "acme", &url, &retry("31s"));
    installation.endpoints(&(soon + &late));
    let mut worker = installation.worker(&["router", "dispatcher"]);
    wait_until_ready(&mut worker);
    installation.publish("orders", &[event("e-1", "acme")]);
    installation.wait_for_attempts(SOON, |got| {
        let of = |id| got.iter().filter(|a| a.endpoint_id == id).count();
        of("ep_soon") > 1 && of("ep_late") == 1
    });
    for id in ["ep_soon", "ep_late"] {
        installation
            .postrider(&["endpoint", "delete", id])
            .expect_done();
    }
    let deleted_ms = now_ms();
    let is_end = |a: &&Attempt| a.outcome == "discarded";
    let attempts =
        installation.wait_for_attempts(2 * SOON, |got| got.iter().filter(is_end).count() == 2);
    for end in attempts.iter().filter(is_end) {
        assert_eq!(end.reason.as_deref(), Some("endpoint_deleted"), "{end:?}");
    }
    let after = |receipt: &&Receipt| receipt.arrived_ms > deleted_ms + DELETED_MS;
    let receipts = verifier.wait_for(SOON, |got| !got.is_empty());
    assert_eq!(receipts.iter().filter(after).count(), 0, "{receipts:?}");
}

/// Brings an event to an endpoint that fails `failures` times, and checks each wait.
fn retried(failures: usize, schedule: &str, waits_ms: &[u64]) -> Vec<Attempt> {
    let rule = format!("/flaky={failures}");
    let verifier = Verifier::start(SECRET, &["--fail-first", &rule]);
    let installation = Installation::new(Broker::shared(), 2, &["orders"]);
    let retry = format!("retry: {{ schedule: [{schedule}], window: 1h, jitter: 0 }}");
    let url = verifier.url("/flaky");
    installation.endpoints(&endpoint("ep_flaky", "acme", &url, &retry));
    let mut worker = installation.worker(&["router", "dispatcher"]);
    wait_until_ready(&mut worker);
    installation.publish("orders", &[event("e-1", "acme")]);

    let total = Duration::from_millis(waits_ms.iter().sum());
    let receipts = verifier.wait_for(SOON + total, |got| got.len() > failures);
    let attempts = installation.wait_for_attempts(SOON, |got| got.len() > failures);
    assert_eq!(
        (receipts.len(), attempts.len()),
        (failures + 1, failures + 1)
    );
    check_requests(&receipts);
    for (n, wait_ms) in waits_ms.iter().enumerate() {
        let (attempt, next) = (&attempts[n], &receipts[n + 1]);
        let due_ms = attempt.next_ms().expect("there is a next attempt");
        let waited = due_ms - attempt.ended_ms();
        assert!(
            (*wait_ms..=wait_ms + CLOCK_MS).contains(&waited),
            "attempt {}: scheduled after {waited} ms instead of {wait_ms}",
            n + 2
        );
        assert!(next.arrived_ms >= due_ms, "early: {next:?}, due {due_ms}");
        let late_ms = next.arrived_ms - due_ms;
        eprintln!(
            "attempt {}: due after {wait_ms} ms, {late_ms} ms late",
            n + 2
        );
        assert!(
            late_ms <= LATE_MS,
            "attempt {} was {late_ms} ms late",
            n + 2
        );
    }
    let rung = installation.read("retry.30s");
    let on_rung = waits_ms.iter().filter(|wait| **wait >= 30_000).count();
    assert_eq!(rung.len(), on_rung, "{rung:?}");
    attempts
}

fn check_requests(receipts: &[Receipt]) {
    for (n, receipt) in receipts.iter().enumerate() {
        assert_eq!(receipt.verdict, "ok", "{receipt:?}");
        assert_eq!(
            receipt.id, receipts[0].id,
            "one webhook-id for all attempts"
        );
        assert_eq!(receipt.sha256, receipts[0].sha256, "the same bytes");
        assert_eq!(receipt.attempt, Some((n + 1).to_string()));
    }
}
