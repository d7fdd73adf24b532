//! What serializers for a schema registry put before a value.
//!
//! Decides what counts as framed: a zero byte and a schema's number at the beginning of the value,
//! or a schema's number or GUID in a header of the record. Leaves where frames are looked for to the
//! caller.
//!
//! Source: Confluent's wire format. Numbers are positive, so that a zero byte before a number of 0 or
//! above 2^31 - 1 is no frame.

use std::fmt;

/// A schema by the name that a value bears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SchemaId {
    /// Its number in the registry, 1 to 2^31 - 1.
    Number(u32),
    /// Its GUID, which is the same in every registry.
    Guid([u8; 16]),
}

impl fmt::Display for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Guid(guid) => {
                for (at, byte) in guid.iter().enumerate() {
                    let dash = if matches!(at, 4 | 6 | 8 | 10) {
                        "-"
                    } else {
                        ""
                    };
                    write!(f, "{dash}{byte:02x}")?;
                }
                Ok(())
            }
        }
    }
}

/// How a value is framed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The schema it was written with.
    pub schema: SchemaId,
    /// Where in the value the data begins, in bytes.
    pub body: usize,
    /// With a schema in a header: what follows there, which of Protobuf is the message's index.
    /// `None` = that stands in the body.
    pub message: Option<Box<[u8]>>,
}

/// How the value is framed, if it is. `header` is the record's `__value_schema_id`, of a key
/// `__key_schema_id`.
#[must_use]
pub fn frame(value: &[u8], header: Option<&[u8]>) -> Option<Frame> {
    if let Some((schema, message)) = header.and_then(in_header) {
        return Some(Frame {
            schema,
            body: 0,
            message: Some(message.into()),
        });
    }
    let (schema, rest) = number(value)?;
    Some(Frame {
        schema,
        body: value.len() - rest.len(),
        message: None,
    })
}

fn in_header(bytes: &[u8]) -> Option<(SchemaId, &[u8])> {
    let Some(rest) = bytes.strip_prefix(&[1]) else {
        return number(bytes);
    };
    let (guid, message) = rest.split_first_chunk()?;
    Some((SchemaId::Guid(*guid), message))
}

fn number(bytes: &[u8]) -> Option<(SchemaId, &[u8])> {
    let (number, rest) = bytes.strip_prefix(&[0])?.split_first_chunk()?;
    let number = u32::from_be_bytes(*number);
    let valid = (1..=i32::MAX.cast_unsigned()).contains(&number);
    valid.then_some((SchemaId::Number(number), rest))
}
