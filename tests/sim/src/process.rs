//! A worker's process as the world sees it: its life, what its clients hold, what waits for it.
//!
//! Decides nothing; `shell` carries out the engine's orders, `world` moves the messages.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use postrider_domain::{AttemptReport, Endpoint, EndpointId, Lane, Slice, Timestamp};

use crate::agenda::{Event, Request};
use crate::clock::{Clock, Micros};
use crate::engine::{
    Claim, CommitAnswer, Committed, LaneRecord, Node, Reading, StartAttempt, StateEntry, Ticket,
    Write, WriteFailure, WriteId,
};
use crate::group::{HeartbeatAnswer, MemberId};

/// Where a process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Down,
    Running,
    /// Stopped by a signal; everything that comes waits.
    Frozen(Micros),
}

/// Something that comes to a process, by the thread of the shell that hears of it.
#[derive(Debug)]
pub(crate) enum Input {
    Heartbeat(HeartbeatAnswer),
    Joined(MemberId),
    Assigned(Vec<Slice>),
    Revoked(Vec<Slice>),
    Lost,
    Committed(CommitAnswer),
    Offsets(Slice, Claim, Box<[Committed; Lane::COUNT]>, i64),
    Table {
        slice: Slice,
        claim: Claim,
        endpoints: Vec<(EndpointId, Option<Endpoint>)>,
        loaded: bool,
    },
    State {
        slice: Slice,
        claim: Claim,
        entries: Vec<StateEntry>,
        loaded: bool,
    },
    Records(Vec<LaneRecord>),
    LaneLost(Reading),
    Acked(WriteId, i64),
    WriteFailed(WriteId, Box<Write>, WriteFailure),
    /// To be handed to the kernel; the engine asked for it then.
    Launch(Box<StartAttempt>, Micros),
    Report(Ticket, Box<AttemptReport>),
    ShutDown,
}

/// What keeps its order among itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Channel {
    Group,
    Offsets,
    Table(Slice),
    State(Slice),
    Lane(Slice, Lane),
    /// Writes to a partition, and their acknowledgements.
    Copies(Slice, Lane),
    Attempts(Slice),
    DeadLetters(Slice),
    StateWrites(Slice),
    /// Nothing: each goes its own way.
    Alone(u64),
}

/// A reading of a lane by the process's consumer.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) reading: Reading,
    /// `None` = the beginning of the log.
    pub(crate) next: Option<i64>,
    /// Nothing was there: it is woken by the next record.
    pub(crate) waits: bool,
}

/// A reading of `endpoints` or of `endpoint-state`.
#[derive(Debug)]
pub(crate) struct Follower {
    pub(crate) claim: Claim,
    pub(crate) position: usize,
    /// Where the table ended when it was asked for.
    pub(crate) wanted: usize,
    pub(crate) loaded: bool,
}

/// The client library's side of the group.
#[derive(Debug, Default)]
pub(crate) struct Membership {
    pub(crate) id: Option<MemberId>,
    pub(crate) epoch: u32,
    /// What the application was told it has.
    pub(crate) current: BTreeSet<Slice>,
    /// The application was asked for these and has not answered.
    pub(crate) asked: Option<BTreeSet<Slice>>,
    /// The application was told that all is lost and has not answered.
    pub(crate) lost: bool,
    /// A heartbeat is scheduled or under way.
    pub(crate) busy: bool,
    pub(crate) leaving: bool,
    /// The coordinator hears nothing of it since then, as far as is known.
    pub(crate) unheard: Option<Micros>,
    /// Heartbeats are sent this much after a multiple of their interval.
    pub(crate) phase: Micros,
}

/// A worker's process, through all its lives.
pub(crate) struct Process {
    pub(crate) state: State,
    pub(crate) life: u32,
    /// When each life ended.
    pub(crate) deaths: Vec<Micros>,
    pub(crate) node: Option<Node>,
    pub(crate) clock: Clock,
    /// No packet to or from the broker before this time.
    pub(crate) cut_until: Micros,
    /// Counts the times it fell silent towards the coordinator, and spoke again.
    pub(crate) silence: u32,
    pub(crate) membership: Membership,
    pub(crate) readers: BTreeMap<(Slice, Lane), Reader>,
    pub(crate) followers: BTreeMap<Slice, Follower>,
    /// Readings of `endpoint-state`.
    pub(crate) state_readers: BTreeMap<Slice, Follower>,
    /// Came while it was frozen.
    pub(crate) inbox: Vec<(Channel, Input)>,
    /// Was not yet in the kernel's hands when it froze.
    pub(crate) stuck: VecDeque<(Channel, Request)>,
    /// Was sent and waits for the end of a cut.
    pub(crate) parked: Vec<Event>,
    /// Nothing of a channel overtakes what was sent before: up, to the broker, and down.
    pub(crate) up: BTreeMap<Channel, Micros>,
    pub(crate) down: BTreeMap<Channel, Micros>,
    pub(crate) deadline: Option<Timestamp>,
    pub(crate) wake_at: Micros,
    pub(crate) shutting_down: bool,
    /// Requests under way, by slice.
    pub(crate) requests: BTreeMap<Slice, u32>,
    /// Writes that failed and have not succeeded since.
    pub(crate) failed_writes: BTreeSet<WriteId>,
    /// Writes under way, by slice.
    pub(crate) writes: BTreeMap<Slice, u32>,
}

impl Process {
    /// Not started yet.
    pub(crate) fn new() -> Self {
        Self {
            state: State::Down,
            life: 0,
            deaths: vec![0],
            node: None,
            clock: Clock::default(),
            cut_until: 0,
            silence: 0,
            membership: Membership::default(),
            readers: BTreeMap::new(),
            followers: BTreeMap::new(),
            state_readers: BTreeMap::new(),
            inbox: Vec::new(),
            stuck: VecDeque::new(),
            parked: Vec::new(),
            up: BTreeMap::new(),
            down: BTreeMap::new(),
            deadline: None,
            wake_at: Micros::MAX,
            shutting_down: false,
            requests: BTreeMap::new(),
            failed_writes: BTreeSet::new(),
            writes: BTreeMap::new(),
        }
    }

    /// All memory is gone.
    pub(crate) fn forget(&mut self) {
        *self = Self {
            life: self.life,
            deaths: std::mem::take(&mut self.deaths),
            silence: self.silence + 1,
            // What was sent goes on, even if its sender is no more.
            parked: std::mem::take(&mut self.parked),
            cut_until: self.cut_until,
            ..Self::new()
        };
    }

    pub(crate) fn is_running(&self) -> bool {
        self.state == State::Running
    }
}
