//! An endpoint document of any bytes, as a record and as a file.
//!
//! Input: the document.

use postrider_domain::{Endpoint, Timestamp};
use postrider_guard::Policy;
use postrider_signing::{KeyRing, NONCE_BYTES, Nonces};
use postrider_wire::endpoint::{
    FileFormat, Reseal, Sealing, from_record, parse_file, reseal, to_display_json, to_record,
};
use serde_json::Value;

const AT: Timestamp = Timestamp::from_secs(1_674_087_231);

/// What is read is read alike from what it is written as, sealed or not, and shows no secret.
pub(crate) fn endpoint(input: &[u8]) {
    let key = key_of(input);
    let keys = keys();
    if let Ok(read) = from_record(key.as_bytes(), input, &keys) {
        let shown = to_display_json(&read.endpoint, input).expect("it was read");
        shows_no_secret(&shown, input);
        let nonces = Nonces::new([3; NONCE_BYTES]);
        let resealed = reseal(input, Reseal::Stale, AT, Sealing::new(&keys, nonces));
        if let Some(value) = resealed.expect("it was read").value {
            let again = from_record(key.as_bytes(), &value, &keys);
            assert_eq!(again.as_ref(), Ok(&read), "sealed anew it is another");
        }
        if read.unopened.is_empty() {
            is_read_as_written(&read.endpoint);
        }
    }
    for format in [FileFormat::Yaml, FileFormat::Json] {
        let endpoints = parse_file(input, format, &Policy::default(), &keys);
        endpoints
            .unwrap_or_default()
            .iter()
            .for_each(is_read_as_written);
    }
}

fn is_read_as_written(endpoint: &Endpoint) {
    let key = endpoint.id.as_str().as_bytes();
    for keys in [KeyRing::default(), keys()] {
        let sealing = Sealing::new(&keys, Nonces::new([3; NONCE_BYTES]));
        let written = to_record(endpoint, AT, sealing);
        let read = from_record(key, &written, &keys);
        let read = read.map(|read| (read.endpoint, read.unopened.len()));
        assert_eq!(read, Ok((endpoint.clone(), 0)), "read otherwise");
        let shown = to_display_json(endpoint, &written).expect("it was written");
        shows_no_secret(&shown, &written);
    }
}

/// That of `docs/reference/secrets.md`, so that inputs can hold what is sealed.
fn keys() -> KeyRing {
    let file = b"k2 = CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg=\n\
                 k1 = BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n";
    KeyRing::parse(file).expect("a key file")
}

fn key_of(input: &[u8]) -> String {
    let value: Option<Value> = serde_json::from_slice(input).ok();
    let id = value.as_ref().and_then(|value| value["id"].as_str());
    id.unwrap_or_default().to_owned()
}

fn shows_no_secret(shown: &Value, written: &[u8]) {
    let written: Value = serde_json::from_slice(written).expect("JSON that was read");
    let shown = shown.to_string();
    let secrets = written["signing"]["secrets"].as_array();
    for secret in secrets.into_iter().flatten() {
        for lies in ["value", "sealed"] {
            let value = secret[lies].as_str().unwrap_or_default();
            // shorter ones turn up by chance
            if value.len() >= 24 {
                assert!(!shown.contains(value), "shown: {shown}");
            }
        }
    }
}
