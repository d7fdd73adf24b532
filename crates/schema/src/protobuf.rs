//! Protobuf messages as JSON.
//!
//! Decides which message of a file a value is, by the index before it, and that JSON is written by
//! the mapping of proto3: 64-bit integers as text, bytes as base64, fields by their JSON names, those
//! at their default left out. Leaves the language to the libraries protox and prost-reflect, which
//! bound the depth of values; the depth of a schema's text is bounded here, before it is parsed.
//!
//! Source: Confluent's wire format for Protobuf; the ProtoJSON format.

use bytes::Bytes;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use protox::Compiler;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

use crate::out::Out;
use crate::{DEPTH_MAX, Reference, Unreadable, Unusable, clip};

/// What the schema itself is called among the files it imports.
const FILE: &str = "schema-of-the-value.proto";

#[derive(Clone, Debug)]
pub(crate) struct Protobuf(DescriptorPool);

impl Protobuf {
    pub(crate) fn new(text: &str, references: &[Reference]) -> Result<Self, Unusable> {
        let texts = references.iter().map(|reference| &*reference.text);
        if texts.chain([text]).any(is_deep) {
            return Err(Unusable(format!("nested deeper than {DEPTH_MAX}")));
        }
        let mut files = ChainFileResolver::new();
        files.add(Files {
            text: text.to_owned(),
            references: references.to_vec(),
        });
        files.add(GoogleFileResolver::new());
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
        Ok(Self(pool))
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
        let file = self.0.get_file_by_name(FILE);
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

/// Whether brackets are nested too deep for a parser that calls itself.
fn is_deep(text: &str) -> bool {
    let mut depth = 0_usize;
    text.bytes().any(|byte| {
        match byte {
            b'{' | b'[' | b'(' | b'<' => depth += 1,
            b'}' | b']' | b')' | b'>' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth > DEPTH_MAX
    })
}

/// The schema and those it refers to.
struct Files {
    text: String,
    references: Vec<Reference>,
}

impl FileResolver for Files {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        if name == FILE {
            return File::from_source(name, &self.text);
        }
        let reference = self.references.iter().find(|found| found.name == name);
        match reference {
            Some(reference) => File::from_source(name, &reference.text),
            None => Err(protox::Error::file_not_found(name)),
        }
    }
}
