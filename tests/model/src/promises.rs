//! What must hold. A step that breaks a promise leaves its mark in [`State::broken`]; those that
//! can be seen in a moment alone are looked at there.

use stateright::Property;

use crate::calm;
use crate::model::Protocol;
use crate::rules::{Lease, Rules};
use crate::state::{Member, Phase, Process, SLICES, State};

/// An attempt started while a former owner, neither frozen nor dead, had one under way.
pub const OVERLAP: u8 = 1;
/// Without any fault, a record was attempted that was settled or under way.
pub const REPEATED: u8 = 1 << 1;
/// A commit was accepted that calls a record settled which nobody settled.
pub const PASSED: u8 = 1 << 2;
/// A commit was accepted that calls less settled than another owner did before.
pub const FELL_BACK: u8 = 1 << 3;
/// Readers accepted a state record that is not of the owner of the highest fence.
pub const FOREIGN_STATE: u8 = 1 << 4;

/// Promise: no two members may start an attempt for the same slice.
pub const ONE_STARTS: &str = "one member at most may start attempts for a slice";
/// Promise: nothing is under way where the next owner starts.
pub const NO_OVERLAP: &str = "no attempt is under way when another owner starts one";
/// Promise: without faults nothing is sent twice.
pub const NO_REPEAT: &str = "without faults no record is attempted again";
/// Promise: nothing unsettled is lost.
pub const NOTHING_PASSED: &str = "no commit passes an unsettled record";
/// Promise: the frontier stays where a later owner brought it.
pub const NO_FALL: &str = "no commit undoes that of a later owner";
/// Promise: state is of the owner.
pub const OWN_STATE: &str = "readers accept the state of the fence's owner alone";
/// Promise: it goes on.
pub const GOES_ON: &str = "without further faults every slice is owned and every record settled";

/// Whether this member could start an attempt for the slice now, were it to run.
#[must_use]
pub fn may_start(rules: &Rules, member: &Member, slice: usize) -> bool {
    let leased = rules.lease == Lease::None || member.lease < rules.lease_length;
    member.process != Process::Down && member.slices[slice].phase == Phase::Owned && leased
}

/// All promises.
#[must_use]
pub fn all() -> Vec<Property<Protocol>> {
    vec![
        Property::always(ONE_STARTS, |model: &Protocol, state: &State| {
            (0..SLICES).all(|slice| {
                let both = state.members.iter();
                both.filter(|member| may_start(&model.rules, member, slice))
                    .count()
                    < 2
            })
        }),
        Property::always(NO_OVERLAP, |_, state: &State| state.broken & OVERLAP == 0),
        Property::always(NO_REPEAT, |_, state: &State| state.broken & REPEATED == 0),
        Property::always(NOTHING_PASSED, |_, state: &State| {
            state.broken & PASSED == 0
        }),
        Property::always(NO_FALL, |_, state: &State| state.broken & FELL_BACK == 0),
        Property::always(OWN_STATE, |_, state: &State| {
            state.broken & FOREIGN_STATE == 0
        }),
        Property::always(GOES_ON, |model: &Protocol, state: &State| {
            !model.bounds.healed || state.broken != 0 || calm::heals(model, state)
        }),
    ]
}
