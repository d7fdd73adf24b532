//! A JSON object as an HTML form sends it: `application/x-www-form-urlencoded`.
//!
//! Decides how what is nested becomes flat: the member `b` of the object `a` is `a[b]`, the first
//! item of the list `a` is `a[0]`. Numbers are written as in the data, `true` and `false` as words,
//! null as nothing after the `=`; an empty object or list has no field.

use url::form_urlencoded::Serializer;

use crate::json::{self, Json};
use crate::{BODY_BYTES_MAX, Unrenderable};

pub(crate) const MEDIA_TYPE: &str = "application/x-www-form-urlencoded";

/// The fields of the object that `data` is.
pub(crate) fn encode(data: &[u8]) -> Result<String, Unrenderable> {
    let Json::Object(fields) = json::parse(data)? else {
        return Err(Unrenderable::new(
            "the data is JSON, but not an object, which alone has fields a form can send",
        ));
    };
    let mut form = Form {
        pairs: Serializer::new(String::new()),
        bytes: 0,
    };
    let mut name = String::new();
    for (field, value) in &fields {
        name.push_str(field);
        form.push(&mut name, value)?;
        name.clear();
    }
    let encoded = form.pairs.finish();
    if encoded.len() > BODY_BYTES_MAX {
        return Err(too_large());
    }
    Ok(encoded)
}

fn too_large() -> Unrenderable {
    Unrenderable::new(format!("the form is larger than {BODY_BYTES_MAX} bytes"))
}

struct Form {
    pairs: Serializer<'static, String>,
    /// Of names and values before they are encoded, which makes them no shorter.
    bytes: usize,
}

impl Form {
    fn push(&mut self, name: &mut String, value: &Json<'_>) -> Result<(), Unrenderable> {
        match value {
            Json::Null => self.pair(name, ""),
            Json::Bool(truth) => self.pair(name, if *truth { "true" } else { "false" }),
            Json::Number(text) => self.pair(name, text),
            Json::Text(text) => self.pair(name, text),
            Json::List(items) => {
                for (n, item) in items.iter().enumerate() {
                    self.nested(name, &n.to_string(), item)?;
                }
                Ok(())
            }
            Json::Object(fields) => {
                for (field, value) in fields {
                    self.nested(name, field, value)?;
                }
                Ok(())
            }
        }
    }

    fn nested(
        &mut self,
        name: &mut String,
        part: &str,
        value: &Json<'_>,
    ) -> Result<(), Unrenderable> {
        let outer = name.len();
        name.extend(["[", part, "]"]);
        let pushed = self.push(name, value);
        name.truncate(outer);
        pushed
    }

    fn pair(&mut self, name: &str, value: &str) -> Result<(), Unrenderable> {
        // Names repeat those they are nested in, so a form can be far larger than its data.
        self.bytes += name.len() + value.len() + 2;
        if self.bytes > BODY_BYTES_MAX + 1 {
            return Err(too_large());
        }
        self.pairs.append_pair(name, value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;

    #[test]
    fn nested_fields_have_brackets() {
        let data = br#"{"id":"pay 1","amount":10.50,"ok":true,"note":null,
            "card":{"brand":"visa","exp":[12,2030]},"none":{},"empty":[]}"#;
        let form = encode(data).unwrap();
        assert_eq!(
            form,
            "id=pay+1&amount=10.50&ok=true&note=&card%5Bbrand%5D=visa&card%5Bexp%5D%5B0%5D=12\
             &card%5Bexp%5D%5B1%5D=2030"
        );
        assert_eq!(encode(b"{}").as_deref(), Ok(""));
    }

    #[test]
    fn only_an_object_is_a_form_and_only_a_small_one() {
        for data in [&b"[1]"[..], b"1", b"null", b"\"a\"", b"", b"a=b"] {
            assert!(encode(data).is_err(), "{data:?}");
        }
        // 8 KiB of names a thousand times over
        let name = "n".repeat(8 << 10);
        let data = format!("{{\"{name}\":[{}0]}}", "0,".repeat(1_000));
        assert!(
            encode(data.as_bytes())
                .unwrap_err()
                .to_string()
                .contains("larger")
        );
        let data = format!("{{\"a\":\"{}\"}}", "é".repeat(200_000));
        assert!(
            encode(data.as_bytes())
                .unwrap_err()
                .to_string()
                .contains("larger")
        );
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::btree_map(".{0,6}", inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    /// The pairs by another rule: every leaf with its path.
    fn leaves(name: String, value: &Value, pairs: &mut Vec<(String, String)>) {
        match value {
            Value::Null => pairs.push((name, String::new())),
            Value::String(text) => pairs.push((name, text.clone())),
            Value::Array(items) => {
                for (n, item) in items.iter().enumerate() {
                    leaves(format!("{name}[{n}]"), item, pairs);
                }
            }
            Value::Object(fields) => {
                for (field, value) in fields {
                    leaves(format!("{name}[{field}]"), value, pairs);
                }
            }
            scalar => pairs.push((name, scalar.to_string())),
        }
    }

    proptest! {
        #[test]
        fn any_json_is_a_form_that_others_read_or_none(json in any_json()) {
            let encoded = encode(json.to_string().as_bytes());
            let Value::Object(fields) = &json else {
                prop_assert!(encoded.is_err());
                return Ok(());
            };
            let mut expected = Vec::new();
            for (field, value) in fields {
                leaves(field.clone(), value, &mut expected);
            }
            let encoded = encoded.unwrap();
            let read: Vec<(String, String)> =
                url::form_urlencoded::parse(encoded.as_bytes()).into_owned().collect();
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn any_bytes_are_a_form_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            drop(encode(&bytes));
        }
    }
}
