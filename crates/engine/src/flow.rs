//! What a slice knows of one endpoint beyond its configuration: what waits, what is in flight, its
//! limit, its health, its backlog.
//!
//! Decides nothing by itself: each part has its own file, [`crate::slice`] asks them in turn.

use postrider_domain::{EndpointId, RateLimit, Remembered, Timestamp};

use crate::backlog::Backlog;
use crate::health::Health;
use crate::io::Epoch;
use crate::limit::Limiter;
use crate::order::Keys;
use crate::queue::{EntryId, Queue};

/// One endpoint of a slice.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) queue: Queue,
    /// What waits in order.
    pub(crate) keys: Keys,
    /// Bytes of what waits.
    pub(crate) queued_bytes: usize,
    pub(crate) in_flight: u16,
    /// It is in the list of those that have a turn, or wait for room.
    pub(crate) has_turn: bool,
    /// It is in the list of those that have replays to send.
    pub(crate) has_replay_turn: bool,
    pub(crate) health: Health,
    /// Boxed, as the next: most endpoints have neither, and each has its place here.
    pub(crate) limiter: Option<Box<Limiter>>,
    pub(crate) backlog: Option<Box<Backlog>>,
    pub(crate) gone: Gone,
    pub(crate) saving: Saving,
    /// Its limit is used up until then.
    pub(crate) limited_until: Timestamp,
    /// No other test of it is taken before.
    pub(crate) tested_until: Timestamp,
    /// When it is looked at again.
    pub(crate) timer: Option<Timestamp>,
}

/// What is known of a receiver that says it is gone.
#[derive(Debug, Default)]
pub(crate) struct Gone {
    /// When it said so first, and how often since, without anything else in between.
    pub(crate) said: Option<(Timestamp, u32)>,
    /// The version of the configuration for which that is confirmed.
    pub(crate) confirmed: Option<u64>,
}

/// How what is remembered of an endpoint gets to `endpoint-state`: one write at a time.
#[derive(Debug, Default)]
pub(crate) struct Saving {
    /// The topic has a record of it that says something.
    pub(crate) stored: bool,
    /// What is remembered changed since it was written last.
    pub(crate) dirty: bool,
    /// A write is wanted then.
    pub(crate) due: Option<Timestamp>,
    /// The write under way.
    pub(crate) write: Option<u64>,
    /// The epoch of that one, or of the last.
    pub(crate) epoch: Epoch,
    /// A reservation is to be written, or is in the write under way.
    pub(crate) reserve: bool,
    pub(crate) reserving: bool,
    /// The write under way says that there is a backlog.
    pub(crate) opening: bool,
}

impl Flow {
    pub(crate) fn new() -> Self {
        Self {
            queue: Queue::default(),
            keys: Keys::default(),
            queued_bytes: 0,
            in_flight: 0,
            has_turn: false,
            has_replay_turn: false,
            health: Health::new(),
            limiter: None,
            backlog: None,
            gone: Gone::default(),
            saving: Saving::default(),
            limited_until: Timestamp::default(),
            tested_until: Timestamp::default(),
            timer: None,
        }
    }

    /// The entry whose attempt is next; with `replays`, of those.
    pub(crate) fn next(&self, replays: bool) -> Option<EntryId> {
        let ordered = || self.keys.next().filter(|_| !replays);
        self.queue.next(replays).or_else(ordered)
    }

    /// Takes it.
    pub(crate) fn pop(&mut self, replays: bool) -> Option<EntryId> {
        match self.queue.pop(replays) {
            None if !replays => self.keys.pop(),
            popped => popped,
        }
    }

    /// Takes everything that waits out.
    pub(crate) fn take_waiting(&mut self) -> Vec<EntryId> {
        self.queued_bytes = 0;
        let mut taken = self.queue.take();
        taken.extend(self.keys.take());
        taken
    }

    /// Whether an attempt may be next, replays apart.
    pub(crate) fn has_attempts(&self) -> bool {
        self.queue.has_attempts() || self.keys.has_attempts()
    }

    /// The limit is this from now on.
    pub(crate) fn limit(&mut self, limit: Option<RateLimit>) {
        self.limited_until = Timestamp::default();
        match (limit, &mut self.limiter) {
            (None, limiter) => *limiter = None,
            (Some(limit), Some(limiter)) => limiter.change(limit),
            (Some(limit), limiter) => *limiter = Some(Box::new(Limiter::new(limit))),
        }
    }

    /// What a successor must know while attempts go on here.
    pub(crate) fn remembered(&self, now: Timestamp) -> Remembered {
        Remembered {
            limiter: self.limiter.as_ref().and_then(|l| l.snapshot(now)),
            backlog: self.backlog.as_deref().map(Backlog::memory),
            gone: self.gone.confirmed,
        }
    }

    /// What a successor must know when nothing starts here any more.
    pub(crate) fn last_words(&self, now: Timestamp) -> Remembered {
        Remembered {
            limiter: self.limiter.as_ref().and_then(|l| l.memory(now)),
            ..self.remembered(now)
        }
    }

    /// Whether nothing would be lost with it.
    pub(crate) fn may_be_forgotten(&self, now: Timestamp) -> bool {
        self.queue.is_empty()
            && self.keys.is_empty()
            && self.in_flight == 0
            && self.tested_until <= now
            && !self.has_turn
            && !self.has_replay_turn
            && self.backlog.is_none()
            && self.limiter.as_ref().is_none_or(|l| l.is_idle(now))
            && self.gone.confirmed.is_none()
            && self.saving.write.is_none()
            && !self.saving.stored
            && self.health.may_be_forgotten(now)
    }
}

/// Which timer of the slice went off.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// An entry's.
    Entry(u64),
    /// An endpoint's.
    Flow(EndpointId),
    /// Endpoints that nothing is known of any more are forgotten.
    Sweep,
}
