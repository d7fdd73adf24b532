//! A value framed for a schema registry, and its schema.
//!
//! Input: lines `kind: avro|protobuf|json` and `schema: …`, which may repeat; the data in the frame.

use bytes::Bytes;
use postrider_schema::{Kind, Schema, frame};
use serde_json::value::RawValue;

use crate::text::head_and_body;

const LIMIT: usize = 1 << 16;

/// What is read fits its bound and is JSON, but of the schema `"bytes"`.
pub(crate) fn framed(input: &[u8]) {
    let (lines, data) = head_and_body(input);
    let (mut kind, mut text) = (Kind::Avro, String::new());
    for line in &lines {
        match line.split_once(": ") {
            Some(("kind", "protobuf")) => kind = Kind::Protobuf,
            Some(("kind", "json")) => kind = Kind::Json,
            Some(("schema", more)) => {
                text += more;
                text.push('\n');
            }
            _ => {}
        }
    }
    let Ok(schema) = Schema::new(kind, &text, &[]) else {
        return;
    };
    let in_value: Bytes = [&[0, 0, 0, 0, 7], data].concat().into();
    let in_header = Bytes::copy_from_slice(data);
    for (value, header) in [(in_value, None), (in_header, Some(data))] {
        let Some(frame) = frame(&value, header) else {
            continue;
        };
        let Ok(json) = schema.read(&value, &frame, LIMIT) else {
            continue;
        };
        assert!(json.len() <= LIMIT, "too large: {}", json.len());
        let same = json == value.slice(frame.body..);
        let parsed = serde_json::from_slice::<&RawValue>(&json);
        assert!(parsed.is_ok() || same, "no JSON");
    }
}
