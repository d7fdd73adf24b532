//! Steps of the model, and what stateright needs to take them all.

use stateright::{Model, Property};

use crate::promises;
use crate::rules::{Bounds, Rules};
use crate::state::{
    Claimant, Durable, Joined, Mask, Member, Owning, Phase, Process, SLICES, Seat, State, only,
};

/// The protocol under some rules, explored within some bounds.
#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    /// What members keep to.
    pub rules: Rules,
    /// How far a run goes.
    pub bounds: Bounds,
}

/// One step. The first number is the member, the second the slice, the third the record (a mask).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "the names are those of the trace; the methods say what they do"
)]
pub enum Step {
    Mend(usize),
    Thaw(usize),
    Restart(usize),
    Expire(usize),
    Poll(usize),
    CarryOutHandBack(usize),
    TakeAnswer(usize),
    SendCommit(usize),
    End(usize, usize, Mask),
    WriteArrives(usize, usize),
    Fetch(usize, usize),
    Claim(usize, usize),
    ReadBack(usize, usize),
    MeetFence(usize, usize),
    WriteState(usize, usize),
    Leave(usize),
    Start(usize, usize, Mask),
    OrderCommit(usize),
    LateCommit(usize),
    Heartbeat(usize),
    Tick,
    AnswerNeverComes(usize),
    Rebalance(usize, usize),
    ShutDown(usize),
    Freeze(usize),
    Cut(usize),
    Crash(usize),
    LoseAnswer(usize),
    GiveUpDrain(usize, usize),
}

impl Protocol {
    /// All records of a slice.
    #[must_use]
    pub fn records(&self, slice: usize) -> Mask {
        (1 << self.bounds.records[slice].unwrap_or(0)) - 1
    }

    /// The slices that take part.
    pub(crate) fn slices(&self) -> impl Iterator<Item = usize> {
        let records = self.bounds.records;
        (0..SLICES).filter(move |&slice| records[slice].is_some())
    }

    /// Every step there is, those that need no bad luck first, in the order in which a calm world
    /// takes them.
    pub(crate) fn steps(&self, steps: &mut Vec<Step>) {
        let members = || 0..crate::state::MEMBERS;
        let places = || members().flat_map(move |m| self.slices().map(move |slice| (m, slice)));
        let attempts = || {
            places().flat_map(|(m, slice)| {
                let records = 0..usize::from(self.bounds.records[slice].unwrap_or(0));
                records.map(move |record| (m, slice, only(record)))
            })
        };
        steps.extend(members().map(Step::Mend));
        steps.extend(members().map(Step::Thaw));
        steps.extend(members().map(Step::Restart));
        steps.extend(members().map(Step::Expire));
        steps.extend(members().map(Step::Poll));
        steps.extend(members().map(Step::CarryOutHandBack));
        steps.extend(members().map(Step::TakeAnswer));
        steps.extend(members().map(Step::SendCommit));
        steps.extend(attempts().map(|(m, slice, record)| Step::End(m, slice, record)));
        if self.bounds.fences {
            steps.extend(places().map(|(m, slice)| Step::WriteArrives(m, slice)));
        }
        steps.extend(places().map(|(m, slice)| Step::Fetch(m, slice)));
        if self.bounds.fences {
            steps.extend(places().map(|(m, slice)| Step::Claim(m, slice)));
            steps.extend(places().map(|(m, slice)| Step::ReadBack(m, slice)));
            steps.extend(places().map(|(m, slice)| Step::MeetFence(m, slice)));
            steps.extend(places().map(|(m, slice)| Step::WriteState(m, slice)));
        }
        steps.extend(members().map(Step::Leave));
        steps.extend(attempts().map(|(m, slice, record)| Step::Start(m, slice, record)));
        steps.extend(members().map(Step::OrderCommit));
        steps.extend(members().map(Step::LateCommit));
        steps.extend(members().map(Step::Heartbeat));
        steps.push(Step::Tick);
        steps.extend(members().map(Step::AnswerNeverComes));
        steps.extend(places().map(|(m, slice)| Step::Rebalance(m, slice)));
        steps.extend(members().map(Step::ShutDown));
        steps.extend(members().map(Step::Freeze));
        steps.extend(members().map(Step::Cut));
        steps.extend(members().map(Step::Crash));
        steps.extend(members().map(Step::LoseAnswer));
        steps.extend(places().map(|(m, slice)| Step::GiveUpDrain(m, slice)));
    }

    /// The state after a step, if it can be taken and changes something.
    #[must_use]
    pub fn step(&self, last: &State, step: Step) -> Option<State> {
        let mut next = last.clone();
        next.take(self, step).then_some(next)
    }
}

impl State {
    fn take(&mut self, model: &Protocol, step: Step) -> bool {
        let rules = &model.rules;
        match step {
            Step::Mend(m) => !std::mem::replace(&mut self.members[m].linked, true),
            Step::Thaw(m) => self.turn(m, Process::Frozen, Process::Running),
            Step::Restart(m) => {
                !self.members[m].seat.known && self.turn(m, Process::Down, Process::Running)
            }
            Step::Expire(m) => self.expire(m),
            Step::Poll(m) => {
                let polled = self.members[m].poll(model);
                // nothing of its own happens between the two
                for slice in (0..SLICES).filter(|_| polled) {
                    self.fetch(model, m, slice);
                }
                polled
            }
            Step::CarryOutHandBack(m) => self.carry_out_hand_back(model, m),
            Step::TakeAnswer(m) => self.members[m].take_answer(rules),
            Step::SendCommit(m) => self.send_commit(m),
            Step::End(m, slice, record) => self.end(model, m, slice, record),
            Step::WriteArrives(m, slice) => self.write_arrives(model, m, slice),
            Step::Fetch(m, slice) => self.fetch(model, m, slice),
            Step::Claim(m, slice) => self.claim(model, m, slice),
            Step::ReadBack(m, slice) => self.read_back(m, slice),
            Step::MeetFence(m, slice) => self.meet_fence(model, m, slice),
            Step::WriteState(m, slice) => self.write_state(m, slice),
            Step::Leave(m) => self.leave(rules, m),
            Step::Start(m, slice, record) => self.start(model, m, slice, record),
            Step::OrderCommit(m) => self.members[m].order_commit(model),
            Step::LateCommit(m) => self.late_commit(m),
            Step::Heartbeat(m) => self.heartbeat(m),
            Step::Tick => self.tick(model),
            Step::AnswerNeverComes(m) => {
                !self.members[m].linked && self.members[m].lose_answer(rules)
            }
            Step::Rebalance(m, slice) => self.rebalance(model, slice, m),
            Step::ShutDown(m) => {
                let member = &mut self.members[m];
                let can = self.moves > 0 && member.process == Process::Running && !member.leaving;
                if can {
                    self.moves -= 1;
                    member.shut_down(rules);
                }
                can
            }
            Step::Freeze(m) => self.fault(|state| {
                let can = state.members[m].process == Process::Running;
                if can {
                    state.members[m].freeze();
                }
                can
            }),
            Step::Cut(m) => {
                self.fault(|state| std::mem::replace(&mut state.members[m].linked, false))
            }
            Step::Crash(m) => self.fault(|state| {
                let can = state.members[m].process != Process::Down;
                if can {
                    state.members[m].crash(rules);
                }
                can
            }),
            Step::LoseAnswer(m) => self.fault(|state| state.members[m].lose_answer(rules)),
            Step::GiveUpDrain(m, slice) => {
                self.fault(|state| state.members[m].give_up_drain(rules, slice))
            }
        }
    }

    fn fault(&mut self, happens: impl FnOnce(&mut Self) -> bool) -> bool {
        if self.faults == 0 || !happens(self) {
            return false;
        }
        self.faults -= 1;
        self.clean = false;
        true
    }

    fn turn(&mut self, m: usize, from: Process, to: Process) -> bool {
        let process = &mut self.members[m].process;
        let turns = *process == from;
        if turns {
            *process = to;
        }
        turns
    }

    /// A member that shut down leaves the group and ends.
    fn leave(&mut self, rules: &Rules, m: usize) -> bool {
        let member = &self.members[m];
        if member.process != Process::Running || !member.leaving_for_good() {
            return false;
        }
        if member.linked {
            self.unseat(m);
        }
        self.members[m].crash(rules);
        true
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Step;

    /// Both are members; the first owns both slices.
    fn init_states(&self) -> Vec<State> {
        let first = Claimant {
            member: 0,
            claim: 1,
        };
        let mut owner = Member::new(Process::Running, &self.rules);
        owner.seat = Seat {
            known: true,
            silence: 0,
            assigned: 0b11,
            current: true,
        };
        owner.client.joined = Joined::In;
        owner.client.held = 0b11;
        owner.claims = 1;
        for own in &mut owner.slices {
            *own = Owning {
                phase: Phase::Owned,
                epoch: 1,
                claim: 1,
                ..Owning::default()
            };
        }
        let durable = Durable {
            fence: (1, first),
            state_by: first,
            ..Durable::default()
        };
        let mut other = Member::new(Process::Running, &self.rules);
        other.seat = Seat {
            assigned: 0,
            ..owner.seat.clone()
        };
        other.client.joined = Joined::In;
        vec![State {
            members: [owner, other],
            slices: [durable.clone(), durable],
            target: [0, 0],
            faults: self.bounds.faults,
            moves: self.bounds.moves,
            clean: true,
            broken: 0,
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        if state.broken == 0 {
            self.steps(steps);
        }
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        self.step(last, step)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        promises::all()
    }
}
