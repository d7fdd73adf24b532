//! The text of an Avro schema as a list of nodes.
//!
//! Decides which names a schema may use (its own and those of its references), and which logical
//! types are known; of one that is not known or does not fit, the type below it counts, as the
//! specification asks. Leaves values to `avro`.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::{NAME_BYTES_MAX, Reference, Unusable, clip, decimal};

/// A type. Those inside it are numbers of nodes.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    /// Its size in bytes.
    Fixed(usize),
    Enum(Box<[Box<str>]>),
    Array(usize),
    Map(usize),
    Union(Box<[usize]>),
    Record(Box<[(Box<str>, usize)]>),
    /// In bytes with their number before them, or in so many.
    Decimal {
        size: Option<usize>,
        scale: usize,
    },
    Date,
    Time(Unit),
    Timestamp(Unit),
    LocalTimestamp(Unit),
    /// In 16 bytes; as text it is a string like any other.
    Uuid,
    Duration,
}

/// What a time is counted in.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unit {
    Milli,
    Micro,
    Nano,
}

impl Unit {
    /// Digits behind the seconds.
    pub(super) const fn digits(self) -> usize {
        match self {
            Self::Milli => 3,
            Self::Micro => 6,
            Self::Nano => 9,
        }
    }

    /// So many since 1970.
    pub(super) fn timestamp(self, count: i64) -> Result<Timestamp, jiff::Error> {
        match self {
            Self::Milli => Timestamp::from_millisecond(count),
            Self::Micro => Timestamp::from_microsecond(count),
            Self::Nano => Timestamp::from_nanosecond(count.into()),
        }
    }
}

/// All types of a schema.
#[derive(Clone, Debug)]
pub(super) struct Nodes {
    nodes: Vec<Node>,
    root: usize,
}

impl Nodes {
    pub(super) const fn root(&self) -> usize {
        self.root
    }

    pub(super) fn node(&self, number: usize) -> &Node {
        &self.nodes[number]
    }
}

pub(super) fn parse(text: &str, references: &[Reference]) -> Result<Nodes, Unusable> {
    let mut parser = Parser {
        nodes: Vec::new(),
        names: HashMap::new(),
    };
    for reference in references {
        parser
            .text(&reference.text)
            .map_err(|why| Unusable(format!("{:?}, which it refers to: {why}", reference.name)))?;
    }
    let root = parser.text(text)?;
    let mut nodes = parser.nodes;
    nodes.shrink_to_fit();
    Ok(Nodes { nodes, root })
}

struct Parser {
    nodes: Vec<Node>,
    /// Full names of records, enums and fixed.
    names: HashMap<String, usize>,
}

fn wrong<T>(message: impl Into<String>) -> Result<T, Unusable> {
    Err(Unusable(message.into()))
}

impl Parser {
    /// The text is JSON, or one bare word, as some registries keep primitive types. JSON that is
    /// nested deeper than 128 is refused by its parser.
    fn text(&mut self, text: &str) -> Result<usize, Unusable> {
        let word = text.trim();
        if primitive(word).is_some() {
            return self.named_or_primitive(word, "");
        }
        match serde_json::from_str(text) {
            Ok(value) => self.schema(&value, ""),
            Err(error) => wrong(format!("not JSON: {error}")),
        }
    }

    fn push(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn schema(&mut self, value: &Value, namespace: &str) -> Result<usize, Unusable> {
        match value {
            Value::String(name) => self.named_or_primitive(name, namespace),
            Value::Array(branches) => {
                let branches = branches.iter().map(|branch| self.schema(branch, namespace));
                let branches = branches.collect::<Result<_, _>>()?;
                Ok(self.push(Node::Union(branches)))
            }
            Value::Object(object) => self.object(object, namespace),
            _ => wrong("a type is a name, a list or an object"),
        }
    }

    fn named_or_primitive(&mut self, name: &str, namespace: &str) -> Result<usize, Unusable> {
        if let Some(node) = primitive(name) {
            return Ok(self.push(node));
        }
        let found = self.names.get(&full_name(name, namespace)?);
        match found.or_else(|| self.names.get(name)) {
            Some(number) => Ok(*number),
            None => wrong(format!("no type {:?}", clip(name))),
        }
    }

    fn object(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<usize, Unusable> {
        let kind = match object.get("type") {
            Some(Value::String(kind)) => kind.as_str(),
            Some(inner) => return self.schema(inner, namespace),
            None => return wrong("an object without \"type\""),
        };
        let inner = |name: &str| {
            object
                .get(name)
                .ok_or_else(|| Unusable(format!("{kind} without {name:?}")))
        };
        match kind {
            "record" | "error" | "enum" | "fixed" => self.named(kind, object, namespace),
            "array" => {
                let items = self.schema(inner("items")?, namespace)?;
                Ok(self.push(Node::Array(items)))
            }
            "map" => {
                let values = self.schema(inner("values")?, namespace)?;
                Ok(self.push(Node::Map(values)))
            }
            name => {
                let number = self.named_or_primitive(name, namespace)?;
                match logical(object, &self.nodes[number]) {
                    Some(node) => Ok(self.push(node)),
                    None => Ok(number),
                }
            }
        }
    }

    fn named(
        &mut self,
        kind: &str,
        object: &Map<String, Value>,
        namespace: &str,
    ) -> Result<usize, Unusable> {
        let text = |name| object.get(name).and_then(Value::as_str);
        let Some(name) = text("name") else {
            return wrong(format!("{kind} without \"name\""));
        };
        let name = full_name(name, text("namespace").unwrap_or(namespace))?;
        let namespace = name.rsplit_once('.').map_or("", |(before, _)| before);
        // Taken before its fields are read, as they may be of this type.
        let number = self.push(Node::Null);
        if self.names.insert(name.clone(), number).is_some() {
            return wrong(format!("{:?} is defined twice", clip(&name)));
        }
        self.nodes[number] = match kind {
            "fixed" => {
                let size = object.get("size").and_then(Value::as_u64);
                match size.and_then(|size| usize::try_from(size).ok()) {
                    Some(size) => {
                        let fixed = Node::Fixed(size);
                        logical(object, &fixed).unwrap_or(fixed)
                    }
                    None => return wrong(format!("{:?} without \"size\"", clip(&name))),
                }
            }
            "enum" => {
                let symbols = object.get("symbols").and_then(Value::as_array);
                let symbols = symbols.into_iter().flatten();
                let symbols = symbols.map(|symbol| symbol.as_str().map(Into::into));
                match symbols.collect() {
                    Some(symbols) => Node::Enum(symbols),
                    None => return wrong(format!("{:?} has a symbol that is none", clip(&name))),
                }
            }
            _ => {
                let Some(fields) = object.get("fields").and_then(Value::as_array) else {
                    return wrong(format!("{:?} without \"fields\"", clip(&name)));
                };
                let fields = fields.iter().map(|field| {
                    let field_name = field.get("name").and_then(Value::as_str);
                    match (field_name, field.get("type")) {
                        (Some(field_name), Some(field_type)) => {
                            Ok((field_name.into(), self.schema(field_type, namespace)?))
                        }
                        _ => wrong(format!(
                            "{:?} has a field without \"name\" or \"type\"",
                            clip(&name)
                        )),
                    }
                });
                Node::Record(fields.collect::<Result<_, _>>()?)
            }
        };
        Ok(number)
    }
}

fn full_name(name: &str, namespace: &str) -> Result<String, Unusable> {
    let namespace = if name.contains('.') { "" } else { namespace };
    if namespace.len() + name.len() > NAME_BYTES_MAX {
        let (name, namespace) = (clip(name), clip(namespace));
        return wrong(format!(
            "a name of more than {NAME_BYTES_MAX} bytes: {name:?} in {namespace:?}"
        ));
    }
    Ok(if namespace.is_empty() {
        name.to_owned()
    } else {
        format!("{namespace}.{name}")
    })
}

fn primitive(name: &str) -> Option<Node> {
    Some(match name {
        "null" => Node::Null,
        "boolean" => Node::Boolean,
        "int" => Node::Int,
        "long" => Node::Long,
        "float" => Node::Float,
        "double" => Node::Double,
        "bytes" => Node::Bytes,
        "string" => Node::String,
        _ => return None,
    })
}

/// The logical type, where it is known and fits the type below it.
fn logical(object: &Map<String, Value>, below: &Node) -> Option<Node> {
    let name = object.get("logicalType")?.as_str()?;
    Some(match (name, below) {
        ("decimal", Node::Bytes | Node::Fixed(_)) => {
            let scale = match object.get("scale") {
                None => 0,
                Some(scale) => usize::try_from(scale.as_u64()?).ok()?,
            };
            if scale > decimal::SCALE_MAX {
                return None;
            }
            let size = match below {
                Node::Fixed(size) => Some(*size),
                _ => None,
            };
            Node::Decimal { size, scale }
        }
        ("date", Node::Int) => Node::Date,
        ("time-millis", Node::Int) => Node::Time(Unit::Milli),
        ("time-micros", Node::Long) => Node::Time(Unit::Micro),
        ("timestamp-millis", Node::Long) => Node::Timestamp(Unit::Milli),
        ("timestamp-micros", Node::Long) => Node::Timestamp(Unit::Micro),
        ("timestamp-nanos", Node::Long) => Node::Timestamp(Unit::Nano),
        ("local-timestamp-millis", Node::Long) => Node::LocalTimestamp(Unit::Milli),
        ("local-timestamp-micros", Node::Long) => Node::LocalTimestamp(Unit::Micro),
        ("local-timestamp-nanos", Node::Long) => Node::LocalTimestamp(Unit::Nano),
        ("uuid", Node::Fixed(16)) => Node::Uuid,
        ("duration", Node::Fixed(12)) => Node::Duration,
        _ => return None,
    })
}
