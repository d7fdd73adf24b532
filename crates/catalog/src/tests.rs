//! Catalogue and index, alone and against a naive list.

use postrider_domain::{EndpointState, Tenant, TypePattern};
use proptest::prelude::*;

use super::by_tenant::ByTenant;
use super::*;

fn id(n: u8) -> EndpointId {
    format!("ep_{n}").parse().unwrap()
}

fn tenant(n: u8) -> Tenant {
    format!("t{n}").parse().unwrap()
}

fn endpoint(n: u8, of: u8, version: u64, state: EndpointState, types: &[&str]) -> Endpoint {
    Endpoint {
        state,
        version,
        types: types
            .iter()
            .filter_map(|text| TypePattern::new(text))
            .collect(),
        ..Endpoint::new(id(n), tenant(of), "https://a.example/")
    }
}

fn active(n: u8, of: u8, version: u64) -> Endpoint {
    endpoint(n, of, version, EndpointState::Active, &[])
}

fn matching(catalog: &ByTenant, of: u8, event_type: &str) -> Vec<String> {
    let endpoints = catalog.matching(&tenant(of), event_type);
    endpoints.map(|endpoint| endpoint.id.to_string()).collect()
}

#[test]
fn an_older_version_never_replaces_a_newer_one() {
    let mut catalog = ByTenant::new();
    assert_eq!(catalog.apply(id(1), Some(active(1, 1, 5))), Change::Applied);
    assert_eq!(
        catalog.apply(id(1), Some(active(1, 2, 4))),
        Change::Outdated
    );
    assert_eq!(matching(&catalog, 1, "a"), ["ep_1"]);
    assert_eq!(catalog.apply(id(1), Some(active(1, 2, 5))), Change::Applied);
    assert!(matching(&catalog, 1, "a").is_empty());
    assert_eq!(matching(&catalog, 2, "a"), ["ep_1"]);
    assert_eq!(catalog.catalog().len(), 1);
}

#[test]
fn a_tombstone_deletes_and_is_remembered() {
    let mut catalog = ByTenant::new();
    assert_eq!(catalog.catalog().find(&id(1)), Lookup::Unknown);
    catalog.apply(id(1), Some(active(1, 1, 5)));
    assert_eq!(catalog.apply(id(1), None), Change::Deleted);
    assert_eq!(catalog.catalog().find(&id(1)), Lookup::Deleted);
    assert!(catalog.catalog().is_empty() && matching(&catalog, 1, "a").is_empty());
    assert_eq!(catalog.apply(id(2), None), Change::Deleted);
    assert_eq!(catalog.catalog().find(&id(2)), Lookup::Deleted);
    assert_eq!(catalog.apply(id(1), Some(active(1, 1, 1))), Change::Applied);
    assert!(matches!(catalog.catalog().find(&id(1)), Lookup::Known(e) if e.version == 1));
}

#[test]
fn the_oldest_of_too_many_tombstones_is_forgotten() {
    let deleted = |n: usize| format!("gone_{n}").parse::<EndpointId>().unwrap();
    let mut catalog = Catalog::new();
    for n in 0..10_000 {
        catalog.apply(deleted(n), None);
    }
    assert_eq!(catalog.find(&deleted(0)), Lookup::Deleted);
    catalog.apply(deleted(10_000), None);
    assert_eq!(catalog.find(&deleted(0)), Lookup::Unknown);
    assert_eq!(catalog.find(&deleted(1)), Lookup::Deleted);
    catalog.apply(deleted(1), None);
    catalog.apply(deleted(10_001), None);
    assert_eq!(catalog.find(&deleted(2)), Lookup::Unknown);
    assert_eq!(catalog.find(&deleted(1)), Lookup::Deleted, "deleted again");
    assert_eq!(catalog.deleted.by_id.len(), 10_000);
}

#[test]
fn an_event_is_for_its_tenants_endpoints_that_want_it() {
    let mut catalog = ByTenant::new();
    for endpoint in [
        endpoint(1, 1, 1, EndpointState::Active, &["payment.*"]),
        endpoint(2, 1, 1, EndpointState::Paused, &[]),
        endpoint(3, 1, 1, EndpointState::Disabled, &[]),
        endpoint(4, 1, 1, EndpointState::Active, &["refund.created"]),
        endpoint(5, 2, 1, EndpointState::Active, &[]),
    ] {
        catalog.apply(endpoint.id.clone(), Some(endpoint));
    }
    assert_eq!(matching(&catalog, 1, "payment.captured"), ["ep_1", "ep_2"]);
    assert_eq!(matching(&catalog, 1, "refund.created"), ["ep_2", "ep_4"]);
    assert_eq!(matching(&catalog, 2, "x"), ["ep_5"]);
    assert!(matching(&catalog, 3, "x").is_empty());
}

/// Most tombstones remembered where there are six ids.
const FEW: usize = 3;

/// The obvious way: the last record of each id that was not outdated, in a list, the newest
/// last; of tombstones the newest few.
#[derive(Default)]
struct Naive(Vec<(EndpointId, Option<Endpoint>)>);

impl Naive {
    fn apply(&mut self, id: EndpointId, endpoint: Option<Endpoint>) -> Change {
        let old = self.0.iter().position(|(known, _)| *known == id);
        let old_version = old
            .and_then(|n| self.0[n].1.as_ref())
            .map(|old| old.version);
        let change = match &endpoint {
            None => Change::Deleted,
            Some(new) if old_version.is_some_and(|old| old > new.version) => Change::Outdated,
            Some(_) => Change::Applied,
        };
        if change != Change::Outdated {
            self.0.retain(|(known, _)| *known != id);
            self.0.push((id, endpoint));
            let tombstones = self.0.iter().filter(|(_, endpoint)| endpoint.is_none());
            if tombstones.count() > FEW {
                let oldest = self.0.iter().position(|(_, endpoint)| endpoint.is_none());
                self.0.remove(oldest.unwrap());
            }
        }
        change
    }

    fn known(&self) -> Vec<&Endpoint> {
        let mut known: Vec<&Endpoint> = self.0.iter().filter_map(|(_, e)| e.as_ref()).collect();
        known.sort_by(|a, b| a.id.cmp(&b.id));
        known
    }
}

prop_compose! {
    fn any_record()(
        n in 0..6_u8,
        of in 0..3_u8,
        version in 0..5_u64,
        state in 0..3_usize,
        types in proptest::sample::subsequence(vec!["a", "a.*", "b"], 0..3),
        tombstone in proptest::bool::weighted(0.4),
    ) -> (EndpointId, Option<Endpoint>) {
        let states = [EndpointState::Active, EndpointState::Paused, EndpointState::Disabled];
        let endpoint = endpoint(n, of, version, states[state], &types);
        (id(n), (!tombstone).then_some(endpoint))
    }
}

proptest! {
    #[test]
    fn it_is_as_the_naive_list(records in proptest::collection::vec(any_record(), 0..60)) {
        let (mut catalog, mut naive) = (ByTenant::new(), Naive::default());
        catalog.catalog.deleted.max = FEW;
        for (id, endpoint) in records {
            let change = catalog.apply(id.clone(), endpoint.clone());
            prop_assert_eq!(change, naive.apply(id, endpoint));
            prop_assert_eq!(catalog.catalog().len(), naive.known().len());
            for of in 0..3 {
                for event_type in ["a", "a.b", "b"] {
                    let expected: Vec<&Endpoint> = naive
                        .known()
                        .into_iter()
                        .filter(|e| e.tenant == tenant(of) && e.wants(event_type))
                        .filter(|e| e.state != EndpointState::Disabled)
                        .collect();
                    let found: Vec<&Endpoint> =
                        catalog.matching(&tenant(of), event_type).map(|e| &**e).collect();
                    prop_assert_eq!(found, expected);
                }
            }
            for n in 0..6 {
                let expected = naive.0.iter().find(|(known, _)| *known == self::id(n));
                match (catalog.catalog().find(&self::id(n)), expected) {
                    (Lookup::Known(found), Some((_, Some(expected)))) => {
                        prop_assert_eq!(&**found, expected);
                    }
                    (Lookup::Deleted, Some((_, None))) | (Lookup::Unknown, None) => {}
                    (found, expected) => prop_assert!(false, "{found:?} {expected:?}"),
                }
            }
        }
        let Tombstones { by_id, by_age, .. } = &catalog.catalog().deleted;
        prop_assert!(by_id.len() == by_age.len() && by_id.len() <= FEW);
        prop_assert!(by_age.iter().all(|(age, id)| by_id.get(id) == Some(age)));
        prop_assert!(by_id.keys().all(|id| !catalog.catalog().known.contains_key(id)));
        let indexed: usize = catalog.endpoints.values().map(BTreeMap::len).sum();
        prop_assert_eq!(indexed, catalog.catalog().len());
        prop_assert!(catalog.endpoints.values().all(|ids| !ids.is_empty()));
    }
}
