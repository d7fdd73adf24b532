//! A process that is stopped and goes on.
//!
//! Decides what it finds when it wakes: everything that came meanwhile, in the order of each
//! channel and in any order between them; of some lanes seconds later, as packets that were not
//! taken are sent again after a while. By then its slices may have been lost and given to it anew.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::agenda::{Event, Request};
use crate::clock::{MICROS, MINUTE, Micros};
use crate::process::{Channel, Input, State};
use crate::world::World;

impl World {
    pub(crate) fn freeze(&mut self, host: usize, length: Micros) {
        self.trace(|_| format!("w{host} freezes for {:.3} s", length as f64 / 1e6));
        self.fall_silent(host);
        let process = &mut self.processes[host];
        process.state = State::Frozen(self.now);
        process.wake_at = Micros::MAX;
        process.deadline = None;
        let life = process.life;
        self.later(length, Event::Thaw(host, life));
        // What comes meanwhile waits for it.
        let burst = self.rng.u64(..length.min(MINUTE));
        if self.elapsed() + burst < self.plan.faulty_for {
            self.later(burst, Event::Burst);
        }
    }

    /// It was awake for a moment.
    pub(crate) fn freeze_again(&mut self, host: usize, life: u32, length: Micros) {
        let process = &self.processes[host];
        if process.life == life && process.is_running() && !self.healed {
            self.freeze(host, length);
        }
    }

    pub(crate) fn thaw(&mut self, host: usize, life: u32) {
        let process = &mut self.processes[host];
        if process.life != life || !matches!(process.state, State::Frozen(_)) {
            return;
        }
        process.state = State::Running;
        let cut = process.cut_until > self.now;
        let stuck = std::mem::take(&mut process.stuck);
        let inbox = std::mem::take(&mut process.inbox);
        self.trace(|_| format!("w{host} thaws"));
        for (channel, request) in stuck {
            self.send(host, channel, request);
        }
        let mut waiting: BTreeMap<Channel, VecDeque<Input>> = BTreeMap::new();
        let late = self.late_lanes(&inbox);
        for (channel, input) in inbox {
            if let Some(after) = late.get(&channel) {
                self.hand(host, life, *after, channel, input);
                continue;
            }
            waiting.entry(channel).or_default().push_back(input);
        }
        let mut timed_out = false;
        while !waiting.is_empty() {
            if !timed_out && self.rng.u8(..4) == 0 {
                timed_out = true;
                self.wake(host);
            }
            let channel = waiting.keys().nth(self.rng.usize(..waiting.len())).copied();
            let channel = channel.expect("a channel that waits");
            let inputs = waiting.get_mut(&channel).expect("a known channel");
            let input = inputs.pop_front().expect("an input that waits");
            if inputs.is_empty() {
                waiting.remove(&channel);
            }
            self.take_input(host, input);
            if self.rng.bool() {
                self.carry_out(host);
            }
        }
        self.wake(host);
        if !cut {
            self.speak_up(host);
        }
        self.refetch(host, life);
    }

    /// Lanes whose records come later than all else, and by how much.
    fn late_lanes(&mut self, inbox: &[(Channel, Input)]) -> BTreeMap<Channel, Micros> {
        let lanes = inbox.iter().map(|(channel, _)| *channel);
        let lanes: BTreeSet<Channel> = lanes
            .filter(|channel| matches!(channel, Channel::Lane(..)))
            .collect();
        let mut late = BTreeMap::new();
        for lane in lanes {
            if self.chance(500) {
                late.insert(lane, self.rng.u64(..10 * MICROS));
            }
        }
        late
    }

    /// Long polls that a freeze swallowed are asked again.
    fn refetch(&mut self, host: usize, life: u32) {
        let process = &self.processes[host];
        if process.life != life {
            return;
        }
        let waiting = process.readers.iter().filter(|(_, reader)| reader.waits);
        let waiting: Vec<_> = waiting
            .map(|(key, reader)| (*key, reader.reading))
            .collect();
        for ((slice, lane), reading) in waiting {
            self.send(host, Channel::Lane(slice, lane), Request::Fetch(reading));
        }
    }
}
