//! Where reading begins when the committed offset says otherwise than the log, and that a
//! revocation waits for its answer.

use std::time::{Duration, Instant};

use postrider_kafka::GroupProtocol;
use postrider_kafka::intake::{Intake, IntakeEvent, IntakeSettings};
use postrider_test_support::Broker;

use crate::common::{Installation, PATIENCE};

fn join(at: &Installation, topic: &str) -> Intake {
    let settings = IntakeSettings {
        group: format!("{}group", at.prefix),
        topics: vec![topic.to_owned()],
        patterns: Vec::new(),
        protocol: GroupProtocol::Consumer,
    };
    Intake::subscribe(&at.client, settings).unwrap()
}

/// The next event that `wanted` makes something of; the others are dropped.
fn expect<T>(intake: &mut Intake, wanted: impl Fn(IntakeEvent) -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "no such event");
        let event = intake.poll(Duration::from_millis(100));
        if let Some(found) = event.and_then(&wanted) {
            return found;
        }
    }
}

fn offset(event: IntakeEvent) -> Option<i64> {
    match event {
        IntakeEvent::Record(record) => Some(record.origin.offset),
        _ => None,
    }
}

fn commit(intake: &mut Intake, topic: &str, partition: i32, offset: i64) {
    assert!(intake.commit([(topic, partition, offset)]));
    assert!(!intake.commit([(topic, partition, 0)]), "one at a time");
    let result = expect(intake, |event| match event {
        IntakeEvent::Committed(result) => Some(result),
        _ => None,
    });
    assert_eq!(result, Ok(()));
}

#[test]
fn without_a_commit_reading_begins_at_the_oldest_and_then_at_the_commit() {
    let at = Installation::new(Broker::shared().bootstrap(), "begin");
    let topic = at.create_intake("in", 1);
    at.kcat_json(&topic, 0..3);
    let mut intake = join(&at, &topic);
    assert_eq!([(); 3].map(|()| expect(&mut intake, offset)), [0, 1, 2]);
    commit(&mut intake, &topic, 0, 2);
    assert!(intake.close(PATIENCE));
    let mut again = join(&at, &topic);
    assert_eq!(expect(&mut again, offset), 2);
    assert!(again.close(PATIENCE));
}

#[test]
fn a_commit_past_the_end_of_the_log_is_told_and_reading_starts_over() {
    let at = Installation::new(Broker::shared().bootstrap(), "astray");
    let topic = at.create_intake("in", 2);
    at.kcat(&topic, &["-p", "0"], b"a\nb\nc\n");
    at.kcat(&topic, &["-p", "1"], b"d\n");
    let mut intake = join(&at, &topic);
    for _ in 0..4 {
        expect(&mut intake, offset);
    }
    commit(&mut intake, &topic, 1, 1);
    commit(&mut intake, &topic, 0, 100);
    assert!(intake.close(PATIENCE));

    let mut again = join(&at, &topic);
    let told = expect(&mut again, |event| match event {
        IntakeEvent::Restarted {
            partition,
            expected,
            low,
            high,
        } => Some((
            partition.topic.to_string(),
            partition.partition,
            expected,
            low,
            high,
        )),
        IntakeEvent::Record(record) => panic!("a record first: {record:?}"),
        _ => None,
    });
    assert_eq!(told, (topic.clone(), 0, 100, 0, 3));
    assert_eq!([(); 3].map(|()| expect(&mut again, offset)), [0, 1, 2]);
    at.kcat(&topic, &["-p", "1"], b"e\n");
    assert_eq!(
        expect(&mut again, offset),
        1,
        "the other partition went on at its commit"
    );
    assert!(again.close(PATIENCE));
}

#[test]
fn a_revoked_partition_moves_when_it_is_handed_back() {
    let at = Installation::new(Broker::shared().bootstrap(), "revoke");
    let topic = at.create_intake("in", 2);
    at.kcat(&topic, &["-p", "0"], b"a\nb\n");
    at.kcat(&topic, &["-p", "1"], b"a\nb\n");
    let mut first = join(&at, &topic);
    for _ in 0..4 {
        expect(&mut first, offset);
    }
    let mut second = join(&at, &topic);
    // The second member asks by being there; both must be polled for it.
    let deadline = Instant::now() + PATIENCE;
    let revoked = loop {
        assert!(Instant::now() < deadline, "nothing was revoked");
        assert_eq!(
            second.poll(Duration::from_millis(10)),
            None,
            "still the first one's"
        );
        if let Some(IntakeEvent::Revoked(revoked)) = first.poll(Duration::from_millis(10)) {
            break revoked;
        }
    };
    assert_eq!(revoked.len(), 1);
    let partition = revoked[0].partition;
    commit(&mut first, &topic, partition, 1);
    assert_eq!(
        second.poll(Duration::from_millis(500)),
        None,
        "not handed back yet"
    );
    first.hand_back();
    let deadline = Instant::now() + PATIENCE;
    let moved = loop {
        assert!(Instant::now() < deadline, "nothing moved");
        first.poll(Duration::from_millis(10));
        if let Some(IntakeEvent::Record(record)) = second.poll(Duration::from_millis(10)) {
            break (record.origin.partition, record.origin.offset);
        }
    };
    assert_eq!(moved, (partition, 1), "at the commit made before");
    assert!(first.close(PATIENCE));
    assert!(second.close(PATIENCE));
}
