//! Protobuf messages as JSON.
//!
//! Decides which message of a file a value is, by the index before it, and that JSON is written by
//! the mapping of proto3: 64-bit integers as text, bytes as base64, fields by their JSON names, those
//! at their default left out. Leaves the language to the libraries protox and prost-reflect, which
//! bound the depth of values and of messages in messages.
//!
//! Options are taken off a schema before it is compiled, but for the one that its enums need: no
//! value is read by them, and those in braces go to a parser that calls itself as deep as they go,
//! which ends the process.
//!
//! Source: Confluent's wire format for Protobuf; the ProtoJSON format.

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;
use prost_reflect::prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use protox::file::{File, FileResolver, GoogleFileResolver};
use protox::{Compiler, Error};

use crate::out::Out;
use crate::{DEPTH_MAX, NAME_BYTES_MAX, Reference, Unreadable, Unusable, clip};

/// What the libraries keep of a message, field or whatever else has a name, in bytes, about, and how
/// often they keep its full name; that of its type is as long.
const COST_PER_NAME: usize = 1_536;
const COST_PER_NAME_BYTE: usize = 5;
/// What a schema may cost with everything it imports: some 18 000 names, where those of a large
/// company have a thousand.
const COST_MAX: usize = 32 << 20;

/// What the schema itself is called among the files it imports.
const FILE: &str = "schema-of-the-value.proto";

#[derive(Clone, Debug)]
pub(crate) struct Protobuf {
    pool: DescriptorPool,
    cost: usize,
}

impl Protobuf {
    pub(crate) fn new(text: &str, references: &[Reference]) -> Result<Self, Unusable> {
        let cost = Rc::new(Cell::new(0));
        let files = Files {
            text: text.to_owned(),
            references: references.to_vec(),
            cost: Rc::clone(&cost),
        };
        let mut compiler = Compiler::with_file_resolver(files);
        compiler
            .open_file(FILE)
            .map_err(|error| Unusable(clip(&error.to_string()).to_owned()))?;
        let pool = compiler.descriptor_pool();
        // A message in it may hold another one, and so on: a depth that nothing bounds.
        if pool.get_message_by_name("google.protobuf.Any").is_some() {
            return Err(Unusable(
                "it imports google/protobuf/any.proto, of which values are not read".to_owned(),
            ));
        }
        let cost = cost.get();
        Ok(Self { pool, cost })
    }

    /// What it takes in memory, in bytes, about.
    pub(crate) const fn cost(&self) -> usize {
        self.cost
    }

    /// `index` = the message's index, where it does not stand in the body.
    pub(crate) fn read(
        &self,
        body: &Bytes,
        index: Option<&[u8]>,
        limit: usize,
    ) -> Result<Bytes, Unreadable> {
        let mut rest = &body[..];
        let path = match index {
            Some(mut index) => message_index(&mut index)?,
            None => message_index(&mut rest)?,
        };
        let message = DynamicMessage::decode(self.message(&path)?, rest)
            .map_err(|error| Unreadable::Malformed(error.to_string()))?;
        let mut out = Out::new(limit);
        let mut serializer = serde_json::Serializer::new(&mut out);
        match message.serialize_with_options(&mut serializer, &SerializeOptions::new()) {
            Ok(()) => Ok(out.into_text().into()),
            Err(error) if error.is_io() => Err(Unreadable::TooLarge(limit)),
            Err(error) => Err(Unreadable::Malformed(error.to_string())),
        }
    }

    /// The message at a path: its place in the file, then among the messages inside, map entries
    /// not counted.
    fn message(&self, path: &[usize]) -> Result<MessageDescriptor, Unreadable> {
        let file = self.pool.get_file_by_name(FILE);
        let file = file.expect("it was compiled under this name");
        let (first, inner) = path.split_first().expect("a path has a step");
        let child = |outer: MessageDescriptor, at: &usize| {
            let mut children = outer.child_messages().filter(|m| !m.is_map_entry());
            children.nth(*at)
        };
        let first = file.messages().nth(*first);
        let found = first.and_then(|first| inner.iter().try_fold(first, child));
        found.ok_or_else(|| Unreadable::Malformed(format!("its schema has no message {path:?}")))
    }
}

/// The numbers of messages from the outermost to the one that it is: their count, then each, as
/// zigzag varints; a count of 0 stands for the first message of the file.
fn message_index(bytes: &mut &[u8]) -> Result<Vec<usize>, Unreadable> {
    let malformed = || Unreadable::Malformed("its message index is broken".to_owned());
    let mut next = || {
        let mut number = 0_u32;
        for shift in [0, 7, 14] {
            let (byte, rest) = bytes.split_first()?;
            *bytes = rest;
            number |= u32::from(byte & 0x7f) << shift;
            if *byte < 0x80 {
                let even = number.is_multiple_of(2);
                return even.then_some((number / 2) as usize);
            }
        }
        None
    };
    let count = next().ok_or_else(malformed)?;
    if count == 0 {
        return Ok(vec![0]);
    }
    if count > DEPTH_MAX {
        return Err(malformed());
    }
    let path: Option<Vec<usize>> = (0..count).map(|_| next()).collect();
    path.ok_or_else(malformed)
}

/// The schema, those it refers to, and those that come with the language.
struct Files {
    text: String,
    references: Vec<Reference>,
    /// Of those opened so far.
    cost: Rc<Cell<usize>>,
}

impl FileResolver for Files {
    fn open_file(&self, name: &str) -> Result<File, Error> {
        let reference = self.references.iter().find(|found| found.name == name);
        let file = match reference {
            _ if name == FILE => File::from_source(name, &self.text),
            Some(reference) => File::from_source(name, &reference.text),
            None => GoogleFileResolver::new().open_file(name),
        };
        let mut needed = Needed {
            cost: self.cost.get(),
        };
        let file = needed.file(file?.into())?;
        self.cost.set(needed.cost);
        Ok(file.into())
    }
}

/// Takes from files what no value is read by, and adds up the cost of what is left.
struct Needed {
    cost: usize,
}

impl Needed {
    fn file(&mut self, mut file: FileDescriptorProto) -> Result<FileDescriptorProto, Error> {
        file.options = None;
        file.service.clear();
        file.source_code_info = None;
        let package = file.package().to_owned();
        self.fields(&mut file.extension, &package)?;
        self.enums(&mut file.enum_type, &package)?;
        self.messages(&mut file.message_type, &package)?;
        Ok(file)
    }

    /// Messages in messages: so deep as the parser allows.
    fn messages(&mut self, messages: &mut [DescriptorProto], scope: &str) -> Result<(), Error> {
        for message in messages {
            let name = self.name(scope, message.name())?;
            if let Some(options) = &mut message.options {
                // That it is the entry of a map is not among these.
                options.uninterpreted_option.clear();
            }
            for range in &mut message.extension_range {
                self.name(&name, "")?;
                range.options = None;
            }
            for oneof in &mut message.oneof_decl {
                self.name(&name, oneof.name())?;
                oneof.options = None;
            }
            self.fields(&mut message.field, &name)?;
            self.fields(&mut message.extension, &name)?;
            self.enums(&mut message.enum_type, &name)?;
            self.messages(&mut message.nested_type, &name)?;
        }
        Ok(())
    }

    fn fields(&mut self, fields: &mut [FieldDescriptorProto], scope: &str) -> Result<(), Error> {
        for field in fields {
            self.name(scope, field.name())?;
            field.options = None;
        }
        Ok(())
    }

    fn enums(&mut self, enums: &mut [EnumDescriptorProto], scope: &str) -> Result<(), Error> {
        for of_enum in enums {
            self.name(scope, of_enum.name())?;
            if let Some(options) = &mut of_enum.options {
                // Without it two names of one number are an error.
                options.uninterpreted_option.retain(|option| {
                    option.identifier_value.is_some()
                        && matches!(
                            &*option.name,
                            [part] if !part.is_extension && part.name_part == "allow_alias"
                        )
                });
            }
            for value in &mut of_enum.value {
                self.name(scope, value.name())?;
                value.options = None;
            }
        }
        Ok(())
    }

    /// The full name.
    fn name(&mut self, scope: &str, name: &str) -> Result<String, Error> {
        let bytes = scope.len() + name.len();
        if bytes > NAME_BYTES_MAX {
            let (name, scope) = (clip(name), clip(scope));
            return Err(Error::new(format!(
                "a name of more than {NAME_BYTES_MAX} bytes: {name:?} in {scope:?}"
            )));
        }
        self.cost += COST_PER_NAME + bytes * COST_PER_NAME_BYTE;
        if self.cost > COST_MAX {
            return Err(Error::new(format!(
                "it and what it imports have so many names that they take more than {COST_MAX} bytes"
            )));
        }
        Ok(format!("{scope}.{name}"))
    }
}
