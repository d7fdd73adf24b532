//! The command line: which commands and flags there are.
//!
//! Decides names, help texts and that every flag can also be a variable `POSTRIDER_…`. Leaves each
//! command to its module below `commands`.

use std::io::{self, IsTerminal};

use clap::builder::BoolishValueParser;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use postrider_config::Environment;
use postrider_telemetry::logs;

use crate::commands;
use crate::exit::{Code, Failure};
use crate::installation::Where;
use crate::output::{Format, Output};

/// Kafka events in, signed webhooks out
#[derive(Parser)]
#[command(name = "postrider", version = VERSION, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[cfg(not(feature = "points"))]
const VERSION: &str = env!("CARGO_PKG_VERSION");
#[cfg(feature = "points")]
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), ", a test build with kill points");

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 the answer is no, 64 wrong usage or configuration, 69 a server cannot be \
reached, 70 a bug.";

/// What every command takes.
#[derive(Args, Clone, Debug)]
pub(crate) struct Global {
    #[command(flatten)]
    pub(crate) at: Where,
    /// How results are printed
    #[arg(
        short,
        long,
        global = true,
        env = "POSTRIDER_OUTPUT",
        value_enum,
        default_value_t
    )]
    pub(crate) output: Format,
}

/// `--dry-run`, where something changes.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct DryRun {
    /// Say what would be done, and do nothing
    #[arg(long, env = "POSTRIDER_DRY_RUN", value_parser = BoolishValueParser::new())]
    pub(crate) dry_run: bool,
}

#[derive(Subcommand)]
enum Command {
    /// See it work: everything in this process, with demo traffic
    Dev(commands::dev::Arguments),
    /// Run roles against Kafka until told to stop
    Run(commands::run::Arguments),
    /// Check, show or explain the configuration
    #[command(subcommand)]
    Config(commands::config::Command),
    /// Show or create the topics Postrider needs
    #[command(subcommand)]
    Topics(commands::topics::Command),
    /// Create, change, show, pause and delete merchants' endpoints
    #[command(subcommand)]
    Endpoint(commands::endpoint::Command),
    /// Roll, seal and rewrap endpoints' signing secrets
    #[command(subcommand)]
    Secret(commands::secret::Command),
    /// Put events on an intake topic
    #[command(subcommand)]
    Event(commands::event::Command),
    /// Receive webhooks on this machine, verify and print them
    Listen(commands::listen::Arguments),
    /// Watch attempts
    #[command(subcommand)]
    Attempt(commands::attempt::Command),
    /// Look at what was given up
    #[command(subcommand)]
    DeadLetter(commands::dead_letter::Command),
    /// Say which slice and partition an endpoint belongs to
    Slice(commands::slice::Arguments),
    /// Sign a body the way a delivery is signed
    Sign(commands::signature::SignArguments),
    /// Verify the signature of a request
    Verify(commands::signature::VerifyArguments),
    /// Print a completion script for a shell
    Completion(commands::completion::Arguments),
}

/// Reads the command line and does what it says.
pub(crate) fn run() -> Result<(), Failure> {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return explain(&error),
    };
    let no_color = Environment::of_process().no_color();
    let output = Output::new(cli.global.output, no_color);
    let at = &cli.global.at;
    if let Command::Run(arguments) = &cli.command {
        return commands::run::run(arguments, at, no_color);
    }
    if let Command::Dev(arguments) = &cli.command {
        return commands::dev::run(arguments, at, output, no_color);
    }
    log_warnings(no_color)?;
    match cli.command {
        Command::Dev(_) | Command::Run(_) => unreachable!("handled above"),
        Command::Config(command) => commands::config::run(&command, at, output),
        Command::Topics(command) => commands::topics::run(&command, at, output),
        Command::Endpoint(command) => commands::endpoint::run(&command, at, output),
        Command::Secret(command) => commands::secret::run(&command, at, output),
        Command::Event(command) => commands::event::run(&command, at, output),
        Command::Listen(arguments) => commands::listen::run(&arguments, output),
        Command::Attempt(command) => commands::attempt::run(&command, at, output),
        Command::DeadLetter(command) => commands::dead_letter::run(&command, at, output),
        Command::Slice(arguments) => commands::slice::run(&arguments, at, output),
        Command::Sign(arguments) => commands::signature::sign(&arguments, output),
        Command::Verify(arguments) => commands::signature::verify(&arguments, output),
        Command::Completion(arguments) => {
            commands::completion::run(&arguments, Cli::command(), output)
        }
    }
}

/// Help and version are what was asked for; all else is wrong usage, with the code of the contract
/// instead of clap's.
fn explain(error: &clap::Error) -> Result<(), Failure> {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(error.print()?),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let text = error.render().to_string();
            Err(Failure::usage(format!(
                "a command is missing\n\n{}",
                text.trim_end()
            )))
        }
        _ => {
            let text = error.render().to_string();
            let text = text.strip_prefix("error: ").unwrap_or(&text);
            Err(Failure::usage(text.trim_end()))
        }
    }
}

/// Short commands show warnings only; long-running ones start logging themselves.
fn log_warnings(no_color: bool) -> Result<(), Failure> {
    let color = !no_color && io::stderr().is_terminal();
    logs::init("warn", logs::Format::Text, color).map_err(|e| Failure::new(Code::Bug, e))
}

/// Long-running commands log what the configuration says.
pub(crate) fn start_logs(
    telemetry: &postrider_config::Telemetry,
    no_color: bool,
) -> Result<(), Failure> {
    let format = match telemetry.format {
        postrider_config::LogFormat::Text => logs::Format::Text,
        postrider_config::LogFormat::Json => logs::Format::Json,
    };
    let color = !no_color && io::stderr().is_terminal();
    logs::init(&telemetry.log, format, color).map_err(Failure::usage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// `docs/reference/cli.md` promises it.
    #[test]
    fn every_flag_has_a_variable() {
        fn check(command: &clap::Command) {
            for argument in command.get_arguments() {
                let Some(long) = argument.get_long() else {
                    continue;
                };
                if long == "help" || long == "version" {
                    continue;
                }
                let variable = format!("POSTRIDER_{}", long.replace('-', "_").to_uppercase());
                let found = argument.get_env().and_then(|name| name.to_str());
                assert_eq!(found, Some(&*variable), "{}", command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn wrong_usage_ends_with_64() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' ')).map(|_| ());
        let error = parse("postrider no-such-command").unwrap_err();
        match explain(&error) {
            Err(Failure::Ended(code, reason)) => {
                assert_eq!(code, Code::Usage);
                assert!(reason.contains("no-such-command"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
        assert!(parse("postrider config check -c a.toml -o yaml").is_ok());
        assert!(parse("postrider topics apply --dry-run --brokers b:1").is_ok());
        assert!(parse("postrider config show -o xml").is_err());
        assert!(parse("postrider event publish --topic t --type x --data 1").is_err());
    }
}
