//! P8: what is held of a slice in memory stays within its bounds, whatever comes.
//!
//! Decides by the records themselves: each is handed in as a copy of its own, and is held as long
//! as anybody refers to that copy; what the engine counts is not asked. A lane holds no more than
//! so many records over so many offsets; a rung reads no more than its room ahead of time; what
//! all lanes hold beyond their own room fits the slice's; backlogs have room of their own.
//! Counts how often a bound was reached, as one that never is says nothing.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Weak;

use postrider_domain::{EndpointId, Lane, Timestamp};

use super::{Audit, Promise, Who};
use crate::clock::Micros;
use crate::engine::Reading;

// As promised (ARCHITECTURE.md), not as the engine has them.
const RECORDS_MAX: usize = 1_000;
const SPAN_MAX: i64 = 1 << 20;
const SLICE_BYTES_MAX: usize = 8 << 20;
const AHEAD_MAX: usize = 256;
const AHEAD_BYTES_MAX: usize = 512 << 10;
const BACKLOG_MAX: usize = 4_096;
const BACKLOG_ENDPOINT_MAX: usize = 256;
const BACKLOG_BYTES_MAX: usize = 2 << 20;

/// How often one more record like the last would have been too much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// For a lane.
    pub records: u64,
    /// For the offsets of a lane.
    pub span: u64,
    /// For what a rung reads ahead of time.
    pub ahead: u64,
    /// For the bytes of a slice.
    pub bytes: u64,
    /// For the backlogs of a slice.
    pub backlog: u64,
}

impl Reached {
    /// Both together.
    pub const fn add(&mut self, other: Self) {
        self.records += other.records;
        self.span += other.span;
        self.ahead += other.ahead;
        self.bytes += other.bytes;
        self.backlog += other.backlog;
    }
}

/// A record that was handed to a worker.
#[derive(Debug)]
pub(crate) struct Handed {
    pub(crate) reading: Reading,
    pub(crate) offset: i64,
    pub(crate) bytes: usize,
    /// `None` = it is no delivery.
    pub(crate) endpoint: Option<EndpointId>,
    /// Until then it waits on its rung.
    pub(crate) waits_until: Timestamp,
    /// Nobody else has this copy.
    pub(crate) copy: Weak<dyn Any>,
}

/// What was handed to an owner of a slice under one claim, lane by lane.
pub(super) type Memory = BTreeMap<Lane, Vec<Handed>>;

/// What is held of a lane.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    records: usize,
    bytes: usize,
    span: i64,
}

impl Held {
    fn of<'a>(records: impl Iterator<Item = &'a Handed>) -> Self {
        let (mut held, mut first, mut last) = (Self::default(), i64::MAX, i64::MIN);
        for record in records {
            held.records += 1;
            held.bytes += record.bytes;
            first = first.min(record.offset);
            last = last.max(record.offset);
        }
        held.span = last.saturating_sub(first).max(0);
        held
    }
}

impl Audit {
    /// A worker was handed a record, and has dropped or kept it.
    pub(crate) fn handed(&mut self, now: Micros, shows: Timestamp, who: Who, record: Handed) {
        if record.copy.strong_count() == 0 {
            return;
        }
        let (lane, slice) = (record.reading.lane, record.reading.slice);
        let (bytes, endpoint) = (record.bytes, record.endpoint.clone());
        let memory = self.memories.entry((who, slice)).or_default();
        let claim = record.reading.claim;
        // Of what an earlier owner held, only requests are left.
        memory.retain(|_, records| records.iter().all(|held| held.reading.claim == claim));
        memory.entry(lane).or_default().push(record);
        for records in memory.values_mut() {
            records.retain(|held| held.copy.strong_count() > 0);
        }
        let mut reached = Reached::default();
        let wrong = match lane {
            Lane::Backlog => backlog(&memory[&lane], bytes, endpoint.as_ref(), &mut reached),
            _ => lane_of(lane, &memory[&lane], bytes, shows, &mut reached)
                .or_else(|| slice_of(memory, bytes, &mut reached)),
        };
        self.counts.reached.add(reached);
        if let Some(wrong) = wrong {
            self.broken(now, Promise::Bounds, || {
                format!("w{} holds {wrong} of {lane}/{slice}", who.0)
            });
        }
    }
}

/// What is wrong with a lane after a record of so many bytes.
fn lane_of(
    lane: Lane,
    records: &[Handed],
    bytes: usize,
    shows: Timestamp,
    reached: &mut Reached,
) -> Option<String> {
    let held = Held::of(records.iter());
    let ahead = match lane {
        Lane::Retry(_) => Held::of(records.iter().filter(|held| shows < held.waits_until)),
        Lane::Deliveries | Lane::Redeliveries | Lane::Backlog => Held::default(),
    };
    reached.records += u64::from(held.records == RECORDS_MAX);
    // The simulator's logs leap by no more than this.
    reached.span += u64::from(held.span + SPAN_MAX / 4 >= SPAN_MAX);
    reached.ahead += u64::from(ahead.records == AHEAD_MAX || ahead.bytes + bytes > AHEAD_BYTES_MAX);
    let too_far = ahead.records > AHEAD_MAX
        // One is always read, however large.
        || (ahead.records > 1 && ahead.bytes > AHEAD_BYTES_MAX);
    if held.records > RECORDS_MAX || held.span >= SPAN_MAX {
        Some(format!("{held:?}"))
    } else if too_far {
        Some(format!("{ahead:?} ahead of time"))
    } else {
        None
    }
}

/// What is wrong with all lanes of a slice but its backlog.
fn slice_of(memory: &Memory, bytes: usize, reached: &mut Reached) -> Option<String> {
    let lanes = memory.iter().filter(|(lane, _)| **lane != Lane::Backlog);
    let beyond = lanes.map(|(lane, records)| {
        let own = if *lane == Lane::Deliveries {
            0
        } else {
            AHEAD_BYTES_MAX
        };
        Held::of(records.iter()).bytes.saturating_sub(own)
    });
    let held: usize = beyond.sum();
    reached.bytes += u64::from(held + bytes > SLICE_BYTES_MAX);
    (held > SLICE_BYTES_MAX).then(|| format!("{held} bytes with what is held"))
}

/// What is wrong with the backlogs of a slice.
fn backlog(
    records: &[Handed],
    bytes: usize,
    endpoint: Option<&EndpointId>,
    reached: &mut Reached,
) -> Option<String> {
    let all = Held::of(records.iter());
    let of = Held::of(
        records
            .iter()
            .filter(|held| held.endpoint.as_ref() == endpoint),
    );
    // An endpoint that has nothing in memory takes one, however large, while there is any room.
    reached.backlog += u64::from(all.records == BACKLOG_MAX || all.bytes >= BACKLOG_BYTES_MAX);
    let too_much = all.records > BACKLOG_MAX
        || of.records > BACKLOG_ENDPOINT_MAX
        || all.bytes - bytes >= BACKLOG_BYTES_MAX;
    too_much.then(|| format!("{all:?}, {of:?} for one endpoint,"))
}
