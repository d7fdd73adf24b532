//! Records of a slice's endpoints, written while others write too.
//!
//! Kafka writes a record whatever lies before it. So this reads on after each write: a record that
//! somebody put between the one that was read and the one that was made of it is covered, and the
//! caller is told, to write it again. Decides what is covered; leaves what to do about it.

use std::collections::BTreeMap;

use bytes::Bytes;
use postrider_domain::{EndpointId, NewRecord, Record};
use postrider_kafka::tail::From;

use super::topic::{Stored, Topic};
use crate::exit::Failure;

/// One partition of `endpoints`, as far as it was read.
pub(in crate::commands) struct Log<'t, 'a> {
    topic: &'t Topic<'a>,
    partition: i32,
    endpoints: BTreeMap<EndpointId, Stored>,
    /// Of endpoints whose newest record is not the one that counts: why not.
    unused: BTreeMap<EndpointId, Unused>,
    /// The offset behind what was read.
    end: i64,
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

impl<'t, 'a> Log<'t, 'a> {
    pub(in crate::commands) fn read(topic: &'t Topic<'a>, partition: i32) -> Result<Self, Failure> {
        let mut log = Self {
            topic,
            partition,
            endpoints: BTreeMap::new(),
            unused: BTreeMap::new(),
            end: 0,
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

    /// Writes records made of what was read; what others wrote before them meanwhile comes back and
    /// is to be written again, or something made of it.
    pub(in crate::commands) fn write(
        &mut self,
        changes: &[Change],
    ) -> Result<Vec<Change>, Failure> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let record = |(id, value): &Change| self.topic.record(id, value.clone());
        let records: Vec<NewRecord> = changes.iter().map(record).collect();
        let version = |(id, _): &Change| self.get(id).map(|known| known.recorded.endpoint.version);
        let versions: Vec<Option<u64>> = changes.iter().map(version).collect();
        self.topic.write(&records)?;
        let mut since = Vec::new();
        self.read_on(|record| since.push((record.key.clone(), record.value.clone())))?;
        let made = changes.iter().zip(versions);
        let covered = made.filter_map(|(change, version)| {
            covered_by(change, version.unwrap_or_default(), &since)
        });
        Ok(covered.collect())
    }

    fn read_on(&mut self, mut each: impl FnMut(&Record)) -> Result<(), Failure> {
        let (topic, from) = (self.topic, From::Offset(self.end));
        topic.read_records(Some(self.partition), from, |record| {
            self.end = self.end.max(record.origin.offset + 1);
            each(&record);
            let is_read = topic.fold(&mut self.endpoints, &record);
            let key = record.key.as_deref().unwrap_or_default();
            let Ok(id) = String::from_utf8_lossy(key).parse::<EndpointId>() else {
                return;
            };
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

/// What a change covers of the records since the one of this version that it was made of: the last
/// one before it that counted, or may count for somebody who can read it.
fn covered_by(
    (id, value): &Change,
    version: u64,
    since: &[(Option<Bytes>, Option<Bytes>)],
) -> Option<Change> {
    let of_endpoint =
        |(key, _): &&(Option<Bytes>, Option<Bytes>)| key.as_deref() == Some(id.as_str().as_bytes());
    let counts = |found: &Option<Bytes>| {
        let Some(found) = found else { return true };
        let none = postrider_signing::KeyRing::default();
        let read = postrider_wire::endpoint::from_record(id.as_str().as_bytes(), found, &none);
        read.map_or(true, |read| read.endpoint.version >= version)
    };
    let earlier = since
        .iter()
        .filter(of_endpoint)
        .map(|(_, found)| found)
        .take_while(|found| *found != value);
    let last = earlier.filter(|found| counts(found)).last()?;
    Some((id.clone(), last.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::endpoint::topic::testing::{record, wanted};

    fn value(version: u64) -> Option<Bytes> {
        let mut endpoint = wanted("https://a.example/");
        endpoint.version = version;
        record(Some(&endpoint), 0).value
    }

    fn change(value: Option<Bytes>) -> Change {
        ("ep_1".parse().unwrap(), value)
    }

    fn of(key: &'static str, value: Option<Bytes>) -> (Option<Bytes>, Option<Bytes>) {
        (Some(Bytes::from_static(key.as_bytes())), value)
    }

    /// With a mark that tells it from others of its version.
    fn ours() -> Option<Bytes> {
        let mut bytes = value(5).unwrap().to_vec();
        bytes.push(b' ');
        Some(bytes.into())
    }

    #[test]
    fn what_came_between_is_covered() {
        let ours = change(ours());
        let covered = |since: &[_]| covered_by(&ours, 5, since);
        let own = of("ep_1", ours.1.clone());
        assert_eq!(covered(std::slice::from_ref(&own)), None);
        let newer = [of("ep_1", value(6)), own.clone()];
        assert_eq!(covered(&newer), Some(change(value(6))));
        let last = [of("ep_1", value(6)), of("ep_1", value(7)), own.clone()];
        assert_eq!(covered(&last), Some(change(value(7))));
        let deleted = [of("ep_1", None), own.clone()];
        assert_eq!(covered(&deleted), Some(change(None)));
    }

    #[test]
    fn what_came_behind_or_counted_for_nothing_is_not() {
        let ours = change(ours());
        let covered = |since: &[_]| covered_by(&ours, 5, since);
        let own = of("ep_1", ours.1.clone());
        assert_eq!(covered(&[own.clone(), of("ep_1", value(6))]), None);
        assert_eq!(covered(&[of("ep_2", value(6)), own.clone()]), None);
        assert_eq!(covered(&[of("ep_1", value(4)), own]), None);
    }

    #[test]
    fn what_only_a_newer_version_can_read_is_covered_too() {
        let unreadable = Some(Bytes::from_static(b"{"));
        let since = [of("ep_1", unreadable.clone()), of("ep_1", ours())];
        let covered = covered_by(&change(ours()), 5, &since);
        assert_eq!(covered, Some(change(unreadable)));
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
