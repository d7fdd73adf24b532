//! The members' rules, each of which a test can break, and how far a run explores.

/// Session after which the coordinator gives a silent member's slices away, in ticks.
pub const SESSION: u8 = 4;

/// Longest pause between two heartbeats of a member that runs and is connected, in ticks.
pub const HEARTBEAT: u8 = 1;

/// Longest attempt, in ticks.
pub const TIMEOUT: u8 = 1;

/// What an attempt may start on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// Nothing: owning is enough.
    None,
    /// The last accepted commit, counted from when it was ordered.
    LastCommit,
    /// An accepted commit, counted from when it was ordered, once a second one was accepted that
    /// was ordered a heartbeat or more after the first one's answer was seen (ADR 0014).
    TwoCommits,
}

/// What the members keep to. [`Rules::default`] is the protocol; each test of the checker breaks
/// one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Where the right to start attempts comes from.
    pub lease: Lease,
    /// How long that right lasts, in ticks: session, less a heartbeat, less an attempt.
    pub lease_length: u8,
    /// Only slices that are owned or draining are committed.
    pub commit_only_owned: bool,
    /// A commit says what is settled, no more.
    pub commit_exact: bool,
    /// A commit's refusal as "no member" means the membership it was ordered in.
    pub answers_by_membership: bool,
    /// A revoked slice is let go of when its attempts have ended.
    pub drain_first: bool,
    /// A revoked slice is let go of when its last commit was accepted.
    pub commit_first: bool,
    /// A revocation that comes while another is open adds to it.
    pub merge_revocations: bool,
    /// A hand-back is not carried out when a revocation came meanwhile that the engine had not
    /// seen; the engine answers again when it has drained that one.
    pub hand_back_knows_all: bool,
    /// The group is answered, and joined again after a loss, only when no commit is under way.
    /// librdkafka waits so (`wait_commit_cnt` in its assignment).
    pub answer_after_commits: bool,
    /// Readers of the state log ignore records of an epoch below the highest fence.
    pub readers_keep_to_fences: bool,
    /// A claimant owns the slice only when it has read its own fence back as the first of its epoch.
    pub read_fence_back: bool,
    /// An owner that meets a higher fence claims again, once a commit proved that it is a member.
    pub claim_again: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            lease: Lease::TwoCommits,
            lease_length: SESSION - HEARTBEAT - TIMEOUT,
            commit_only_owned: true,
            commit_exact: true,
            answers_by_membership: true,
            drain_first: true,
            commit_first: true,
            merge_revocations: true,
            hand_back_knows_all: true,
            answer_after_commits: true,
            readers_keep_to_fences: true,
            read_fence_back: true,
            claim_again: true,
        }
    }
}

/// How much may happen in a run; within it everything is explored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Records of the first and of the second slice, at most 4 each; `None` = the slice does not
    /// take part.
    pub records: [Option<u8>; 2],
    /// Freezes, crashes, cut connections, lost answers and drains past their deadline.
    pub faults: u8,
    /// Slices moved by the assignor, and shutdowns.
    pub moves: u8,
    /// Whether fences and state records are written.
    pub fences: bool,
    /// Whether every state is healed, to see that it can be.
    pub healed: bool,
}
