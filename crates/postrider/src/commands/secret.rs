//! `postrider secret`: endpoints' signing secrets, straight on the `endpoints` topic.
//!
//! Decides which subcommands there are; what each does is in its module, how records are written
//! while others write too in `endpoint::log`. The sealed form is `signing`'s.

mod reseal;
mod roll;

use clap::{Args, Subcommand};
use postrider_domain::EndpointId;
use postrider_wire::endpoint::Reseal;

use crate::cli::DryRun;
use crate::exit::Failure;
use crate::installation::Where;
use crate::output::Output;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Give an endpoint a new signing secret; the old one signs along until it expires
    Roll(roll::Roll),
    /// Seal what lies unsealed, of all endpoints or of one
    Seal(Seal),
    /// Seal everything anew under the first key of the key file
    Rewrap(Rewrap),
}

#[derive(Args)]
pub(crate) struct Seal {
    /// The endpoint's id; none = all endpoints
    id: Option<EndpointId>,
    #[command(flatten)]
    dry: DryRun,
}

#[derive(Args)]
pub(crate) struct Rewrap {
    #[command(flatten)]
    dry: DryRun,
}

pub(crate) fn run(command: &Command, at: &Where, output: Output) -> Result<(), Failure> {
    let installation = at.load()?;
    match command {
        Command::Roll(arguments) => roll::run(arguments, &installation, output),
        Command::Seal(Seal { id, dry }) => {
            reseal::run(Reseal::Open, id.as_ref(), *dry, &installation, output)
        }
        Command::Rewrap(Rewrap { dry }) => {
            reseal::run(Reseal::Stale, None, *dry, &installation, output)
        }
    }
}
