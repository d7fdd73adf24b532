//! Layers and mistakes, through the public interface.

use std::ffi::OsString;
use std::time::Duration;

use postrider_config::{
    Config, ConfigErrors, Decode, Environment, File, Handshake, LogFormat, Override, Ownership,
    Sources, Topics, load,
};

fn toml(text: &str) -> Sources {
    file("postrider.toml", text)
}

fn file(name: &str, text: &str) -> Sources {
    Sources {
        file: Some(File::new(name, text)),
        ..Sources::default()
    }
}

fn with_env(mut sources: Sources, variables: &[(&str, &str)]) -> Sources {
    sources.environment = variables.iter().copied().collect();
    sources
}

fn with_flag(mut sources: Sources, path: &str, value: &str, flag: &str) -> Sources {
    sources.overrides.push(Override {
        path: path.to_owned(),
        value: value.to_owned(),
        flag: flag.to_owned(),
    });
    sources
}

fn mistakes(sources: Sources) -> Vec<String> {
    let errors: ConfigErrors = load(sources).expect_err("a mistake");
    errors.mistakes().iter().map(ToString::to_string).collect()
}

fn source_of(config: &Config, path: &str) -> String {
    let row = config.show().iter().find(|row| row.path == path);
    row.expect("every key is shown").source.clone()
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let config = Config::default();
    assert_eq!(config.kafka.brokers, "127.0.0.1:9092");
    assert_eq!(config.kafka.prefix, "postrider.");
    assert_eq!(config.kafka.slices.get(), 64);
    assert_eq!(config.kafka.replication, 3);
    assert!(config.sources.is_empty());
    assert_eq!(config.dispatcher.in_flight_max, 2048);
    assert_eq!(config.dispatcher.ownership, Ownership::Consumer);
    assert_eq!(config.dispatcher.session, Duration::from_secs(45));
    assert_eq!(config.dispatcher.lease(), Duration::from_secs(38));
    assert_eq!(config.dispatcher.timeout_max(), Duration::from_secs(28));
    assert_eq!(config.dispatcher.defaults.concurrency, 16);
    assert_eq!(config.dispatcher.defaults.timeout, Duration::from_secs(15));
    assert_eq!(config.egress.ports, [443, 8443]);
    assert!(!config.egress.allow_http && config.egress.allow_ranges.is_empty());
    assert_eq!(config.telemetry.log, "info");
    assert_eq!(config.telemetry.format, LogFormat::Text);
}

#[test]
fn the_last_layer_wins_and_is_named() {
    let text = "[kafka]\nslices = 8\nprefix = \"a.\"\nbrokers = \"b:1\"\n";
    let env = [
        ("POSTRIDER__KAFKA__PREFIX", "b."),
        ("POSTRIDER__KAFKA__BROKERS", "b:2"),
    ];
    let sources = with_flag(
        with_env(toml(text), &env),
        "kafka.brokers",
        "b:3",
        "--brokers",
    );
    let config = load(sources).unwrap();
    assert_eq!(config.kafka.slices.get(), 8);
    assert_eq!(config.kafka.prefix, "b.");
    assert_eq!(config.kafka.brokers, "b:3");
    assert_eq!(source_of(&config, "kafka.slices"), "postrider.toml");
    assert_eq!(
        source_of(&config, "kafka.prefix"),
        "environment variable POSTRIDER__KAFKA__PREFIX"
    );
    assert_eq!(source_of(&config, "kafka.brokers"), "flag --brokers");
    assert_eq!(source_of(&config, "kafka.replication"), "default");
}

#[test]
fn toml_yaml_and_json_say_the_same() {
    let toml_text = "[kafka]\nslices = 8\n[[sources]]\ntopics = [\"t\"]\ndecode = \"json\"\n\
                     map = { type = \"/type\" }\n[egress]\nports = [443]\n";
    let yaml = "kafka:\n  slices: 8\nsources:\n  - topics: [t]\n    decode: json\n    map:\n      \
                type: /type\negress:\n  ports: [443]\n";
    let json = r#"{"kafka": {"slices": 8}, "egress": {"ports": [443]},
        "sources": [{"topics": ["t"], "decode": "json", "map": {"type": "/type"}}]}"#;
    for (name, text) in [("p.toml", toml_text), ("p.yaml", yaml), ("p.json", json)] {
        let config = load(file(name, text)).unwrap();
        assert_eq!(config.kafka.slices.get(), 8, "{name}");
        assert_eq!(config.egress.ports, [443], "{name}");
        let source = &config.sources[0];
        assert_eq!(source.topics, Topics::Names(vec!["t".to_owned()]), "{name}");
        assert_eq!(source.decode, Decode::Json, "{name}");
        assert_eq!(source.map.event_type.as_deref(), Some("/type"), "{name}");
        assert_eq!(source_of(&config, "sources[0].decode"), name);
    }
}

#[test]
fn variables_are_read_as_their_key_asks() {
    let config = load(with_env(
        Sources::default(),
        &[
            ("POSTRIDER__KAFKA__PREFIX", "123"),
            ("POSTRIDER__EGRESS__PORTS", "443, 9443"),
            ("POSTRIDER__EGRESS__ALLOW_HTTP", "true"),
            ("POSTRIDER__EGRESS__ALLOW_RANGES", "127.0.0.0/8,::1/128"),
            (
                "POSTRIDER__DISPATCHER__DEFAULTS__RETRY",
                r#"{"schedule":["1s","2s"],"window":"1d"}"#,
            ),
            ("POSTRIDER__SOURCES", r#"[{"topics_regex":"^pay"}]"#),
            ("POSTRIDER__KAFKA__PROPERTIES__SECURITY_PROTOCOL", "ssl"),
            ("POSTRIDER_BROKERS", "is a flag's and not ours"),
            ("NO_COLOR", "1"),
        ],
    ))
    .unwrap();
    assert_eq!(config.kafka.prefix, "123");
    assert_eq!(config.egress.ports, [443, 9443]);
    assert!(config.egress.allow_http);
    assert_eq!(config.egress.allow_ranges.len(), 2);
    let retry = &config.dispatcher.defaults.retry;
    assert_eq!(*retry.schedule, [1, 2].map(Duration::from_secs));
    assert_eq!(retry.window, Duration::from_secs(86_400));
    assert_eq!(retry.jitter_permille, 100);
    assert_eq!(config.sources[0].topics, Topics::Regex("^pay".to_owned()));
    let properties: Vec<_> = config.kafka.properties.iter().collect();
    assert_eq!(properties, [("security.protocol", "ssl")]);
}

#[test]
fn every_mistake_is_reported_at_once_with_its_source() {
    let text = r#"
telemetry = 3
[kafka]
slcies = 64
replication = "three"
[kafka.properties]
"group.id" = "mine"
[[sources]]
decode = "debezium"
[sources.map]
id = "id"
[dispatcher]
session = "45 parsecs"
[dispatcher.defaults]
retry = { window = "90d", jitter = 0.9, max = 3 }
[egress]
ports = [443, 99999]
[admin]
listen = "127.0.0.1:9484"
"#;
    let env = [
        ("POSTRIDER__KAFKA__SLICES", "300"),
        ("POSTRIDER__KAFKA__PREFX", "a."),
        ("POSTRIDER__API__LISTEN", "127.0.0.1:1"),
    ];
    let sources = with_flag(
        with_env(toml(text), &env),
        "kafka.brokers",
        "nowhere",
        "--brokers",
    );
    let found = mistakes(sources);
    let expected = [
        "admin (postrider.toml): found a key that is not available in this version, expected it to \
         be left out",
        "api.listen (environment variable POSTRIDER__API__LISTEN): found a key that is not available in \
         this version, expected it to be left out",
        "dispatcher.defaults.retry.jitter (postrider.toml): found 0.9, expected a share from 0 to \
         0.5, such as 0.1",
        "dispatcher.defaults.retry.max (postrider.toml): found an unknown key, expected schedule, \
         window or jitter",
        "dispatcher.defaults.retry.schedule (postrider.toml): found nothing, expected a list of 0 \
         to 200, each a duration from 100ms to 30days, with its unit (ms, s, m, h, d), in quotes",
        "dispatcher.defaults.retry.window (postrider.toml): found \"90d\", expected a duration \
         from 1s to 30days, with its unit (ms, s, m, h, d), in quotes",
        "dispatcher.session (postrider.toml): found \"45 parsecs\", expected a duration from 13s to \
         30m, with its unit (ms, s, m, h, d), in quotes",
        "egress.ports[1] (postrider.toml): found 99999, expected a whole number from 1 to 65535",
        "kafka.brokers (flag --brokers): found \"nowhere\", expected host:port, several separated \
         by commas",
        "kafka.prefx (environment variable POSTRIDER__KAFKA__PREFX): found an unknown key, \
         expected a key; did you mean kafka.prefix?",
        "kafka.properties.group.id (postrider.toml): found a property that Postrider sets itself, \
         expected it to be left out: groups are named by kafka.prefix",
        "kafka.replication (postrider.toml): found \"three\", expected a whole number from 1 to 15",
        "kafka.slcies (postrider.toml): found an unknown key, expected a key; did you mean \
         kafka.slices?",
        "kafka.slices (environment variable POSTRIDER__KAFKA__SLICES): found 300, expected a whole \
         number from 1 to 256",
        "sources[0].decode (postrider.toml): found \"debezium\", expected \"auto\" or \"cloudevents\" \
         or \"json\" or \"debezium-outbox\"",
        "sources[0].map.id (postrider.toml): found \"id\", expected \"key\", \"header:NAME\" or a \
         JSON pointer such as \"/data/id\"",
        "sources[0].topics (postrider.toml): found nothing, expected topics or topics_regex",
        "telemetry (postrider.toml): found a single value, expected a table",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_file_that_does_not_parse_does_not_hide_the_other_mistakes() {
    let env = [("POSTRIDER__KAFKA__SLICES", "0")];
    for (name, text) in [
        ("p.toml", "[kafka\n"),
        ("p.yml", "a: [1"),
        ("p.yaml", "a: 1\na: 2"),
        ("p.json", "{"),
        ("p.json", "[1]"),
        ("p.yaml", "just words"),
    ] {
        let found = mistakes(with_env(file(name, text), &env));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with(name), "{found:?}");
        assert!(found[1].starts_with("kafka.slices"), "{found:?}");
    }
}

#[test]
fn an_empty_file_is_the_defaults() {
    for name in ["p.toml", "p.yaml"] {
        let config = load(file(name, "")).unwrap();
        assert_eq!(config.kafka.slices.get(), 64, "{name}");
    }
}

#[test]
fn a_file_that_is_not_there_is_one_mistake() {
    let missing = std::path::Path::new("no-such-folder/postrider.toml");
    let Err(errors) = File::read(missing) else {
        panic!("it should not exist");
    };
    assert!(errors.to_string().contains("no-such-folder/postrider.toml"));
    assert_eq!(errors.mistakes().len(), 1);
}

#[test]
fn timing_leaves_the_lease_some_slack() {
    let dispatcher = |session: &str, heartbeat: &str, timeout: &str| {
        toml(&format!(
            "[dispatcher]\nsession = \"{session}\"\nheartbeat = \"{heartbeat}\"\n\
             defaults.timeout = \"{timeout}\"\n"
        ))
    };
    assert_eq!(
        mistakes(dispatcher("15s", "6s", "1s")),
        [
            "dispatcher.heartbeat (postrider.toml): found 6s, expected at most a third of \
             dispatcher.session (15s), 5s"
        ]
    );
    assert_eq!(
        mistakes(dispatcher("24s", "3s", "9s 1ms")),
        [
            "dispatcher.defaults.timeout (postrider.toml): found 9s 1ms, expected at most 9s: \
             dispatcher.session 24s - dispatcher.heartbeat 3s - reserve 12s; shorten it, or make \
             the session at least 24s 1ms"
        ]
    );
    assert!(load(dispatcher("24s", "3s", "9s")).is_ok());
    assert_eq!(
        mistakes(dispatcher("16s", "4s", "1s")),
        [
            "dispatcher.session (postrider.toml): found 16s, expected at least 17s: \
             dispatcher.heartbeat 4s + reserve 12s + the shortest timeout of an endpoint 1s"
        ]
    );
    assert!(load(dispatcher("17s", "4s", "1s")).is_ok());
    assert!(
        load(dispatcher("30s", "1s", "15s")).is_ok(),
        "the operator's guide"
    );
}

#[test]
fn secrets_are_hidden_wherever_they_would_show() {
    let text = "[kafka.properties]\nsasl.password = \"hunter2\"\n\"ssl.key.pem\" = \"hunter2\"\n\
                sasl.username = \"me\"\n";
    let config = load(toml(text)).unwrap();
    let password = config
        .kafka
        .properties
        .iter()
        .find(|(name, _)| *name == "sasl.password");
    assert_eq!(password, Some(("sasl.password", "hunter2")));
    assert!(!format!("{config:?}").contains("hunter2"));
    let shown: Vec<String> = config
        .show()
        .iter()
        .filter(|row| row.path.starts_with("kafka.properties."))
        .map(|row| format!("{} {}", row.path, row.value))
        .collect();
    assert_eq!(
        shown,
        [
            "kafka.properties.sasl.password \"[hidden]\"",
            "kafka.properties.sasl.username \"me\"",
            "kafka.properties.ssl.key.pem \"[hidden]\"",
        ]
    );
    let wrong = "[kafka.properties]\n\"sasl.password\" = [\"hunter2\"]\n";
    let found = mistakes(toml(wrong));
    assert!(
        found.len() == 1 && !found[0].contains("hunter2"),
        "{found:?}"
    );
}

#[test]
fn sources_do_not_contradict_themselves() {
    let text = r#"
[[sources]]
topics = ["a", "b"]
topics_regex = "^a"
[[sources]]
topics = ["b"]
decode = "cloudevents"
map = { id = "key" }
[[sources]]
topics_regex = "no-anchor"
decode = "json"
"#;
    let found = mistakes(toml(text));
    let paths: Vec<&str> = found.iter().map(|m| m.split(' ').next().unwrap()).collect();
    assert_eq!(
        paths,
        [
            "sources[0].topics_regex",
            "sources[1].map",
            "sources[1].topics",
            "sources[2].map.type",
            "sources[2].topics_regex",
        ]
    );
}

#[test]
fn places_in_json_are_checked() {
    for (place, good) in [
        ("key", true),
        ("header:event-type", true),
        ("/a/b~1c/0", true),
        ("/", true),
        ("", false),
        ("a", false),
        ("header:", false),
        ("/a~2", false),
        ("/a~", false),
    ] {
        let text = format!("[[sources]]\ntopics = [\"t\"]\nmap.type = {place:?}\n");
        assert_eq!(load(toml(&text)).is_ok(), good, "{place:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_utf8_is_a_mistake() {
    use std::os::unix::ffi::OsStringExt;

    let value = OsString::from_vec(vec![0xff]);
    let environment: Environment = [("POSTRIDER__KAFKA__PREFIX", value)].into_iter().collect();
    let found = mistakes(Sources {
        environment,
        ..Sources::default()
    });
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("not UTF-8"), "{found:?}");
}

#[test]
fn no_color_counts_when_it_is_not_empty() {
    let environment = |value| -> Environment { [("NO_COLOR", value)].into_iter().collect() };
    assert!(environment("1").no_color());
    assert!(!environment("").no_color());
    assert!(!Environment::default().no_color());
}

#[test]
fn the_key_file_may_be_left_out_but_not_be_empty() {
    let key_file = |text: &str| load(toml(text)).map(|config| config.secrets.key_file);
    assert_eq!(key_file("").unwrap(), None);
    let path = Some(std::path::PathBuf::from("/etc/postrider/keys"));
    assert_eq!(
        key_file("[secrets]\nkey_file = '/etc/postrider/keys'").unwrap(),
        path
    );
    for (bad, found) in [("key_file = ''", "\"\""), ("key_file = 7", "7")] {
        let errors = key_file(&format!("[secrets]\n{bad}"))
            .unwrap_err()
            .to_string();
        assert!(errors.contains("secrets.key_file"), "{errors}");
        assert!(
            errors.contains(&format!("found {found}, expected a path")),
            "{errors}"
        );
    }
}

#[test]
fn a_registry_has_its_credentials_and_shows_none() {
    let text = "[schema_registry]\nurl = \"https://registry.example/ccompat/v7\"\nuser = \"me\"\n";
    let env = [("POSTRIDER__SCHEMA_REGISTRY__PASSWORD", "hunter2")];
    let config = load(with_env(toml(text), &env)).unwrap();
    let registry = config.schema_registry.clone().unwrap();
    assert_eq!(registry.url, "https://registry.example/ccompat/v7");
    let (user, password) = registry.user.unwrap();
    assert_eq!((&*user, password.expose()), ("me", &b"hunter2"[..]));
    let row = |path: &str| config.show().iter().find(|row| row.path == path).cloned();
    let shown = row("schema_registry.password").unwrap().value;
    assert_eq!(shown, "[hidden]");
    assert!(!format!("{config:?}").contains("hunter2"));
    assert!(load(Sources::default()).unwrap().schema_registry.is_none());
}

#[test]
fn mistakes_about_the_registry_repeat_no_secret() {
    let wrong = |text: &str| {
        let found = mistakes(toml(&format!("[schema_registry]\n{text}\n")));
        assert!(!found.concat().contains("hunter2"), "{found:?}");
        found.join("; ")
    };
    assert!(wrong("url = \"https://me:hunter2@a\"").contains("without user"));
    assert!(wrong("url = \"http://a\"\ntoken = \"hunter2 \"").contains("visible ASCII"));
    assert!(
        wrong("url = \"http://a\"\npassword = [\"hunter2\"]\nuser = \"me\"").contains("password")
    );
    assert!(wrong("password = \"hunter2\"\nuser = \"me\"").contains("where the registry is"));
    assert!(wrong("url = \"http://a\"\npassword = \"hunter2\"").contains("schema_registry.user"));
    assert!(
        wrong("url = \"http://a\"\nuser = \"me\"\npassword = \"hunter2\"\ntoken = \"hunter2\"")
            .contains("one of them")
    );
}

#[test]
fn a_handshake_by_origin_needs_one() {
    let load_with = |text: &str| load(toml(&format!("[registration]\n{text}\n")));
    let config = load_with("handshake = \"cloudevents\"\norigin = \"hooks.psp.example\"").unwrap();
    assert_eq!(config.registration.handshake, Handshake::CloudEvents);
    assert_eq!(config.registration.origin, "hooks.psp.example");
    assert_eq!(
        load_with("handshake = \"challenge\"")
            .unwrap()
            .registration
            .origin,
        ""
    );
    let none = load_with("handshake = \"cloudevents\"")
        .unwrap_err()
        .to_string();
    assert!(
        none.contains("registration.origin (postrider.toml): found nothing"),
        "{none}"
    );
    for bad in [
        "localhost",
        "https://a.example",
        "a_b.example",
        "-a.example",
        "a..example",
    ] {
        assert!(load_with(&format!("origin = \"{bad}\"")).is_err(), "{bad}");
    }
}
