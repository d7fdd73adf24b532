//! Intake topics that come late.

use std::time::Duration;

use postrider_e2e::Installation;
use postrider_test_support::{Broker, Receiver};

use crate::{SOON, endpoint, event, wait_until_ready};

/// Missing topics are looked for every 10 s, and joining follows.
const FOUND_WITHIN: Duration = Duration::from_secs(60);

#[test]
fn a_missing_intake_topic_is_waited_for() {
    let receiver = Receiver::start();
    let installation = Installation::without_topics(Broker::shared(), 2, &["orders", "late"]);
    installation.postrider(&["topics", "apply"]).expect_done();
    installation.make_intake("orders");
    installation.endpoints(&endpoint("ep_acme", "acme", &receiver.url("/in"), ""));
    let mut worker = installation.worker(&["router", "dispatcher"]);
    wait_until_ready(&mut worker);
    worker.wait_for_log(SOON, "intake topics do not exist");
    let told = worker.log();
    assert!(told.contains(&installation.topic("late")), "{told}");
    assert!(
        !told.contains(&format!("{:?}", installation.topic("orders"))),
        "{told}"
    );

    installation.publish("orders", &[event("e-1", "acme")]);
    receiver.wait_for("/in", SOON, |requests| requests.len() == 1);
    installation.make_intake("late");
    installation.publish("late", &[event("e-2", "acme")]);
    let arrived = receiver.wait_for("/in", FOUND_WITHIN, |requests| requests.len() == 2);
    assert_eq!(arrived[1].body, event("e-2", "acme"));
    worker.terminate();
    assert_eq!(worker.wait(SOON), Some(0));
}
