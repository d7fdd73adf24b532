//! Hostile receivers, one after the other: alone in this file, for it measures time.

mod run;

#[test]
fn every_hostile_receiver_ends_in_time_with_its_own_kind_of_error() {
    run::hostile(&["receivers"]);
}
