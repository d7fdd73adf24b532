//! Whether a state can heal: from it, without any further fault or move, one schedule must lead
//! to every slice owned and every record settled and committed.

use crate::model::{Protocol, Step};
use crate::state::{Phase, Process, State, has};

/// Steps a calm world may take; a session, a rejoin and the work need fewer than half of them.
const STEPS_MAX: usize = 400;

/// Whether the state heals. The schedule is fixed: always the first step that can be taken, in
/// the order of [`Protocol::steps`], so time passes only when nothing else is left to do.
#[must_use]
pub(crate) fn heals(model: &Protocol, from: &State) -> bool {
    let mut steps = Vec::new();
    model.steps(&mut steps);
    let bad_luck = |step: &Step| matches!(step, Step::AnswerNeverComes(_));
    let end = steps.iter().position(bad_luck).unwrap_or(steps.len());
    let mut state = from.clone();
    for _ in 0..STEPS_MAX {
        if is_well(model, &state) {
            return true;
        }
        let mut taken = steps[..end].iter();
        match taken.find_map(|&step| model.step(&state, step)) {
            Some(next) => state = next,
            None => return false,
        }
    }
    false
}

fn is_well(model: &Protocol, state: &State) -> bool {
    model.slices().all(|slice| {
        let durable = &state.slices[slice];
        let owners = state.members.iter().filter(|member| {
            let owned = member.slices[slice].phase == Phase::Owned;
            let heard = !model.bounds.fences || member.slices[slice].epoch == durable.fence.0;
            owned && heard && member.process == Process::Running && has(member.seat.assigned, slice)
        });
        let done = durable.committed == model.records(slice);
        done && owners.count() == 1
    })
}
