//! `postrider secret seal` and `secret rewrap`: the same secrets, sealed or sealed anew.
//!
//! Decides that slices follow one another, a few endpoints at a time, so that whoever interrupts it
//! has lost nothing and runs it again. Nothing about an endpoint changes, so its version stays. What
//! somebody else wrote meanwhile is put back (`endpoint::log`).

use std::io::{self, IsTerminal as _};

use postrider_domain::EndpointId;
use postrider_wire::endpoint::{self, Reseal, Unopened};
use serde::Serialize;

use crate::cli::DryRun;
use crate::commands::endpoint::log::{Change, Covered, Log, Unused};
use crate::commands::endpoint::{Topic, no_endpoint};
use crate::exit::Failure;
use crate::input;
use crate::installation::Installation;
use crate::output::Output;

/// Endpoints written before it is looked at what others wrote meanwhile.
const BATCH: usize = 100;

/// What was done, or would be.
#[derive(Default, Serialize)]
struct Tally {
    /// Endpoints looked at.
    endpoints: usize,
    /// Endpoints written.
    written: usize,
    /// Secrets sealed.
    sealed: usize,
    /// Secrets that could not be opened.
    unopened: usize,
    /// Endpoints left alone because their newest record could not be read.
    unread: usize,
    /// The key they are sealed under.
    key: String,
    dry_run: bool,
}

pub(super) fn run(
    which: Reseal,
    only: Option<&EndpointId>,
    DryRun { dry_run }: DryRun,
    installation: &Installation,
    output: Output,
) -> Result<(), Failure> {
    let keys = installation.keys()?;
    let Some(key) = keys.first_id().map(str::to_owned) else {
        return Err(installation.refuse(Failure::usage(
            "there is no key to seal with: name a key file as secrets.key_file",
        )));
    };
    let topic = Topic::open_with(installation, keys)?;
    let mut tally = Tally {
        key,
        dry_run,
        ..Tally::default()
    };
    let slices: Vec<i32> = match only {
        Some(id) => vec![topic.partition(id)],
        None => {
            let all = installation.config.kafka.slices.iter();
            all.map(|slice| i32::from(slice.0)).collect()
        }
    };
    for (n, slice) in slices.iter().enumerate() {
        if io::stderr().is_terminal() {
            let (done, all) = (n + 1, slices.len());
            eprint!("\rslice {done} of {all}, {} sealed ", tally.sealed);
        }
        let mut log = Log::read(&topic, Some(*slice))?;
        let ids: Vec<EndpointId> = match only {
            Some(id) if log.get(id).is_none() => return Err(no_endpoint(id)),
            Some(id) => vec![id.clone()],
            None => log.ids().cloned().collect(),
        };
        tally.endpoints += ids.len();
        for ids in ids.chunks(BATCH) {
            batch(ids, which, &mut log, &topic, &mut tally)?;
        }
    }
    if io::stderr().is_terminal() {
        eprintln!();
    }
    let would = if dry_run { "would seal" } else { "sealed" };
    let line = format!(
        "{would} {} secrets of {} endpoints under key {}, looked at {} endpoints",
        tally.sealed, tally.written, tally.key, tally.endpoints
    );
    output.item(&tally, &line)?;
    if tally.unopened + tally.unread > 0 {
        return Err(Failure::no(format!(
            "{} secrets could not be opened and {} endpoints not be read: they stay as they are",
            tally.unopened, tally.unread
        )));
    }
    Ok(())
}

fn batch(
    ids: &[EndpointId],
    which: Reseal,
    log: &mut Log<'_, '_>,
    topic: &Topic<'_>,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let mut changes: Vec<Change> = Vec::new();
    for id in ids {
        // Gone: deleted meanwhile.
        let Some(stored) = log.get(id) else { continue };
        let unused = log.unused(id);
        if unused == Some(Unused::Unreadable) {
            eprintln!("postrider: {id}: its newest record cannot be read and stays as it is");
            tally.unread += 1;
            continue;
        }
        let resealed = endpoint::reseal(&stored.value, which, input::now(), topic.sealing()?);
        let resealed = resealed.map_err(|error| Failure::no(format!("{id}: {error}")))?;
        complain(id, &resealed.unopened);
        tally.unopened += resealed.unopened.len();
        tally.sealed += resealed.sealed;
        let again = unused.map(|_| stored.value.clone());
        if let Some(value) = resealed.value.map(Into::into).or(again) {
            changes.push((id.clone(), Some(value)));
        }
    }
    tally.written += changes.len();
    if tally.dry_run {
        return Ok(());
    }
    while !changes.is_empty() {
        let covered = log.write(&changes)?;
        let again = covered.into_iter().filter(|Covered { id, counts, .. }| {
            if *counts {
                eprintln!(
                    "postrider: {id} was changed at the same moment and written again since: that \
                     stays, see that it is what it should be"
                );
            }
            !counts
        });
        let again = again.map(|covered| {
            let (id, value) = log.put_back(covered)?;
            eprintln!("postrider: {id} was changed at the same moment: the change is put back");
            let Some(value) = value else {
                return Ok((id, None));
            };
            let resealed = endpoint::reseal(&value, which, input::now(), topic.sealing()?);
            let resealed = resealed.ok().and_then(|resealed| resealed.value);
            Ok((id, Some(resealed.map_or(value, Into::into))))
        });
        changes = again.collect::<Result<_, Failure>>()?;
    }
    Ok(())
}

fn complain(id: &EndpointId, unopened: &[Unopened]) {
    for secret in unopened {
        eprintln!("postrider: {id}: {secret}");
    }
}
