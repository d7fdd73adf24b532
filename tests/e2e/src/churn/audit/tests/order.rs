//! Two keys, whose events take turns, of one hundred that are there at once.

use super::super::super::subject::Subject;
use super::super::order::Ordered;
use super::Story;

/// Event n is of key n % 100: with 10 s of events every key has one, with 20 s two.
fn story() -> Story {
    let mut story = Story::of(30);
    story.journal.setting.subject = Some(Subject::Ordered(100));
    for event in &mut story.journal.events {
        event.subject = Some(event.number);
    }
    story
}

fn ordered(story: &Story) -> Ordered {
    story.audit().ordered.expect("it is about an order")
}

/// What is wrong: out of order, early, gone back to.
fn wrong(story: &Story) -> [Vec<usize>; 3] {
    let Ordered {
        overtook,
        early,
        went_back,
        ..
    } = ordered(story);
    [overtook, early, went_back]
}

const NONE: [Vec<usize>; 3] = [const { Vec::new() }; 3];

#[test]
fn heads_fail_and_a_crash_repeats_the_end_in_order() {
    let mut story = story();
    story.delivers(1, 0..100, 0);
    story.journal.requests[7].status = 500;
    story.delivers(1, 7..8, 10_000);
    story.delivers(1, 100..200, 0);
    // another worker repeats the end
    story.delivers(2, 95..100, 0);
    story.delivers(2, 195..300, 0);
    assert_eq!(wrong(&story), NONE);
    let ordered = ordered(&story);
    assert_eq!(
        (ordered.keys, ordered.events, ordered.heads),
        (100, (3, 3), 300)
    );
    assert_eq!(ordered.failed, 1);
}

#[test]
fn a_follower_that_does_not_wait_for_a_failed_head_is_found() {
    let mut story = story();
    story.delivers(1, 0..100, 0);
    story.journal.requests[7].status = 500;
    story.delivers(1, 100..200, 0);
    story.delivers(2, 7..8, 20_000);
    story.delivers(2, 200..300, 0);
    assert_eq!(wrong(&story), [vec![107], vec![107], vec![]]);
}

#[test]
fn a_follower_that_only_asks_early_is_found() {
    let mut story = story();
    story.delivers(1, 0..100, 0);
    story.journal.requests[7].status = 500;
    story.delivers(2, 107..108, 0);
    let early = story.journal.requests.last_mut().expect("one");
    early.status = 500;
    story.delivers(1, 7..8, 20_000);
    story.delivers(1, 100..300, 0);
    assert_eq!(wrong(&story), [vec![], vec![107], vec![]]);
}

#[test]
fn a_worker_that_goes_back_is_found() {
    let mut story = story();
    story.delivers(1, 0..200, 0);
    story.delivers(1, 42..43, 20_000);
    story.delivers(1, 200..300, 0);
    assert_eq!(wrong(&story), [vec![], vec![], vec![42]]);
}

#[test]
fn one_that_never_came_leaves_all_behind_it_out_of_order() {
    let mut story = story();
    story.delivers(1, 0..50, 0);
    story.delivers(1, 51..300, 0);
    assert_eq!(wrong(&story)[0], [150, 250]);
}
