//! `endpoint test`: one signed request, and a word about how it ended.

use std::time::Duration;

use postrider_e2e::{Installation, SECRET};
use postrider_test_support::{Broker, Receiver, Reply, Verifier};

use crate::{SOON, endpoint, event, wait_until_ready};

#[test]
fn a_test_is_sent_once_and_its_end_is_told() {
    let verifier = Verifier::start(SECRET, &["--always", "/sick=503"]);
    let receiver = Receiver::start();
    receiver.script("/slow", vec![Reply::never()]);
    receiver.script("/cut", vec![Reply::reset()]);
    let installation = Installation::new(Broker::shared(), 2, &["orders"]);
    let retry = "retry: { schedule: [1s, 1s], window: 1h, jitter: 0 }";
    let closed = "http://127.0.0.1:1/hooks";
    installation.endpoints(
        &[
            // its deliveries have an order, and it wants no such events
            endpoint(
                "ep_well",
                "acme",
                &verifier.url("/well"),
                "types: [a.b]\nordering: endpoint",
            ),
            endpoint("ep_sick", "acme", &verifier.url("/sick"), retry),
            endpoint("ep_slow", "acme", &receiver.url("/slow"), "timeout: 1s"),
            endpoint("ep_cut", "acme", &receiver.url("/cut"), retry),
            endpoint("ep_closed", "acme", closed, retry),
            endpoint(
                "ep_paused",
                "acme",
                &receiver.url("/paused"),
                "state: paused",
            ),
        ]
        .concat(),
    );
    let test = |id: &str, more: &[&str]| {
        installation.postrider(&[&["endpoint", "test", id], more].concat())
    };
    let dry = test("ep_well", &["--dry-run"]).expect_done();
    assert!(dry.starts_with("would send"), "{dry}");
    assert_eq!(installation.read("deliveries"), []);
    test("ep_paused", &[]).expect_refusal(1, &["ep_paused is paused"]);
    test("ep_none", &[]).expect_refusal(1, &["there is no endpoint ep_none"]);

    let mut worker = installation.worker(&["router", "dispatcher"]);
    wait_until_ready(&mut worker);
    let said = test("ep_well", &[]).expect_done();
    assert!(
        said.starts_with("ep_well: delivered (status 200) in "),
        "{said}"
    );
    let again = test("ep_well", &[]);
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(again.stdout.contains("less than 10 s ago"), "{again:?}");

    let own = [
        "--type",
        "order.paid",
        "--data",
        r#"{"total":12}"#,
        "-o",
        "json",
    ];
    let sick = test("ep_sick", &own);
    assert_eq!(sick.code, Some(1), "{sick:?}");
    for part in [r#""outcome":"refused""#, r#""status":503"#] {
        assert!(sick.stdout.contains(part), "{sick:?}");
    }
    for (id, words) in [
        ("ep_slow", "timed out"),
        ("ep_cut", "not reachable"),
        ("ep_closed", "not reachable"),
    ] {
        let answer = test(id, &[]);
        assert_eq!(answer.code, Some(1), "{answer:?}");
        assert_eq!(answer.stdout, format!("{id}: {words}\n"));
        let told = format!("{}{}", answer.stdout, answer.stderr);
        assert!(
            !told.contains("127.0.0.1") && !told.contains("efused"),
            "{told}"
        );
    }

    // an event behind them is delivered, and nothing of the tests was tried again before it
    installation.publish("orders", &[event("e-1", "acme")]);
    let attempts = installation.wait_for_attempts(SOON, |attempts| {
        let of = attempts
            .iter()
            .filter(|a| a.event.id == "e-1" && a.endpoint_id == "ep_sick");
        of.count() == 3
    });
    let tests = attempts.iter().filter(|a| a.event.id.starts_with("test_"));
    let mut tests: Vec<_> = tests
        .map(|a| (&*a.endpoint_id, a.attempt, &*a.outcome, a.reason.as_deref()))
        .collect();
    tests.sort_unstable();
    let failed = |id| (id, 1, "discarded", Some("test_failed"));
    let expected = [
        failed("ep_closed"),
        failed("ep_cut"),
        failed("ep_sick"),
        failed("ep_slow"),
        ("ep_well", 0, "discarded", Some("test_too_soon")),
        ("ep_well", 1, "delivered", None),
    ];
    assert_eq!(tests, expected);
    let letters = installation.read("dead-letters");
    let test_letters = letters.iter().filter(|letter| {
        let mut headers = letter.headers.iter();
        headers.any(|(name, value)| name == "ce_id" && value.starts_with("test_"))
    });
    assert_eq!(test_letters.count(), 0);
    let receipts = verifier.receipts();
    let to = |path| receipts.iter().filter(|r| r.path == path).count();
    assert_eq!(
        (to("/well"), to("/sick")),
        (1, 1 + 3),
        "each of them verified"
    );
}

#[test]
fn a_test_that_nobody_sends_ends_with_69() {
    let installation = Installation::new(Broker::shared(), 2, &["orders"]);
    let url = "https://shop.example/in";
    installation.endpoints(&endpoint("ep_one", "acme", url, "timeout: 1s"));
    let answer = installation.postrider(&["endpoint", "test", "ep_one"]);
    assert!(answer.took > Duration::from_secs(60), "{answer:?}");
    answer.expect_refusal(69, &["no dispatcher sent the test within 61s", "slice"]);
}
