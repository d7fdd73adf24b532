//! Endpoints of a file, written while others write too.
//!
//! Decides whose change stays: another one of the same moment, a rolled secret say, is put back, for
//! the file's author did not know of it; what changed nothing is written over.

use std::collections::BTreeMap;

use postrider_domain::{Endpoint, EndpointId};
use postrider_signing::KeyRing;
use postrider_wire::endpoint::{self, Recorded};

use crate::commands::endpoint::Topic;
use crate::commands::endpoint::log::{Covered, Log};
use crate::exit::Failure;
use crate::input;

/// Endpoints written before it is looked at what others wrote meanwhile.
const BATCH: usize = 1_000;

/// How the writing of an endpoint ended, and the version that counts now, 0 = none.
pub(super) enum Written {
    Done { version: u64 },
    Overtaken { version: u64 },
}

/// Writes endpoints made of what is `current`, and sees what others wrote meanwhile.
pub(super) fn write(
    due: Vec<Endpoint>,
    current: &BTreeMap<EndpointId, Recorded>,
    log: &mut Log<'_, '_>,
    topic: &Topic<'_>,
) -> Result<BTreeMap<String, Written>, Failure> {
    let mut written = BTreeMap::new();
    for batch in due.chunks(BATCH) {
        let mut batch: Vec<Endpoint> = batch.to_vec();
        while !batch.is_empty() {
            let mut records = Vec::with_capacity(batch.len());
            for endpoint in &batch {
                let value = endpoint::to_record(endpoint, input::now(), topic.sealing()?);
                records.push((endpoint.id.clone(), Some(value.into())));
            }
            let covered = log.write(&records)?;
            let mut covered: BTreeMap<EndpointId, Covered> = covered
                .into_iter()
                .map(|covered| (covered.id.clone(), covered))
                .collect();
            let (mut again, mut theirs) = (Vec::new(), Vec::new());
            for mut endpoint in batch {
                let (id, name) = (endpoint.id.clone(), endpoint.id.to_string());
                let version = endpoint.version;
                written.insert(name.clone(), Written::Done { version });
                let Some(covered) = covered.remove(&id) else {
                    continue;
                };
                match meet(&endpoint, current.get(&id), &covered, topic.keys()) {
                    Met::Nothing => {}
                    Met::Outdated => {
                        endpoint.version = log.version(&id).saturating_add(1);
                        again.push(endpoint);
                    }
                    Met::Change => {
                        written.insert(name, Written::Overtaken { version });
                        theirs.push(covered);
                    }
                }
            }
            let overtaken: Vec<EndpointId> = theirs.iter().map(|of| of.id.clone()).collect();
            log.put_all_back(theirs)?;
            for id in overtaken {
                let version = log.version(&id);
                written.insert(id.to_string(), Written::Overtaken { version });
            }
            batch = again;
        }
    }
    Ok(written)
}

/// What a written endpoint met of others' records.
#[derive(Debug, PartialEq, Eq)]
enum Met {
    /// Nothing that it takes back: it counts, or they wrote the same.
    Nothing,
    /// The endpoint as it was before, under a version that makes the written one count for nothing.
    Outdated,
    /// Another change, which it would undo.
    Change,
}

fn meet(written: &Endpoint, before: Option<&Recorded>, covered: &Covered, keys: &KeyRing) -> Met {
    // Deleted before it is made anew, or behind that: as if one had followed the other.
    let Some(theirs) = &covered.theirs else {
        return Met::Nothing;
    };
    let Ok(theirs) = endpoint::from_record(written.id.as_str().as_bytes(), theirs, keys) else {
        return Met::Change;
    };
    let is_newer = theirs.endpoint.version > written.version;
    let same = |one: &Endpoint, other: &Endpoint| {
        let other = Endpoint {
            version: one.version,
            ..other.clone()
        };
        *one == other
    };
    let is_written = theirs.unopened.is_empty() && same(&theirs.endpoint, written);
    let is_before = before.is_some_and(|before| {
        before.unopened == theirs.unopened && same(&before.endpoint, &theirs.endpoint)
    });
    match (is_written || is_before, is_newer) {
        (false, _) => Met::Change,
        (true, false) => Met::Nothing,
        (true, true) if is_written && covered.counts => Met::Nothing,
        (true, true) => Met::Outdated,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{recorded, signed};
    use super::*;
    use crate::commands::endpoint::topic::testing::{keys, record_under};

    /// What an endpoint written as version 6 over `signed`, version 5, met.
    fn met(theirs: Option<Endpoint>) -> Met {
        let before = Endpoint {
            version: 5,
            ..signed()
        };
        let written = Endpoint {
            version: 6,
            url: "https://b.example/".into(),
            ..signed()
        };
        let covered = Covered {
            id: written.id.clone(),
            theirs: record_under(&keys(), theirs.as_ref(), 3).value,
            counts: false,
        };
        meet(&written, Some(&recorded(&before)), &covered, &keys())
    }

    #[test]
    fn a_secret_rolled_at_the_same_moment_is_not_taken_back() {
        let mut rolled = Endpoint {
            version: 6,
            ..signed()
        };
        let mut new = rolled.signing.secrets[0].clone();
        new.id = "s2".into();
        rolled.signing.secrets.insert(0, new);
        assert_eq!(met(Some(rolled)), Met::Change);
    }

    #[test]
    fn what_changed_nothing_at_the_same_moment_is_written_over() {
        let version = |version| {
            Some(Endpoint {
                version,
                ..signed()
            })
        };
        assert_eq!(met(version(5)), Met::Nothing, "sealed anew");
        assert_eq!(met(version(7)), Met::Outdated, "paused and resumed");
        assert_eq!(met(None), Met::Nothing, "deleted");
        let same = Endpoint {
            version: 6,
            url: "https://b.example/".into(),
            ..signed()
        };
        assert_eq!(met(Some(same)), Met::Nothing, "applied twice");
    }
}
