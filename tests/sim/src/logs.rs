//! The broker's partitions: records with gaps between their offsets, committed offsets, tables.
//!
//! Decides offsets and what a reader gets. Leaves faults and latencies to `world`, what a commit
//! means to `audit`.

use std::collections::BTreeMap;

use postrider_domain::{Endpoint, EndpointId, Lane, Slice, Timestamp};

use crate::engine::{Committed, LaneBody, StateEntry};

/// A record of a lane.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) offset: i64,
    pub(crate) appended_at: Timestamp,
    /// What it is a copy of.
    pub(crate) item: u32,
    pub(crate) body: LaneBody,
}

/// One partition of a lane's topic.
#[derive(Debug)]
pub(crate) struct Log {
    /// First offset that is still there.
    pub(crate) start: i64,
    /// One past the last offset, markers included.
    pub(crate) end: i64,
    pub(crate) records: Vec<Stored>,
}

impl Log {
    /// What is there from an offset on; `None` when it is out of range.
    pub(crate) fn read(&self, from: Option<i64>, max: usize) -> Option<&[Stored]> {
        let from = from.unwrap_or(self.start);
        if from < self.start || from > self.end {
            return None;
        }
        let first = self.index(from);
        let last = self.records.len().min(first + max);
        Some(&self.records[first..last])
    }

    /// The index of the first record at an offset or after it.
    pub(crate) fn index(&self, offset: i64) -> usize {
        self.records
            .partition_point(|stored| stored.offset < offset)
    }
}

/// All partitions that workers read, and what they committed.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    lanes: BTreeMap<(Slice, Lane), Log>,
    committed: BTreeMap<(Slice, Lane), (i64, String)>,
    /// Records of `endpoints`, uncompacted.
    tables: BTreeMap<Slice, Vec<(EndpointId, Option<Endpoint>)>>,
    /// Records of `endpoint-state`, uncompacted.
    states: BTreeMap<Slice, Vec<StateEntry>>,
}

impl Logs {
    /// Partitions of so many slices, which do not begin at 0.
    pub(crate) fn new(slices: u16, rng: &mut fastrand::Rng) -> Self {
        let mut logs = Self::default();
        for slice in (0..slices).map(Slice) {
            for lane in Lane::all() {
                let start = rng.i64(0..100);
                let log = Log {
                    start,
                    end: start,
                    records: Vec::new(),
                };
                logs.lanes.insert((slice, lane), log);
            }
        }
        logs
    }

    pub(crate) fn log(&self, slice: Slice, lane: Lane) -> &Log {
        &self.lanes[&(slice, lane)]
    }

    pub(crate) fn log_mut(&mut self, slice: Slice, lane: Lane) -> &mut Log {
        self.lanes
            .get_mut(&(slice, lane))
            .expect("every lane of every slice has a log")
    }

    pub(crate) fn lanes(&self) -> impl Iterator<Item = (&(Slice, Lane), &Log)> {
        self.lanes.iter()
    }

    /// Appends a record after a gap; its offset.
    pub(crate) fn append(
        &mut self,
        (slice, lane): (Slice, Lane),
        gap: i64,
        appended_at: Timestamp,
        item: u32,
        body: LaneBody,
    ) -> i64 {
        let log = self.log_mut(slice, lane);
        let offset = log.end + gap;
        log.end = offset + 1;
        log.records.push(Stored {
            offset,
            appended_at,
            item,
            body,
        });
        offset
    }

    pub(crate) fn committed(&self, slice: Slice, lane: Lane) -> Committed {
        self.committed.get(&(slice, lane)).cloned()
    }

    pub(crate) fn commit(&mut self, slice: Slice, lane: Lane, offset: i64, metadata: String) {
        self.committed.insert((slice, lane), (offset, metadata));
    }

    pub(crate) fn table(&self, slice: Slice) -> &[(EndpointId, Option<Endpoint>)] {
        self.tables.get(&slice).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn state(&self, slice: Slice) -> &[StateEntry] {
        self.states.get(&slice).map_or(&[], Vec::as_slice)
    }

    /// Appends to `endpoint-state`; the offset.
    pub(crate) fn append_state(&mut self, slice: Slice, entry: StateEntry) -> i64 {
        let log = self.states.entry(slice).or_default();
        log.push(entry);
        log.len() as i64 - 1
    }

    pub(crate) fn put(&mut self, slice: Slice, id: EndpointId, endpoint: Option<Endpoint>) {
        self.tables.entry(slice).or_default().push((id, endpoint));
    }
}
