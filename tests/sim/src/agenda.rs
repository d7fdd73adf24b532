//! What is going to happen, and when.
//!
//! Decides the order of what happens at the same time: as it was planned. Leaves what it does to
//! `world`.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use postrider_domain::Slice;

use crate::clock::Micros;
use crate::engine::{Claim, CommitEntry, Reading, Write, WriteId};
use crate::group::MemberId;
use crate::nemesis::Strike;
use crate::process::{Channel, Input};

/// What a process asks the broker.
#[derive(Debug)]
pub(crate) enum Request {
    Join,
    Heartbeat,
    Leave(MemberId),
    Commit {
        member: Option<(MemberId, u32)>,
        entries: Vec<CommitEntry>,
    },
    Offsets(Slice, Claim),
    Table(Slice, Claim),
    State(Slice, Claim),
    Fetch(Reading),
    Write(WriteId, Box<Write>),
}

/// Something that happens.
#[derive(Debug)]
pub(crate) enum Event {
    /// To the process on a host, in that life.
    Process(usize, u32, Channel, Input),
    /// From the process on a host, in that life; it was in the kernel's hands at that time.
    Broker(usize, u32, Micros, Channel, Request),
    /// A request reaches its receiver.
    Arrival(Box<crate::shell::Sent>),
    /// It is time for a heartbeat.
    Heartbeat(usize, u32),
    /// A member was not heard of since this silence of its process began.
    Expire(MemberId, usize, u32, u32),
    Start(usize),
    Freeze(usize, u32, Micros),
    Thaw(usize, u32),
    CutEnds(usize),
    Strike(Strike),
    Burst,
    Flood,
    /// The router writes a delivery again.
    Repeat(u32),
    Mood(usize),
    Heal,
    /// The last look.
    End,
}

/// All of it.
#[derive(Default)]
pub(crate) struct Agenda {
    sequence: u64,
    queue: BinaryHeap<Reverse<Scheduled>>,
}

impl Agenda {
    pub(crate) fn push(&mut self, at: Micros, event: Event) {
        let number = self.unique();
        self.queue.push(Reverse(Scheduled(at, number, event)));
    }

    pub(crate) fn next_at(&self) -> Option<Micros> {
        self.queue.peek().map(|Reverse(next)| next.0)
    }

    pub(crate) fn pop(&mut self) -> Option<(Micros, Event)> {
        let Reverse(Scheduled(at, _, event)) = self.queue.pop()?;
        Some((at, event))
    }

    /// A number that nothing else has.
    pub(crate) const fn unique(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }
}

struct Scheduled(Micros, u64, Event);

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}
