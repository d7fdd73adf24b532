//! A clean stop under load: everything in flight ends, nothing is sent twice.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use postrider_e2e::{Installation, wait_until};
use postrider_test_support::{Broker, Receiver, Reply};

use crate::{SOON, endpoint, event, wait_until_ready};

/// How long the slow receiver takes: less than the timeout.
const SLOW: Duration = Duration::from_secs(1);
/// Draining beside that: writes, a commit, leaving both groups.
const LEAVING: Duration = Duration::from_secs(8);
const EVENTS: usize = 60;

#[test]
fn a_stop_under_load_drains_and_repeats_nothing() {
    let receiver = Receiver::start();
    receiver.script("/slow", vec![Reply::status(200).after(SLOW)]);
    let installation = Installation::new(Broker::shared(), 2, &["orders"]);
    installation.endpoints(&endpoint(
        "ep_slow",
        "acme",
        &receiver.url("/slow"),
        "concurrency: 20",
    ));
    let mut worker = installation.worker(&["router", "dispatcher"]);
    wait_until_ready(&mut worker);
    let events: Vec<String> = (0..EVENTS)
        .map(|n| event(&format!("e-{n}"), "acme"))
        .collect();
    installation.publish("orders", &events);
    receiver.wait_for("/slow", SOON, |requests| requests.len() >= 20);

    let told = Instant::now();
    worker.terminate();
    assert_eq!(worker.wait(SLOW + LEAVING), Some(0));
    let took = told.elapsed();
    let log = worker.log();
    assert!(log.contains("stopped: everything committed"), "{log}");
    let before = receiver.requests("/slow").len();
    assert!(before < EVENTS, "it was stopped in the middle: {before}");

    let mut successor = installation.worker(&["router", "dispatcher"]);
    wait_until_ready(&mut successor);
    let delivered = |installation: &Installation| {
        let attempts = installation.wait_for_attempts(SOON, |got| got.len() >= EVENTS);
        attempts.iter().filter(|a| a.outcome == "delivered").count()
    };
    assert_eq!(delivered(&installation), EVENTS);
    let requests = receiver.requests("/slow");
    let ids: BTreeSet<_> = requests.iter().map(|r| r.header("webhook-id")).collect();
    eprintln!(
        "stopped after {took:?} with {before} of {EVENTS} requests sent; {} in all, {} repeated",
        requests.len(),
        requests.len() - ids.len()
    );
    assert_eq!((ids.len(), requests.len()), (EVENTS, EVENTS));
}

#[test]
fn a_signal_before_anything_runs_ends_it_at_once() {
    let installation = Installation::without_topics(Broker::shared(), 2, &["orders"]);
    let config = fs::read_to_string(installation.config()).expect("it was written");
    // a port that nothing listens on: a start waits 10 s for it
    let config = config.replace(installation.bootstrap(), "127.0.0.1:1");
    fs::write(installation.config(), config).expect("it was written before");
    let mut worker = installation.worker(&["router", "dispatcher"]);
    let hears = || worker.hears_sigterm().then_some(());
    wait_until("it asks for the signal", SOON, hears);
    worker.terminate();
    assert_eq!(worker.wait(Duration::from_secs(5)), Some(0));
    let log = worker.log();
    assert!(log.contains("nothing was started"), "{log}");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let receiver = Receiver::start();
    receiver.script("/never", vec![Reply::never()]);
    let installation = Installation::new(Broker::shared(), 2, &["orders"]);
    installation.endpoints(&endpoint("ep_never", "acme", &receiver.url("/never"), ""));
    let mut worker = installation.worker(&["router", "dispatcher"]);
    wait_until_ready(&mut worker);
    installation.publish("orders", &[event("e-1", "acme")]);
    receiver.wait_for("/never", SOON, |requests| requests.len() == 1);

    // A second signal that comes within a second is taken for the first one.
    wait_until("a second signal is heard", Duration::from_secs(5), || {
        worker.terminate();
        worker.log().contains("told twice").then_some(())
    });
    let code = worker.wait(Duration::from_secs(3));
    assert_eq!(code, Some(1));
    assert_eq!(worker.log().matches("told to stop").count(), 1);
}
