//! A limit of 5 a second for every event of the story.

use super::super::super::journal::What;
use super::super::super::subject::Subject;
use super::super::limit::{Limited, Why};
use super::Story;

/// Events at least as fast as the limit, which always wait.
fn story(seconds: u64) -> Story {
    let mut story = Story::of(seconds);
    story.journal.setting.subject = Some(Subject::Limited(5));
    for event in &mut story.journal.events {
        event.subject = Some(event.number);
        event.acked_ms = Some(super::T0);
    }
    story
}

/// A worker sends events at 200 ms from one another.
fn sends(story: &mut Story, worker: u32, events: std::ops::Range<usize>, from: u64) {
    for (turn, event) in events.enumerate() {
        let at = from + turn as u64 * 200;
        story.requests(worker, event, at);
        story.recorded(worker, event, at);
    }
}

fn limited(story: &Story) -> Limited {
    story.audit().limited.expect("it is about a limit")
}

#[test]
fn a_limit_that_holds_through_moves() {
    let mut story = story(60);
    story.action(20_000, What::Terminate { worker: 1 });
    story.action(32_000, What::Kill { worker: 2 });
    sends(&mut story, 1, 0..100, 0);
    sends(&mut story, 2, 100..150, 22_000);
    sends(&mut story, 3, 150..250, 39_800);
    let limited = limited(&story);
    assert_eq!((limited.arrived.count, limited.started.count), (5, 5));
    assert_eq!((limited.arrived.above, limited.started.above), (0, 0));
    let moves = limited.moves.iter().map(|m| (m.why, m.to_ms - m.from_ms));
    assert_eq!(
        moves.collect::<Vec<_>>(),
        [(Why::Stopped, 2_200), (Why::Killed, 8_000)]
    );
    assert_eq!((limited.flow.requests, limited.flow.paced), (250, 235));
    assert_eq!(
        (limited.flow.span_ms, limited.flow.gaps_ms),
        (59_600, 10_200)
    );
    assert_eq!(limited.waiting_min, 600 - 250);
}

#[test]
fn one_more_within_a_second_is_found_wherever_it_begins() {
    let mut story = story(60);
    sends(&mut story, 1, 0..50, 0);
    // arrives 999 ms after the first of its window, and starts a whole second after it
    story.requests(1, 50, 9_999);
    story.recorded(1, 50, 10_000);
    let found = limited(&story);
    assert_eq!((found.arrived.count, found.arrived.above), (6, 1));
    assert_eq!(found.arrived.at_ms, super::T0 + 9_002);
    assert_eq!(found.started.count, 5);
    story.journal.attempts[50].started_ms -= 1;
    let found = limited(&story);
    assert_eq!((found.started.count, found.started.above), (6, 1));
}

#[test]
fn arrivals_and_starts_are_counted_apart() {
    let mut story = story(60);
    sends(&mut story, 1, 0..51, 0);
    // one was slow on its way, so that six are there within a second
    story.journal.requests[50].arrived_ms += 150;
    story.journal.requests[45].arrived_ms += 180;
    let limited = limited(&story);
    assert_eq!(limited.started.count, 5);
    assert_eq!((limited.arrived.count, limited.arrived.above), (6, 1));
}

#[test]
fn a_slow_owner_and_an_empty_queue_are_seen() {
    let mut story = story(60);
    for event in 0..100 {
        let at = event as u64 * 400;
        story.requests(1, event, at);
        story.recorded(1, event, at);
    }
    assert!(limited(&story).flow.outside() < 2.5);
    for event in &mut story.journal.events {
        event.acked_ms = Some(super::T0 + event.number as u64 * 400);
    }
    assert_eq!(limited(&story).waiting_min, 0);
}
