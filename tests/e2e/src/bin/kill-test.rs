//! The experiment of `kill_and_stop` at any size; prints plain numbers, exits 1 when a promise
//! does not hold. Uses the `postrider` built into the same folder.

use std::process::ExitCode;

use clap::Parser;
use postrider_e2e::conclude;
use postrider_e2e::kill_and_stop::{Plan, run};
use postrider_test_support::Broker;

/// Events from kcat over three topics, two dispatchers; one is stopped, one killed, both replaced
#[derive(Parser)]
struct Arguments {
    /// Events in all
    #[arg(long, default_value_t = 20_000)]
    events: usize,
    /// Endpoints that share them
    #[arg(long, default_value_t = 200)]
    endpoints: usize,
    /// Slices of the installation
    #[arg(long, default_value_t = 64)]
    slices: u16,
    /// Stop and kill nobody: for measuring
    #[arg(long)]
    calm: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let Arguments {
        events,
        endpoints,
        slices,
        calm,
    } = Arguments::parse();
    let plan = Plan {
        events,
        endpoints,
        slices,
        calm,
    };
    let report = run(Broker::shared(), plan);
    Ok(conclude(&report, &report.wrong())?)
}
