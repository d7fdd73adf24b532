//! What serializers that others wrote frame for a schema registry is read as they meant it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use postrider_schema::{Kind, Reference, Schema, SchemaId, frame};
use serde_json::Value;

fn text<'a>(of: &'a Value, name: &str) -> &'a str {
    of[name].as_str().expect("a text")
}

fn bytes(of: &Value, name: &str) -> Option<Bytes> {
    let text = of[name].as_str()?;
    Some(STANDARD.decode(text).expect("base64").into())
}

/// Numbers by their digits, so that no precision is lost between here and there.
fn digits(value: &Value) -> Value {
    match value {
        Value::Number(number) => Value::String(format!("number {number}")),
        Value::Array(items) => items.iter().map(digits).collect(),
        Value::Object(members) => {
            let members = members.iter();
            members.map(|(name, v)| (name.clone(), digits(v))).collect()
        }
        other => other.clone(),
    }
}

#[test]
fn confluents_serializers_write_what_we_read() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("encode.sh");
    let output = Command::new(script).output().expect("the script is there");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "encode.sh failed: {complaint}");
    let mut seen = BTreeSet::new();
    for line in String::from_utf8(output.stdout).expect("JSON").lines() {
        let case: Value = serde_json::from_str(line).expect("a case on each line");
        let name = text(&case, "name");
        let references = case["references"].as_array().expect("a list").iter();
        let references: Vec<_> = references
            .map(|reference| Reference {
                name: text(reference, "name").to_owned(),
                text: text(reference, "schema").to_owned(),
            })
            .collect();
        let kind = match text(&case, "kind") {
            "AVRO" => Kind::Avro,
            "PROTOBUF" => Kind::Protobuf,
            "JSON" => Kind::Json,
            other => panic!("{other}"),
        };
        let schema = Schema::new(kind, text(&case, "schema"), &references)
            .unwrap_or_else(|unusable| panic!("{name}: {unusable}"));
        let value = bytes(&case, "value").expect("a value");
        let header = bytes(&case, "header");
        let frame = frame(&value, header.as_deref()).expect("it is framed");
        let by_guid = matches!(frame.schema, SchemaId::Guid(_));
        assert_eq!(by_guid, header.is_some(), "{name}");
        let read = schema.read(&value, &frame, 1 << 20);
        let read = read.unwrap_or_else(|unreadable| panic!("{name}: {unreadable}"));
        let read: Value = serde_json::from_slice(&read).expect("JSON");
        assert_eq!(digits(&read), digits(&case["expected"]), "{name}");
        seen.insert(name.to_owned());
    }
    let places = |kind: &str| [format!("{kind}, header"), format!("{kind}, value")];
    let kinds = ["avro", "json schema", "protobuf Line", "protobuf Order"];
    let all: BTreeSet<_> = kinds.iter().flat_map(|kind| places(kind)).collect();
    assert_eq!(seen, all);
}
