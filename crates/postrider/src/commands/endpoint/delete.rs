//! `postrider endpoint delete`: a tombstone.

use clap::Args;
use postrider_domain::EndpointId;
use serde::Serialize;

use super::{Topic, no_endpoint};
use crate::cli::DryRun;
use crate::exit::Failure;
use crate::output::Output;

#[derive(Args)]
pub(crate) struct Delete {
    /// The endpoint's id
    id: EndpointId,
    #[command(flatten)]
    dry: DryRun,
}

#[derive(Serialize)]
struct Deleted {
    endpoint: String,
    deleted: bool,
}

pub(super) fn run(arguments: &Delete, topic: &Topic<'_>, output: Output) -> Result<(), Failure> {
    let (id, dry_run) = (&arguments.id, arguments.dry.dry_run);
    if !topic.read([id])?.contains_key(id) {
        return Err(no_endpoint(id));
    }
    if !dry_run {
        topic.write(&[topic.record(id, None)])?;
    }
    let deleted = Deleted {
        endpoint: id.to_string(),
        deleted: !dry_run,
    };
    let verb = if dry_run { "would delete" } else { "deleted" };
    Ok(output.item(&deleted, &format!("{verb} {id}"))?)
}
