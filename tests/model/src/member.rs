//! The engine's part: what is done on assignment, revocation, loss and shutdown, when an attempt
//! may start, what is committed and what an answer means, when a slice is handed back.

use crate::model::Protocol;
use crate::promises::{OVERLAP, REPEATED, may_start};
use crate::rules::{HEARTBEAT, Lease, Rules, SESSION};
use crate::state::{
    Answer, Commit, Entries, Joined, Mask, Member, Owning, Phase, Process, Request, SLICES, Stage,
    Stamp, State, has, only,
};

impl Member {
    fn runs(&self) -> bool {
        self.process == Process::Running
    }

    /// It shuts down and nothing is left to hand back.
    pub(crate) fn leaving_for_good(&self) -> bool {
        let free = self.slices.iter().all(|own| own.phase == Phase::None);
        self.leaving && free && !self.asking && self.client.hand_back.is_none()
    }

    /// The slice is not ours any more. Requests on the wire go on; their reports are ignored.
    fn release(&mut self, rules: &Rules, slice: usize) {
        let own = &mut self.slices[slice];
        *own = Owning {
            orphan_young: own.orphan_young | own.young,
            orphan_old: own.orphan_old | own.old,
            write: own.write,
            // only a member without the guard remembers
            done: if rules.commit_only_owned { 0 } else { own.done },
            ..Owning::default()
        };
        self.commit.ours &= !only(slice);
        self.commit.proves &= !only(slice);
    }

    fn drain(&mut self, rules: &Rules, slice: usize) {
        let own = &mut self.slices[slice];
        match own.phase {
            Phase::None | Phase::Draining => {}
            Phase::Loading => self.release(rules, slice),
            // an owner that claims again may have attempts under way
            _ => own.phase = Phase::Draining,
        }
    }

    /// Lets go of what is drained, and answers when nothing is left of what was asked for.
    fn settle_down(&mut self, rules: &Rules) {
        for slice in 0..SLICES {
            let own = &self.slices[slice];
            let drained = own.awaited() == 0 || !rules.drain_first;
            let committing = self.commit.stage != Stage::None && has(self.commit.ours, slice);
            let stored = (own.stored == own.done && !committing) || !rules.commit_first;
            if own.phase == Phase::Draining && drained && stored {
                self.release(rules, slice);
            }
        }
        let busy = |slice| has(self.asked, slice) && self.slices[slice].phase != Phase::None;
        if self.asking && !(0..SLICES).any(busy) {
            let free = (0..SLICES).filter(|&slice| self.slices[slice].phase == Phase::None);
            self.client.hand_back = Some(free.map(only).sum());
            (self.asking, self.asked) = (false, 0);
        }
    }

    fn lose_all(&mut self, rules: &Rules) {
        for slice in 0..SLICES {
            self.release(rules, slice);
        }
        (self.asking, self.asked) = (false, 0);
        (self.lease, self.first, self.seen) = (rules.lease_length, rules.lease_length, 0);
        self.commit.same_membership = false;
    }

    /// The engine takes what the client library has for it.
    pub(crate) fn poll(&mut self, model: &Protocol) -> bool {
        let rules = &model.rules;
        if !self.runs() {
            return false;
        }
        if self.client.lost {
            self.client.lost = false;
            self.lose_all(rules);
            self.client.hand_back = Some(self.client.open);
            return true;
        }
        let assigned = std::mem::take(&mut self.client.assign);
        let revoked = std::mem::take(&mut self.client.revoke);
        for slice in (0..SLICES).filter(|&slice| has(assigned, slice)) {
            if !self.leaving && self.slices[slice].phase == Phase::None {
                self.slices[slice].phase = Phase::Loading;
                self.slices[slice].done = 0;
                if model.bounds.fences {
                    self.claims += 1;
                    self.slices[slice].claim = self.claims;
                }
            }
        }
        for slice in (0..SLICES).filter(|&slice| has(revoked, slice)) {
            self.drain(rules, slice);
        }
        if revoked != 0 {
            let open = if rules.merge_revocations {
                self.asked
            } else {
                0
            };
            (self.asking, self.asked) = (true, open | revoked);
        }
        self.settle_down(rules);
        assigned | revoked != 0
    }

    /// Everything is drained, then the group is left.
    pub(crate) fn shut_down(&mut self, rules: &Rules) {
        self.leaving = true;
        for slice in 0..SLICES {
            self.drain(rules, slice);
        }
        self.settle_down(rules);
    }

    /// The deadline of a drain passed: the slice is let go of as it is. Attempts have ended.
    pub(crate) fn give_up_drain(&mut self, rules: &Rules, slice: usize) -> bool {
        let own = &self.slices[slice];
        if !self.runs() || own.phase != Phase::Draining || own.awaited() != 0 {
            return false;
        }
        self.release(rules, slice);
        self.settle_down(rules);
        true
    }

    /// A commit of everything that may be committed, when there is news or the lease ages.
    pub(crate) fn order_commit(&mut self, model: &Protocol) -> bool {
        let rules = &model.rules;
        let holds = |own: &Owning| {
            let ours = matches!(own.phase, Phase::Owned | Phase::Contested | Phase::Draining);
            ours || (!rules.commit_only_owned && own.done != 0)
        };
        let slices: Mask = model
            .slices()
            .filter(|&slice| holds(&self.slices[slice]))
            .map(only)
            .sum();
        let contested: Mask = (0..SLICES)
            .filter(|&slice| self.slices[slice].phase == Phase::Contested)
            .map(only)
            .sum();
        let news = self.slices.iter().any(|own| own.done != own.stored);
        let ages = match rules.lease {
            Lease::None => false,
            Lease::LastCommit => self.lease > 0,
            Lease::TwoCommits => self.seen >= HEARTBEAT || self.first == rules.lease_length,
        };
        let works = (0..SLICES).any(|slice| model.records(slice) != 0);
        let busy = self.commit.stage != Stage::None;
        if !self.runs() || busy || slices == 0 || !(news || (ages && works) || contested != 0) {
            return false;
        }
        let mut done = [0; SLICES];
        for slice in (0..SLICES).filter(|&slice| has(slices, slice)) {
            done[slice] = self.slices[slice].done;
            if !rules.commit_exact {
                // one too far: the first record that is not settled
                done[slice] |= (done[slice] + 1) & model.records(slice);
            }
        }
        self.commit = Commit {
            stage: Stage::Queued,
            entries: Entries { slices, done },
            ours: slices,
            proves: contested,
            age: 0,
            same_membership: true,
        };
        true
    }

    /// The engine sees how its commit was answered.
    pub(crate) fn take_answer(&mut self, rules: &Rules) -> bool {
        let Stage::Answered(answer) = self.commit.stage else {
            return false;
        };
        if !self.runs() {
            return false;
        }
        let commit = std::mem::replace(&mut self.commit, Commit::none());
        match answer {
            Answer::Accepted => self.accepted(rules, &commit),
            Answer::Refused => {}
            Answer::NotAMember => {
                if commit.same_membership || !rules.answers_by_membership {
                    self.lose_all(rules);
                    self.commit.same_membership = true;
                }
            }
        }
        self.settle_down(rules);
        true
    }

    fn accepted(&mut self, rules: &Rules, commit: &Commit) {
        for slice in (0..SLICES).filter(|&slice| has(commit.ours, slice)) {
            let own = &mut self.slices[slice];
            own.stored = commit.entries.done[slice];
            if own.phase == Phase::Contested && has(commit.proves, slice) {
                own.phase = Phase::Fetched;
            }
        }
        if !commit.same_membership {
            return;
        }
        match rules.lease {
            Lease::None => {}
            Lease::LastCommit => self.lease = commit.age,
            Lease::TwoCommits => {
                // `seen` ticks ago the first one's answer was seen, `first` ticks ago it was ordered
                if self.seen >= commit.age + HEARTBEAT {
                    self.lease = self.first;
                    (self.first, self.seen) = (commit.age, 0);
                } else if self.first == rules.lease_length {
                    (self.first, self.seen) = (commit.age, 0);
                }
            }
        }
    }

    /// The answer does not come: for the engine the commit is refused; it may still arrive.
    pub(crate) fn lose_answer(&mut self, rules: &Rules) -> bool {
        if !self.runs() {
            return false;
        }
        match self.commit.stage {
            Stage::None => return false,
            Stage::Queued => self.late = self.sent(),
            Stage::Answered(_) => {}
        }
        self.commit = Commit::none();
        self.settle_down(rules);
        true
    }

    /// The queued commit, on its way to the broker.
    fn sent(&self) -> Option<Request> {
        let stamp = self.stamp();
        let can = self.commit.stage == Stage::Queued && self.linked && stamp == Stamp::Current;
        let entries = self.commit.entries;
        can.then_some(Request { entries, stamp }).or(self.late)
    }

    /// The process stops where it is.
    pub(crate) fn freeze(&mut self) {
        self.process = Process::Frozen;
        for own in &mut self.slices {
            own.stranded |= own.young | own.old;
            (own.young, own.old, own.orphan_young, own.orphan_old) = (0, 0, 0, 0);
        }
    }

    /// The process ends; writes and a commit that were sent go their way.
    pub(crate) fn crash(&mut self, rules: &Rules) {
        let late = self.sent();
        let writes = [self.slices[0].write, self.slices[1].write];
        *self = Self {
            seat: self.seat.clone(),
            claims: self.claims,
            late,
            ..Self::new(Process::Down, rules)
        };
        for (own, write) in self.slices.iter_mut().zip(writes) {
            own.write = write;
        }
    }

    /// A member that was never anywhere.
    pub(crate) fn new(process: Process, rules: &Rules) -> Self {
        Self {
            process,
            linked: true,
            seat: crate::state::Seat::default(),
            client: crate::state::Client {
                joined: Joined::Out,
                held: 0,
                assign: 0,
                revoke: 0,
                lost: false,
                open: 0,
                hand_back: None,
            },
            slices: [Owning::default(), Owning::default()],
            asked: 0,
            asking: false,
            leaving: false,
            lease: rules.lease_length,
            first: rules.lease_length,
            seen: 0,
            commit: Commit::none(),
            late: None,
            claims: 0,
        }
    }

    /// A tick; `false` when attempts have to end first.
    pub(crate) fn tick(&mut self, rules: &Rules) -> bool {
        if self.runs() {
            let overdue = |own: &Owning| own.old | own.orphan_old | own.stranded != 0;
            if self.slices.iter().any(overdue) {
                return false;
            }
        }
        let older = |age: u8| (age + 1).min(SESSION);
        if self.client.joined == Joined::In || self.seat.known {
            self.seat.silence = older(self.seat.silence);
        }
        // ages past the lease all mean the same
        let ended = |age: u8| (age + 1).min(rules.lease_length);
        (self.lease, self.first) = (ended(self.lease), ended(self.first));
        self.seen = ended(self.seen);
        if self.commit.stage != Stage::None {
            self.commit.age = ended(self.commit.age);
        }
        for own in &mut self.slices {
            (own.old, own.young) = (own.young, 0);
            (own.orphan_old, own.orphan_young) = (own.orphan_young, 0);
        }
        true
    }
}

impl State {
    /// Offsets and maps are fetched.
    pub(crate) fn fetch(&mut self, model: &Protocol, m: usize, slice: usize) -> bool {
        let member = &mut self.members[m];
        let own = &mut member.slices[slice];
        if member.process != Process::Running || own.phase != Phase::Loading || !member.linked {
            return false;
        }
        own.done = self.slices[slice].committed;
        own.stored = own.done;
        own.phase = if model.bounds.fences {
            Phase::Fetched
        } else {
            Phase::Owned
        };
        true
    }

    /// A request is handed to the HTTP client, after a look at the clock.
    pub(crate) fn start(&mut self, model: &Protocol, m: usize, slice: usize, record: Mask) -> bool {
        let member = &self.members[m];
        let own = &member.slices[slice];
        let known = own.done | own.awaited();
        let may = member.runs() && may_start(&model.rules, member, slice);
        if !may || known & record != 0 || model.records(slice) & record == 0 {
            return false;
        }
        let other = self.members[1 - m].slices[slice].in_flight();
        if other != 0 {
            self.broken |= OVERLAP;
        }
        if self.clean && (self.slices[slice].settled | other) & record != 0 {
            self.broken |= REPEATED;
        }
        self.members[m].slices[slice].young |= record;
        true
    }

    /// An attempt ended and its result is written, or nobody wants it any more.
    pub(crate) fn end(&mut self, model: &Protocol, m: usize, slice: usize, record: Mask) -> bool {
        let member = &mut self.members[m];
        if !member.runs() {
            return false;
        }
        let own = &mut member.slices[slice];
        if own.awaited() & record != 0 {
            own.young &= !record;
            own.old &= !record;
            own.stranded &= !record;
            own.done |= record;
            self.slices[slice].settled |= record;
            member.settle_down(&model.rules);
            true
        } else if (own.orphan_young | own.orphan_old) & record != 0 {
            own.orphan_young &= !record;
            own.orphan_old &= !record;
            true
        } else {
            false
        }
    }
}
