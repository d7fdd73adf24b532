//! `postrider config`: is it right, what is in force and why, what is there to set.

use std::path::Path;

use clap::Subcommand;
use postrider_config::ShowRow;

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
            let installation = at.load()?;
            output.note(&checked(
                installation.file.as_deref(),
                installation.config.show(),
            ))?;
            if installation.config.sources.is_empty() {
                output.note(
                    "note: there are no [[sources]], so the router will not start; a dispatcher will",
                )?;
            }
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

/// What was read, and how much of it is in force.
fn checked(file: Option<&Path>, rows: &[ShowRow]) -> String {
    let variables = rows.iter().filter(|row| row.source.contains("variable"));
    let variables = variables.count();
    let keys = rows.len();
    let file = match file {
        Some(file) => format!("file {}", file.display()),
        None => "no file (--config or POSTRIDER_CONFIG)".to_owned(),
    };
    format!(
        "the configuration is valid: {file}, {variables} keys from environment variables, {keys} \
         keys in force"
    )
}
