//! Producer, table and tail against librdkafka's own mock cluster: what is written is read, byte for
//! byte, and a table says when it has caught up. Topic administration needs a real broker and is
//! tested in `tests/e2e`.

use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use postrider_domain::NewRecord;
use postrider_kafka::tail::From;
use postrider_kafka::{
    ClientError, ClientSettings, Producer, TableEvent, TableReader, Tail, WriteError, Writer,
    connect_check,
};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

const PATIENCE: Duration = Duration::from_secs(20);

struct Broker {
    cluster: MockCluster<'static, DefaultProducerContext>,
    settings: ClientSettings,
}

/// One broker with topic `t` of two partitions.
fn broker() -> Broker {
    let cluster = MockCluster::new(1).expect("a mock cluster");
    cluster.create_topic("t", 2, 1).expect("a topic");
    let settings = ClientSettings {
        brokers: cluster.bootstrap_servers(),
        properties: Vec::new(),
        client_id: "test".to_owned(),
    };
    Broker {
        cluster,
        settings: settings.quick(),
    }
}

fn record(partition: i32, key: &'static str, value: Option<&'static [u8]>) -> NewRecord {
    NewRecord {
        topic: "t".into(),
        partition,
        key: Some(Bytes::from_static(key.as_bytes())),
        value: value.map(Bytes::from_static),
        headers: vec![
            ("a".into(), Some(Bytes::from_static(b"\xff\x00"))),
            ("empty".into(), Some(Bytes::new())),
            ("null".into(), None),
        ],
    }
}

fn next(events: &Receiver<TableEvent>) -> TableEvent {
    events.recv_timeout(PATIENCE).expect("an event in time")
}

fn key_of(event: TableEvent) -> Bytes {
    match event {
        TableEvent::Record(record) => record.key.expect("a key"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_written_is_read_byte_for_byte() {
    let broker = broker();
    let cluster = connect_check(&broker.settings, PATIENCE).expect("a cluster");
    assert_eq!(cluster.brokers.len(), 1);
    let writer = Writer::new(&broker.settings).expect("a writer");
    let written = [
        record(1, "full", Some(b"\x00\xfe not utf-8")),
        record(1, "empty", Some(b"")),
        record(1, "null", None),
    ];
    for record in &written {
        writer.send_and_wait(record).expect("acknowledged");
    }
    let tail = Tail::open(&broker.settings, "g", "t", None, From::Beginning, PATIENCE);
    let mut read = Vec::new();
    tail.expect("a topic")
        .read_all(PATIENCE, |record| read.push(record))
        .expect("the end");
    assert_eq!(read.len(), written.len());
    for (read, written) in read.iter().zip(&written) {
        assert_eq!((&*read.origin.topic, read.origin.partition), ("t", 1));
        assert_eq!((&read.key, &read.value), (&written.key, &written.value));
        for ((name, value), (written_name, written_value)) in
            read.headers.iter().zip(&written.headers)
        {
            assert_eq!((&**name, value), (&**written_name, written_value));
        }
        assert_eq!(read.headers.len(), written.headers.len());
        assert!(read.timestamp.as_secs() > 0);
    }
}

#[test]
fn many_are_written_in_order_and_those_that_are_not_are_told() {
    let broker = broker();
    let writer = Writer::new(&broker.settings).expect("a writer");
    let mut records: Vec<NewRecord> = (0..2_500)
        .map(|number: u32| NewRecord {
            value: Some(Bytes::copy_from_slice(&number.to_be_bytes())),
            ..record(0, "k", None)
        })
        .collect();
    writer.send_all(&records).expect("acknowledged");
    let tail = Tail::open(&broker.settings, "g", "t", None, From::Beginning, PATIENCE);
    let mut read = Vec::new();
    tail.expect("a topic")
        .read_all(PATIENCE, |record| read.push(record.value))
        .expect("the end");
    let written: Vec<Option<Bytes>> = records.iter().map(|r| r.value.clone()).collect();
    assert_eq!(read, written);
    records.truncate(3);
    records[1].partition = 7;
    let (written, error) = writer.send_all(&records).expect_err("no such partition");
    assert_eq!(error, WriteError::UnknownTopic);
    assert!(written <= 2, "{written}");
    assert_eq!(writer.send_all(&[]), Ok(()));
}

#[test]
fn a_table_catches_up_then_follows_and_can_be_left() {
    let broker = broker();
    let writer = Writer::new(&broker.settings).expect("a writer");
    let write = |partition, key| {
        let record = record(partition, key, Some(b"v"));
        writer.send_and_wait(&record).expect("acknowledged");
    };
    write(0, "old 1");
    write(0, "old 2");
    // Room for one event only: waiting for room must not lose any.
    let (events_in, events) = bounded(1);
    let table = TableReader::start(&broker.settings, "t", "g", events_in).expect("a reader");

    table.add(&[0]);
    assert_eq!(key_of(next(&events)), "old 1");
    assert_eq!(key_of(next(&events)), "old 2");
    assert_eq!(next(&events), TableEvent::Loaded { partition: 0 });
    write(0, "new");
    assert_eq!(key_of(next(&events)), "new");

    table.add(&[1]);
    assert_eq!(next(&events), TableEvent::Loaded { partition: 1 });

    table.remove(&[0]);
    assert_eq!(next(&events), TableEvent::Removed { partition: 0 });
    write(0, "unseen");
    write(1, "seen");
    assert_eq!(key_of(next(&events)), "seen");

    table.add(&[0]);
    assert_eq!(key_of(next(&events)), "old 1");
    // The reader is waiting for room now; stopping must not wait for it.
    table.stop();
}

#[test]
fn a_table_waits_for_its_topic() {
    let broker = broker();
    let (events_in, events) = bounded(8);
    let table = TableReader::start(&broker.settings, "later", "g", events_in).expect("a reader");
    table.add(&[0]);
    broker.cluster.create_topic("later", 1, 1).expect("a topic");
    assert_eq!(next(&events), TableEvent::Loaded { partition: 0 });
    table.stop();
}

#[test]
fn the_end_is_the_end_at_the_time_of_opening() {
    let broker = broker();
    let writer = Writer::new(&broker.settings).expect("a writer");
    writer
        .send_and_wait(&record(0, "before", None))
        .expect("acknowledged");
    let mut tail =
        Tail::open(&broker.settings, "g", "t", Some(0), From::End, PATIENCE).expect("a topic");
    writer
        .send_and_wait(&record(0, "after", None))
        .expect("acknowledged");
    let read = tail.next(PATIENCE).expect("a record");
    assert_eq!(read.key.as_deref(), Some(&b"after"[..]));
}

#[test]
fn an_unknown_topic_or_partition_is_refused() {
    let broker = broker();
    for (topic, partition) in [("none", None), ("t", Some(7))] {
        let tail = Tail::open(&broker.settings, "g", topic, partition, From::End, PATIENCE);
        assert!(matches!(tail, Err(ClientError::Refused { .. })));
    }
}

#[test]
fn every_record_is_reported_once_with_its_tag() {
    let broker = broker();
    let (reports_in, reports) = bounded(16);
    let producer = Producer::new(&broker.settings, move |tag: u32, outcome| {
        reports_in.send((tag, outcome)).expect("room");
    })
    .expect("a producer");
    producer
        .send(&record(0, "fits", Some(b"v")), 1)
        .expect("queued");
    assert!(producer.flush(PATIENCE));
    assert_eq!(reports.recv(), Ok((1, Ok(Some(0)))));

    let refused = producer.send(&record(7, "nowhere", None), 2);
    match refused {
        Err((error, tag)) => assert_eq!((error, tag), (WriteError::UnknownTopic, 2)),
        Ok(()) => assert_eq!(
            reports.recv_timeout(PATIENCE),
            Ok((2, Err(WriteError::UnknownTopic)))
        ),
    }
}

#[test]
fn a_tireless_producer_keeps_the_order_while_its_partition_cannot_be_written() {
    let broker = broker();
    let leader = |id| broker.cluster.partition_leader("t", 0, id).expect("set");
    leader(None);
    let (reports_in, reports) = bounded(16);
    let mut settings = broker.settings.clone();
    let impatient = ("message.timeout.ms".to_owned(), "1000".to_owned());
    settings.properties.push(impatient);
    let producer = Producer::tireless(&settings, move |tag: i64, outcome| {
        reports_in.send((tag, outcome)).expect("room");
    })
    .expect("a producer");
    for tag in 0..10 {
        producer
            .send(&record(0, "waits", Some(b"v")), tag)
            .expect("queued");
        // The user's second passes for the first ones while the others come.
        let report = reports.recv_timeout(Duration::from_millis(250));
        assert_eq!(report, Err(RecvTimeoutError::Timeout), "{tag}");
    }
    leader(Some(1));
    for tag in 0..10 {
        let report = reports.recv_timeout(PATIENCE).expect("a report");
        assert_eq!(report, (tag, Ok(Some(tag))));
    }
}

#[test]
fn a_dropped_producer_reports_what_it_gave_up() {
    let broker = broker();
    let (reports_in, reports) = bounded(16);
    let mut settings = broker.settings.clone();
    settings
        .properties
        .push(("linger.ms".to_owned(), "20000".to_owned()));
    let producer = Producer::new(&settings, move |tag: u32, outcome| {
        reports_in.send((tag, outcome)).expect("room");
    })
    .expect("a producer");
    producer
        .send(&record(0, "queued", Some(b"v")), 1)
        .expect("queued");
    drop(producer);
    let (tag, outcome) = reports.recv_timeout(PATIENCE).expect("a report");
    assert!(tag == 1 && outcome.is_err(), "{outcome:?}");
}
