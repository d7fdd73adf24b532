//! The offsets that Kafka took from dispatchers, read from `__consumer_offsets`.
//!
//! Decides nothing but what backwards is: it reads the keys and values that Kafka's `OffsetCommitKey` (versions 0 and 1)
//! and `OffsetCommitValue` begin with, and leaves out whatever else is there.

use std::collections::HashMap;

use super::journal::Committed;
use crate::kcat::{self, Read};

/// Every commit of a group, in the order Kafka took them. Compaction may have removed some once
/// the log is 100 MB long.
pub fn of_group(bootstrap: &str, group: &str) -> Vec<Committed> {
    let read = kcat::consume(bootstrap, "__consumer_offsets");
    read.iter()
        .filter_map(|record| committed(record, group))
        .collect()
}

/// Commits below an earlier one of the same partition, with that one: an owner's work undone by
/// somebody else.
pub fn backwards(commits: &[Committed]) -> Vec<(Committed, Committed)> {
    let mut highest: HashMap<(&str, i32), &Committed> = HashMap::new();
    let mut found = Vec::new();
    for commit in commits {
        let before = highest
            .entry((&commit.topic, commit.partition))
            .or_insert(commit);
        if commit.offset < before.offset {
            found.push((commit.clone(), before.clone()));
        } else {
            *before = commit;
        }
    }
    found
}

/// After which time a commit that was undone by another was made good; `None` = never.
pub fn made_good_after_ms(
    commits: &[Committed],
    (by, before): &(Committed, Committed),
) -> Option<u64> {
    let mut later = commits.iter().skip_while(|commit| *commit != by);
    let good = later.find(|commit| {
        let same = (&commit.topic, commit.partition) == (&by.topic, by.partition);
        same && commit.offset >= before.offset
    })?;
    Some(good.at_ms.saturating_sub(by.at_ms))
}

fn committed(read: &Read, group: &str) -> Option<Committed> {
    let mut key = Bytes(read.key.as_deref()?);
    let version = i16::from_be_bytes(key.take()?);
    if !(0..=1).contains(&version) || key.text()? != group {
        return None;
    }
    let topic = key.text()?.to_owned();
    let partition = i32::from_be_bytes(key.take()?);
    let mut value = Bytes(read.value.as_deref()?);
    let _version: [u8; 2] = value.take()?;
    Some(Committed {
        at_ms: read.timestamp_ms,
        topic,
        partition,
        offset: i64::from_be_bytes(value.take()?),
    })
}

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn text(&mut self) -> Option<&'a str> {
        let size = u16::from_be_bytes(self.take()?);
        let (text, rest) = self.0.split_at_checked(size.into())?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::{backwards, committed, made_good_after_ms};
    use crate::churn::journal::Committed;
    use crate::kcat::Read;

    #[test]
    fn what_was_undone_is_found_and_when_it_was_made_good() {
        let commit = |at_ms, partition, offset| Committed {
            at_ms,
            topic: "t".to_owned(),
            partition,
            offset,
        };
        let mut commits = vec![commit(1, 0, 5), commit(2, 1, 9), commit(3, 0, 4)];
        let undone = backwards(&commits);
        assert_eq!(undone, [(commit(3, 0, 4), commit(1, 0, 5))]);
        assert_eq!(made_good_after_ms(&commits, &undone[0]), None);
        commits.extend([commit(5, 1, 10), commit(9, 0, 5)]);
        assert_eq!(made_good_after_ms(&commits, &undone[0]), Some(6));
    }

    #[test]
    fn a_commit_is_read_and_a_member_of_the_group_is_not() {
        let mut read = Read {
            partition: 0,
            offset: 0,
            timestamp_ms: 7,
            key: Some(b"\0\x01\0\x01g\0\x02to\0\0\0\x05".to_vec()),
            value: Some(b"\0\x03\0\0\0\0\0\0\x01\0\xff\xff\xff\xff".to_vec()),
            headers: Vec::new(),
        };
        let found = committed(&read, "g").expect("a commit");
        assert_eq!((found.topic.as_str(), found.partition), ("to", 5));
        assert_eq!((found.offset, found.at_ms), (256, 7));
        assert_eq!(committed(&read, "other"), None);
        read.key = Some(b"\0\x05\0\x01g\0\x02to\0\0\0\x05".to_vec());
        assert_eq!(committed(&read, "g"), None);
    }
}
