//! Which slices this worker owns, and what they share.
//!
//! Decides which slice an input is for, that whatever comes under another claim is ignored, and
//! when the engine wants to be called again. In files of their own: how a slice becomes ours
//! (`worker/claim`), how it stops being ours (`worker/hand_back`), how the slices share the requests
//! in flight (`worker/start`), what is committed (`worker/commit`). Leaves the deliveries to
//! `slice`, the group protocol to the shell.

mod claim;
mod commit;
mod hand_back;
mod moves;
mod start;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use postrider_domain::{Endpoint, EndpointId, Slice, Timestamp};

use crate::commits::Commits;
use crate::io::{
    Claim, Defaults, LaneRecord, Observation, Order, Reading, Write, WriteFailure, WriteId,
};
use crate::lease::Lease;
use crate::slice::SliceEngine;
use crate::spare::Spare;
use claim::Acquiring;
pub use hand_back::DRAIN_MAX;
use moves::Moves;

/// What a worker is told once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Requests in flight over all slices.
    pub in_flight_max: usize,
    /// What endpoints get that do not say.
    pub defaults: Defaults,
    /// After this time of silence the coordinator gives our slices to others; at most what the
    /// broker grants.
    pub session: Duration,
    /// How often the coordinator hears from us; at least what the broker asks for.
    pub heartbeat: Duration,
    /// A number that no other process has.
    pub claimant: u64,
    /// Fixes every random choice.
    pub seed: u64,
}

/// How a commit was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitAnswer {
    /// Every entry is stored.
    Accepted,
    /// None counts; it is tried again.
    Refused,
    /// None counts, as the broker does not know the topic or partition of one: they are tried one
    /// by one, and that lane stands still, with an alarm.
    UnknownLane,
    /// This worker is no member any more: all its slices are lost.
    NotAMember,
}

/// All slices of one worker: the engine as a shell sees it.
///
/// # In and out
///
/// - In: one method `handle_*` for everything that happens. First the group: slices are assigned,
///   revoked, lost. Then the answers to orders; each [`Order`] names the method that answers it.
///   Last what is read: records, state, endpoints.
/// - Out: [`Worker::poll_order`] yields what is to be done, [`Worker::poll_attempt`] the requests to
///   be sent. The engine never waits for an answer; it goes on when one comes.
///
/// # Order of calls
///
/// After every input both are polled until neither yields any more, orders first: asking for an
/// attempt may lead to orders, such as a reservation that has to be written before it starts.
/// Several inputs may be given before that; the outputs are then those of all. Orders are carried
/// out in the order in which they come. Then the shell waits for the next input or
/// [`Worker::next_deadline`], whichever is first, and at the deadline calls
/// [`Worker::handle_timeout`].
///
/// # What a shell owes
///
/// - Each [`StartAttempt`](crate::io::StartAttempt) is answered exactly once, by
///   [`Worker::handle_report`] or [`Worker::handle_not_started`], even when its slice is gone: until
///   then it takes room. A second answer panics when nothing is in flight.
/// - Each write is answered once, and a failed one hands the record back.
/// - Each commit is answered once; the next one is ordered only then.
/// - Slices, claims, readings, tickets and write ids are given back as they came. Whatever belongs
///   to an earlier ownership is ignored, so a shell need not know what is stale.
///
/// # Time
///
/// Time is an argument. It is one clock for all calls, and it never goes back from one call to the
/// next. It may stand still, and it may jump ahead, as after a process was frozen: a deadline that
/// is met late breaks no promise but those on lateness (P6, P12). One look at the clock cannot be
/// done in here: right before a request goes to the network,
/// [`StartAttempt::not_after`](crate::io::StartAttempt::not_after) is compared with it once more,
/// and what is too late is not sent. Broker times (`appended_at`) may come from another clock.
///
/// # Promises
///
/// `docs/delivery.md` says what each means; here is where it is kept.
///
/// | promise | kept in |
/// | --- | --- |
/// | P1 no loss | `slice/settle`, [`offsets`](crate::offsets), [`commit_map`](crate::commit_map), `worker/commit`; for the backlog [`backlog`](crate::backlog) |
/// | P2 bounded duplicates | `worker/hand_back`, `slice/drain`; [`commits`](crate::commits) (pace), [`recent`](crate::recent) (copies), [`lease`](crate::lease) (no two owners at once), `worker/moves` |
/// | P3 isolation | `turns`, `queue`, `health`, [`admission`](crate::admission), [`backlog`](crate::backlog), `slice/room`, `slice/spill`, `worker/start` |
/// | P4 rate limit | `limit`, `slice/save` (reservations), `worker/start` (quiet time after a loss) |
/// | P5 order | [`order`](crate::order), `slice/ordered`, [`backlog`](crate::backlog) (order of copies); what comes before: the router's writes |
/// | P6 retry timing | [`schedule`](crate::schedule), `slice/enter` |
/// | P7 static stability | nothing here asks anybody but Kafka |
/// | P8 bounded resources | [`offsets`](crate::offsets), [`lane`](crate::lane), [`admission`](crate::admission), [`backlog`](crate::backlog), `worker/start` |
/// | P9 egress safety | not here: the guard and the egress |
/// | P10 truthful log | `slice/finish`, `slice/settle`: every report becomes an attempt record |
/// | P11 secrecy | nothing here looks into a secret or writes a log line |
/// | P12 freshness | `turns`, `queue` (retries do not starve first attempts) |
#[derive(Debug)]
pub struct Worker {
    settings: Settings,
    slices: BTreeMap<Slice, Ownership>,
    /// Counts the claims.
    claims: u64,
    in_flight: usize,
    /// Of those, to endpoints that have not answered well since their last timeout.
    unproven_in_flight: usize,
    /// An endpoint could not start more requests as it had its share of them.
    share_used: bool,
    spare: Spare,
    /// The slice whose turn was last.
    last_turn: Slice,
    lease: Lease,
    /// An attempt could not start, or a delivery could not be moved, for want of a lease.
    lease_wanted: bool,
    commits: Commits,
    /// No attempt starts before: what short limits counted is forgotten.
    quiet_until: Option<Timestamp>,
    /// A revocation is open, of these slices.
    revoked: Option<BTreeSet<Slice>>,
    leaving: bool,
    left: bool,
    orders: VecDeque<Order>,
    moves: Moves,
}

#[derive(Debug)]
enum Ownership {
    /// Offsets are fetched, the fence is written and read back.
    Claiming(Box<Acquiring>),
    /// The engine exists; until its endpoints are loaded it reads nothing.
    Active(Box<SliceEngine>),
    /// Revoked: drained until that time.
    Draining(Box<SliceEngine>, Timestamp),
}

impl Ownership {
    fn engine(&self) -> Option<&SliceEngine> {
        match self {
            Self::Claiming(_) => None,
            Self::Active(engine) | Self::Draining(engine, _) => Some(engine),
        }
    }

    fn engine_mut(&mut self) -> Option<&mut SliceEngine> {
        match self {
            Self::Claiming(_) => None,
            Self::Active(engine) | Self::Draining(engine, _) => Some(engine),
        }
    }
}

impl Worker {
    /// A worker that owns nothing yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let spare = Spare::new(settings.in_flight_max);
        let lease = Lease::new(settings.session, settings.heartbeat);
        let renewal = lease.renewal(settings.defaults.timeout);
        Self {
            settings,
            slices: BTreeMap::new(),
            claims: 0,
            in_flight: 0,
            share_used: false,
            spare,
            unproven_in_flight: 0,
            last_turn: Slice(0),
            lease,
            lease_wanted: false,
            commits: Commits::new(renewal),
            quiet_until: None,
            revoked: None,
            leaving: false,
            left: false,
            orders: VecDeque::new(),
            moves: Moves::default(),
        }
    }

    /// An endpoint was created, changed or (`None`) deleted.
    pub fn handle_endpoint(
        &mut self,
        now: Timestamp,
        slice: Slice,
        id: EndpointId,
        endpoint: Option<Endpoint>,
    ) {
        if let Some(engine) = self.engine(slice) {
            engine.handle_endpoint(now, id, endpoint);
            self.pump(now, slice);
        }
    }

    /// All endpoints that were there when [`Order::LoadEndpoints`] was given are known.
    pub fn handle_endpoints_loaded(&mut self, now: Timestamp, slice: Slice, claim: Claim) {
        if let Some(engine) = self.engine(slice)
            && engine.claim() == claim
        {
            engine.open(now);
            self.pump(now, slice);
        }
    }

    /// A record was read.
    pub fn handle_record(&mut self, now: Timestamp, record: LaneRecord) {
        let Reading { slice, claim, .. } = record.reading;
        match self.engine(slice) {
            Some(engine) if engine.claim() == claim => engine.handle_record(now, record),
            _ => return,
        }
        self.pump(now, slice);
    }

    /// A lane cannot be read: it stands still, with an alarm, until the slice is acquired anew.
    pub fn handle_lane_lost(&mut self, now: Timestamp, reading: Reading) {
        match self.engine(reading.slice) {
            Some(engine) if engine.claim() == reading.claim => engine.handle_lane_lost(reading),
            _ => return,
        }
        self.pump(now, reading.slice);
    }

    /// A write was acknowledged, at this offset of its topic.
    pub fn handle_write_acked(&mut self, now: Timestamp, id: WriteId, offset: i64) {
        if let Some(engine) = self.engine(id.slice) {
            engine.handle_write_acked(now, id, offset);
            self.pump(now, id.slice);
        } else if self.acquiring(id.slice, id.claim).is_none() {
            // A fence, by contrast, is done when it is read back.
            self.observe(Observation::StaleInput);
        }
    }

    /// A write failed.
    pub fn handle_write_failed(
        &mut self,
        now: Timestamp,
        id: WriteId,
        write: Write,
        failure: WriteFailure,
    ) {
        if let Some(engine) = self.engine(id.slice) {
            engine.handle_write_failed(now, id, write, failure);
            self.pump(now, id.slice);
        } else if let Write::Fence { epoch, .. } = write {
            self.fence_failed(now, id, epoch);
        }
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.quiet_until = self.quiet_until.filter(|until| *until > now);
        let slices: Vec<Slice> = self.slices.keys().copied().collect();
        for slice in slices {
            match self.slices.get_mut(&slice) {
                Some(Ownership::Claiming(_)) => self.refence_if_due(now, slice),
                Some(Ownership::Active(engine) | Ownership::Draining(engine, _))
                    if engine.next_deadline().is_some_and(|at| at <= now) =>
                {
                    engine.handle_timeout(now);
                    self.pump(now, slice);
                }
                _ => {}
            }
        }
        self.release_drained(now);
        self.commit_if_due(now);
    }

    /// The next thing to do.
    pub fn poll_order(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// When [`Self::handle_timeout`] is wanted.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let slices = self
            .slices
            .values()
            .filter_map(|ownership| match ownership {
                Ownership::Claiming(acquiring) => acquiring.next_deadline(),
                Ownership::Active(engine) => engine.next_deadline(),
                Ownership::Draining(engine, until) => {
                    Some(engine.next_deadline().map_or(*until, |at| at.min(*until)))
                }
            });
        let others = self.commits.due_at().into_iter().chain(self.quiet_until);
        slices.chain(others).min()
    }

    /// Slices owned, those that load or drain included.
    pub fn owned(&self) -> impl Iterator<Item = Slice> {
        self.slices.keys().copied()
    }

    /// Requests in flight.
    #[must_use]
    pub const fn in_flight(&self) -> usize {
        self.in_flight
    }

    #[cfg(test)]
    pub(crate) fn replays_listed(&mut self, slice: Slice) -> usize {
        self.engine(slice).map_or(0, |e| e.replays_listed())
    }

    fn engine(&mut self, slice: Slice) -> Option<&mut SliceEngine> {
        self.slices.get_mut(&slice)?.engine_mut()
    }

    fn observe(&mut self, observation: Observation) {
        self.orders.push_back(Order::Observe(observation));
    }

    /// Passes on what the engine of a slice asks for.
    fn pump(&mut self, now: Timestamp, slice: Slice) {
        let Some(Ownership::Active(engine) | Ownership::Draining(engine, _)) =
            self.slices.get_mut(&slice)
        else {
            return;
        };
        let is_ours = self.lease.term().holds(now);
        while let Some(order) = engine.poll_order() {
            self.moves.pass(order, is_ours, &mut self.orders);
        }
        let claim = engine.claim();
        for (lane, records) in engine.take_settled() {
            self.commits.settled(now, (slice, claim, lane), records);
        }
        if !self.moves.is_empty() {
            self.want_lease(now);
        }
        if matches!(self.slices.get(&slice), Some(Ownership::Draining(..))) {
            self.release_drained(now);
        }
        self.commit_if_due(now);
    }
}
