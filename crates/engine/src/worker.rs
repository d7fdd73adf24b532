//! Which slices this worker owns, and what they share.
//!
//! Decides the life of an ownership (claiming, active, draining, gone), when a revocation is
//! answered, what may be committed, and how the slices share the worker's requests in flight.
//! The broker fences commits by member and never by partition, so the rule "only what is owned or
//! draining is committed" holds here and nowhere else (ADR 0002). Leaves the deliveries to
//! `slice`, the claim to `fence`, the lease to `lease`, the group protocol to the shell.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use postrider_domain::{AttemptReport, Endpoint, EndpointId, Lane, Slice, Timestamp};

use crate::commits::{Commits, LaneKey};
use crate::fence::{Claimed, Claiming};
use crate::io::{
    Claim, Defaults, Epoch, LaneRecord, Observation, Order, Reading, StartAttempt, StateEntry,
    Ticket, Write, WriteFailure, WriteId,
};
use crate::lane::Committed;
use crate::lease::Lease;
use crate::limit::{RESERVED_ABOVE, START_GRACE};
use crate::slice::{Acquired, SliceEngine};
use crate::turns::Room;

/// Longest time a revoked slice is drained; past it, it is handed back as it is. Attempts end by
/// their own deadline of at most 60 s; the rest is for writes and the last commit.
pub const DRAIN_MAX: Duration = Duration::from_secs(75);

/// Pause before a fence that could not be written is written again.
const FENCE_BACKOFF: Duration = Duration::from_secs(1);

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

/// All slices of one worker. Inputs by `handle_*`; after each, [`Worker::poll_order`] and
/// [`Worker::poll_attempt`] are drained until neither has any more (asking for attempts may lead to
/// orders); [`Worker::next_deadline`] says when [`Worker::handle_timeout`] is wanted.
#[derive(Debug)]
pub struct Worker {
    settings: Settings,
    slices: BTreeMap<Slice, Ownership>,
    /// Counts the claims.
    claims: u64,
    in_flight: usize,
    /// Of those, to endpoints that have not answered well since their last timeout.
    unproven_in_flight: usize,
    /// The slice whose turn was last.
    last_turn: Slice,
    lease: Lease,
    /// An attempt could not start for want of a lease.
    lease_wanted: bool,
    commits: Commits,
    /// No attempt starts before: what short limits counted is forgotten.
    quiet_until: Option<Timestamp>,
    /// A revocation is open, of these slices.
    revoked: Option<BTreeSet<Slice>>,
    leaving: bool,
    left: bool,
    orders: VecDeque<Order>,
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

/// What is known of a slice that is being claimed.
#[derive(Debug)]
struct Acquiring {
    claim: Claim,
    state: Claiming,
    claimed: Option<Claimed>,
    /// Records behind our fence.
    later: Vec<StateEntry>,
    committed: Option<([Committed; Lane::COUNT], i64, Vec<Lane>)>,
    /// Counts the fences written.
    fences: u64,
    /// A fence to be written again, and when.
    refence: Option<(Timestamp, Epoch)>,
    /// When another claim was found in the place of ours.
    outbid: Option<Timestamp>,
}

impl Worker {
    /// A worker that owns nothing yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let lease = Lease::new(settings.session, settings.heartbeat);
        let renewal = lease.renewal(settings.defaults.timeout);
        Self {
            settings,
            slices: BTreeMap::new(),
            claims: 0,
            in_flight: 0,
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
        }
    }

    /// The group gave us slices.
    pub fn handle_assigned(&mut self, slices: impl IntoIterator<Item = Slice>) {
        for slice in slices {
            if self.leaving || self.slices.contains_key(&slice) {
                continue;
            }
            self.claims += 1;
            let claim = Claim(self.claims);
            let acquiring = Acquiring {
                claim,
                state: Claiming::new(self.settings.claimant),
                claimed: None,
                later: Vec::new(),
                committed: None,
                fences: 0,
                refence: None,
                outbid: None,
            };
            self.slices
                .insert(slice, Ownership::Claiming(Box::new(acquiring)));
            self.orders.push_back(Order::FetchOffsets { slice, claim });
            self.orders.push_back(Order::LoadState { slice, claim });
        }
    }

    /// The group wants slices back. They are drained; further revocations that come meanwhile are
    /// merged, as one answer answers all that are open.
    pub fn handle_revoked(&mut self, now: Timestamp, slices: impl IntoIterator<Item = Slice>) {
        let slices: BTreeSet<Slice> = slices.into_iter().collect();
        for &slice in &slices {
            self.drain(now, slice);
        }
        self.revoked.get_or_insert_default().extend(slices);
        self.release_drained(now);
    }

    /// We are no member any more: every slice may have a new owner already. Nothing is committed,
    /// and nothing starts for as long as a short rate limit may count what started until now.
    pub fn handle_lost(&mut self, now: Timestamp) {
        let slices: Vec<Slice> = self.slices.keys().copied().collect();
        for slice in slices {
            self.release(slice);
        }
        self.lease.end();
        self.quiet_until = Some(now + RESERVED_ABOVE + START_GRACE);
        self.commits.lost();
        self.revoked = None;
        self.orders.push_back(Order::HandBack);
        self.leave_if_done();
    }

    /// The process shall end: everything is drained, then the group is left.
    pub fn handle_shutdown(&mut self, now: Timestamp) {
        self.leaving = true;
        let slices: Vec<Slice> = self.slices.keys().copied().collect();
        for slice in slices {
            self.drain(now, slice);
        }
        self.release_drained(now);
    }

    /// Committed offsets and metadata of a slice's lanes arrived, the end of its backlog, and which
    /// lanes cannot be read on from there (their log does not exist or does not hold the offset):
    /// those stand still, with an alarm, until the slice is acquired anew.
    pub fn handle_offsets(
        &mut self,
        now: Timestamp,
        slice: Slice,
        claim: Claim,
        committed: [Committed; Lane::COUNT],
        backlog_end: i64,
        faulty: &[Lane],
    ) {
        match self.acquiring(slice, claim) {
            Some(acquiring) => {
                acquiring.committed = Some((committed, backlog_end, faulty.to_vec()));
            }
            None => return self.observe(Observation::StaleInput),
        }
        self.activate(now, slice);
    }

    /// A record of the slice's `endpoint-state` was read.
    pub fn handle_state(&mut self, now: Timestamp, slice: Slice, claim: Claim, entry: StateEntry) {
        let session = self.settings.session;
        if let Some(engine) = self.engine(slice)
            && engine.claim() == claim
        {
            engine.handle_state(now, &entry);
            return self.pump(now, slice);
        }
        let Some(acquiring) = self.acquiring(slice, claim) else {
            return;
        };
        if acquiring.claimed.is_some() {
            acquiring.later.push(entry);
            return;
        }
        match acquiring.state.read(entry) {
            None => {}
            Some(Ok(claimed)) => {
                acquiring.claimed = Some(claimed);
                self.activate(now, slice);
            }
            // Another process claims it too. If it is its owner, we hear of that; if it woke up
            // late, a commit of ours that is accepted from now on tells us apart.
            Some(Err(epoch)) => {
                acquiring.outbid = Some(now);
                acquiring.refence = Some((now + session, epoch));
            }
        }
    }

    /// A commit sent then was accepted, so we own what we think we own: claims that were outbid
    /// before it are made again.
    fn fence_again(&mut self, now: Timestamp, sent_at: Timestamp) {
        let slices: Vec<Slice> = self.slices.keys().copied().collect();
        for slice in slices {
            match self.slices.get_mut(&slice) {
                Some(Ownership::Claiming(acquiring)) => {
                    if acquiring.outbid.take_if(|at| *at < sent_at).is_some()
                        && let Some((at, _)) = &mut acquiring.refence
                    {
                        *at = sent_at;
                    }
                }
                Some(Ownership::Active(engine) | Ownership::Draining(engine, _)) => {
                    engine.fence_again(sent_at);
                    self.pump(now, slice);
                }
                None => {}
            }
        }
    }

    /// The end of the slice's `endpoint-state`, as it was when it was asked for, is reached.
    pub fn handle_state_loaded(&mut self, slice: Slice, claim: Claim) {
        if let Some(acquiring) = self.acquiring(slice, claim)
            && acquiring.fences == 0
        {
            let epoch = acquiring.state.propose();
            self.write_fence(slice, claim, epoch);
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

    /// An attempt ended.
    pub fn handle_report(&mut self, now: Timestamp, ticket: Ticket, report: AttemptReport) {
        self.end_attempt(ticket);
        match self.engine(ticket.slice) {
            Some(engine) => {
                engine.handle_report(now, ticket, report);
                self.pump(now, ticket.slice);
            }
            None => self.observe(Observation::StaleInput),
        }
    }

    /// An attempt was not started, as its time had passed; no request was made.
    pub fn handle_not_started(&mut self, now: Timestamp, ticket: Ticket) {
        self.end_attempt(ticket);
        self.observe(Observation::NotStarted);
        if let Some(engine) = self.engine(ticket.slice) {
            engine.handle_not_started(now, ticket);
            self.pump(now, ticket.slice);
        }
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
        } else if let Write::Fence { epoch, .. } = write
            && let Some(acquiring) = self.acquiring(id.slice, id.claim)
        {
            acquiring.refence = Some((now + FENCE_BACKOFF, epoch));
        }
    }

    /// The commit in flight was answered.
    pub fn handle_commit_finished(&mut self, now: Timestamp, answer: CommitAnswer) {
        let finished = self.commits.finish(now, answer);
        if let (CommitAnswer::Accepted, Some(sent_at)) = (answer, finished.sent_at) {
            if self.lease.accept(sent_at, now) && std::mem::take(&mut self.lease_wanted) {
                self.wake_slices();
            }
            if self.lease_wanted {
                self.commits.hurry_renewal(self.lease.renewal_at(now));
            }
            self.fence_again(now, sent_at);
        }
        if let Some((slice, claim, lane)) = finished.unknown {
            self.observe(Observation::LaneUnknown(slice, lane));
            if let Some(engine) = self.engine(slice)
                && engine.claim() == claim
            {
                engine.stop_lane(lane);
                self.pump(now, slice);
            }
        }
        if answer == CommitAnswer::NotAMember && finished.sent_at.is_some() {
            self.handle_lost(now);
        }
        self.release_drained(now);
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.quiet_until = self.quiet_until.filter(|until| *until > now);
        let slices: Vec<Slice> = self.slices.keys().copied().collect();
        for slice in slices {
            match self.slices.get_mut(&slice) {
                Some(Ownership::Claiming(acquiring)) => {
                    if let Some((_, epoch)) = acquiring.refence.take_if(|(at, _)| *at <= now) {
                        let claim = acquiring.claim;
                        self.write_fence(slice, claim, epoch);
                    }
                }
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

    /// The next request to send, if there is room and any may start. Slices take turns; replays
    /// come when nothing else may start and half of the room is free.
    pub fn poll_attempt(&mut self, now: Timestamp) -> Option<StartAttempt> {
        let max = self.settings.in_flight_max;
        if self.in_flight >= max || self.quiet_until.is_some_and(|until| now < until) {
            return None;
        }
        let mut room = Room {
            lease: self.lease.term(),
            unproven: self.unproven_in_flight < max.div_ceil(2),
            untried: self.unproven_in_flight < (3 * max).div_ceil(4),
            replays: false,
            lease_wanted: false,
        };
        let mut attempt = self.next_attempt(now, &mut room);
        if attempt.is_none() && self.in_flight < max / 2 {
            room.replays = true;
            attempt = self.next_attempt(now, &mut room);
        }
        if room.lease_wanted && !self.lease_wanted {
            self.lease_wanted = true;
            if self.lease.term().was_held() {
                self.observe(Observation::LeaseEnded);
            }
            self.commits.hurry_renewal(self.lease.renewal_at(now));
            self.commit_if_due(now);
        }
        if let Some(StartAttempt { ticket, .. }) = &attempt {
            self.last_turn = ticket.slice;
            self.in_flight += 1;
            self.unproven_in_flight += usize::from(ticket.unproven);
        }
        attempt
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
                Ownership::Claiming(acquiring) => acquiring.refence.map(|(at, _)| at),
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
        match self.slices.get_mut(&slice)? {
            Ownership::Claiming(_) => None,
            Ownership::Active(engine) | Ownership::Draining(engine, _) => Some(engine),
        }
    }

    fn acquiring(&mut self, slice: Slice, claim: Claim) -> Option<&mut Acquiring> {
        match self.slices.get_mut(&slice)? {
            Ownership::Claiming(acquiring) if acquiring.claim == claim => Some(acquiring),
            _ => None,
        }
    }

    /// Starts the engine of a slice once its offsets are known and its fence holds.
    fn activate(&mut self, now: Timestamp, slice: Slice) {
        let Some(ownership @ Ownership::Claiming(_)) = self.slices.get_mut(&slice) else {
            return;
        };
        let Ownership::Claiming(acquiring) = ownership else {
            unreachable!("just matched")
        };
        if acquiring.committed.is_none() || acquiring.claimed.is_none() {
            return;
        }
        let claim = acquiring.claim;
        let (committed, backlog_end, faulty) = acquiring.committed.take().expect("just looked");
        let claimed = acquiring.claimed.take().expect("just looked");
        let later = std::mem::take(&mut acquiring.later);
        let Settings {
            seed,
            defaults,
            claimant,
            ..
        } = &self.settings;
        let acquired = Acquired {
            slice,
            claim,
            claimant: *claimant,
            committed,
            backlog_end,
            faulty,
            claimed,
        };
        let mut engine = SliceEngine::new(now, acquired, *seed, defaults.clone());
        for entry in later {
            engine.handle_state(now, &entry);
        }
        *ownership = Ownership::Active(Box::new(engine));
        self.commits.hurry_renewal(now);
        self.orders.push_back(Order::LoadEndpoints { slice, claim });
        self.pump(now, slice);
    }

    fn write_fence(&mut self, slice: Slice, claim: Claim, epoch: Epoch) {
        let claimant = self.settings.claimant;
        let Some(acquiring) = self.acquiring(slice, claim) else {
            return;
        };
        acquiring.fences += 1;
        let id = WriteId {
            slice,
            claim,
            // Far from the numbers of the engine that follows under the same claim.
            number: u64::MAX - acquiring.fences,
        };
        let write = Write::Fence { epoch, claimant };
        self.orders.push_back(Order::Write { id, write });
    }

    fn end_attempt(&mut self, ticket: Ticket) {
        let less = |count: usize, by: usize| count.checked_sub(by).expect("one end per attempt");
        self.in_flight = less(self.in_flight, 1);
        self.unproven_in_flight = less(self.unproven_in_flight, usize::from(ticket.unproven));
    }

    fn next_attempt(&mut self, now: Timestamp, room: &mut Room) -> Option<StartAttempt> {
        let last = self.last_turn;
        let after = (Bound::Excluded(last), Bound::Unbounded);
        let found = first_attempt(self.slices.range_mut(after), now, room);
        let found = found.or_else(|| first_attempt(self.slices.range_mut(..=last), now, room));
        // Asking for attempts may lead to orders: a reservation that has to be written first.
        let asking = |(slice, ownership): (&Slice, &Ownership)| {
            matches!(ownership, Ownership::Active(engine) if engine.has_orders()).then_some(*slice)
        };
        for slice in self.slices.iter().filter_map(asking).collect::<Vec<_>>() {
            self.pump(now, slice);
        }
        found
    }

    fn wake_slices(&mut self) {
        for ownership in self.slices.values_mut() {
            if let Ownership::Active(engine) = ownership {
                engine.wake_all();
            }
        }
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
        while let Some(order) = engine.poll_order() {
            self.orders.push_back(order);
        }
        let claim = engine.claim();
        for (lane, records) in engine.take_settled() {
            self.commits.settled(now, (slice, claim, lane), records);
        }
        if matches!(self.slices.get(&slice), Some(Ownership::Draining(..))) {
            self.release_drained(now);
        }
        self.commit_if_due(now);
    }

    fn drain(&mut self, now: Timestamp, slice: Slice) {
        match self.slices.remove(&slice) {
            Some(Ownership::Active(mut engine)) => {
                engine.drain(now);
                self.slices
                    .insert(slice, Ownership::Draining(engine, now + DRAIN_MAX));
                self.pump(now, slice);
            }
            Some(Ownership::Claiming(_)) => self.orders.push_back(Order::Released(slice)),
            Some(draining @ Ownership::Draining(..)) => {
                self.slices.insert(slice, draining);
            }
            None => {}
        }
    }

    /// Lets go of every slice that is drained and whose last commit was accepted, and answers the
    /// group when none is left of what it asked for.
    fn release_drained(&mut self, now: Timestamp) {
        let mut done = Vec::new();
        for (&slice, ownership) in &self.slices {
            let Ownership::Draining(engine, until) = ownership else {
                continue;
            };
            if *until <= now || (engine.is_drained() && !self.commits.is_open(slice)) {
                done.push(slice);
            } else if engine.is_drained() {
                self.commits.hurry();
            }
        }
        for slice in done {
            self.release(slice);
        }
        let open = |slice: &Slice| self.slices.contains_key(slice);
        if self
            .revoked
            .as_ref()
            .is_some_and(|revoked| !revoked.iter().any(open))
        {
            self.revoked = None;
            self.orders.push_back(Order::HandBack);
        }
        self.leave_if_done();
        self.commit_if_due(now);
    }

    fn release(&mut self, slice: Slice) {
        self.slices.remove(&slice);
        self.commits.forget(slice);
        self.orders.push_back(Order::Released(slice));
    }

    fn leave_if_done(&mut self) {
        if self.leaving && !self.left && self.slices.is_empty() && self.revoked.is_none() {
            self.left = true;
            self.orders.push_back(Order::Leave);
        }
    }

    fn commit_if_due(&mut self, now: Timestamp) {
        if self.commits.due_at().is_none_or(|at| at > now) {
            return;
        }
        let slices = &self.slices;
        let engine = |slice| match slices.get(&slice)? {
            Ownership::Active(engine) | Ownership::Draining(engine, _) => Some(engine),
            Ownership::Claiming(_) => None,
        };
        if self.commits.renewal_is_due(now) {
            let next = next_lane(slices, self.commits.last_renewed());
            self.commits.renew(now, next);
        }
        let entries = self.commits.start(now, |(slice, claim, lane)| {
            engine(slice)
                .filter(|engine| engine.claim() == claim)?
                .commit_point(lane)
        });
        if !entries.is_empty() {
            self.orders.push_back(Order::Commit(entries));
        }
    }
}

/// The next lane, in turn, that has something to commit.
fn next_lane(slices: &BTreeMap<Slice, Ownership>, last: Option<LaneKey>) -> Option<LaneKey> {
    let start = last.map_or(Slice(0), |(slice, _, _)| slice);
    let after = last.map(|(slice, _, lane)| (slice, lane));
    let lanes = |range: (Bound<Slice>, Bound<Slice>)| {
        slices.range(range).flat_map(|(slice, ownership)| {
            let engine = match ownership {
                Ownership::Active(engine) | Ownership::Draining(engine, _) => Some(engine),
                Ownership::Claiming(_) => None,
            };
            engine.into_iter().flat_map(move |engine| {
                let lanes = Lane::all().filter(|lane| engine.has_commit_point(*lane));
                lanes.map(move |lane| (*slice, engine.claim(), lane))
            })
        })
    };
    let later = lanes((Bound::Included(start), Bound::Unbounded))
        .find(|(slice, _, lane)| after.is_none_or(|after| (*slice, *lane) > after));
    later.or_else(|| lanes((Bound::Unbounded, Bound::Included(start))).next())
}

fn first_attempt<'a>(
    mut slices: impl Iterator<Item = (&'a Slice, &'a mut Ownership)>,
    now: Timestamp,
    room: &mut Room,
) -> Option<StartAttempt> {
    slices.find_map(|(_, ownership)| match ownership {
        Ownership::Active(engine) => engine.poll_attempt(now, room),
        Ownership::Claiming(_) | Ownership::Draining(..) => None,
    })
}
