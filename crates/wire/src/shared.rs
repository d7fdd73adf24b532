//! Parts that several JSON records have in common.

use std::borrow::Cow;

use postrider_domain::{Event, Origin};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An event without its data.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[schemars(rename = "Event")]
pub struct EventSummary<'a> {
    /// CloudEvents `id`.
    pub id: Cow<'a, str>,
    /// CloudEvents `source`.
    pub source: Cow<'a, str>,
    /// CloudEvents `type`.
    #[serde(rename = "type")]
    pub event_type: Cow<'a, str>,
    /// The merchant account.
    pub tenant: Cow<'a, str>,
    /// CloudEvents `time`, as the producer wrote it.
    #[serde(default)]
    pub time: Option<Cow<'a, str>>,
}

impl<'a> EventSummary<'a> {
    pub(crate) fn of(event: &'a Event) -> Self {
        Self {
            id: (&*event.id).into(),
            source: (&*event.source).into(),
            event_type: (&*event.event_type).into(),
            tenant: event.tenant.as_str().into(),
            time: event.time.as_deref().map(Cow::Borrowed),
        }
    }
}

/// Where a record is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[schemars(rename = "Record")]
pub struct Place<'a> {
    /// Full topic name.
    pub topic: Cow<'a, str>,
    /// Partition number.
    pub partition: i32,
    /// Offset in it.
    pub offset: i64,
}

impl<'a> Place<'a> {
    pub(crate) fn of(origin: &'a Origin) -> Self {
        Self {
            topic: (&*origin.topic).into(),
            partition: origin.partition,
            offset: origin.offset,
        }
    }
}
