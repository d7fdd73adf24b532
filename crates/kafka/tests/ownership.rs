//! The ownership member, offsets and lane readers on a real broker.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded, unbounded};
use postrider_domain::NewRecord;
use postrider_kafka::admin::{self, TopicSpec};
use postrider_kafka::lanes::{LaneEvent, LaneReader};
use postrider_kafka::membership::{
    CommitOffset, CommitResult, Membership, MembershipEvent, MembershipSettings,
};
use postrider_kafka::offsets::OffsetReader;
use postrider_kafka::{ClientSettings, GroupProtocol, Writer};
use postrider_test_support::{Broker, unique_prefix};

const LIMIT: Duration = Duration::from_secs(30);
const SLICES: i32 = 6;

struct World {
    settings: ClientSettings,
    topic: Arc<str>,
    group: String,
}

impl World {
    fn new(name: &str) -> Self {
        let prefix = unique_prefix(name);
        let settings = ClientSettings {
            brokers: Broker::shared().bootstrap().to_owned(),
            properties: Vec::new(),
            client_id: name.to_owned(),
        };
        let topic = format!("{prefix}deliveries");
        let spec = TopicSpec {
            name: topic.clone(),
            partitions: SLICES,
            replication: 1,
            configs: Vec::new(),
        };
        let plan = admin::plan(&settings, &[spec], LIMIT).unwrap();
        assert_eq!(admin::apply(&settings, &plan, LIMIT).unwrap(), []);
        Self {
            settings,
            topic: topic.into(),
            group: format!("{prefix}dispatcher"),
        }
    }

    fn join(&self, protocol: GroupProtocol) -> (Membership, Receiver<MembershipEvent>) {
        let (events, happened) = unbounded();
        let membership = MembershipSettings {
            group: self.group.clone(),
            topic: self.topic.to_string(),
            protocol,
            session: Duration::from_secs(45),
            heartbeat: Duration::from_secs(3),
        };
        let member = Membership::start(&self.settings, &membership, move |event| {
            drop(events.send(event))
        });
        (member.unwrap(), happened)
    }

    fn offset(&self, partition: i32, offset: i64, metadata: &str) -> CommitOffset {
        let topic = Arc::clone(&self.topic);
        CommitOffset {
            topic,
            partition,
            offset,
            metadata: metadata.to_owned(),
        }
    }

    fn write(&self, partition: i32, values: &[&'static str]) {
        let writer = Writer::new(&self.settings).unwrap();
        for value in values {
            let record = NewRecord {
                topic: Arc::clone(&self.topic),
                partition,
                key: None,
                value: Some(value.as_bytes().into()),
                headers: Vec::new(),
            };
            writer.send_and_wait(&record).unwrap();
        }
    }
}

fn next(happened: &Receiver<MembershipEvent>) -> MembershipEvent {
    happened
        .recv_timeout(LIMIT)
        .expect("an event of the member")
}

/// What is assigned after events that add up to `count` partitions.
fn assigned(happened: &Receiver<MembershipEvent>, count: usize) -> BTreeSet<i32> {
    let mut owned = BTreeSet::new();
    while owned.len() < count {
        match next(happened) {
            MembershipEvent::Assigned(partitions) => owned.extend(partitions),
            other => panic!("{other:?} before {count} partitions were assigned"),
        }
    }
    owned
}

fn hand_over(protocol: GroupProtocol, name: &str) {
    let world = World::new(name);
    let (first, of_first) = world.join(protocol);
    assert_eq!(assigned(&of_first, SLICES as usize).len(), SLICES as usize);

    let (second, of_second) = world.join(protocol);
    let revoked = match next(&of_first) {
        MembershipEvent::Revoked(partitions) => partitions,
        other => panic!("{other:?}"),
    };
    assert_eq!(revoked.len(), SLICES as usize / 2);
    // As long as the first has not answered, the second gets none of them, and the first may
    // commit for them.
    let offsets = revoked
        .iter()
        .map(|partition| world.offset(*partition, 7, "map"));
    first.commit(offsets.collect());
    assert_eq!(
        next(&of_first),
        MembershipEvent::CommitFinished(CommitResult::Accepted)
    );
    assert!(
        !of_second
            .try_iter()
            .any(|e| matches!(e, MembershipEvent::Assigned(p) if !p.is_empty())),
        "given away before they were handed back"
    );
    first.hand_back();
    let taken = assigned(&of_second, revoked.len());
    assert_eq!(taken, revoked.iter().copied().collect());

    // What the first committed last is what the second finds.
    let (answers, answered) = bounded(1);
    let reader = OffsetReader::start(&world.settings, &world.group, move |(), offsets| {
        drop(answers.send(offsets));
    });
    let reader = reader.unwrap();
    reader.fetch(
        (),
        (0..SLICES).map(|p| (Arc::clone(&world.topic), p)).collect(),
    );
    let committed = answered.recv_timeout(LIMIT).unwrap();
    for partition in 0..SLICES {
        let expected = revoked.contains(&partition).then(|| (7, "map".to_owned()));
        assert_eq!(
            committed[partition as usize], expected,
            "partition {partition}"
        );
    }

    // A member that leaves in order gives everything back at once.
    let left_at = Instant::now();
    drop(first);
    assert!(
        left_at.elapsed() < Duration::from_secs(8),
        "closing took {:?}",
        left_at.elapsed()
    );
    assert_eq!(
        assigned(&of_second, SLICES as usize - revoked.len()).len(),
        3
    );
    drop(second);
}

#[test]
fn slices_are_handed_over_when_the_owner_says_so() {
    hand_over(GroupProtocol::Consumer, "hand-over");
}

#[test]
fn the_classic_protocol_runs_the_same_code() {
    hand_over(GroupProtocol::Classic, "hand-over-classic");
}

#[test]
fn a_lane_is_read_where_it_was_told_and_stops_when_told() {
    let world = World::new("lanes");
    world.write(2, &["a", "b", "c", "d"]);
    let (events, happened) = bounded(16);
    let reader = LaneReader::start(&world.settings, &world.group, "test", events).unwrap();
    let next = || match happened.recv_timeout(LIMIT).expect("a record") {
        LaneEvent::Record(tag, record) => (tag, record.origin.offset),
        other @ LaneEvent::OutOfRange { .. } => panic!("{other:?}"),
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
        other @ LaneEvent::Record(..) => panic!("{other:?}"),
    }
    reader.read(&world.topic, 1, Some(0), "good");
    match happened.recv_timeout(LIMIT).expect("a record") {
        LaneEvent::Record(tag, record) => assert_eq!((tag, record.origin.offset), ("good", 0)),
        other @ LaneEvent::OutOfRange { .. } => panic!("{other:?}"),
    }
}
