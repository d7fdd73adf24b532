//! What is committed, against what is in the log.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use futures_executor::block_on;
use postrider_kafka::GroupProtocol;
use postrider_kafka::membership::{CommitResult, Membership, MembershipEvent};
use postrider_kafka::offsets::{Fault, Log, OffsetReader, Standing};
use rdkafka::admin::AdminOptions;
use rdkafka::{Offset, TopicPartitionList};

use crate::world::{LIMIT, SLICES, World};

fn committed(world: &World, offsets: &[(i32, i64)]) -> (Membership, Receiver<MembershipEvent>) {
    let (member, happened) = world.join(GroupProtocol::Consumer);
    let mut owned = 0;
    while owned < SLICES as usize {
        match happened.recv_timeout(LIMIT).unwrap() {
            MembershipEvent::Assigned(partitions) => owned += partitions.len(),
            other => panic!("{other:?}"),
        }
    }
    let offset = |(partition, offset): &(i32, i64)| world.offset(*partition, *offset, "map");
    member.commit(offsets.iter().map(offset).collect());
    let accepted = MembershipEvent::CommitFinished(CommitResult::Accepted);
    assert_eq!(happened.recv_timeout(LIMIT).unwrap(), accepted);
    (member, happened)
}

fn standing(committed: Option<i64>, low: i64, high: i64) -> Standing {
    Standing {
        committed: committed.map(|offset| (offset, "map".to_owned())),
        log: Log::Holds { low, high },
    }
}

#[test]
fn a_committed_offset_outside_its_log_is_found_before_it_is_read() {
    let world = World::new("standing");
    for partition in 0..3 {
        world.write(partition, &["a", "b", "c", "d"]);
    }
    let _member = committed(&world, &[(0, 4), (1, 5), (2, 1), (3, 0)]);
    // As retention would: offsets below 2 are gone.
    let mut below = TopicPartitionList::new();
    below
        .add_partition_offset(&world.topic, 2, Offset::Offset(2))
        .unwrap();
    block_on(world.admin().delete_records(&below, &AdminOptions::new())).unwrap();

    let standings = world.standings(&[0, 1, 2, 3, 4]);
    let expected = [
        standing(Some(4), 0, 4),
        standing(Some(5), 0, 4),
        standing(Some(1), 2, 4),
        standing(Some(0), 0, 0),
        standing(None, 0, 0),
    ];
    assert_eq!(standings, expected);
    let faults: Vec<Option<Fault>> = standings.iter().map(Standing::fault).collect();
    let outside = |wanted, low, high| Some(Fault::OutOfRange { wanted, low, high });
    assert_eq!(
        faults,
        [None, outside(5, 0, 4), outside(1, 2, 4), None, None]
    );
    assert_eq!(standings[0].end(), 4);
}

/// Routers go on writing to a lane that retention overtook, and somebody has to hear of it.
#[test]
fn a_committed_offset_outside_a_log_that_keeps_growing_is_found() {
    let world = World::new("growing");
    world.write(0, &["a", "b", "c", "d"]);
    let _member = committed(&world, &[(0, 1)]);
    let mut below = TopicPartitionList::new();
    below
        .add_partition_offset(&world.topic, 0, Offset::Offset(2))
        .unwrap();
    block_on(world.admin().delete_records(&below, &AdminOptions::new())).unwrap();

    let (found, deadline) = (AtomicBool::new(false), std::time::Instant::now() + LIMIT);
    let standings = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !found.load(Ordering::Relaxed) && std::time::Instant::now() < deadline {
                world.write(0, &["e"]);
            }
        });
        let standings = world.standings(&[0]);
        found.store(true, Ordering::Relaxed);
        standings
    });
    let fault = standings[0].fault();
    assert!(
        matches!(fault, Some(Fault::OutOfRange { wanted: 1, low: 2, high }) if high > 4),
        "{fault:?}"
    );
}

#[test]
fn a_place_that_does_not_exist_is_said_to_be_absent() {
    let world = World::new("absent");
    world.write(0, &["a"]);
    let places = vec![
        (world.topic.clone(), 0),
        (world.topic.clone(), SLICES),
        ("there-is-no-such-topic".into(), 0),
    ];
    let standings = world.standings_of(places);
    assert_eq!(standings[0], standing(None, 0, 1));
    for absent in &standings[1..] {
        assert_eq!(
            (absent.log, absent.fault()),
            (Log::Absent, Some(Fault::Absent))
        );
    }
    // Also when nothing else is asked for.
    let alone = world.standings_of(vec![("there-is-no-such-topic".into(), 0)]);
    assert_eq!(alone[0].log, Log::Absent);
}

/// A take-over must not wait for a topic that somebody deleted: the lanes of the others go on.
#[test]
fn a_topic_that_is_deleted_between_two_questions_is_absent_and_the_others_are_answered() {
    let (world, gone) = (World::new("takeover"), World::new("gone"));
    world.write(0, &["a", "b"]);
    let _member = committed(&world, &[(0, 1)]);
    let (answers, answered) = bounded(1);
    let reader = OffsetReader::start(&world.settings, &world.group, move |(), standings| {
        drop(answers.send(standings));
    });
    let reader = reader.unwrap();
    let ask = || {
        reader.fetch((), vec![(gone.topic.clone(), 0), (world.topic.clone(), 0)]);
        answered.recv_timeout(LIMIT).unwrap()
    };
    assert_eq!(ask(), [standing(None, 0, 0), standing(Some(1), 0, 2)]);
    gone.delete();
    let absent = Standing {
        committed: None,
        log: Log::Absent,
    };
    let deadline = std::time::Instant::now() + LIMIT;
    while ask() != [absent.clone(), standing(Some(1), 0, 2)] {
        assert!(
            std::time::Instant::now() < deadline,
            "the topic is not missed"
        );
    }
}

/// What a topic made anew rests on: with the old topic its offsets go, so that nothing says that
/// the new one was read already.
#[test]
fn a_topic_that_is_deleted_takes_its_offsets_with_it() {
    let world = World::new("anew");
    world.write(0, &["a", "b"]);
    let (member, _happened) = committed(&world, &[(0, 2)]);
    assert_eq!(world.standings(&[0]), [standing(Some(2), 0, 2)]);
    drop(member);
    world.delete();
    let deadline = std::time::Instant::now() + LIMIT;
    while world.standings(&[0])[0].committed.is_some() {
        assert!(
            std::time::Instant::now() < deadline,
            "offsets outlive their topic"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    world.make(&[]);
    world.write(0, &["x", "y", "z"]);
    assert_eq!(world.standings(&[0]), [standing(None, 0, 3)]);
}
