//! Brokers that ask for credentials and permissions, and whose certificates end: what is missing
//! is told by name, and nothing is lost, repeated or given up until it is there again.
//!
//! One worker lives through each fault while events come at an even pace. What the broker asks for
//! is put right at the broker, as an operator does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use postrider_domain::NewRecord;
use postrider_e2e::installation::DISPATCHER;
use postrider_e2e::secured::SecuredBroker;
use postrider_e2e::{Installation, Process, SECRET, wait_until};
use postrider_kafka::Writer;
use postrider_test_support::{Receipt, Verifier};

use crate::{SOON, endpoint, event, wait_until_ready};

/// Between two events.
const PACE: Duration = Duration::from_millis(100);
/// How long receivers take to answer: some attempts are in flight at any time.
const ANSWER_MS: &str = "1000";
/// More than are in flight at any time.
const SEVERAL: usize = 15;
/// Fewer than come in 10 s, without the 3 s for which connections may go on with old credentials.
const HELD: usize = 30;
/// What [`SecuredBroker`] grants: longer than anything is taken away.
const LONG_SESSION: &str = "[dispatcher]\nsession = \"45s\"\nheartbeat = \"1s\"\n";

/// One broker for all, one after the other: each takes something from it.
fn secured() -> MutexGuard<'static, SecuredBroker> {
    static SECURED: OnceLock<Mutex<SecuredBroker>> = OnceLock::new();
    let shared = SECURED.get_or_init(|| Mutex::new(SecuredBroker::start()));
    shared.lock().expect("no test before failed")
}

/// A worker that gets in, events that come, a receiver that they go to.
struct Scene {
    // first: it ends, and its log is shown, while there is a folder
    worker: Process,
    verifier: Verifier,
    installation: Installation,
    trickle: Trickle,
}

impl Scene {
    /// Deliveries arrive.
    fn begin(secured: &SecuredBroker, sections: &str) -> Self {
        let verifier = Verifier::start(SECRET, &["--delay", &format!("/slow={ANSWER_MS}")]);
        let installation = Installation::secured(secured, 2, &["orders"], sections);
        let url = verifier.url("/slow");
        installation.endpoints(&endpoint("ep_slow", "acme", &url, "concurrency: 50"));
        let mut worker = installation.worker(&["router", "dispatcher"]);
        wait_until_ready(&mut worker);
        let trickle = Trickle::start(&installation);
        let scene = Self {
            verifier,
            installation,
            worker,
            trickle,
        };
        scene.wait_for_more();
        scene
    }

    /// Several more arrive than did.
    #[track_caller]
    fn wait_for_more(&self) {
        let before = self.verifier.count();
        self.verifier
            .wait_for(SOON, |got| got.len() >= before + SEVERAL);
    }

    /// The worker says so on one line, and goes on.
    #[track_caller]
    fn wait_for_line(&mut self, parts: &[&str]) {
        wait_until(&format!("{parts:?} on a line of the log"), SOON, || {
            assert!(self.worker.ended().is_none(), "it ended");
            let log = self.worker.log();
            let said = log
                .lines()
                .any(|line| parts.iter().all(|part| line.contains(part)));
            said.then_some(())
        });
    }

    /// A command that cannot get in ends with a reason; while it tries for 10 s, events come and
    /// do not arrive.
    #[track_caller]
    fn expect_locked_out(&self, reason: &str) {
        let refused = self.installation.postrider(&["endpoint", "list"]);
        refused.expect_refusal(69, &["no broker of", reason]);
        let (written, arrived) = (self.trickle.written(), self.verifier.count());
        assert!(written > arrived + HELD, "{arrived} of {written} arrived");
    }

    /// Every event has arrived once and is on record, and the worker has lived through it all.
    #[track_caller]
    fn end(mut self) {
        let count = self.trickle.stop();
        let receipts = self
            .verifier
            .wait_for(2 * SOON, |got| by_event(got).len() == count);
        self.worker.terminate();
        assert_eq!(self.worker.wait(2 * SOON), Some(0), "it lived through it");
        let repeated: Vec<_> = by_event(&self.verifier.receipts())
            .into_iter()
            .filter(|(_, n)| *n > 1)
            .collect();
        assert!(repeated.is_empty(), "repeated: {repeated:?}");
        let refused = receipts.iter().find(|receipt| receipt.verdict != "ok");
        assert!(refused.is_none(), "{refused:?}");
        let attempts = self.installation.attempts();
        let delivered = attempts
            .iter()
            .filter(|attempt| attempt.outcome == "delivered");
        assert_eq!(
            (delivered.count(), attempts.len()),
            (count, count),
            "one record of each"
        );
        assert_eq!(self.installation.read("dead-letters").len(), 0);
        eprintln!("{count} events");
    }
}

fn by_event(receipts: &[Receipt]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for receipt in receipts {
        let event = receipt.event.as_ref().expect("each body is our JSON");
        *counts.entry(event.to_string()).or_default() += 1;
    }
    counts
}

/// Events that come one by one until they are stopped, by the listener where all is allowed.
struct Trickle {
    going: Arc<AtomicBool>,
    written: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Trickle {
    fn start(installation: &Installation) -> Self {
        let writer = Writer::new(&installation.client()).expect("good settings");
        let topic: Arc<str> = installation.topic("orders").into();
        let (going, written) = (Arc::new(AtomicBool::new(true)), Arc::default());
        let (told, count) = (Arc::clone(&going), Arc::<AtomicUsize>::clone(&written));
        let thread = thread::spawn(move || {
            for n in 0.. {
                if !told.load(Ordering::Relaxed) {
                    return;
                }
                let record = NewRecord {
                    topic: Arc::clone(&topic),
                    partition: n % 4,
                    key: None,
                    value: Some(Bytes::from(event(&format!("e-{n}"), "acme"))),
                    headers: Vec::new(),
                };
                let sent = writer.send_and_wait(&record);
                sent.expect("the broker is away for seconds only");
                count.fetch_add(1, Ordering::Relaxed);
                thread::sleep(PACE);
            }
        });
        Self {
            going,
            written,
            thread: Some(thread),
        }
    }

    /// How many there are so far.
    fn written(&self) -> usize {
        self.written.load(Ordering::Relaxed)
    }

    /// How many there were.
    fn stop(&mut self) -> usize {
        self.going.store(false, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it explained itself");
        }
        self.written()
    }
}

impl Drop for Trickle {
    fn drop(&mut self) {
        self.going.store(false, Ordering::Relaxed);
    }
}

#[test]
fn a_password_that_changed_holds_deliveries_until_it_is_restored() {
    let secured = secured();
    let mut scene = Scene::begin(&secured, LONG_SESSION);
    secured.change_password();
    scene.wait_for_line(&[
        "ERROR",
        "alarm: the brokers refuse the credentials",
        "re-authentication",
    ]);
    scene.expect_locked_out("invalid credentials");
    secured.restore_password();
    scene.wait_for_more();
    scene.end();
}

#[test]
fn a_permission_that_was_taken_holds_deliveries_until_it_is_given_back() {
    let secured = secured();
    let mut scene = Scene::begin(&secured, LONG_SESSION);
    let topics = ["attempts", "deliveries"].map(|name| scene.installation.topic(name));
    secured.forbid_writing(&topics);
    let [attempts, deliveries] = &topics;
    let missing = "Topic authorization failed";
    scene.wait_for_line(&["write failed, will retry", attempts, missing]);
    scene.wait_for_line(&["ERROR", "alarm: cannot write", deliveries, missing]);
    secured.permit_writing(&topics);
    scene.wait_for_more();
    scene.end();
}

#[test]
fn what_may_not_be_recorded_is_not_committed() {
    let secured = secured();
    let mut scene = Scene::begin(&secured, DISPATCHER);
    secured.shorten_session(&scene.installation.topic("dispatcher"), 15_000);
    let topics = [scene.installation.topic("attempts")];
    secured.forbid_writing(&topics);
    scene.wait_for_line(&["write failed, will retry", &topics[0]]);
    let count = scene.trickle.stop();
    wait_until("the router's writes", SOON, || {
        (scene.installation.read("deliveries").len() == count).then_some(())
    });
    scene.worker.kill();
    let recorded = scene.installation.attempts().len();
    let before = by_event(&scene.verifier.receipts());
    assert!(
        recorded < before.len(),
        "{recorded} of {before:?} on record"
    );
    secured.permit_writing(&topics);

    scene.worker = scene.installation.worker(&["dispatcher"]);
    scene
        .verifier
        .wait_for(2 * SOON, |got| by_event(got).len() == count);
    let attempts = scene
        .installation
        .wait_for_attempts(SOON, |got| got.len() >= count);
    scene.worker.terminate();
    assert_eq!(scene.worker.wait(SOON), Some(0));
    let repeated = scene.verifier.count() - count;
    eprintln!(
        "{} sent, {recorded} on record, {repeated} of {count} again",
        before.len()
    );
    let deliveries: BTreeSet<&str> = attempts.iter().map(|a| &*a.delivery_id).collect();
    assert_eq!(deliveries.len(), count, "each is on record");
    assert!(
        repeated >= before.len() - recorded,
        "what was not on record was sent again"
    );
    assert!(
        repeated <= before.len() - recorded + SEVERAL,
        "and no more than since the last commit"
    );
}

#[test]
fn a_certificate_that_expired_holds_deliveries_until_there_is_a_good_one() {
    let mut secured = secured();
    let mut scene = Scene::begin(&secured, LONG_SESSION);
    secured.start_again_expired();
    scene.wait_for_line(&[
        "ERROR",
        "alarm: no TLS with the brokers",
        "certificate verify failed",
    ]);
    scene.expect_locked_out("certificate verify failed");
    secured.start_again_good();
    scene.wait_for_more();
    scene.end();
}
