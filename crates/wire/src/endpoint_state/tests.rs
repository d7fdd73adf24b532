//! Facts about records of `endpoint-state`.

use postrider_domain::{BacklogMemory, Head, LimiterMemory, Reserved};
use proptest::prelude::*;

use super::*;
use crate::testing::read_back;

fn endpoint() -> EndpointId {
    "ep_acme".parse().unwrap()
}

fn written(epoch: u64, remembered: &Remembered) -> NewRecord {
    encode(&endpoint(), epoch, remembered, "endpoint-state".into(), 5)
}

fn at(micros: u64) -> Timestamp {
    Timestamp::from_micros(micros)
}

fn full() -> Remembered {
    Remembered {
        limiter: Some(LimiterMemory {
            starts: vec![
                (at(1_674_087_231_000_000), 3),
                (at(1_674_087_231_000_250), 1),
            ],
            reserved: Some(Reserved {
                attempts: 10,
                until: at(1_674_087_232_000_000),
            }),
        }),
        backlog: Some(BacklogMemory {
            position: 4_711,
            holes: vec![4_000, 4_001, 4_700],
            heads: vec![
                Head {
                    offset: 4_000,
                    key: u64::MAX,
                    attempts: 2,
                    due: Some(at(1_674_087_300_000_000)),
                },
                Head {
                    offset: 5_000,
                    key: 255,
                    attempts: 10,
                    due: None,
                },
            ],
        }),
        gone: Some(7),
    }
}

/// A record with this value, as somebody else may have written it.
fn record(key: &str, value: Option<&str>, epoch: Option<&str>) -> Record {
    let mut record = read_back(written(0, &Remembered::default()));
    record.key = Some(Bytes::copy_from_slice(key.as_bytes()));
    record.value = value.map(|value| Bytes::copy_from_slice(value.as_bytes()));
    let header = |epoch: &str| ("pr_epoch".into(), Some(text(epoch)));
    record.headers = epoch.map(header).into_iter().collect();
    record
}

/// What was read, written and read once more.
fn again(entry: &Entry) -> Result<Entry, Unreadable> {
    let topic = || "endpoint-state".into();
    decode(&read_back(match entry {
        Entry::Fence { epoch, claimant } => {
            encode_fence(*epoch, *claimant, "w", Timestamp::default(), topic(), 5)
        }
        Entry::Endpoint {
            id,
            epoch,
            remembered,
        } => encode(id, *epoch, remembered, topic(), 5),
    }))
}

#[test]
fn a_fence_is_written_as_documented() {
    let time = Timestamp::from_millis(1_674_087_231_456);
    let fence = encode_fence(8, 255, "worker-1", time, "endpoint-state".into(), 5);
    assert_eq!(fence.key.as_deref(), Some(&b"@fence"[..]));
    assert_eq!((&*fence.topic, fence.partition), ("endpoint-state", 5));
    assert_eq!(crate::testing::header_lines(&fence), "pr_epoch: 8\n");
    assert_eq!(
        std::str::from_utf8(fence.value.as_deref().unwrap()).unwrap(),
        r#"{"v":1,"epoch":8,"claimant":"00000000000000ff","worker":"worker-1","#.to_owned()
            + r#""at":"2023-01-19T00:13:51.456Z"}"#
    );
    let read = decode(&read_back(fence));
    assert_eq!(
        read,
        Ok(Entry::Fence {
            epoch: 8,
            claimant: 255
        })
    );
    assert!("@fence".parse::<EndpointId>().is_err());
}

#[test]
fn a_memory_is_written_as_documented() {
    let memory = written(8, &full());
    assert_eq!(memory.key.as_deref(), Some(&b"ep_acme"[..]));
    assert_eq!(crate::testing::header_lines(&memory), "pr_epoch: 8\n");
    let expected = r#"{"v":1,"epoch":8,
        "limiter":{"starts":[[1674087231000000,3],[250,1]],
            "reserved":{"attempts":10,"until_us":1674087232000000}},
        "backlog":{"position":4711,"holes":[4000,1,699],"heads":[
            {"offset":4000,"key":"ffffffffffffffff","attempts":2,"due_us":1674087300000000},
            {"offset":5000,"key":"00000000000000ff","attempts":10}]},
        "gone":7}"#;
    let value = memory.value.as_deref().unwrap();
    let expected = expected.replace(['\n', ' '], "");
    assert_eq!(std::str::from_utf8(value).unwrap(), expected);
}

#[test]
fn nothing_to_remember_is_a_tombstone_of_its_epoch() {
    let tombstone = written(8, &Remembered::default());
    assert_eq!(tombstone.value, None);
    let read = decode(&read_back(tombstone)).unwrap();
    assert_eq!(
        read,
        Entry::Endpoint {
            id: endpoint(),
            epoch: 8,
            remembered: Remembered::default()
        }
    );
    let nothing_counted = Remembered {
        limiter: Some(LimiterMemory::default()),
        ..Remembered::default()
    };
    assert!(written(8, &nothing_counted).value.is_some());
}

#[test]
fn what_is_not_known_is_ignored_unless_it_is_a_version() {
    let newer = r#"{"v":1,"epoch":8,"gone":7,"breaker":{"open":true},
        "backlog":{"position":5,"lag":[[1]],"heads":[{"offset":5,"key":"00000000000000ff",
        "attempts":1,"x":null}]}}"#;
    let read = decode(&record("ep_acme", Some(newer), None)).unwrap();
    let Entry::Endpoint { remembered, .. } = read else {
        panic!("{read:?}");
    };
    assert_eq!(remembered.gone, Some(7));
    assert_eq!(remembered.backlog.unwrap().heads.len(), 1);
    let fence = r#"{"v":1,"epoch":8,"claimant":"00000000000000ff","zone":"a"}"#;
    assert!(decode(&record("@fence", Some(fence), Some("8"))).is_ok());
    for key in ["ep_acme", "@fence"] {
        let later = record(key, Some(r#"{"v":2,"epoch":[8]}"#), Some("8"));
        assert_eq!(
            decode(&later).unwrap_err().to_string(),
            "not a record of endpoint-state: its value is of version 2, this reads 1; upgrade first"
        );
    }
}

#[test]
fn what_cannot_be_says_why() {
    let memory = |fields: &str| Some(format!(r#"{{"v":1,"epoch":8{fields}}}"#));
    let backlog = |fields: &str| memory(&format!(r#","backlog":{{{fields}}}"#));
    for (key, value, epoch, reason) in [
        ("a.b", None, Some("8"), "its key: an endpoint id"),
        ("@other", None, Some("8"), "its key: an endpoint id"),
        ("", None, Some("8"), "its key: an endpoint id"),
        ("@fence", None, Some("8"), "a fence without a value"),
        (
            "ep_acme",
            None,
            None,
            "a tombstone without the header pr_epoch",
        ),
        (
            "ep_acme",
            None,
            Some("eight"),
            "header pr_epoch: expected a whole number",
        ),
        (
            "ep_acme",
            None,
            Some("-1"),
            "header pr_epoch: expected a whole number",
        ),
        (
            "ep_acme",
            memory(""),
            Some("9"),
            "of epoch 8, its header pr_epoch of 9",
        ),
        ("@fence", memory(""), None, "missing field `claimant`"),
        (
            "@fence",
            memory(r#","claimant":"+0000000000000ff""#),
            None,
            "16 hex digits",
        ),
        (
            "@fence",
            memory(r#","claimant":"ff""#),
            None,
            "16 hex digits",
        ),
        (
            "@fence",
            memory(r#","claimant":255"#),
            None,
            "expected a string",
        ),
        (
            "ep_acme",
            Some("{}".to_owned()),
            Some("8"),
            "missing field `v`",
        ),
        ("ep_acme", Some(String::new()), Some("8"), "its value: EOF"),
        ("ep_acme", backlog(""), None, "missing field `position`"),
        (
            "ep_acme",
            backlog(r#""position":-1"#),
            None,
            "a negative offset",
        ),
        (
            "ep_acme",
            backlog(r#""position":9,"holes":[-1]"#),
            None,
            "ascending",
        ),
        (
            "ep_acme",
            backlog(r#""position":9,"holes":[3,0]"#),
            None,
            "ascending",
        ),
        (
            "ep_acme",
            backlog(r#""position":9,"holes":[3,6]"#),
            None,
            "below the position 9",
        ),
        (
            "ep_acme",
            backlog(&format!(r#""position":9,"holes":[3,{}]"#, i64::MAX)),
            None,
            "below the position 9",
        ),
        (
            "ep_acme",
            backlog(
                r#""position":9,"heads":[{"offset":-2,"key":"00000000000000ff","attempts":1}]"#,
            ),
            None,
            "a negative offset",
        ),
        (
            "ep_acme",
            memory(&format!(
                r#","limiter":{{"starts":[[{},1],[1,1]]}}"#,
                u64::MAX
            )),
            None,
            "limiter.starts: a time past",
        ),
    ] {
        let unreadable = decode(&record(key, value.as_deref(), epoch)).unwrap_err();
        assert!(
            unreadable.to_string().contains(reason),
            "{reason}: {unreadable}"
        );
    }
}

#[test]
fn starts_out_of_order_are_remembered_too_late_not_too_early() {
    let remembered = Remembered {
        limiter: Some(LimiterMemory {
            starts: vec![(at(500), 1), (at(400), 2), (at(600), 3)],
            reserved: None,
        }),
        ..Remembered::default()
    };
    let read = decode(&read_back(written(1, &remembered))).unwrap();
    let Entry::Endpoint { remembered, .. } = read else {
        panic!("{read:?}");
    };
    assert_eq!(
        remembered.limiter.unwrap().starts,
        [(at(500), 1), (at(500), 2), (at(600), 3)]
    );
}

/// Gaps as wide as they get, every number long.
#[test]
fn the_largest_memory_is_small() {
    let offset = |n: i64| i64::MAX / 2 + n * 1_000_000_000;
    let remembered = Remembered {
        limiter: Some(LimiterMemory {
            starts: (0..1_000)
                .map(|n| (at(u64::MAX / 2 + n * 86_400_000), u32::MAX))
                .collect(),
            reserved: None,
        }),
        backlog: Some(BacklogMemory {
            position: offset(1_000),
            holes: (0..1_000).map(offset).collect(),
            heads: (0..1_000)
                .map(|n| Head {
                    offset: offset(n),
                    key: u64::MAX,
                    attempts: u32::MAX,
                    due: Some(Timestamp::MAX),
                })
                .collect(),
        }),
        gone: None,
    };
    let record = written(u64::MAX, &remembered);
    let bytes = record.value.as_ref().unwrap().len();
    assert!((100 << 10..200 << 10).contains(&bytes), "{bytes}");
    assert!(decode(&read_back(record)).is_ok());
}

prop_compose! {
    fn any_limiter()(
        first in any::<u32>(),
        gaps in proptest::collection::vec((0..u64::from(u32::MAX), any::<u32>()), 0..20),
        reserved in proptest::option::of((any::<u32>(), any::<u64>())),
    ) -> LimiterMemory {
        let mut time = u64::from(first);
        let start = |(gap, attempts)| {
            time += gap;
            (at(time), attempts)
        };
        LimiterMemory {
            starts: gaps.into_iter().map(start).collect(),
            reserved: reserved.map(|(attempts, until)| Reserved { attempts, until: at(until) }),
        }
    }
}

prop_compose! {
    fn any_backlog()(
        holes in proptest::collection::btree_set(0..i64::MAX, 0..20),
        above in 1..1_000_i64,
        heads in proptest::collection::vec(
            (0..i64::MAX, any::<u64>(), any::<u32>(), proptest::option::of(any::<u64>())),
            0..20,
        ),
    ) -> BacklogMemory {
        let head = |(offset, key, attempts, due): (i64, u64, u32, Option<u64>)| Head {
            offset,
            key,
            attempts,
            due: due.map(at),
        };
        BacklogMemory {
            position: holes.last().copied().unwrap_or_default().saturating_add(above),
            holes: holes.into_iter().collect(),
            heads: heads.into_iter().map(head).collect(),
        }
    }
}

prop_compose! {
    fn any_remembered()(
        limiter in proptest::option::of(any_limiter()),
        backlog in proptest::option::of(any_backlog()),
        gone in proptest::option::of(any::<u64>()),
    ) -> Remembered {
        Remembered { limiter, backlog, gone }
    }
}

proptest! {
    #[test]
    fn what_was_written_is_read(
        epoch in any::<u64>(),
        remembered in any_remembered(),
        claimant in any::<u64>(),
        worker in ".{0,30}",
        time in any::<u64>(),
    ) {
        let read = decode(&read_back(written(epoch, &remembered)));
        prop_assert_eq!(read, Ok(Entry::Endpoint { id: endpoint(), epoch, remembered }));
        let fence = encode_fence(epoch, claimant, &worker, at(time), "t".into(), 0);
        prop_assert_eq!(decode(&read_back(fence)), Ok(Entry::Fence { epoch, claimant }));
    }

    #[test]
    fn any_bytes_are_an_entry_or_unreadable(
        key in prop_oneof![
            proptest::option::of(proptest::collection::vec(any::<u8>(), 0..10)),
            Just(Some(b"@fence".to_vec())),
            Just(Some(b"ep_1".to_vec())),
        ],
        value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..50)),
        header in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..5)),
    ) {
        let mut record = record("", None, None);
        record.key = key.map(Bytes::from);
        record.value = value.map(Bytes::from);
        record.headers.push(("pr_epoch".into(), header.map(Bytes::from)));
        if let Ok(entry) = decode(&record) {
            prop_assert_eq!(again(&entry), Ok(entry));
        }
    }

    /// Valid JSON with one piece of it replaced: what is still readable means what it says.
    #[test]
    fn a_memory_with_another_part_is_an_entry_or_unreadable(
        remembered in any_remembered(),
        part in any::<prop::sample::Index>(),
        instead in prop_oneof![
            "-?[0-9]{1,20}",
            Just("null".to_owned()),
            Just("[]".to_owned()),
            Just("\"\"".to_owned()),
        ],
    ) {
        let written = read_back(written(3, &remembered));
        if let Some(value) = &written.value {
            let json = std::str::from_utf8(value).unwrap();
            let numbers: Vec<&str> = json.split_inclusive([',', '[', ']', ':', '{', '}']).collect();
            let n = part.index(numbers.len());
            let end = numbers[n].chars().last().unwrap();
            let changed = format!(
                "{}{instead}{end}{}",
                numbers[..n].concat(),
                numbers[n + 1..].concat()
            );
            if let Ok(entry) = decode(&record("ep_acme", Some(&changed), Some("3"))) {
                prop_assert_eq!(again(&entry), Ok(entry));
            }
        }
    }
}
