//! The `endpoints` topic as these commands read and write it.
//!
//! Decides which records count: those at their own partition, the newest version of each, and none
//! behind a tombstone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use postrider_domain::{EndpointId, NewRecord, Record};
use postrider_kafka::tail::From;
use postrider_kafka::{ClientSettings, Tail, Writer};
use postrider_signing::{KeyRing, Nonces};
use postrider_wire::endpoint::{self, Recorded, Sealing};

use crate::exit::Failure;
use crate::input;
use crate::installation::{Installation, WAIT};

/// How long a broker may be silent before the end of the topic.
const PATIENCE: Duration = Duration::from_secs(30);

/// The `endpoints` topic, known to be there with one partition per slice.
pub(in crate::commands) struct Topic<'a> {
    installation: &'a Installation,
    settings: ClientSettings,
    keys: Arc<KeyRing>,
}

/// An endpoint, and its record.
pub(in crate::commands) struct Stored {
    pub(in crate::commands) recorded: Recorded,
    pub(in crate::commands) value: Bytes,
    pub(in crate::commands) offset: i64,
}

impl<'a> Topic<'a> {
    /// For whoever does not need secrets: sealed ones stay so.
    pub(in crate::commands) fn open(installation: &'a Installation) -> Result<Self, Failure> {
        Self::open_with(installation, Arc::default())
    }

    /// Opens and seals secrets with these keys.
    pub(in crate::commands) fn open_with(
        installation: &'a Installation,
        keys: Arc<KeyRing>,
    ) -> Result<Self, Failure> {
        let settings = installation.reach()?;
        installation.check_topics(&settings, &[installation.topics.endpoints()])?;
        Ok(Self {
            installation,
            settings,
            keys,
        })
    }

    pub(in crate::commands) fn keys(&self) -> &KeyRing {
        &self.keys
    }

    /// For one record.
    pub(in crate::commands) fn sealing(&self) -> Result<Sealing<'_>, Failure> {
        Ok(Sealing::new(&self.keys, Nonces::new(input::random()?)))
    }

    /// Where an endpoint's records are.
    pub(in crate::commands) fn partition(&self, id: &EndpointId) -> i32 {
        self.installation.partition(id)
    }

    /// The endpoints of the slices these ids belong to.
    pub(in crate::commands) fn read<'i>(
        &self,
        ids: impl IntoIterator<Item = &'i EndpointId>,
    ) -> Result<BTreeMap<EndpointId, Stored>, Failure> {
        self.read_partition(self.only(ids))
    }

    /// The one partition these ids belong to; `None` = they belong to several.
    pub(in crate::commands) fn only<'i>(
        &self,
        ids: impl IntoIterator<Item = &'i EndpointId>,
    ) -> Option<i32> {
        let partition = |id| self.partition(id);
        let partitions: BTreeSet<i32> = ids.into_iter().map(partition).collect();
        partitions
            .first()
            .copied()
            .filter(|_| partitions.len() == 1)
    }

    pub(in crate::commands) fn read_all(&self) -> Result<BTreeMap<EndpointId, Stored>, Failure> {
        self.read_partition(None)
    }

    fn read_partition(
        &self,
        partition: Option<i32>,
    ) -> Result<BTreeMap<EndpointId, Stored>, Failure> {
        let mut endpoints = BTreeMap::new();
        self.read_records(partition, From::Beginning, |record| {
            self.fold(&mut endpoints, &record);
        })?;
        Ok(endpoints)
    }

    /// The records of a partition, or of all, up to the end that there is now.
    pub(in crate::commands) fn read_records(
        &self,
        partition: Option<i32>,
        from: From<'_>,
        each: impl FnMut(Record),
    ) -> Result<(), Failure> {
        let tail = Tail::open(
            &self.settings,
            &self.installation.group(),
            self.installation.topics.endpoints(),
            partition,
            from,
            WAIT,
        )?;
        Ok(tail.read_all(PATIENCE, each)?)
    }

    /// Folds one record in; says when it cannot be used. Whether it can.
    pub(in crate::commands) fn fold(
        &self,
        endpoints: &mut BTreeMap<EndpointId, Stored>,
        record: &Record,
    ) -> bool {
        let right = |id: &EndpointId| self.partition(id);
        let folded = fold(endpoints, record, &self.keys, right);
        if let Err(reason) = &folded {
            eprintln!("postrider: {} is not used: {reason}", record.origin);
        }
        folded.is_ok()
    }

    pub(in crate::commands) fn record(&self, id: &EndpointId, value: Option<Bytes>) -> NewRecord {
        NewRecord {
            topic: self.installation.topics.endpoints().clone(),
            partition: self.partition(id),
            key: Some(Bytes::copy_from_slice(id.as_str().as_bytes())),
            value,
            headers: Vec::new(),
        }
    }

    /// All or an error that says how many were written.
    pub(in crate::commands) fn write(&self, records: &[NewRecord]) -> Result<(), Failure> {
        let writer = Writer::new(&self.settings)?;
        writer.send_all(records).map_err(|(written, error)| {
            eprintln!("postrider: {written} of {} were written", records.len());
            Failure::from(error)
        })
    }
}

/// Folds one record in: a newer version wins, a tombstone deletes.
pub(super) fn fold(
    endpoints: &mut BTreeMap<EndpointId, Stored>,
    record: &Record,
    keys: &KeyRing,
    partition_of: impl Fn(&EndpointId) -> i32,
) -> Result<(), String> {
    let key = record.key.as_deref().unwrap_or_default();
    let id: EndpointId = String::from_utf8_lossy(key)
        .parse()
        .map_err(|invalid| format!("{invalid}"))?;
    let right = partition_of(&id);
    if record.origin.partition != right {
        return Err(format!(
            "{id} belongs to partition {right}: whoever wrote it must key by endpoint id with \
             the murmur2 partitioner"
        ));
    }
    let Some(value) = &record.value else {
        endpoints.remove(&id);
        return Ok(());
    };
    let recorded = endpoint::from_record(key, value, keys).map_err(|e| e.to_string())?;
    match endpoints.get(&id) {
        Some(known) if known.recorded.endpoint.version > recorded.endpoint.version => {}
        _ => {
            let stored = Stored {
                recorded,
                value: value.clone(),
                offset: record.origin.offset,
            };
            endpoints.insert(id, stored);
        }
    }
    Ok(())
}

#[cfg(test)]
pub(in crate::commands) mod testing {
    use postrider_domain::{Endpoint, Origin, Timestamp};
    use postrider_wire::endpoint::FileFormat;

    use super::*;

    pub(in crate::commands) fn wanted(url: &str) -> Endpoint {
        let file = format!("{{id: ep_1, url: '{url}', signing: {{scheme: none}}}}");
        let policy = postrider_guard::Policy::default();
        let none = KeyRing::default();
        let parsed = endpoint::parse_file(file.as_bytes(), FileFormat::Yaml, &policy, &none);
        let mut parsed = parsed.unwrap();
        parsed.remove(0)
    }

    /// A ring of one key.
    pub(in crate::commands) fn keys() -> KeyRing {
        KeyRing::parse(b"k1 = AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=").unwrap()
    }

    pub(in crate::commands) fn under(keys: &KeyRing) -> Sealing<'_> {
        Sealing::new(keys, Nonces::new([1; 24]))
    }

    pub(in crate::commands) fn record(endpoint: Option<&Endpoint>, partition: i32) -> Record {
        record_under(&KeyRing::default(), endpoint, partition)
    }

    pub(in crate::commands) fn record_under(
        keys: &KeyRing,
        endpoint: Option<&Endpoint>,
        partition: i32,
    ) -> Record {
        let value = |e| endpoint::to_record(e, Timestamp::default(), under(keys)).into();
        Record {
            origin: Origin {
                topic: "endpoints".into(),
                partition,
                offset: 0,
            },
            timestamp: Timestamp::default(),
            key: Some(Bytes::from_static(b"ep_1")),
            value: endpoint.map(value),
            headers: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use postrider_domain::Endpoint;

    use super::testing::{record, wanted};
    use super::*;

    #[test]
    fn newer_wins_tombstones_delete_and_strays_are_refused() {
        let mut endpoints = BTreeMap::new();
        let mut apply = |endpoint: Option<&Endpoint>, partition| {
            let none = KeyRing::default();
            let outcome = fold(&mut endpoints, &record(endpoint, partition), &none, |_| 3);
            (
                outcome.is_ok(),
                endpoints
                    .values()
                    .next()
                    .map(|stored| stored.recorded.endpoint.version),
            )
        };
        let version = |version| Endpoint {
            version,
            ..wanted("https://a.example/")
        };
        assert_eq!(apply(Some(&version(5)), 3), (true, Some(5)));
        assert_eq!(apply(Some(&version(4)), 3), (true, Some(5)));
        assert_eq!(apply(Some(&version(6)), 2), (false, Some(5)));
        assert_eq!(apply(None, 3), (true, None));
    }
}
