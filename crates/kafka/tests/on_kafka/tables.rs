//! Tables: what is loaded from a compacted log with gaps, from one without records, from none.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use postrider_domain::Record;
use postrider_kafka::tail::From;
use postrider_kafka::{Producer, TableEvent, TableReader, Tail, Writer};
use postrider_test_support::unique_prefix;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use crate::world::{LIMIT, SLICES, World};

fn table(world: &World, room: usize) -> (TableReader, Receiver<TableEvent>) {
    let (events, happened) = bounded(room);
    let reader = TableReader::start(&world.settings, &world.topic, &world.group, events);
    (reader.unwrap(), happened)
}

fn next(happened: &Receiver<TableEvent>) -> TableEvent {
    happened.recv_timeout(LIMIT).expect("an event in time")
}

/// Key and whether there is a value, of the records until one partition is loaded.
fn loaded(happened: &Receiver<TableEvent>, of: i32) -> Vec<(i64, String, bool)> {
    let mut records = Vec::new();
    loop {
        match next(happened) {
            TableEvent::Record(record) => records.push(seen(&record)),
            TableEvent::Loaded { partition } => {
                assert_eq!(partition, of);
                return records;
            }
            other => panic!("{other:?}"),
        }
    }
}

fn seen(record: &Record) -> (i64, String, bool) {
    let key = record.key.as_deref().unwrap_or_default();
    let key = String::from_utf8_lossy(key).into_owned();
    (record.origin.offset, key, record.value.is_some())
}

#[test]
fn an_empty_partition_is_loaded_at_once() {
    let world = World::new("empty-table");
    let (reader, happened) = table(&world, 8);
    // The first answer also waits for the connection.
    reader.add(&[0]);
    assert_eq!(loaded(&happened, 0), []);
    let asked = Instant::now();
    reader.add(&[1, 2, 3]);
    for partition in 1..4 {
        assert_eq!(loaded(&happened, partition), []);
    }
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn a_compacted_log_is_loaded_in_order_with_its_gaps_and_tombstones() {
    let world = World::with(
        "compacted",
        &[
            ("cleanup.policy", "compact"),
            ("min.cleanable.dirty.ratio", "0.001"),
            ("segment.ms", "200"),
            ("min.compaction.lag.ms", "0"),
        ],
    );
    let writer = Writer::new(&world.settings).unwrap();
    let write = |key, value| {
        let record = world.record(1, key, value);
        writer.send_and_wait(&record).unwrap();
    };
    for _ in 0..20 {
        write("often", Some("v"));
        write("once more", Some("v"));
    }
    write("kept", Some("v"));
    write("often", None);
    // The cleaner leaves the segment that is written to alone: only a record that comes after its
    // time ends it.
    let compacted = || {
        let mut read = Vec::new();
        let tail = Tail::open(
            &world.settings,
            &world.group,
            &world.topic,
            Some(1),
            From::Beginning,
            LIMIT,
        );
        tail.unwrap()
            .read_all(LIMIT, |record| read.push(seen(&record)))
            .unwrap();
        (read.len() < 20).then_some(read)
    };
    let deadline = Instant::now() + 3 * LIMIT;
    let on_the_log = loop {
        write("last", Some("v"));
        write("last", None);
        if let Some(read) = compacted() {
            break read;
        }
        assert!(Instant::now() < deadline, "not compacted");
        std::thread::sleep(Duration::from_millis(500));
    };
    let gaps = on_the_log.windows(2).any(|pair| pair[1].0 > pair[0].0 + 1);
    assert!(gaps, "{on_the_log:?}");

    let (reader, happened) = table(&world, 2);
    reader.add(&[1]);
    let read = loaded(&happened, 1);
    assert!(read.is_sorted_by(|one, other| one.0 < other.0), "{read:?}");
    // The cleaner may have gone on meanwhile.
    assert!(read.iter().all(|record| on_the_log.contains(record)));
    assert!(read.iter().any(|(_, key, value)| key == "kept" && *value));
    let (_, key, value) = read.last().unwrap();
    assert_eq!(
        (&**key, *value),
        ("last", false),
        "the tombstone at the end"
    );
    write("then", None);
    match next(&happened) {
        TableEvent::Record(record) => assert_eq!(seen(&record).1, "then"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_log_whose_offsets_hold_no_record_is_loaded() {
    let world = World::new("markers");
    let mut config = world.settings.producer();
    config.set("transactional.id", unique_prefix("markers"));
    let producer: BaseProducer = config.create().unwrap();
    producer.init_transactions(LIMIT).unwrap();
    producer.begin_transaction().unwrap();
    let record = BaseRecord::<[u8], [u8]>::to(&world.topic)
        .partition(2)
        .payload(b"taken back");
    assert!(producer.send(record).is_ok());
    std::thread::scope(|scope| {
        let abort = scope.spawn(|| {
            producer.flush(LIMIT)?;
            producer.abort_transaction(LIMIT)
        });
        while !abort.is_finished() {
            producer.poll(Duration::from_millis(10));
        }
        abort.join().unwrap().unwrap();
    });
    assert!(world.standings(&[2])[0].end() > 0);
    let (reader, happened) = table(&world, 8);
    reader.add(&[2]);
    assert_eq!(loaded(&happened, 2), []);
}

#[test]
fn a_partition_is_removed_while_others_cannot_be_read_yet() {
    let world = World::new("removed");
    world.write(0, &["a"]);
    let (reader, happened) = table(&world, 8);
    reader.add(&[0, SLICES]);
    assert_eq!(loaded(&happened, 0).len(), 1);
    let asked = Instant::now();
    reader.remove(&[0]);
    assert_eq!(next(&happened), TableEvent::Removed { partition: 0 });
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    world.write(0, &["unseen"]);
    reader.remove(&[SLICES]);
    let removed = TableEvent::Removed { partition: SLICES };
    assert_eq!(next(&happened), removed);
}

#[test]
fn an_acknowledgement_says_where_the_record_is() {
    let world = World::new("where");
    world.write(3, &["a", "b"]);
    let (reports_in, reports) = bounded(16);
    let producer = Producer::new(&world.settings, move |tag: u32, outcome| {
        reports_in.send((tag, outcome)).unwrap();
    });
    let producer = producer.unwrap();
    for (tag, partition) in [(0, 3), (1, 4), (2, 3)] {
        let record = world.record(partition, "k", Some("v"));
        assert!(producer.send(&record, tag).is_ok());
    }
    assert!(producer.flush(LIMIT));
    let mut reported: Vec<_> = reports.try_iter().collect();
    reported.sort_by_key(|(tag, _)| *tag);
    let expected = [(0, Ok(Some(2))), (1, Ok(Some(0))), (2, Ok(Some(3)))];
    assert_eq!(reported, expected);
}
