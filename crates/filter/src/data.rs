//! An event's data as values that count what is done with them.
//!
//! Decides how JSON looks in CEL: whole numbers are `int`, above its range `uint`, all others
//! `double`; of members with the same name the last counts; no data at all is `null`. Leaves what
//! steps cost to `meter`.
//!
//! Numbers, texts, booleans and null are the evaluator's own values. Lists and objects are of this
//! file, because everything that goes through them must be counted. They are shared, not copied,
//! where the evaluator copies a value.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use cel::ExecutionError;
use cel::common::traits::{self, Container, Indexer, Iterable, Sizer};
use cel::common::types::{self, CelBool, CelDouble, CelInt, CelNull, CelString, CelUInt, Type};
use cel::common::value::{CowVal, StaticVal, Val};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::decision::Undecided;
use crate::meter::Meter;

/// Most data that is read for filters, in bytes.
pub const DATA_BYTES_MAX: usize = 256 << 10;

/// Reads an event's data.
pub(crate) fn read(bytes: &[u8], meter: &Arc<Meter>) -> Result<Node, Undecided> {
    if bytes.len() > DATA_BYTES_MAX {
        return Err(Undecided::TooLarge {
            bytes: bytes.len(),
            max: DATA_BYTES_MAX,
        });
    }
    if bytes.is_empty() {
        return Ok(Node::Null(CelNull));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let node = Reader(meter).deserialize(&mut json);
    let read = node.and_then(|node| json.end().map(|()| node));
    read.map_err(|error| Undecided::NotJson {
        line: error.line(),
        column: error.column(),
    })
}

/// A value of the data.
pub(crate) enum Node {
    Null(CelNull),
    Bool(CelBool),
    Int(CelInt),
    UInt(CelUInt),
    Double(CelDouble),
    Text(CelString<'static>),
    List(List),
    Object(Object),
}

impl Node {
    /// The value, not counted.
    pub(crate) fn value(&self) -> &(dyn Val + 'static) {
        match self {
            Self::Null(null) => null,
            Self::Bool(bool) => bool,
            Self::Int(int) => int,
            Self::UInt(uint) => uint,
            Self::Double(double) => double,
            Self::Text(text) => text,
            Self::List(list) => list,
            Self::Object(object) => object,
        }
    }

    /// The value, handled once more.
    pub(crate) fn touched(&self, meter: &Meter) -> &(dyn Val + 'static) {
        match self {
            Self::Text(text) => meter.text(text.inner().len()),
            _ => meter.touch(),
        }
        self.value()
    }
}

/// A list of the data.
#[derive(Clone)]
pub(crate) struct List {
    items: Arc<[Node]>,
    meter: Arc<Meter>,
}

/// An object of the data, or the event's attributes by name.
#[derive(Clone)]
pub(crate) struct Object {
    /// In the order of their names, each name once.
    members: Arc<[(CelString<'static>, Node)]>,
    meter: Arc<Meter>,
}

impl Object {
    /// Of members with the same name the last counts.
    pub(crate) fn new(mut members: Vec<(CelString<'static>, Node)>, meter: Arc<Meter>) -> Self {
        members.reverse();
        // Stable: the last of a name is now its first.
        members.sort_by(|(a, _), (b, _)| a.inner().cmp(b.inner()));
        members.dedup_by(|(a, _), (b, _)| a.inner() == b.inner());
        Self {
            members: members.into(),
            meter,
        }
    }

    fn find(&self, key: &dyn Val) -> Option<&Node> {
        let name = key.downcast_ref::<CelString<'_>>()?.inner();
        let found = self
            .members
            .binary_search_by(|(known, _)| known.inner().cmp(name));
        found.ok().map(|n| &self.members[n].1)
    }
}

/// Values of an event are no one's to print.
impl fmt::Debug for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "list of {}", self.items.len())
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "object of {}", self.members.len())
    }
}

impl StaticVal for List {}

impl Val for List {
    fn get_type(&self) -> &Type {
        <Self as Val>::cel_type()
    }

    fn cel_type() -> &'static Type {
        &types::LIST_TYPE
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_iterable<'b, 'v>(&'b self) -> Option<&'b (dyn Iterable + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        Some(self)
    }

    fn equals(&self, other: &dyn Val) -> bool {
        let Some(other) = other.downcast_ref::<Self>() else {
            return false;
        };
        let mut pairs = self.items.iter().zip(other.items.iter());
        self.items.len() == other.items.len() && pairs.all(|(a, b)| equal(a, b, &self.meter))
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl Container for List {
    fn contains(&self, value: &dyn Val) -> Result<bool, ExecutionError> {
        let mut items = self.items.iter().take_while(|_| !self.meter.is_spent());
        Ok(items.any(|item| item.touched(&self.meter).equals(value)))
    }
}

impl Indexer for List {
    fn get<'b, 'v>(&'b self, index: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let at = if let Some(int) = index.downcast_ref::<CelInt>() {
            usize::try_from(*int.inner()).ok()
        } else if let Some(uint) = index.downcast_ref::<CelUInt>() {
            usize::try_from(*uint.inner()).ok()
        } else {
            return Err(wrong_key(index, "int"));
        };
        let item = at.and_then(|at| self.items.get(at));
        let item = item.ok_or(ExecutionError::IndexOutOfBounds(cel::Value::Null))?;
        Ok(CowVal::Borrowed(item.touched(&self.meter)))
    }

    fn steal<'v>(self: Box<Self>, index: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.get(index).map(CowVal::into_owned)
    }
}

impl Iterable for List {
    fn iter<'b, 'v>(&'b self) -> Box<dyn traits::Iterator<'b, 'v> + 'b>
    where
        Self: 'v,
    {
        Box::new(Rounds {
            items: self.items.iter(),
            value: Node::value,
            meter: &self.meter,
        })
    }
}

impl Sizer for List {
    fn size(&self) -> CelInt {
        length(self.items.len())
    }
}

impl StaticVal for Object {}

impl Val for Object {
    fn get_type(&self) -> &Type {
        <Self as Val>::cel_type()
    }

    fn cel_type() -> &'static Type {
        &types::MAP_TYPE
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_iterable<'b, 'v>(&'b self) -> Option<&'b (dyn Iterable + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        Some(self)
    }

    fn equals(&self, other: &dyn Val) -> bool {
        let Some(other) = other.downcast_ref::<Self>() else {
            return false;
        };
        let mut pairs = self.members.iter().zip(other.members.iter());
        self.members.len() == other.members.len()
            && pairs.all(|((name, a), (other_name, b))| {
                self.meter.text(name.inner().len());
                name.inner() == other_name.inner() && equal(a, b, &self.meter)
            })
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl Container for Object {
    fn contains(&self, key: &dyn Val) -> Result<bool, ExecutionError> {
        self.meter.touch();
        if key.downcast_ref::<CelString<'_>>().is_none() {
            return Err(wrong_key(key, "string"));
        }
        Ok(self.find(key).is_some())
    }
}

impl Indexer for Object {
    fn get<'b, 'v>(&'b self, key: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.meter.touch();
        if key.downcast_ref::<CelString<'_>>().is_none() {
            return Err(wrong_key(key, "string"));
        }
        match self.find(key) {
            Some(node) => Ok(CowVal::Borrowed(node.touched(&self.meter))),
            // Which one does not matter: that it is missing is no error to anybody.
            None => Err(ExecutionError::no_such_key("")),
        }
    }

    fn steal<'v>(self: Box<Self>, key: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.get(key).map(CowVal::into_owned)
    }
}

impl Iterable for Object {
    fn iter<'b, 'v>(&'b self) -> Box<dyn traits::Iterator<'b, 'v> + 'b>
    where
        Self: 'v,
    {
        Box::new(Rounds {
            items: self.members.iter(),
            value: |(name, _)| name,
            meter: &self.meter,
        })
    }
}

impl Sizer for Object {
    fn size(&self) -> CelInt {
        length(self.members.len())
    }
}

/// The rounds of a loop, which end when the steps are spent.
struct Rounds<'b, T> {
    items: std::slice::Iter<'b, T>,
    value: fn(&'b T) -> &'b (dyn Val + 'static),
    meter: &'b Meter,
}

impl<'b, 'v, T> traits::Iterator<'b, 'v> for Rounds<'b, T> {
    fn next(&mut self) -> Option<&'b (dyn Val + 'v)> {
        let value = (self.value)(self.items.next()?);
        let text = value.downcast_ref::<CelString<'_>>();
        self.meter.round(text.map_or(0, |text| text.inner().len()));
        (!self.meter.is_spent()).then_some(value)
    }
}

fn equal(a: &Node, b: &Node, meter: &Meter) -> bool {
    !meter.is_spent() && a.touched(meter).equals(b.value())
}

fn length(items: usize) -> CelInt {
    CelInt::from(i64::try_from(items).unwrap_or(i64::MAX))
}

fn wrong_key(key: &dyn Val, want: &str) -> ExecutionError {
    ExecutionError::UnexpectedType {
        got: key.get_type().name().to_owned(),
        want: want.to_owned(),
    }
}

/// Reads a JSON value. How deep it may go is `serde_json`'s bound.
#[derive(Clone, Copy)]
struct Reader<'m>(&'m Arc<Meter>);

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Null(CelNull))
    }

    fn visit_bool<E: Error>(self, bool: bool) -> Result<Node, E> {
        Ok(Node::Bool(bool.into()))
    }

    fn visit_i64<E: Error>(self, int: i64) -> Result<Node, E> {
        Ok(Node::Int(int.into()))
    }

    fn visit_u64<E: Error>(self, uint: u64) -> Result<Node, E> {
        Ok(i64::try_from(uint)
            .map_or_else(|_| Node::UInt(uint.into()), |int| Node::Int(int.into())))
    }

    fn visit_f64<E: Error>(self, double: f64) -> Result<Node, E> {
        Ok(Node::Double(double.into()))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.to_owned().into()))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Node, E> {
        Ok(Node::Text(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Node::List(List {
            items: items.into(),
            meter: Arc::clone(self.0),
        }))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut members = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            members.push((CelString::from(name), map.next_value_seed(self)?));
        }
        Ok(Node::Object(Object::new(members, Arc::clone(self.0))))
    }
}
