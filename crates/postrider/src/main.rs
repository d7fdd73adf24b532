//! The `postrider` binary: commands, flags and exit codes (`docs/reference/cli.md`).
//!
//! Decides how the parts are wired together and how results are shown. Leaves every rule of
//! delivering to the other crates.

mod cli;
mod coarse;
mod commands;
mod exit;
mod granted;
mod handshake;
mod input;
mod installation;
mod key_file;
mod leaderless;
mod output;
mod rebootstrap;
mod receiver;
#[cfg(feature = "points")]
mod test_build;
mod unheard;

use std::panic;
use std::process::ExitCode;

use exit::{Code, Failure};
use mimalloc::MiMalloc;

/// Also of librdkafka. Much of what a delivery allocates is freed by another thread, which the
/// system's allocator is slow at (`docs/performance.md`).
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let outcome = panic::catch_unwind(cli::run).unwrap_or_else(|_| {
        let what = "this is a bug; please report it with the lines above";
        Err(Failure::new(Code::Bug, what))
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
