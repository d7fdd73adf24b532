//! What goes wrong, and when it stops.
//!
//! Decides the strikes of a run, often close together, as faults hurt most while another is not
//! yet over; and the healing, after which nothing goes wrong any more and everything must end.

use crate::agenda::Event;
use crate::clock::{HOUR, MICROS, MINUTE, Micros};
use crate::process::{Channel, Input, State};
use crate::world::World;
use postrider_domain::{Lane, Slice};

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strike {
    Crash,
    Freeze,
    /// Frozen, awake for less than it takes to be heard, and frozen again.
    Doze,
    /// An administrator takes the member out of the group.
    Removal,
    Stop,
    Cut,
    Coordinator,
    PartitionOutage,
    EndpointChange,
    Retention,
}

impl World {
    pub(crate) fn plan_strikes(&mut self) {
        let faults = &self.plan.faults;
        let kinds: Vec<Strike> = [
            (faults.crash, Strike::Crash),
            (faults.freeze, Strike::Freeze),
            (faults.freeze, Strike::Doze),
            // With others beside it nothing could keep the two apart.
            (faults.removal && self.plan.workers == 1, Strike::Removal),
            (faults.stop, Strike::Stop),
            (faults.cut, Strike::Cut),
            (faults.coordinator, Strike::Coordinator),
            (faults.partition_outage, Strike::PartitionOutage),
            (faults.endpoint_changes, Strike::EndpointChange),
            (faults.endpoint_changes, Strike::EndpointChange),
            (faults.retention, Strike::Retention),
        ]
        .into_iter()
        .filter_map(|(on, strike)| on.then_some(strike))
        .collect();
        if kinds.is_empty() {
            return;
        }
        let mut at = 0;
        for _ in 0..self.plan.strikes {
            let close = at > 0 && self.rng.bool();
            at = if close {
                at + self.rng.u64(..90 * MICROS)
            } else {
                self.rng.u64(..self.plan.faulty_for)
            };
            let strike = kinds[self.rng.usize(..kinds.len())];
            if at < self.plan.faulty_for {
                self.later(at, Event::Strike(strike));
                // Deliveries that are under way make the most of it.
                if self.rng.bool() {
                    let before = at.saturating_sub(self.rng.u64(..5 * MICROS));
                    self.later(before, Event::Burst);
                }
            }
        }
    }

    pub(crate) fn strike(&mut self, strike: Strike) {
        if self.healed {
            return;
        }
        let host = self.rng.usize(..self.processes.len());
        let length = self.outage();
        let running = self.processes[host].is_running();
        self.trace(|_| format!("strike: {strike:?}"));
        match strike {
            Strike::Crash => {
                self.kill(host);
                let after = self.rng.u64(..2 * MINUTE);
                self.later(after, Event::Start(host));
            }
            Strike::Freeze if running => {
                self.audit.disturb(self.now, length + 4 * MINUTE);
                self.freeze(host, length);
            }
            Strike::Doze if running => {
                let session = self.settings.session.as_micros() as u64;
                let first = self.rng.u64(session - 10 * MICROS..session);
                let awake = self.rng.u64(..300_000);
                self.audit.disturb(self.now, first + length + 4 * MINUTE);
                self.freeze(host, first);
                let life = self.processes[host].life;
                self.later(first + awake, Event::Freeze(host, life, length));
            }
            // Nor one that is stopping from the one that is started after it.
            Strike::Removal if !self.processes[host].shutting_down => self.remove_member(host),
            Strike::Stop if running && !self.processes[host].shutting_down => {
                self.audit.disturb(self.now, 5 * MINUTE);
                let (life, channel) = (self.processes[host].life, Channel::Alone(self.unique()));
                self.hand(host, life, 0, channel, Input::ShutDown);
            }
            Strike::Cut if running && self.processes[host].cut_until <= self.now => {
                self.audit.disturb(self.now, length + 4 * MINUTE);
                self.cut(host, length);
            }
            Strike::Coordinator => {
                let until = self.now + length.min(20 * MICROS);
                self.audit.disturb(self.now, length + 4 * MINUTE);
                self.coordinator_down_until = self.coordinator_down_until.max(until);
            }
            Strike::PartitionOutage => {
                let slice = Slice(self.rng.u16(..self.plan.slices));
                let until = self.now + length.min(30 * MICROS);
                self.audit.disturb(self.now, length + 4 * MINUTE);
                self.partition_down_until.insert(slice, until);
            }
            Strike::EndpointChange => self.change_endpoint(),
            Strike::Retention => self.expire_records(),
            Strike::Freeze | Strike::Doze | Strike::Removal | Strike::Stop | Strike::Cut => {}
        }
    }

    /// Short, about a session, or long.
    fn outage(&mut self) -> Micros {
        match self.rng.u8(..4) {
            0 => self.rng.u64(10_000..2 * MICROS),
            1 | 2 => self.rng.u64(5 * MICROS..70 * MICROS),
            _ => self.rng.u64(MINUTE..10 * MINUTE),
        }
    }

    fn cut(&mut self, host: usize, length: Micros) {
        self.trace(|_| {
            format!(
                "w{host} does not reach the broker for {:.3} s",
                length as f64 / 1e6
            )
        });
        self.fall_silent(host);
        let process = &mut self.processes[host];
        process.cut_until = self.now + length;
        self.later(length, Event::CutEnds(host));
    }

    /// A member is taken out of the group though it is well, and hears of it with its next heartbeat.
    fn remove_member(&mut self, host: usize) {
        let process = &self.processes[host];
        let life = process.life;
        let Some(member) = process.membership.id else {
            return;
        };
        if self.group.remove(member) {
            self.trace(|_| format!("broker: member {member} (w{host}) is removed by hand"));
            self.audit.memory_lost(self.now, (host, life), "removed");
            self.plan_heartbeat(host, life, false);
        }
    }

    /// The oldest segments of a lane go, as far as they are settled.
    fn expire_records(&mut self) {
        let slice = Slice(self.rng.u16(..self.plan.slices));
        for lane in Lane::all() {
            let Some((frontier, _)) = self.logs.committed(slice, lane) else {
                continue;
            };
            let log = self.logs.log_mut(slice, lane);
            if frontier > log.start {
                log.start = self.rng.i64(log.start..=frontier);
            }
        }
    }

    /// From now on nothing goes wrong.
    pub(crate) fn heal(&mut self) {
        self.trace(|_| "everything is healed".to_owned());
        self.healed = true;
        self.audit.healed(self.now);
        for host in 0..self.processes.len() {
            let life = self.processes[host].life;
            self.processes[host].cut_until = self.processes[host].cut_until.min(self.now);
            self.cut_ends(host);
            match self.processes[host].state {
                State::Frozen(_) => self.thaw(host, life),
                State::Running => {}
                State::Down => self.later(MICROS, Event::Start(host)),
            }
        }
        self.heal_merchants();
        self.later(HOUR / 6, Event::End);
    }
}
