//! Partitions that stand still until a schema is known.
//!
//! Decides that what is read of a partition behind a record that waits, waits too: its deliveries
//! would overtake otherwise. Nothing of it has begun, so that nothing has to be taken back when the
//! partition goes or the router stops; it is read again. Leaves holding the partition to `router`,
//! schemas to `schemas`.

use std::collections::{BTreeMap, VecDeque};

use postrider_domain::Record;
use postrider_kafka::intake::SourcePartition;
use postrider_schema::SchemaId;

/// What is kept of them all, in bytes. A held partition yields a record or two, so only many of them
/// with large records come here; then nothing is read until some of it goes.
const BYTES_MAX: usize = 64 << 20;

#[derive(Debug, Default)]
pub(crate) struct Standing {
    partitions: BTreeMap<SourcePartition, Wait>,
    bytes: usize,
}

#[derive(Debug)]
struct Wait {
    /// Not known yet; never empty.
    schemas: Vec<SchemaId>,
    /// The record that needs them, and what slipped through behind it.
    records: VecDeque<Record>,
}

pub(crate) fn place(record: &Record) -> SourcePartition {
    SourcePartition {
        topic: record.origin.topic.clone(),
        partition: record.origin.partition,
    }
}

impl Standing {
    /// Whether more may be read.
    pub(crate) const fn has_room(&self) -> bool {
        self.bytes < BYTES_MAX
    }

    pub(crate) fn count(&self) -> usize {
        self.partitions.len()
    }

    /// The record, unless its partition stands still: then it waits there.
    pub(crate) fn pass(&mut self, record: Record) -> Option<Record> {
        if self.partitions.is_empty() {
            return Some(record);
        }
        match self.partitions.get_mut(&place(&record)) {
            None => Some(record),
            Some(wait) => {
                self.bytes += record.len();
                wait.records.push_back(record);
                None
            }
        }
    }

    /// A record that its partition waits with for these schemas, at least one. The caller has asked
    /// [`Self::pass`].
    pub(crate) fn stand(&mut self, record: Record, schemas: Vec<SchemaId>) {
        self.bytes += record.len();
        let wait = Wait {
            schemas,
            records: VecDeque::new(),
        };
        let wait = self.partitions.entry(place(&record)).or_insert(wait);
        wait.records.push_back(record);
    }

    /// There is an answer for a schema: the partitions that waited for nothing else, with what was
    /// read of them.
    pub(crate) fn answered(&mut self, id: SchemaId) -> Vec<(SourcePartition, VecDeque<Record>)> {
        let gone = self.partitions.extract_if(.., |_, wait| {
            wait.schemas.retain(|awaited| *awaited != id);
            wait.schemas.is_empty()
        });
        let gone: Vec<_> = gone.map(|(place, wait)| (place, wait.records)).collect();
        let records = gone.iter().flat_map(|(_, records)| records);
        self.bytes -= records.map(Record::len).sum::<usize>();
        gone
    }

    /// Drops a partition and what was read of it; whether it stood.
    pub(crate) fn forget(&mut self, place: &SourcePartition) -> bool {
        let Some(wait) = self.partitions.remove(place) else {
            return false;
        };
        self.bytes -= wait.records.iter().map(Record::len).sum::<usize>();
        true
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use postrider_domain::{Origin, Timestamp};

    use super::*;

    const A: SchemaId = SchemaId::Number(1);
    const B: SchemaId = SchemaId::Number(2);

    fn record(partition: i32, offset: i64, bytes: usize) -> Record {
        Record {
            origin: Origin {
                topic: "t".into(),
                partition,
                offset,
            },
            timestamp: Timestamp::default(),
            key: None,
            value: Some(vec![0; bytes].into()),
            headers: Vec::new(),
        }
    }

    #[test]
    fn what_comes_behind_waits_in_its_order_and_others_pass() {
        let mut standing = Standing::default();
        standing.stand(record(0, 5, 1), vec![A, B]);
        assert!(standing.pass(record(0, 6, 1)).is_none());
        assert!(standing.pass(record(1, 7, 1)).is_some());
        assert!(standing.answered(A).is_empty());
        let gone = standing.answered(B);
        let offsets = |(_, records): &(_, VecDeque<Record>)| {
            let records = records.iter().map(|record| record.origin.offset);
            records.collect::<Vec<_>>()
        };
        assert_eq!(gone.iter().map(offsets).collect::<Vec<_>>(), [[5, 6]]);
        assert!(standing.pass(record(0, 7, 1)).is_some());
        assert_eq!((standing.count(), standing.bytes), (0, 0));
    }

    #[test]
    fn bytes_are_counted_and_given_back() {
        let mut standing = Standing::default();
        standing.stand(record(0, 5, BYTES_MAX - 1), vec![A]);
        assert!(standing.has_room());
        assert!(standing.pass(record(0, 6, 1)).is_none());
        assert!(!standing.has_room());
        let place = place(&record(0, 0, 0));
        assert!(standing.forget(&place) && !standing.forget(&place));
        assert!(standing.has_room());
        standing.stand(record(1, 5, BYTES_MAX), vec![A]);
        standing.answered(A);
        assert!(standing.has_room());
    }
}
