//! The installation and its time: what happens next, and what the broker does with it.
//!
//! Decides latencies, the order in which things happen, and the broker's side of every request,
//! with the faults that the plan has on. All of it from one seed: no thread, no clock, no map
//! without order. Time jumps from one thing that happens to the next.

use std::collections::BTreeMap;
use std::io::Write as _;

use postrider_domain::{Lane, Slice, SliceCount, Timestamp};

use crate::agenda::{Agenda, Event, Request};
use crate::audit::Audit;
use crate::clock::{BEGIN, Clock, HOUR, MICROS, MINUTE, Micros};
use crate::engine::{
    Claim, CommitAnswer, CommitEntry, Committed, LaneBody, Reading, WorkerSettings, Write,
    WriteFailure, WriteId, Written, lane_record, slice_of, written,
};
use crate::group::{Fence, Group, MemberId};
use crate::logs::Logs;
use crate::plan::Plan;
use crate::process::{Channel, Input, Process, State};
use crate::traffic::Merchant;

/// A run that takes more steps goes round in circles: so many, and so many for each second of its
/// time, several times what a quiet installation takes.
const STEPS_MAX: u64 = 5_000_000;
const STEPS_PER_SECOND_MAX: u64 = 20;

/// The whole installation.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) settings: WorkerSettings,
    pub(crate) rng: fastrand::Rng,
    pub(crate) now: Micros,
    steps: u64,
    agenda: Agenda,
    pub(crate) logs: Logs,
    pub(crate) group: Group,
    pub(crate) processes: Vec<Process>,
    pub(crate) merchants: Vec<Merchant>,
    pub(crate) slice_count: SliceCount,
    pub(crate) broker_clock: Clock,
    pub(crate) coordinator_down_until: Micros,
    pub(crate) partition_down_until: BTreeMap<Slice, Micros>,
    pub(crate) healed: bool,
    pub(crate) audit: Audit,
    trace: Option<Box<dyn std::io::Write>>,
}

impl World {
    pub(crate) fn new(seed: u64, trace: Option<Box<dyn std::io::Write>>) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let plan = Plan::of(seed, &mut rng).flooded(seed);
        let slice_count = SliceCount::new(plan.slices).expect("1 to 6 slices");
        let logs = Logs::new(plan.slices, &mut rng);
        let settings = crate::traffic::worker_settings(&plan, &mut rng);
        let mut world = Self {
            settings,
            now: BEGIN,
            steps: 0,
            agenda: Agenda::default(),
            logs,
            group: Group::new(plan.slices),
            processes: (0..plan.workers).map(|_| Process::new()).collect(),
            merchants: Vec::new(),
            slice_count,
            broker_clock: Clock::drawn(&mut rng, plan.clock_offset, 0),
            coordinator_down_until: 0,
            partition_down_until: BTreeMap::new(),
            healed: false,
            audit: Audit::new(&plan),
            trace,
            rng,
            plan,
        };
        world.trace(|world| format!("{:?}", world.plan));
        world.open();
        world
    }

    fn open(&mut self) {
        self.settle_merchants();
        for host in 0..self.plan.workers {
            let delay = self.rng.u64(..10 * MICROS);
            self.later(delay, Event::Start(host));
        }
        let end = self.plan.faulty_for;
        for _ in 0..self.plan.bursts {
            let at = self.rng.u64(..end);
            self.later(at, Event::Burst);
        }
        if self.plan.flood.is_some() {
            let at = self.rng.u64(..end);
            self.later(at, Event::Flood);
        }
        self.plan_strikes();
        self.later(end, Event::Heal);
    }

    /// Runs to the end, or to the first broken promise.
    pub(crate) fn run(&mut self) {
        while self.audit.violation().is_none() && self.step() {}
    }

    fn step(&mut self) -> bool {
        self.steps += 1;
        if self.steps > STEPS_MAX + self.elapsed() / MICROS * STEPS_PER_SECOND_MAX {
            self.audit.endless(self.now);
        }

        let waking = self
            .processes
            .iter()
            .enumerate()
            .min_by_key(|(_, process)| process.wake_at);
        let (host, wake_at) =
            waking.map_or((0, Micros::MAX), |(host, process)| (host, process.wake_at));
        if wake_at < self.agenda.next_at().unwrap_or(Micros::MAX) {
            self.now = wake_at.max(self.now);
            self.wake(host);
            return true;
        }
        let Some((at, event)) = self.agenda.pop() else {
            return false;
        };
        self.now = at.max(self.now);
        self.happen(event)
    }

    fn happen(&mut self, event: Event) -> bool {
        match event {
            Event::Process(host, life, channel, input) => {
                self.reach_process(host, life, channel, input)
            }
            Event::Broker(host, life, left_at, channel, request) => {
                self.reach_broker(host, life, left_at, channel, request);
            }
            Event::Arrival(sent) => self.arrive(*sent),
            Event::Heartbeat(host, life) => self.heartbeat_due(host, life),
            Event::Expire(member, host, life, silence) => self.expire(member, host, life, silence),
            Event::Start(host) => self.start(host),
            Event::Freeze(host, life, length) => self.freeze_again(host, life, length),
            Event::Thaw(host, life) => self.thaw(host, life),
            Event::CutEnds(host) => self.cut_ends(host),
            Event::Strike(strike) => self.strike(strike),
            Event::Burst => self.burst(),
            Event::Flood => self.flood(),
            Event::Repeat(item) => self.repeat(item),
            Event::Mood(merchant) => self.change_mood(merchant),
            Event::Heal => self.heal(),
            Event::End => return self.end(),
        }
        true
    }

    /// Everything was healed long ago: is all done?
    fn end(&mut self) -> bool {
        let waits = self.audit.open_items();
        if waits == 0 && self.all_committed() {
            let requests: u32 = self
                .processes
                .iter()
                .flat_map(|p| p.requests.values())
                .sum();
            if requests == 0 {
                self.audit.finish(self.now);
                return false;
            }
        }
        let committed = self.all_committed();
        self.audit.check_progress(self.now, committed);
        self.later(10 * MINUTE, Event::End);
        true
    }

    fn all_committed(&self) -> bool {
        // How far the backlog is settled, each endpoint says for itself.
        let committed = |lane| lane != Lane::Backlog;
        let mut lanes = self.logs.lanes().filter(|((_, lane), _)| committed(*lane));
        lanes.all(|(&(slice, lane), log)| {
            log.records.last().is_none_or(|last| {
                self.logs
                    .committed(slice, lane)
                    .is_some_and(|(offset, _)| offset > last.offset)
            })
        })
    }

    /// True time since the run began.
    pub(crate) const fn elapsed(&self) -> Micros {
        self.now - BEGIN
    }

    pub(crate) fn later(&mut self, after: Micros, event: Event) {
        self.at(self.now + after, event);
    }

    pub(crate) fn at(&mut self, at: Micros, event: Event) {
        self.agenda.push(at, event);
    }

    /// A number that nothing else has.
    pub(crate) const fn unique(&mut self) -> u64 {
        self.agenda.unique()
    }

    pub(crate) fn trace(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.trace.is_none() {
            return;
        }
        let line = line(self);
        let elapsed = self.elapsed();
        let (hours, minutes) = (elapsed / HOUR, elapsed / MINUTE % 60);
        let seconds = elapsed % MINUTE;
        if let Some(trace) = &mut self.trace {
            let (whole, parts) = (seconds / MICROS, seconds % MICROS);
            // A reader that went away is no reason to stop.
            drop(writeln!(
                trace,
                "{hours:3}:{minutes:02}:{whole:02}.{parts:06} {line}"
            ));
        }
    }

    pub(crate) fn chance(&mut self, permille: u32) -> bool {
        !self.healed && self.rng.u32(..1_000) < permille
    }

    pub(crate) fn latency(&mut self) -> Micros {
        if self.rng.u8(..) == 0 {
            self.rng.u64(2_000..60_000)
        } else {
            self.rng.u64(100..2_000)
        }
    }

    /// From a process to the broker.
    pub(crate) fn send(&mut self, host: usize, channel: Channel, request: Request) {
        let left_at = self.now + self.rng.u64(..1_000);
        let arrives = left_at + self.latency();
        let process = &mut self.processes[host];
        let before = process.up.get(&channel).copied().unwrap_or(0);
        let at = arrives.max(before);
        if !matches!(channel, Channel::Alone(_)) {
            process.up.insert(channel, at);
        }
        let life = process.life;
        self.at(at, Event::Broker(host, life, left_at, channel, request));
    }

    /// To a process, in the life it has now.
    pub(crate) fn hand(
        &mut self,
        host: usize,
        life: u32,
        after: Micros,
        channel: Channel,
        input: Input,
    ) {
        let process = &mut self.processes[host];
        if process.life != life {
            return;
        }
        let before = process.down.get(&channel).copied().unwrap_or(0);
        let at = (self.now + after).max(before);
        if !matches!(channel, Channel::Alone(_)) {
            process.down.insert(channel, at);
        }
        self.at(at, Event::Process(host, life, channel, input));
    }

    fn reach_broker(
        &mut self,
        host: usize,
        life: u32,
        left_at: Micros,
        channel: Channel,
        request: Request,
    ) {
        let process = &mut self.processes[host];
        let died_at = process.deaths[life as usize];
        if died_at < left_at {
            return;
        }
        if process.life == life
            && let State::Frozen(since) = process.state
            && since < left_at
        {
            process.stuck.push_back((channel, request));
            return;
        }
        if process.cut_until > self.now {
            let parked = Event::Broker(host, life, left_at, channel, request);
            process.parked.push(parked);
            return;
        }
        let mut not_before = 0;
        let asks_coordinator = matches!(
            request,
            Request::Join
                | Request::Heartbeat
                | Request::Leave(_)
                | Request::Commit { .. }
                | Request::Offsets(..)
        );
        if asks_coordinator {
            not_before = not_before.max(self.coordinator_down_until);
        }
        let partition = match (&request, channel) {
            (Request::Table(slice, _) | Request::State(slice, _), _) => Some(*slice),
            (
                Request::Fetch(_) | Request::Write(..),
                Channel::Lane(slice, _)
                | Channel::Copies(slice, _)
                | Channel::Attempts(slice)
                | Channel::StateWrites(slice)
                | Channel::DeadLetters(slice),
            ) => Some(slice),
            _ => None,
        };
        if let Some(slice) = partition {
            not_before =
                not_before.max(self.partition_down_until.get(&slice).copied().unwrap_or(0));
        }
        if not_before > self.now {
            self.at(
                not_before,
                Event::Broker(host, life, left_at, channel, request),
            );
            return;
        }
        match request {
            Request::Join => self.join(host, life),
            Request::Heartbeat => self.take_heartbeat(host, life),
            Request::Leave(member) => {
                self.group.remove(member);
                self.trace(|_| format!("broker: member {member} left"));
                self.kick();
            }
            Request::Commit { member, entries } => self.take_commit(host, life, member, entries),
            Request::Offsets(slice, claim) => self.answer_offsets(host, life, slice, claim),
            Request::Table(slice, claim) => self.answer_table(host, life, slice, claim),
            Request::State(slice, claim) => self.answer_state(host, life, slice, claim),
            Request::Fetch(reading) => self.answer_fetch(host, life, reading),
            Request::Write(id, write) => self.take_write(host, life, channel, id, write),
        }
    }

    fn answer_offsets(&mut self, host: usize, life: u32, slice: Slice, claim: Claim) {
        let committed: Vec<Committed> = Lane::all()
            .map(|lane| {
                // What was never committed is read from its beginning.
                let committed = self.logs.committed(slice, lane);
                committed.or_else(|| Some((self.logs.log(slice, lane).start, String::new())))
            })
            .collect();
        let committed = Box::new(committed.try_into().expect("one per lane"));
        let backlog_end = self.logs.log(slice, Lane::Backlog).end;
        let after = self.latency();
        self.hand(
            host,
            life,
            after,
            Channel::Offsets,
            Input::Offsets(slice, claim, committed, backlog_end),
        );
    }

    fn answer_table(&mut self, host: usize, life: u32, slice: Slice, claim: Claim) {
        let process = &mut self.processes[host];
        let Some(follower) = process.followers.get_mut(&slice) else {
            return;
        };
        if process.life != life || follower.claim != claim {
            return;
        }
        let table = self.logs.table(slice);
        let endpoints = table[follower.position..].to_vec();
        follower.position = table.len();
        let loaded = !follower.loaded && follower.position >= follower.wanted;
        follower.loaded |= loaded;
        if endpoints.is_empty() && !loaded {
            return;
        }
        let after = self.latency();
        let input = Input::Table {
            slice,
            claim,
            endpoints,
            loaded,
        };
        self.hand(host, life, after, Channel::Table(slice), input);
    }

    fn answer_state(&mut self, host: usize, life: u32, slice: Slice, claim: Claim) {
        let process = &mut self.processes[host];
        let Some(reader) = process.state_readers.get_mut(&slice) else {
            return;
        };
        if process.life != life || reader.claim != claim {
            return;
        }
        let log = self.logs.state(slice);
        let entries = log[reader.position..].to_vec();
        reader.position = log.len();
        let loaded = !reader.loaded && reader.position >= reader.wanted;
        reader.loaded |= loaded;
        if entries.is_empty() && !loaded {
            return;
        }
        let after = self.latency();
        let input = Input::State {
            slice,
            claim,
            entries,
            loaded,
        };
        self.hand(host, life, after, Channel::State(slice), input);
    }

    fn answer_fetch(&mut self, host: usize, life: u32, reading: Reading) {
        let max = self.rng.usize(1..=self.plan.batch_max);
        let process = &mut self.processes[host];
        let Some(reader) = process.readers.get_mut(&(reading.slice, reading.lane)) else {
            return;
        };
        if process.life != life || reader.reading != reading {
            return;
        }
        let channel = Channel::Lane(reading.slice, reading.lane);
        let log = self.logs.log(reading.slice, reading.lane);
        let Some(records) = log.read(reader.next, max) else {
            let after = self.latency();
            self.hand(host, life, after, channel, Input::LaneLost(reading));
            return;
        };
        let Some(last) = records.last() else {
            reader.waits = true;
            return;
        };
        reader.next = Some(last.offset + 1);
        let handed = records.iter().map(|stored| {
            let bytes = match &stored.body {
                LaneBody::Delivery(delivery) => 200 + delivery.event.data.len(),
                LaneBody::Garbage(record) => record.len(),
            };
            lane_record(
                reading,
                stored.offset,
                stored.appended_at,
                bytes,
                &stored.body,
            )
        });
        let handed = handed.collect();
        let after = self.latency();
        self.hand(host, life, after, channel, Input::Records(handed));
        self.send(host, channel, Request::Fetch(reading));
    }

    /// An endpoint changed: whoever follows its slice hears of it.
    pub(crate) fn wake_followers(&mut self, slice: Slice) {
        for host in 0..self.processes.len() {
            let process = &self.processes[host];
            if let Some(follower) = process.followers.get(&slice) {
                let (claim, life) = (follower.claim, process.life);
                let at = self.now + self.rng.u64(..50_000);
                self.at(
                    at,
                    Event::Broker(
                        host,
                        life,
                        self.now,
                        Channel::Table(slice),
                        Request::Table(slice, claim),
                    ),
                );
            }
        }
    }

    /// A record came to `endpoint-state`: whoever reads it hears of it.
    fn wake_state_readers(&mut self, slice: Slice) {
        for host in 0..self.processes.len() {
            let process = &self.processes[host];
            if let Some(reader) = process.state_readers.get(&slice) {
                let (claim, life) = (reader.claim, process.life);
                let at = self.now + self.rng.u64(..2_000);
                let (channel, request) = (Channel::State(slice), Request::State(slice, claim));
                self.at(at, Event::Broker(host, life, self.now, channel, request));
            }
        }
    }

    /// A record came: whoever waits for one asks again.
    fn wake_readers(&mut self, slice: Slice, lane: Lane) {
        for host in 0..self.processes.len() {
            let process = &mut self.processes[host];
            let Some(reader) = process.readers.get_mut(&(slice, lane)) else {
                continue;
            };
            if !std::mem::take(&mut reader.waits) {
                continue;
            }
            let (reading, life) = (reader.reading, process.life);
            let at = self.now + self.rng.u64(..500);
            // The fetch is with the broker already, and is answered whatever its sender does now.
            self.at(
                at,
                Event::Broker(
                    host,
                    life,
                    0,
                    Channel::Lane(slice, lane),
                    Request::Fetch(reading),
                ),
            );
        }
    }

    /// Appends to a lane what the router or a worker wrote.
    pub(crate) fn append(&mut self, slice: Slice, lane: Lane, item: u32, body: LaneBody) -> i64 {
        let gap = if self.rng.u8(..8) == 0 {
            self.rng.i64(1..=self.plan.gap_max)
        } else {
            0
        };
        let shown = self.broker_clock.shows(self.now);
        let appended_at = Timestamp::from_millis(shown.as_millis());
        let attempts = match &body {
            LaneBody::Delivery(delivery) => delivery.attempts,
            LaneBody::Garbage(_) => 0,
        };
        let offset = self
            .logs
            .append((slice, lane), gap, appended_at, item, body);
        self.audit
            .copied(self.now, item, attempts, (slice, lane, offset));
        self.wake_readers(slice, lane);
        offset
    }

    fn take_write(
        &mut self,
        host: usize,
        life: u32,
        channel: Channel,
        id: WriteId,
        write: Box<Write>,
    ) {
        let after = self.latency();
        if self.plan.faults.write_fails && self.chance(30) {
            self.trace(|_| format!("broker: refused a write of w{host}"));
            self.audit.disturb(self.now, 5 * MICROS);
            self.hand(
                host,
                life,
                after,
                channel,
                Input::WriteFailed(id, write, WriteFailure::Passing),
            );
            return;
        }
        let lost = self.plan.faults.write_lost && self.chance(25);
        let offset = self.store(host, id, &write, lost);
        let (after, input) = if lost {
            let after = self.rng.u64(MICROS..30 * MICROS);
            self.audit.disturb(self.now, after + 5 * MICROS);
            self.trace(|_| "broker: the acknowledgement is lost".to_owned());
            (after, Input::WriteFailed(id, write, WriteFailure::Passing))
        } else if self.plan.faults.write_late && self.chance(30) {
            let after = self.rng.u64(100_000..10 * MICROS);
            self.audit.disturb(self.now, after + 5 * MICROS);
            (after, Input::Acked(id, offset))
        } else {
            (after, Input::Acked(id, offset))
        };
        self.hand(host, life, after, channel, input);
    }

    /// A write of a worker reaches its log; `lost` = the worker will not know.
    fn store(&mut self, host: usize, id: WriteId, write: &Write, lost: bool) -> i64 {
        let slice = slice_of(id);
        match written(write) {
            Written::Copy(lane, delivery) => {
                let item = self.audit.item_of(delivery.id);
                self.trace(|_| {
                    format!(
                        "broker: {lane}/{slice} has #{item} after {} attempts from w{host}",
                        delivery.attempts
                    )
                });
                if lost {
                    self.audit.forked(item);
                }
                self.append(slice, lane, item, LaneBody::Delivery(delivery))
            }
            Written::Attempt {
                delivery,
                attempt,
                report,
                outcome,
                ..
            } => {
                let item = self.audit.item_of(delivery.id);
                self.trace(|_| format!("broker: attempts/{slice} has #{item} attempt {attempt}: {outcome:?} from w{host}"));
                self.audit.attempt_logged(
                    self.now,
                    item,
                    attempt,
                    report.as_deref(),
                    outcome,
                    lost,
                );
                0
            }
            Written::Dead {
                delivery,
                attempts,
                reason,
            } => {
                let item = self.audit.item_of(delivery.id);
                self.trace(|_| {
                    format!("broker: dead-letters/{slice} has #{item}: {reason} from w{host}")
                });
                self.audit
                    .dead_letter(self.now, item, attempts, reason, lost);
                0
            }
            Written::Garbage(record) => {
                let item = crate::traffic::garbage_item(&record);
                self.audit.garbage_buried(self.now, item, lost);
                0
            }
            Written::State(entry) => {
                self.trace(|_| {
                    format!("broker: endpoint-state/{slice} has {entry:?} from w{host}")
                });
                self.audit.state_written(self.now, slice, &entry);
                let offset = self.logs.append_state(slice, entry);
                self.wake_state_readers(slice);
                offset
            }
        }
    }

    fn take_commit(
        &mut self,
        host: usize,
        life: u32,
        member: Option<(MemberId, u32)>,
        entries: Vec<CommitEntry>,
    ) {
        let mut after = self.latency() + 3_000;
        if self.plan.faults.commit_late && self.chance(40) {
            after += self.rng.u64(MICROS..8 * MICROS);
            // Several in a row, and the lease runs out.
            self.audit.disturb(self.now, 60 * MICROS);
        }
        let answer = match self.group.fence(member) {
            Fence::UnknownMember => CommitAnswer::NotAMember,
            Fence::StaleEpoch => CommitAnswer::Refused,
            Fence::Passed if self.plan.faults.commit_refused && self.chance(60) => {
                CommitAnswer::Refused
            }
            Fence::Passed => {
                let lost = self.plan.faults.commit_lost && self.chance(40);
                self.store_commit(host, member, entries);
                if lost {
                    after += self.rng.u64(MICROS..10 * MICROS);
                    CommitAnswer::Refused
                } else {
                    CommitAnswer::Accepted
                }
            }
        };
        if answer != CommitAnswer::Accepted {
            self.trace(|_| format!("broker: commit of w{host} answered {answer:?}"));
            self.audit.commit_trouble(self.now + after);
        }
        self.hand(host, life, after, Channel::Group, Input::Committed(answer));
    }

    fn store_commit(
        &mut self,
        host: usize,
        member: Option<(MemberId, u32)>,
        entries: Vec<CommitEntry>,
    ) {
        self.audit.commit_form(self.now, &entries);
        for entry in entries {
            let CommitEntry {
                slice,
                lane,
                offset,
                metadata,
            } = entry;
            let before = self.logs.committed(slice, lane);
            if before
                .as_ref()
                .is_some_and(|(at, map)| *at == offset && *map == metadata)
            {
                continue;
            }
            self.trace(|_| {
                let held = if metadata.is_empty() {
                    ""
                } else {
                    " with holes"
                };
                format!("broker: {lane}/{slice} committed to {offset}{held} by w{host}")
            });
            let holder = self.group.holder(slice);
            if holder.is_some() && holder != member.map(|(id, _)| id) {
                self.audit.foreign_commit(self.now, host, slice, lane);
            }
            let log = self.logs.log(slice, lane);
            self.audit.committed(
                self.now,
                (slice, lane),
                log,
                before.as_ref(),
                (offset, &metadata),
            );
            self.logs.commit(slice, lane, offset, metadata);
        }
    }
}
