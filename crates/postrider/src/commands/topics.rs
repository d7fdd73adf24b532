//! `postrider topics`: what is missing on the cluster, and making it. Additive only.

use clap::Subcommand;
use postrider_kafka::admin::{self, Plan, TopicSpec};
use serde::Serialize;

use crate::cli::DryRun;
use crate::exit::Failure;
use crate::installation::{Installation, WAIT, Where};
use crate::output::Output;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Show which topics are there, missing, or have the wrong number of partitions
    Plan,
    /// Create the missing topics; nothing else is ever changed
    Apply(DryRun),
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Row {
    topic: String,
    partitions: i32,
    replication: i32,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

const COLUMNS: [&str; 4] = ["topic", "partitions", "replication", "state"];

pub(crate) fn run(command: &Command, at: &Where, output: Output) -> Result<(), Failure> {
    let installation = at.load()?;
    let settings = installation.reach()?;
    let plan = installation.plan(&settings)?;
    match command {
        Command::Plan => {
            output.rows(&COLUMNS, &rows(&installation, &plan, "missing"))?;
            if let Some(note) = replication_note(&installation, &plan) {
                output.note(&note)?;
            }
            installation.check_slices(&plan)
        }
        Command::Apply(DryRun { dry_run: true }) => {
            installation.check_slices(&plan)?;
            Ok(output.rows(&COLUMNS, &rows(&installation, &plan, "would be created"))?)
        }
        Command::Apply(DryRun { dry_run: false }) => {
            installation.check_slices(&plan)?;
            let failures = admin::apply(&settings, &plan, WAIT.max(CREATE_WAIT))?;
            let mut rows = rows(&installation, &plan, "created");
            for failure in &failures {
                if let Some(row) = rows.iter_mut().find(|row| row.topic == failure.topic) {
                    row.state = "failed";
                    row.reason = Some(failure.reason.clone());
                }
            }
            output.rows(&COLUMNS, &rows)?;
            match failures.first() {
                None => Ok(()),
                Some(first) => Err(Failure::no(format!(
                    "{} topics could not be created, the first: {first} (kafka.replication is {})",
                    failures.len(),
                    installation.config.kafka.replication
                ))),
            }
        }
    }
}

/// Creating hundreds of partitions takes a busy cluster a while.
const CREATE_WAIT: std::time::Duration = std::time::Duration::from_secs(30);

/// In the order of the contract; `absent` names what is, was or would be done about a missing one.
fn rows(installation: &Installation, plan: &Plan, absent: &'static str) -> Vec<Row> {
    installation
        .specs()
        .into_iter()
        .map(|spec| row(spec, plan, absent))
        .collect()
}

/// What to say of topics that have another number of replicas than new ones would get.
fn replication_note(installation: &Installation, plan: &Plan) -> Option<String> {
    let wanted = installation.config.kafka.replication;
    let differ = plan.replication.values();
    let differ = differ.filter(|found| **found != i32::from(wanted)).count();
    (differ > 0).then(|| {
        format!(
            "note: {differ} of these topics have another replication than kafka.replication \
             ({wanted}), which is for new topics only; Kafka's own tools change it"
        )
    })
}

fn row(spec: TopicSpec, plan: &Plan, absent: &'static str) -> Row {
    let wrong = plan.wrong.iter().find(|wrong| wrong.topic == spec.name);
    let state = if wrong.is_some() {
        "wrong partitions"
    } else if plan.missing.iter().any(|missing| missing.name == spec.name) {
        absent
    } else {
        "present"
    };
    let replication = plan.replication.get(&spec.name).copied();
    Row {
        topic: spec.name,
        partitions: wrong.map_or(spec.partitions, |wrong| wrong.found),
        replication: replication.unwrap_or(spec.replication),
        state,
        reason: wrong.map(ToString::to_string),
    }
}
