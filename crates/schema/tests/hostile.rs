//! Facts about schemas and values that are made to exhaust their reader.

use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use postrider_schema::{Kind, NAME_BYTES_MAX, Schema, TEXT_BYTES_MAX, Unreadable, frame};

const LIMIT: usize = 1 << 20;

/// With the stack that threads have.
fn compiled(kind: Kind, text: String) -> Result<Schema, String> {
    let compile = move || Schema::new(kind, &text, &[]).map_err(|unusable| unusable.to_string());
    let thread = thread::Builder::new().stack_size(2 << 20).spawn(compile);
    thread.expect("a thread").join().expect("no panic")
}

fn read(schema: &Schema, body: &[u8]) -> Result<String, Unreadable> {
    let value: Bytes = [&[0, 0, 0, 0, 7], body].concat().into();
    let frame = frame(&value, None).expect("it is framed");
    let json = schema.read(&value, &frame, LIMIT)?;
    Ok(String::from_utf8(json.to_vec()).expect("JSON is UTF-8"))
}

/// `item`, with what it is given, as often as a schema has room.
fn filled(head: &str, item: impl Fn(usize) -> String, tail: &str) -> String {
    let mut text = head.to_owned();
    for number in 0.. {
        let item = item(number);
        if text.len() + item.len() + tail.len() > TEXT_BYTES_MAX {
            break;
        }
        text += &item;
    }
    text + tail
}

#[test]
fn an_option_as_deep_as_the_text_is_passed_over() {
    for open in [
        "a{s:\"}\" ",
        "a{s:'}' ",
        "a{# }\n",
        "a<s:\"}>\" ",
        "a{l:[{ ",
    ] {
        for depth in [1_000, 50_000] {
            let close: String = open.bytes().rev().filter_map(closing).collect();
            let text = format!(
                "syntax = \"proto2\"; import \"google/protobuf/descriptor.proto\"; \
                 message A {{ optional string s = 1; }} \
                 message O {{ optional O a = 1; optional string s = 2; repeated O l = 3; }} \
                 extend google.protobuf.FileOptions {{ optional O o = 50000; }} \
                 option (o) = {{ {} {} }};",
                open.repeat(depth),
                close.repeat(depth)
            );
            let schema = compiled(Kind::Protobuf, text).unwrap();
            let json = read(&schema, &[0, 0x0a, 1, b'n']).unwrap();
            assert_eq!(json, r#"{"s":"n"}"#, "{open} {depth}");
        }
    }
}

/// What closes a bracket that is no text.
fn closing(bracket: u8) -> Option<char> {
    match bracket {
        b'{' => Some('}'),
        b'<' => Some('>'),
        b'[' => Some(']'),
        _ => None,
    }
}

#[test]
fn a_path_of_options_as_long_as_the_text_is_passed_over() {
    let text = filled(
        "import \"google/protobuf/descriptor.proto\"; \
         message O { optional O a = 1; optional string s = 2; } \
         extend google.protobuf.FileOptions { optional O o = 50000; } option (o)",
        |_| ".a".to_owned(),
        ".s = \"\";",
    );
    assert!(compiled(Kind::Protobuf, text).is_ok());
}

#[test]
fn a_value_is_read_the_same_with_options_as_without() {
    let text = |open: &str, close: &str, deprecated: &str, packed: &str, file: &str| {
        format!(
            "syntax = \"proto3\"; import \"google/protobuf/descriptor.proto\"; {file} \
             message Rule {{ repeated string of = 1; }} \
             extend google.protobuf.FieldOptions {{ Rule rule = 50000; }} \
             enum State {{ option allow_alias = true; NEW = 0 {deprecated}; OLD = 0; DONE = 1; }} \
             message A {{ {open} map<string, int32> m = 1 {deprecated}; {close} \
               repeated int32 n = 2 {packed}; State state = 3; \
               string named = 4 [json_name = \"other\"]; oneof o {{ {open} int64 i = 5; }} }}"
        )
    };
    let plain = text("", "", "", "", "");
    let with = text(
        "option (rule).of = \"a\";",
        "option deprecated = true;",
        "[deprecated = true, (rule) = { of: \"}\" of: '{' }]",
        "[packed = false]",
        "option java_package = \"a\"; option (unknown.option) = { a: 1 };",
    );
    let body = [
        &[2, 2, 0x0a, 5, 0x0a, 1, b'k', 0x10, 5, 0x12, 2, 1, 2][..],
        &[0x10, 3, 0x18, 1, 0x22, 1, b'x', 0x28, 7],
    ]
    .concat();
    let plain = read(&compiled(Kind::Protobuf, plain).unwrap(), &body).unwrap();
    let with = read(&compiled(Kind::Protobuf, with).unwrap(), &body).unwrap();
    let expected = r#"{"m":{"k":5},"n":[1,2,3],"state":"DONE","other":"x","i":"7"}"#;
    assert_eq!((&*plain, &*with), (expected, expected));
}

#[test]
fn schemas_as_deep_as_they_may_be_need_no_more_than_a_stack() {
    let nested = |open: &str, inner: &str, close: &str, depth: usize| {
        format!("{}{inner}{}", open.repeat(depth), close.repeat(depth))
    };
    let messages = |depth| nested("message A {", "", "}", depth);
    assert!(compiled(Kind::Protobuf, messages(31)).is_ok());
    let deeper = compiled(Kind::Protobuf, messages(32)).unwrap_err();
    assert!(deeper.contains("nested messages"), "{deeper}");
    let groups = nested("message A { optional group A = 1 {", "", "}}", 20_000);
    assert!(compiled(Kind::Protobuf, groups).is_err());
    let arrays = nested(r#"{"type":"array","items":"#, "\"int\"", "}", 126);
    assert!(compiled(Kind::Avro, arrays).is_ok());
    assert!(compiled(Kind::Avro, nested("[", "\"int\"", "]", 126)).is_ok());
}

#[test]
fn names_that_would_be_kept_again_and_again_are_refused() {
    let long = "n".repeat(NAME_BYTES_MAX);
    for (kind, text) in [
        (
            Kind::Avro,
            format!(r#"{{"type":"fixed","name":"a","namespace":"{long}","size":1}}"#),
        ),
        (
            Kind::Avro,
            format!(r#"{{"type":"fixed","name":"{long}n","size":1}}"#),
        ),
        (Kind::Avro, format!(r#"["int","{long}n"]"#)),
        (Kind::Protobuf, format!("package {long}; message A {{}}")),
        (
            Kind::Protobuf,
            format!("package {long}; enum A {{ B = 0; }}"),
        ),
        (
            Kind::Protobuf,
            format!("message A {{ optional int32 {long} = 1; }}"),
        ),
        (
            Kind::Protobuf,
            format!("message A {{ oneof {long} {{ int32 a = 1; }} }}"),
        ),
    ] {
        let why = compiled(kind, text).unwrap_err();
        assert!(
            why.contains("more than 512 bytes") && why.len() < 600,
            "{why}"
        );
    }
    let many = filled("", |number| format!("message A{number} {{}} "), "");
    let why = compiled(Kind::Protobuf, many).unwrap_err();
    assert!(why.contains("so many names"), "{why}");
    let longest = format!(r#"{{"type":"fixed","name":"{}","size":1}}"#, &long[1..]);
    assert!(compiled(Kind::Avro, longest).is_ok());
}

#[test]
fn what_a_schema_costs_grows_with_what_is_kept_of_it() {
    let cost = |kind, text: &str| compiled(kind, text.to_owned()).unwrap().cost();
    let field = "optional int32 a = 1;";
    let one = cost(Kind::Protobuf, &format!("message A {{ {field} }}"));
    let commented = format!("message A {{ {field} }} /*{}*/", "*".repeat(1 << 19));
    assert_eq!(cost(Kind::Protobuf, &commented), one);
    let imported = format!("import \"google/protobuf/descriptor.proto\"; {commented}");
    assert!(cost(Kind::Protobuf, &imported) > 100 * one);
    assert!(cost(Kind::Avro, "\"int\"") < cost(Kind::Avro, "[\"int\",\"long\"]"));
    assert_eq!(cost(Kind::Json, "{}"), 0);
}

#[test]
fn long_decimals_are_written_in_a_moment() {
    let schema = r#"{"type":"array","items":{"type":"bytes","logicalType":"decimal"}}"#;
    let schema = compiled(Kind::Avro, schema.to_owned()).unwrap();
    let count = 3_200_u16;
    let header = [(count * 2) as u8 | 0x80, ((count * 2) >> 7) as u8];
    let decimal = [&[0x80, 2], &[0x7f; 128][..]].concat();
    let body = [&header[..], &decimal.repeat(count.into()), &[0]].concat();
    // the best of some, as others use the machine too
    let times = (0..5).map(|_| {
        let began = Instant::now();
        assert_eq!(
            read(&schema, &body).map(|json| json.len()),
            Ok(3_200 * 311 + 1)
        );
        began.elapsed()
    });
    let best = times.min().unwrap();
    assert!(best < Duration::from_millis(250), "{best:?}");
}
