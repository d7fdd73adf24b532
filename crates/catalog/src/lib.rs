//! Which endpoints there are, folded from the records of the `endpoints` topic.
//!
//! Decides that an older version never replaces a newer one, that a tombstone deletes and for how
//! long that is remembered. Leaves which of them an event is for to [`by_tenant`], the form of the
//! records to `wire`, and what a change means for deliveries under way to `engine`.
#![warn(missing_docs)]

pub mod by_tenant;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use postrider_domain::{Endpoint, EndpointId};

/// Every endpoint known, by id. A change costs a few map steps.
#[derive(Debug, Default)]
pub struct Catalog {
    known: BTreeMap<EndpointId, Arc<Endpoint>>,
    deleted: Tombstones,
}

/// What a record did to the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The endpoint is new, or not older than what was known.
    Applied,
    /// It was deleted, or never was.
    Deleted,
    /// An older version came after a newer one: ignored.
    Outdated,
}

/// What is known of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup<'a> {
    /// Its configuration.
    Known(&'a Arc<Endpoint>),
    /// A tombstone was read, among the last 10 000.
    Deleted,
    /// Nothing was read, or it was deleted too long ago.
    Unknown,
}

impl Catalog {
    /// Knows nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Folds one record in: an endpoint, or `None` for a tombstone. After a tombstone any version
    /// is new. `id` is the record's key, and the endpoint's own.
    pub fn apply(&mut self, id: EndpointId, endpoint: Option<Endpoint>) -> Change {
        let Some(endpoint) = endpoint else {
            self.known.remove(&id);
            self.deleted.remember(id);
            return Change::Deleted;
        };
        match self.known.entry(id) {
            Entry::Occupied(entry) if entry.get().version > endpoint.version => {
                return Change::Outdated;
            }
            Entry::Occupied(mut entry) => {
                entry.insert(Arc::new(endpoint));
            }
            Entry::Vacant(entry) => {
                self.deleted.forget(entry.key());
                entry.insert(Arc::new(endpoint));
            }
        }
        Change::Applied
    }

    /// What is known of an id.
    #[must_use]
    pub fn find(&self, id: &EndpointId) -> Lookup<'_> {
        match self.known.get(id) {
            Some(endpoint) => Lookup::Known(endpoint),
            None if self.deleted.by_id.contains_key(id) => Lookup::Deleted,
            None => Lookup::Unknown,
        }
    }

    /// How many endpoints there are, deleted ones not counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

/// The ids deleted last. Endpoints come and go for years and their tombstones with them: a few
/// megabytes are kept of it.
#[derive(Debug)]
struct Tombstones {
    by_id: BTreeMap<EndpointId, u64>,
    /// Oldest first; the reverse of `by_id`.
    by_age: BTreeMap<u64, EndpointId>,
    /// Grows with each tombstone.
    last: u64,
    /// Most that are remembered.
    max: usize,
}

impl Default for Tombstones {
    fn default() -> Self {
        Self {
            by_id: BTreeMap::new(),
            by_age: BTreeMap::new(),
            last: 0,
            max: 10_000,
        }
    }
}

impl Tombstones {
    /// As the newest, whether it was there or not.
    fn remember(&mut self, id: EndpointId) {
        self.last += 1;
        self.by_age.insert(self.last, id.clone());
        if let Some(before) = self.by_id.insert(id, self.last) {
            self.by_age.remove(&before);
        }
        if self.by_id.len() > self.max
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.by_id.remove(&oldest);
        }
    }

    fn forget(&mut self, id: &EndpointId) {
        if let Some(age) = self.by_id.remove(id) {
            self.by_age.remove(&age);
        }
    }
}

#[cfg(test)]
mod tests;
