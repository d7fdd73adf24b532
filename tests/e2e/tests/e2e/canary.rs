//! Nothing that may not be seen is seen (P11): texts that stand for secrets, payloads and tokens
//! go through a whole installation, on every way that succeeds or fails; then everything it said
//! is searched for them.
//!
//! Where they may be is the last argument of each call of `check`: in the records that hold them
//! by contract (`docs/security.md`), and in what shows such a record because it was asked to.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::thread;

use postrider_e2e::canary::Canary;
use postrider_e2e::{Installation, Process, SECRET};
use postrider_test_support::{Broker, Receiver, Reply};

use crate::{SOON, wait_until_ready};

/// 16 digits with the check digit of a card number.
const CARD: &str = "4111117392058467";
const EXTENSION: &str = "canary-extension-5772156649";
/// `whsec_` and the base64 of [`SECRET_BYTES`].
const SIGNING: &str = "whsec_Y2FuYXJ5LW9mLWEtc2VjcmV0LTMxNDE1OTI=";
const SECRET_BYTES: &str = "canary-of-a-secret-3141592";
const HEADER: &str = "canary-header-2718281828";
const PATH: &str = "canary-path-1618033988";
const QUERY: &str = "canary-query-1414213562";
const ANSWER: &str = "canary-answer-1732050807";
const COOKIE: &str = "canary-cookie-2236067977";
const MALFORMED: &str = "canary-malformed-9159655941";
const PASSWORD: &str = "canary-password-1202056903";

const NAMES: [(&str, &str); 11] = [
    ("card number", CARD),
    ("extension", EXTENSION),
    ("signing secret", SIGNING),
    ("signing secret's bytes", SECRET_BYTES),
    ("endpoint's header", HEADER),
    ("URL's path", PATH),
    ("URL's query", QUERY),
    ("response body", ANSWER),
    ("response header", COOKIE),
    ("malformed input", MALFORMED),
    ("password", PASSWORD),
];

/// What an attempt record holds by contract.
const OF_ATTEMPTS: [&str; 4] = [
    "URL's path",
    "URL's query",
    "response body",
    "response header",
];
/// What a record of a delivery or of unreadable input holds by contract.
const OF_DELIVERIES: [&str; 3] = ["card number", "extension", "malformed input"];
/// What a command shows that was asked for an endpoint.
const OF_ENDPOINTS: [&str; 2] = ["URL's path", "URL's query"];

/// What was seen where it may not be.
struct Watch {
    canaries: Vec<Canary>,
    seen: Vec<String>,
}

impl Watch {
    fn new() -> Self {
        let canary = |(name, text): (&'static str, &str)| Canary::new(name, text);
        Self {
            canaries: NAMES.map(canary).into(),
            seen: Vec::new(),
        }
    }

    fn check(&mut self, place: &str, text: &str, allowed: &[&str]) {
        for canary in &self.canaries {
            if let Some(found) = canary
                .seen_in(text)
                .filter(|_| !allowed.contains(&canary.name))
            {
                let name = canary.name;
                self.seen.push(format!("{name} in {place}, {found}"));
            }
        }
    }

    /// That a place which may hold it does: the test would see nothing if nothing arrived.
    fn expect(&self, place: &str, text: &str, names: &[&str]) {
        for canary in self.canaries.iter().filter(|c| names.contains(&c.name)) {
            assert!(
                canary.seen_in(text).is_some(),
                "no {} in {place}",
                canary.name
            );
        }
    }
}

/// Answers every connection with a line that is not HTTP.
fn start_babbler() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let read = stream.read(&mut [0; 4096]);
            let written = stream.write_all(format!("{ANSWER}\r\n{COOKIE}\r\n\r\n").as_bytes());
            drop((read, written));
        }
    });
    address
}

fn endpoint(id: &str, url: &str) -> String {
    format!(
        "---\nid: {id}\ntenant: acme\nurl: {url}\nheaders: {{ x-pass: {HEADER} }}\n\
         description: {MALFORMED}\nretry: {{ schedule: [1s], window: 1h, jitter: 0 }}\n\
         signing: {{ scheme: standard, secrets: [{{ id: s1, value: {SIGNING} }}] }}\n"
    )
}

/// Records of `endpoints` that cannot be used, each with a text in its wrong part.
fn bad_endpoints() -> Vec<String> {
    let fields = |more: &str| format!(r#"{{"id":"ep_bad","tenant":"acme","version":1,{more}}}"#);
    let good = r#""url":"https://shop.example/""#;
    let signed = |value: &str| {
        format!(
            r#"{good},"signing":{{"scheme":"standard","secrets":[{{"id":"s1","value":"{value}"}}]}}"#
        )
    };
    vec![
        format!(r#"{{"id":"ep_bad","url": {MALFORMED}"#),
        format!("{SIGNING}"),
        fields(&signed(&format!("{SIGNING}!"))),
        fields(&signed(SECRET_BYTES)),
        fields(&format!(
            r#"{},"headers":{{"x-pass":"{HEADER}\u0001"}}"#,
            signed(SIGNING)
        )),
        fields(&format!(r#"{good},"signing":"{SIGNING}""#)),
        fields(&format!(r#"{good},"headers":["{HEADER}"]"#)),
        fields(&format!(
            r#""url":"https://{MALFORMED}@/{PATH}?{QUERY}","signing":{{"scheme":"none"}}"#
        )),
        fields(&format!(
            r#""url":"mailto:{MALFORMED}","signing":{{"scheme":"none"}}"#
        )),
        fields(&format!(
            r#""url":["https://shop.example/{PATH}"],"signing":{{"scheme":"none"}}"#
        )),
    ]
}

/// Files of endpoints with a mistake in each.
fn bad_files() -> Vec<String> {
    let document = |url: &str, signing: &str, more: &str| {
        format!("id: ep_bad\ntenant: acme\nurl: {url}\nsigning: {signing}\n{more}\n")
    };
    let good = "https://shop.example/";
    let secret = |value: &str| format!("{{ scheme: standard, secrets: [{{ id: s1, {value} }}] }}");
    let none = "{ scheme: none }";
    let mut files = vec![
        document(good, &secret(&format!("value: '{SIGNING}!'")), ""),
        // the colon is missing, or the space behind it
        document(good, &secret(&format!("value {SIGNING}")), ""),
        document(good, &secret(&format!("value:{SIGNING}")), ""),
        document(
            good,
            &format!("{{ scheme: standard, secrets: {SIGNING} }}"),
            "",
        ),
        document(
            good,
            &format!("{{ scheme: standard, secret: {SIGNING} }}"),
            "",
        ),
        document(good, &format!("{{ scheme: standard, {SIGNING}: s1 }}"), ""),
        document(
            good,
            none,
            &format!("headers: {{ x-pass: \"{HEADER}\\n\" }}"),
        ),
        document(
            good,
            none,
            &format!("headers: {{ \"x-pass {HEADER}\": a }}"),
        ),
        document(good, none, &format!("headers: {HEADER}")),
        document(good, none, &format!("auth: {{ bearer: {HEADER} }}")),
        document(good, none, &format!("auth: {{ bearer: {HEADER}\nx: y")),
        document(&format!("'https://me:{MALFORMED}@shop.example/'"), none, ""),
        document(
            &format!("'https://shop.example/{PATH}?{QUERY}#x'"),
            none,
            "",
        ),
        document(&format!("'https://shop.example/{PATH} ?{QUERY}'"), none, ""),
        document(&format!("'https://10.0.0.1/{PATH}?{QUERY}'"), none, ""),
        document(
            &format!("'http://shop.example:99999/{PATH}?{QUERY}'"),
            none,
            "",
        ),
        format!("id: [{MALFORMED}\nurl: {SIGNING}: {HEADER}\n\t- x"),
    ];
    files.push(bad_endpoints().swap_remove(0));
    files
}

/// Everything on a topic, as one text.
fn all(installation: &Installation, topic: &str) -> String {
    let records = installation.read(topic);
    let mut text = String::new();
    for record in records {
        for part in [record.key, record.value].into_iter().flatten() {
            text += &String::from_utf8_lossy(&part);
            text.push('\n');
        }
        for (name, value) in record.headers {
            text += &format!("{name}: {value}\n");
        }
    }
    text
}

/// What is said of unreadable input beside it.
fn words_of_letters(installation: &Installation) -> String {
    let letters = installation.wait_for_dead_letters(SOON, 0);
    let words = letters
        .iter()
        .map(|letter| letter.header("pr_message").to_owned() + "\n");
    words.collect()
}

fn log_as(installation: &Installation, format: &str, from: &str) {
    let text = fs::read_to_string(installation.config()).expect("it was written");
    let text = text.replace(
        &format!("format = \"{from}\""),
        &format!("format = \"{format}\""),
    );
    fs::write(installation.config(), text).expect("it was written before");
}

/// Input of each kind that is delivered, and of each that cannot be.
fn publish(installation: &Installation, round: &str) {
    let good = format!(
        r#"{{"id":"e-{round}","type":"payment.captured","tenant":"acme","card":"{CARD}"}}"#
    );
    installation.publish("orders", &[good]);
    let id = format!("ce_id=b-{round}");
    let note = format!("ce_note={EXTENSION}");
    let binary = [
        "ce_specversion=1.0",
        "ce_source=/till",
        "ce_tenant=acme",
        &*id,
        &*note,
    ];
    let data = format!("{CARD}\u{0}\u{1}");
    installation.publish_bytes(
        "orders",
        &[&binary[..], &["ce_type=payment.captured"]].concat(),
        data.as_bytes(),
    );
    // no type; no JSON; no text; structured without an id; content of no kind
    installation.publish_bytes("orders", &binary, MALFORMED.as_bytes());
    let structured = ["content-type=application/cloudevents+json"];
    for value in [
        format!(r#"{{"id":"{round}","card":"{CARD}","rest":{MALFORMED}"#),
        format!(r#"{{"id":"{round}","tenant":"acme","card":"{MALFORMED}"}}"#),
        format!(r#"{{"id":["{MALFORMED}"],"type":{{"x":"{CARD}"}},"tenant":"acme"}}"#),
        format!(r#""{MALFORMED}""#),
    ] {
        installation.publish_bytes("orders", &[], value.as_bytes());
        installation.publish_bytes("orders", &structured, value.as_bytes());
    }
    installation.publish_bytes("orders", &[], format!("\u{fe}{MALFORMED}").as_bytes());
    let latin1 = [MALFORMED.as_bytes(), b"\xff"].concat();
    installation.publish_bytes("orders", &[], &latin1);
}

/// Dead letters of one call of [`publish`].
const LETTERS: usize = 11;

fn run_worker(
    watch: &mut Watch,
    installation: &Installation,
    round: &str,
    receiver: &Receiver,
    paths: &[String],
) -> Process {
    let mut worker = installation.worker(&["router", "dispatcher"]);
    wait_until_ready(&mut worker);
    let so_far = installation.read("dead-letters").len();
    publish(installation, round);
    // two events to each of the endpoints; four of them never take one, in two attempts
    for path in paths {
        let before = receiver.requests(path).len();
        receiver.wait_for(path, SOON, |requests| requests.len() >= before.max(2));
    }
    installation.wait_for_dead_letters(SOON, so_far + LETTERS + 2 * 4);
    for (id, code) in [
        ("ep_well", 0),
        ("ep_sick", 1),
        ("ep_tls", 1),
        ("ep_noise", 1),
    ] {
        let data = format!("\"{CARD}\"");
        let answer = installation.postrider(&["endpoint", "test", id, "--data", &data]);
        assert_eq!(answer.code, Some(code), "{answer:?}");
        watch.check(&answer.command.replace(CARD, ""), &answer.stdout, &[]);
        watch.check(&answer.command.replace(CARD, ""), &answer.stderr, &[]);
    }
    worker.terminate();
    assert_eq!(worker.wait(SOON), Some(0), "it stops");
    worker
}

#[test]
fn what_may_not_be_seen_is_seen_nowhere() {
    let mut watch = Watch::new();
    let receiver = Receiver::start();
    let babbler = start_babbler();
    let sections = format!(
        "[kafka.properties]\n\"sasl.password\" = \"{PASSWORD}\"\n\"ssl.key.password\" = \"{PASSWORD}\"\n\
         \"debug\" = \"all\"\n\
         [dispatcher]\nsession = \"15s\"\nheartbeat = \"1s\"\ndefaults.timeout = \"2s\"\n\
         [telemetry]\nlog = \"trace\"\nformat = \"text\"\n"
    );
    let installation = Installation::with(Broker::shared(), 2, &["orders"], &sections);
    let path = |name: &str| format!("/{name}/{PATH}?token={QUERY}");
    let answer = |status: u16| {
        Reply::status(status)
            .header("set-cookie", COOKIE)
            .header("x-trace", COOKIE)
            .body(ANSWER)
    };
    receiver.script(&path("well"), vec![answer(200)]);
    receiver.script(&path("sick"), vec![answer(500)]);
    receiver.script(&path("reset"), vec![Reply::reset()]);
    let tls = receiver.url(&path("tls")).replace("http://", "https://");
    let noise = format!("http://{babbler}{}", path("noise"));
    installation.endpoints(
        &[
            endpoint("ep_well", &receiver.url(&path("well"))),
            endpoint("ep_sick", &receiver.url(&path("sick"))),
            endpoint("ep_reset", &receiver.url(&path("reset"))),
            endpoint("ep_tls", &tls),
            endpoint("ep_noise", &noise),
        ]
        .concat(),
    );
    for value in bad_endpoints() {
        let file = installation.file("bad", value.as_bytes());
        let file = file.to_str().expect("the paths of tests are UTF-8");
        let murmur = "topic.partitioner=murmur2_random";
        installation.produce("endpoints", &["-k", "ep_bad", "-X", murmur, file]);
    }
    // what is no delivery
    let note = format!("ce_note={EXTENSION}");
    for headers in [
        &["pr_v=1", &*note][..],
        &["pr_v=1", "pr_endpoint=ep_well", &*note],
    ] {
        let file = installation.file("record", format!("{MALFORMED}{CARD}").as_bytes());
        let mut arguments: Vec<&str> = headers.iter().flat_map(|h| ["-H", h]).collect();
        let file = file.to_str().expect("the paths of tests are UTF-8");
        arguments.extend([
            "-k",
            "ep_well",
            "-X",
            "topic.partitioner=murmur2_random",
            file,
        ]);
        installation.produce("deliveries", &arguments);
    }

    // what the workers log, with librdkafka's own debugging, in both forms
    let tails = [&["-o", "json"][..], &["-o", "table"]].map(|form| {
        let mut tail = installation.background(&[&["attempt", "tail"], form].concat());
        if form == ["-o", "table"] {
            tail.wait_for_log(SOON, "waiting for attempts");
        }
        tail
    });
    let paths = ["well", "sick"].map(path);
    let worker = run_worker(&mut watch, &installation, "text", &receiver, &paths);
    watch.check("the log as text", &worker.log(), &[]);
    assert!(
        worker.log().contains("TRACE") || worker.log().contains("DEBUG"),
        "it says much"
    );
    log_as(&installation, "json", "text");
    let worker = run_worker(&mut watch, &installation, "json", &receiver, &paths);
    watch.check("the log as JSON", &worker.log(), &[]);
    for mut tail in tails {
        tail.wait_for_log(SOON, "ep_well");
        let log = tail.log();
        let json = log.contains('{');
        watch.check("attempt tail", &log, if json { &OF_ATTEMPTS } else { &[] });
    }

    // what it wrote
    for (topic, allowed) in [
        ("attempts", &OF_ATTEMPTS[..]),
        ("deliveries", &OF_DELIVERIES),
        ("dead-letters", &OF_DELIVERIES),
        ("backlog", &OF_DELIVERIES),
        ("endpoint-state", &[]),
    ] {
        let text = all(&installation, topic);
        watch.check(topic, &text, allowed);
        if matches!(topic, "attempts" | "dead-letters") {
            watch.expect(topic, &text, allowed);
        }
    }
    watch.check(
        "words of dead letters",
        &words_of_letters(&installation),
        &[],
    );

    // what commands say
    let mut said = |arguments: &[&str], allowed: &[&str], code: i32| {
        for form in ["table", "json", "yaml"] {
            let answer = installation.postrider(&[arguments, &["-o", form]].concat());
            assert_eq!(answer.code, Some(code), "{answer:?}");
            watch.check(&answer.command, &answer.stdout, allowed);
            watch.check(&answer.command, &answer.stderr, &[]);
        }
    };
    said(&["config", "show"], &[], 0);
    said(&["config", "check"], &[], 0);
    said(&["endpoint", "list"], &OF_ENDPOINTS, 0);
    said(
        &["endpoint", "get", "ep_well"],
        &[&OF_ENDPOINTS[..], &["malformed input"]].concat(),
        0,
    );
    said(&["dead-letter", "list"], &[], 0);
    said(&["topics", "plan"], &[], 0);
    for file in bad_files() {
        let path = installation.file("endpoints.yaml", file.as_bytes());
        let path = path.to_str().expect("the paths of tests are UTF-8");
        said(&["endpoint", "apply", "-f", path], &[], 64);
    }
    let body = installation.file("body", CARD.as_bytes());
    let body = body.to_str().expect("the paths of tests are UTF-8");
    let secret = installation.file("secret", SIGNING.as_bytes());
    let secret = format!("@{}", secret.display());
    let headers = installation.file("headers", format!("webhook-id {HEADER}\n").as_bytes());
    let headers = format!("@{}", headers.display());
    let bad_secret = format!("{SIGNING}!");
    said(
        &["sign", "--secret", &bad_secret, "--id", "m", "--body", body],
        &[],
        64,
    );
    said(
        &[
            "sign",
            "--scheme",
            "rfc9421",
            "--url",
            &format!("https://{PATH}@:x?{QUERY}"),
            "--secret",
            &secret,
            "--id",
            "m",
            "--body",
            body,
        ],
        &[],
        64,
    );
    said(
        &[
            "verify",
            "--secret",
            SECRET_BYTES,
            "--header",
            "webhook-id: m",
            "--body",
            body,
        ],
        &[],
        64,
    );
    said(
        &[
            "verify", "--secret", &secret, "--header", &headers, "--body", body,
        ],
        &[],
        64,
    );
    said(
        &[
            "verify",
            "--secret",
            &secret,
            "--header",
            &format!("webhook-signature: {HEADER}"),
            "--body",
            body,
        ],
        &[],
        1,
    );
    said(
        &[
            "verify",
            "--secret",
            SECRET,
            "--header",
            "webhook-id: m",
            "--header",
            "webhook-timestamp: 1",
            "--header",
            &format!("webhook-signature: v1,{HEADER}"),
            "--body",
            body,
        ],
        &[],
        1,
    );

    assert!(watch.seen.is_empty(), "{:#?}", watch.seen);
}
