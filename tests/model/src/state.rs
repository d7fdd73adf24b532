//! Everything a moment of the model consists of. Decides nothing.

/// A set of slices, or of records of a slice.
pub type Mask = u8;

/// Members.
pub const MEMBERS: usize = 2;

/// Slices.
pub const SLICES: usize = 2;

/// A target nobody has.
pub const NOBODY: u8 = 2;

/// A moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// Both workers, with what the coordinator keeps of each.
    pub members: [Member; MEMBERS],
    /// What brokers keep of each slice.
    pub slices: [Durable; SLICES],
    /// Whom the assignor wants to have each slice; [`NOBODY`] when the group is empty.
    pub target: [u8; SLICES],
    /// Faults that may still happen.
    pub faults: u8,
    /// Moves and shutdowns that may still happen.
    pub moves: u8,
    /// No fault happened yet.
    pub clean: bool,
    /// Promises broken on the way here, see [`crate::promises`].
    pub broken: u8,
}

/// What brokers keep of a slice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Durable {
    /// Records that are settled, by whomever: the truth.
    pub settled: Mask,
    /// Records that the committed frontier and map call settled.
    pub committed: Mask,
    /// Who committed last.
    pub committed_by: u8,
    /// The highest fence of the state log, and whose it is: the first of its epoch.
    pub fence: (u8, Claimant),
    /// Whose state record readers accepted last.
    pub state_by: Claimant,
}

/// A member's try to own a slice: the member, and which of its tries it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Claimant {
    /// Which member.
    pub member: u8,
    /// Which of its claims.
    pub claim: u8,
}

/// A worker: its process, its client library, its engine, and its seat at the coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    /// How the process is.
    pub process: Process,
    /// The coordinator can be reached.
    pub linked: bool,
    /// What the coordinator keeps of it.
    pub seat: Seat,
    /// What the client library keeps.
    pub client: Client,
    /// What the engine keeps of each slice.
    pub slices: [Owning; SLICES],
    /// Slices that were asked back and are not yet handed back.
    pub asked: Mask,
    /// A revocation is to be answered.
    pub asking: bool,
    /// It shuts down.
    pub leaving: bool,
    /// Ticks since the commit was ordered that the lease counts from; at most the session.
    pub lease: u8,
    /// Ticks since the accepted commit was ordered that waits for a second one.
    pub first: u8,
    /// Ticks since its answer was seen.
    pub seen: u8,
    /// The commit in flight.
    pub commit: Commit,
    /// A request whose answer was lost; it may still reach the broker.
    pub late: Option<Request>,
    /// Claims made so far.
    pub claims: u8,
}

/// How a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Process {
    /// As it should.
    Running,
    /// Stopped (SIGSTOP); what it sent before goes its way.
    Frozen,
    /// Ended; what it sent before goes its way.
    Down,
}

/// What the coordinator keeps of a member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Seat {
    /// It is a member.
    pub known: bool,
    /// Ticks since its last heartbeat, at most the session.
    pub silence: u8,
    /// Slices that are given to nobody else, as this member was given them and has not handed
    /// them back.
    pub assigned: Mask,
    /// Its epoch is that of the newest target.
    pub current: bool,
}

/// How the client library stands to the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Joined {
    /// Not joined.
    Out,
    /// A member, as far as it knows.
    In,
    /// It learned that it is no member; it joins again when the loss was answered.
    Expelled,
}

/// What the client library keeps.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Client {
    /// How it stands to the group.
    pub joined: Joined,
    /// Slices it was given and has not handed back.
    pub held: Mask,
    /// Assignment the engine has not seen yet.
    pub assign: Mask,
    /// Revocation the engine has not seen yet.
    pub revoke: Mask,
    /// Loss the engine has not seen yet.
    pub lost: bool,
    /// Revocations that are not answered.
    pub open: Mask,
    /// The engine's answer, on its way to the library, and the slices it did not hold then.
    pub hand_back: Option<Mask>,
}

/// How far an ownership is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Not ours.
    #[default]
    None,
    /// Given to us.
    Loading,
    /// Offsets are fetched; the fence is to be written.
    Fetched,
    /// The fence is written and to be read back.
    Fencing,
    /// Attempts may start, under the lease.
    Owned,
    /// A higher fence was met: no attempt starts until a commit proved the membership.
    Contested,
    /// Revoked.
    Draining,
}

/// What the engine keeps of a slice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Owning {
    /// How far the ownership is.
    pub phase: Phase,
    /// Records it knows to be settled.
    pub done: Mask,
    /// Those of them that an accepted commit called settled.
    pub stored: Mask,
    /// Attempts that started in this tick.
    pub young: Mask,
    /// Attempts that started in the last tick.
    pub old: Mask,
    /// Attempts that were under way when the process froze.
    pub stranded: Mask,
    /// Attempts of an ownership that is over, started in this tick; their reports are ignored.
    pub orphan_young: Mask,
    /// Attempts of an ownership that is over, started in the last tick.
    pub orphan_old: Mask,
    /// Epoch of the fence.
    pub epoch: u8,
    /// Which claim this is.
    pub claim: u8,
    /// A state record was written under this claim.
    pub wrote: bool,
    /// A write to the state log that has not arrived; it outlives the ownership and the process.
    pub write: Write,
}

/// A write to the state log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Write {
    /// No write is under way.
    #[default]
    None,
    /// A fence record of that epoch and claim.
    Fence(u8, u8),
    /// A state record of that epoch and claim.
    State(u8, u8),
}

/// Entries of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entries {
    /// Slices in it.
    pub slices: Mask,
    /// For each of them, what is called settled.
    pub done: [Mask; SLICES],
}

/// Whom a request says it is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stamp {
    /// The member with the epoch it has now.
    Current,
    /// Somebody who was a member and has not learned that it is none.
    Former,
    /// No member.
    NoMember,
}

/// A commit on its way to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// What it says.
    pub entries: Entries,
    /// Whom it is from.
    pub stamp: Stamp,
}

/// How a commit was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// Every entry is stored.
    Accepted,
    /// None is.
    Refused,
    /// None is, and the sender is no member.
    NotAMember,
}

/// Where the commit in flight is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// No commit is in flight.
    None,
    /// With the client library, which has not sent it.
    Queued,
    /// Answered; the engine has not seen it.
    Answered(Answer),
}

/// The commit in flight, as the engine knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Commit {
    /// Where it is.
    pub stage: Stage,
    /// What it says.
    pub entries: Entries,
    /// Those slices of it whose ownership is still the same.
    pub ours: Mask,
    /// Slices that were contested when it was ordered.
    pub proves: Mask,
    /// Ticks since it was ordered, at most the session.
    pub age: u8,
    /// The membership it was ordered in was not lost since.
    pub same_membership: bool,
}

impl Member {
    /// Whom a request says it is from, if it is sent now.
    #[must_use]
    pub const fn stamp(&self) -> Stamp {
        match self.client.joined {
            Joined::In if self.seat.known => Stamp::Current,
            Joined::In | Joined::Expelled => Stamp::Former,
            Joined::Out => Stamp::NoMember,
        }
    }
}

impl Commit {
    /// No commit is in flight.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            stage: Stage::None,
            entries: Entries {
                slices: 0,
                done: [0; SLICES],
            },
            ours: 0,
            proves: 0,
            age: 0,
            same_membership: true,
        }
    }
}

impl Owning {
    /// Attempts under way that count against a successor: not those that were with the kernel
    /// when the process froze.
    #[must_use]
    pub const fn in_flight(&self) -> Mask {
        self.young | self.old | self.orphan_young | self.orphan_old
    }

    /// Attempts whose reports this ownership waits for.
    #[must_use]
    pub const fn awaited(&self) -> Mask {
        self.young | self.old | self.stranded
    }
}

/// The set with one element.
#[must_use]
pub const fn only(index: usize) -> Mask {
    1 << index
}

/// Whether the set has the element.
#[must_use]
pub const fn has(mask: Mask, index: usize) -> bool {
    mask & only(index) != 0
}
