//! What merchants get, by the format of their endpoint, and what becomes of an event that it cannot
//! be made of.

use postrider_e2e::Installation;
use postrider_test_support::{Broker, Receiver};

use crate::{SOON, endpoint, wait_until_ready};

#[test]
fn every_endpoint_gets_its_format_or_a_dead_letter_says_why() {
    let receiver = Receiver::start();
    let installation = Installation::new(Broker::shared(), 2, &["orders"]);
    let template = "format: template\ntemplate: '{\"total\": {{ data.amount | money(\"EUR\") }}}'";
    installation.endpoints(
        &[
            endpoint("ep_raw", "acme", &receiver.url("/raw"), ""),
            endpoint("ep_template", "acme", &receiver.url("/template"), template),
            endpoint(
                "ep_binary",
                "acme",
                &receiver.url("/binary"),
                "format: cloudevents-binary",
            ),
            endpoint("ep_form", "acme", &receiver.url("/form"), "format: form"),
        ]
        .concat(),
    );
    let mut worker = installation.worker(&["router", "dispatcher"]);
    wait_until_ready(&mut worker);
    let headers = |id| {
        [
            "ce_specversion=1.0",
            "ce_source=/till",
            "ce_type=a.b",
            "ce_tenant=acme",
            "content-type=application/json",
            id,
        ]
    };
    let body = br#"{"amount":1050,"note":"a b"}"#;
    installation.publish_bytes("orders", &headers("ce_id=e-1"), body);
    for (path, expected) in [
        ("/raw", &body[..]),
        ("/template", br#"{"total": "10.50"}"#),
        ("/binary", body),
        ("/form", b"amount=1050&note=a+b"),
    ] {
        let arrived = receiver.wait_for(path, SOON, |requests| !requests.is_empty());
        assert_eq!(arrived[0].body, expected, "{path}");
        assert_eq!(arrived[0].header("ce-id").is_some(), path == "/binary");
    }

    installation.publish_bytes("orders", &headers("ce_id=e-2"), b"[1]");
    let letters = installation.wait_for_dead_letters(SOON, 2);
    let mut ended: Vec<(&str, &str)> = letters
        .iter()
        .map(|letter| (letter.header("pr_endpoint"), letter.header("pr_reason")))
        .collect();
    ended.sort_unstable();
    assert_eq!(
        ended,
        [("ep_form", "unrenderable"), ("ep_template", "unrenderable")]
    );
    assert_eq!(
        letters[0].value.as_deref(),
        Some(&b"[1]"[..]),
        "byte for byte"
    );
    let attempts = installation.wait_for_attempts(SOON, |got| got.len() == 8);
    let of_form = |a: &&postrider_e2e::Attempt| a.endpoint_id == "ep_form";
    let last = attempts
        .iter()
        .filter(of_form)
        .find(|a| a.outcome != "delivered");
    let last = last.expect("it has a record");
    assert_eq!((last.attempt, &*last.outcome), (1, "dead_lettered"));
    assert_eq!(last.reason.as_deref(), Some("unrenderable"));
    assert_eq!(receiver.requests("/form").len(), 1, "nothing was sent");
}

#[test]
fn a_template_with_mistakes_is_refused_before_it_is_used() {
    let installation = Installation::new(Broker::shared(), 2, &["orders"]);
    let template = "format: template\ntemplate: '{{ data.id | shout }}'";
    let file = endpoint("ep_acme", "acme", "https://acme.example/", template);
    let file = installation.file("endpoints.yaml", file.as_bytes());
    let file = file.to_str().expect("the paths of tests are UTF-8");
    installation
        .postrider(&["endpoint", "apply", "-f", file])
        .expect_refusal(64, &["template: line 1: there is no filter \"shout\""]);
}
