//! Avro values as JSON.
//!
//! Decides how each type is written (`docs/reference/records.md`): logical types by what they mean,
//! a decimal as text with its exact digits, bytes as base64, a union as the value that is in it.
//! Leaves reading a schema's text to `schema`.
//!
//! Values are read here and not by a library, as the one there is follows a recursive schema as deep
//! as the value goes, which ends the process, and builds a tree of what it reads; here it becomes
//! text at once, up to a limit.
//!
//! Source: Avro 1.12.0, binary encoding and logical types.

mod schema;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span};

use crate::out::Out;
use crate::{DEPTH_MAX, Reference, Unreadable, Unusable, decimal};
use schema::{Node, Nodes, Unit};

/// What is kept of a schema for each byte of its text, in bytes, at most, about: `[],` is a branch of
/// a union and a node.
pub(crate) const COST_PER_BYTE: usize = 16;

#[derive(Clone, Debug)]
pub(crate) struct Avro(Nodes);

impl Avro {
    pub(crate) fn new(text: &str, references: &[Reference]) -> Result<Self, Unusable> {
        schema::parse(text, references).map(Self)
    }

    pub(crate) fn read(&self, body: &Bytes, limit: usize) -> Result<Bytes, Unreadable> {
        let root = self.0.root();
        if matches!(self.0.node(root), Node::Bytes) {
            return Ok(body.clone());
        }
        let mut reader = Reader {
            nodes: &self.0,
            rest: body,
            out: Out::new(limit),
        };
        reader.value(root, DEPTH_MAX)?;
        if !reader.rest.is_empty() {
            let left = reader.rest.len();
            return malformed(format!("{left} bytes are left behind the value"));
        }
        Ok(reader.out.into_text().into())
    }
}

fn malformed<T>(message: impl Into<String>) -> Result<T, Unreadable> {
    Err(Unreadable::Malformed(message.into()))
}

struct Reader<'a> {
    nodes: &'a Nodes,
    rest: &'a [u8],
    out: Out,
}

impl<'a> Reader<'a> {
    fn value(&mut self, node: usize, depth: usize) -> Result<(), Unreadable> {
        let Some(depth) = depth.checked_sub(1) else {
            return malformed(format!("nested deeper than {DEPTH_MAX}"));
        };
        let nodes = self.nodes;
        match nodes.node(node) {
            Node::Null => self.out.raw("null"),
            Node::Boolean => match self.take(1)? {
                [0] => self.out.raw("false"),
                [1] => self.out.raw("true"),
                other => malformed(format!("a boolean of {other:?}")),
            },
            Node::Int => {
                let number = self.int()?;
                self.out.raw(&number.to_string())
            }
            Node::Long => {
                let number = self.long()?;
                self.out.raw(&number.to_string())
            }
            Node::Float => {
                let number = f32::from_le_bytes(self.array()?);
                self.out.float32(number)
            }
            Node::Double => {
                let number = f64::from_le_bytes(self.array()?);
                self.out.float(number)
            }
            Node::Bytes => {
                let bytes = self.sized()?;
                self.base64(bytes)
            }
            Node::Fixed(size) => {
                let bytes = self.take(*size)?;
                self.base64(bytes)
            }
            Node::String => {
                let text = self.text()?;
                self.out.string(text)
            }
            Node::Enum(symbols) => {
                let index = self.int()?;
                match usize::try_from(index).ok().and_then(|at| symbols.get(at)) {
                    Some(symbol) => self.out.string(symbol),
                    None => malformed(format!("an enum has no symbol {index}")),
                }
            }
            Node::Union(branches) => {
                let index = self.long()?;
                match usize::try_from(index).ok().and_then(|at| branches.get(at)) {
                    Some(branch) => self.value(*branch, depth),
                    None => malformed(format!("a union has no branch {index}")),
                }
            }
            Node::Array(items) => self.blocks("[", "]", |this| this.value(*items, depth)),
            Node::Map(values) => self.blocks("{", "}", |this| {
                let key = this.text()?;
                this.out.string(key)?;
                this.out.raw(":")?;
                this.value(*values, depth)
            }),
            Node::Record(fields) => {
                self.out.raw("{")?;
                for (at, (name, field)) in fields.iter().enumerate() {
                    if at > 0 {
                        self.out.raw(",")?;
                    }
                    self.out.string(name)?;
                    self.out.raw(":")?;
                    self.value(*field, depth)?;
                }
                self.out.raw("}")
            }
            logical => self.logical(logical),
        }
    }

    fn logical(&mut self, node: &Node) -> Result<(), Unreadable> {
        let text = match node {
            Node::Decimal { size, scale } => {
                let unscaled = match size {
                    Some(size) => self.take(*size)?,
                    None => self.sized()?,
                };
                if unscaled.len() > decimal::BYTES_MAX {
                    let (bytes, most) = (unscaled.len(), decimal::BYTES_MAX);
                    return malformed(format!("a decimal of {bytes} bytes, {most} are read"));
                }
                decimal::digits(unscaled, *scale)
            }
            Node::Date => {
                let days = self.int()?;
                let epoch = Date::constant(1970, 1, 1);
                match Span::new().try_days(days) {
                    Ok(span) => in_range(epoch.checked_add(span), days.into())?.to_string(),
                    Err(_) => return out_of_range(days.into()),
                }
            }
            Node::Time(unit) => {
                let count = match unit {
                    Unit::Milli => self.int()?.into(),
                    Unit::Micro | Unit::Nano => self.long()?,
                };
                let since = match unit {
                    Unit::Milli => SignedDuration::from_millis(count),
                    Unit::Micro => SignedDuration::from_micros(count),
                    Unit::Nano => SignedDuration::from_nanos(count),
                };
                if since.is_negative() {
                    return out_of_range(count);
                }
                let time = in_range(Time::midnight().checked_add(since), count)?;
                format!("{time:.*}", unit.digits())
            }
            Node::Timestamp(unit) => {
                let count = self.long()?;
                let time = in_range(unit.timestamp(count), count)?;
                format!("{time:.*}", unit.digits())
            }
            Node::LocalTimestamp(unit) => {
                let count = self.long()?;
                let time = in_range(unit.timestamp(count), count)?;
                let time = TimeZone::UTC.to_datetime(time);
                format!("{time:.*}", unit.digits())
            }
            Node::Uuid => {
                let uuid = self.array()?;
                crate::SchemaId::Guid(uuid).to_string()
            }
            Node::Duration => {
                let mut part = || self.array().map(u32::from_le_bytes);
                let (months, days, millis) = (part()?, part()?, part()?);
                let (seconds, millis) = (millis / 1_000, millis % 1_000);
                format!("P{months}M{days}DT{seconds}.{millis:03}S")
            }
            other => unreachable!("{other:?} is no logical type"),
        };
        self.out.string(&text)
    }

    /// An array or map: blocks, each with the number of its items before it; a negative one has the
    /// block's size behind it. An item may take no bytes at all, but always writes some.
    fn blocks(
        &mut self,
        open: &str,
        close: &str,
        mut item: impl FnMut(&mut Self) -> Result<(), Unreadable>,
    ) -> Result<(), Unreadable> {
        self.out.raw(open)?;
        let mut first = true;
        loop {
            let count = self.long()?;
            if count == 0 {
                return self.out.raw(close);
            }
            if count < 0 {
                self.long()?;
            }
            for _ in 0..count.unsigned_abs() {
                if !first {
                    self.out.raw(",")?;
                }
                first = false;
                item(self)?;
            }
        }
    }

    fn base64(&mut self, bytes: &[u8]) -> Result<(), Unreadable> {
        self.out.string(&STANDARD.encode(bytes))
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Unreadable> {
        match self.rest.split_at_checked(count) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => malformed("it ends too early"),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        let taken = self.take(N)?;
        Ok(taken.try_into().expect("as many as were taken"))
    }

    /// Bytes with their number before them.
    fn sized(&mut self) -> Result<&'a [u8], Unreadable> {
        let count = self.long()?;
        match usize::try_from(count) {
            Ok(count) => self.take(count),
            Err(_) => malformed(format!("a length of {count}")),
        }
    }

    fn text(&mut self) -> Result<&'a str, Unreadable> {
        let bytes = self.sized()?;
        str::from_utf8(bytes).map_err(|_| Unreadable::Malformed("a string is not UTF-8".to_owned()))
    }

    fn int(&mut self) -> Result<i32, Unreadable> {
        let number = self.long()?;
        i32::try_from(number).map_err(|_| Unreadable::Malformed(format!("an int of {number}")))
    }

    fn long(&mut self) -> Result<i64, Unreadable> {
        let mut zigzag = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            if shift == 63 && byte > 1 {
                break;
            }
            zigzag |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed());
            }
        }
        malformed("a number of more than 64 bits")
    }
}

fn in_range<T>(value: Result<T, jiff::Error>, count: i64) -> Result<T, Unreadable> {
    value.or_else(|_| out_of_range(count))
}

fn out_of_range<T>(count: i64) -> Result<T, Unreadable> {
    malformed(format!("a date or time of {count}, which no calendar has"))
}
