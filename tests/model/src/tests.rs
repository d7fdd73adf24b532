//! The protocol keeps its promises within these bounds, and the checker finds each rule that is
//! broken on purpose. Traces and counts of states: `cargo test -p postrider-model -- --nocapture`.

use stateright::{Checker, HasDiscoveries, Model};

use crate::model::{Protocol, Step};
use crate::promises::{
    GOES_ON, NO_FALL, NO_OVERLAP, NO_REPEAT, NOTHING_PASSED, ONE_STARTS, OWN_STATE,
};
use crate::rules::{Bounds, Lease, Rules, SESSION};

const TWO_SLICES: [Option<u8>; 2] = [Some(1), Some(1)];
const ONE_SLICE: [Option<u8>; 2] = [Some(1), None];
const TWO_RECORDS: [Option<u8>; 2] = [Some(2), None];

/// One slice without records, with fences.
const FENCES: Bounds = Bounds {
    fences: true,
    ..bounds([Some(0), None], 1, 1)
};

const fn bounds(records: [Option<u8>; 2], faults: u8, moves: u8) -> Bounds {
    Bounds {
        records,
        faults,
        moves,
        fences: false,
        healed: false,
    }
}

const fn healed(bounds: Bounds) -> Bounds {
    Bounds {
        healed: true,
        ..bounds
    }
}

/// Promises that are broken by a shortest run, and that run.
fn check(rules: Rules, bounds: Bounds) -> Option<(Vec<&'static str>, Vec<Step>)> {
    let mut found = None;
    let mut depth_max = None;
    loop {
        let model = Protocol { rules, bounds };
        let mut checker = model.checker().finish_when(HasDiscoveries::AnyFailures);
        if let Some(depth) = depth_max {
            checker = checker.target_max_depth(depth);
        }
        let checker = checker.spawn_bfs().join();
        let (states, depth) = (checker.unique_state_count(), checker.max_depth());
        println!("{states} states, {depth} deep");
        let paths = checker.discoveries().into_iter();
        let mut paths: Vec<_> = paths
            .map(|(promise, path)| (promise, path.into_actions()))
            .collect();
        paths.sort_by_key(|(promise, steps)| (steps.len(), *promise));
        let Some((_, steps)) = paths.first().cloned() else {
            return found;
        };
        let same = paths.iter().filter(|(_, other)| *other == steps);
        let promises = same.map(|(promise, _)| *promise).collect();
        // the search overwrites what it found until its block of states ends: look for less
        depth_max = Some(steps.len() + 1);
        found = Some((promises, steps));
    }
}

fn holds(bounds: Bounds) {
    let broken = check(Rules::default(), bounds);
    assert_eq!(broken, None, "within {bounds:?}");
}

fn finds(rules: Rules, bounds: Bounds, promise: &str) {
    assert_ne!(rules, Rules::default());
    finds_in(rules, bounds, promise);
}

fn finds_in(rules: Rules, bounds: Bounds, promise: &str) {
    let (broken, steps) = check(rules, bounds).expect("the checker sees that a rule is broken");
    println!("broken: {broken:?}, by");
    for step in steps {
        println!("  {step:?}");
    }
    assert!(broken.contains(&promise), "{broken:?}");
}

#[test]
fn two_slices_move_without_faults() {
    holds(healed(bounds(TWO_SLICES, 0, 2)));
}

#[test]
fn two_slices_and_a_fault() {
    holds(bounds(TWO_SLICES, 1, 1));
}

#[test]
fn two_records_end_in_any_order_and_a_fault() {
    holds(bounds(TWO_RECORDS, 1, 1));
}

#[test]
fn every_state_heals() {
    holds(healed(bounds(ONE_SLICE, 1, 1)));
}

#[test]
fn fences_and_a_fault() {
    holds(healed(FENCES));
}

#[test]
fn two_silences_within_a_heartbeat_outwit_the_lease() {
    // the known limit: only a heartbeat's own answer, which librdkafka shows nobody, would tell
    finds_in(Rules::default(), bounds(ONE_SLICE, 2, 0), NO_OVERLAP);
}

#[test]
fn the_checker_finds_a_commit_of_a_slice_that_is_not_owned() {
    let rules = Rules {
        commit_only_owned: false,
        ..Rules::default()
    };
    finds(rules, bounds(TWO_RECORDS, 0, 1), NO_FALL);
}

#[test]
fn the_checker_finds_a_commit_one_too_far() {
    let rules = Rules {
        commit_exact: false,
        ..Rules::default()
    };
    finds(rules, bounds(ONE_SLICE, 0, 0), NOTHING_PASSED);
}

#[test]
fn the_checker_finds_an_answer_of_another_membership_that_is_believed() {
    let rules = Rules {
        answers_by_membership: false,
        ..Rules::default()
    };
    finds(rules, healed(bounds(ONE_SLICE, 1, 1)), GOES_ON);
}

#[test]
fn the_checker_finds_attempts_without_a_lease() {
    let rules = Rules {
        lease: Lease::None,
        ..Rules::default()
    };
    finds(rules, bounds(ONE_SLICE, 1, 0), ONE_STARTS);
}

#[test]
fn the_checker_finds_a_lease_from_one_commit() {
    let rules = Rules {
        lease: Lease::LastCommit,
        ..Rules::default()
    };
    finds(rules, bounds(ONE_SLICE, 1, 0), ONE_STARTS);
}

#[test]
fn the_checker_finds_a_lease_as_long_as_the_session() {
    let rules = Rules {
        lease_length: SESSION,
        ..Rules::default()
    };
    finds(rules, bounds(ONE_SLICE, 1, 0), NO_OVERLAP);
}

#[test]
fn the_checker_finds_a_hand_back_before_the_drain() {
    let rules = Rules {
        drain_first: false,
        ..Rules::default()
    };
    finds(rules, bounds(ONE_SLICE, 0, 1), NO_OVERLAP);
}

#[test]
fn the_checker_finds_a_hand_back_before_the_last_commit() {
    let rules = Rules {
        commit_first: false,
        ..Rules::default()
    };
    finds(rules, bounds(ONE_SLICE, 0, 1), NO_REPEAT);
}

#[test]
fn the_checker_finds_a_revocation_that_replaces_another() {
    let rules = Rules {
        merge_revocations: false,
        ..Rules::default()
    };
    finds(rules, healed(bounds(TWO_SLICES, 0, 2)), GOES_ON);
}

#[test]
fn the_checker_finds_a_hand_back_that_crosses_a_revocation() {
    let rules = Rules {
        hand_back_knows_all: false,
        ..Rules::default()
    };
    finds(rules, bounds(TWO_SLICES, 0, 2), ONE_STARTS);
}

#[test]
fn the_checker_finds_a_hand_back_that_overtakes_a_commit() {
    let rules = Rules {
        answer_after_commits: false,
        ..Rules::default()
    };
    finds(rules, bounds(TWO_RECORDS, 1, 1), NO_FALL);
}

#[test]
fn the_checker_finds_a_reader_without_regard_for_fences() {
    let rules = Rules {
        readers_keep_to_fences: false,
        ..Rules::default()
    };
    finds(rules, FENCES, OWN_STATE);
}

#[test]
fn the_checker_finds_a_fence_that_is_not_read_back() {
    let rules = Rules {
        read_fence_back: false,
        ..Rules::default()
    };
    finds(rules, FENCES, OWN_STATE);
}

#[test]
fn the_checker_finds_an_owner_that_a_late_fence_silences() {
    let rules = Rules {
        claim_again: false,
        ..Rules::default()
    };
    finds(rules, healed(FENCES), GOES_ON);
}
