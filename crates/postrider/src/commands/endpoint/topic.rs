//! The `endpoints` topic as these commands read and write it.
//!
//! Decides which records count: those at their own partition, the newest version of each, and none
//! behind a tombstone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use postrider_domain::{Endpoint, EndpointId, NewRecord, Record};
use postrider_kafka::tail::From;
use postrider_kafka::{ClientSettings, Tail, Writer};
use postrider_wire::endpoint;

use crate::exit::Failure;
use crate::installation::{Installation, WAIT};

/// How long a broker may be silent before the end of the topic.
const PATIENCE: Duration = Duration::from_secs(30);

/// The `endpoints` topic, known to be there with one partition per slice.
pub(in crate::commands) struct Topic<'a> {
    installation: &'a Installation,
    settings: ClientSettings,
}

impl<'a> Topic<'a> {
    pub(in crate::commands) fn open(installation: &'a Installation) -> Result<Self, Failure> {
        let settings = installation.reach()?;
        installation.check_topics(&settings, &[installation.topics.endpoints()])?;
        Ok(Self {
            installation,
            settings,
        })
    }

    /// Where an endpoint's records are.
    pub(super) fn partition(&self, id: &EndpointId) -> i32 {
        self.installation.partition(id)
    }

    /// The endpoints of the slices these ids belong to.
    pub(super) fn read<'i>(
        &self,
        ids: impl IntoIterator<Item = &'i EndpointId>,
    ) -> Result<BTreeMap<EndpointId, Endpoint>, Failure> {
        let partition = |id| self.partition(id);
        let partitions: BTreeSet<i32> = ids.into_iter().map(partition).collect();
        let mut partitions = partitions.into_iter();
        match (partitions.next(), partitions.next()) {
            (Some(only), None) => self.read_partition(Some(only)),
            _ => self.read_all(),
        }
    }

    pub(in crate::commands) fn read_all(&self) -> Result<BTreeMap<EndpointId, Endpoint>, Failure> {
        self.read_partition(None)
    }

    fn read_partition(
        &self,
        partition: Option<i32>,
    ) -> Result<BTreeMap<EndpointId, Endpoint>, Failure> {
        let tail = Tail::open(
            &self.settings,
            &self.installation.group(),
            self.installation.topics.endpoints(),
            partition,
            From::Beginning,
            WAIT,
        )?;
        let mut endpoints = BTreeMap::new();
        tail.read_all(PATIENCE, |record| {
            let right = |id: &EndpointId| self.partition(id);
            if let Err(reason) = fold(&mut endpoints, &record, right) {
                eprintln!("postrider: {} is not used: {reason}", record.origin);
            }
        })?;
        Ok(endpoints)
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
        for (written, record) in records.iter().enumerate() {
            writer.send_and_wait(record).map_err(|error| {
                eprintln!("postrider: {written} of {} were written", records.len());
                Failure::from(error)
            })?;
        }
        Ok(())
    }
}

/// Folds one record in: a newer version wins, a tombstone deletes.
pub(super) fn fold(
    endpoints: &mut BTreeMap<EndpointId, Endpoint>,
    record: &Record,
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
    let endpoint = endpoint::from_record(key, value).map_err(|invalid| invalid.to_string())?;
    match endpoints.get(&id) {
        Some(known) if known.version > endpoint.version => {}
        _ => {
            endpoints.insert(id, endpoint);
        }
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod testing {
    use postrider_domain::{Origin, Timestamp};
    use postrider_wire::endpoint::FileFormat;

    use super::*;

    pub(in super::super) fn wanted(url: &str) -> Endpoint {
        let file = format!("{{id: ep_1, url: '{url}', signing: {{scheme: none}}}}");
        let policy = postrider_guard::Policy::default();
        let mut parsed = endpoint::parse_file(file.as_bytes(), FileFormat::Yaml, &policy).unwrap();
        parsed.remove(0)
    }

    pub(in super::super) fn record(endpoint: Option<&Endpoint>, partition: i32) -> Record {
        Record {
            origin: Origin {
                topic: "endpoints".into(),
                partition,
                offset: 0,
            },
            timestamp: Timestamp::default(),
            key: Some(Bytes::from_static(b"ep_1")),
            value: endpoint.map(|e| endpoint::to_record(e, Timestamp::default()).into()),
            headers: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{record, wanted};
    use super::*;

    #[test]
    fn newer_wins_tombstones_delete_and_strays_are_refused() {
        let mut endpoints = BTreeMap::new();
        let mut apply = |endpoint: Option<&Endpoint>, partition| {
            let outcome = fold(&mut endpoints, &record(endpoint, partition), |_| 3);
            (
                outcome.is_ok(),
                endpoints.values().next().map(|e| e.version),
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
