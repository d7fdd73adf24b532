//! Facts about asking a registry. It is a stub with the documented answers of Confluent's.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use postrider_test_support::SchemaRegistry;
use serde_json::json;

use super::*;

const SOON: Duration = Duration::from_secs(20);

fn settings(url: String) -> RegistrySettings {
    RegistrySettings {
        url,
        credentials: Credentials::None,
        ca_file: None,
    }
}

fn start(registry: &SchemaRegistry) -> Registry {
    Registry::start(settings(registry.url())).unwrap()
}

/// The next answer, and the failures before it.
fn answer(registry: &Registry) -> (SchemaId, Answer, Vec<String>) {
    let deadline = Instant::now() + SOON;
    let mut failures = Vec::new();
    loop {
        match registry.events().recv_deadline(deadline).expect("an event") {
            Event::Answer(id, answer) => return (id, answer, failures),
            Event::Failed(reason) => failures.push(reason),
        }
    }
}

fn why_none(registry: &Registry) -> String {
    match answer(registry).1 {
        Answer::None(why) => why.to_string(),
        Answer::Schema(..) => panic!("a schema"),
    }
}

#[test]
fn a_schema_comes_with_everything_it_refers_to() {
    let stub = SchemaRegistry::start();
    let refers =
        |name: &str, subject: &str| json!([{"name": name, "subject": subject, "version": 2}]);
    let record = |name: &str, inner: &str| {
        json!({"type": "record", "name": name, "fields": [{"name": "f", "type": inner}]})
            .to_string()
    };
    stub.keep(7, "AVRO", &record("A", "b.B"), &refers("b.B", ":.shop:b"));
    let kept = json!({"schema": record("b.B", "C"), "references": refers("b.C", "c")});
    let path = "/subjects/%3A.shop%3Ab/versions/2?deleted=true";
    stub.answer(path, 200, &kept.to_string());
    // refers back, which is no reason to go round
    let kept = json!({"schema": record("b.C", "long"), "references": refers("b.B", ":.shop:b")});
    stub.answer(
        "/subjects/c/versions/2?deleted=true",
        200,
        &kept.to_string(),
    );
    let registry = start(&stub);
    registry.ask(SchemaId::Number(7));
    let (id, answer, failures) = answer(&registry);
    assert_eq!((id, failures.len()), (SchemaId::Number(7), 0));
    assert!(matches!(answer, Answer::Schema(..)), "{answer:?}");
    assert_eq!(stub.requests().len(), 3);
}

#[test]
fn a_registry_that_is_away_or_refuses_is_asked_until_it_answers() {
    let mut stub = SchemaRegistry::start();
    stub.keep(7, "JSON", "{}", &json!([]));
    stub.go_away();
    let registry = start(&stub);
    registry.ask(SchemaId::Number(7));
    let Event::Failed(reason) = registry.events().recv_timeout(SOON).unwrap() else {
        panic!("answered while away");
    };
    assert!(reason.contains("refused"), "{reason}");
    for (status, body) in [
        (401, ""),
        (500, ""),
        (404, "<html>"),
        (200, "<html>"),
        (302, ""),
    ] {
        stub.answer("/schemas/ids/7", status, body);
        if status == 401 {
            stub.come_back();
        }
        let refused =
            |reason: &str| reason.contains(&status.to_string()) || reason.contains("no schema");
        let deadline = Instant::now() + SOON;
        loop {
            match registry
                .events()
                .recv_deadline(deadline)
                .expect("a failure")
            {
                Event::Failed(reason) if refused(&reason) => break,
                Event::Failed(_) => {}
                Event::Answer(..) => panic!("answered by {status}"),
            }
        }
    }
    stub.keep(7, "JSON", "{}", &json!([]));
    assert!(matches!(answer(&registry).1, Answer::Schema(..)));
}

/// As long as a doubtful answer has to last, and the next request after it.
const DOUBTED: Duration = Duration::from_secs(60);

/// The answers to so many questions, by schema.
fn answers(registry: &Registry, count: usize) -> Vec<(SchemaId, String)> {
    let deadline = Instant::now() + DOUBTED;
    let mut answers = Vec::new();
    while answers.len() < count {
        match registry.events().recv_deadline(deadline).expect("an event") {
            Event::Answer(id, Answer::None(why)) => answers.push((id, why.to_string())),
            Event::Answer(id, Answer::Schema(..)) => panic!("a schema {id}"),
            Event::Failed(_) => {}
        }
    }
    answers.sort_by_key(|(id, _)| id.to_string());
    answers
}

#[test]
fn one_schema_that_is_refused_while_others_are_read_is_given_up() {
    let stub = SchemaRegistry::start();
    stub.keep(7, "JSON", "{}", &json!([]));
    for (id, status, body) in [(1, 403, ""), (2, 404, "<html>"), (3, 200, "<html>")] {
        stub.answer(&format!("/schemas/ids/{id}"), status, body);
    }
    let registry = start(&stub);
    registry.ask(SchemaId::Number(7));
    assert!(matches!(answer(&registry).1, Answer::Schema(..)));
    for id in 1..=3 {
        registry.ask(SchemaId::Number(id));
    }
    let answers = answers(&registry, 3);
    for ((id, why), status) in answers.iter().zip(["403", "404", "200"]) {
        assert!(why.contains(status) && why.contains("30s"), "{id}: {why}");
    }
}

#[test]
fn while_nothing_can_be_read_a_refusal_is_no_answer_unless_it_is_a_registry() {
    // A wrong address, and a right one that may only not read: both wait.
    let (wrong, forbidden) = (SchemaRegistry::start(), SchemaRegistry::start());
    // One that is a registry, and has no such path.
    let known = SchemaRegistry::start();
    let path = "/schemas/ids/1";
    wrong.answer(path, 404, "<html>");
    wrong.answer("/schemas/types", 404, "<html>");
    forbidden.answer(path, 403, "");
    known.answer(path, 404, "<html>");
    for stub in [&forbidden, &known] {
        stub.answer("/schemas/types", 200, r#"["AVRO"]"#);
    }
    let registries = [&wrong, &forbidden, &known].map(start);
    for registry in &registries {
        registry.ask(SchemaId::Number(1));
    }
    let [wrong_one, forbidden_one, known_one] = &registries;
    let asked = |stub: &SchemaRegistry, path: &str| {
        let requests = stub.requests();
        requests.iter().filter(|line| line.contains(path)).count()
    };
    assert!(answers(known_one, 1)[0].1.contains("404"));
    // Those have been asked for as long, and are asked on.
    let deadline = Instant::now() + DOUBTED;
    while asked(&wrong, "/schemas/types") == 0 {
        assert!(Instant::now() < deadline, "not asked whether it is one");
        thread::yield_now();
    }
    let before = (asked(&wrong, path), asked(&forbidden, path));
    while asked(&wrong, path) == before.0 || asked(&forbidden, path) == before.1 {
        assert!(Instant::now() < deadline, "given up");
        thread::yield_now();
    }
    for registry in [wrong_one, forbidden_one] {
        let mut events = registry.events().try_iter();
        assert!(events.all(|event| matches!(event, Event::Failed(_))));
    }
}

#[test]
fn a_schema_that_comes_late_is_found() {
    let stub = SchemaRegistry::start();
    let registry = start(&stub);
    registry.ask(SchemaId::Number(7));
    let deadline = Instant::now() + SOON;
    while stub.requests().is_empty() {
        assert!(Instant::now() < deadline, "nothing was asked");
        thread::yield_now();
    }
    stub.keep(7, "JSON", "{}", &json!([]));
    assert!(matches!(answer(&registry).1, Answer::Schema(..)));
}

#[test]
fn what_is_of_no_use_is_answered_at_once() {
    let stub = SchemaRegistry::start();
    let registry = start(&stub);
    let cases = [
        ("AVRO", "{", "not JSON"),
        ("PROTOBUF", "nonsense", "cannot be used"),
        ("THRIFT", "", "THRIFT"),
    ];
    for (id, (kind, schema, expected)) in (1..).zip(cases) {
        stub.keep(id, kind, schema, &json!([]));
        registry.ask(SchemaId::Number(id));
        let why = why_none(&registry);
        assert!(why.contains(expected), "{why}");
    }
    stub.keep(9, "AVRO", &" ".repeat(3 << 20), &json!([]));
    registry.ask(SchemaId::Number(9));
    assert!(why_none(&registry).contains("larger than"));
    let many: Vec<_> = (0..65)
        .map(|n| json!({"name": format!("n{n}"), "subject": "s", "version": n}))
        .collect();
    for n in 0..65 {
        let path = format!("/subjects/s/versions/{n}?deleted=true");
        stub.answer(&path, 200, r#"{"schema": "\"int\""}"#);
    }
    stub.keep(10, "AVRO", "\"int\"", &many.into());
    registry.ask(SchemaId::Number(10));
    assert!(why_none(&registry).contains("more than 64"));
}

#[test]
fn credentials_go_along_and_a_path_is_a_prefix() {
    let stub = SchemaRegistry::start();
    let secret = |text: &str| Secret::new(text.as_bytes());
    let guid = "898a8b8c-8d8e-8f90-9192-939495969798";
    stub.answer(
        &format!("/ccompat/v7/schemas/guids/{guid}"),
        200,
        r#"{"schema":"int"}"#,
    );
    for credentials in [
        Credentials::Basic {
            user: "me".to_owned(),
            password: secret("pass"),
        },
        Credentials::Bearer(secret("token")),
    ] {
        let registry = Registry::start(RegistrySettings {
            credentials,
            ..settings(format!("{}/ccompat/v7/", stub.url()))
        })
        .unwrap();
        let bytes: Vec<u8> = (0x89..=0x98).collect();
        registry.ask(SchemaId::Guid(bytes.try_into().unwrap()));
        assert!(matches!(answer(&registry).1, Answer::Schema(..)));
    }
    let request = format!("GET /ccompat/v7/schemas/guids/{guid} HTTP/1.1");
    assert_eq!(
        stub.requests(),
        [
            format!("{request} Basic bWU6cGFzcw=="),
            format!("{request} Bearer token")
        ]
    );
}

#[test]
fn wrong_settings_are_told_at_once() {
    let refused = |settings| match Registry::start(settings) {
        Ok(_) => panic!("started"),
        Err(error) => error.to_string(),
    };
    assert!(refused(settings("ftp://a".to_owned())).contains("http or https"));
    assert!(refused(settings("http://a?b".to_owned())).contains("query"));
    let with_secret = refused(settings("http://me:pass@a".to_owned()));
    assert!(with_secret.contains("without user") && !with_secret.contains("pass@"));
    let ca_file = |path: &str| RegistrySettings {
        ca_file: Some(path.into()),
        ..settings("https://a".to_owned())
    };
    assert!(refused(ca_file("/no/such.pem")).contains("/no/such.pem"));
    assert!(refused(ca_file("Cargo.toml")).contains("no certificate"));
}

#[test]
fn an_authority_of_ones_own_is_trusted_and_others_are_not() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key =
        tokio_rustls::rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der())
            .unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let server = tokio_rustls::rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let server = Arc::new(server);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!(
        "https://localhost:{}",
        listener.local_addr().unwrap().port()
    );
    // Ends with the test's process; it waits for connections until then.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let connection =
                tokio_rustls::rustls::ServerConnection::new(Arc::clone(&server)).unwrap();
            let mut stream = tokio_rustls::rustls::StreamOwned::new(connection, stream.unwrap());
            let body = r#"{"schema":"\"int\""}"#;
            // Who does not trust us goes away before.
            if stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {
                let length = body.len();
                write!(
                    stream,
                    "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}"
                )
                .unwrap();
                stream.flush().unwrap();
            }
        }
    });
    let distrustful = Registry::start(settings(url.clone())).unwrap();
    distrustful.ask(SchemaId::Number(1));
    match distrustful.events().recv_timeout(SOON).unwrap() {
        Event::Failed(reason) => assert!(reason.contains("certificate"), "{reason}"),
        Event::Answer(..) => panic!("trusted"),
    }
    let file = std::env::temp_dir().join(format!("postrider-ca-{}.pem", std::process::id()));
    std::fs::write(&file, made.cert.pem()).unwrap();
    let registry = Registry::start(RegistrySettings {
        ca_file: Some(file.clone()),
        ..settings(url)
    })
    .unwrap();
    registry.ask(SchemaId::Number(1));
    assert!(matches!(answer(&registry).1, Answer::Schema(..)));
    std::fs::remove_file(file).unwrap();
}
