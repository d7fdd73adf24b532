//! What is wrong is said at once, all of it, with the exit code of the contract.

use std::fs;
use std::time::Duration;

use postrider_e2e::Installation;
use postrider_test_support::Broker;

#[test]
fn an_unreachable_broker_ends_a_start_with_69() {
    let installation = Installation::without_topics(Broker::shared(), 2, &["orders"]);
    // a port that nothing listens on: the test would need root to
    let answer = installation.postrider(&["--brokers", "127.0.0.1:1", "run"]);
    assert!(answer.took < Duration::from_secs(20), "{answer:?}");
    answer.expect_refusal(69, &["127.0.0.1:1", "within 10 s", "Connection refused"]);
}

#[test]
fn missing_topics_are_named_with_the_command_that_makes_them() {
    let installation = Installation::without_topics(Broker::shared(), 2, &["orders"]);
    let names = [
        "endpoints",
        "deliveries",
        "retry.30s",
        "dead-letters",
        "attempts",
    ];
    let names = names.map(|name| installation.topic(name));
    let mut parts: Vec<&str> = names.iter().map(String::as_str).collect();
    parts.push("postrider topics apply");
    installation.postrider(&["run"]).expect_refusal(1, &parts);
}

#[test]
fn another_number_of_slices_than_the_topics_have_is_refused() {
    let installation = Installation::new(Broker::shared(), 2, &["orders"]);
    let text = fs::read_to_string(installation.config()).expect("it was written");
    let text = text.replace("slices = 2", "slices = 4");
    fs::write(installation.config(), text).expect("it was written before");
    let topic = installation.topic("deliveries");
    let parts = ["kafka.slices is 4", &topic, "has 2 partitions"];
    for command in [["run"].as_slice(), &["topics", "apply"]] {
        installation.postrider(command).expect_refusal(64, &parts);
    }
}

#[test]
fn every_mistake_of_an_endpoint_file_is_told_with_its_path() {
    let installation = Installation::without_topics(Broker::shared(), 2, &["orders"]);
    let yaml = "\
id: ep_one
url: https://user:pass@shop.example/in
colour: red
---
id: ep_two
url: https://shop.example/in#part
signing: { scheme: standard, secrets: [{ id: s1, value: whsec_short }] }
---
id: ep_three
url: https://10.1.2.3/in
signing: { scheme: standard, secrets: [{ id: s1, value: secret }] }
concurrency: 0
---
id: ep four
url: \"https://shop.example/\\u0001\"
";
    let file = installation.file("endpoints.yaml", yaml.as_bytes());
    let file = file.to_str().expect("the paths of tests are UTF-8");
    let answer = installation.postrider(&["endpoint", "apply", "-f", file]);
    let told = answer.expect_refusal(64, &["nothing was written", file]);
    let mistakes = [
        "document 1: url: ",
        "document 1: colour: ",
        "document 1: signing: ",
        "document 2: url: ",
        "document 2: signing.secrets[0].value: ",
        "document 3: url: ",
        "document 3: signing.secrets[0].value: ",
        "document 3: concurrency: ",
        "document 4: id: ",
        "document 4: url: ",
        "document 4: signing: ",
    ];
    for mistake in mistakes {
        assert!(told.contains(mistake), "{mistake:?} is not in\n{told}");
    }
    assert!(
        told.contains(&format!("{} mistakes", mistakes.len())),
        "{told}"
    );
}

#[test]
fn every_mistake_of_a_configuration_is_told_with_its_path() {
    let installation = Installation::without_topics(Broker::shared(), 2, &["orders"]);
    let text = "\
[kafka]
brokers = \"nowhere\"
slices = 0
colour = \"red\"
[dispatcher]
session = \"soon\"
[egress]
allow_ranges = [\"127.0.0.0/99\"]
";
    fs::write(installation.config(), text).expect("the folder is there");
    let paths = [
        "kafka.brokers",
        "kafka.slices",
        "kafka.colour",
        "dispatcher.session",
        "egress.allow_ranges",
    ];
    for command in [["run"].as_slice(), &["config", "check"]] {
        let answer = installation.postrider(command);
        let told = answer.expect_refusal(64, &paths);
        assert!(
            told.contains("postrider.toml"),
            "the source of each: {told}"
        );
    }
}

#[test]
fn an_endpoint_is_paused_and_resumed_once() {
    let installation = Installation::new(Broker::shared(), 2, &["orders"]);
    installation.endpoints(
        "id: ep_one\nurl: https://shop.example/in\nsigning: { scheme: none }\n---\n\
         id: ep_off\nurl: https://shop.example/in\nsigning: { scheme: none }\nstate: disabled\n",
    );
    let is = |state: &str, version: u32| {
        let shown = installation.postrider(&["endpoint", "get", "ep_one", "-o", "json"]);
        let shown = shown.expect_done();
        for field in [
            format!("\"state\": \"{state}\""),
            format!("\"version\": {version}"),
        ] {
            assert!(shown.contains(&field), "{field} is not in {shown}");
        }
    };
    let says = |arguments: &[&str], line: &str| {
        let answer = installation.postrider(&[&["endpoint"], arguments].concat());
        assert_eq!(answer.expect_done(), format!("{line}\n"));
    };
    is("active", 1);
    says(&["pause", "ep_one", "--dry-run"], "would pause ep_one");
    is("active", 1);
    says(&["pause", "ep_one"], "paused ep_one");
    is("paused", 2);
    says(&["pause", "ep_one"], "ep_one is paused already");
    is("paused", 2);
    says(&["resume", "ep_one"], "resumed ep_one");
    is("active", 3);
    says(&["resume", "ep_one"], "ep_one is active already");
    is("active", 3);
    for (command, state) in [("pause", "paused"), ("resume", "active")] {
        let answer = installation.postrider(&["endpoint", command, "ep_off"]);
        let remedy = format!("say state: {state}");
        answer.expect_refusal(1, &["ep_off is disabled", &remedy]);
        let answer = installation.postrider(&["endpoint", command, "ep_none"]);
        answer.expect_refusal(1, &["there is no endpoint ep_none"]);
    }
}

#[test]
fn a_lease_that_could_never_hold_is_refused() {
    let installation = Installation::without_topics(Broker::shared(), 2, &["orders"]);
    let text = fs::read_to_string(installation.config()).expect("it was written");
    let text = text.replace("defaults.timeout = \"2s\"", "defaults.timeout = \"15s\"");
    fs::write(installation.config(), text).expect("it was written before");
    let parts = ["dispatcher.defaults.timeout", "at most 2s", "at least 28s"];
    for command in [["run", "dispatcher"], ["config", "check"]] {
        installation.postrider(&command).expect_refusal(64, &parts);
    }
}

/// What the tests' broker grants is 15 s and 1 s; a group may have its own.
#[test]
fn a_session_or_heartbeat_that_the_brokers_do_not_grant_is_refused() {
    let installation = Installation::new(Broker::shared(), 2, &["orders"]);
    let granted = fs::read_to_string(installation.config()).expect("it was written");
    let text = granted
        .replace("session = \"15s\"", "session = \"16s\"")
        .replace("heartbeat = \"1s\"", "heartbeat = \"900ms\"");
    fs::write(installation.config(), text).expect("it was written before");
    let group = installation.topic("dispatcher");
    let parts = [
        &*group,
        "dispatcher.session is 16s, the brokers grant 15s",
        "group.consumer.session.timeout.ms",
        "dispatcher.heartbeat is 900ms, the brokers grant 1s",
        "group.consumer.heartbeat.interval.ms",
    ];
    for command in [["run"].as_slice(), &["run", "dispatcher"]] {
        installation.postrider(command).expect_refusal(64, &parts);
    }
}
