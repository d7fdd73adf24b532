//! Facts about values of schemas.

use std::collections::BTreeMap;

use apache_avro::types::Value as AvroValue;
use proptest::prelude::*;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::*;

const LIMIT: usize = 1 << 20;

fn avro(schema: &Value) -> Schema {
    Schema::new(Kind::Avro, &schema.to_string(), &[]).unwrap()
}

fn framed(body: &[u8]) -> Bytes {
    [&[0, 0, 0, 0, 7], body].concat().into()
}

fn read(schema: &Schema, body: &[u8]) -> Result<String, Unreadable> {
    let value = framed(body);
    let frame = frame(&value, None).expect("it is framed");
    let json = schema.read(&value, &frame, LIMIT)?;
    Ok(String::from_utf8(json.to_vec()).expect("JSON is UTF-8"))
}

/// What another implementation writes.
fn written(schema: &Value, value: AvroValue) -> Vec<u8> {
    let schema = apache_avro::Schema::parse_str(&schema.to_string()).unwrap();
    apache_avro::to_avro_datum(&schema, value).unwrap()
}

#[test]
fn a_frame_is_a_zero_and_a_number_or_a_header() {
    let found = frame(&[0, 0, 0, 1, 2, 9, 9], None).unwrap();
    assert_eq!((found.schema, found.body), (SchemaId::Number(258), 5));
    assert_eq!(found.message, None);
    for unframed in [
        &b"{\"a\":1}"[..],
        b"",
        &[0, 0, 0, 0],
        &[0, 0, 0, 0, 0, 1],
        &[0, 0x80, 0, 0, 0, 1],
        &[1; 30],
    ] {
        assert_eq!(frame(unframed, None), None, "{unframed:?}");
    }
    let guid: Vec<u8> = [1].into_iter().chain(0x89..=0x98).chain([2, 0]).collect();
    let found = frame(b"{}", Some(&guid)).unwrap();
    assert_eq!(
        found.schema.to_string(),
        "898a8b8c-8d8e-8f90-9192-939495969798"
    );
    assert_eq!(
        (found.body, found.message.as_deref()),
        (0, Some(&[2, 0][..]))
    );
    let found = frame(b"{}", Some(&[0, 0, 0, 0, 3])).unwrap();
    assert_eq!((found.schema, found.body), (SchemaId::Number(3), 0));
    assert_eq!(frame(b"{}", Some(&guid[..16])), None);
}

#[test]
fn an_avro_record_becomes_an_object_in_the_order_of_its_fields() {
    let schema = json!({
        "type": "record", "name": "Payment", "namespace": "shop", "fields": [
            {"name": "id", "type": "string"},
            {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 2}},
            {"name": "count", "type": "long"},
            {"name": "note", "type": ["null", "string"], "default": null},
            {"name": "state", "type": {"type": "enum", "name": "State", "symbols": ["NEW", "PAID"]}},
            {"name": "raw", "type": "bytes"},
            {"name": "tags", "type": {"type": "array", "items": "string"}},
            {"name": "extra", "type": {"type": "map", "values": ["null", "double"]}},
            {"name": "before", "type": ["null", "State"]},
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
            {"name": "day", "type": {"type": "int", "logicalType": "date"}},
            {"name": "ok", "type": "boolean"},
        ]
    });
    let value = AvroValue::Record(vec![
        ("id".into(), AvroValue::String("pay_\"1\"".into())),
        (
            "amount".into(),
            AvroValue::Decimal(apache_avro::Decimal::from(vec![0x01, 0x86, 0xa1])),
        ),
        ("count".into(), AvroValue::Long(9_007_199_254_740_993)),
        (
            "note".into(),
            AvroValue::Union(0, Box::new(AvroValue::Null)),
        ),
        ("state".into(), AvroValue::Enum(1, "PAID".into())),
        ("raw".into(), AvroValue::Bytes(vec![0xff, 0])),
        (
            "tags".into(),
            AvroValue::Array(vec![
                AvroValue::String("a".into()),
                AvroValue::String("é".into()),
            ]),
        ),
        (
            "extra".into(),
            AvroValue::Map(
                [(
                    "x".to_owned(),
                    AvroValue::Union(1, Box::new(AvroValue::Double(0.1))),
                )]
                .into(),
            ),
        ),
        (
            "before".into(),
            AvroValue::Union(1, Box::new(AvroValue::Enum(0, "NEW".into()))),
        ),
        ("at".into(), AvroValue::TimestampMillis(1_674_087_231_450)),
        ("day".into(), AvroValue::Date(-1)),
        ("ok".into(), AvroValue::Boolean(true)),
    ]);
    assert_eq!(
        read(&avro(&schema), &written(&schema, value)).unwrap(),
        r#"{"id":"pay_\"1\"","amount":"1000.01","count":9007199254740993,"note":null,"#.to_owned()
            + r#""state":"PAID","raw":"/wA=","tags":["a","é"],"extra":{"x":0.1},"before":"NEW","#
            + r#""at":"2023-01-19T00:13:51.450Z","day":"1969-12-31","ok":true}"#
    );
}

#[test]
fn logical_types_are_written_by_what_they_mean() {
    let cases: [(Value, &[u8], Option<&str>); 13] = [
        (
            json!({"type": "int", "logicalType": "time-millis"}),
            &[0xd0, 0x0f],
            Some("\"00:00:01.000\""),
        ),
        (
            json!({"type": "long", "logicalType": "time-micros"}),
            &[2],
            Some("\"00:00:00.000001\""),
        ),
        (
            json!({"type": "long", "logicalType": "time-micros"}),
            &[1],
            None,
        ),
        (
            json!({"type": "long", "logicalType": "timestamp-micros"}),
            &[1],
            Some("\"1969-12-31T23:59:59.999999Z\""),
        ),
        (
            json!({"type": "long", "logicalType": "timestamp-nanos"}),
            &[0],
            Some("\"1970-01-01T00:00:00.000000000Z\""),
        ),
        (
            json!({"type": "long", "logicalType": "local-timestamp-millis"}),
            &[2],
            Some("\"1970-01-01T00:00:00.001\""),
        ),
        (
            json!({"type": "long", "logicalType": "timestamp-millis"}),
            &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
            None,
        ),
        (
            json!({"type": "fixed", "name": "u", "size": 16, "logicalType": "uuid"}),
            &[1; 16],
            Some("\"01010101-0101-0101-0101-010101010101\""),
        ),
        (
            json!({"type": "string", "logicalType": "uuid"}),
            &[2, b'x'],
            Some("\"x\""),
        ),
        (
            json!({"type": "fixed", "name": "d", "size": 12, "logicalType": "duration"}),
            &[1, 0, 0, 0, 2, 0, 0, 0, 0xbc, 0x0b, 0, 0],
            Some("\"P1M2DT3.004S\""),
        ),
        (
            json!({"type": "fixed", "name": "m", "size": 2, "logicalType": "decimal", "precision": 4, "scale": 2}),
            &[0xff, 0x9c],
            Some("\"-1.00\""),
        ),
        (
            json!({"type": "int", "logicalType": "timestamp-millis"}),
            &[2],
            Some("1"),
        ),
        (
            json!({"type": {"type": "long", "logicalType": "unheard-of"}}),
            &[3],
            Some("-2"),
        ),
    ];
    for (schema, body, expected) in cases {
        assert_eq!(
            read(&avro(&schema), body).ok().as_deref(),
            expected,
            "{schema}"
        );
    }
}

#[test]
fn numbers_without_a_json_number_are_text() {
    let double = |number: f64| read(&avro(&json!("double")), &number.to_le_bytes()).unwrap();
    assert_eq!(double(f64::NAN), "\"NaN\"");
    assert_eq!(double(f64::NEG_INFINITY), "\"-Infinity\"");
    assert_eq!(double(-0.5), "-0.5");
    let float = read(&avro(&json!("float")), &0.1_f32.to_le_bytes()).unwrap();
    assert_eq!(float, "0.1", "not the digits of the nearest double");
}

#[test]
fn a_value_of_the_schema_bytes_is_these_bytes() {
    for text in ["\"bytes\"", "bytes"] {
        let schema = Schema::new(Kind::Avro, text, &[]).unwrap();
        assert_eq!(read(&schema, b"{}").unwrap(), "{}");
    }
}

#[test]
fn avro_references_are_found_by_their_full_names() {
    let reference = |name: &str, schema: &Value| Reference {
        name: name.to_owned(),
        text: schema.to_string(),
    };
    let references = [
        reference(
            "a.Money",
            &json!({"type": "record", "name": "Money", "namespace": "a", "fields": [
                {"name": "value", "type": "long"}
            ]}),
        ),
        reference(
            "b.Line",
            &json!({"type": "record", "name": "b.Line", "fields": [
                {"name": "price", "type": "a.Money"}
            ]}),
        ),
    ];
    let schema = json!({"type": "record", "name": "b.Order", "fields": [
        {"name": "lines", "type": {"type": "array", "items": "Line"}},
        {"name": "next", "type": ["null", "Order"]}
    ]});
    let compiled = Schema::new(Kind::Avro, &schema.to_string(), &references).unwrap();
    assert_eq!(
        read(&compiled, &[2, 6, 0, 2, 0, 0]).unwrap(),
        r#"{"lines":[{"price":{"value":3}}],"next":{"lines":[],"next":null}}"#
    );
    let missing = Schema::new(Kind::Avro, &schema.to_string(), &references[..1]).unwrap_err();
    assert_eq!(missing.to_string(), "no type \"Line\"");
}

#[test]
fn broken_schemas_say_what_is_wrong() {
    let wrong = |kind, text: &str| Schema::new(kind, text, &[]).unwrap_err().to_string();
    assert!(wrong(Kind::Avro, "{").contains("not JSON"));
    assert!(wrong(Kind::Avro, "{}").contains("without \"type\""));
    assert!(wrong(Kind::Avro, &"[".repeat(500_000)).contains("recursion"));
    assert!(wrong(Kind::Avro, r#"{"type":"fixed","name":"a"}"#).contains("size"));
    assert!(
        wrong(
            Kind::Avro,
            r#"[{"type":"fixed","name":"a","size":1},{"type":"fixed","name":"a","size":1}]"#
        )
        .contains("twice")
    );
    assert!(wrong(Kind::Protobuf, "message {").contains("expected"));
    assert!(wrong(Kind::Protobuf, &"message A {".repeat(50_000)).contains("nested messages"));
    assert!(wrong(Kind::Protobuf, "syntax = \"proto3\"; import \"b.proto\";").contains("b.proto"));
    assert!(
        wrong(
            Kind::Protobuf,
            "syntax = \"proto3\"; import \"google/protobuf/any.proto\";"
        )
        .contains("any.proto")
    );
    assert!(wrong(Kind::Avro, &" ".repeat(TEXT_BYTES_MAX + 1)).contains("bytes"));
}

#[test]
fn values_that_do_not_fit_their_schema_say_why() {
    let why = |schema: Value, body: &[u8]| read(&avro(&schema), body).unwrap_err().to_string();
    assert!(why(json!("string"), &[4, b'a']).contains("too early"));
    assert!(why(json!("string"), &[2, 0xff]).contains("UTF-8"));
    assert!(why(json!("string"), &[1]).contains("length of -1"));
    assert!(why(json!("int"), &[0x80, 0x80, 0x80, 0x80, 0x20]).contains("an int of"));
    assert!(why(json!("long"), &[0xff; 10]).contains("64 bits"));
    assert!(why(json!("null"), &[0]).contains("left behind"));
    assert!(why(json!(["null"]), &[2]).contains("branch 1"));
    assert!(why(json!("boolean"), &[2]).contains("boolean"));
    assert!(
        why(
            json!({"type": "bytes", "logicalType": "decimal", "precision": 4}),
            &[[0x82, 2].as_slice(), &[1; 129]].concat()
        )
        .contains("128 are read")
    );
}

#[test]
fn values_that_are_small_and_mean_much_are_bounded() {
    let huge = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    let nothing = json!({"type": "record", "name": "e", "fields": []});
    for items in [
        json!("null"),
        nothing,
        json!({"type": "fixed", "name": "f", "size": 0}),
    ] {
        let schema = avro(&json!({"type": "array", "items": items}));
        assert_eq!(read(&schema, &huge), Err(Unreadable::TooLarge(LIMIT)));
    }
    let list =
        json!({"type": "record", "name": "l", "fields": [{"name": "n", "type": ["null", "l"]}]});
    let deep = read(&avro(&list), &vec![2; 1 << 20]).unwrap_err();
    assert!(deep.to_string().contains("deeper"), "{deep}");
    let endless = json!({"type": "record", "name": "l", "fields": [{"name": "n", "type": "l"}]});
    assert!(
        read(&avro(&endless), &[])
            .unwrap_err()
            .to_string()
            .contains("deeper")
    );
}

#[test]
fn json_of_a_json_schema_is_forwarded_as_it_was_written() {
    let schema = Schema::new(Kind::Json, "{\"type\": \"object\"}", &[]).unwrap();
    let value = framed(b"{\"amount\": 10.50}");
    let found = frame(&value, None).unwrap();
    let json = schema.read(&value, &found, LIMIT).unwrap();
    assert_eq!(&*json, b"{\"amount\": 10.50}");
    assert_eq!(json.as_ptr(), value[5..].as_ptr(), "shared, not copied");
    assert!(read(&schema, b"{").is_err());
    assert_eq!(schema.read(&value, &found, 3), Err(Unreadable::TooLarge(3)));
}

const PAYMENT: &str = r#"
syntax = "proto3";
package shop;
import "google/protobuf/timestamp.proto";
import "money.proto";
message Other { string name = 1; }
message Payment {
  enum State { NEW = 0; PAID = 1; }
  message Line { int32 count = 1; }
  string payment_id = 1;
  int64 amount = 2;
  State state = 3;
  bytes raw = 4;
  repeated Line lines = 5;
  map<string, int32> extra = 6;
  google.protobuf.Timestamp at = 7;
  optional int32 zero = 8;
  Payment before = 9;
  Money money = 10;
  message Inner { bool ok = 1; }
}
"#;

fn payment() -> Schema {
    let money = Reference {
        name: "money.proto".to_owned(),
        text: "syntax = \"proto3\"; package shop; message Money { uint64 units = 1; }".to_owned(),
    };
    Schema::new(Kind::Protobuf, PAYMENT, &[money]).unwrap()
}

#[test]
fn a_protobuf_message_is_found_by_its_index_and_written_as_proto3_says() {
    let body = [
        &[2, 2, 0x0a, 1, b'x'][..],
        &[0x10, 0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10],
        &[0x18, 1, 0x22, 2, 0xff, 0, 0x2a, 2, 8, 3],
        &[0x32, 5, 0x0a, 1, b'k', 0x10, 5, 0x3a, 2, 8, 1, 0x40, 0],
        &[0x52, 2, 8, 9],
    ]
    .concat();
    assert_eq!(
        read(&payment(), &body).unwrap(),
        r#"{"paymentId":"x","amount":"9007199254740993","state":"PAID","raw":"/wA=","#.to_owned()
            + r#""lines":[{"count":3}],"extra":{"k":5},"at":"1970-01-01T00:00:01Z","zero":0,"#
            + r#""money":{"units":"9"}}"#
    );
    assert_eq!(
        read(&payment(), &[0, 0x0a, 1, b'n']).unwrap(),
        r#"{"name":"n"}"#
    );
    assert_eq!(
        read(&payment(), &[4, 2, 2, 8, 1]).unwrap(),
        r#"{"ok":true}"#,
        "the entries of a map are no messages that count"
    );
    for broken in [
        &[][..],
        &[1],
        &[2, 0x7e],
        &[4, 2],
        &[2, 2, 0x0a, 9],
        &[0xff; 9],
    ] {
        assert!(read(&payment(), broken).is_err(), "{broken:?}");
    }
    let headed = Bytes::from_static(&[0x0a, 1, b'n']);
    let guid = [[1].as_slice(), &[7; 16], &[0]].concat();
    let found = frame(&headed, Some(&guid)).unwrap();
    assert_eq!(
        &*payment().read(&headed, &found, LIMIT).unwrap(),
        br#"{"name":"n"}"#
    );
}

/// A field of bytes.
fn field(tag: u8, inner: &[u8]) -> Vec<u8> {
    let mut outer = vec![tag];
    let mut length = inner.len();
    while length >= 0x80 {
        outer.push((length % 0x80) as u8 | 0x80);
        length /= 0x80;
    }
    outer.push(length as u8);
    outer.extend_from_slice(inner);
    outer
}

#[test]
fn a_deep_or_wide_protobuf_message_is_bounded() {
    let nested = |depth: usize| {
        let deep = (0..depth).fold(Vec::new(), |inner, _| field(0x4a, &inner));
        read(&payment(), &[&[2, 2][..], &deep].concat())
    };
    assert!(matches!(nested(5_000), Err(Unreadable::Malformed(_))));
    assert!(nested(90).unwrap().starts_with(r#"{"before":{"before":"#));
    let lists = |depth: usize| {
        let deep = (0..depth).fold(Vec::new(), |inner, _| field(0x32, &field(0x0a, &inner)));
        read(&well_known(), &[&[0][..], &field(0x22, &deep)].concat())
    };
    assert!(matches!(lists(1_000), Err(Unreadable::Malformed(_))));
    assert!(lists(45).unwrap().starts_with(r#"{"d":[[["#));
    let wide = [&[2, 2][..], &[0x2a, 0].repeat(1 << 19)].concat();
    assert_eq!(read(&payment(), &wide), Err(Unreadable::TooLarge(LIMIT)));
}

/// A schema with every Avro type in it.
fn everything() -> Value {
    json!({"type": "record", "name": "all", "fields": [
        {"name": "a", "type": ["null", "boolean", "int", "long", "float", "double", "bytes", "string", "all"]},
        {"name": "b", "type": {"type": "array", "items": ["null", "all"]}},
        {"name": "c", "type": {"type": "map", "values": "long"}},
        {"name": "d", "type": [
            {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 3},
            {"type": "int", "logicalType": "date"},
        ]},
        {"name": "e", "type": [
            {"type": "long", "logicalType": "timestamp-micros"},
            {"type": "int", "logicalType": "time-millis"},
            {"type": "fixed", "name": "dur", "size": 12, "logicalType": "duration"},
            {"type": "enum", "name": "en", "symbols": ["A", "B"]},
        ]},
    ]})
}

const WELL_KNOWN: &str = r#"
syntax = "proto3";
import "google/protobuf/timestamp.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/field_mask.proto";
import "google/protobuf/wrappers.proto";
message A {
  google.protobuf.Timestamp a = 1;
  google.protobuf.Duration b = 2;
  google.protobuf.Struct c = 3;
  google.protobuf.Value d = 4;
  google.protobuf.FieldMask e = 5;
  google.protobuf.Int64Value f = 6;
  repeated double g = 7;
  oneof h { string i = 8; A j = 9; }
}
"#;

fn well_known() -> Schema {
    Schema::new(Kind::Protobuf, WELL_KNOWN, &[]).unwrap()
}

/// A number as Protobuf writes it.
fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

proptest! {
    /// Times, durations and names that no calendar and no language has.
    #[test]
    fn well_known_types_with_any_values_never_panic(
        seconds: i64, nanos: i32, double: f64, name: String, near in -70_000_000_000..300_000_000_000_i64,
    ) {
        let varint = |number: i64| varint(number.cast_unsigned());
        for seconds in [seconds, near] {
            let time = [&[8][..], &varint(seconds), &[16], &varint(nanos.into())].concat();
            let body = [
                field(0x0a, &time),
                field(0x12, &time),
                field(0x22, &[&[0x11][..], &double.to_le_bytes()].concat()),
                field(0x2a, &field(0x0a, name.as_bytes())),
                field(0x3a, &double.to_le_bytes()),
                field(0x42, name.as_bytes()),
            ];
            let (only, schema) = (body.each_ref().map(|field| &field[..]), well_known());
            for body in only.iter().copied().chain([&*body.concat()]) {
                if let Ok(json) = read(&schema, &[&[0], body].concat()) {
                    prop_assert!(serde_json::from_str::<Value>(&json).is_ok(), "{}", json);
                }
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_what_is_read_is_json(
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            prop::collection::vec(0..20_u8, 0..200),
        ],
    ) {
        drop(frame(&bytes, Some(&bytes)));
        for schema in [avro(&everything()), payment(), well_known()] {
            if let Ok(json) = read(&schema, &bytes) {
                prop_assert!(serde_json::from_str::<Value>(&json).is_ok(), "{}", json);
            }
        }
    }

    #[test]
    fn arbitrary_schemas_never_panic(text in "[\\[\\]{}\":,a-z0-9 ]{0,60}", proto in "[ -~]{0,80}") {
        drop(Schema::new(Kind::Avro, &text, &[]));
        drop(Schema::new(Kind::Protobuf, &proto, &[]));
    }

    /// Against a value that another implementation wrote.
    #[test]
    fn numbers_and_texts_are_those_that_were_written(
        long: i64, text: String, bytes: Vec<u8>, double: f64, flags: Vec<bool>,
    ) {
        let schema = json!({"type": "record", "name": "r", "fields": [
            {"name": "long", "type": "long"},
            {"name": "text", "type": ["null", "string"]},
            {"name": "bytes", "type": "bytes"},
            {"name": "double", "type": "double"},
            {"name": "flags", "type": {"type": "array", "items": "boolean"}},
        ]});
        let value = AvroValue::Record(vec![
            ("long".into(), AvroValue::Long(long)),
            ("text".into(), AvroValue::Union(1, Box::new(AvroValue::String(text.clone())))),
            ("bytes".into(), AvroValue::Bytes(bytes.clone())),
            ("double".into(), AvroValue::Double(double)),
            ("flags".into(), AvroValue::Array(flags.iter().copied().map(AvroValue::Boolean).collect())),
        ]);
        let json = read(&avro(&schema), &written(&schema, value)).unwrap();
        let found: Value = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(found["long"].as_i64(), Some(long));
        prop_assert_eq!(found["text"].as_str(), Some(&*text));
        use base64::Engine as _;
        let encoded = base64::engine::general_purpose::STANDARD.encode(bytes);
        prop_assert_eq!(found["bytes"].as_str(), Some(&*encoded));
        if double.is_finite() {
            // by its text, as reading it as a number may change the last digit
            let parts: BTreeMap<&str, &RawValue> = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(parts["double"].get().parse(), Ok(double));
        }
        prop_assert_eq!(&found["flags"], &json!(flags));
    }
}
