//! `postrider endpoint`: merchants' endpoints, straight on the `endpoints` topic.
//!
//! Decides which subcommands there are; what each does is in its module, how the topic is read and
//! written in `topic`, how while others write too in `log`. The form of file and record is `wire`'s.

mod apply;
mod delete;
pub(in crate::commands) mod log;
mod show;
mod state;
mod test_send;
pub(in crate::commands) mod topic;

use clap::{Args, Subcommand};
use postrider_domain::EndpointId;

use crate::exit::Failure;
use crate::installation::{Installation, Where};
use crate::output::Output;
use apply::Apply;
use delete::Delete;
use state::Switch;
use test_send::Test;
pub(super) use topic::Topic;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Create or change the endpoints of a file
    Apply(Apply),
    /// List all endpoints
    List,
    /// Show one endpoint; secrets are masked
    Get(One),
    /// Delete one endpoint
    Delete(Delete),
    /// Send one endpoint a test, and say how it ended
    Test(Test),
    /// Let one endpoint's deliveries wait
    Pause(state::One),
    /// Let the deliveries of a paused endpoint go on
    Resume(state::One),
}

#[derive(Args)]
pub(crate) struct One {
    /// The endpoint's id
    id: EndpointId,
}

pub(crate) fn run(command: &Command, at: &Where, output: Output) -> Result<(), Failure> {
    let installation = at.load()?;
    match command {
        Command::Apply(arguments) => apply::run(arguments, &installation, output),
        Command::List => show::list(&Topic::open(&installation)?, output),
        Command::Get(One { id }) => show::get(id, &Topic::open(&installation)?, output),
        Command::Delete(arguments) => delete::run(arguments, &Topic::open(&installation)?, output),
        Command::Test(arguments) => test_send::run(arguments, &installation, output),
        Command::Pause(one) => switch(Switch::Pause, one, &installation, output),
        Command::Resume(one) => switch(Switch::Resume, one, &installation, output),
    }
}

fn switch(
    switch: Switch,
    one: &state::One,
    installation: &Installation,
    output: Output,
) -> Result<(), Failure> {
    let topic = Topic::open_with(installation, installation.keys()?)?;
    state::run(switch, one, &topic, output)
}

pub(in crate::commands) fn no_endpoint(id: &EndpointId) -> Failure {
    Failure::no(format!("there is no endpoint {id}"))
}
