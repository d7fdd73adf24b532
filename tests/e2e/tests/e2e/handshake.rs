//! A receiver that does not agree gets no deliveries: its endpoint is not written.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use postrider_e2e::{Installation, SECRET, text};
use postrider_test_support::{Broker, Receiver, Reply};

use crate::{SOON, endpoint, event, wait_until_ready};

const ORIGIN: &str = "hooks.psp.example";

fn installation(registration: &str) -> Installation {
    let sections = format!(
        "[dispatcher]\nsession = \"15s\"\nheartbeat = \"1s\"\ndefaults.timeout = \"2s\"\n\
         [registration]\n{registration}\n"
    );
    Installation::with(Broker::shared(), 2, &["orders"], &sections)
}

/// The change of each endpoint, in the order of the file.
fn changes(stdout: &str) -> Vec<(String, String)> {
    let rows: serde_json::Value = serde_json::from_str(stdout).expect("JSON");
    let field =
        |row: &serde_json::Value, name: &str| row[name].as_str().expect("a text").to_owned();
    let rows = rows.as_array().expect("a list").iter();
    rows.map(|row| (field(row, "endpoint"), field(row, "change")))
        .collect()
}

#[test]
fn consent_by_cloudevents_is_asked_for_once_and_kept_to() {
    let installation = installation(&format!(
        "handshake = \"cloudevents\"\norigin = \"{ORIGIN}\""
    ));
    let receiver = Receiver::start();
    let allowed =
        |status, origin: &str| Reply::status(status).header("WebHook-Allowed-Origin", origin);
    let limited = allowed(200, ORIGIN).header("WebHook-Allowed-Rate", "90");
    receiver.script("/limited?v=1", vec![limited.clone()]);
    receiver.script("/limited?v=2", vec![limited]);
    receiver.script("/any", vec![allowed(405, "*")]);
    receiver.script("/moved", vec![allowed(200, "*")]);
    receiver.script("/other", vec![allowed(200, "someone.example")]);
    let file = |any: &str, version: u32| {
        let documents = [
            endpoint(
                "ep_limited",
                "acme",
                &receiver.url(&format!("/limited?v={version}")),
                "",
            ),
            endpoint("ep_any", "acme", &receiver.url(any), ""),
            endpoint("ep_other", "acme", &receiver.url("/other"), ""),
            endpoint("ep_silent", "acme", &receiver.url("/silent"), ""),
            endpoint("ep_closed", "acme", "http://127.0.0.1:1/in", ""),
        ];
        installation.file("endpoints.yaml", documents.concat().as_bytes())
    };
    let apply = |path: &std::path::Path, more: &[&str]| {
        let first = ["endpoint", "apply", "-o", "json", "-f", text(path)];
        installation.postrider(&[&first, more].concat())
    };
    let first = file("/any", 1);
    apply(&first, &["--dry-run"]).expect_done();
    assert_eq!(receiver.all_requests().len(), 0, "nothing is sent");

    let answer = apply(&first, &[]);
    let told = changes(&answer.stdout);
    let told: Vec<(&str, &str)> = told.iter().map(|(id, c)| (&**id, &**c)).collect();
    let expected = [
        ("ep_limited", "created"),
        ("ep_any", "created"),
        ("ep_other", "refused"),
        ("ep_silent", "refused"),
        ("ep_closed", "refused"),
    ];
    assert_eq!(told, expected);
    let said = answer.expect_refusal(
        1,
        &[
            "3 of 5 endpoints refused",
            "ep_other is not written: its answer has no header WebHook-Allowed-Origin",
            "ep_closed is not written: its receiver did not answer: not reachable\n",
            "allows 90 requests a minute: its rate_limit is 90 per 1m",
        ],
    );
    assert!(!said.contains("127.0.0.1"), "{said}");
    let asked = receiver.requests("/any");
    let [asked] = &asked[..] else {
        panic!("{asked:?}");
    };
    assert_eq!(asked.method, "OPTIONS");
    assert_eq!(asked.header("webhook-request-origin"), Some(ORIGIN));
    assert_eq!(asked.header("webhook-signature"), None);

    // once, unless the place moves; the limit of the receiver stays
    let answer = apply(&first, &[]);
    assert_eq!(
        changes(&answer.stdout)[..2],
        [
            ("ep_limited".to_owned(), "unchanged".to_owned()),
            ("ep_any".to_owned(), "unchanged".to_owned()),
        ]
    );
    assert_eq!(receiver.requests("/any").len(), 1);
    apply(&file("/moved", 2), &[]);
    assert_eq!(receiver.requests("/moved").len(), 1);
    let shown = installation.postrider(&["endpoint", "get", "ep_limited", "-o", "json"]);
    let shown: serde_json::Value = serde_json::from_str(&shown.expect_done()).expect("JSON");
    assert_eq!(shown["rate_limit"]["attempts"], 90);
    assert_eq!(shown["rate_limit"]["per"], "1m");

    let mut worker = installation.worker(&["router", "dispatcher"]);
    wait_until_ready(&mut worker);
    installation.publish("orders", &[event("e-1", "acme")]);
    let arrived = receiver.wait_for("/moved", SOON, |requests| requests.len() == 2);
    assert_eq!(arrived[1].method, "POST");
    assert_eq!(arrived[1].header("webhook-request-origin"), Some(ORIGIN));
    receiver.wait_for("/limited?v=2", SOON, |requests| {
        requests.iter().any(|request| request.method == "POST")
    });
    let mut posts = receiver.all_requests();
    posts.retain(|request| request.method == "POST");
    assert_eq!(posts.len(), 2, "to those that agreed");
}

/// A request as it came: its head's lines and its body.
type Seen = Arc<Mutex<Vec<(Vec<String>, String)>>>;

/// Sends the challenge of a request back, with `around` on both sides.
fn start_echo(around: &'static str, seen: &Seen) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let seen = Arc::clone(seen);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            drop(echo(stream, around, &seen));
        }
    });
    address
}

fn echo(stream: TcpStream, around: &str, seen: &Seen) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    let length = head
        .iter()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.and_then(|n| n.parse().ok()).unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let body = String::from_utf8_lossy(&body).into_owned();
    let value: serde_json::Value = serde_json::from_str(&body)?;
    let challenge = value["challenge"].as_str().unwrap_or_default();
    let answer = format!("{around}{challenge}{around}");
    seen.lock().expect("nobody panicked").push((head, body));
    let length = answer.len();
    write!(
        reader.get_mut(),
        "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{answer}"
    )
}

#[test]
fn a_challenge_is_signed_and_has_to_come_back() {
    let installation = installation("handshake = \"challenge\"");
    let seen = Seen::default();
    let (right, wrong) = (start_echo("\n", &seen), start_echo("x", &Seen::default()));
    let file = [
        endpoint(
            "ep_right",
            "acme",
            &format!("http://{right}/in"),
            "headers: { x-pass: abc }",
        ),
        endpoint("ep_wrong", "acme", &format!("http://{wrong}/in"), ""),
    ];
    let file = installation.file("endpoints.yaml", file.concat().as_bytes());
    let answer = installation.postrider(&["endpoint", "apply", "-o", "json", "-f", text(&file)]);
    let told = changes(&answer.stdout);
    let told: Vec<(&str, &str)> = told.iter().map(|(id, c)| (&**id, &**c)).collect();
    assert_eq!(told, [("ep_right", "created"), ("ep_wrong", "refused")]);
    answer.expect_refusal(
        1,
        &["ep_wrong is not written: its answer's body is not the challenge"],
    );

    let seen = seen.lock().expect("nobody panicked").clone();
    let [(head, body)] = &seen[..] else {
        panic!("{seen:?}");
    };
    assert!(head.contains(&"x-pass: abc".to_owned()), "{head:?}");
    assert!(body.contains("postrider.challenge"), "{body}");
    let headers = installation.file("headers", head[1..].join("\n").as_bytes());
    let body = installation.file("body", body.as_bytes());
    let headers = format!("@{}", headers.display());
    let verify = [
        "verify",
        "--secret",
        SECRET,
        "--header",
        &headers,
        "--body",
        text(&body),
    ];
    installation.postrider(&verify).expect_done();
}
