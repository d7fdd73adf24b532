//! An endpoint document of any bytes, as a record and as a file.
//!
//! Input: the document.

use postrider_domain::Timestamp;
use postrider_guard::Policy;
use postrider_wire::endpoint::{FileFormat, from_record, parse_file, to_display_json, to_record};
use serde_json::Value;

/// What is read is read alike from what it is written as, and shows no secret.
pub(crate) fn endpoint(input: &[u8]) {
    let key = key_of(input);
    if let Ok(endpoint) = from_record(key.as_bytes(), input) {
        let written = to_record(&endpoint, Timestamp::from_secs(1_674_087_231));
        let read = from_record(key.as_bytes(), &written);
        assert_eq!(read.as_ref(), Ok(&endpoint), "read otherwise");
        shows_no_secret(&to_display_json(&endpoint), &written);
    }
    for format in [FileFormat::Yaml, FileFormat::Json] {
        for endpoint in parse_file(input, format, &Policy::default()).unwrap_or_default() {
            let written = to_record(&endpoint, Timestamp::from_secs(1_674_087_231));
            let key = endpoint.id.as_str().as_bytes();
            assert_eq!(from_record(key, &written).as_ref(), Ok(&endpoint));
        }
    }
}

fn key_of(input: &[u8]) -> String {
    let value: Option<Value> = serde_json::from_slice(input).ok();
    let id = value.as_ref().and_then(|value| value["id"].as_str());
    id.unwrap_or_default().to_owned()
}

fn shows_no_secret(shown: &Value, written: &[u8]) {
    let written: Value = serde_json::from_slice(written).expect("JSON that was just written");
    let shown = shown.to_string();
    let secrets = written["signing"]["secrets"].as_array();
    for secret in secrets.into_iter().flatten() {
        let value = secret["value"].as_str().expect("a secret is text");
        // shorter ones turn up by chance
        if value.len() >= 24 {
            assert!(!shown.contains(value), "shown: {shown}");
        }
    }
}
