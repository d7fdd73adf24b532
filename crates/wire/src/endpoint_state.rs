//! Records of `endpoint-state`: who owns a slice, and what the owner remembers of its endpoints.
//!
//! Decides key, header and value of both kinds (`docs/reference/records.md`). A fence has the key
//! `@fence`, which is no endpoint id; a memory has the endpoint id, and a null value when there is
//! nothing to remember. Both carry the epoch of their writer in the header `pr_epoch` too, because
//! a null value cannot. Leaves which epochs count, and when something is written, to `engine`.

mod form;

use std::sync::Arc;

use bytes::Bytes;
use postrider_domain::{EndpointId, NewRecord, Record, Remembered, Timestamp};
use serde::Deserialize;

use crate::attributes::clip;
use crate::delivery::{Header, text};
use crate::instant;
pub(crate) use form::StateForm;
use form::{FenceForm, MemoryForm, VERSION};

/// The key of fences. No endpoint id has an `@`.
const FENCE_KEY: &str = "@fence";
const EPOCH: &str = "pr_epoch";

/// A record of `endpoint-state`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// An ownership of the slice began: what an earlier one writes from here on does not count.
    Fence {
        /// The number of the ownership.
        epoch: u64,
        /// Who began it, where two begin one of the same number.
        claimant: u64,
    },
    /// What is remembered of an endpoint from here on.
    Endpoint {
        /// Which.
        id: EndpointId,
        /// The ownership that wrote it.
        epoch: u64,
        /// All there is; empty where it was a tombstone.
        remembered: Remembered,
    },
}

/// Why a record of `endpoint-state` cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a record of endpoint-state: {0}")]
pub struct Unreadable(String);

impl Unreadable {
    fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// The record that begins an ownership of the slice `partition`. `worker` and `at` are for people.
#[must_use]
pub fn encode_fence(
    epoch: u64,
    claimant: u64,
    worker: &str,
    at: Timestamp,
    topic: Arc<str>,
    partition: i32,
) -> NewRecord {
    let fence = StateForm::Fence(FenceForm {
        v: VERSION,
        epoch,
        claimant,
        worker: Some(worker.into()),
        at: Some(instant::to_text_millis(at).into()),
    });
    record(FENCE_KEY, epoch, Some(&fence), topic, partition)
}

/// The record of an endpoint's memory, a tombstone when it is empty. With 1 000 holes and 1 000
/// heads it stays below 200 KiB. Holes that do not ascend cannot be read back.
#[must_use]
pub fn encode(
    endpoint: &EndpointId,
    epoch: u64,
    remembered: &Remembered,
    topic: Arc<str>,
    partition: i32,
) -> NewRecord {
    let memory = StateForm::Memory(MemoryForm::of(epoch, remembered));
    let memory = (!remembered.is_empty()).then_some(&memory);
    record(endpoint.as_str(), epoch, memory, topic, partition)
}

fn record(
    key: &str,
    epoch: u64,
    value: Option<&StateForm<'_>>,
    topic: Arc<str>,
    partition: i32,
) -> NewRecord {
    let json = |form| serde_json::to_vec(form).expect("a form is made of texts, numbers and lists");
    let epoch: Header = (EPOCH.into(), Some(epoch.to_string().into()));
    NewRecord {
        topic,
        partition,
        key: Some(text(key)),
        value: value.map(json).map(Bytes::from),
        headers: vec![epoch],
    }
}

/// Reads a record.
///
/// # Errors
/// [`Unreadable`] when key, header or value are not of this form, or of another version of it.
pub fn decode(record: &Record) -> Result<Entry, Unreadable> {
    let key = record.key.as_deref().unwrap_or_default();
    let key = std::str::from_utf8(key).map_err(|_| Unreadable::new("its key is not UTF-8"))?;
    let header = header_epoch(record)?;
    if key == FENCE_KEY {
        let Some(value) = record.value.as_deref() else {
            return Err(Unreadable::new("a fence without a value"));
        };
        let FenceForm {
            epoch, claimant, ..
        } = read(value)?;
        agree(header, epoch)?;
        return Ok(Entry::Fence { epoch, claimant });
    }
    let id: EndpointId = key
        .parse()
        .map_err(|invalid| Unreadable::new(format!("its key: {invalid}")))?;
    let (epoch, remembered) = match record.value.as_deref() {
        None => {
            let epoch = header.ok_or_else(|| {
                Unreadable::new(format!("a tombstone without the header {EPOCH}"))
            })?;
            (epoch, Remembered::default())
        }
        Some(value) => {
            let memory: MemoryForm = read(value)?;
            agree(header, memory.epoch)?;
            (memory.epoch, memory.remembered().map_err(Unreadable::new)?)
        }
    };
    Ok(Entry::Endpoint {
        id,
        epoch,
        remembered,
    })
}

fn header_epoch(record: &Record) -> Result<Option<u64>, Unreadable> {
    let Some(bytes) = record.header(EPOCH) else {
        return Ok(None);
    };
    let number = std::str::from_utf8(bytes).ok().and_then(|t| t.parse().ok());
    match number {
        Some(epoch) => Ok(Some(epoch)),
        None => Err(Unreadable::new(format!(
            "header {EPOCH}: expected a whole number, found {:?}",
            clip(&String::from_utf8_lossy(bytes))
        ))),
    }
}

/// Whose word counts of two that differ, nobody knows.
fn agree(header: Option<u64>, value: u64) -> Result<(), Unreadable> {
    match header {
        Some(epoch) if epoch != value => Err(Unreadable::new(format!(
            "its value is of epoch {value}, its header {EPOCH} of {epoch}"
        ))),
        _ => Ok(()),
    }
}

/// The version is looked at first: another one's fields may mean something else.
fn read<'a, T: Deserialize<'a>>(value: &'a [u8]) -> Result<T, Unreadable> {
    #[derive(Deserialize)]
    struct Version {
        v: u64,
    }
    let invalid = |error: serde_json::Error| Unreadable::new(format!("its value: {error}"));
    let Version { v } = serde_json::from_slice(value).map_err(invalid)?;
    if v != VERSION {
        return Err(Unreadable::new(format!(
            "its value is of version {v}, this reads {VERSION}; upgrade first"
        )));
    }
    serde_json::from_slice(value).map_err(invalid)
}

#[cfg(test)]
mod tests;
