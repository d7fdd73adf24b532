//! What the reader does about silence: against two brokers, one that it reads and one that is
//! looked at, so that the first can be made to say nothing.

use std::collections::BTreeSet;

use bytes::Bytes;
use crossbeam_channel::bounded;
use futures_executor::block_on;
use postrider_domain::NewRecord;
use postrider_test_support::{Broker, unique_prefix};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use super::*;
use crate::admin::{self, TopicSpec};
use crate::logs::{Log, look};
use crate::{EmbeddedBroker, Writer};

const LIMIT: Duration = Duration::from_secs(30);

const QUICK: Patience = Patience {
    silence: Duration::from_millis(300),
    outside: Duration::from_millis(50),
    absent: Duration::from_millis(50),
    renew: Duration::from_millis(600),
    all: Duration::from_millis(1500),
};

fn embedded() -> (EmbeddedBroker, ClientSettings) {
    let broker = EmbeddedBroker::start().unwrap();
    broker.create_topic("t", 2).unwrap();
    let settings = ClientSettings {
        brokers: broker.brokers(),
        properties: Vec::new(),
        client_id: "test".to_owned(),
    };
    (broker, settings.quick())
}

fn write(settings: &ClientSettings, topic: &str, partition: i32) {
    let record = NewRecord {
        topic: topic.into(),
        partition,
        key: None,
        value: Some(Bytes::from_static(b"v")),
        headers: Vec::new(),
    };
    let writer = Writer::new(settings).unwrap();
    writer.send_and_wait(&record).unwrap();
}

#[test]
fn a_lane_whose_records_do_not_come_stalls_and_with_it_the_reader() {
    let ((_read, read), (_looked_at, looked_at)) = (embedded(), embedded());
    write(&looked_at, "t", 1);
    let looker = Looker::start(&looked_at, "g", "test").unwrap();
    let (events, happened) = bounded(1);
    let reader = LaneReader::start_with(&read, "g", "test", events, looker, QUICK).unwrap();
    reader.read(&"t".into(), 0, None, "at its end");
    reader.read(&"t".into(), 1, None, "has a record");
    match happened.recv_timeout(LIMIT).unwrap() {
        LaneEvent::Stalled { tag, high } => assert_eq!((tag, high), ("has a record", 1)),
        other => panic!("{other:?}"),
    }
    let stalled = Instant::now();
    match happened.recv_timeout(LIMIT).unwrap() {
        LaneEvent::AllStalled { lanes } => assert_eq!(lanes, 1),
        other => panic!("{other:?}"),
    }
    assert!(stalled.elapsed() > QUICK.silence, "{:?}", stalled.elapsed());

    // A record from any lane ends the standstill.
    write(&read, "t", 0);
    match happened.recv_timeout(LIMIT).unwrap() {
        LaneEvent::Record(tag, record) => {
            assert_eq!((tag, record.origin.offset), ("at its end", 0));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_lane_that_librdkafka_forgot_is_read_anew() {
    let (_broker, settings) = embedded();
    let looker = Looker::start(&settings, "g", "test").unwrap();
    let (commands, inbox) = unbounded();
    let (events, happened) = bounded(8);
    // Long enough that no record is late that only took its time.
    let patience = Patience {
        silence: Duration::from_secs(2),
        ..QUICK
    };
    let mut reading = Reading::new(&settings, "g", inbox, events, looker, patience).unwrap();
    let next = |reading: &mut Reading<()>| {
        let deadline = Instant::now() + LIMIT;
        loop {
            assert!(reading.step(&Stopping::default()).is_ok());
            match happened.try_recv() {
                Ok(LaneEvent::Record((), record)) => return record.origin.offset,
                Ok(other) => panic!("{other:?}"),
                Err(_) => assert!(Instant::now() < deadline, "no record"),
            }
        }
    };
    let place: Place = ("t".into(), 0);
    let read = Some(((), None));
    commands.send(Command { place, read }).unwrap();
    write(&settings, "t", 0);
    assert_eq!(next(&mut reading), 0);
    let all = reading.consumer.assignment().unwrap();
    reading.consumer.incremental_unassign(&all).unwrap();
    write(&settings, "t", 0);
    assert_eq!(next(&mut reading), 1);
}

fn real() -> (ClientSettings, String) {
    let settings = ClientSettings {
        brokers: Broker::shared().bootstrap().to_owned(),
        properties: Vec::new(),
        client_id: "test".to_owned(),
    };
    let topic = format!("{}.t", unique_prefix("look"));
    let spec = TopicSpec {
        name: topic.clone(),
        partitions: 4,
        replication: 1,
        configs: Vec::new(),
    };
    let plan = admin::plan(&settings, &[spec], LIMIT).unwrap();
    assert_eq!(admin::apply(&settings, &plan, LIMIT).unwrap(), []);
    (settings, topic)
}

/// A client that is given nothing, however often its lanes are placed anew.
fn deaf() -> BaseConsumer<LogContext> {
    let settings = ClientSettings {
        brokers: "127.0.0.1:9".to_owned(),
        properties: Vec::new(),
        client_id: "test".to_owned(),
    };
    settings
        .consumer("g")
        .create_with_context(LogContext::silent())
        .unwrap()
}

#[test]
fn a_client_that_is_given_nothing_is_made_anew_and_reads_on_at_the_next_offsets() {
    let (settings, topic) = real();
    let topic: Arc<str> = topic.into();
    let looker = Looker::start(&settings, "g", "test").unwrap();
    let (commands, inbox) = unbounded();
    let (events, happened) = bounded(64);
    // A new client is given its records before its lanes are placed anew; no standstill is said.
    let patience = Patience {
        silence: Duration::from_secs(3),
        all: LIMIT * 2,
        ..QUICK
    };
    let mut reading = Reading::new(&settings, "g", inbox, events, looker, patience).unwrap();
    let step_until = |reading: &mut Reading<i32>, wanted: usize| {
        let deadline = Instant::now() + LIMIT;
        let mut read: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
        while read.values().map(Vec::len).sum::<usize>() < wanted {
            assert!(reading.step(&Stopping::default()).is_ok());
            assert!(Instant::now() < deadline, "only {read:?}");
            for event in happened.try_iter() {
                match event {
                    LaneEvent::Record(tag, record) => {
                        read.entry(tag).or_default().push(record.origin.offset);
                    }
                    LaneEvent::Stalled { .. } => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        read
    };
    let command = |partition, read| {
        let place = (Arc::clone(&topic), partition);
        commands.send(Command { place, read }).unwrap();
    };
    for partition in 0..4 {
        (0..3).for_each(|_| write(&settings, &topic, partition));
    }
    command(0, Some((0, None)));
    command(1, Some((1, Some(2))));
    command(2, Some((2, None)));
    let read = step_until(&mut reading, 7);
    let expected = [(0, vec![0, 1, 2]), (1, vec![2]), (2, vec![0, 1, 2])];
    assert_eq!(read, BTreeMap::from(expected));

    reading.consumer = deaf();
    for partition in 0..4 {
        (0..2).for_each(|_| write(&settings, &topic, partition));
    }
    // Taken in by the client that is given nothing: one lane less, one more, one elsewhere.
    command(2, None);
    command(3, Some((3, None)));
    command(1, Some((10, Some(1))));
    // As long as it cannot be made, the old one is kept.
    let mut refused = settings.clone();
    let property = ("no.such".to_owned(), "1".to_owned());
    refused.properties.push(property);
    let renewal = std::mem::replace(&mut reading.renewal, Renewal::new(&refused, "g"));
    let old = reading.consumer.client().native_ptr();
    reading.obey();
    reading.renew(Instant::now(), 1);
    assert_eq!(reading.consumer.client().native_ptr(), old);
    reading.renewal = renewal;
    let read = step_until(&mut reading, 2 + 4 + 5);
    let expected = [
        (0, vec![3, 4]),
        (3, vec![0, 1, 2, 3, 4]),
        (10, vec![1, 2, 3, 4]),
    ];
    assert_eq!(read, BTreeMap::from(expected));

    // And it reads on, and obeys.
    command(2, Some((2, Some(3))));
    (0..2).for_each(|_| write(&settings, &topic, 0));
    let read = step_until(&mut reading, 4);
    assert_eq!(read, BTreeMap::from([(0, vec![5, 6]), (2, vec![3, 4])]));
}

/// One record and one that is taken back, so that the log ends with offsets without records.
fn write_and_abort(settings: &ClientSettings, topic: &str, partition: i32) {
    write(settings, topic, partition);
    let mut config = settings.producer();
    config.set("transactional.id", unique_prefix("abort"));
    let producer: BaseProducer = config.create().unwrap();
    producer.init_transactions(LIMIT).unwrap();
    producer.begin_transaction().unwrap();
    let record = BaseRecord::<[u8], [u8]>::to(topic)
        .partition(partition)
        .payload(b"taken back");
    assert!(producer.send(record).is_ok());
    let deadline = Instant::now() + LIMIT;
    while producer.in_flight_count() > 0 && Instant::now() < deadline {
        producer.poll(Duration::from_millis(10));
    }
    // Its delivery reports have to be polled for while it waits.
    let done = std::thread::scope(|scope| {
        let abort = scope.spawn(|| producer.abort_transaction(LIMIT));
        while !abort.is_finished() {
            producer.poll(Duration::from_millis(10));
        }
        abort.join().unwrap()
    });
    done.unwrap();
    // The end of the log as readers see it comes with the marker, a moment after the answer.
    let client: BaseConsumer<LogContext> = settings
        .consumer("g")
        .create_with_context(LogContext::silent())
        .unwrap();
    let place = (topic.into(), partition);
    let whole = Some(Log::Holds { low: 0, high: 3 });
    while look(&client, &[&place], LIMIT).unwrap() != [whole] {
        assert!(Instant::now() < deadline, "no marker");
    }
}

#[test]
fn a_look_tells_records_from_offsets_without_any() {
    let (settings, topic) = real();
    let topic: Arc<str> = topic.into();
    write(&settings, &topic, 0);
    write(&settings, &topic, 0);
    write_and_abort(&settings, &topic, 1);
    let mut looker = Looker::start(&settings, "g", "test").unwrap();
    let look = |topic: &Arc<str>, partition, next| Look {
        place: (Arc::clone(topic), partition),
        number: 0,
        next,
    };
    let started = looker.look(vec![
        look(&topic, 0, Some(1)),
        look(&topic, 0, Some(2)),
        look(&topic, 0, None),
        look(&topic, 0, Some(3)),
        look(&topic, 1, Some(0)),
        look(&topic, 1, Some(1)),
        look(&topic, 2, None),
        look(&topic, 9, None),
        look(&"none".into(), 0, Some(1)),
    ]);
    assert!(started.is_ok());
    let deadline = Instant::now() + LIMIT;
    let findings = loop {
        match looker.findings() {
            Ok(findings) if !findings.is_empty() => break findings,
            Ok(_) => {}
            Err(Ended) => panic!("the looker ended"),
        }
        assert!(Instant::now() < deadline, "no findings");
        std::thread::sleep(Duration::from_millis(20));
    };
    let findings: Vec<Finding> = findings.into_iter().map(|(_, finding)| finding).collect();
    let expected = [
        Finding::Ahead { high: 2 },
        Finding::AtEnd,
        Finding::Ahead { high: 2 },
        Finding::Outside { low: 0, high: 2 },
        Finding::Ahead { high: 3 },
        Finding::AtEnd,
        Finding::AtEnd,
        Finding::Absent,
        Finding::Absent,
    ];
    assert_eq!(findings, expected);
}

#[test]
fn a_topic_that_is_deleted_while_it_is_read_is_lost_and_other_lanes_are_still_looked_at() {
    let ((settings, gone), (_, other)) = (real(), real());
    let (gone, other): (Arc<str>, Arc<str>) = (gone.into(), other.into());
    write(&settings, &gone, 0);
    let mut looker = Looker::start(&settings, "g", "test").unwrap();
    // As in a worker that has run for a while: who leads the topic is known, and not asked again
    // as for one that is read.
    let at_end = |topic: &Arc<str>, next| Look {
        place: (Arc::clone(topic), 0),
        number: 0,
        next: Some(next),
    };
    let looks = vec![at_end(&gone, 1), at_end(&other, 0)];
    assert!(looker.look(looks).is_ok());
    let deadline = Instant::now() + LIMIT;
    while looker.findings().is_ok_and(|findings| findings.is_empty()) {
        assert!(Instant::now() < deadline, "no findings");
        std::thread::sleep(Duration::from_millis(20));
    }
    let (events, happened) = bounded(8);
    let reader = LaneReader::start_with(&settings, "g", "test", events, looker, QUICK).unwrap();
    reader.read(&gone, 0, None, "gone");
    reader.read(&other, 1, None, "other");
    match happened.recv_timeout(LIMIT).unwrap() {
        LaneEvent::Record(tag, _) => assert_eq!(tag, "gone"),
        unexpected => panic!("{unexpected:?}"),
    }
    let admin: AdminClient<DefaultClientContext> = settings.admin().create().unwrap();
    let options = AdminOptions::new().operation_timeout(Some(LIMIT));
    block_on(admin.delete_topics(&[&*gone], &options)).unwrap();
    reader.read(&other, 2, Some(500), "outside");
    let mut alarms = BTreeSet::new();
    while alarms.len() < 2 {
        alarms.insert(match happened.recv_timeout(LIMIT).unwrap() {
            LaneEvent::Lost { tag } | LaneEvent::OutOfRange { tag, .. } => tag,
            unexpected => panic!("{unexpected:?}"),
        });
    }
    assert_eq!(alarms, BTreeSet::from(["gone", "outside"]));
    write(&settings, &other, 1);
    match happened.recv_timeout(LIMIT).unwrap() {
        LaneEvent::Record(tag, record) => assert_eq!((tag, record.origin.offset), ("other", 0)),
        unexpected => panic!("{unexpected:?}"),
    }
}
