//! Values that were written for a schema registry, as JSON.
//!
//! Decides what a framed value looks like ([`frame`]), and how the values of a schema, Avro, Protobuf
//! or JSON Schema, become JSON (`docs/reference/records.md`). Leaves fetching schemas to `registry`,
//! and what the JSON means to `wire`.
//!
//! Schema and value come from outside: nothing here panics, recurses or allocates beyond a bound.
//! The depth of values is bounded by [`DEPTH_MAX`], that of schemas by what parses them (Avro 128,
//! messages in messages of Protobuf 31), what comes out by a limit of the caller.
#![warn(missing_docs)]

mod avro;
mod decimal;
mod frame;
mod out;
mod protobuf;

use bytes::Bytes;

pub use frame::{Frame, SchemaId, frame};

/// Deepest nesting of a value.
pub const DEPTH_MAX: usize = 64;

/// Longest text of a schema together with those it refers to, in bytes.
pub const TEXT_BYTES_MAX: usize = 1 << 20;

/// Most schemas that a schema refers to, itself and through others.
pub const REFERENCES_MAX: usize = 64;

/// Longest full name of a type or field, in bytes. Everything in a namespace or package has it in its
/// name, so that a long one would cost its length as often as the text has room.
pub const NAME_BYTES_MAX: usize = 512;

/// The language a schema is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Avro.
    Avro,
    /// Protobuf, as the text of a `.proto` file.
    Protobuf,
    /// JSON Schema.
    Json,
}

/// A schema that another one refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// What it is called there; of Protobuf the path that is imported.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// A schema, ready to read values with.
#[derive(Clone, Debug)]
pub struct Schema {
    language: Language,
    cost: usize,
}

#[derive(Clone, Debug)]
enum Language {
    Avro(avro::Avro),
    Protobuf(protobuf::Protobuf),
    /// Values are JSON already. They are not validated: that was the producer's serializer's part.
    Json,
}

/// Why a schema cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(pub String);

/// Why a value cannot be read with its schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is not what the schema says.
    #[error("{0}")]
    Malformed(String),
    /// It is larger than the limit, or would be as JSON.
    #[error("it is more than {0} bytes, or would be as JSON")]
    TooLarge(usize),
}

impl Schema {
    /// Reads a schema's text. The references come in such an order that each stands behind those it
    /// refers to itself.
    ///
    /// # Errors
    /// What is wrong with it, or that it is beyond a bound.
    pub fn new(kind: Kind, text: &str, references: &[Reference]) -> Result<Self, Unusable> {
        let bytes: usize = references.iter().map(|r| r.name.len() + r.text.len()).sum();
        if text.len().saturating_add(bytes) > TEXT_BYTES_MAX {
            return Err(Unusable(format!(
                "its text and that of its references are more than {TEXT_BYTES_MAX} bytes"
            )));
        }
        if references.len() > REFERENCES_MAX {
            return Err(Unusable(format!("more than {REFERENCES_MAX} references")));
        }
        let text_bytes = references.iter().map(|r| r.text.len()).sum::<usize>() + text.len();
        let (language, cost) = match kind {
            Kind::Avro => {
                let avro = avro::Avro::new(text, references)?;
                (Language::Avro(avro), text_bytes * avro::COST_PER_BYTE)
            }
            Kind::Protobuf => {
                let protobuf = protobuf::Protobuf::new(text, references)?;
                let cost = protobuf.cost();
                (Language::Protobuf(protobuf), cost)
            }
            Kind::Json => (Language::Json, 0),
        };
        Ok(Self { language, cost })
    }

    /// What it takes in memory, in bytes, about: at most 32 MiB.
    #[must_use]
    pub const fn cost(&self) -> usize {
        self.cost
    }

    /// A framed value of at most `limit` bytes as JSON of at most so many. A value of the Avro
    /// schema `"bytes"` is no JSON but these bytes, as its serializers write it, and a value of a
    /// JSON Schema is the JSON as it was written.
    ///
    /// # Errors
    /// [`Unreadable`] when it is not what the schema says, or larger.
    pub fn read(&self, value: &Bytes, frame: &Frame, limit: usize) -> Result<Bytes, Unreadable> {
        let body = value.slice(frame.body..);
        if body.len() > limit {
            return Err(Unreadable::TooLarge(limit));
        }
        match &self.language {
            Language::Avro(avro) => avro.read(&body, limit),
            Language::Protobuf(protobuf) => protobuf.read(&body, frame.message.as_deref(), limit),
            Language::Json => match serde_json::from_slice::<&serde_json::value::RawValue>(&body) {
                Ok(_) => Ok(body),
                Err(error) => Err(Unreadable::Malformed(format!("not JSON: {error}"))),
            },
        }
    }
}

/// The beginning of a text from outside, for a message.
fn clip(text: &str) -> &str {
    &text[..text.floor_char_boundary(200)]
}

#[cfg(test)]
mod tests;
