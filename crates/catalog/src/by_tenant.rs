//! Which endpoints an event is for.
//!
//! Decides that they are those of the event's tenant that want its type and are not disabled.
//! Leaves which records of an endpoint count to [`Catalog`], filters to `filter`. Who looks
//! endpoints up by id only has no use for it, and its memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use postrider_domain::{Endpoint, EndpointId, EndpointState, Tenant};

use crate::{Catalog, Change, Lookup};

/// A catalogue, by tenant too. A match costs only the endpoints of the one tenant.
#[derive(Debug, Default)]
pub struct ByTenant {
    pub(crate) catalog: Catalog,
    pub(crate) endpoints: BTreeMap<Tenant, BTreeMap<EndpointId, Arc<Endpoint>>>,
}

impl ByTenant {
    /// Knows nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// As [`Catalog::apply`].
    pub fn apply(&mut self, id: EndpointId, endpoint: Option<Endpoint>) -> Change {
        let before = match self.catalog.find(&id) {
            Lookup::Known(endpoint) => Some(Arc::clone(endpoint)),
            Lookup::Deleted | Lookup::Unknown => None,
        };
        let change = self.catalog.apply(id.clone(), endpoint);
        if change == Change::Outdated {
            return change;
        }
        if let Some(before) = before {
            self.leave(&before.tenant, &id);
        }
        if let Lookup::Known(endpoint) = self.catalog.find(&id) {
            let tenant = endpoint.tenant.clone();
            let endpoints = self.endpoints.entry(tenant).or_default();
            endpoints.insert(id, Arc::clone(endpoint));
        }
        change
    }

    /// The endpoints an event of this tenant and type is for, ordered by id. Paused endpoints are
    /// among them, disabled ones are not.
    pub fn matching<'a>(
        &'a self,
        tenant: &Tenant,
        event_type: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Endpoint>> + use<'a> {
        let of_tenant = self.endpoints.get(tenant).into_iter();
        of_tenant
            .flat_map(BTreeMap::values)
            .filter(move |endpoint| {
                endpoint.state != EndpointState::Disabled && endpoint.wants(event_type)
            })
    }

    /// All of them, by id.
    #[must_use]
    pub const fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    fn leave(&mut self, tenant: &Tenant, id: &EndpointId) {
        if let Some(endpoints) = self.endpoints.get_mut(tenant) {
            endpoints.remove(id);
            if endpoints.is_empty() {
                self.endpoints.remove(tenant);
            }
        }
    }
}
