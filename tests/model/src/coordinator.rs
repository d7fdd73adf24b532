//! The group coordinator and the client library's part of KIP-848: a slice is given to its next
//! owner when the former handed it back, left, or was silent for a session. Commits are checked
//! by member and epoch, never by slice.

use crate::model::Protocol;
use crate::promises::{FELL_BACK, PASSED};
use crate::rules::SESSION;
use crate::state::{
    Answer, Entries, Joined, MEMBERS, Mask, NOBODY, Process, Request, SLICES, Seat, Stage, Stamp,
    State, has, only,
};

impl State {
    /// A heartbeat and its answer; `false` when it cannot be or says nothing new to either side.
    /// Those that say nothing are part of the tick, see [`Self::tick`].
    pub(crate) fn heartbeat(&mut self, m: usize) -> bool {
        let member = &self.members[m];
        if member.process != Process::Running || !member.linked || member.leaving_for_good() {
            return false;
        }
        match member.client.joined {
            Joined::Expelled => false,
            Joined::Out => self.join(m),
            Joined::In if member.seat.known => self.reconcile(m),
            Joined::In => {
                let client = &mut self.members[m].client;
                client.joined = Joined::Expelled;
                client.lost = true;
                (client.assign, client.revoke) = (0, 0);
                client.open = client.held;
                true
            }
        }
    }

    fn join(&mut self, m: usize) -> bool {
        let member = &mut self.members[m];
        if member.leaving || member.seat.known {
            return false;
        }
        member.client.joined = Joined::In;
        self.outdate(m);
        self.members[m].seat = Seat {
            known: true,
            silence: 0,
            assigned: 0,
            current: true,
        };
        for target in &mut self.target {
            if *target == NOBODY {
                *target = m as u8;
            }
        }
        true
    }

    fn reconcile(&mut self, m: usize) -> bool {
        let before = self.members[m].clone();
        let wanted = self.wanted(m);
        let elsewhere = self.members[1 - m].seat.assigned;
        let member = &mut self.members[m];
        member.seat.assigned = member.client.held;
        let back = member.client.held & !wanted;
        member.client.revoke |= back & !member.client.open;
        member.client.open |= back;
        if back == 0 {
            let fresh = wanted & !member.client.held & !elsewhere;
            member.client.held |= fresh;
            member.client.assign |= fresh;
            member.seat.assigned |= fresh;
            if !member.seat.current {
                member.seat.current = true;
                self.outdate(m);
            }
        }
        let news = self.members[m] != before;
        self.members[m].seat.silence = 0;
        news
    }

    fn wanted(&self, m: usize) -> Mask {
        (0..SLICES)
            .filter(|&slice| usize::from(self.target[slice]) == m)
            .map(only)
            .sum()
    }

    /// The member has a new epoch: what it sent before will be refused.
    fn outdate(&mut self, m: usize) {
        self.members[m].late = None;
    }

    /// The assignor moves a slice.
    /// The first to move is the first slice: the other is like it.
    pub(crate) fn rebalance(&mut self, model: &Protocol, slice: usize, to: usize) -> bool {
        if slice > 0 && self.moves == model.bounds.moves {
            return false;
        }
        if self.moves == 0 || !self.members[to].seat.known || self.wanted(to) & only(slice) != 0 {
            return false;
        }
        self.moves -= 1;
        self.target[slice] = to as u8;
        for member in &mut self.members {
            member.seat.current = false;
        }
        true
    }

    /// Time passes; `false` when something has to happen first. Heartbeats that say nothing new
    /// happen at the last moment, so that sessions are as short as they can be.
    pub(crate) fn tick(&mut self, model: &Protocol) -> bool {
        let before = self.members.clone();
        for m in 0..MEMBERS {
            let member = &self.members[m];
            let beats = member.process == Process::Running && member.linked;
            if beats && member.client.joined == Joined::In {
                if self.clone().heartbeat(m) {
                    return false;
                }
                self.members[m].seat.silence = 0;
            }
        }
        let passes = self.members.iter_mut().all(|m| m.tick(&model.rules));
        passes && self.members != before
    }

    /// The coordinator has not heard of a member for a session.
    pub(crate) fn expire(&mut self, m: usize) -> bool {
        let seat = &self.members[m].seat;
        let silent = seat.known && seat.silence >= SESSION;
        if silent {
            self.unseat(m);
        }
        silent
    }

    /// The member is none any more.
    pub(crate) fn unseat(&mut self, m: usize) {
        let other = 1 - m;
        let next = if self.members[other].seat.known {
            self.members[other].seat.current = false;
            other as u8
        } else {
            NOBODY
        };
        for target in &mut self.target {
            if usize::from(*target) == m {
                *target = next;
            }
        }
        self.outdate(m);
        let seat = &mut self.members[m].seat;
        (seat.known, seat.assigned, seat.current) = (false, 0, false);
    }

    /// The client library answers every revocation that is open.
    pub(crate) fn carry_out_hand_back(&mut self, model: &Protocol, m: usize) -> bool {
        let member = &mut self.members[m];
        let Some(free) = member.client.hand_back else {
            return false;
        };
        let waits = model.rules.answer_after_commits && member.commit.stage == Stage::Queued;
        if member.process != Process::Running || waits {
            return false;
        }
        let client = &mut member.client;
        client.hand_back = None;
        if model.rules.hand_back_knows_all && client.open & !free != 0 {
            return true; // it holds some of what is open: it answers again
        }
        client.held &= !client.open;
        client.open = 0;
        if client.joined == Joined::Expelled {
            client.joined = Joined::Out;
            client.held = 0;
        }
        true
    }

    /// The client library sends the commit, as whom it is at that moment, and the broker answers.
    /// What is sent and answered later, or never, is a late request.
    pub(crate) fn send_commit(&mut self, m: usize) -> bool {
        let member = &self.members[m];
        let can = member.process == Process::Running && member.linked;
        if !can || member.commit.stage != Stage::Queued {
            return false;
        }
        let request = Request {
            entries: member.commit.entries,
            stamp: member.stamp(),
        };
        let answer = self.judge(m, request);
        let commit = &mut self.members[m].commit;
        commit.stage = Stage::Answered(answer);
        if answer != Answer::Accepted {
            commit.entries.done = [0; SLICES];
        }
        true
    }

    /// A request whose answer was given up arrives.
    pub(crate) fn late_commit(&mut self, m: usize) -> bool {
        let Some(request) = self.members[m].late.take() else {
            return false;
        };
        self.judge(m, request);
        true
    }

    fn judge(&mut self, m: usize, request: Request) -> Answer {
        let empty = (0..MEMBERS).all(|member| !self.members[member].seat.known);
        let accepted = match request.stamp {
            Stamp::Current => self.members[m].seat.known,
            Stamp::Former => false,
            Stamp::NoMember => empty,
        };
        if accepted {
            self.store(m, request.entries);
            Answer::Accepted
        } else if self.members[m].seat.known {
            Answer::Refused
        } else {
            Answer::NotAMember
        }
    }

    fn store(&mut self, m: usize, entries: Entries) {
        for slice in (0..SLICES).filter(|&slice| has(entries.slices, slice)) {
            let durable = &mut self.slices[slice];
            let done = entries.done[slice];
            if done & !durable.settled != 0 {
                self.broken |= PASSED;
            }
            let owner = has(self.members[m].seat.assigned, slice);
            let by_another = usize::from(durable.committed_by) != m;
            if !owner && by_another && durable.committed & !done != 0 {
                self.broken |= FELL_BACK;
            }
            if durable.committed != done {
                durable.committed = done;
                durable.committed_by = if done == 0 { 0 } else { m as u8 };
            }
        }
    }
}
