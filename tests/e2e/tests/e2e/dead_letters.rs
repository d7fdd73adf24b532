//! What is given up, and what could not be read, is on `dead-letters` with its reason.

use postrider_e2e::{DeadLetter, Installation, SECRET};
use postrider_test_support::{Broker, Receiver, Verifier};

use crate::{SOON, endpoint, event, wait_until_ready};

#[test]
fn a_dead_endpoint_ends_in_dead_letters_with_the_reason() {
    let verifier = Verifier::start(SECRET, &["--always", "/dead=503"]);
    let installation = Installation::new(Broker::shared(), 2, &["orders"]);
    let retry = "retry: { schedule: [1s, 1s], window: 1h, jitter: 0 }";
    installation.endpoints(
        &[
            endpoint("ep_dead", "acme", &verifier.url("/dead"), retry),
            endpoint("ep_healthy", "acme", &verifier.url("/healthy"), retry),
        ]
        .concat(),
    );
    let mut worker = installation.worker(&["router", "dispatcher"]);
    wait_until_ready(&mut worker);
    let body = event("e-1", "acme");
    installation.publish("orders", std::slice::from_ref(&body));

    let letters = installation.wait_for_dead_letters(SOON, 1);
    let [letter] = &letters[..] else {
        panic!("{letters:?}");
    };
    assert_eq!(letter.key.as_deref(), Some("ep_dead"));
    assert_eq!(letter.value.as_deref(), Some(body.as_bytes()));
    let header = |name| letter.header(name);
    assert_eq!(header("pr_reason"), "attempts_exhausted");
    assert_eq!(header("pr_attempts"), "3");
    assert_eq!(header("pr_last_status"), "503");
    assert_eq!(header("pr_endpoint"), "ep_dead");
    assert_eq!(header("ce_id"), "e-1");
    let origin = format!("{}/", installation.topic("deliveries"));
    assert!(header("pr_origin").starts_with(&origin), "{letter:?}");

    let attempts = installation.wait_for_attempts(SOON, |got| got.len() >= 4);
    let mut dead: Vec<_> = attempts
        .iter()
        .filter(|a| a.endpoint_id == "ep_dead")
        .collect();
    dead.sort_by_key(|attempt| attempt.attempt);
    let told: Vec<_> = dead
        .iter()
        .map(|a| (a.attempt, &*a.outcome, a.reason.as_deref()))
        .collect();
    let last = (3, "dead_lettered", Some("attempts_exhausted"));
    assert_eq!(told, [(1, "retry", None), (2, "retry", None), last]);
    let id = dead[0].delivery_id.as_str();
    assert_eq!(header("pr_delivery"), id);

    let receipts = verifier.receipts();
    let to = |path| receipts.iter().filter(|r| r.path == path).count();
    assert_eq!((to("/dead"), to("/healthy")), (3, 1));
}

#[test]
fn an_undecodable_event_is_dead_lettered_byte_exact() {
    let receiver = Receiver::start();
    let installation = Installation::new(Broker::shared(), 2, &["orders"]);
    installation.endpoints(&endpoint("ep_acme", "acme", &receiver.url("/in"), ""));
    let mut worker = installation.worker(&["router", "dispatcher"]);
    wait_until_ready(&mut worker);

    let garbage: Vec<u8> = (0..=255).cycle().skip(128).take(1_000).collect();
    let oversized = oversized();
    let latin1 = b"{\"id\":\"e-l\",\"type\":\"a.b\",\"tenant\":\"acme\",\"name\":\"J\xfcrgen\"}";
    let unmappable = br#"{"id":"e-u","tenant":"acme"}"#;
    installation.publish_bytes("orders", &[], &garbage);
    installation.publish_bytes("orders", &[], latin1);
    installation.publish_bytes("orders", &[], unmappable);
    installation.publish_bytes("orders", &[], &oversized);
    let keyed = installation.file("keyed", b"some-key:\n");
    let keyed = keyed.to_str().expect("the paths of tests are UTF-8");
    installation.produce("orders", &["-K:", "-l", keyed]);
    installation.produce("orders", &["-Z", "-K:", "-l", keyed]);
    installation.publish("orders", &[event("e-fine", "acme")]);

    let letters = installation.wait_for_dead_letters(SOON, 6);
    assert_eq!(letters.len(), 6, "{letters:?}");
    let reason = |value: Option<&[u8]>| {
        let same = |letter: &&DeadLetter| letter.value.as_deref() == value;
        let letter = letters.iter().find(same).expect("byte-exact");
        assert_eq!(letter.key, None, "{letter:?}");
        let origin = format!("{}/", installation.topic("orders"));
        assert!(
            letter.header("pr_origin").starts_with(&origin),
            "{letter:?}"
        );
        letter.header("pr_reason").to_owned()
    };
    assert_eq!(reason(Some(&garbage)), "undecodable");
    assert_eq!(reason(Some(latin1)), "undecodable");
    assert_eq!(reason(Some(unmappable)), "unmappable");
    assert_eq!(reason(Some(&oversized)), "oversized");
    assert_eq!(reason(Some(b"")), "undecodable");
    assert_eq!(reason(None), "undecodable");

    let arrived = receiver.wait_for("/in", SOON, |requests| !requests.is_empty());
    assert_eq!(arrived.len(), 1, "the others flow on, and only they");
    assert_eq!(arrived[0].body, event("e-fine", "acme"));
}

/// A whole event, but of 2 MiB.
fn oversized() -> Vec<u8> {
    let filler = "x".repeat(2 << 20);
    let text = format!(r#"{{"id":"e-o","type":"a.b","tenant":"acme","filler":"{filler}"}}"#);
    text.into_bytes()
}

#[test]
fn payloads_that_are_no_text_are_delivered_byte_exact() {
    let receiver = Receiver::start();
    let installation = Installation::new(Broker::shared(), 2, &["orders"]);
    installation.endpoints(&endpoint("ep_acme", "acme", &receiver.url("/in"), ""));
    let mut worker = installation.worker(&["router", "dispatcher"]);
    wait_until_ready(&mut worker);

    let bytes: Vec<u8> = (0..=255).collect();
    let headers = |id| {
        [
            "ce_specversion=1.0",
            "ce_source=/till",
            "ce_type=a.b",
            "ce_tenant=acme",
            id,
        ]
    };
    let binary = headers("ce_id=e-binary");
    installation.publish_bytes("orders", &binary, &bytes);
    let nothing = installation.file("nothing", b"key:\n");
    let nothing = nothing.to_str().expect("the paths of tests are UTF-8");
    for (id, more) in [("ce_id=e-empty", None), ("ce_id=e-null", Some("-Z"))] {
        let mut arguments: Vec<&str> = headers(id).into_iter().flat_map(|h| ["-H", h]).collect();
        arguments.extend(more);
        arguments.extend(["-K:", "-l", nothing]);
        installation.produce("orders", &arguments);
    }

    let mut arrived = receiver.wait_for("/in", SOON, |requests| requests.len() >= 3);
    arrived.sort_by_key(|request| request.body.len());
    let bodies: Vec<&[u8]> = arrived.iter().map(|request| &*request.body).collect();
    assert_eq!(bodies, [b"".as_slice(), b"", &bytes]);
    assert_eq!(installation.read("dead-letters"), []);
}
