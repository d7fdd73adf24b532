//! `postrider completion`: a script that a shell loads.

use clap_complete::Shell;

use crate::exit::{Code, Failure};
use crate::output::Output;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(
    arguments: &Arguments,
    mut command: clap::Command,
    output: Output,
) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "postrider", &mut script);
    let script = String::from_utf8(script).map_err(|e| Failure::new(Code::Bug, e))?;
    Ok(output.raw(&script)?)
}
