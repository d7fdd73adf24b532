//! Records of endpoints, written while others write too.
//!
//! Kafka writes a record whatever lies before it. So this reads on after each write: a record that
//! somebody put between the one that was read and the one that was made of it is covered, and the
//! caller is told. Decides what is covered, what would stand without the record that covers it, and
//! how that is written again so that it counts. Leaves whether it is, or something made of it.

use std::collections::BTreeMap;

use bytes::Bytes;
use postrider_domain::{EndpointId, NewRecord, Record};
use postrider_kafka::tail::From;
use postrider_signing::KeyRing;
use postrider_wire::endpoint::{self, Sealing};

use super::topic::{Stored, Topic};
use crate::exit::Failure;
use crate::input;

/// One partition of `endpoints` or all, as far as it was read.
pub(in crate::commands) struct Log<'t, 'a> {
    topic: &'t Topic<'a>,
    /// `None` = all.
    partition: Option<i32>,
    endpoints: BTreeMap<EndpointId, Stored>,
    /// Of endpoints whose newest record is not the one that counts: why not.
    unused: BTreeMap<EndpointId, Unused>,
    /// Of endpoints that a tombstone was read of: the highest version before it.
    deleted: BTreeMap<EndpointId, u64>,
    /// The offset behind what was read, of each partition.
    ends: BTreeMap<i32, i64>,
}

/// Why the newest record of an endpoint does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::commands) enum Unused {
    /// It is an older version. Compaction would keep it alone: the newer one is to be written again.
    Outdated,
    /// It cannot be read, perhaps because its writer is newer: nothing may be written over it.
    Unreadable,
}

/// What is to be written: an endpoint's record, `None` = a tombstone.
pub(in crate::commands) type Change = (EndpointId, Option<Bytes>);

/// An endpoint that others wrote between the record that was read and the one that was made of it.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::commands) struct Covered {
    pub(in crate::commands) id: EndpointId,
    /// What of theirs would count without ours, the last of it; `None` = a tombstone.
    pub(in crate::commands) theirs: Option<Bytes>,
    /// It counts already: it came behind ours.
    pub(in crate::commands) counts: bool,
}

impl<'t, 'a> Log<'t, 'a> {
    pub(in crate::commands) fn read(
        topic: &'t Topic<'a>,
        partition: Option<i32>,
    ) -> Result<Self, Failure> {
        let mut log = Self {
            topic,
            partition,
            endpoints: BTreeMap::new(),
            unused: BTreeMap::new(),
            deleted: BTreeMap::new(),
            ends: BTreeMap::new(),
        };
        log.read_on(|_| {})?;
        Ok(log)
    }

    pub(in crate::commands) fn ids(&self) -> impl Iterator<Item = &EndpointId> {
        self.endpoints.keys()
    }

    pub(in crate::commands) fn get(&self, id: &EndpointId) -> Option<&Stored> {
        self.endpoints.get(id)
    }

    /// Why an endpoint's newest record does not count; `None` = it does.
    pub(in crate::commands) fn unused(&self, id: &EndpointId) -> Option<Unused> {
        self.unused.get(id).copied()
    }

    /// The version of the record that counts, 0 = there is none.
    pub(in crate::commands) fn version(&self, id: &EndpointId) -> u64 {
        let known = self.get(id);
        known.map_or(0, |known| known.recorded.endpoint.version)
    }

    /// The highest version before the last tombstone that was read; 0 = there was none. Whoever
    /// makes the endpoint anew stays above it: a record behind a tombstone that does not was made by
    /// somebody who had not read the tombstone, and may be taken back.
    pub(in crate::commands) fn deleted(&self, id: &EndpointId) -> u64 {
        self.deleted.get(id).copied().unwrap_or_default()
    }

    /// Writes records made of what was read, one of an endpoint; says of which endpoints others
    /// wrote meanwhile. What is made of these, or is put back, is written in the same way.
    pub(in crate::commands) fn write(
        &mut self,
        changes: &[Change],
    ) -> Result<Vec<Covered>, Failure> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let record = |(id, value): &Change| self.topic.record(id, value.clone());
        let records: Vec<NewRecord> = changes.iter().map(record).collect();
        // Nothing that came before a tombstone is too old to be covered by it.
        let made_of = |(id, value): &Change| value.as_ref().map_or(0, |_| self.version(id));
        let made_of: Vec<u64> = changes.iter().map(made_of).collect();
        self.topic.write(&records)?;
        let mut since: BTreeMap<Bytes, Vec<Option<Bytes>>> = BTreeMap::new();
        self.read_on(|record| {
            let key = record.key.clone().unwrap_or_default();
            since.entry(key).or_default().push(record.value.clone());
        })?;
        let covered = changes.iter().zip(made_of).filter_map(|(change, version)| {
            let id = change.0.clone();
            let theirs = covered_by(change, version, since.get(id.as_str().as_bytes())?)?;
            let counts = self.unused(&id).is_none()
                && self.get(&id).map(|stored| &stored.value) == theirs.as_ref();
            Some(Covered { id, theirs, counts })
        });
        Ok(covered.collect())
    }

    /// What puts back what was covered. Under a higher version than its own where that would not
    /// count behind what covers it.
    pub(in crate::commands) fn put_back(&self, covered: Covered) -> Result<Change, Failure> {
        let Covered { id, theirs, .. } = covered;
        let Some(value) = theirs else {
            return Ok((id, None));
        };
        let value = above(&id, value, self.version(&id), self.topic.sealing()?)?;
        Ok((id, Some(value)))
    }

    /// Puts back what was covered, until nothing is.
    pub(in crate::commands) fn put_all_back(
        &mut self,
        mut covered: Vec<Covered>,
    ) -> Result<(), Failure> {
        while !covered.is_empty() {
            let stays = covered.into_iter().filter(|covered| !covered.counts);
            let changes: Result<Vec<Change>, Failure> =
                stays.map(|covered| self.put_back(covered)).collect();
            covered = self.write(&changes?)?;
        }
        Ok(())
    }

    fn read_on(&mut self, mut each: impl FnMut(&Record)) -> Result<(), Failure> {
        let topic = self.topic;
        let ends = self.ends.clone();
        topic.read_records(self.partition, From::Offsets(&ends), |record| {
            let end = self.ends.entry(record.origin.partition).or_default();
            *end = (*end).max(record.origin.offset + 1);
            each(&record);
            let key = record.key.as_deref().unwrap_or_default();
            let id = String::from_utf8_lossy(key).parse::<EndpointId>().ok();
            let before = id.as_ref().map_or(0, |id| self.version(id));
            let is_read = topic.fold(&mut self.endpoints, &record);
            let Some(id) = id else {
                return;
            };
            if is_read && record.value.is_none() {
                let highest = self.deleted.entry(id.clone()).or_default();
                *highest = before.max(*highest);
            }
            let used = self.endpoints.get(&id).map(|stored| stored.offset);
            match unused(is_read, used, record.origin.offset) {
                Some(why) => self.unused.insert(id, why),
                None => self.unused.remove(&id),
            };
        })
    }
}

/// Why the record at this offset, the newest of its endpoint, does not count, where `used` is the
/// offset of the one that does.
fn unused(is_read: bool, used: Option<i64>, newest: i64) -> Option<Unused> {
    match used {
        _ if !is_read => Some(Unused::Unreadable),
        Some(used) if used != newest => Some(Unused::Outdated),
        // A tombstone leaves none.
        _ => None,
    }
}

/// A record as it counts behind one of this version. What cannot be read stays as it is.
fn above(
    id: &EndpointId,
    value: Bytes,
    version: u64,
    sealing: Sealing<'_>,
) -> Result<Bytes, Failure> {
    let read = endpoint::from_record(id.as_str().as_bytes(), &value, &KeyRing::default());
    let Some(read) = read.ok().filter(|read| read.endpoint.version < version) else {
        return Ok(value);
    };
    let (state, version) = (read.endpoint.state, version.saturating_add(1));
    let raised = endpoint::with_state(&value, state, version, input::now(), sealing);
    Ok(raised.map_err(Failure::no)?.into())
}

/// What a change covers of its endpoint's records since the one of this version that it was made of,
/// itself among them: the last of the others that counts as catalogues count, or may count for
/// somebody who can read it, when one of them came before it.
fn covered_by(
    (id, value): &Change,
    mut version: u64,
    since: &[Option<Bytes>],
) -> Option<Option<Bytes>> {
    let none = KeyRing::default();
    let (mut is_behind, mut is_covered, mut last) = (false, false, None);
    for found in since {
        if !is_behind && found == value {
            is_behind = true;
            continue;
        }
        if let Some(found) = found {
            let read = endpoint::from_record(id.as_str().as_bytes(), found, &none);
            match read.map(|read| read.endpoint.version) {
                Ok(older) if older < version => continue,
                Ok(newer) => version = newer,
                Err(_) => {}
            }
        } else {
            // Behind a tombstone every version is new.
            version = 0;
        }
        is_covered |= !is_behind;
        last = Some(found.clone());
    }
    last.filter(|_| is_covered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::endpoint::topic::fold;
    use crate::commands::endpoint::topic::testing::{keys, record, under, wanted};

    fn value(version: u64) -> Option<Bytes> {
        let mut endpoint = wanted("https://a.example/");
        endpoint.version = version;
        record(Some(&endpoint), 0).value
    }

    /// With a mark that tells it from others of its version.
    fn ours() -> Option<Bytes> {
        let mut bytes = value(5).unwrap().to_vec();
        bytes.push(b' ');
        Some(bytes.into())
    }

    /// What is covered by a record made of version 5.
    fn covered(since: &[Option<Bytes>]) -> Option<Option<Bytes>> {
        covered_by(&("ep_1".parse().unwrap(), ours()), 5, since)
    }

    #[test]
    fn what_came_between_is_covered() {
        assert_eq!(covered(&[ours()]), None);
        assert_eq!(covered(&[value(6), ours()]), Some(value(6)));
        assert_eq!(covered(&[value(6), value(7), ours()]), Some(value(7)));
        assert_eq!(covered(&[None, ours()]), Some(None));
    }

    #[test]
    fn what_was_deleted_and_made_anew_is_covered_whatever_its_version() {
        assert_eq!(covered(&[None, value(1), ours()]), Some(value(1)));
        assert_eq!(covered(&[None, value(2), value(1), ours()]), Some(value(2)));
        assert_eq!(covered(&[value(7), value(6), ours()]), Some(value(7)));
    }

    #[test]
    fn an_endpoint_made_anew_under_a_record_of_the_old_one_is_there_again() {
        let since = [None, value(1), ours()];
        let theirs = covered(&since).flatten().unwrap();
        let put_back = above(&"ep_1".parse().unwrap(), theirs, 5, under(&keys())).unwrap();
        let mut endpoints = BTreeMap::new();
        for value in [&[value(5)][..], &since, &[Some(put_back.clone())]].concat() {
            let read = Record {
                value,
                ..record(None, 0)
            };
            fold(&mut endpoints, &read, &keys(), |_| 0).unwrap();
        }
        let stored = &endpoints[&"ep_1".parse().unwrap()];
        assert_eq!(stored.value, put_back);
        assert_eq!(stored.recorded.endpoint.version, 6);
    }

    #[test]
    fn what_counts_as_it_is_is_put_back_byte_for_byte() {
        for value in [value(5), value(6), Some(Bytes::from_static(b"{"))] {
            let value = value.unwrap();
            let id = "ep_1".parse().unwrap();
            assert_eq!(above(&id, value.clone(), 5, under(&keys())).unwrap(), value);
        }
    }

    #[test]
    fn a_tombstone_that_somebody_wrote_behind_is_not_what_stands() {
        assert_eq!(covered(&[None, ours(), value(6)]), Some(value(6)));
        assert_eq!(covered(&[None, ours(), value(1)]), Some(value(1)));
        assert_eq!(covered(&[value(6), ours(), None]), Some(None));
        let tombstone = ("ep_1".parse().unwrap(), None);
        let made_anew = covered_by(&tombstone, 0, &[value(1), None]);
        assert_eq!(made_anew, Some(value(1)));
    }

    #[test]
    fn what_came_behind_or_counted_for_nothing_is_not() {
        assert_eq!(covered(&[ours(), value(6)]), None);
        assert_eq!(covered(&[value(4), ours()]), None);
        assert_eq!(covered(&[value(4), ours(), value(6)]), None);
    }

    #[test]
    fn what_only_a_newer_version_can_read_is_covered_too() {
        let unreadable = Some(Bytes::from_static(b"{"));
        assert_eq!(covered(&[unreadable.clone(), ours()]), Some(unreadable));
    }

    #[test]
    fn the_newest_record_counts_or_it_is_known_why_not() {
        assert_eq!(unused(true, Some(7), 7), None);
        assert_eq!(unused(true, Some(6), 7), Some(Unused::Outdated));
        assert_eq!(unused(true, None, 7), None, "a tombstone");
        assert_eq!(unused(false, Some(6), 7), Some(Unused::Unreadable));
        assert_eq!(unused(false, None, 7), Some(Unused::Unreadable));
    }
}
