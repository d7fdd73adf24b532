//! The official CloudEvents libraries read what we send as CloudEvents, and we read what they write
//! for Kafka.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use postrider_domain::{
    Delivery, DeliveryId, Endpoint, Event, Format, Origin, Record, Tenant, Timestamp,
};
use postrider_payload::Renderer;
use postrider_wire::DecodeRule;
use serde_json::{Map, Value, json};

const TIME: &str = "2023-01-19T00:13:51Z";
const NOTE: &str = "Euro € 😀";

/// Data of each kind: its name, its media type, itself.
fn kinds() -> [(&'static str, &'static str, Bytes); 3] {
    let json = r#"{"amount":1050,"note":"café €"}"#;
    [
        (
            "json",
            "application/json",
            Bytes::from_static(json.as_bytes()),
        ),
        (
            "text",
            "text/plain",
            Bytes::from_static("café €".as_bytes()),
        ),
        ("bytes", "image/png", (0..=255).collect::<Vec<u8>>().into()),
    ]
}

fn event(content_type: &str, data: Bytes) -> Event {
    Event {
        id: "evt_1".into(),
        source: "/sdk".into(),
        event_type: "payment.captured".into(),
        tenant: "acme".parse().expect("a tenant"),
        time: Some(TIME.into()),
        ordering_key: Some("pay_1".into()),
        content_type: Some(content_type.into()),
        traceparent: None,
        extensions: vec![("currencyname".into(), NOTE.into())],
        data,
        accepted_at: Timestamp::from_secs(1_674_087_232),
    }
}

/// Runs a program of one of the libraries; the lines it prints.
fn run(script: &str, arguments: [&str; 2], lines: &[Value]) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
    let mut child = Command::new(path)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the script is there");
    let mut input = child.stdin.take().expect("it is piped");
    for line in lines {
        writeln!(input, "{line}").expect("it reads");
    }
    drop(input);
    let output = child.wait_with_output().expect("it was started");
    assert!(output.status.success(), "{script} failed; see above");
    let printed = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    let parse = |line| serde_json::from_str(line).expect("JSON on each line");
    printed.lines().map(parse).collect()
}

/// Every kind of data in both modes, as requests.
fn requests() -> Vec<Value> {
    let mut requests = Vec::new();
    for (kind, content_type, data) in kinds() {
        for (mode, format) in [
            ("structured", Format::CloudEvents),
            ("binary", Format::CloudEventsBinary),
        ] {
            let id = "ep_1".parse().expect("an id");
            let mut endpoint = Endpoint::new(id, Tenant::default(), "https://a.example/");
            endpoint.format = format;
            let delivery = Delivery {
                id: DeliveryId::from_bytes([1; 16]),
                endpoint: endpoint.id.clone(),
                event: event(content_type, data.clone()),
                attempts: 0,
                due: None,
                test: false,
            };
            let renderer = Renderer::default();
            let rendered = renderer.render(&endpoint, &delivery).expect("a CloudEvent");
            let mut headers: BTreeMap<String, String> = rendered.headers.into_iter().collect();
            headers.insert(
                "content-type".to_owned(),
                rendered.content_type.into_owned(),
            );
            requests.push(json!({
                "name": format!("{kind}, {mode}"),
                "headers": headers,
                "body": STANDARD.encode(&rendered.body),
                "bytes": kind == "bytes" && mode == "binary",
            }));
        }
    }
    requests
}

fn assert_read(script: &str, program: &str) {
    let requests = requests();
    let answers = run(script, [program, "read"], &requests);
    assert_eq!(answers.len(), requests.len());
    for (request, answer) in requests.iter().zip(answers) {
        assert_eq!(answer["case"], request["name"]);
        let name = answer["case"].as_str().expect("a name").to_owned();
        let (kind, content_type, data) = kinds()
            .into_iter()
            .find(|(kind, ..)| name.starts_with(kind))
            .expect("a kind");
        let mut attributes: Map<String, Value> =
            serde_json::from_value(answer["attributes"].clone()).expect("an object");
        let time = attributes.remove("time").expect("a time");
        assert_same_time(time.as_str().expect("a text"));
        let expected = json!({
            "specversion": "1.0",
            "id": "evt_1",
            "source": "/sdk",
            "type": "payment.captured",
            "tenant": "acme",
            "partitionkey": "pay_1",
            "currencyname": NOTE,
            "datacontenttype": content_type,
        });
        assert_eq!(Value::Object(attributes), expected, "{name}");
        let expected = match kind {
            "json" => json!({"json": serde_json::from_slice::<Value>(&data).expect("JSON")}),
            "text" => json!({"text": std::str::from_utf8(&data).expect("UTF-8")}),
            _ => json!({"bytes": STANDARD.encode(&data)}),
        };
        assert_eq!(answer["data"], expected, "{name}");
    }
}

#[track_caller]
fn assert_same_time(found: &str) {
    let instant = |text: &str| text.parse::<jiff::Timestamp>().expect("a time");
    assert_eq!(instant(found), instant(TIME));
}

fn assert_written(script: &str, program: &str) {
    let messages = run(script, [program, "write"], &[]);
    assert_eq!(messages.len(), 6);
    for message in messages {
        let bytes = |value: &Value| -> Bytes {
            let text = value.as_str().expect("a text");
            STANDARD.decode(text).expect("base64").into()
        };
        let headers = message["headers"].as_object().expect("headers");
        let record = Record {
            origin: Origin {
                topic: "payments.events".into(),
                partition: 0,
                offset: 7,
            },
            timestamp: Timestamp::from_secs(1_674_087_232),
            key: None,
            value: Some(bytes(&message["value"])),
            headers: headers
                .iter()
                .map(|(name, value)| (name.as_str().into(), Some(bytes(value))))
                .collect(),
        };
        let decoded = postrider_wire::event::decode(&record, &DecodeRule::Auto(None));
        let mut decoded = decoded.unwrap_or_else(|error| panic!("{message}: {error}"));
        let (_, content_type, data) = kinds()
            .into_iter()
            .find(|(kind, ..)| message["data"] == *kind)
            .expect("a kind");
        let mut expected = event(content_type, data);
        assert_same_time(decoded.time.as_deref().expect("a time"));
        decoded.time.clone_from(&expected.time);
        if message["data"] == "json" {
            // Each has its own spaces and escapes.
            let json =
                |event: &Event| -> Value { serde_json::from_slice(&event.data).expect("JSON") };
            assert_eq!(json(&decoded), json(&expected), "{message}");
            expected.data = decoded.data.clone();
        }
        assert_eq!(decoded, expected, "{message}");
    }
}

#[test]
fn the_library_for_python_reads_what_we_send() {
    assert_read("python.sh", "events.py");
}

#[test]
fn the_library_for_node_reads_what_we_send() {
    assert_read("node.sh", "events.mjs");
}

#[test]
fn we_read_what_the_library_for_python_writes_for_kafka() {
    assert_written("python.sh", "events.py");
}

#[test]
fn we_read_what_the_library_for_node_writes_for_kafka() {
    assert_written("node.sh", "events.mjs");
}
