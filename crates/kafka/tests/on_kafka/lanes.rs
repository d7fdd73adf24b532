//! Reading lanes, and lanes that cannot be read.

use crossbeam_channel::bounded;
use postrider_kafka::lanes::{LaneEvent, LaneReader};

use crate::world::{LIMIT, World};

#[test]
fn a_lane_is_read_where_it_was_told_and_stops_when_told() {
    let world = World::new("lanes");
    world.write(2, &["a", "b", "c", "d"]);
    let (events, happened) = bounded(16);
    let reader = LaneReader::start(&world.settings, &world.group, "test", events).unwrap();
    let next = || match happened.recv_timeout(LIMIT).expect("a record") {
        LaneEvent::Record(tag, record) => (tag, record.origin.offset),
        other => panic!("{other:?}"),
    };
    reader.read(&world.topic, 2, None, 1);
    assert_eq!(
        [next(), next(), next(), next()],
        [(1, 0), (1, 1), (1, 2), (1, 3)]
    );
    reader.read(&world.topic, 2, Some(2), 2);
    assert_eq!([next(), next()], [(2, 2), (2, 3)]);
    reader.stop_reading(&world.topic, 2);
    reader.read(&world.topic, 3, None, 3);
    world.write(2, &["e"]);
    world.write(3, &["x"]);
    assert_eq!(next(), (3, 0), "nothing of the lane that was stopped");
    reader.read(&world.topic, 2, Some(4), 4);
    assert_eq!(next(), (4, 4));
}

#[test]
fn an_offset_out_of_range_is_named_and_the_others_go_on() {
    let world = World::new("range");
    world.write(1, &["a"]);
    let (events, happened) = bounded(16);
    let reader = LaneReader::start(&world.settings, &world.group, "test", events).unwrap();
    reader.read(&world.topic, 0, Some(500), "bad");
    match happened.recv_timeout(LIMIT).expect("an alarm") {
        LaneEvent::OutOfRange {
            tag,
            wanted,
            low,
            high,
        } => {
            assert_eq!((tag, wanted, low, high), ("bad", 500, 0, 0));
        }
        other => panic!("{other:?}"),
    }
    reader.read(&world.topic, 1, Some(0), "good");
    match happened.recv_timeout(LIMIT).expect("a record") {
        LaneEvent::Record(tag, record) => assert_eq!((tag, record.origin.offset), ("good", 0)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_lane_whose_topic_is_deleted_is_lost_and_the_others_go_on() {
    let (gone, other) = (World::new("lost"), World::new("stays"));
    gone.write(1, &["a"]);
    let (events, happened) = bounded(16);
    let reader = LaneReader::start(&gone.settings, &gone.group, "test", events).unwrap();
    reader.read(&gone.topic, 1, Some(0), "gone");
    reader.read(&other.topic, 1, Some(0), "other");
    match happened.recv_timeout(LIMIT).expect("a record") {
        LaneEvent::Record(tag, _) => assert_eq!(tag, "gone"),
        other => panic!("{other:?}"),
    }
    gone.delete();
    match happened.recv_timeout(LIMIT).expect("an alarm") {
        LaneEvent::Lost { tag } => assert_eq!(tag, "gone"),
        other => panic!("{other:?}"),
    }
    other.write(1, &["b"]);
    match happened.recv_timeout(LIMIT).expect("a record") {
        LaneEvent::Record(tag, record) => assert_eq!((tag, record.origin.offset), ("other", 0)),
        other => panic!("{other:?}"),
    }
}
