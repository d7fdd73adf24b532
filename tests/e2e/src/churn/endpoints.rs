//! The endpoints of a course: the same number in each slice, and the one the experiment is about.

use postrider_domain::{EndpointId, SliceCount};
use postrider_test_support::Verifier;

use super::journal::Setting;
use crate::SECRET;

/// Every so many endpoints of a slice answer slowly, so that something is always in flight.
const SLOW_EVERY: usize = 8;
/// The id of the one that an experiment is about.
const SUBJECT: &str = "ep_subject";

/// An endpoint that the events are for.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    /// Its id, and its tenant, which nobody shares.
    pub(super) id: String,
    /// Its path at the receiver.
    pub(super) path: String,
    /// Its slice.
    pub(super) slice: u16,
    /// What its record says besides.
    more: String,
}

/// All of a course.
#[derive(Clone)]
pub(super) struct Endpoints {
    /// Those of one slice one after the other.
    trickled: Vec<Endpoint>,
    slices: usize,
    /// The one that the experiment is about.
    pub(super) subject: Option<Endpoint>,
}

impl Endpoints {
    pub(super) fn of(setting: &Setting) -> Self {
        let slices = SliceCount::new(setting.slices).expect("1 to 256 slices");
        let slice_of = |id: &str| {
            let valid: EndpointId = id.parse().expect("letters and digits");
            slices.slice_of(&valid).0
        };
        let subject = setting.subject.map(|subject| Endpoint {
            id: SUBJECT.to_owned(),
            path: format!("{}/{SUBJECT}", subject.prefix()),
            slice: slice_of(SUBJECT),
            more: subject.yaml(),
        });
        Self {
            trickled: trickled(setting, slice_of),
            slices: usize::from(setting.slices),
            subject,
        }
    }

    /// Whose turn it is: slices take turns, and so do the endpoints of each.
    pub(super) fn at(&self, turn: usize) -> &Endpoint {
        let per_slice = self.trickled.len() / self.slices;
        let (round, slice) = (turn / self.slices, turn % self.slices);
        &self.trickled[slice * per_slice + round % per_slice]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Endpoint> {
        self.trickled.iter().chain(&self.subject)
    }

    /// What `endpoint apply` gets.
    pub(super) fn yaml(&self, verifier: &Verifier) -> String {
        let documents = self.iter().map(|Endpoint { id, path, more, .. }| {
            format!(
                "---\nid: {id}\ntenant: {id}\nurl: {}\n\
                 signing: {{ scheme: standard, secrets: [{{ id: s1, value: {SECRET} }}] }}\n{more}",
                verifier.url(path)
            )
        });
        documents.collect()
    }
}

fn trickled(setting: &Setting, slice_of: impl Fn(&str) -> u16) -> Vec<Endpoint> {
    let per_slice = setting.endpoints.div_ceil(usize::from(setting.slices));
    let mut by_slice = vec![Vec::new(); usize::from(setting.slices)];
    for number in 0.. {
        if by_slice.iter().all(|slice| slice.len() == per_slice) {
            break;
        }
        let id = format!("ep_{number}");
        let slice = slice_of(&id);
        let there = &mut by_slice[usize::from(slice)];
        if there.len() < per_slice {
            let speed = if there.len() % SLOW_EVERY == SLOW_EVERY - 1 {
                "slow"
            } else {
                "fast"
            };
            there.push(Endpoint {
                path: format!("/{speed}/{id}"),
                id,
                slice,
                more: String::new(),
            });
        }
    }
    by_slice.concat()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::journal::Setting;
    use super::Endpoints;

    #[test]
    fn every_slice_has_as_many_endpoints_as_any_other() {
        let setting = Setting {
            name: String::new(),
            subject: None,
            session_ms: 0,
            heartbeat_ms: 0,
            timeout_ms: 0,
            slices: 16,
            endpoints: 200,
            events_per_second: 1,
        };
        let mut count: BTreeMap<u16, usize> = BTreeMap::new();
        for endpoint in Endpoints::of(&setting).iter() {
            *count.entry(endpoint.slice).or_default() += 1;
        }
        assert_eq!(count.len(), 16);
        assert!(count.values().all(|count| *count == 13), "{count:?}");
    }
}
