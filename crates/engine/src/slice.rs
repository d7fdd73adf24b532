//! The life of every delivery of one slice.
//!
//! Decides what happens to a record from the moment it is read until its offset is settled:
//!
//! ```text
//!             ┌─────────────── due ───────────────┐
//! read ──► on rung ──► waiting ──► queued ──► in flight ──► settling ──► settled
//!   └─ dropped repeat ────────────────┴─ no room, hold passed: spilling ───▲
//! ```
//!
//! A record is settled only when the attempt record of a success, or the copy on a rung, in the
//! backlog or in `dead-letters`, is acknowledged. A failed write settles nothing: no attempt starts
//! until it succeeded. No record is held longer than [`HOLD_MAX`] before it is attempted or moved,
//! so no lane can stick.
//! In files of its own: which attempt starts ([`mod@start`]), what an attempt's end leads to
//! ([`mod@finish`]), the way over the backlog ([`mod@spill`]), order ([`mod@ordered`]), what a
//! successor must know ([`mod@save`]), fences of others behind ours ([`mod@overtaken`]). Leaves which slices are owned, commits and the worker's budget to
//! [`crate::worker`], and everything that touches the world to the shells.

mod finish;
mod ordered;
mod overtaken;
mod save;
mod spill;
mod start;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use postrider_catalog::{Catalog, Lookup};
use postrider_domain::{
    AttemptReport, DeadLetterReason, Delivery, DiscardReason, Endpoint, EndpointId, EndpointState,
    Lane, Outcome, Remembered, Rung, Slice, Timestamp,
};

use crate::backlog::{Backlog, Passes};
use crate::entry::{Entry, EntryState};
use crate::failed_writes::{FailedWrites, smaller};
use crate::fence::Claimed;
use crate::flow::{Flow, Timer};
use crate::io::{
    AttemptEntry, Claim, Content, Defaults, Epoch, LaneRecord, Observation, Order, Reading, Ticket,
    Write, WriteFailure, WriteId,
};
use crate::lane::{Committed, LaneState};
use crate::limit::Limiter;
use crate::offsets;
use crate::queue::EntryId;
use crate::recent::Recent;
use crate::turns::Turns;
use overtaken::Overtaken;

/// Longest time a delivery stays in memory between being read (or coming due on its rung) and its
/// last settled attempt; past it, it is moved.
pub(crate) const HOLD_MAX: Duration = Duration::from_secs(45);

/// Bytes of records a slice holds; at this bound its lanes are not read.
pub(crate) const HELD_BYTES_MAX: usize = 8 << 20;

/// How long a delivery of a deleted or disabled endpoint waits before it is discarded: topics have
/// no common order, and the router may have seen the endpoint come back before we do.
pub(crate) const DISCARD_GRACE: Duration = Duration::from_secs(5);

/// How long a record stays in memory at least before it is copied to the rung it came from.
const SAME_RUNG_MIN: Duration = Duration::from_secs(1);

/// How often endpoints that nothing is known of any more are forgotten.
const SWEEP: Duration = Duration::from_secs(60);

/// What a slice's owner begins with.
#[derive(Debug)]
pub(crate) struct Acquired {
    pub(crate) slice: Slice,
    pub(crate) claim: Claim,
    /// Names this process.
    pub(crate) claimant: u64,
    /// By lane index.
    pub(crate) committed: [Committed; Lane::COUNT],
    /// Where the slice's backlog ends.
    pub(crate) backlog_end: i64,
    /// Lanes that are not read.
    pub(crate) faulty: Vec<Lane>,
    pub(crate) claimed: Claimed,
}

/// One owned slice. Every input is followed by draining [`SliceEngine::poll_order`];
/// [`SliceEngine::poll_attempt`] yields requests while the caller has room for them;
/// [`SliceEngine::next_deadline`] says when [`SliceEngine::handle_timeout`] is wanted. Time never
/// goes back. Same inputs and seed, same orders.
#[derive(Debug)]
pub(crate) struct SliceEngine {
    slice: Slice,
    claim: Claim,
    claimant: u64,
    epoch: Epoch,
    /// Somebody wrote a fence behind ours.
    overtaken: Option<Overtaken>,
    defaults: Defaults,
    catalog: Catalog,
    /// What is remembered of endpoints whose configuration is not loaded yet.
    remembered: BTreeMap<EndpointId, Remembered>,
    /// Endpoints whose record is to be written anew.
    overwritten: BTreeSet<EndpointId>,
    /// The endpoints are loaded.
    opened: bool,
    lanes: [LaneState; Lane::COUNT],
    passes: Passes,
    entries: BTreeMap<EntryId, Entry>,
    next_entry: EntryId,
    writes: BTreeMap<u64, Purpose>,
    next_write: u64,
    flows: BTreeMap<EndpointId, Flow>,
    turns: Turns,
    timers: BTreeSet<(Timestamp, Timer)>,
    recent: Recent,
    /// Bytes of entries of lanes whose frontier waits for them.
    held_bytes: usize,
    failed_writes: FailedWrites,
    draining: Draining,
    rng: fastrand::Rng,
    orders: VecDeque<Order>,
}

/// What is known of a record of an ordered endpoint when it is taken in.
#[derive(Clone, Copy, Debug)]
struct Ordered {
    key: u64,
    /// Attempts made of it, if it was a head before.
    attempts: Option<u32>,
}

/// What a write is for.
#[derive(Clone, Debug)]
enum Purpose {
    /// To settle an entry.
    Entry(EntryId),
    /// To move an entry to its endpoint's backlog.
    Spill(EntryId, EndpointId),
    /// To remember an endpoint.
    State(EndpointId),
    /// To be the last claim again.
    Fence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Draining {
    No,
    /// What is in flight ends, what was decided is written.
    Entries,
    /// What a successor must know is written.
    State,
}

impl SliceEngine {
    /// A slice just acquired. Nothing is read before [`Self::open`].
    pub(crate) fn new(now: Timestamp, acquired: Acquired, seed: u64, defaults: Defaults) -> Self {
        let Acquired {
            slice,
            claim,
            claimant,
            committed,
            backlog_end,
            faulty,
            claimed,
        } = acquired;
        let mut orders = VecDeque::new();
        if !claimed.overwritten.is_empty() {
            orders.push_back(Order::Observe(Observation::FormerOwner(slice)));
        }
        let lanes = Lane::all().map(|lane| {
            let (mut state, ignored) = LaneState::restored(&committed[lane.index()]);
            if faulty.contains(&lane) {
                state.stop_for_good();
            }
            if ignored.is_some() {
                orders.push_back(Order::Observe(Observation::MapIgnored(lane)));
            }
            state
        });
        let lanes: Vec<LaneState> = lanes.collect();
        let random = seed ^ u64::from(slice.0) ^ (claim.0 << 16);
        Self {
            slice,
            claim,
            claimant,
            epoch: claimed.epoch,
            overtaken: None,
            defaults,
            catalog: Catalog::new(),
            remembered: claimed.remembered,
            overwritten: claimed.overwritten,
            opened: false,
            lanes: lanes.try_into().expect("one state per lane"),
            passes: Passes::new(backlog_end),
            entries: BTreeMap::new(),
            next_entry: 0,
            writes: BTreeMap::new(),
            next_write: 0,
            flows: BTreeMap::new(),
            turns: Turns::default(),
            timers: BTreeSet::from([(now + SWEEP, Timer::Sweep)]),
            recent: Recent::default(),
            held_bytes: 0,
            failed_writes: FailedWrites::default(),
            draining: Draining::No,
            rng: fastrand::Rng::with_seed(random),
            orders,
        }
    }

    /// Under which claim.
    pub(crate) const fn claim(&self) -> Claim {
        self.claim
    }

    /// Starts reading every lane: the slice's endpoints are loaded.
    pub(crate) fn open(&mut self, now: Timestamp) {
        self.opened = true;
        for (id, remembered) in std::mem::take(&mut self.remembered) {
            self.restore(now, id, &remembered);
        }
        for id in std::mem::take(&mut self.overwritten) {
            self.save_soon(now, &id, Duration::ZERO);
        }
        for lane in Lane::all() {
            self.reconsider_reading(lane);
        }
        let with_backlog =
            |(id, flow): (&EndpointId, &Flow)| flow.backlog.as_ref().map(|_| id.clone());
        let ids: Vec<EndpointId> = self.flows.iter().filter_map(with_backlog).collect();
        for id in ids {
            self.reconsider_backlog(now, &id);
        }
        self.steer(now);
    }

    /// Goes on where the predecessor was.
    fn restore(&mut self, now: Timestamp, id: EndpointId, remembered: &Remembered) {
        let limit = match self.catalog.find(&id) {
            Lookup::Known(endpoint) => endpoint.rate_limit,
            Lookup::Deleted | Lookup::Unknown => None,
        };
        let mut flow = Flow::new();
        flow.limiter = limit.map(|limit| match &remembered.limiter {
            Some(memory) => Limiter::restored(limit, memory, now),
            None => Limiter::new(limit),
        });
        let end = self.passes.end();
        flow.backlog = remembered
            .backlog
            .as_ref()
            .map(|memory| Backlog::restored(memory, end));
        flow.gone.confirmed = remembered.gone;
        flow.saving.stored = true;
        self.flows.insert(id.clone(), flow);
        self.forget_gone_if_changed(now, &id);
    }

    /// An endpoint was created, changed or (`None`) deleted.
    pub(crate) fn handle_endpoint(
        &mut self,
        now: Timestamp,
        id: EndpointId,
        endpoint: Option<Endpoint>,
    ) {
        self.catalog.apply(id.clone(), endpoint);
        let limit = match self.catalog.find(&id) {
            Lookup::Known(endpoint) => endpoint.rate_limit,
            Lookup::Deleted | Lookup::Unknown => None,
        };
        let Some(flow) = self.flows.get_mut(&id) else {
            return;
        };
        flow.limit(limit);
        self.reorder(now, &id);
        self.forget_gone_if_changed(now, &id);
        if self.ending(&id).is_some() || !self.is_active(&id) {
            self.requeue(now, &id);
        }
        self.wake(&id);
        self.reconsider_backlog(now, &id);
        self.steer(now);
    }

    /// A record was read.
    pub(crate) fn handle_record(&mut self, now: Timestamp, record: LaneRecord) {
        let lane = record.reading.lane;
        let state = &self.lanes[lane.index()];
        if !state.is_reading(record.reading.number) {
            // What was under way when reading stopped; it is read again.
            return;
        }
        if lane == Lane::Backlog {
            return self.handle_backlog_record(now, record);
        }
        let held = self.held_bytes + record.bytes;
        let fits = self.held_bytes == 0 || held <= HELD_BYTES_MAX;
        if !fits || !state.has_room(record.offset, record.bytes) {
            self.stop_reading(lane);
            return;
        }
        match self.lanes[lane.index()].offsets.read(record.offset) {
            offsets::Reading::New => self.take_in(now, record, None),
            offsets::Reading::Settled | offsets::Reading::Repeated => {}
        }
    }

    /// A write was acknowledged by all in-sync replicas, at this offset.
    pub(crate) fn handle_write_acked(&mut self, now: Timestamp, id: WriteId, offset: i64) {
        let Some(purpose) = self.end_write(id) else {
            self.observe(Observation::StaleInput);
            return;
        };
        match purpose {
            Purpose::Entry(id) => {
                // It may be out of memory by now, to be read again.
                if let Some(entry) = self.entries.get_mut(&id) {
                    entry.write_ended();
                    self.settle_if_done(now, id);
                }
            }
            Purpose::Spill(entry, endpoint) => self.spilled(now, entry, &endpoint, offset),
            Purpose::State(endpoint) => self.saved(now, id.number, &endpoint),
            // It holds when it is read back.
            Purpose::Fence => {}
        }
        self.steer(now);
        self.go_on_draining(now);
    }

    /// A write failed. What is too large is replaced by what fits; all else is tried again until
    /// it succeeds, and nothing starts meanwhile. What is too large at its smallest is tried again
    /// too, seldom, while all others go on.
    pub(crate) fn handle_write_failed(
        &mut self,
        now: Timestamp,
        id: WriteId,
        write: Write,
        failure: WriteFailure,
    ) {
        if id.claim != self.claim || !self.writes.contains_key(&id.number) {
            self.observe(Observation::StaleInput);
            return;
        }
        let mut closes = true;
        let write = match (failure, write) {
            (WriteFailure::TooLarge, Write::Retry { .. } | Write::Backlog { .. }) => {
                let entry = match self.end_write(id) {
                    Some(Purpose::Spill(entry, endpoint)) => {
                        self.spill_failed(now, &endpoint);
                        entry
                    }
                    Some(Purpose::Entry(entry)) => entry,
                    Some(Purpose::State(_) | Purpose::Fence) | None => {
                        unreachable!("copies of a delivery are for an entry")
                    }
                };
                self.entry(entry).write_ended();
                self.write_dead_letter(entry, DeadLetterReason::Oversized);
                return;
            }
            (WriteFailure::TooLarge, write) => match smaller(write) {
                Ok(write) => {
                    self.orders.push_back(Order::Write { id, write });
                    return;
                }
                // Nothing can be done here; nobody else shall wait for it.
                Err(write) => {
                    closes = false;
                    write
                }
            },
            (WriteFailure::Passing, write) => write,
        };
        if self.failed_writes.add(now, id, write, closes) {
            self.observe(Observation::AdmissionClosed);
        }
    }

    /// Time passed.
    pub(crate) fn handle_timeout(&mut self, now: Timestamp) {
        for (id, write) in self.failed_writes.take_due(now) {
            self.orders.push_back(Order::Write { id, write });
        }
        while let Some((at, _)) = self.timers.first()
            && *at <= now
        {
            let (_, timer) = self.timers.pop_first().expect("just looked");
            match timer {
                Timer::Entry(id) => self.handle_entry_timer(now, id),
                Timer::Flow(id) => self.handle_flow_timer(now, &id),
                Timer::Sweep => self.sweep(now),
            }
        }
        self.steer(now);
    }

    fn handle_entry_timer(&mut self, now: Timestamp, id: EntryId) {
        let entry = self.entry(id);
        entry.timer = None;
        match entry.state {
            EntryState::OnRung => {
                self.leave_look_ahead(id);
                self.admit(now, id);
            }
            EntryState::Waiting if entry.key.is_some() => self.head_is_due(now, id),
            EntryState::Waiting => self.enqueue(now, id),
            EntryState::Queued => self.give_up_hold(now, id),
            EntryState::Spilling | EntryState::InFlight | EntryState::Settling => {
                unreachable!("no timer runs when the next step is somebody else's")
            }
        }
    }

    fn handle_flow_timer(&mut self, now: Timestamp, id: &EndpointId) {
        if let Some(flow) = self.flows.get_mut(id) {
            flow.timer = None;
            self.wake(id);
            self.reconsider_backlog(now, id);
            self.save_if_due(now, id);
        }
    }

    /// Stops reading and admission. What is in flight ends; what waits for another attempt is
    /// moved to a rung so that its count and due time survive; the rest is dropped here and read
    /// again by the next owner. Done when [`Self::is_drained`].
    pub(crate) fn drain(&mut self, now: Timestamp) {
        if self.draining != Draining::No {
            return;
        }
        self.draining = Draining::Entries;
        for lane in Lane::all() {
            self.stop_reading(lane);
        }
        self.turns.clear();
        for flow in self.flows.values_mut() {
            flow.has_turn = false;
            flow.has_replay_turn = false;
            flow.take_waiting();
            if let Some(backlog) = &mut flow.backlog {
                backlog.pending.clear();
            }
        }
        let idle = self.entries.iter().filter(|(_, entry)| {
            !matches!(entry.state, EntryState::InFlight | EntryState::Settling)
        });
        // On a rung in the order in which they are due, so that none waits behind a later one.
        let mut idle: Vec<(Option<Timestamp>, EntryId)> =
            idle.map(|(id, entry)| (entry.timer, *id)).collect();
        idle.sort_unstable();
        for (_, id) in idle {
            let entry = self.entry(id);
            let due = if entry.state == EntryState::Waiting {
                entry.timer
            } else {
                None
            };
            self.leave_to_successor(now, id, due.unwrap_or(now));
        }
        self.go_on_draining(now);
    }

    /// What was attempted here is moved with its count and due time, or remembered with them where
    /// it is; the rest is dropped, to be read again.
    fn leave_to_successor(&mut self, now: Timestamp, id: EntryId, due: Timestamp) {
        let entry = self.entry(id);
        if entry.attempts == entry.attempts_read() {
            self.drop_entry(id);
        } else if entry.key.is_some() {
            self.block(now, id, Some(due));
        } else {
            self.write_retry(now, id, due);
        }
    }

    /// Once nothing happens here any more, a successor is told what it must know.
    fn go_on_draining(&mut self, now: Timestamp) {
        // A write under way of what was to be known earlier must not overtake it.
        let quiet = self.entries.is_empty() && self.writes.is_empty() && self.overtaken.is_none();
        if self.draining == Draining::Entries && quiet {
            self.draining = Draining::State;
            self.save_last_words(now);
        }
    }

    /// Whether nothing is in flight and nothing waits for an acknowledgement.
    pub(crate) fn is_drained(&self) -> bool {
        self.draining == Draining::State && self.writes.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn replays_listed(&self) -> usize {
        self.turns.replays_listed()
    }

    fn is_draining(&self) -> bool {
        self.draining != Draining::No
    }

    /// Whether there is something to do.
    pub(crate) fn has_orders(&self) -> bool {
        !self.orders.is_empty()
    }

    /// The next thing to do.
    pub(crate) fn poll_order(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// When [`Self::handle_timeout`] is wanted; `None` = never, as things are.
    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let timers = timer.into_iter().chain(self.failed_writes.next_at());
        let passes = self.passes.next_deadline();
        let timers = timers.chain(passes.filter(|_| !self.is_draining()));
        timers.min()
    }

    /// Offset and metadata to commit for a lane; `None` before its first record, and for the
    /// backlog, where each endpoint has its own.
    pub(crate) fn commit_point(&self, lane: Lane) -> Option<(i64, String)> {
        self.lanes[lane.index()].commit_point()
    }

    /// Whether a lane has something to commit.
    pub(crate) fn has_commit_point(&self, lane: Lane) -> bool {
        lane != Lane::Backlog && self.lanes[lane.index()].offsets.frontier().is_some()
    }

    /// How many offsets each lane settled since the last call: lanes whose commit point changed.
    pub(crate) fn take_settled(&mut self) -> impl Iterator<Item = (Lane, u32)> {
        Lane::all().filter_map(|lane| {
            let settled = std::mem::take(&mut self.lanes[lane.index()].settled);
            (settled > 0).then_some((lane, settled))
        })
    }

    /// A lane cannot be read (its log was deleted or does not hold the offset).
    pub(crate) fn handle_lane_lost(&mut self, reading: Reading) {
        if self.lanes[reading.lane.index()].is_reading(reading.number) {
            self.stop_lane(reading.lane);
        }
    }

    /// A lane is left alone until the slice is acquired anew.
    pub(crate) fn stop_lane(&mut self, lane: Lane) {
        self.lanes[lane.index()].stop_for_good();
        self.stop_reading(lane);
    }

    /// Every endpoint that has something to send may have a turn.
    pub(crate) fn wake_all(&mut self) {
        let ids: Vec<EndpointId> = self.flows.keys().cloned().collect();
        for id in ids {
            self.wake(&id);
        }
    }

    fn take_in(&mut self, now: Timestamp, record: LaneRecord, ordered: Option<Ordered>) {
        let LaneRecord {
            reading,
            offset,
            appended_at,
            bytes,
            content,
        } = record;
        let attempts = match &content {
            Content::Delivery(delivery) => {
                if reading.lane == Lane::Redeliveries {
                    // Another life: what the first one left is no copy of it.
                    self.recent.forget_all(delivery.id);
                }
                if !self
                    .recent
                    .insert(delivery.id, delivery.attempts, reading.lane)
                {
                    self.observe(Observation::DuplicateDropped);
                    let endpoint = delivery.endpoint.clone();
                    self.settle_offset(now, reading.lane, offset, Some(&endpoint));
                    return;
                }
                let attempts = ordered.and_then(|ordered| ordered.attempts);
                attempts.unwrap_or(delivery.attempts)
            }
            Content::Unreadable { .. } => 0,
        };
        let id = self.next_entry;
        self.next_entry += 1;
        let ahead = matches!(reading.lane, Lane::Backlog | Lane::Redeliveries);
        match reading.lane {
            Lane::Backlog => self.passes.enter(bytes),
            Lane::Redeliveries => self.lanes[reading.lane.index()].enter_look_ahead(bytes),
            Lane::Deliveries | Lane::Retry(_) => {
                self.held_bytes += bytes;
            }
        }
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
            started_at: now,
            unproven: false,
            counted: false,
            key: ordered.map(|ordered| ordered.key),
            heads_key: false,
            appended_at,
            ahead,
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
        entry.ahead = true;
        let (lane, bytes) = (entry.lane, entry.bytes);
        // What waits for hours must not take the room of what is due now.
        self.held_bytes -= bytes;
        self.lanes[lane.index()].enter_look_ahead(bytes);
        self.wait(id, EntryState::OnRung, until);
    }

    /// It is its lane's no longer: it takes the slice's room.
    fn leave_look_ahead(&mut self, id: EntryId) {
        let entry = self.entry(id);
        if !std::mem::replace(&mut entry.ahead, false) {
            return;
        }
        let (lane, bytes) = (entry.lane, entry.bytes);
        self.lanes[lane.index()].leave_look_ahead(bytes);
        self.held_bytes += bytes;
        self.reconsider_reading(lane);
    }

    /// Its time on the lane is over: it goes down the ladder, waits in memory, or takes its turn.
    fn admit(&mut self, now: Timestamp, id: EntryId) {
        let entry = self.entry(id);
        let read_at = entry.hold_until - HOLD_MAX;
        let (lane, due) = (entry.lane, entry.delivery().due);
        let rung = due.and_then(|due| Rung::for_wait(due.since(now)));
        if let (Some(rung), Lane::Retry(of)) = (rung, lane)
            && of <= rung
            && now < read_at + SAME_RUNG_MIN
        {
            // The broker's clock is behind ours: a copy would come back at once.
            return self.wait_on_rung(now, id, read_at + SAME_RUNG_MIN);
        }
        let entry = self.entry(id);
        entry.hold_until = now + HOLD_MAX;
        match due {
            Some(due) if rung.is_some() => self.write_retry(now, id, due),
            Some(due) if due > now => self.wait(id, EntryState::Waiting, due),
            _ => self.enqueue(now, id),
        }
    }

    /// It takes its turn, or, when its endpoint has no room for it, goes to the backlog; what gets
    /// no turn in time is ended or moved by [`Self::give_up_hold`].
    fn enqueue(&mut self, now: Timestamp, id: EntryId) {
        let entry = self.entry(id);
        let (lane, bytes, class, key) = (entry.lane, entry.bytes, entry.class(), entry.key);
        let (endpoint, mut until) = (entry.delivery().endpoint.clone(), entry.hold_until);
        if let Some(ending) = self.ending(&endpoint) {
            if lane == Lane::Backlog {
                return self.end_without_attempt(now, id, ending);
            }
            until = until.min(now + DISCARD_GRACE);
        } else if lane == Lane::Backlog && self.is_past_window(now, id) {
            return self.give_up(now, id, DeadLetterReason::WindowPassed);
        } else if key.is_some() && self.is_exhausted(id) {
            return self.give_up(now, id, DeadLetterReason::AttemptsExhausted);
        } else if self.has_to_spill(now, id) {
            return self.spill(now, id);
        }
        self.wait(id, EntryState::Queued, until);
        let flow = self.flow(&endpoint);
        flow.queued_bytes += bytes;
        match key {
            Some(key) => flow.keys.push(key, id),
            None => flow.queue.push(class, id),
        }
        self.wake(&endpoint);
    }

    /// The endpoint's rule changed: what waits is looked at anew.
    fn requeue(&mut self, now: Timestamp, endpoint: &EndpointId) {
        let waiting = match self.flows.get_mut(endpoint) {
            Some(flow) => flow.take_waiting(),
            None => return,
        };
        for id in waiting {
            self.enqueue(now, id);
        }
    }

    /// Takes an entry out of its endpoint's queue.
    fn dequeue(&mut self, id: EntryId) {
        let entry = self.entry(id);
        let (endpoint, bytes) = (entry.delivery().endpoint.clone(), entry.bytes);
        let key = entry.key;
        let flow = self.flow(&endpoint);
        match key {
            Some(key) => flow.keys.remove(key, id),
            None => flow.queue.remove(id),
        }
        flow.queued_bytes -= bytes;
    }

    /// Which rule ends the deliveries of an endpoint without an attempt, if one does.
    fn ending(&self, id: &EndpointId) -> Option<Outcome> {
        let discarded = |reason| Some(Outcome::Discarded(reason));
        match self.catalog.find(id) {
            Lookup::Deleted => discarded(DiscardReason::EndpointDeleted),
            Lookup::Known(e) if e.state == EndpointState::Disabled => {
                discarded(DiscardReason::EndpointDisabled)
            }
            Lookup::Known(e) => {
                let gone = self.flows.get(id)?.gone.confirmed == Some(e.version);
                gone.then_some(Outcome::DeadLettered(DeadLetterReason::EndpointGone))
            }
            Lookup::Unknown => None,
        }
    }

    fn is_active(&self, id: &EndpointId) -> bool {
        let found = self.catalog.find(id);
        matches!(found, Lookup::Known(e) if e.state == EndpointState::Active)
    }

    fn end_without_attempt(&mut self, now: Timestamp, id: EntryId, ending: Outcome) {
        match ending {
            Outcome::DeadLettered(reason) => self.give_up(now, id, reason),
            Outcome::Discarded(_) | Outcome::Delivered | Outcome::Retry => {
                self.clear_timer(id);
                self.entry(id).state = EntryState::Settling;
                self.write_attempt(now, id, None, ending, None);
            }
        }
    }

    /// It could not be attempted in time.
    fn give_up_hold(&mut self, now: Timestamp, id: EntryId) {
        let entry = self.entry(id);
        let (endpoint, hold_until) = (entry.delivery().endpoint.clone(), entry.hold_until);
        if let Some(ending) = self.ending(&endpoint) {
            self.dequeue(id);
            self.end_without_attempt(now, id, ending);
        } else if now < hold_until {
            // The endpoint came back within the grace.
            self.wait(id, EntryState::Queued, hold_until);
        } else if self.may_stay(now, id) {
            self.wait(id, EntryState::Queued, now + HOLD_MAX);
        } else {
            self.dequeue(id);
            self.give_up_turn(now, id);
        }
    }

    /// Whether nothing waits for it, as it is where it would be moved to.
    fn may_stay(&mut self, now: Timestamp, id: EntryId) -> bool {
        let entry = self.entry(id);
        let moved = entry.attempts == entry.attempts_read() || entry.key.is_some();
        let known = entry.delivery().endpoint.clone();
        let lane = entry.lane;
        // For replays nothing waits either: they have a lane of their own.
        (lane == Lane::Redeliveries || (lane == Lane::Backlog && moved))
            && matches!(self.catalog.find(&known), Lookup::Known(_))
            && !self.is_past_window(now, id)
    }

    /// Unknown and overdue deliveries end, the others are moved.
    fn give_up_turn(&mut self, now: Timestamp, id: EntryId) {
        let delivery = self.entry(id).delivery();
        if !matches!(self.catalog.find(&delivery.endpoint), Lookup::Known(_)) {
            return self.give_up(now, id, DeadLetterReason::EndpointUnknown);
        }
        if self.is_past_window(now, id) {
            return self.give_up(now, id, DeadLetterReason::WindowPassed);
        }
        self.observe(Observation::HoldExceeded);
        self.spill(now, id);
    }

    /// Whether no attempt is made any more.
    fn is_past_window(&mut self, now: Timestamp, id: EntryId) -> bool {
        let entry = self.entry(id);
        let (delivery, attempts, appended_at) =
            (entry.delivery(), entry.attempts, entry.appended_at);
        now > self.window_end(&delivery, attempts, appended_at)
    }

    /// When no attempt is made any more. What was never attempted has its window from when it was
    /// written to where it is: a mirrored event may be old, a producer's clock may be ahead.
    fn window_end(&self, delivery: &Delivery, attempts: u32, appended_at: Timestamp) -> Timestamp {
        let since = if attempts == 0 {
            appended_at
        } else {
            delivery.event.accepted_at.min(appended_at)
        };
        since + self.retry_policy(&delivery.endpoint).window
    }

    /// Whether its schedule is spent: a head that was blocked and is released.
    fn is_exhausted(&mut self, id: EntryId) -> bool {
        let entry = self.entry(id);
        let (endpoint, attempts) = (entry.delivery().endpoint.clone(), entry.attempts);
        attempts as usize > self.retry_policy(&endpoint).schedule.len()
    }

    fn retry_policy(&self, endpoint: &EndpointId) -> &postrider_domain::RetryPolicy {
        let policy = match self.catalog.find(endpoint) {
            Lookup::Known(endpoint) => endpoint.retry.as_ref(),
            Lookup::Deleted | Lookup::Unknown => None,
        };
        policy.unwrap_or(&self.defaults.retry)
    }

    fn give_up(&mut self, now: Timestamp, id: EntryId, reason: DeadLetterReason) {
        self.write_attempt(now, id, None, Outcome::DeadLettered(reason), None);
        self.write_dead_letter(id, reason);
    }

    fn write_attempt(
        &mut self,
        now: Timestamp,
        id: EntryId,
        report: Option<AttemptReport>,
        outcome: Outcome,
        next_attempt_at: Option<Timestamp>,
    ) {
        let epoch = self.epoch;
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
            epoch,
        };
        self.write(id, Write::Attempt(Box::new(attempt)));
    }

    fn write_dead_letter(&mut self, id: EntryId, reason: DeadLetterReason) {
        self.clear_timer(id);
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
        let rung = Rung::for_wait(due.since(now)).unwrap_or(Rung::SHORTEST);
        let (delivery, attempts) = self.move_out(id);
        if self.entry(id).lane == Lane::Retry(rung) && attempts == delivery.attempts {
            // To where it came from: the copy is no repetition.
            self.recent.forget(delivery.id, attempts, Lane::Retry(rung));
        }
        let write = Write::Retry {
            delivery,
            attempts,
            due,
            rung,
        };
        self.write(id, write);
    }

    /// A copy of an entry takes its place.
    fn move_out(&mut self, id: EntryId) -> (Arc<Delivery>, u32) {
        self.clear_timer(id);
        let entry = self.entry(id);
        entry.state = EntryState::Settling;
        (entry.delivery(), entry.attempts)
    }

    fn write(&mut self, entry: EntryId, write: Write) {
        self.entry(entry).unacked_writes += 1;
        self.begin_write(Purpose::Entry(entry), write);
    }

    fn begin_write(&mut self, purpose: Purpose, write: Write) -> u64 {
        let number = self.next_write;
        self.next_write += 1;
        self.writes.insert(number, purpose);
        let id = WriteId {
            slice: self.slice,
            claim: self.claim,
            number,
        };
        self.orders.push_back(Order::Write { id, write });
        number
    }

    fn end_write(&mut self, id: WriteId) -> Option<Purpose> {
        if id.claim != self.claim {
            return None;
        }
        let purpose = self.writes.remove(&id.number)?;
        if self.failed_writes.remove(id) {
            self.observe(Observation::AdmissionOpened);
        }
        Some(purpose)
    }

    fn settle_if_done(&mut self, now: Timestamp, id: EntryId) {
        let done = self
            .entries
            .get(&id)
            .is_some_and(|e| e.state == EntryState::Settling && e.unacked_writes == 0);
        if done {
            let endpoint = match &self.entry(id).content {
                Content::Delivery(delivery) => Some(delivery.endpoint.clone()),
                Content::Unreadable { .. } => None,
            };
            let (key, heads_key) = (self.entry(id).key, self.entry(id).heads_key);
            let (lane, offset) = self.drop_entry(id);
            self.settle_offset(now, lane, offset, endpoint.as_ref());
            if let (Some(key), Some(endpoint)) = (key, &endpoint) {
                self.follow_on(now, endpoint, key, heads_key);
            }
        }
    }

    fn settle_offset(
        &mut self,
        now: Timestamp,
        lane: Lane,
        offset: i64,
        endpoint: Option<&EndpointId>,
    ) {
        if lane == Lane::Backlog {
            if let Some(endpoint) = endpoint {
                self.settle_backlog(now, endpoint, offset);
            }
            return;
        }
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
        let entry = self.entries.remove(&id).expect("a known entry");
        let (lane, bytes) = (entry.lane, entry.bytes);
        match lane {
            Lane::Backlog => self.passes.leave(bytes),
            _ if entry.ahead => self.lanes[lane.index()].leave_look_ahead(bytes),
            _ => {
                self.held_bytes -= bytes;
            }
        }
        self.reconsider_reading(lane);
        (lane, entry.offset)
    }

    fn wait(&mut self, id: EntryId, state: EntryState, until: Timestamp) {
        self.clear_timer(id);
        let entry = self.entry(id);
        entry.state = state;
        entry.timer = Some(until);
        self.timers.insert((until, Timer::Entry(id)));
    }

    fn clear_timer(&mut self, id: EntryId) {
        if let Some(at) = self.entry(id).timer.take() {
            self.timers.remove(&(at, Timer::Entry(id)));
        }
    }

    /// Looks at an endpoint again then, or earlier.
    fn look_again(&mut self, endpoint: &EndpointId, at: Timestamp) {
        let Some(flow) = self.flows.get_mut(endpoint) else {
            return;
        };
        if flow.timer.is_some_and(|timer| timer <= at) {
            return;
        }
        if let Some(later) = flow.timer.replace(at) {
            self.timers.remove(&(later, Timer::Flow(endpoint.clone())));
        }
        self.timers.insert((at, Timer::Flow(endpoint.clone())));
    }

    /// Forgets endpoints that nothing would be lost with.
    fn sweep(&mut self, now: Timestamp) {
        self.timers.insert((now + SWEEP, Timer::Sweep));
        let idle: Vec<EndpointId> = self
            .flows
            .iter()
            .filter(|(_, flow)| flow.saving.stored && flow.saving.write.is_none())
            .filter(|(_, flow)| flow.remembered(now).is_empty())
            .map(|(id, _)| id.clone())
            .collect();
        for id in idle {
            self.save_soon(now, &id, Duration::ZERO);
        }
        let timers = &mut self.timers;
        self.flows.retain(|id, flow| {
            let forget = flow.may_be_forgotten(now);
            if let Some(at) = flow.timer
                && forget
            {
                timers.remove(&(at, Timer::Flow(id.clone())));
            }
            !forget
        });
    }

    fn stop_reading(&mut self, lane: Lane) {
        if self.lanes[lane.index()].stop_reading() {
            let slice = self.slice;
            self.orders.push_back(Order::StopReading { slice, lane });
        }
    }

    /// Reads a lane again once half of every bound is free.
    fn reconsider_reading(&mut self, lane: Lane) {
        if lane == Lane::Backlog || self.is_draining() || self.held_bytes > HELD_BYTES_MAX / 2 {
            return;
        }
        let from = self.lanes[lane.index()].offsets.read_to();
        self.read_lane(lane, from);
    }

    fn read_lane(&mut self, lane: Lane, from: Option<i64>) {
        if let Some(number) = self.lanes[lane.index()].start_reading() {
            let (slice, claim) = (self.slice, self.claim);
            let reading = Reading {
                slice,
                claim,
                lane,
                number,
            };
            self.orders.push_back(Order::Read { reading, from });
        }
    }

    fn observe(&mut self, observation: Observation) {
        self.orders.push_back(Order::Observe(observation));
    }

    fn ticket(&mut self, id: EntryId) -> Ticket {
        let (slice, claim) = (self.slice, self.claim);
        Ticket {
            slice,
            claim,
            entry: id,
            unproven: self.entry(id).unproven,
        }
    }

    fn entry(&mut self, id: EntryId) -> &mut Entry {
        self.entries.get_mut(&id).expect("a known entry")
    }

    /// What is known of an endpoint, which is remembered from now on.
    fn flow(&mut self, endpoint: &EndpointId) -> &mut Flow {
        if !self.flows.contains_key(endpoint) {
            let mut flow = Flow::new();
            if let Lookup::Known(known) = self.catalog.find(endpoint) {
                flow.limit(known.rate_limit);
            }
            self.flows.insert(endpoint.clone(), flow);
        }
        self.flows.get_mut(endpoint).expect("just inserted")
    }
}
