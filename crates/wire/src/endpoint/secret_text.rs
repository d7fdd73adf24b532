//! Secrets in a form: written in the open, or sealed.
//!
//! Decides what a field that is a secret looks like ([`SecretText`]), and how the secrets of a form
//! are opened, sealed and masked, wherever they are ([`Slot`]). What cannot be opened is noted and
//! left as it is. Leaves the written form of what is sealed to `signing`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use postrider_signing::{KeyRing, Nonces, Place, open, seal, sealing_key};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::ser::{SerializeMap as _, Serializer};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::Unopened;
use super::form::EndpointForm;
use super::read::Mistakes;

/// Secrets of a form that are looked at when it is opened: more than an endpoint may have, so that a
/// form of nothing but secrets costs little before it is refused.
const OPENED_MAX: usize = 32;

/// What a schema says of a sealed secret.
pub(super) const SEALED: &str = "^v1\\.[A-Za-z0-9_-]{1,32}\\.[A-Za-z0-9_-]+$";

/// A secret that is a field of its own: its text, or `{ sealed: v1.KEY.… }`.
#[derive(Default)]
pub(super) struct SecretText {
    /// As it is; what a sealed one opened to.
    value: Option<Zeroizing<String>>,
    sealed: Option<String>,
}

impl SecretText {
    /// For the form of an endpoint.
    pub(super) const fn of(text: Zeroizing<String>) -> Self {
        Self {
            value: Some(text),
            sealed: None,
        }
    }

    /// The secret, once its form was opened; `None` = it could not be, which is noted already.
    pub(super) fn text(&self) -> Option<&str> {
        self.value.as_deref().map(String::as_str)
    }

    /// Whether it was written sealed.
    pub(super) const fn is_sealed(&self) -> bool {
        self.sealed.is_some()
    }

    /// For [`EndpointForm::each_secret`]. `path` has a dot in it, and is what a seal is bound to.
    pub(super) fn slot(&mut self, path: &'static str) -> Slot<'_> {
        Slot {
            path: Cow::Borrowed(path),
            label: Cow::Borrowed(path),
            value: &mut self.value,
            sealed: &mut self.sealed,
        }
    }
}

impl Serialize for SecretText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (&self.sealed, &self.value) {
            (Some(sealed), _) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("sealed", sealed)?;
                map.end()
            }
            (None, Some(value)) => serializer.serialize_str(value),
            (None, None) => serializer.serialize_none(),
        }
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Sealed {
            sealed: String,
        }

        struct TextOrSealed;

        impl<'de> Visitor<'de> for TextOrSealed {
            type Value = SecretText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, or sealed")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<SecretText, E> {
                Ok(SecretText::of(Zeroizing::new(text.to_owned())))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SecretText, A::Error> {
                let Sealed { sealed } = Sealed::deserialize(MapAccessDeserializer::new(map))?;
                Ok(SecretText {
                    value: None,
                    sealed: Some(sealed),
                })
            }
        }

        deserializer.deserialize_any(TextOrSealed)
    }
}

impl JsonSchema for SecretText {
    fn schema_name() -> Cow<'static, str> {
        "SecretText".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A secret: its text, or what `postrider secret seal` made of it.",
            "anyOf": [
                { "type": "string" },
                {
                    "type": "object",
                    "properties": { "sealed": { "type": "string", "pattern": SEALED } },
                    "required": ["sealed"]
                }
            ]
        })
    }
}

/// A secret of a form, wherever it is.
pub(super) struct Slot<'a> {
    /// Where: `signing.secrets[0]`.
    pub(super) path: Cow<'a, str>,
    /// What its seal is bound to, beside tenant and endpoint.
    pub(super) label: Cow<'a, str>,
    pub(super) value: &'a mut Option<Zeroizing<String>>,
    pub(super) sealed: &'a mut Option<String>,
}

impl Slot<'_> {
    fn place<'a>(&'a self, (tenant, endpoint): (&'a str, &'a str)) -> Place<'a> {
        Place {
            tenant,
            endpoint,
            secret: &self.label,
        }
    }

    /// Why it cannot be opened; afterwards `value` is there if it can.
    fn open(&mut self, keys: &KeyRing, whose: (&str, &str)) -> Result<(), String> {
        if let Some(sealed) = self.sealed.as_deref() {
            let opened = open(keys, self.place(whose), sealed);
            *self.value = Some(opened.map_err(|error| error.to_string())?);
        }
        Ok(())
    }

    /// Seals what lies open, if there is a key.
    fn seal(&mut self, sealing: &mut Sealing<'_>, whose: (&str, &str)) {
        if let Some(value) = self.value.take_if(|_| !sealing.keys.is_empty()) {
            let nonce = sealing.nonces.draw();
            *self.sealed = seal(sealing.keys, self.place(whose), nonce, &value);
        }
    }

    fn mask(&mut self) {
        if let Some(value) = self.value {
            *self.value = Some(masked(value));
        }
        if let Some(sealed) = self.sealed {
            let key = sealing_key(sealed).unwrap_or("?");
            *self.sealed = Some(format!("v1.{key}.…"));
        }
    }
}

/// What may be shown of a secret.
fn masked(value: &str) -> Zeroizing<String> {
    let prefix = ["whsec_", "whsk_"]
        .into_iter()
        .find(|p| value.starts_with(p));
    Zeroizing::new(format!("{}…", prefix.unwrap_or_default()))
}

/// With what the secrets of one record are sealed.
pub struct Sealing<'a> {
    keys: &'a KeyRing,
    nonces: Nonces,
}

impl<'a> Sealing<'a> {
    /// Under the first of these keys, not at all when there is none.
    #[must_use]
    pub const fn new(keys: &'a KeyRing, nonces: Nonces) -> Self {
        Self { keys, nonces }
    }
}

/// Which secrets are sealed anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reseal {
    /// Those that lie open.
    Open,
    /// Those that do not lie under the first key.
    Stale,
}

impl EndpointForm {
    /// Opens what is sealed. What cannot be opened stays as it is and is noted.
    pub(super) fn open(&mut self, keys: &KeyRing, mistakes: &mut Mistakes) {
        let mut left = OPENED_MAX;
        self.each_secret(&mut |whose, mut slot| {
            left = left.saturating_sub(1);
            if left == 0 {
                return;
            }
            if slot.value.is_some() && slot.sealed.is_some() {
                *slot.sealed = None;
                let message = "is either in the open or sealed, not both";
                mistakes.push(slot.path.into_owned(), message);
            } else if let Err(why) = slot.open(keys, whose) {
                let path = format!("{}.sealed", slot.path);
                mistakes.unopened.push(Unopened { path, why });
            }
        });
    }

    /// Seals what lies open.
    pub(super) fn seal(&mut self, mut sealing: Sealing<'_>) {
        self.each_secret(&mut |whose, mut slot| slot.seal(&mut sealing, whose));
    }

    /// How many were sealed anew, and which could not be.
    pub(super) fn reseal(
        &mut self,
        which: Reseal,
        mut sealing: Sealing<'_>,
    ) -> (usize, Vec<Unopened>) {
        let (mut resealed, mut unopened) = (0, Vec::new());
        self.each_secret(&mut |whose, mut slot| {
            let first = sealing.keys.first_id();
            let lies = slot.sealed.as_deref();
            let fine = match which {
                Reseal::Open => lies.is_some(),
                Reseal::Stale => lies.is_some_and(|sealed| sealing_key(sealed) == first),
            };
            if fine || first.is_none() {
                return;
            }
            if let Err(why) = slot.open(sealing.keys, whose) {
                let path = format!("{}.sealed", slot.path);
                unopened.push(Unopened { path, why });
                return;
            }
            if slot.value.is_some() {
                slot.seal(&mut sealing, whose);
                resealed += 1;
            }
        });
        (resealed, unopened)
    }

    /// Leaves of every secret what may be shown of it, and nothing of the value of a header, which
    /// may be one.
    pub(super) fn mask_secrets(&mut self) {
        for value in self.headers.iter_mut().flat_map(BTreeMap::values_mut) {
            "…".clone_into(value);
        }
        self.each_secret(&mut |_, mut slot| slot.mask());
    }

    /// At most so many bytes more has the record once everything in it is sealed.
    pub(super) fn growth_when_sealed(&mut self) -> usize {
        /// `v1.`, the longest id of a key, nonce and tag in base64, and `{"sealed":}` around it.
        const FIXED: usize = 128;
        let mut growth = 0;
        self.each_secret(&mut |_, slot| {
            let bytes = slot.value.as_ref().map_or(0, |value| value.len());
            growth += FIXED + bytes.div_ceil(3);
        });
        growth
    }
}

#[cfg(test)]
mod tests {
    use postrider_signing::NONCE_BYTES;
    use serde_json::json;

    use super::*;

    fn ring(text: &str) -> KeyRing {
        KeyRing::parse(text.as_bytes()).expect("a key file")
    }

    fn keys() -> KeyRing {
        ring("k1 = AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=")
    }

    const WHOSE: (&str, &str) = ("acme", "ep_1");

    fn read(value: serde_json::Value) -> Result<SecretText, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    #[test]
    fn a_text_is_sealed_and_opened_as_the_field_it_is() {
        let mut text = read(json!("hunter2")).unwrap();
        assert_eq!(text.text(), Some("hunter2"));
        assert_eq!(serde_json::to_value(&text).unwrap(), json!("hunter2"));
        let keys = keys();
        let mut sealing = Sealing::new(&keys, Nonces::new([1; NONCE_BYTES]));
        text.slot("auth.bearer.token").seal(&mut sealing, WHOSE);
        assert_eq!(text.text(), None, "it lies nowhere in the open");
        let written = serde_json::to_value(&text).unwrap();
        let sealed = written["sealed"].as_str().unwrap();
        assert!(sealed.starts_with("v1.k1."), "{written}");

        let mut again = read(written.clone()).unwrap();
        again.slot("auth.bearer.token").open(&keys, WHOSE).unwrap();
        assert_eq!(again.text(), Some("hunter2"));
        assert_eq!(serde_json::to_value(&again).unwrap(), written);

        for (path, whose) in [
            ("auth.basic.password", WHOSE),
            ("auth.bearer.token", ("acme", "ep_2")),
            ("auth.bearer.token", ("other", "ep_1")),
        ] {
            let mut moved = read(written.clone()).unwrap();
            let why = moved.slot(path).open(&keys, whose).unwrap_err();
            assert!(why.starts_with("does not open under key k1"), "{why}");
            assert_eq!(moved.text(), None);
        }
    }

    #[test]
    fn without_a_key_it_stays_in_the_open() {
        let mut text = SecretText::of(Zeroizing::new("hunter2".to_owned()));
        let none = KeyRing::default();
        let mut sealing = Sealing::new(&none, Nonces::new([1; NONCE_BYTES]));
        text.slot("auth.bearer.token").seal(&mut sealing, WHOSE);
        assert_eq!(text.text(), Some("hunter2"));
    }

    #[test]
    fn it_is_a_string_or_sealed_and_nothing_else() {
        for bad in [
            json!(7),
            json!(["hunter2"]),
            json!({}),
            json!({ "sealed": 7 }),
            json!(null),
        ] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_shown_of_it_tells_its_key_alone() {
        let mut sealed = read(json!({ "sealed": "v1.k1.c2VjcmV0" })).unwrap();
        sealed.slot("auth.bearer.token").mask();
        assert_eq!(
            serde_json::to_value(&sealed).unwrap(),
            json!({ "sealed": "v1.k1.…" })
        );
        let mut open = read(json!("hunter2")).unwrap();
        open.slot("auth.bearer.token").mask();
        assert_eq!(serde_json::to_value(&open).unwrap(), json!("…"));
    }
}
