//! A broker that dies and comes back under load: nothing is lost, and as no worker died with it,
//! nothing is repeated.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use postrider_e2e::{Installation, SECRET};
use postrider_test_support::{Broker, Receipt, Verifier};

use crate::{SOON, endpoint, event, wait_until_ready};

const EVENTS: usize = 1_500;
const ENDPOINTS: usize = 10;
/// How long the broker stays away: longer than the sessions of its groups, and long enough for
/// clients to wait between their tries.
const AWAY: Duration = Duration::from_secs(18);

#[test]
fn nothing_is_lost_or_repeated_when_the_broker_dies_and_comes_back() {
    let mut broker = Broker::own();
    let verifier = Verifier::start(SECRET, &[]);
    let installation = Installation::new(&broker, 4, &["orders"]);
    let documents = (0..ENDPOINTS).map(|n| {
        let url = verifier.url(&format!("/ep_{n}"));
        endpoint(&format!("ep_{n}"), &format!("t{n}"), &url, "concurrency: 4")
    });
    installation.endpoints(&documents.collect::<String>());
    let mut worker = installation.worker(&["router", "dispatcher"]);
    wait_until_ready(&mut worker);

    installation.publish("orders", &events(0));
    verifier.wait_for(SOON, |got| got.len() >= 20);
    let died = Instant::now();
    broker.kill();
    thread::sleep(AWAY);
    broker.start_again();
    let down = died.elapsed();
    let before = verifier.count();
    installation.publish("orders", &events(EVENTS));

    verifier.wait_for(Duration::from_secs(120), |got| ids(got).len() == 2 * EVENTS);
    worker.terminate();
    assert_eq!(worker.wait(SOON), Some(0), "it outlived the broker");
    let receipts = verifier.receipts();
    eprintln!(
        "the broker was away for {down:?} after {before} of {} deliveries; {} requests",
        2 * EVENTS,
        receipts.len()
    );
    assert!(before < 2 * EVENTS, "it was over before the broker died");
    assert_eq!(receipts.len(), 2 * EVENTS, "repeats; {}", worker.log());
    let refused = receipts.iter().find(|receipt| receipt.verdict != "ok");
    assert!(refused.is_none(), "{refused:?}");
}

fn events(from: usize) -> Vec<String> {
    let one = |n: usize| event(&format!("e-{n}"), &format!("t{}", n % ENDPOINTS));
    (from..from + EVENTS).map(one).collect()
}

fn ids(receipts: &[Receipt]) -> BTreeSet<&str> {
    receipts
        .iter()
        .filter_map(|receipt| receipt.id.as_deref())
        .collect()
}
