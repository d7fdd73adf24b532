//! What a worker's process does around the engine: it hands in what comes and carries out what the
//! engine orders, as the dispatcher's shell does.
//!
//! Decides when a process wakes, what it starts with, and the client library's side of the group.
//! Leaves the broker's side to `world`, the judgement to `audit`.

use std::collections::{BTreeMap, BTreeSet};

use postrider_domain::{
    AttemptError, AttemptReport, AttemptResult, ErrorKind, Lane, Phases, RequestSummary, Slice,
};

use crate::agenda::{Event, Request};
use crate::clock::{Clock, MICROS, Micros};
use crate::engine::{
    Action, CommitAnswer, Node, StartAttempt, Ticket, Write, WriteId, Written, hand_out, slice_of,
    written,
};
use crate::group::{HeartbeatAnswer, MemberId};
use crate::process::{Channel, Follower, Input, Membership, Reader, State};
use crate::world::World;

/// A request on its way to a receiver.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) host: usize,
    pub(crate) life: u32,
    pub(crate) start: StartAttempt,
    pub(crate) started_at: Micros,
}

impl World {
    /// A process begins, with an empty memory.
    pub(crate) fn start(&mut self, host: usize) {
        let seed = self.rng.u64(..);
        let clock = Clock::drawn(&mut self.rng, self.plan.clock_offset, self.plan.clock_rate);
        let phase = self.rng.u64(..self.heartbeat_interval());
        let process = &mut self.processes[host];
        if process.state != State::Down {
            return;
        }
        process.forget();
        process.life += 1;
        process.deaths.push(Micros::MAX);
        process.state = State::Running;
        process.clock = clock;
        let claimant = (host as u64) << 32 | u64::from(process.life);
        process.node = Some(Node::new(&self.settings, claimant, seed));
        process.membership = Membership {
            phase,
            ..Membership::default()
        };
        self.trace(|_| format!("w{host} starts"));
        self.send(host, Channel::Group, Request::Join);
    }

    /// SIGKILL: what it sent goes on, all else is gone.
    pub(crate) fn kill(&mut self, host: usize) {
        let process = &mut self.processes[host];
        if process.state == State::Down {
            return;
        }
        let life = process.life;
        process.deaths[life as usize] = self.now;
        self.fall_silent(host);
        let process = &mut self.processes[host];
        process.forget();
        self.trace(|_| format!("w{host} is killed"));
        self.audit.memory_lost(self.now, (host, life), "crash");
    }

    /// From now on the coordinator hears nothing of it.
    pub(crate) fn fall_silent(&mut self, host: usize) {
        let (heartbeat, session) = (self.heartbeat_interval(), self.settings.session);
        let process = &mut self.processes[host];
        process.silence += 1;
        let (life, silence) = (process.life, process.silence);
        let Some(member) = process.membership.id else {
            return;
        };
        let past = (self.now - process.membership.phase) % heartbeat;
        let last = process.membership.unheard.unwrap_or(self.now - past);
        process.membership.unheard = Some(last);
        let at = (last + session.as_micros() as u64).max(self.now);
        self.at(at, Event::Expire(member, host, life, silence));
    }

    pub(crate) fn expire(&mut self, member: MemberId, host: usize, life: u32, silence: u32) {
        let process = &self.processes[host];
        let heard =
            process.life == life && process.silence != silence && process.state != State::Down;
        if heard || self.group.member(member).is_none() {
            return;
        }
        if self.coordinator_down_until > self.now {
            // Its successor gives everyone a whole session.
            let at = self.coordinator_down_until + self.settings.session.as_micros() as u64;
            self.at(at, Event::Expire(member, host, life, silence));
            return;
        }
        self.group.remove(member);
        self.trace(|_| format!("broker: member {member} (w{host}) is expelled"));
        self.audit.memory_lost(self.now, (host, life), "expelled");
        self.kick();
    }

    /// Every member that would hear something new sends its next heartbeat when it is due.
    pub(crate) fn kick(&mut self) {
        let members: Vec<MemberId> = self.group.members().collect();
        for id in members {
            if self.group.has_news(id)
                && let Some(member) = self.group.member(id)
            {
                let (host, life) = (member.host, member.life);
                self.plan_heartbeat(host, life, false);
            }
        }
    }

    pub(crate) fn plan_heartbeat(&mut self, host: usize, life: u32, at_once: bool) {
        let interval = self.heartbeat_interval();
        let process = &mut self.processes[host];
        let membership = &mut process.membership;
        if process.life != life || membership.id.is_none() || membership.busy {
            return;
        }
        membership.busy = true;
        let past = (self.now - membership.phase) % interval;
        let after = if at_once { 1_000 } else { interval - past };
        self.later(after, Event::Heartbeat(host, life));
    }

    /// The coordinator can hear of it again: what is overdue is sent at once, nothing else.
    pub(crate) fn speak_up(&mut self, host: usize) {
        let interval = self.heartbeat_interval();
        let process = &mut self.processes[host];
        let (life, membership) = (process.life, &mut process.membership);
        let Some(last) = membership.unheard else {
            return;
        };
        if membership.id.is_some() && last + interval <= self.now {
            membership.busy = true;
            let after = self.rng.u64(..200_000);
            self.later(after, Event::Heartbeat(host, life));
        } else {
            self.heard(host);
            self.plan_heartbeat(host, life, false);
        }
    }

    /// The coordinator knows that it is there; what came late says nothing of what follows.
    fn heard(&mut self, host: usize) {
        let now = self.now;
        let process = &mut self.processes[host];
        process.membership.unheard = None;
        if process.is_running() && process.cut_until <= now {
            process.silence += 1;
        } else {
            process.membership.unheard = Some(now);
            self.fall_silent(host);
        }
    }

    pub(crate) fn heartbeat_due(&mut self, host: usize, life: u32) {
        let process = &mut self.processes[host];
        if process.life != life {
            return;
        }
        if !process.is_running() || process.cut_until > self.now {
            // Planned again when it runs again.
            process.membership.busy = false;
            return;
        }
        self.send(host, Channel::Group, Request::Heartbeat);
    }

    pub(crate) fn take_heartbeat(&mut self, host: usize, life: u32) {
        let process = &self.processes[host];
        let membership = &process.membership;
        let Some(id) = membership.id.filter(|_| process.life == life) else {
            return;
        };
        let answer = self.group.heartbeat(id, &membership.current);
        self.heard(host);
        let after = self.latency();
        self.hand(host, life, after, Channel::Group, Input::Heartbeat(answer));
        self.kick();
    }

    pub(crate) fn join(&mut self, host: usize, life: u32) {
        let member = self.group.join(host, life);
        self.trace(|_| format!("broker: w{host} joins as member {member}"));
        let process = &self.processes[host];
        let (lives, silence) = (process.life == life, process.silence);
        if !lives || !process.is_running() {
            let at = self.now + self.settings.session.as_micros() as u64;
            self.at(at, Event::Expire(member, host, life, silence));
        }
        if lives {
            let after = self.latency();
            self.hand(host, life, after, Channel::Group, Input::Joined(member));
        }
        self.kick();
    }

    const fn heartbeat_interval(&self) -> Micros {
        self.settings.heartbeat.as_micros() as u64
    }

    /// Something comes to a process.
    pub(crate) fn reach_process(&mut self, host: usize, life: u32, channel: Channel, input: Input) {
        let process = &mut self.processes[host];
        if process.life != life {
            return;
        }
        match process.state {
            State::Down => {}
            State::Frozen(_) => process.inbox.push((channel, input)),
            State::Running => {
                self.take_input(host, input);
                self.carry_out(host);
            }
        }
    }

    /// The engine's deadline has come.
    pub(crate) fn wake(&mut self, host: usize) {
        let process = &mut self.processes[host];
        process.wake_at = Micros::MAX;
        process.deadline = None;
        if process.is_running() {
            self.with_node(host, |node, now| node.timeout(now));
            self.carry_out(host);
        }
    }

    pub(crate) fn cut_ends(&mut self, host: usize) {
        let process = &mut self.processes[host];
        if process.cut_until == 0 || process.cut_until > self.now {
            return;
        }
        process.cut_until = 0;
        for event in std::mem::take(&mut process.parked) {
            self.later(0, event);
        }
        self.trace(|_| format!("w{host} reaches the broker again"));
        if self.processes[host].is_running() {
            self.speak_up(host);
        }
    }

    fn with_node(&mut self, host: usize, act: impl FnOnce(&mut Node, postrider_domain::Timestamp)) {
        let process = &mut self.processes[host];
        let now = process.clock.shows(self.now);
        if let Some(node) = &mut process.node {
            act(node, now);
        }
    }

    pub(crate) fn take_input(&mut self, host: usize, input: Input) {
        match input {
            Input::Heartbeat(answer) => self.hear(host, answer),
            Input::Joined(member) => {
                let life = self.processes[host].life;
                self.processes[host].membership.id = Some(member);
                self.processes[host].membership.unheard = None;
                self.plan_heartbeat(host, life, true);
            }
            Input::Assigned(slices) => {
                let life = self.processes[host].life;
                self.trace(|_| format!("w{host} is assigned {slices:?}"));
                // What reached a frozen process before it was expelled makes no owner of it.
                let id = self.processes[host].membership.id;
                let is_member = id.is_some_and(|id| self.group.member(id).is_some());
                for &slice in slices.iter().filter(|_| is_member) {
                    self.audit.acquired(self.now, slice, (host, life));
                }
                self.with_node(host, |node, now| node.assigned(now, slices));
            }
            Input::Revoked(slices) => {
                self.trace(|_| format!("w{host} is asked for {slices:?}"));
                self.with_node(host, |node, now| node.revoked(now, slices));
            }
            Input::Lost => {
                let life = self.processes[host].life;
                self.trace(|_| format!("w{host} hears that all is lost"));
                self.audit.memory_lost(self.now, (host, life), "lost");
                self.with_node(host, Node::lost);
            }
            Input::Committed(answer) => {
                if answer == CommitAnswer::NotAMember {
                    let life = self.processes[host].life;
                    self.audit.memory_lost(self.now, (host, life), "no member");
                }
                self.with_node(host, |node, now| node.commit_finished(now, answer));
            }
            Input::Offsets(slice, claim, committed, backlog_end) => {
                self.with_node(host, |node, now| {
                    node.offsets(now, slice, claim, &committed, backlog_end)
                });
            }
            Input::Table {
                slice,
                claim,
                endpoints,
                loaded,
            } => {
                let followed = self.processes[host].followers.get(&slice).map(|f| f.claim);
                if followed == Some(claim) {
                    self.with_node(host, |node, now| {
                        for (id, endpoint) in endpoints {
                            node.endpoint(now, slice, id, endpoint);
                        }
                        if loaded {
                            node.endpoints_loaded(now, slice, claim);
                        }
                    });
                }
            }
            Input::State {
                slice,
                claim,
                entries,
                loaded,
            } => {
                let read = self.processes[host].state_readers.get(&slice);
                if read.map(|reader| reader.claim) == Some(claim) {
                    self.with_node(host, |node, now| {
                        for entry in entries {
                            node.state(now, slice, claim, entry);
                        }
                        if loaded {
                            node.state_loaded(slice, claim);
                        }
                    });
                }
            }
            Input::Records(records) => {
                for mut record in records {
                    let handed = hand_out(&mut record);
                    self.with_node(host, |node, now| node.record(now, record));
                    let process = &self.processes[host];
                    let (life, shows) = (process.life, process.clock.shows(self.now));
                    self.audit.handed(self.now, shows, (host, life), handed);
                    if self.plan.orders_after_each {
                        self.carry_out(host);
                    }
                }
            }
            Input::LaneLost(reading) => {
                self.trace(|_| format!("w{host} cannot read {}/{}", reading.lane, reading.slice));
                let life = self.processes[host].life;
                self.audit
                    .lane_lost(self.now, (host, life), reading.slice, reading.lane);
                self.with_node(host, |node, now| node.lane_lost(now, reading));
            }
            Input::Acked(id, offset) => {
                self.write_ended(host, slice_of(id));
                self.processes[host].failed_writes.remove(&id);
                self.with_node(host, |node, now| node.write_acked(now, id, offset));
            }
            Input::WriteFailed(id, write, failure) => {
                self.write_ended(host, slice_of(id));
                if !matches!(*write, Write::Fence { .. }) {
                    // A fence is written again under another number.
                    self.processes[host].failed_writes.insert(id);
                }
                self.with_node(host, |node, now| {
                    node.write_failed(now, id, *write, failure)
                });
            }
            Input::Launch(start, polled_at) => self.launch(host, *start, polled_at),
            Input::Report(ticket, report) => self.report(host, ticket, *report),
            Input::ShutDown => {
                self.trace(|_| format!("w{host} shall end"));
                self.processes[host].shutting_down = true;
                self.with_node(host, Node::shut_down);
            }
        }
    }

    fn write_ended(&mut self, host: usize, slice: Slice) {
        if let Some(writes) = self.processes[host].writes.get_mut(&slice) {
            *writes -= 1;
        }
    }

    /// The client library compares what it has with what it shall have.
    fn hear(&mut self, host: usize, answer: HeartbeatAnswer) {
        let process = &mut self.processes[host];
        let life = process.life;
        let membership = &mut process.membership;
        membership.busy = false;
        let after = self.rng.u64(..2_000);
        match answer {
            HeartbeatAnswer::Fenced => {
                membership.id = None;
                membership.epoch = 0;
                membership.lost = true;
                membership.asked = None;
                membership.current.clear();
                self.hand(host, life, after, Channel::Group, Input::Lost);
            }
            HeartbeatAnswer::Assignment(epoch, shall) => {
                membership.epoch = epoch;
                if membership.leaving {
                    return;
                }
                let unwanted: BTreeSet<Slice> =
                    membership.current.difference(&shall).copied().collect();
                let new: Vec<Slice> = shall.difference(&membership.current).copied().collect();
                if membership.asked.is_none() {
                    if !unwanted.is_empty() {
                        membership.asked = Some(unwanted.clone());
                        let slices = unwanted.into_iter().collect();
                        self.hand(host, life, after, Channel::Group, Input::Revoked(slices));
                    } else if !new.is_empty() {
                        membership.current.extend(&new);
                        self.hand(host, life, after, Channel::Group, Input::Assigned(new));
                    }
                }
                let id = self.processes[host].membership.id;
                if id.is_some_and(|id| self.group.has_news(id)) {
                    self.plan_heartbeat(host, life, false);
                }
            }
        }
    }

    /// The application answers whatever is open.
    fn hand_back(&mut self, host: usize) {
        let membership = &mut self.processes[host].membership;
        if let Some(asked) = membership.asked.take() {
            for slice in &asked {
                membership.current.remove(slice);
            }
            let life = self.processes[host].life;
            self.trace(|_| format!("w{host} hands back {asked:?}"));
            self.processes[host].membership.busy = false;
            self.plan_heartbeat(host, life, true);
        } else if std::mem::take(&mut membership.lost) && !membership.leaving {
            self.send(host, Channel::Group, Request::Join);
        }
    }

    /// Orders first, then requests as long as there is room, until there are neither: asking for a
    /// request may lead to orders.
    pub(crate) fn carry_out(&mut self, host: usize) {
        loop {
            let process = &mut self.processes[host];
            let now = process.clock.shows(self.now);
            let Some(node) = &mut process.node else {
                return;
            };
            if let Some(action) = node.poll_action() {
                self.obey(host, action);
            } else if let Some(start) = node.poll_attempt(now) {
                self.ask_for(host, start);
            } else if let Some(action) = node.poll_action() {
                self.obey(host, action);
            } else {
                break;
            }
        }
        let process = &mut self.processes[host];
        let Some(node) = &process.node else {
            return;
        };
        let deadline = node.next_deadline();
        if deadline != process.deadline {
            process.deadline = deadline;
            let reaches = |at| process.clock.reaches(at, self.now);
            process.wake_at = deadline.map_or(Micros::MAX, reaches);
        }
    }

    fn obey(&mut self, host: usize, action: Action) {
        match action {
            Action::FetchOffsets { slice, claim } => {
                let life = self.processes[host].life;
                self.audit.claimed((host, life), slice, claim);
                self.send(host, Channel::Offsets, Request::Offsets(slice, claim));
            }
            Action::LoadState { slice, claim } => {
                let reader = Follower {
                    claim,
                    position: 0,
                    wanted: self.logs.state(slice).len(),
                    loaded: false,
                };
                self.processes[host].state_readers.insert(slice, reader);
                self.send(host, Channel::State(slice), Request::State(slice, claim));
            }
            Action::LoadEndpoints { slice, claim } => {
                let follower = Follower {
                    claim,
                    position: 0,
                    wanted: self.logs.table(slice).len(),
                    loaded: false,
                };
                self.processes[host].followers.insert(slice, follower);
                self.send(host, Channel::Table(slice), Request::Table(slice, claim));
            }
            Action::Read { reading, from } => {
                if reading.lane == Lane::Backlog {
                    self.trace(|_| {
                        format!("w{host} reads backlog/{} from {from:?}", reading.slice)
                    });
                }
                let reader = Reader {
                    reading,
                    next: from,
                    waits: false,
                };
                let key = (reading.slice, reading.lane);
                self.processes[host].readers.insert(key, reader);
                self.send(
                    host,
                    Channel::Lane(reading.slice, reading.lane),
                    Request::Fetch(reading),
                );
            }
            Action::StopReading { slice, lane } => {
                self.processes[host].readers.remove(&(slice, lane));
            }
            Action::Write { id, write } => {
                self.audit_write(host, &write);
                let slice = slice_of(id);
                *self.processes[host].writes.entry(slice).or_default() += 1;
                let channel = match written(&write) {
                    Written::Copy(lane, _) => Channel::Copies(slice, lane),
                    Written::Attempt { .. } => Channel::Attempts(slice),
                    Written::Dead { .. } | Written::Garbage(_) => Channel::DeadLetters(slice),
                    Written::State(_) => Channel::StateWrites(slice),
                };
                self.send(host, channel, Request::Write(id, write));
            }
            Action::Commit(entries) => {
                let membership = &self.processes[host].membership;
                let member = membership.id.map(|id| (id, membership.epoch));
                self.send(host, Channel::Group, Request::Commit { member, entries });
            }
            Action::Released(slice) => self.released(host, slice),
            Action::HandBack => self.hand_back(host),
            Action::Leave => self.leave(host),
            Action::Observe(observation) => {
                self.trace(|_| format!("w{host} observes {observation:?}"));
            }
        }
    }

    fn audit_write(&mut self, host: usize, write: &Write) {
        let life = self.processes[host].life;
        match written(write) {
            Written::Attempt {
                delivery,
                attempt,
                next_attempt_at,
                ..
            } => {
                let item = self.audit.item_of(delivery.id);
                self.audit
                    .decided((host, life), item, attempt, next_attempt_at);
            }
            Written::Copy(_, delivery) | Written::Dead { delivery, .. } => {
                let item = self.audit.item_of(delivery.id);
                self.audit.touched((host, life), item);
            }
            Written::Garbage(record) => {
                self.audit
                    .touched((host, life), crate::traffic::garbage_item(&record));
            }
            Written::State(_) => {}
        }
    }

    fn released(&mut self, host: usize, slice: Slice) {
        let process = &mut self.processes[host];
        let life = process.life;
        process.readers.retain(|(of, _), _| *of != slice);
        process.followers.remove(&slice);
        process.state_readers.remove(&slice);
        let open = |counts: &BTreeMap<Slice, u32>| counts.get(&slice).is_some_and(|n| *n > 0);
        let forced = open(&process.requests) || open(&process.writes);
        self.trace(|_| {
            format!(
                "w{host} lets go of {slice}{}",
                if forced { " with work under way" } else { "" }
            )
        });
        if forced {
            self.audit.released_by_force(self.now, slice, (host, life));
        }
    }

    fn leave(&mut self, host: usize) {
        let membership = &mut self.processes[host].membership;
        membership.leaving = true;
        if let Some(member) = membership.id.take() {
            self.send(host, Channel::Group, Request::Leave(member));
        }
        self.clean_end(host);
    }

    fn clean_end(&mut self, host: usize) {
        let process = &mut self.processes[host];
        let life = process.life;
        // What was sent leaves before it ends.
        process.deaths[life as usize] = self.now + MICROS;
        process.forget();
        self.trace(|_| format!("w{host} has left and ends"));
        let after = self.rng.u64(MICROS..60 * MICROS);
        self.later(after, Event::Start(host));
    }

    /// The engine asks for an attempt.
    fn ask_for(&mut self, host: usize, start: StartAttempt) {
        let process = &self.processes[host];
        let life = process.life;
        let ticket = start.ticket;
        let failed = |id: &WriteId| id.slice == ticket.slice && id.claim == ticket.claim;
        if let Some(id) = process.failed_writes.iter().find(|id| failed(id)) {
            self.audit.started_on_failed_writes(self.now, host, *id);
        }
        self.audit.polled(self.now, (host, life), &start);
        let channel = Channel::Alone(self.unique());
        let after = match self.rng.u8(..32) {
            0 => self.rng.u64(..60_000),
            _ => self.rng.u64(..300),
        };
        let input = Input::Launch(Box::new(start), self.now);
        self.hand(host, life, after, channel, input);
    }

    /// The request is handed to the kernel, if it is not too late.
    fn launch(&mut self, host: usize, start: StartAttempt, polled_at: Micros) {
        let process = &mut self.processes[host];
        let (life, shows) = (process.life, process.clock.shows(self.now));
        if Node::is_too_late(&start, shows) {
            self.audit.not_started((host, life), &start);
            self.with_node(host, |node, now| node.not_started(now, start.ticket));
            return;
        }
        *process.requests.entry(start.ticket.slice).or_default() += 1;
        let running: u32 = process.requests.values().sum();
        let item = self.audit.item_of(start.delivery.id);
        self.trace(|_| {
            let (endpoint, attempt) = (&start.endpoint.id, start.attempt);
            format!(
                "w{host} sends #{item} attempt {attempt} to {endpoint} ({})",
                start.ticket.slice
            )
        });
        self.audit
            .started(self.now, shows, (host, life), &start, polled_at, running);
        let sent = Sent {
            host,
            life,
            start,
            started_at: self.now,
        };
        let after = self.latency();
        self.later(after, Event::Arrival(Box::new(sent)));
    }

    /// A request reaches its receiver.
    pub(crate) fn arrive(&mut self, sent: Sent) {
        let Sent {
            host,
            life,
            start,
            started_at,
        } = sent;
        let endpoint = &start.endpoint.id;
        let mood = self.mood_of(endpoint);
        let reaction = mood.react(self.now, &mut self.rng);
        if reaction.taken {
            let item = self.audit.item_of(start.delivery.id);
            self.audit.taken(item);
        }
        let timeout = start.timeout.as_micros() as u64;
        let answered_at = reaction
            .after
            .map(|after| self.now + after.as_micros() as u64 + 500);
        let in_time = answered_at.filter(|at| *at < started_at + timeout);
        let (ends_at, result) = match in_time {
            Some(at) => (at, reaction.result),
            None => (started_at + timeout, timed_out()),
        };
        let shown_start = self.processes[host].clock.shows(started_at);
        let report = AttemptReport {
            started_at: shown_start,
            phases: Phases {
                total: std::time::Duration::from_micros(ends_at.saturating_sub(started_at)),
                ..Phases::default()
            },
            request: RequestSummary::default(),
            result,
        };
        let after = ends_at.saturating_sub(self.now);
        let channel = Channel::Alone(self.unique());
        let input = Input::Report(start.ticket, Box::new(report));
        self.hand(host, life, after, channel, input);
    }

    fn report(&mut self, host: usize, ticket: Ticket, report: AttemptReport) {
        let life = self.processes[host].life;
        if let Some(requests) = self.processes[host].requests.get_mut(&ticket.slice) {
            *requests -= 1;
        }
        let shows = self.processes[host].clock.shows(self.now);
        if let Some((item, attempt)) =
            self.audit
                .reported(self.now, shows, (host, life), ticket, &report.result)
        {
            self.trace(|_| {
                let shown = match &report.result {
                    AttemptResult::Response(response) => response.status.to_string(),
                    AttemptResult::Error(error) => error.kind.as_str().to_owned(),
                };
                format!("w{host} hears of #{item} attempt {attempt}: {shown}")
            });
        }
        self.with_node(host, |node, now| node.report(now, ticket, report));
    }
}

fn timed_out() -> AttemptResult {
    AttemptResult::Error(AttemptError {
        kind: ErrorKind::TimeoutHead,
        message: "".into(),
        ambiguous: true,
    })
}
