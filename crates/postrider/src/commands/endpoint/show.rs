//! `postrider endpoint list` and `get`.

use postrider_domain::{Endpoint, EndpointId, EndpointState};
use postrider_wire::endpoint;
use serde::Serialize;

use super::{Topic, no_endpoint};
use crate::exit::Failure;
use crate::output::{Format, Output};

#[derive(Serialize)]
struct Row {
    endpoint: String,
    tenant: String,
    url: String,
    state: &'static str,
    types: Vec<String>,
    version: u64,
    slice: i32,
}

const COLUMNS: [&str; 6] = ["endpoint", "tenant", "url", "state", "types", "version"];

pub(super) fn list(topic: &Topic<'_>, output: Output) -> Result<(), Failure> {
    let endpoints = topic.read_all()?;
    let in_table = output.format() == Format::Table;
    let row = |endpoint: &Endpoint| Row {
        endpoint: endpoint.id.to_string(),
        tenant: endpoint.tenant.to_string(),
        url: endpoint.url.to_string(),
        state: match endpoint.state {
            EndpointState::Active => "active",
            EndpointState::Paused => "paused",
            EndpointState::Disabled => "disabled",
        },
        types: match &*endpoint.types {
            [] if in_table => vec!["all".to_owned()],
            types => types.iter().map(|t| t.as_str().to_owned()).collect(),
        },
        version: endpoint.version,
        slice: topic.partition(&endpoint.id),
    };
    let rows = endpoints
        .values()
        .map(|stored| row(&stored.recorded.endpoint));
    let rows: Vec<Row> = rows.collect();
    Ok(output.rows(&COLUMNS, &rows)?)
}

pub(super) fn get(id: &EndpointId, topic: &Topic<'_>, output: Output) -> Result<(), Failure> {
    let endpoints = topic.read([id])?;
    let found = endpoints.get(id).ok_or_else(|| no_endpoint(id))?;
    let shown = endpoint::to_display_json(&found.recorded.endpoint, &found.value);
    Ok(output.one(&shown.map_err(Failure::no)?)?)
}
