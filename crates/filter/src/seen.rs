//! What expressions see of an event.
//!
//! Decides the variables: `data`; the attributes `id`, `source`, `type`, `tenant`, `time`,
//! `subject` and `partitionkey`, null where the event has none; and `attributes`, all it has by
//! name, extensions among them; and how much long text of different filters is compiled for it:
//! whether one is kept compiled depends on what happened before, so that is not asked. Leaves the
//! data itself to `data`.

use std::collections::HashSet;
use std::sync::Arc;

use cel::common::types::{CelNull, CelString};
use cel::common::value::CowVal;
use cel::context::VariableResolver;
use postrider_domain::Event;

use crate::allowed::Uses;
use crate::data::{self, Node, Object};
use crate::decision::Undecided;
use crate::meter::Meter;

/// The names an expression may use.
pub(crate) const VARIABLES: [&str; 9] = [
    "data",
    "attributes",
    "id",
    "source",
    "type",
    "tenant",
    "time",
    "subject",
    "partitionkey",
];

/// Longest filter that is compiled for an event whatever the others are, in bytes: 0.2 ms at most.
pub const SHORT_TEXT_MAX: usize = 256;

/// Most text of different filters beyond that, in bytes, that is compiled for one event: 0.15 s of
/// usual ones, 0.4 s of the worst.
pub const EVENT_TEXT_MAX: usize = 512 << 10;

/// What was read of one event so far. Nothing is, until a filter asks for it.
#[derive(Default)]
pub struct Seen {
    pub(crate) meter: Arc<Meter>,
    data: Option<Result<Node, Undecided>>,
    attributes: Option<Object>,
    /// The long filters that are asked about it; so many as there is text for.
    long: HashSet<Arc<str>>,
    long_bytes: usize,
}

/// Shows nothing of the event.
impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seen").finish_non_exhaustive()
    }
}

impl Seen {
    /// Whether a filter with this text is asked about the event, to be known before it is compiled.
    ///
    /// # Errors
    /// [`Undecided::TooMuchText`] when those asked before have as much text as is compiled.
    pub fn admit(&mut self, text: &Arc<str>) -> Result<(), Undecided> {
        let beyond = text.len().saturating_sub(SHORT_TEXT_MAX);
        if beyond == 0 || self.long.contains(text) {
            return Ok(());
        }
        if self.long_bytes + beyond > EVENT_TEXT_MAX {
            return Err(Undecided::TooMuchText);
        }
        self.long_bytes += beyond;
        self.long.insert(Arc::clone(text));
        Ok(())
    }

    /// Reads what an expression uses, and sets the meter for it.
    pub(crate) fn prepare(&mut self, event: &Event, uses: Uses) -> Result<(), Undecided> {
        if uses.data {
            let meter = &self.meter;
            let data = self
                .data
                .get_or_insert_with(|| data::read(&event.data, meter));
            data.as_ref().map_err(Clone::clone)?;
        }
        if uses.attributes {
            let meter = &self.meter;
            self.attributes
                .get_or_insert_with(|| Object::new(attributes(event), Arc::clone(meter)));
        }
        self.meter.begin(uses.loop_nodes, uses.additions);
        Ok(())
    }

    pub(crate) const fn variables<'e>(&'e self, event: &'e Event) -> Variables<'e> {
        Variables { event, seen: self }
    }
}

/// Where the evaluator looks names up.
pub(crate) struct Variables<'e> {
    event: &'e Event,
    seen: &'e Seen,
}

impl VariableResolver for Variables<'_> {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        let seen = self.seen;
        let value = match name {
            "data" => {
                let node = seen.data.as_ref()?.as_ref().ok()?;
                return Some(CowVal::Borrowed(node.touched(&seen.meter)));
            }
            "attributes" => return Some(CowVal::Borrowed(seen.attributes.as_ref()?)),
            _ if VARIABLES.contains(&name) => attribute(self.event, name),
            _ => return None,
        };
        Some(value.map_or_else(
            || CowVal::owned(CelNull),
            |text| {
                seen.meter.text(text.len());
                CowVal::owned(CelString::from(text))
            },
        ))
    }
}

/// The attribute with this name.
fn attribute<'e>(event: &'e Event, name: &str) -> Option<&'e str> {
    match name {
        "id" => Some(&event.id),
        "source" => Some(&event.source),
        "type" => Some(&event.event_type),
        "tenant" => Some(event.tenant.as_str()),
        "time" => event.time.as_deref(),
        "partitionkey" => event.ordering_key.as_deref(),
        "datacontenttype" => event.content_type.as_deref(),
        _ => {
            let mut extensions = event.extensions.iter();
            let found = extensions.find(|(known, _)| &**known == name);
            found.map(|(_, value)| &**value)
        }
    }
}

/// Every attribute the event has.
fn attributes(event: &Event) -> Vec<(CelString<'static>, Node)> {
    let known = [
        "id",
        "source",
        "type",
        "tenant",
        "time",
        "partitionkey",
        "datacontenttype",
    ];
    let known = known
        .into_iter()
        .filter_map(|name| Some((name, attribute(event, name)?)));
    let extensions = event
        .extensions
        .iter()
        .map(|(name, value)| (&**name, &**value));
    let member = |(name, value): (&str, &str)| {
        let text = |text: &str| CelString::from(text.to_owned());
        (text(name), Node::Text(text(value)))
    };
    known.chain(extensions).map(member).collect()
}
