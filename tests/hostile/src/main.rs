//! `hostile`: the experiments of this crate, each in a network of its own.
//!
//! Decides what the flags are. Leaves the network to `namespace`, the experiments to `runs`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use postrider_hostile::namespace;
use postrider_hostile::ranges::ranges;
use postrider_hostile::runs::{exchanges, packets, receivers, reuse};

/// Hostile URLs, names and receivers against Postrider's client.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    run: Run,
    /// The network is there already; certificates are in this folder.
    #[arg(long, global = true, hide = true)]
    inside: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Run {
    /// Counts packets that leave for denied ranges.
    Packets {
        /// With a policy that allows all of them: then they do leave.
        #[arg(long)]
        allowed: bool,
    },
    /// Sends once to each hostile receiver.
    Receivers,
    /// Sends to hostile receivers in any sequence, and sees what is left of it.
    Exchanges(exchanges::Load),
    /// Sends to honest receivers in rounds, and counts handshakes.
    Reuse(reuse::Load),
    /// Name server and receivers alone, until standard input ends.
    #[command(hide = true)]
    Serve,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("hostile: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the run within the network ended well; it has said why not.
fn run(arguments: Arguments) -> Result<bool> {
    let Some(folder) = arguments.inside else {
        return namespace::enter(std::env::args_os().skip(1));
    };
    if !matches!(arguments.run, Run::Serve) {
        namespace::set_up(&folder, &ranges())?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let shown = runtime.block_on(async {
        match arguments.run {
            Run::Packets { allowed: false } => packets::refused(&folder).await,
            Run::Packets { allowed: true } => packets::allowed(&folder).await,
            Run::Receivers => receivers::run(&folder).await,
            Run::Exchanges(load) => exchanges::run(&folder, &load).await,
            Run::Reuse(load) => reuse::run(&folder, &load).await,
            Run::Serve => exchanges::serve(&folder).await,
        }
    })?;
    if !shown.is_empty() {
        writeln!(std::io::stdout(), "{shown}")?;
    }
    Ok(true)
}
