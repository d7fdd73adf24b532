//! Answers of the group's coordinator that do not come in time: what was said is asked for again, and
//! who was given up hears of it.

use std::time::Duration;

use postrider_e2e::withheld::{Change, WithholdingBroker};
use postrider_e2e::{Installation, wait_until};

use crate::{SOON, endpoint, event};

/// How a dispatcher tells of one slice more.
const ONE: &str = "slices assigned count=1";

/// The last slice of its share comes to a dispatcher that has others, and nothing but this one
/// answer tells it so.
#[test]
fn a_slice_that_was_given_unheard_is_asked_for() {
    let group = WithholdingBroker::start();
    let installation = Installation::withheld(&group, 6, &["orders"]);
    let mut first = installation.worker(&["dispatcher"]);
    first.wait_for_log(SOON, "slices assigned count=6");
    let mut second = installation.worker(&["dispatcher"]);
    second.wait_for_log(SOON, "slices assigned count=3");
    // keeps what the third one is to have of it until that one has what the first one gives
    second.freeze();
    let mut third = installation.worker(&["dispatcher"]);
    third.wait_for_log(SOON, ONE);
    group.withhold(Change::Gives);
    second.thaw();
    group.wait_until_withheld(SOON);
    wait_until("it has its share", SOON, || {
        (third.log().matches(ONE).count() == 2).then_some(())
    });
}

#[test]
fn slices_that_were_taken_unheard_are_handed_over() {
    let group = WithholdingBroker::start();
    let installation = Installation::withheld(&group, 4, &["orders"]);
    let mut first = installation.worker(&["dispatcher"]);
    first.wait_for_log(SOON, "slices assigned count=4");
    group.withhold(Change::Takes);
    let mut second = installation.worker(&["dispatcher"]);
    group.wait_until_withheld(SOON);
    second.wait_for_log(SOON, "slices assigned count=2");
}

/// Its commits are refused from then on, and with each one that is refused librdkafka puts the
/// heartbeat off that would tell it why.
#[test]
fn a_router_that_was_given_up_hears_of_it_soon() {
    let group = WithholdingBroker::start();
    let installation = Installation::withheld(&group, 1, &["orders"]);
    let mut router = installation.worker(&["router"]);
    installation.endpoints(&endpoint("ep_1", "acme", "https://127.0.0.1/", ""));
    let publish = |n: usize| installation.publish("orders", &[event(&format!("e-{n}"), "acme")]);
    publish(0);
    wait_until("it routes", SOON, || {
        (installation.read("deliveries").len() == 1).then_some(())
    });
    group.silence(true);
    // there is something to commit at any time
    let mut written = 1..;
    wait_until("its commits are refused", SOON, || {
        written.next().into_iter().for_each(publish);
        router.log().contains("UnknownMemberId").then_some(())
    });
    group.silence(false);
    let soon = Duration::from_secs(10);
    router.wait_for_log(soon, "the group took intake partitions away unasked");
}
