//! What a template sees of an event's data.
//!
//! Decides that lists and objects are what they are in the data and are compared by whether they
//! are the same one, and that a number is never another one: what no type of the library can hold
//! is printed as it stands.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use minijinja::value::{DynObject, Enumerator, Object, ObjectExt as _, ObjectRepr, Value};

use crate::json::Json;

/// The value of a JSON value.
pub(crate) fn value_of(json: Json<'_>) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(truth) => Value::from(truth),
        Json::Number(text) => number(text),
        Json::Text(text) => Value::from(&*text),
        Json::List(items) => Value::from_object(List(items.into_iter().map(value_of).collect())),
        Json::Object(fields) => {
            let fields = fields.into_iter();
            Value::from_object(Fields::new(
                fields.map(|(name, value)| (name.into(), value_of(value))),
            ))
        }
    }
}

/// A list of the data.
#[derive(Debug)]
struct List(Box<[Value]>);

impl Object for List {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.get(key.as_usize()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.0.len())
    }

    fn custom_cmp(self: &Arc<Self>, _other: &DynObject) -> Option<Ordering> {
        // Asked only of what is not the same one.
        Some(Ordering::Less)
    }
}

/// An object of the data, or the attributes of an event, in their order.
#[derive(Debug)]
pub(crate) struct Fields {
    values: Vec<(Box<str>, Value)>,
    places: BTreeMap<Box<str>, usize>,
}

impl Fields {
    /// Of a name that is there twice the last counts.
    pub(crate) fn new(fields: impl Iterator<Item = (Box<str>, Value)>) -> Self {
        let mut made = Self {
            values: Vec::new(),
            places: BTreeMap::new(),
        };
        for (name, value) in fields {
            match made.places.get(&name) {
                Some(&place) => made.values[place].1 = value,
                None => {
                    made.places.insert(name.clone(), made.values.len());
                    made.values.push((name, value));
                }
            }
        }
        made
    }
}

impl Object for Fields {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        let place = *self.places.get(key)?;
        Some(self.values[place].1.clone())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        self.mapped_enumerator(|fields| {
            Box::new(fields.values.iter().map(|(name, _)| Value::from(&**name)))
        })
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.values.len())
    }

    fn custom_cmp(self: &Arc<Self>, _other: &DynObject) -> Option<Ordering> {
        Some(Ordering::Less)
    }
}

/// A number a template can calculate with, if it is the same number then.
fn number(text: &str) -> Value {
    if let Ok(whole) = text.parse::<i128>() {
        return Value::from(whole);
    }
    match text.parse::<f64>() {
        Ok(number) if significant(text).eq(significant(&format!("{number:e}"))) => {
            Value::from(number)
        }
        _ => Value::from_object(Exact(text.into())),
    }
}

/// The digits of a decimal number, without zeros at either end, point and exponent.
fn significant(text: &str) -> impl Iterator<Item = u8> {
    let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
    let digits = mantissa.bytes().filter(u8::is_ascii_digit);
    let zeros = digits.clone().rev().take_while(|digit| *digit == b'0');
    let kept = digits.clone().count() - zeros.count();
    digits.take(kept).skip_while(|digit| *digit == b'0')
}

/// A number that no type of the library can hold: it can be printed as it stands, and nothing
/// else.
#[derive(Debug)]
pub(crate) struct Exact(pub(crate) Box<str>);

impl Object for Exact {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }

    fn custom_cmp(self: &Arc<Self>, _other: &DynObject) -> Option<Ordering> {
        Some(Ordering::Less)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_itself_or_its_text() {
        let is_exact = |text| number(text).downcast_object_ref::<Exact>().is_some();
        for text in [
            "0",
            "-0.0",
            "10.50",
            "0.1",
            "1e21",
            "340282366920938463463374607431768211455e0",
        ] {
            assert_eq!(is_exact(text), text.starts_with('3'), "{text}");
        }
        for text in [
            "12345678901234567890.10",
            "1e400",
            "1e-400",
            "0.12345678901234567890",
        ] {
            assert!(is_exact(text), "{text}");
            assert_eq!(number(text).to_string(), text);
        }
        assert_eq!(
            number("12345678901234567890123").to_string(),
            "12345678901234567890123"
        );
    }
}
