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
//! In files of its own: the way into memory ([`mod@enter`]), what leaves it when a lane stands
//! ([`mod@room`]), which attempt starts ([`mod@start`]), what an attempt's end leads to
//! ([`mod@finish`]), what ends without one ([`mod@give_up`]), tests ([`mod@test_send`]), the way over the backlog ([`mod@spill`]), order ([`mod@ordered`]), what settles
//! ([`mod@settle`]), what a successor must know ([`mod@save`]), fences of others behind ours
//! ([`mod@overtaken`]), the end of an ownership ([`mod@drain`]). Leaves which slices are owned,
//! commits and the worker's budget to [`crate::worker`], and everything that touches the world to
//! the shells.

mod drain;
mod enter;
mod finish;
mod give_up;
mod ordered;
mod overtaken;
mod room;
mod save;
mod settle;
mod spill;
mod start;
mod test_send;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use postrider_catalog::{Catalog, Lookup};
use postrider_domain::{Endpoint, EndpointId, Head, Lane, Ordering, Remembered, Slice, Timestamp};

use crate::backlog::{Backlog, Passes};
use crate::entry::{Entry, EntryState};
use crate::failed_writes::FailedWrites;
use crate::fence::Claimed;
use crate::flow::{Flow, Timer};
use crate::io::{Claim, Defaults, Epoch, LaneRecord, Observation, Order, Reading, Ticket};
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
    /// Entries of backlogs that left memory while writes of them are open, which refer to them: how
    /// many, and the bytes of the room they take until then.
    departed: BTreeMap<EntryId, (u32, usize)>,
    writes: BTreeMap<u64, Purpose>,
    next_write: u64,
    /// Boxed, as half of the room in a map's nodes is free.
    flows: BTreeMap<EndpointId, Box<Flow>>,
    turns: Turns,
    timers: BTreeSet<(Timestamp, Timer)>,
    recent: Recent,
    /// Bytes of entries of lanes whose frontier waits for them.
    held_bytes: usize,
    /// A record did not fit beside them: nothing is read until half of the room is free.
    short: bool,
    failed_writes: FailedWrites,
    draining: Draining,
    rng: fastrand::Rng,
    orders: VecDeque<Order>,
}

/// What is known of a record of a backlog when it is taken in.
#[derive(Clone, Copy, Debug)]
struct Ordered {
    /// `None` = it waits for no other any more.
    key: Option<u64>,
    /// If it was a failed head before.
    head: Option<Head>,
}

/// What a write is for.
#[derive(Clone, Debug)]
enum Purpose {
    /// To settle an entry.
    Entry(EntryId),
    /// To move an entry, which may be ordered by a key, to its endpoint's backlog.
    Spill(EntryId, EndpointId, Option<u64>),
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
            departed: BTreeMap::new(),
            writes: BTreeMap::new(),
            next_write: 0,
            flows: BTreeMap::new(),
            turns: Turns::default(),
            timers: BTreeSet::from([(now + SWEEP, Timer::Sweep)]),
            recent: Recent::default(),
            held_bytes: 0,
            short: false,
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
        let flows = self.flows.iter();
        let with_backlog = flows.filter(|(_, flow)| flow.backlog.is_some());
        let ids: Vec<EndpointId> = with_backlog.map(|(id, _)| id.clone()).collect();
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
            Some(memory) => Box::new(Limiter::restored(limit, memory, now)),
            None => Box::new(Limiter::new(limit)),
        });
        let end = self.passes.end();
        flow.backlog = remembered
            .backlog
            .as_ref()
            .map(|memory| Box::new(Backlog::restored(memory, end)));
        flow.gone.confirmed = remembered.gone;
        flow.saving.stored = true;
        self.flows.insert(id.clone(), Box::new(flow));
        // Its rule may have changed while nobody owned it.
        self.reorder(now, &id);
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
        // What came before it was ordered, or while it ended, is to be.
        let ordered = self.ordering(&id) != Ordering::None;
        if ordered || self.ending(&id).is_some() || !self.is_active(&id) {
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
        // Replays have the room of their lane, from the beginning to the end.
        let own = lane == Lane::Redeliveries;
        let fits = own || self.held_bytes == 0 || held <= HELD_BYTES_MAX;
        let (admits, ahead) = (
            state.offsets.admits(record.offset),
            state.has_room_ahead(record.bytes),
        );
        if !fits || !admits || !ahead {
            self.stop_reading(lane);
        }
        if !fits {
            return self.was_short_of_room(now);
        }
        if !admits {
            self.lanes[lane.index()].was_full();
            return self.make_room(now);
        }
        if !ahead {
            return;
        }
        match self.lanes[lane.index()].offsets.read(record.offset) {
            offsets::Reading::New => self.take_in(now, record, None),
            offsets::Reading::Settled | offsets::Reading::Repeated => {}
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

    #[cfg(test)]
    pub(crate) fn replays_listed(&self) -> usize {
        self.turns.replays_listed()
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

    /// Reads a lane again once there is room.
    fn reconsider_reading(&mut self, lane: Lane) {
        if lane == Lane::Backlog || self.is_draining() {
            return;
        }
        self.short &= self.held_bytes > HELD_BYTES_MAX / 2;
        if self.short {
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
        let entry = self.entry(id);
        Ticket {
            slice,
            claim,
            entry: id,
            unproven: entry.unproven,
            replay: entry.lane == Lane::Redeliveries,
            decided_at: entry.started_at,
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
            self.flows.insert(endpoint.clone(), Box::new(flow));
        }
        self.flows.get_mut(endpoint).expect("just inserted")
    }
}
