//! `postrider config`: is it right, what is in force and why, what is there to set.

use clap::Subcommand;

use crate::exit::Failure;
use crate::installation::Where;
use crate::output::Output;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Report every mistake in file, environment and flags; exit 0 only if there is none
    Check,
    /// Print the effective configuration with the source of each value; secrets are hidden
    Show,
    /// Print every key with type, default, bounds and meaning
    Reference,
}

pub(crate) fn run(command: &Command, at: &Where, output: Output) -> Result<(), Failure> {
    match command {
        Command::Check => {
            let keys = at.load()?.config.show().len();
            output.note(&format!(
                "the configuration is valid, {keys} keys are in force"
            ))?;
        }
        Command::Show => {
            let installation = at.load()?;
            output.rows(&["path", "value", "source"], installation.config.show())?;
        }
        Command::Reference => {
            let columns = ["path", "type", "default", "accepts", "meaning"];
            output.rows(&columns, &postrider_config::reference())?;
        }
    }
    Ok(())
}
