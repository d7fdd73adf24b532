//! What the programs do, inside their network.

pub mod exchanges;
pub mod packets;
pub mod receivers;
pub mod reuse;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use http::HeaderMap;
use postrider_domain::{AttemptReport, AttemptResult, Timestamp};
use postrider_egress::{Egress, Request};
use postrider_guard::Policy;

use crate::authority::Authority;
use crate::name_server::{NameServer, Zone};
use crate::namespace::NAME_SERVER;
use crate::receiver::{Receivers, address_of};

/// Whoever the client may meet.
pub struct World {
    /// Says what names lead to.
    pub names: Arc<NameServer>,
    /// Take connections.
    pub receivers: Arc<Receivers>,
}

impl World {
    /// All of them, in this process.
    ///
    /// # Errors
    /// They cannot listen: this is no network of our own.
    pub async fn begin(folder: &Path, zones: HashMap<String, Zone>) -> Result<Self> {
        let authority = Authority::read(folder)?;
        Ok(Self {
            names: NameServer::serve(NAME_SERVER, zones, address_of).await?,
            receivers: Receivers::serve(&authority).await?,
        })
    }
}

/// The client, as a dispatcher makes it.
fn client(policy: Policy) -> Result<Egress> {
    Ok(Egress::new(policy, "Postrider/hostile")?)
}

async fn send(egress: &Egress, url: &str, body: Bytes, timeout: Duration) -> AttemptReport {
    let request = Request {
        method: http::Method::POST,
        url: url.into(),
        headers: HeaderMap::new(),
        body,
        timeout,
    };
    egress.send(Timestamp::default(), request).await
}

/// The kind of error, or the status.
fn end_of(report: &AttemptReport) -> String {
    match &report.result {
        AttemptResult::Error(error) => format!("{} ({})", error.kind.as_str(), error.message),
        AttemptResult::Response(response) => format!("status {}", response.status),
    }
}
