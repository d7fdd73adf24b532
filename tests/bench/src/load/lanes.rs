//! Writes deliveries to the topics that dispatchers read, past intake and router.
//!
//! Decides their headers, from what `docs/reference/records.md` says and not by the product's own
//! code, so that whoever writes such records by that page is shown to be understood. Leaves which
//! topic it is to the profiles.

use std::sync::Arc;

use bytes::Bytes;
use postrider_domain::NewRecord;

use super::{Load, TYPE, event_id, tenant};
use crate::now_us;
use crate::rig::{endpoint_id, slice_of};

/// A topic with a partition for each slice.
#[derive(Clone, Debug)]
pub struct LaneTopic {
    /// Its full name.
    pub topic: Arc<str>,
    /// Its partitions.
    pub slices: u16,
}

impl Load {
    /// Makes room for so many deliveries, as [`Load::put`] needs it.
    pub fn expect_deliveries(&mut self, count: usize) {
        self.expect(count);
    }

    /// Writes the next event as a delivery to its endpoint, after so many attempts, not to be
    /// attempted before `due_us`, microseconds since the epoch. It is meant for that time, or for
    /// now.
    pub fn put(&mut self, lane: &LaneTopic, endpoint: u32, attempts: u32, due_us: Option<u64>) {
        let number = self.events.len();
        let (endpoint_id, tenant) = (endpoint_id(endpoint), tenant(endpoint));
        let slice = slice_of(&endpoint_id, lane.slices);
        let mut headers = vec![
            ("pr_v", "1".to_owned()),
            ("pr_delivery", format!("dlv_{number:032x}")),
            ("pr_endpoint", endpoint_id.clone()),
            ("pr_attempt", attempts.to_string()),
            ("pr_accepted", (now_us() / 1_000).to_string()),
            ("ce_specversion", "1.0".to_owned()),
            ("ce_id", event_id(number)),
            ("ce_source", "bench".to_owned()),
            ("ce_type", TYPE.to_owned()),
            ("ce_tenant", tenant.clone()),
            ("content-type", "application/json".to_owned()),
        ];
        // never early
        headers.extend(due_us.map(|due| ("pr_due", due.div_ceil(1_000).to_string())));
        let record = NewRecord {
            topic: Arc::clone(&lane.topic),
            partition: i32::from(slice),
            key: Some(Bytes::from(endpoint_id)),
            value: Some(self.value(number, &tenant)),
            headers: headers
                .into_iter()
                .map(|(name, value)| (name.into(), Some(Bytes::from(value))))
                .collect(),
        };
        self.append(&record, due_us.unwrap_or_else(now_us), endpoint);
    }
}
