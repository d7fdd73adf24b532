//! Secrets that lie sealed in Kafka, from the key file to the receiver.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use postrider_e2e::installation::{DISPATCHER, binary};
use postrider_e2e::{Installation, Process, SECRET, wait_until};
use postrider_test_support::{Broker, Receiver, Reply, Request, Verifier};
use serde_json::Value;
use tempfile::TempDir;

use crate::{SOON, endpoint, event, wait_until_ready};

const K1: &str = "k1 = MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n";
const K2: &str = "k2 = ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=\n";

/// An installation whose secrets are sealed with the keys of a file.
struct Sealed {
    installation: Installation,
    keys: PathBuf,
    _folder: TempDir,
}

impl Sealed {
    fn new() -> Self {
        let folder = TempDir::new().expect("a folder for the keys");
        let keys = folder.path().join("keys");
        let sections = format!("{DISPATCHER}\n[secrets]\nkey_file = {keys:?}\n");
        fs::write(&keys, K1).expect("the folder is ours");
        Self {
            installation: Installation::with(Broker::shared(), 2, &["orders"], &sections),
            keys,
            _folder: folder,
        }
    }

    fn with_keys(&self, text: &str) {
        fs::write(&self.keys, text).expect("the folder is ours");
    }

    fn worker(&self) -> Process {
        let mut worker = self.installation.worker(&["router", "dispatcher"]);
        wait_until_ready(&mut worker);
        worker
    }

    /// What a command printed, which was asked for JSON.
    fn json(&self, arguments: &[&str]) -> Value {
        let printed = self
            .installation
            .postrider(&[arguments, &["-o", "json"]].concat());
        serde_json::from_str(&printed.expect_done()).expect("it prints JSON")
    }

    /// The newest record of an endpoint, as it lies in Kafka.
    fn record(&self, id: &str) -> String {
        let records = self.installation.read("endpoints");
        let of_endpoint = records
            .into_iter()
            .rfind(|read| read.key.as_deref() == Some(id.as_bytes()));
        let value = of_endpoint.and_then(|read| read.value);
        String::from_utf8(value.expect("it is there")).expect("JSON")
    }

    /// Whether a request is signed with a secret.
    fn is_signed(&self, request: &Request, secret: &str) -> bool {
        let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
        let line = |name: &&str| {
            let value = request.header(name).expect("every request has it");
            format!("{name}: {value}\n")
        };
        let headers: String = names.iter().map(line).collect();
        let (headers, body, secret) = (
            self.installation.file("headers", headers.as_bytes()),
            self.installation.file("body", &request.body),
            self.installation.file("secret", secret.as_bytes()),
        );
        let at = |path: &PathBuf| format!("@{}", path.display());
        let (headers, secret) = (at(&headers), at(&secret));
        let body = body.to_str().expect("UTF-8");
        let arguments = [
            "verify", "--secret", &secret, "-H", &headers, "--body", body,
        ];
        self.installation.postrider(&arguments).code == Some(0)
    }
}

#[test]
fn sealed_secrets_sign_are_rolled_and_sealed_anew() {
    let receiver = Receiver::start();
    let sealed = Sealed::new();
    let url = receiver.url("/in");
    sealed
        .installation
        .endpoints(&endpoint("ep_1", "acme", &url, ""));
    let key = SECRET.strip_prefix("whsec_").expect("a prefix");
    let record = sealed.record("ep_1");
    assert!(
        !record.contains(key) && !record.contains("whsec"),
        "{record}"
    );
    assert!(record.contains(r#""sealed":"v1.k1."#), "{record}");
    // The same file again changes nothing, though it would be sealed otherwise.
    sealed
        .installation
        .endpoints(&endpoint("ep_1", "acme", &url, ""));
    assert_eq!(sealed.record("ep_1"), record);
    let shown = sealed.json(&["endpoint", "get", "ep_1"]);
    assert_eq!(shown["signing"]["secrets"][0]["sealed"], "v1.k1.…");

    let mut worker = sealed.worker();
    let nth = |n: usize| {
        sealed
            .installation
            .publish("orders", &[event(&format!("e-{n}"), "acme")]);
        receiver.wait_for("/in", SOON, |got| got.len() >= n);
        receiver.requests("/in").remove(n - 1)
    };
    assert!(sealed.is_signed(&nth(1), SECRET));

    let would = sealed.json(&["secret", "roll", "ep_1", "--dry-run"]);
    assert_eq!(
        (&would["secret"], &would["id"]),
        (&Value::Null, &Value::from("s2"))
    );
    assert_eq!(sealed.record("ep_1"), record);
    let rolled = sealed.json(&["secret", "roll", "ep_1", "--expire-old", "1h"]);
    let secret = rolled["secret"].as_str().expect("the new secret");
    let record = sealed.record("ep_1");
    assert!(!record.contains(&secret["whsec_".len()..]), "{record}");
    assert_eq!(record.matches("v1.k1.").count(), 2, "{record}");
    // The dispatcher hears of it in its own time.
    let mut n = 1;
    let both = wait_until("a request with two signatures", SOON, || {
        n += 1;
        let request = nth(n);
        let signatures = request
            .header("webhook-signature")
            .expect("signed")
            .to_owned();
        (signatures.split(' ').count() == 2).then_some(request)
    });
    assert!(sealed.is_signed(&both, SECRET) && sealed.is_signed(&both, secret));

    sealed.with_keys(&format!("{K2}{K1}"));
    let done = sealed.json(&["secret", "rewrap"]);
    assert_eq!(
        (&done["written"], &done["sealed"]),
        (&Value::from(1), &Value::from(2))
    );
    let again = sealed.json(&["secret", "rewrap"]);
    assert_eq!(
        (&again["written"], &again["sealed"]),
        (&Value::from(0), &Value::from(0))
    );
    let record = sealed.record("ep_1");
    assert_eq!(record.matches("v1.k2.").count(), 2, "{record}");
    sealed.with_keys(K2);
    worker.terminate();
    assert_eq!(worker.wait(SOON), Some(0));
    let _worker = sealed.worker();
    let after = nth(n + 1);
    assert!(sealed.is_signed(&after, SECRET) && sealed.is_signed(&after, secret));
}

/// The delivery waits for its next attempt whenever a secret is rolled: its receiver takes none
/// before both rolls were seen.
#[test]
fn a_retry_is_signed_with_what_was_rolled_while_it_waited() {
    let receiver = Receiver::start();
    receiver.script("/in", vec![Reply::status(500)]);
    let sealed = Sealed::new();
    let schedule = ["2s"; 60].join(", ");
    let retry = format!("retry: {{ schedule: [{schedule}], window: 1h, jitter: 0 }}");
    sealed
        .installation
        .endpoints(&endpoint("ep_1", "acme", &receiver.url("/in"), &retry));
    let _worker = sealed.worker();
    sealed
        .installation
        .publish("orders", &[event("e-1", "acme")]);
    let first = receiver
        .wait_for("/in", SOON, |got| !got.is_empty())
        .remove(0);
    assert!(sealed.is_signed(&first, SECRET));

    let roll = |expire_old: &str| {
        let rolled = sealed.json(&["secret", "roll", "ep_1", "--expire-old", expire_old]);
        let new = rolled["secret"].as_str().expect("the new secret");
        new.to_owned()
    };
    // The dispatcher hears of it in its own time: a retry or two may be signed as before.
    let retried = |what: &str, signatures: usize, secret: &str| {
        wait_until(what, SOON, || {
            let last = receiver.requests("/in").pop().expect("there was one");
            let count = signatures_of(&last);
            (count == signatures && sealed.is_signed(&last, secret)).then_some(last)
        })
    };
    let second = roll("1h");
    let both = retried("a retry with two signatures", 2, &second);
    assert!(sealed.is_signed(&both, SECRET), "the old one signs along");
    let third = roll("0s");
    let alone = retried("a retry with the newest signature", 1, &third);
    assert!(!sealed.is_signed(&alone, SECRET) && !sealed.is_signed(&alone, &second));

    receiver.script("/in", vec![Reply::status(200)]);
    let attempts = sealed
        .installation
        .wait_for_attempts(SOON, |got| got.iter().any(|a| a.outcome == "delivered"));
    let requests = receiver.requests("/in");
    assert_eq!(requests.len(), attempts.len());
    let last = requests.last().expect("there are some");
    assert!(sealed.is_signed(last, &third) && !sealed.is_signed(last, &second));
    let (mut counts, mut ids) = (Vec::new(), BTreeSet::new());
    for (n, request) in requests.iter().enumerate() {
        assert_eq!(
            request.header("postrider-attempt"),
            Some(&*(n + 1).to_string())
        );
        counts.push(signatures_of(request));
        ids.insert(request.header("webhook-id"));
    }
    assert_eq!(ids.len(), 1, "one delivery: {ids:?}");
    counts.dedup();
    assert_eq!(counts, [1, 2, 1], "old, both, newest");
}

fn signatures_of(request: &Request) -> usize {
    let signatures = request.header("webhook-signature").expect("signed");
    signatures.split(' ').count()
}

#[test]
fn what_cannot_be_opened_waits_unsent_until_it_can() {
    let verifier = Verifier::start(SECRET, &[]);
    let sealed = Sealed::new();
    let url = verifier.url("/in");
    sealed
        .installation
        .endpoints(&endpoint("ep_1", "acme", &url, ""));
    let open = Receiver::start();
    open.script("/open", vec![Reply::status(200)]);
    let unsigned = format!(
        "---\nid: ep_2\ntenant: acme\nurl: {}\nsigning: {{ scheme: none }}\n",
        open.url("/open")
    );
    sealed.installation.endpoints(&unsigned);

    sealed.with_keys(K2);
    let mut blind = sealed.worker();
    blind.wait_for_log(SOON, "alarm: secrets of an endpoint cannot be opened");
    sealed
        .installation
        .publish("orders", &[event("e-1", "acme")]);
    open.wait_for("/open", SOON, |got| got.len() == 1);
    let waits = || (!sealed.installation.read("backlog").is_empty()).then_some(());
    wait_until("the other delivery is on the backlog", SOON, waits);
    blind.terminate();
    assert_eq!(blind.wait(SOON), Some(0));
    assert!(
        blind
            .log()
            .contains("under key k1, which is not in the key file")
    );
    assert_eq!(verifier.count(), 0, "nothing was sent unsigned");
    assert_eq!(sealed.installation.read("dead-letters"), []);

    // Without its keys nobody unseals it; what needs no secret goes on.
    let config = fs::read_to_string(sealed.installation.config()).expect("it was written");
    let keyless = config.replace("key_file = ", "# key_file = ");
    fs::write(sealed.installation.config(), keyless).expect("the folder is ours");
    let file = endpoint("ep_1", "acme", &verifier.url("/elsewhere"), "");
    let file = sealed.installation.file("endpoints.yaml", file.as_bytes());
    let file = file.to_str().expect("UTF-8");
    sealed
        .installation
        .postrider(&["endpoint", "apply", "-f", file])
        .expect_refusal(64, &["ep_1: its secrets are sealed", "secrets.key_file"]);
    sealed
        .installation
        .postrider(&["secret", "roll", "ep_1"])
        .expect_refusal(64, &["ep_1: its secrets cannot be opened"]);
    let list = sealed.json(&["endpoint", "list"]);
    assert_eq!(list[0]["state"], "active", "{list}");
    sealed.json(&["endpoint", "pause", "ep_1"]);
    sealed.json(&["endpoint", "resume", "ep_1"]);
    assert!(sealed.record("ep_1").contains("v1.k1."));

    fs::write(sealed.installation.config(), config).expect("the folder is ours");
    sealed.with_keys(K1);
    let _seeing = sealed.worker();
    let receipts = verifier.wait_for(SOON + Duration::from_secs(30), |got| !got.is_empty());
    assert_eq!(receipts[0].verdict, "ok", "{receipts:?}");
    assert_eq!(receipts[0].path, "/in");
}

#[test]
fn sealing_anew_takes_nobody_s_change_back() {
    const ENDPOINTS: usize = 60;
    let sealed = Sealed::new();
    let path = |n: usize| format!("https://acme.example/{n}");
    let file = |round: usize| -> String {
        let document = |n: usize| endpoint(&format!("ep_{n}"), "acme", &path(round), "");
        (0..ENDPOINTS).map(document).collect()
    };
    sealed.installation.endpoints(&file(0));
    sealed.with_keys(&format!("{K2}{K1}"));
    let other = format!("{K1}{K2}");
    let other = sealed.installation.file("keys", other.as_bytes());
    let config = fs::read_to_string(sealed.installation.config()).expect("it was written");
    let config = config.replace(&format!("{:?}", sealed.keys), &format!("{other:?}"));
    let config = sealed
        .installation
        .file("postrider.toml", config.as_bytes());
    let configs = [sealed.installation.config(), config];

    // One turns all to k2 and the next to k1, for as long as others change the same endpoints.
    let done = AtomicBool::new(false);
    let rewraps = std::thread::scope(|scope| {
        let rewrap = scope.spawn(|| {
            let mut rewraps = 0;
            while !done.load(Ordering::Relaxed) {
                let config = &configs[rewraps % 2];
                let mut command = Command::new(binary());
                command
                    .arg("--config")
                    .arg(config)
                    .args(["secret", "rewrap"]);
                let output = command.output().expect("the binary runs");
                assert!(output.status.success(), "{output:?}");
                rewraps += 1;
            }
            rewraps
        });
        for round in 1..=5 {
            sealed.installation.endpoints(&file(round));
        }
        done.store(true, Ordering::Relaxed);
        rewrap.join().expect("it does not panic")
    });
    assert!(rewraps > 1, "there was no race");
    let mut newest = BTreeMap::new();
    for read in sealed.installation.read("endpoints") {
        newest.insert(
            read.key,
            String::from_utf8(read.value.expect("no tombstone")),
        );
    }
    assert_eq!(newest.len(), ENDPOINTS);
    for record in newest.into_values() {
        let record = record.expect("JSON");
        assert!(
            record.contains(&path(5)),
            "the newest record is an old one: {record}"
        );
    }
}

#[test]
fn commands_of_the_same_moment_undo_nothing_of_one_another() {
    const ROUNDS: usize = 6;
    let sealed = Sealed::new();
    let at = |n: usize, path: &str| {
        let url = format!("https://acme.example/{path}");
        endpoint(&format!("ep_{n}"), "acme", &url, "")
    };
    let first: String = (0..2 * ROUNDS).map(|n| at(n, "old")).collect();
    sealed.installation.endpoints(&first);
    let start = |arguments: &[&str]| {
        let mut command = Command::new(binary());
        command.arg("--config").arg(sealed.installation.config());
        command.args(arguments).stdout(std::process::Stdio::null());
        command.spawn().expect("the binary runs")
    };
    for n in 0..ROUNDS {
        let (paused, applied) = (format!("ep_{n}"), format!("ep_{}", ROUNDS + n));
        let file = sealed
            .installation
            .file("moved.yaml", at(ROUNDS + n, "new").as_bytes());
        let file = file.to_str().expect("UTF-8");
        let mut pause = start(&["endpoint", "pause", &paused]);
        let mut roll = start(&["secret", "roll", &paused]);
        assert!(pause.wait().expect("it ends").success());
        assert!(roll.wait().expect("it ends").success());
        let record = sealed.record(&paused);
        assert_eq!(record.matches("v1.k1.").count(), 2, "rolled: {record}");
        assert!(record.contains(r#""state":"paused""#), "{record}");

        let mut apply = start(&["endpoint", "apply", "-f", file]);
        let mut roll = start(&["secret", "roll", &applied]);
        let is_applied = apply.wait().expect("it ends").success();
        assert!(roll.wait().expect("it ends").success());
        let record = sealed.record(&applied);
        let is_rolled = record.matches("v1.k1.").count() == 2;
        let value: Value = serde_json::from_str(&record).expect("JSON");
        // A file without the new secret takes it away when it is applied after the roll, not over it.
        assert!(is_rolled || value["version"] == 3, "{record}");
        assert_eq!(record.contains("/new"), is_applied, "{record}");
    }
}

#[test]
fn an_endpoint_made_anew_is_newer_than_the_one_that_was_deleted() {
    let sealed = Sealed::new();
    let url = |path: &str| format!("https://acme.example/{path}");
    for path in ["a", "b"] {
        sealed
            .installation
            .endpoints(&endpoint("ep_1", "acme", &url(path), ""));
    }
    sealed.json(&["endpoint", "delete", "ep_1"]);
    sealed
        .installation
        .endpoints(&endpoint("ep_1", "acme", &url("b"), ""));
    let record: Value = serde_json::from_str(&sealed.record("ep_1")).expect("JSON");
    assert_eq!(record["version"], 3, "{record}");
}
