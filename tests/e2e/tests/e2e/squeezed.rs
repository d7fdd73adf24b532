//! Workers that have too little of something: files, ports, memory, processor time, or the right
//! time. They go on, lose nothing, and have delivered everything once they have enough again.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use postrider_e2e::{Attempt, Installation, Process, SECRET, wait_until};
use postrider_test_support::{
    Broker, Budget, Receipt, Receiver, Reply, Verifier, WrongClock, unshare_arguments,
};

use crate::{SOON, endpoint, event, wait_until_ready};

/// How long everything may take to arrive once nothing is short any more.
const DRAINED: Duration = Duration::from_secs(90);

/// Open files that a worker may have, and endpoints that want a socket each.
const FILES: usize = 256;
const SLOW: usize = 400;
/// Deliveries of one endpoint, and how often all of them fail in a row: an endpoint that is blamed
/// has its breaker open after 8.
const UNBLAMED: usize = 12;
const ROUNDS: u32 = 3;
const NO_FILE: &str = "too many open files";

/// First more receivers that are slow than there are files, then no file at all for a while.
#[test]
fn attempts_without_a_file_are_made_again_and_no_endpoint_is_blamed() {
    // Two, as a connection that is kept needs no file.
    let (receiver, other) = (Receiver::start(), Receiver::start());
    let installation = Installation::new(Broker::shared(), 4, &["orders"]);
    let endpoints = slow_endpoints(&receiver, SLOW);
    let quick = endpoint("ep_quick", "quick", &other.url("/quick"), &every_second());
    installation.endpoints(&(endpoints + &quick));
    let limit = format!("--nofile={FILES}:{FILES}");
    let within = ["prlimit", &limit].map(str::to_owned);
    let mut worker = start_within(&installation, &within, &["router", "dispatcher"]);
    wait_until_ready(&mut worker);
    let open = worker.open_files();
    eprintln!("{open} files are open before there is a request");
    too_many_are_slow(&installation, &mut worker, &receiver, SLOW, NO_FILE);

    // Fewer than are open: those of Kafka stay, and there is no further one.
    set_files(&worker, 16);
    let events: Vec<String> = (0..UNBLAMED)
        .map(|n| event(&format!("e-{n}"), "quick"))
        .collect();
    installation.publish("orders", &events);
    let is_quick = |a: &&Attempt| a.endpoint_id == "ep_quick";
    let attempts = installation.wait_for_attempts(SOON, |got| {
        let quick = got.iter().filter(is_quick);
        quick.filter(|a| a.attempt == ROUNDS).count() == UNBLAMED
    });
    let quick: Vec<Attempt> = attempts.into_iter().filter(|a| is_quick(&a)).collect();
    assert_eq!(starved(&quick, NO_FILE), quick.len(), "{quick:?}");
    assert_eq!(other.requests("/quick").len(), 0);
    set_files(&worker, FILES);
    other.wait_for("/quick", DRAINED, |got| got.len() == UNBLAMED);
    installation.wait_for_attempts(SOON, |got| ended(got) == SLOW + UNBLAMED);
    assert_eq!(installation.read("dead-letters"), []);
    stop(worker);
}

/// Local ports that there are, and endpoints that want one each.
const PORTS: &str = "40000\t40099";
const PORTS_WANTED: usize = 200;
const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// Runs once more in a network of its own, with a broker of its own, where there are few ports.
#[test]
fn attempts_without_a_local_port_are_made_again() {
    let range = fs::read_to_string(PORT_RANGE).expect("Linux says it");
    if range.trim() != PORTS {
        return in_a_network_with_few_ports(
            "squeezed::attempts_without_a_local_port_are_made_again",
        );
    }
    let receiver = Receiver::start();
    let installation = Installation::new(Broker::shared(), 4, &["orders"]);
    installation.endpoints(&slow_endpoints(&receiver, PORTS_WANTED));
    let mut worker = installation.worker(&["router", "dispatcher"]);
    wait_until_ready(&mut worker);
    too_many_are_slow(
        &installation,
        &mut worker,
        &receiver,
        PORTS_WANTED,
        "no free local port or memory",
    );
    assert_eq!(installation.read("dead-letters"), []);
    stop(worker);
}

fn in_a_network_with_few_ports(test: &str) {
    let unshare = unshare_arguments().unwrap_or_else(|why| panic!("{why}"));
    let script = format!("ip link set lo up && echo '{PORTS}' >{PORT_RANGE} && exec \"$@\"");
    let status = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "unshare"])
        .args(unshare)
        .args(["--", "sh", "-c", &script, "sh"])
        .arg(std::env::current_exe().expect("this program has a path"))
        .args(["--exact", test, "--nocapture"])
        // it cannot be reached from there
        .env_remove("POSTRIDER_TEST_BROKERS")
        .status();
    assert!(status.expect("setpriv is part of util-linux").success());
}

fn every_second() -> String {
    let schedule = ["1s"; 100].join(", ");
    format!("retry: {{ schedule: [{schedule}], window: 1h, jitter: 0 }}")
}

/// So many endpoints, each of which wants every event.
fn slow_endpoints(receiver: &Receiver, count: usize) -> String {
    receiver.script("/slow", vec![Reply::never()]);
    let document = |n: usize| {
        let id = format!("ep_slow_{n}");
        endpoint(&id, "slow", &receiver.url("/slow"), &every_second())
    };
    (0..count).map(document).collect()
}

/// Has the worker ask all of them at once, until it lacks something for it; then they are quick.
fn too_many_are_slow(
    installation: &Installation,
    worker: &mut Process,
    receiver: &Receiver,
    endpoints: usize,
    lacks: &str,
) {
    installation.publish("orders", &[event("e-slow", "slow")]);
    worker.wait_for_log(SOON, lacks);
    receiver.script("/slow", vec![Reply::status(200)]);
    let attempts = installation.wait_for_attempts(DRAINED, |got| ended(got) == endpoints);
    let delivered = attempts.iter().filter(|a| a.outcome == "delivered");
    let delivered: BTreeSet<&str> = delivered.map(|a| &*a.endpoint_id).collect();
    assert_eq!(delivered.len(), endpoints);
    let starved = starved(&attempts, lacks);
    eprintln!("{starved} attempts of {}: {lacks}", attempts.len());
    assert!(starved > 0);
}

fn ended(attempts: &[Attempt]) -> usize {
    attempts.iter().filter(|a| a.outcome != "retry").count()
}

/// How many attempts failed for want of this: by their kind, and by what the operator reads.
fn starved(attempts: &[Attempt], lacks: &str) -> usize {
    let is_starved = |attempt: &&Attempt| {
        let Some(error) = &attempt.error else {
            return false;
        };
        let is_internal = error.kind == "internal";
        assert_eq!(is_internal, error.message.contains(lacks), "{attempt:?}");
        assert!(!is_internal || attempt.outcome == "retry", "{attempt:?}");
        is_internal
    };
    attempts.iter().filter(is_starved).count()
}

/// From now on the process opens no more files than this.
fn set_files(worker: &Process, files: usize) {
    let status = Command::new("prlimit")
        .arg(format!("--pid={}", worker.pid()))
        .arg(format!("--nofile={files}:{FILES}"))
        .status();
    assert!(status.expect("prlimit is part of util-linux").success());
}

/// Memory of a worker with both roles, and events of nearly the largest size: more than that.
const MEMORY: u64 = 256 << 20;
const LARGE: usize = 300;
const LARGE_BYTES: usize = 1_000 << 10;
const TENANTS: usize = 12;

#[test]
fn large_events_for_slow_endpoints_take_no_more_than_256_mib() {
    let verifier = Verifier::start(SECRET, &["--delay", "/slow=500"]);
    let installation = Installation::new(Broker::shared(), 8, &["orders"]);
    installation.endpoints(&one_for_each_tenant(&verifier.url("/slow")));
    let budget = Budget::of_memory("large", MEMORY).unwrap_or_else(|why| panic!("{why}"));
    let mut worker = start_within(&installation, &budget.within(), &["router", "dispatcher"]);
    wait_until_ready(&mut worker);

    // Nothing that a compressing client could make small, and no two alike.
    let random: String = std::iter::repeat_with(fastrand::alphanumeric)
        .take(LARGE_BYTES)
        .collect();
    let large = |n: usize| {
        let (before, after) = random.split_at(n * LARGE_BYTES / LARGE);
        padded_event(n, &[after, before].concat())
    };
    for first in (0..LARGE).step_by(50) {
        let lines: Vec<String> = (first..first + 50).map(large).collect();
        installation.publish("orders", &lines);
    }
    let receipts = wait_for_events(&verifier, &mut worker, LARGE);
    let peak = worker.memory_peak_mib().expect("it lives");
    eprintln!("{} requests, {peak} MiB at most", receipts.len());
    assert_eq!(budget.killed(), 0);
    assert_eq!(installation.read("dead-letters").len(), 0);
    stop(worker);
}

/// What a starved dispatcher has, for how long, and how many events wait for it meanwhile.
const CORES: f64 = 0.2;
const STARVED: Duration = Duration::from_secs(15);
const WAITING: usize = 16_000;
const BATCH: usize = 1_000;
const EVENT_BYTES: usize = 16 << 10;
/// Periods of 10 ms in which it stood still, of [`STARVED`].
const THROTTLED_MIN: u64 = 750;
/// It has 182 to 214 MiB. With one bound on what is read ahead taken away, that of librdkafka's queue, it
/// has 306 and 454, with the one of the channel behind it 264 and 305.
const STARVED_MIB_MAX: u64 = 240;

#[test]
fn a_dispatcher_with_a_fifth_of_a_core_and_too_much_to_do_keeps_its_slices_and_its_memory() {
    let verifier = Verifier::start(SECRET, &[]);
    let installation = Installation::new(Broker::shared(), 2, &["orders"]);
    installation.endpoints(&one_for_each_tenant(&verifier.url("/in")));
    let mut router = installation.worker(&["router"]);
    let mut dispatcher = installation.worker(&["dispatcher"]);
    router.wait_for_log(SOON, "intake partitions taken over");
    dispatcher.wait_for_log(SOON, "slices assigned");

    let budget = Budget::of_cpu("starved", CORES).unwrap_or_else(|why| panic!("{why}"));
    budget.hold(dispatcher.pid()).expect("it lives");
    let before = dispatcher.memory_peak_mib().expect("it lives");
    let padding = "x".repeat(EVENT_BYTES);
    let mut published = 0;
    let until = Instant::now() + STARVED;
    wait_until("the time is over", 2 * STARVED, || {
        if published < verifier.count() + WAITING {
            let lines: Vec<String> = (published..published + BATCH)
                .map(|n| padded_event(n, &padding))
                .collect();
            installation.publish("orders", &lines);
            published += BATCH;
        }
        (Instant::now() >= until).then_some(())
    });
    let (taken, throttled) = (verifier.count(), budget.throttled());
    let peak = dispatcher.memory_peak_mib().expect("it lives");
    eprintln!(
        "{taken} of {published} taken, still in {throttled} periods, {before} MiB before, {peak} at most"
    );
    assert!(throttled >= THROTTLED_MIN, "it had all that it wanted");
    assert!(taken > 0, "it stood still");
    assert!(
        taken + WAITING / 2 <= published,
        "there was not too much to do"
    );
    drop(budget);

    wait_for_events(&verifier, &mut dispatcher, published);
    let peak = dispatcher.memory_peak_mib().expect("it lives");
    eprintln!("{peak} MiB at most when all had arrived");
    assert!(peak <= STARVED_MIB_MAX, "{peak} MiB");
    let log = dispatcher.log();
    assert!(!log.contains("the group gave our slices"), "{log}");
    assert_eq!(installation.read("dead-letters").len(), 0);
    stop(dispatcher);
    stop(router);
}

/// A retry that a step of the clock falls into, and one that waits on a rung.
const SHORT_MS: u64 = 4_000;
const LONG_MS: u64 = 31_000;
/// How far a clock is off, s, and how well that is known, ms.
const HOUR_S: i64 = 3_600;
const ABOUT_MS: i64 = 60_000;
/// Copies that a delivery leaves on a rung whose broker is an hour behind.
const COPIES_MAX: usize = 3;

/// Signatures are off as the clock is, so receivers that look refuse them; times between attempts
/// are not.
#[test]
fn a_clock_that_is_an_hour_off_makes_nothing_early_and_receivers_refuse_its_signatures() {
    let rules = ["--refuse", "/strict=401", "--fail-first", "/flaky=1"];
    let verifier = Verifier::start(SECRET, &rules);
    let (ahead, behind) = (
        Skewed::new(&verifier, HOUR_S),
        Skewed::new(&verifier, -HOUR_S),
    );
    for skewed in [&ahead, &behind] {
        skewed
            .installation
            .publish("orders", &[event("e-1", "acme")]);
    }
    for skewed in [&ahead, &behind] {
        skewed.is_refused(&verifier);
        // It steps while a retry waits, by as much again, and then to the right time.
        skewed.wait_for(&verifier, "flaky/short", 1);
        skewed.clock.step_to(-skewed.seconds);
    }
    for skewed in [&ahead, &behind] {
        let requests = skewed.wait_for(&verifier, "flaky/short", 2);
        skewed.not_early(&requests, SHORT_MS);
        skewed.clock.step_to(0);
        let requests = skewed.wait_until(&verifier, "strict/long", |got| {
            got.iter().any(|receipt| receipt.status == 200)
        });
        let refused = requests
            .iter()
            .filter(|receipt| receipt.status == 401)
            .count();
        assert_eq!(refused, requests.len() - 1, "{requests:?}");
    }
    for skewed in [ahead, behind] {
        let requests = skewed.wait_for(&verifier, "flaky/long", 2);
        skewed.not_early(&requests, LONG_MS);
        let copies = skewed.installation.read("retry.30s").len();
        eprintln!("{} s: {copies} copies on the rung", skewed.seconds);
        assert!((1..=COPIES_MAX).contains(&copies), "{copies}");
        stop(skewed.dispatcher);
    }
}

/// An installation whose dispatcher has a wrong clock.
struct Skewed {
    installation: Installation,
    seconds: i64,
    clock: WrongClock,
    dispatcher: Process,
    _router: Process,
}

impl Skewed {
    fn new(verifier: &Verifier, seconds: i64) -> Self {
        let installation = Installation::new(Broker::shared(), 2, &["orders"]);
        let clock = WrongClock::new(seconds);
        let document = |path: &str, schedule: &str| {
            let retry = format!("retry: {{ schedule: [{schedule}], window: 6h, jitter: 0 }}");
            let url = verifier.url(&format!("/{path}/{seconds}"));
            endpoint(
                &format!("ep_{}", path.replace('/', "_")),
                "acme",
                &url,
                &retry,
            )
        };
        let endpoints = [
            document("strict/short", "1s, 1s"),
            document("strict/long", &["2s"; 40].join(", ")),
            document("flaky/short", &format!("{SHORT_MS}ms")),
            document("flaky/long", &format!("{LONG_MS}ms")),
        ];
        installation.endpoints(&endpoints.concat());
        let mut router = installation.worker(&["router"]);
        let mut dispatcher = start_within(&installation, &clock.within(), &["dispatcher"]);
        router.wait_for_log(SOON, "intake partitions taken over");
        dispatcher.wait_for_log(SOON, "slices assigned");
        Self {
            installation,
            seconds,
            clock,
            dispatcher,
            _router: router,
        }
    }

    /// What an operator and the receiver's owner see of signatures that are off.
    fn is_refused(&self, verifier: &Verifier) {
        let letters = self.installation.wait_for_dead_letters(SOON, 1);
        assert_eq!(letters[0].key.as_deref(), Some("ep_strict_short"));
        assert_eq!(letters[0].header("pr_reason"), "attempts_exhausted");
        let words = if self.seconds > 0 {
            "too new"
        } else {
            "too old"
        };
        let requests = self.wait_for(verifier, "strict/short", 3);
        for receipt in &requests {
            assert!(receipt.verdict.contains(words), "{receipt:?}");
            let stamp: i64 = receipt
                .timestamp
                .as_deref()
                .unwrap_or_default()
                .parse()
                .expect("s");
            self.is_off(stamp * 1_000, receipt.arrived_ms);
        }
        let attempts = self.installation.attempts();
        let refused = attempts
            .iter()
            .filter(|a| a.endpoint_id == "ep_strict_short");
        for (attempt, receipt) in refused.zip(&requests) {
            let status = attempt.response.as_ref().map(|response| response.status);
            assert_eq!(status, Some(401), "{attempt:?}");
            self.is_off(signed(attempt.started_ms()), receipt.arrived_ms);
        }
    }

    fn is_off(&self, told_ms: i64, right_ms: u64) {
        let off = told_ms - signed(right_ms) - self.seconds * 1_000;
        assert!(
            off.abs() < ABOUT_MS,
            "off by {off} ms more than it should be"
        );
    }

    /// Attempts of one delivery, of which the second was due so long after the end of the first.
    fn not_early(&self, requests: &[Receipt], wait_ms: u64) {
        let waited = requests[1].arrived_ms - requests[0].arrived_ms;
        eprintln!("{} s: {waited} ms instead of {wait_ms}", self.seconds);
        assert!(waited >= wait_ms, "early: {requests:?}");
        assert_eq!(requests[0].id, requests[1].id);
    }

    fn wait_for(&self, verifier: &Verifier, path: &str, count: usize) -> Vec<Receipt> {
        self.wait_until(verifier, path, |got| got.len() >= count)
    }

    fn wait_until(
        &self,
        verifier: &Verifier,
        path: &str,
        enough: impl Fn(&[Receipt]) -> bool,
    ) -> Vec<Receipt> {
        let path = format!("/{path}/{}", self.seconds);
        wait_until(&path, SOON, || {
            let mut receipts = verifier.receipts();
            receipts.retain(|receipt| receipt.path == path);
            enough(&receipts).then_some(receipts)
        })
    }
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).expect("before the year 292 million")
}

fn start_within(installation: &Installation, within: &[String], roles: &[&str]) -> Process {
    let log: PathBuf = installation.file("squeezed.log", b"");
    installation.worker_within(within, roles, log)
}

/// It is there and ends in order: it was neither killed nor gave up.
fn stop(mut worker: Process) {
    assert_eq!(worker.ended(), None);
    worker.terminate();
    assert_eq!(worker.wait(SOON), Some(0));
    assert!(worker.log().contains("stopped: everything committed"));
}

fn one_for_each_tenant(url: &str) -> String {
    let document = |n: usize| endpoint(&format!("ep_{n}"), &format!("t{n}"), url, "");
    (0..TENANTS).map(document).collect()
}

/// The event of this number for the tenant whose turn it is.
fn padded_event(n: usize, padding: &str) -> String {
    let tenant = n % TENANTS;
    format!(
        r#"{{"id":"e-{n}","type":"payment.captured","tenant":"t{tenant}","padding":"{padding}"}}"#
    )
}

/// Waits until each event arrived, signed as it should be.
fn wait_for_events(verifier: &Verifier, worker: &mut Process, events: usize) -> Vec<Receipt> {
    wait_until("all of them have arrived", DRAINED, || {
        assert_eq!(worker.ended(), None, "it did not live");
        (verifier.count() >= events).then_some(())
    });
    let receipts = verifier.wait_for(DRAINED, |got| {
        let arrived: BTreeSet<String> = got
            .iter()
            .filter_map(|receipt| Some(receipt.event.as_ref()?.as_str()?.to_owned()))
            .collect();
        arrived.len() == events
    });
    for receipt in &receipts {
        assert_eq!(receipt.verdict, "ok", "{receipt:?}");
    }
    receipts
}
