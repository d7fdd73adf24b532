//! Facts about sealed secrets in files and records.

use serde_json::{Value, json};

use super::*;

const TEXT: &str = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";

/// A ring of these keys.
pub(super) fn keys(ids: &[&str]) -> KeyRing {
    let line = |id: &&str| {
        let byte = id.bytes().last().unwrap();
        let key = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, [byte; 32]);
        format!("{id} = {key}\n")
    };
    let text: String = ids.iter().map(line).collect();
    KeyRing::parse(text.as_bytes()).unwrap()
}

pub(super) fn under(keys: &KeyRing) -> Sealing<'_> {
    Sealing::new(keys, Nonces::new([5; NONCE_BYTES]))
}

fn endpoint() -> Endpoint {
    let yaml = format!(
        "id: a\ntenant: acme\nurl: https://a.example/\nsigning: {{secrets: [{{id: s2, value: {SECRET}}}, \
         {{id: s1, value: {SECRET}, not_after: 2026-12-01T00:00:00Z}}]}}"
    );
    parse(&yaml).unwrap().remove(0)
}

fn record(ids: &[&str]) -> Vec<u8> {
    let keys = keys(ids);
    super::super::to_record(&endpoint(), Timestamp::from_secs(1), under(&keys))
}

fn read(value: &[u8], keys: &KeyRing) -> Recorded {
    super::super::from_record(b"a", value, keys).unwrap()
}

fn json_of(value: &[u8]) -> Value {
    serde_json::from_slice(value).unwrap()
}

#[test]
fn a_record_holds_no_secret_in_the_open() {
    let record = record(&["k1"]);
    let text = std::str::from_utf8(&record).unwrap();
    assert!(
        !text.contains(&TEXT[..16]) && !text.contains("whsec_"),
        "{text}"
    );
    let secrets = &json_of(&record)["signing"]["secrets"];
    assert_ne!(
        secrets[0]["sealed"], secrets[1]["sealed"],
        "each with a nonce of its own"
    );
    let opened = read(&record, &keys(&["k2", "k1"]));
    assert_eq!((opened.endpoint, opened.unopened), (endpoint(), Vec::new()));
}

#[test]
fn an_endpoint_that_cannot_be_opened_waits() {
    for (ring, why) in [
        (KeyRing::default(), "name the key file as secrets.key_file"),
        (keys(&["k2"]), "under key k1, which is not in the key file"),
    ] {
        let recorded = read(&record(&["k1"]), &ring);
        assert_eq!(recorded.endpoint.state, EndpointState::Active);
        let (waiting, unopened) = recorded.to_send();
        assert_eq!(waiting.state, EndpointState::Paused);
        assert_eq!(waiting.signing.secrets.len(), 0);
        assert_eq!(unopened.len(), 2);
        assert_eq!(unopened[0].path, "signing.secrets[0].sealed");
        assert!(unopened[0].why.contains(why), "{}", unopened[0]);
    }
    let (opened, _) = read(&record(&["k1"]), &keys(&["k1"])).to_send();
    assert_eq!(opened.state, EndpointState::Active);
}

#[test]
fn one_secret_that_cannot_be_opened_is_enough() {
    let mut value = json_of(&record(&["k1"]));
    value["signing"]["secrets"][1]["sealed"] = json!("v1.k9.AAAA");
    let recorded = read(value.to_string().as_bytes(), &keys(&["k1"]));
    assert_eq!(recorded.endpoint.signing.secrets.len(), 1);
    assert_eq!(recorded.to_send().0.state, EndpointState::Paused);
    value["state"] = json!("disabled");
    let disabled = read(value.to_string().as_bytes(), &keys(&["k1"]));
    assert_eq!(disabled.to_send().0.state, EndpointState::Disabled);
}

#[test]
fn a_sealed_secret_opens_at_its_place_alone() {
    let original = json_of(&record(&["k1"]));
    let keys = keys(&["k1"]);
    let unopened = |change: &dyn Fn(&mut Value)| {
        let mut value = original.clone();
        change(&mut value);
        let key = value["id"].as_str().unwrap().to_owned();
        let value = value.to_string();
        let read = super::super::from_record(key.as_bytes(), value.as_bytes(), &keys).unwrap();
        read.unopened.len()
    };
    assert_eq!(unopened(&|_| {}), 0);
    assert_eq!(unopened(&|value| value["id"] = json!("b")), 2);
    assert_eq!(unopened(&|value| value["tenant"] = json!("other")), 2);
    assert_eq!(
        unopened(&|value| drop(value.as_object_mut().unwrap().remove("tenant"))),
        2
    );
    let secret = |value: &mut Value, n: usize| value["signing"]["secrets"][n]["sealed"].take();
    let swap = |value: &mut Value| {
        let (first, second) = (secret(value, 0), secret(value, 1));
        value["signing"]["secrets"][0]["sealed"] = second;
        value["signing"]["secrets"][1]["sealed"] = first;
    };
    assert_eq!(unopened(&swap), 2);
    // its place in the list is not what it is bound to
    let turn = |value: &mut Value| {
        value["signing"]["secrets"]
            .as_array_mut()
            .unwrap()
            .reverse()
    };
    assert_eq!(unopened(&turn), 0);
}

#[test]
fn what_opens_to_no_key_of_the_scheme_waits_too() {
    let mut value = json_of(&record(&["k1"]));
    value["signing"]["scheme"] = json!("standard-ed25519");
    let recorded = read(value.to_string().as_bytes(), &keys(&["k1"]));
    let why = &recorded.unopened[0].why;
    assert!(why.starts_with("opens, but not to a key: "), "{why}");
    assert!(!why.contains(&TEXT[..8]), "{why}");
    assert_eq!(recorded.to_send().0.state, EndpointState::Paused);
}

#[test]
fn a_file_may_hold_sealed_secrets_that_open() {
    let file = record(&["k1"]);
    let parsed = |ring: &KeyRing| {
        super::super::parse_file(&file, FileFormat::Json, &Policy::default(), ring)
    };
    assert_eq!(parsed(&keys(&["k1"])), Ok(vec![endpoint()]));
    let errors = parsed(&KeyRing::default()).unwrap_err();
    let expected = "document 1: signing.secrets[0].sealed: is sealed under key k1, and no keys are \
                    given";
    assert!(errors[0].to_string().starts_with(expected), "{}", errors[0]);
    assert_eq!(errors.len(), 2);
}

#[test]
fn a_secret_is_given_once() {
    assert_one(
        &format!("signing: {{secrets: [{{id: s1, value: {SECRET}, sealed: v1.k1.AAAA}}]}}"),
        "signing.secrets[0]: is either in the open or sealed, not both",
    );
    assert_one(
        "signing: {secrets: [{id: s1, sealed: whsec_c2VjcmV0c2VjcmV0}]}",
        "signing.secrets[0].sealed: is not of the form v1.KEY.…",
    );
}

#[test]
fn a_change_of_state_keeps_what_it_cannot_open() {
    let (value, paused, none) = (record(&["k1"]), EndpointState::Paused, KeyRing::default());
    let changed = with_state(&value, paused, 9, Timestamp::from_secs(2), under(&none)).unwrap();
    let (before, after) = (json_of(&value), json_of(&changed));
    assert_eq!(after["signing"], before["signing"]);
    assert_eq!(
        (&after["state"], &after["version"]),
        (&json!("paused"), &json!(9))
    );
    let read = read(&changed, &keys(&["k1"]));
    let expected = Endpoint {
        state: paused,
        version: 9,
        ..endpoint()
    };
    assert_eq!((read.endpoint, read.unopened.len()), (expected, 0));
}

#[test]
fn a_change_of_state_seals_what_lies_open() {
    let open = to_record(&endpoint(), Timestamp::default());
    let (state, keys) = (EndpointState::Active, keys(&["k1"]));
    let changed = with_state(&open, state, 0, Timestamp::default(), under(&keys)).unwrap();
    assert!(
        !String::from_utf8(changed.clone())
            .unwrap()
            .contains("whsec_")
    );
    assert_eq!(read(&changed, &keys).endpoint, endpoint());
}

#[test]
fn what_lies_open_is_sealed_and_what_is_stale_sealed_again() {
    let open = to_record(&endpoint(), Timestamp::default());
    let both = keys(&["k2", "k1"]);
    let again = |value: &[u8], which, keys: &KeyRing| {
        let done = reseal(value, which, Timestamp::default(), under(keys)).unwrap();
        assert_eq!(done.unopened, []);
        assert_eq!(done.value.is_some(), done.sealed > 0);
        (done.sealed, done.value.unwrap_or_else(|| value.to_vec()))
    };
    let (sealed, first) = again(&open, Reseal::Open, &keys(&["k1"]));
    assert_eq!(sealed, 2);
    assert_eq!(again(&first, Reseal::Open, &both).0, 0, "it is sealed");
    let (sealed, second) = again(&first, Reseal::Stale, &both);
    assert_eq!(sealed, 2);
    assert_eq!(
        again(&second, Reseal::Stale, &both).0,
        0,
        "a second time nothing is left"
    );
    assert_eq!(read(&second, &keys(&["k2"])).endpoint, endpoint());
    assert_eq!(again(&open, Reseal::Stale, &both).0, 2);
    assert_eq!(
        again(&open, Reseal::Stale, &KeyRing::default()).0,
        0,
        "there is no key"
    );
}

#[test]
fn what_only_a_newer_version_knows_stays() {
    let mut value = json_of(&to_record(&endpoint(), Timestamp::default()));
    value["of_the_future"] = json!({ "a": [1] });
    value["signing"]["x"] = json!(1);
    value["signing"]["secrets"][0]["hint"] = json!("h");
    let text = value.to_string();
    let (keys, at) = (keys(&["k1"]), Timestamp::default());
    let sealed = reseal(text.as_bytes(), Reseal::Open, at, under(&keys)).unwrap();
    let state = EndpointState::Paused;
    let paused = with_state(text.as_bytes(), state, 1, at, under(&keys)).unwrap();
    for written in [sealed.value.unwrap(), paused] {
        let written = json_of(&written);
        assert!(!written.to_string().contains("whsec_"), "{written}");
        assert_eq!(written["of_the_future"], value["of_the_future"]);
        assert_eq!(written["signing"]["x"], 1);
        let secret = &written["signing"]["secrets"][0];
        assert_eq!(
            (&secret["hint"], &secret["value"]),
            (&json!("h"), &Value::Null)
        );
    }
}

#[test]
fn what_cannot_be_opened_stays_as_it_is() {
    let mut value = json_of(&record(&["k1"]));
    value["signing"]["secrets"][1]["sealed"] = json!("v1.k9.AAAA");
    let keys = keys(&["k2", "k1"]);
    let text = value.to_string();
    let done = reseal(
        text.as_bytes(),
        Reseal::Stale,
        Timestamp::default(),
        under(&keys),
    )
    .unwrap();
    assert_eq!((done.sealed, done.unopened.len()), (1, 1));
    let written = json_of(&done.value.unwrap());
    assert_eq!(
        written["signing"]["secrets"][1],
        value["signing"]["secrets"][1]
    );
}

#[test]
fn a_record_that_is_not_whole_is_not_written_again() {
    let keys = keys(&["k1"]);
    let broken = br#"{"id":"a","url":7,"signing":{"secrets":[{"id":"s1","value":"whsec_AA"}]}}"#;
    let done = reseal(broken, Reseal::Open, Timestamp::default(), under(&keys));
    assert!(
        done.unwrap_err()
            .to_string()
            .starts_with("url: expected a string")
    );
}

#[test]
fn the_display_form_shows_the_key_of_a_sealed_secret() {
    let value = record(&["k1"]);
    let unread = read(&value, &KeyRing::default());
    let shown = to_display_json(&unread.endpoint, &value).unwrap();
    let secrets = json!([
        { "id": "s2", "sealed": "v1.k1.…" },
        { "id": "s1", "sealed": "v1.k1.…", "not_after": "2026-12-01T00:00:00Z" }
    ]);
    assert_eq!(shown["signing"]["secrets"], secrets);
    let mut hostile = json_of(&value);
    hostile["signing"]["secrets"][0]["sealed"] = json!("whsec_c2VjcmV0");
    let hostile = hostile.to_string();
    let shown = to_display_json(&unread.endpoint, hostile.as_bytes()).unwrap();
    assert_eq!(shown["signing"]["secrets"][0]["sealed"], "v1.?.…");
}

#[test]
fn what_a_file_may_hold_fits_its_record_when_it_is_sealed() {
    let pem = include_str!("../../../../signing/src/tests/rsa2048.pem");
    let secret = |n: usize| json!({ "id": format!("s{n}"), "value": pem });
    let signing = json!({ "scheme": "jws", "secrets": (0..10).map(secret).collect::<Vec<_>>() });
    let file = json!({ "id": "a", "url": "https://a.example/", "signing": signing }).to_string();
    let endpoint = parse(&file).unwrap().remove(0);
    let ring = keys(&[&"k".repeat(32)]);
    let open = to_record(&endpoint, Timestamp::default()).len();
    let sealed = super::super::to_record(&endpoint, Timestamp::default(), under(&ring)).len();
    let growth = EndpointForm::of(&endpoint).growth_when_sealed();
    assert!(sealed <= open + growth, "{sealed} > {open} + {growth}");
}

#[test]
fn a_record_of_nothing_but_secrets_is_refused_before_all_are_opened() {
    let mut value = json_of(&record(&["k1"]));
    let secret = json!({ "id": "s1", "sealed": "v1.k9.AAAA" });
    value["signing"]["secrets"] = json!(vec![secret; 3_000]);
    let refused = super::super::from_record(b"a", value.to_string().as_bytes(), &keys(&["k1"]));
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.contains("at most 10 secrets, found 3000"),
        "{refused}"
    );
    let mut form = form_of_record(value.to_string().as_bytes(), &mut Mistakes::default()).unwrap();
    let mut mistakes = Mistakes::default();
    form.open(&keys(&["k1"]), &mut mistakes);
    assert!(mistakes.unopened.len() < 32, "{}", mistakes.unopened.len());
}
