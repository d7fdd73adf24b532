//! What the broker does: carries out orders after a while, keeps logs, committed offsets and
//! `endpoint-state`, and hands to readers what they have not read.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use postrider_domain::{Delivery, Lane, Slice};

use super::{Happening, Harness, Stored};
use crate::commits::CommitEntry;
use crate::io::{Content, LaneRecord, Order, StateEntry, Write, WriteFailure};
use crate::lane::Committed;
use crate::worker::CommitAnswer;

const READ_LATENCY: Duration = Duration::from_millis(1);
const WRITE_LATENCY: Duration = Duration::from_millis(2);
const COMMIT_LATENCY: Duration = Duration::from_millis(5);

impl Harness {
    pub(super) fn obey(&mut self, order: Order) {
        match order {
            Order::FetchOffsets { slice, claim } => {
                self.later(COMMIT_LATENCY, Happening::Offsets(slice, claim));
            }
            Order::LoadState { slice, claim } => {
                self.later(COMMIT_LATENCY, Happening::State(slice, claim));
            }
            Order::LoadEndpoints { slice, claim } => {
                self.later(COMMIT_LATENCY, Happening::EndpointsLoaded(slice, claim));
            }
            Order::Read { reading, from } => {
                self.read_from.push((reading.lane, from));
                self.readers
                    .insert((reading.slice, reading.lane), (reading, from.unwrap_or(0)));
                self.feed();
            }
            Order::StopReading { slice, lane } => {
                self.readers.remove(&(slice, lane));
                self.stopped.push((lane, self.record_at));
            }
            Order::Write { id, write } => {
                self.later(WRITE_LATENCY, Happening::WriteDone(id, write));
            }
            Order::Commit(entries) => self.later(COMMIT_LATENCY, Happening::CommitDone(entries)),
            Order::Released(slice) => {
                self.readers.retain(|(of, _), _| *of != slice);
                self.state_readers.remove(&slice);
            }
            Order::HandBack => self.hand_backs += 1,
            Order::Leave => self.left = true,
            Order::Observe(observation) => self.observed.push(observation),
        }
    }

    pub(super) fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::State(slice, claim) => {
                self.state_readers.insert(slice, (claim, 0));
                self.feed_state();
                self.worker.handle_state_loaded(slice, claim);
            }
            Happening::Offsets(slice, claim) => {
                let committed: Vec<Committed> = Lane::all()
                    .map(|l| self.committed.get(&(slice, l)).cloned())
                    .map(|committed| committed.or_else(|| Some((40, String::new()))))
                    .collect();
                let committed = committed.try_into().unwrap();
                let end = self.logs.get(&(slice, Lane::Backlog));
                let end = end
                    .and_then(|log| log.last())
                    .map_or(0, |last| last.offset + 1);
                self.worker
                    .handle_offsets(self.now, slice, claim, committed, end, &[]);
            }
            Happening::EndpointsLoaded(slice, claim) => {
                for (id, endpoint) in self.endpoints.clone() {
                    self.worker
                        .handle_endpoint(self.now, slice, id, Some(endpoint));
                }
                self.worker.handle_endpoints_loaded(self.now, slice, claim);
            }
            Happening::Record(record) => {
                self.record_at = record.offset;
                self.worker.handle_record(self.now, record);
            }
            Happening::WriteDone(id, write) => {
                if (self.too_large)(&write) {
                    let failure = WriteFailure::TooLarge;
                    self.worker
                        .handle_write_failed(self.now, id, write, failure);
                } else if (self.write_fails)() {
                    let failure = WriteFailure::Passing;
                    self.worker
                        .handle_write_failed(self.now, id, write, failure);
                } else if (self.ack_lost)() {
                    self.store(id.slice, write.clone());
                    let failure = WriteFailure::Passing;
                    self.worker
                        .handle_write_failed(self.now, id, write, failure);
                    self.feed_state();
                } else {
                    let offset = self.store(id.slice, write);
                    self.worker.handle_write_acked(self.now, id, offset);
                    self.feed_state();
                }
            }
            Happening::Report(ticket, endpoint, report) => {
                *self.in_flight.get_mut(&endpoint).unwrap() -= 1;
                let taken_at = ticket.decided_at + self.start_delay;
                self.worker.handle_taken_up(self.now, ticket, taken_at);
                self.worker.handle_report(self.now, ticket, report);
            }
            Happening::NotStarted(ticket, endpoint) => {
                *self.in_flight.get_mut(&endpoint).unwrap() -= 1;
                self.worker.handle_not_started(self.now, ticket);
            }
            Happening::CommitDone(entries) => {
                let refused = (self.commit_fails)();
                if !refused && self.commit_answer.is_none() {
                    self.commit(entries);
                }
                let answer = self.commit_answer.take().unwrap_or(if refused {
                    CommitAnswer::Refused
                } else {
                    CommitAnswer::Accepted
                });
                self.worker.handle_commit_finished(self.now, answer);
            }
        }
    }

    fn commit(&mut self, entries: Vec<CommitEntry>) {
        self.commits += 1;
        for entry in entries {
            let key = (entry.slice, entry.lane);
            let before = self.committed.get(&key).map(|(offset, _)| *offset);
            assert!(
                before.is_none_or(|before| before <= entry.offset),
                "{key:?} fell"
            );
            assert!(entry.metadata.len() < 4_096);
            self.committed.insert(key, (entry.offset, entry.metadata));
        }
    }

    /// At which offset.
    pub(super) fn store(&mut self, slice: Slice, write: Write) -> i64 {
        match write {
            Write::Attempt(entry) => self.attempts.push(*entry),
            Write::Retry {
                delivery,
                attempts,
                due,
                rung,
            } => {
                self.retries.push((delivery.id, attempts, rung.name()));
                let copy = Delivery {
                    attempts,
                    due: Some(due),
                    ..(*delivery).clone()
                };
                self.append_in(slice, Lane::Retry(rung), Arc::new(copy));
            }
            Write::Backlog { delivery, attempts } => {
                let copy = Delivery {
                    attempts,
                    due: None,
                    ..(*delivery).clone()
                };
                return self.append_in(slice, Lane::Backlog, Arc::new(copy));
            }
            Write::DeadLetter {
                delivery,
                attempts,
                reason,
                ..
            } => {
                self.dead.push((delivery.id, reason, attempts));
            }
            Write::Unreadable { reason, .. } => self.garbage.push(reason),
            Write::Fence { epoch, claimant } => {
                self.state
                    .push((slice, StateEntry::Fence { epoch, claimant }));
            }
            Write::State {
                endpoint,
                epoch,
                remembered,
            } => self.state.push((
                slice,
                StateEntry::Endpoint {
                    id: endpoint,
                    epoch,
                    remembered,
                },
            )),
        }
        0
    }

    pub(super) fn append_in(&mut self, slice: Slice, lane: Lane, delivery: Arc<Delivery>) -> i64 {
        let log = self.logs.entry((slice, lane)).or_default();
        let offset = log.last().map_or(40, |last| last.offset + 1 + self.gap);
        log.push(Stored {
            offset,
            appended_at: self.now,
            delivery,
        });
        self.feed();
        self.settle_orders();
        offset
    }

    /// Readers read what they have not yet read.
    fn feed(&mut self) {
        let mut records = VecDeque::new();
        for (key, (reading, next)) in &mut self.readers {
            let Some(log) = self.logs.get(key) else {
                continue;
            };
            let unread = log.partition_point(|stored| stored.offset < *next);
            for stored in &log[unread..] {
                *next = stored.offset + 1;
                records.push_back(LaneRecord {
                    reading: *reading,
                    offset: stored.offset,
                    appended_at: stored.appended_at,
                    bytes: stored.delivery.event.data.len(),
                    content: Content::Delivery(Arc::clone(&stored.delivery)),
                });
            }
        }
        for record in records {
            if record.reading.lane == Lane::Backlog && !self.backlog_pace.is_zero() {
                if self.backlog_at.0 != Some(record.reading) {
                    self.backlog_at = (Some(record.reading), self.now);
                }
                let at = (self.backlog_at.1 + self.backlog_pace).max(self.now + READ_LATENCY);
                self.backlog_at.1 = at;
                self.later(at.since(self.now), Happening::Record(record));
            } else {
                self.later(READ_LATENCY, Happening::Record(record));
            }
        }
    }

    /// Claims read on what was written to `endpoint-state`.
    pub(super) fn feed_state(&mut self) {
        for (slice, (claim, read)) in self.state_readers.clone() {
            let unread: Vec<(Slice, StateEntry)> = self.state[read..].to_vec();
            if let Some((_, read)) = self.state_readers.get_mut(&slice) {
                *read += unread.len();
            }
            for (of, entry) in unread {
                if of == slice {
                    self.worker.handle_state(self.now, slice, claim, entry);
                }
            }
        }
    }

    /// Keeps the last record of each key.
    pub(crate) fn compact_state(&mut self) {
        let mut kept: Vec<(Slice, StateEntry)> = Vec::new();
        let key = |(slice, entry): &(Slice, StateEntry)| match entry {
            StateEntry::Fence { .. } => (*slice, None),
            StateEntry::Endpoint { id, .. } => (*slice, Some(id.clone())),
        };
        for entry in self.state.drain(..) {
            kept.retain(|other| key(other) != key(&entry));
            kept.push(entry);
        }
        self.state = kept;
    }
}
