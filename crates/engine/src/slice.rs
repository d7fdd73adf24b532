//! The life of every delivery of one slice.
//!
//! Decides what happens to a record from the moment it is read until its offset is settled:
//!
//! ```text
//!             ┌────────────── due ──────────────┐
//! read ──► on rung ──► waiting ──► queued ──► in flight ──► settling ──► settled
//!   └─ dropped repeat ─────────────┴─ hold passed: moved ───────▲
//! ```
//!
//! A record is settled only when the attempt record of a success, or the copy on a rung or in
//! `dead-letters`, is acknowledged. A failed write settles nothing: no attempt starts
//! until it succeeded. No record is held longer than [`HOLD_MAX`] before it is attempted or moved,
//! so no lane can stick.
//! Leaves which slices are owned, commits and the worker's budget to [`crate::worker`], turns to
//! `queues`, and everything that touches the world to the shells.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use postrider_catalog::{Catalog, Lookup};
use postrider_domain::{
    AttemptReport, AttemptResult, DeadLetterReason, Delivery, DiscardReason, Endpoint, EndpointId,
    EndpointState, Lane, Outcome, Rung, Slice, Timestamp,
};

use crate::entry::{Entry, EntryState};
use crate::failed_writes::{FailedWrites, smaller};
use crate::io::{
    AttemptEntry, Content, Defaults, Epoch, LaneRecord, Observation, Order, Reading, StartAttempt,
    Ticket, Write, WriteFailure, WriteId,
};
use crate::lane::{Committed, LaneState};
use crate::offsets;
use crate::queues::{EntryId, Queues};
use crate::recent::Recent;
use crate::schedule::next_due;
use crate::verdict::{Verdict, judge};

/// Longest time a delivery stays in memory between being read (or coming due on its rung) and its
/// last settled attempt; past it, it is moved.
pub const HOLD_MAX: Duration = Duration::from_secs(45);

/// Bytes of records a slice holds; at this bound its lanes are not read.
pub const HELD_BYTES_MAX: usize = 8 << 20;

/// How long a delivery of a deleted or disabled endpoint waits before it is discarded: topics have
/// no common order, and the router may have seen the endpoint come back before we do.
pub const DISCARD_GRACE: Duration = Duration::from_secs(5);

/// How often a delivery of a paused endpoint is looked at again; a copy each time, until paused
/// endpoints have a backlog.
pub const PAUSED_RECHECK: Duration = Duration::from_secs(10 * 60);

/// One owned slice. Every input is followed by draining [`SliceEngine::poll_order`];
/// [`SliceEngine::poll_attempt`] yields requests while the caller has room for them;
/// [`SliceEngine::next_deadline`] says when [`SliceEngine::handle_timeout`] is wanted. Time never
/// goes back. Same inputs and seed, same orders.
#[derive(Debug)]
pub struct SliceEngine {
    slice: Slice,
    epoch: Epoch,
    defaults: Defaults,
    catalog: Catalog,
    lanes: [LaneState; Lane::COUNT],
    entries: BTreeMap<EntryId, Entry>,
    next_entry: EntryId,
    next_write: u64,
    queues: Queues,
    timers: BTreeSet<(Timestamp, EntryId)>,
    recent: Recent,
    held_bytes: usize,
    failed_writes: FailedWrites,
    draining: bool,
    rng: fastrand::Rng,
    orders: VecDeque<Order>,
}

impl SliceEngine {
    /// A slice just acquired, `committed` by lane index. Nothing is read before
    /// [`Self::open`].
    #[must_use]
    pub fn new(
        slice: Slice,
        epoch: Epoch,
        seed: u64,
        defaults: Defaults,
        committed: &[Committed; Lane::COUNT],
    ) -> Self {
        let mut orders = VecDeque::new();
        let lanes = Lane::all().map(|lane| {
            let (state, ignored) = LaneState::restored(&committed[lane.index()]);
            if ignored.is_some() {
                orders.push_back(Order::Observe(Observation::MapIgnored(lane)));
            }
            state
        });
        let lanes: Vec<LaneState> = lanes.collect();
        Self {
            slice,
            epoch,
            defaults,
            catalog: Catalog::new(),
            lanes: lanes.try_into().expect("one state per lane"),
            entries: BTreeMap::new(),
            next_entry: 0,
            next_write: 0,
            queues: Queues::default(),
            timers: BTreeSet::new(),
            recent: Recent::default(),
            held_bytes: 0,
            failed_writes: FailedWrites::default(),
            draining: false,
            rng: fastrand::Rng::with_seed(seed ^ u64::from(slice.0) ^ (epoch.0 << 16)),
            orders,
        }
    }

    /// This ownership.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Starts reading every lane: the slice's endpoints are loaded.
    pub fn open(&mut self) {
        for lane in Lane::all() {
            self.reconsider_reading(lane);
        }
    }

    /// An endpoint was created, changed or (`None`) deleted.
    pub fn handle_endpoint(&mut self, now: Timestamp, id: EndpointId, endpoint: Option<Endpoint>) {
        self.catalog.apply(id.clone(), endpoint);
        if self.discard_reason(&id).is_some() {
            for entry in self.queues.take_waiting(&id) {
                self.enqueue(now, entry);
            }
        }
        self.queues.wake(&id);
    }

    /// A record was read.
    pub fn handle_record(&mut self, now: Timestamp, record: LaneRecord) {
        let lane = record.reading.lane;
        let state = &self.lanes[lane.index()];
        if !state.is_reading(record.reading.number) {
            // What was under way when reading stopped; it is read again.
            return;
        }
        let held = self.held_bytes + record.bytes;
        let fits = self.held_bytes == 0 || held <= HELD_BYTES_MAX;
        if !fits || !state.has_room(record.offset, record.bytes) {
            self.stop_reading(lane);
            return;
        }
        match self.lanes[lane.index()].offsets.read(record.offset) {
            offsets::Reading::New => self.take_in(now, record),
            offsets::Reading::Settled | offsets::Reading::Repeated => {}
        }
    }

    /// An attempt ended.
    pub fn handle_report(&mut self, now: Timestamp, ticket: Ticket, report: AttemptReport) {
        let known = ticket.epoch == self.epoch
            && self
                .entries
                .get(&ticket.entry)
                .is_some_and(|e| e.state == EntryState::InFlight);
        if !known {
            self.observe(Observation::StaleInput);
            return;
        }
        let (delivery, attempts, hold_until) = {
            let entry = self.entry(ticket.entry);
            entry.attempts += 1;
            if let AttemptResult::Response(response) = &report.result {
                entry.last_status = Some(response.status);
            }
            (entry.delivery(), entry.attempts, entry.hold_until)
        };
        self.queues.release(&delivery.endpoint);
        let (outcome, due) = self.outcome(now, &delivery, attempts, &report.result);
        self.write_attempt(now, ticket.entry, Some(report), outcome, due);
        match (outcome, due) {
            (Outcome::DeadLettered(reason), _) => self.write_dead_letter(ticket.entry, reason),
            (Outcome::Retry, Some(due)) => {
                let in_memory = Rung::for_wait(due.since(now)).is_none() && due <= hold_until;
                if in_memory && !self.draining {
                    self.wait(ticket.entry, EntryState::Waiting, due);
                } else {
                    self.write_retry(now, ticket.entry, due);
                }
            }
            _ => self.entry(ticket.entry).state = EntryState::Settling,
        }
    }

    /// A write was acknowledged by all in-sync replicas.
    pub fn handle_write_acked(&mut self, id: WriteId) {
        if id.ticket.epoch != self.epoch {
            self.observe(Observation::StaleInput);
            return;
        }
        self.forget_failure(id);
        let Some(entry) = self.entries.get_mut(&id.ticket.entry) else {
            self.observe(Observation::StaleInput);
            return;
        };
        entry.write_ended();
        self.settle_if_done(id.ticket.entry);
    }

    /// A write failed. What is too large is replaced by what fits; all else is tried again until
    /// it succeeds, and nothing starts meanwhile.
    pub fn handle_write_failed(
        &mut self,
        now: Timestamp,
        id: WriteId,
        write: Write,
        failure: WriteFailure,
    ) {
        if id.ticket.epoch != self.epoch || !self.entries.contains_key(&id.ticket.entry) {
            self.observe(Observation::StaleInput);
            return;
        }
        let write = match (failure, write) {
            (WriteFailure::TooLarge, Write::Retry { .. }) => {
                self.forget_failure(id);
                self.entry(id.ticket.entry).write_ended();
                self.write_dead_letter(id.ticket.entry, DeadLetterReason::Oversized);
                return;
            }
            (WriteFailure::TooLarge, write) => match smaller(write) {
                Ok(write) => {
                    self.orders.push_back(Order::Write { id, write });
                    return;
                }
                Err(write) => write,
            },
            (WriteFailure::Passing, write) => write,
        };
        if self.failed_writes.add(now, id, write) {
            self.observe(Observation::AdmissionClosed);
        }
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        for (id, write) in self.failed_writes.take_due(now) {
            self.orders.push_back(Order::Write { id, write });
        }
        while let Some(&(at, id)) = self.timers.first()
            && at <= now
        {
            self.timers.remove(&(at, id));
            let entry = self.entry(id);
            entry.timer = None;
            match entry.state {
                EntryState::OnRung => {
                    self.leave_look_ahead(id);
                    self.admit(now, id);
                }
                EntryState::Waiting => self.enqueue(now, id),
                EntryState::Queued => self.give_up_hold(now, id),
                EntryState::InFlight | EntryState::Settling => {
                    unreachable!("no timer runs in flight or while settling")
                }
            }
        }
    }

    /// Stops reading and admission. What is in flight ends; what waits for another attempt is
    /// moved to a rung so that its count and due time survive; the rest is dropped here and read
    /// again by the next owner. Done when [`Self::is_drained`].
    pub fn drain(&mut self, now: Timestamp) {
        if self.draining {
            return;
        }
        self.draining = true;
        for lane in Lane::all() {
            self.stop_reading(lane);
        }
        self.queues.clear_waiting();
        let idle: Vec<EntryId> = self
            .entries
            .iter()
            .filter(|(_, entry)| {
                !matches!(entry.state, EntryState::InFlight | EntryState::Settling)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in idle {
            let entry = self.entry(id);
            let due = if entry.state == EntryState::Waiting {
                entry.timer
            } else {
                None
            };
            if entry.attempts > entry.attempts_read() {
                self.write_retry(now, id, due.unwrap_or(now));
            } else {
                self.drop_entry(id);
            }
        }
    }

    /// Whether nothing is in flight and nothing waits for an acknowledgement.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.draining && self.entries.is_empty()
    }

    /// The next request to send, if any may start now.
    pub fn poll_attempt(&mut self) -> Option<StartAttempt> {
        if self.draining || !self.failed_writes.is_empty() || !self.queues.has_turns() {
            return None;
        }
        let (catalog, default) = (&self.catalog, self.defaults.concurrency);
        let (endpoint, id) = self.queues.pop(|id| match catalog.find(id) {
            Lookup::Known(endpoint) if endpoint.state == EndpointState::Active => {
                endpoint.concurrency.unwrap_or(default)
            }
            _ => 0,
        })?;
        let Lookup::Known(endpoint) = self.catalog.find(&endpoint) else {
            unreachable!("only known endpoints have permits")
        };
        let endpoint = Arc::clone(endpoint);
        self.clear_timer(id);
        let entry = self.entry(id);
        entry.state = EntryState::InFlight;
        let (delivery, attempt) = (entry.delivery(), entry.attempts + 1);
        let timeout = endpoint.timeout.unwrap_or(self.defaults.timeout);
        Some(StartAttempt {
            ticket: self.ticket(id),
            delivery,
            endpoint,
            attempt,
            timeout,
        })
    }

    /// The next thing to do.
    pub fn poll_order(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// When [`Self::handle_timeout`] is wanted; `None` = never, as things are.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let timer = self.timers.first().map(|(at, _)| *at);
        timer.into_iter().chain(self.failed_writes.next_at()).min()
    }

    /// Offset and metadata to commit for a lane; `None` before its first record.
    #[must_use]
    pub fn commit_point(&self, lane: Lane) -> Option<(i64, String)> {
        self.lanes[lane.index()].commit_point()
    }

    /// How many offsets each lane settled since the last call: lanes whose commit point changed.
    pub fn take_settled(&mut self) -> impl Iterator<Item = (Lane, u32)> {
        Lane::all().filter_map(|lane| {
            let settled = std::mem::take(&mut self.lanes[lane.index()].settled);
            (settled > 0).then_some((lane, settled))
        })
    }

    /// A lane cannot be read (its log was deleted or does not hold the offset): it is left alone
    /// until the slice is acquired anew.
    pub fn handle_lane_lost(&mut self, reading: Reading) {
        let state = &mut self.lanes[reading.lane.index()];
        if state.is_reading(reading.number) {
            state.stop_for_good();
            self.stop_reading(reading.lane);
        }
    }

    fn forget_failure(&mut self, id: WriteId) {
        if self.failed_writes.remove(id) {
            self.observe(Observation::AdmissionOpened);
        }
    }

    fn take_in(&mut self, now: Timestamp, record: LaneRecord) {
        let LaneRecord {
            reading,
            offset,
            appended_at,
            bytes,
            content,
        } = record;
        let id = self.next_entry;
        self.next_entry += 1;
        let attempts = match &content {
            Content::Delivery(delivery) => {
                if !self.recent.insert(delivery.id, delivery.attempts) {
                    self.observe(Observation::DuplicateDropped);
                    self.settle_offset(reading.lane, offset);
                    return;
                }
                delivery.attempts
            }
            Content::Unreadable { .. } => 0,
        };
        self.held_bytes += bytes;
        let entry = Entry {
            lane: reading.lane,
            offset,
            content,
            bytes,
            attempts,
            last_status: None,
            state: EntryState::Settling,
            hold_until: now + HOLD_MAX,
            timer: None,
            unacked_writes: 0,
        };
        if let Content::Unreadable {
            record,
            reason,
            message,
        } = &entry.content
        {
            let (record, reason, message) = (Arc::clone(record), *reason, message.clone());
            self.entries.insert(id, entry);
            let without_value = false;
            self.write(
                id,
                Write::Unreadable {
                    record,
                    reason,
                    message,
                    without_value,
                },
            );
            return;
        }
        let due = entry.delivery().due;
        self.entries.insert(id, entry);
        match reading.lane {
            Lane::Retry(rung) => {
                let left = appended_at + rung.delay();
                self.wait_on_rung(now, id, due.map_or(left, |due| due.min(left)));
            }
            Lane::Deliveries | Lane::Backlog | Lane::Redeliveries => self.admit(now, id),
        }
    }

    fn wait_on_rung(&mut self, now: Timestamp, id: EntryId, until: Timestamp) {
        if until <= now {
            self.admit(now, id);
            return;
        }
        let entry = self.entry(id);
        let (lane, bytes) = (entry.lane, entry.bytes);
        // What waits for hours must not take the room of what is due now.
        self.held_bytes -= bytes;
        self.lanes[lane.index()].enter_look_ahead(bytes);
        self.wait(id, EntryState::OnRung, until);
    }

    fn leave_look_ahead(&mut self, id: EntryId) {
        let entry = self.entry(id);
        let (lane, bytes) = (entry.lane, entry.bytes);
        self.lanes[lane.index()].leave_look_ahead(bytes);
        self.held_bytes += bytes;
        self.reconsider_reading(lane);
    }

    /// Its time on the lane is over: it goes down the ladder, waits in memory, or takes its turn.
    fn admit(&mut self, now: Timestamp, id: EntryId) {
        let entry = self.entry(id);
        entry.hold_until = now + HOLD_MAX;
        match entry.delivery().due {
            Some(due) if Rung::for_wait(due.since(now)).is_some() => {
                self.write_retry(now, id, due);
            }
            Some(due) if due > now => self.wait(id, EntryState::Waiting, due),
            _ => self.enqueue(now, id),
        }
    }

    /// It takes its turn; what gets none in time is discarded, given up or moved by
    /// [`Self::give_up_hold`].
    fn enqueue(&mut self, now: Timestamp, id: EntryId) {
        let endpoint = self.entry(id).delivery().endpoint.clone();
        let mut until = self.entry(id).hold_until;
        if self.discard_reason(&endpoint).is_some() {
            until = until.min(now + DISCARD_GRACE);
        }
        self.wait(id, EntryState::Queued, until);
        self.queues.push(&endpoint, id);
    }

    /// Which rule discards the deliveries of an endpoint, if one does.
    fn discard_reason(&self, id: &EndpointId) -> Option<DiscardReason> {
        match self.catalog.find(id) {
            Lookup::Deleted => Some(DiscardReason::EndpointDeleted),
            Lookup::Known(e) if e.state == EndpointState::Disabled => {
                Some(DiscardReason::EndpointDisabled)
            }
            Lookup::Known(_) | Lookup::Unknown => None,
        }
    }

    /// It could not be attempted in time.
    fn give_up_hold(&mut self, now: Timestamp, id: EntryId) {
        let entry = self.entry(id);
        let (endpoint, hold_until) = (entry.delivery().endpoint.clone(), entry.hold_until);
        if let Some(reason) = self.discard_reason(&endpoint) {
            self.queues.remove(&endpoint, id);
            self.entry(id).state = EntryState::Settling;
            self.write_attempt(now, id, None, Outcome::Discarded(reason), None);
        } else if now < hold_until {
            // The endpoint came back within the grace.
            self.wait(id, EntryState::Queued, hold_until);
        } else {
            self.queues.remove(&endpoint, id);
            self.give_up_turn(now, id);
        }
    }

    /// Unknown and overdue deliveries end, the others are moved.
    fn give_up_turn(&mut self, now: Timestamp, id: EntryId) {
        let delivery = self.entry(id).delivery();
        let (policy, recheck) = match self.catalog.find(&delivery.endpoint) {
            Lookup::Known(endpoint) => {
                let paused = endpoint.state == EndpointState::Paused;
                let recheck = if paused {
                    PAUSED_RECHECK
                } else {
                    Duration::ZERO
                };
                (
                    endpoint.retry.as_ref().unwrap_or(&self.defaults.retry),
                    recheck,
                )
            }
            Lookup::Deleted | Lookup::Unknown => {
                return self.give_up(now, id, DeadLetterReason::EndpointUnknown);
            }
        };
        if now > delivery.event.accepted_at + policy.window {
            return self.give_up(now, id, DeadLetterReason::WindowPassed);
        }
        self.observe(Observation::HoldExceeded);
        self.write_retry(now, id, now + recheck);
    }

    fn give_up(&mut self, now: Timestamp, id: EntryId, reason: DeadLetterReason) {
        self.write_attempt(now, id, None, Outcome::DeadLettered(reason), None);
        self.write_dead_letter(id, reason);
    }

    fn outcome(
        &mut self,
        now: Timestamp,
        delivery: &Delivery,
        attempts: u32,
        result: &AttemptResult,
    ) -> (Outcome, Option<Timestamp>) {
        match judge(result, now) {
            Verdict::Delivered => (Outcome::Delivered, None),
            Verdict::Hopeless(reason) => (Outcome::DeadLettered(reason), None),
            Verdict::Failed { .. } | Verdict::Asked { .. } | Verdict::Gone => {
                let policy = match self.catalog.find(&delivery.endpoint) {
                    Lookup::Known(endpoint) => endpoint.retry.as_ref(),
                    Lookup::Deleted | Lookup::Unknown => None,
                };
                let policy = policy.unwrap_or(&self.defaults.retry);
                let accepted_at = delivery.event.accepted_at;
                match next_due(policy, attempts, accepted_at, now, self.rng.f64()) {
                    Ok(due) => (Outcome::Retry, Some(due)),
                    Err(reason) => (Outcome::DeadLettered(reason), None),
                }
            }
        }
    }

    fn write_attempt(
        &mut self,
        now: Timestamp,
        id: EntryId,
        report: Option<AttemptReport>,
        outcome: Outcome,
        next_attempt_at: Option<Timestamp>,
    ) {
        let entry = self.entry(id);
        let attempt = AttemptEntry {
            delivery: entry.delivery(),
            attempt: entry.attempts,
            report,
            at: now,
            outcome,
            next_attempt_at,
            lane: entry.lane,
            offset: entry.offset,
        };
        self.write(id, Write::Attempt(Box::new(attempt)));
    }

    fn write_dead_letter(&mut self, id: EntryId, reason: DeadLetterReason) {
        let entry = self.entry(id);
        entry.state = EntryState::Settling;
        let write = Write::DeadLetter {
            delivery: entry.delivery(),
            attempts: entry.attempts,
            reason,
            last_status: entry.last_status,
            lane: entry.lane,
            offset: entry.offset,
            without_value: false,
        };
        self.write(id, write);
    }

    /// Moves an entry to the rung its remaining wait calls for. A wait that is too short for any
    /// goes to the shortest, whose records are read ahead of their delay.
    fn write_retry(&mut self, now: Timestamp, id: EntryId, due: Timestamp) {
        self.clear_timer(id);
        let rung = Rung::for_wait(due.since(now)).unwrap_or(Rung::SHORTEST);
        let entry = self.entry(id);
        entry.state = EntryState::Settling;
        let (delivery, attempts) = (entry.delivery(), entry.attempts);
        if attempts == delivery.attempts {
            // The copy is no repetition.
            self.recent.forget(delivery.id, attempts);
        }
        self.write(
            id,
            Write::Retry {
                delivery,
                attempts,
                due,
                rung,
            },
        );
    }

    fn write(&mut self, entry: EntryId, write: Write) {
        let id = WriteId {
            ticket: self.ticket(entry),
            number: self.next_write,
        };
        self.next_write += 1;
        self.entry(entry).unacked_writes += 1;
        self.orders.push_back(Order::Write { id, write });
    }

    fn settle_if_done(&mut self, id: EntryId) {
        let done = self
            .entries
            .get(&id)
            .is_some_and(|e| e.state == EntryState::Settling && e.unacked_writes == 0);
        if done {
            let (lane, offset) = self.drop_entry(id);
            self.settle_offset(lane, offset);
        }
    }

    fn settle_offset(&mut self, lane: Lane, offset: i64) {
        let state = &mut self.lanes[lane.index()];
        let settled = state.offsets.settle(offset);
        debug_assert!(settled, "{lane} offset {offset} was settled twice");
        state.settled += 1;
        for lane in Lane::all() {
            self.reconsider_reading(lane);
        }
    }

    fn drop_entry(&mut self, id: EntryId) -> (Lane, i64) {
        self.clear_timer(id);
        if self.entry(id).state == EntryState::OnRung {
            self.leave_look_ahead(id);
        }
        let entry = self.entries.remove(&id).expect("a known entry");
        self.held_bytes -= entry.bytes;
        (entry.lane, entry.offset)
    }

    fn wait(&mut self, id: EntryId, state: EntryState, until: Timestamp) {
        self.clear_timer(id);
        let entry = self.entry(id);
        entry.state = state;
        entry.timer = Some(until);
        self.timers.insert((until, id));
    }

    fn clear_timer(&mut self, id: EntryId) {
        if let Some(at) = self.entry(id).timer.take() {
            self.timers.remove(&(at, id));
        }
    }

    fn stop_reading(&mut self, lane: Lane) {
        if self.lanes[lane.index()].stop_reading() {
            let slice = self.slice;
            self.orders.push_back(Order::StopReading { slice, lane });
        }
    }

    /// Reads a lane again once half of every bound is free.
    fn reconsider_reading(&mut self, lane: Lane) {
        if self.draining || self.held_bytes > HELD_BYTES_MAX / 2 {
            return;
        }
        let state = &mut self.lanes[lane.index()];
        if let Some(number) = state.start_reading() {
            let (slice, epoch) = (self.slice, self.epoch);
            let reading = Reading {
                slice,
                epoch,
                lane,
                number,
            };
            self.orders.push_back(Order::Read {
                reading,
                from: state.offsets.read_to(),
            });
        }
    }

    fn observe(&mut self, observation: Observation) {
        self.orders.push_back(Order::Observe(observation));
    }

    const fn ticket(&self, entry: EntryId) -> Ticket {
        Ticket {
            slice: self.slice,
            epoch: self.epoch,
            entry,
        }
    }

    fn entry(&mut self, id: EntryId) -> &mut Entry {
        self.entries.get_mut(&id).expect("a known entry")
    }
}
