//! `faults WHAT`: a fault on three real brokers; prints what was counted and what had to hold,
//! exits 1 when something did not. Uses the `postrider` built into the same folder.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use postrider_bench::report::Folder;
use postrider_bench::sink;
use postrider_faults::rows::{self, ROWS};
use postrider_faults::{judge, nemesis, network};

/// Faults on three real Kafka brokers, and the audit that judges them
#[derive(Parser)]
struct Arguments {
    /// `list`, the number or name of a row, `all`, `nemesis`
    what: String,
    /// What is drawn at random is drawn from this [default: another each time]
    #[arg(long)]
    seed: Option<u64>,
    /// How long the fault lasts, in place of the row's own
    #[arg(long)]
    seconds: Option<f64>,
    /// How long nemesis goes on
    #[arg(long, default_value_t = 20.0)]
    minutes: f64,
    /// Where the files of the run go [default: target/faults/NAME]
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Set by the program itself, in the namespaces it made
    #[arg(long, hide = true)]
    inside: bool,
    /// The file that the receivers write
    #[arg(long, hide = true)]
    log: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let good = match arguments.what.as_str() {
        "list" => list()?,
        "sink" => {
            sink::run(arguments.log.as_deref().context("--log is missing")?)?;
            true
        }
        "all" => all(&arguments)?,
        _ if arguments.inside => inside(&arguments)?,
        what => {
            known(what)?;
            enter(&arguments, what)?
        }
    };
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn list() -> anyhow::Result<bool> {
    let mut out = io::stdout().lock();
    writeln!(out, "always: {}\n", judge::ALWAYS)?;
    for row in ROWS {
        writeln!(
            out,
            "{:<3} {:<13} {} ({} s)",
            row.number, row.name, row.injected, row.lasts
        )?;
        writeln!(out, "{:<17} must hold: {}", "", row.holds)?;
    }
    writeln!(
        out,
        "    nemesis       two to four at a time, again and again"
    )?;
    Ok(true)
}

fn known(what: &str) -> anyhow::Result<()> {
    if what != "nemesis" && rows::find(what).is_none() {
        bail!("there is no fault {what:?}; `faults list` says which there are");
    }
    Ok(())
}

/// Every row in namespaces of its own, whatever became of the ones before.
fn all(arguments: &Arguments) -> anyhow::Result<bool> {
    let mut verdicts = Vec::new();
    for row in ROWS {
        let kept = enter(arguments, row.name)?;
        verdicts.push((row, kept));
    }
    let mut out = io::stdout().lock();
    writeln!(out, "\n| row | fault | verdict |\n| --- | --- | --- |")?;
    for (row, kept) in &verdicts {
        let verdict = if *kept { "kept" } else { "MISSED" };
        writeln!(out, "| {} | {} | {verdict} |", row.number, row.name)?;
    }
    Ok(verdicts.iter().all(|(_, kept)| *kept))
}

fn enter(arguments: &Arguments, what: &str) -> anyhow::Result<bool> {
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("{what}, seed {seed}");
    let mut words: Vec<OsString> = vec![what.into(), "--seed".into(), seed.to_string().into()];
    if let Some(seconds) = arguments.seconds {
        words.extend(["--seconds".into(), seconds.to_string().into()]);
    }
    words.extend(["--minutes".into(), arguments.minutes.to_string().into()]);
    if let Some(folder) = &arguments.folder {
        words.extend(["--folder".into(), folder.into()]);
    }
    network::enter(words.into_iter())
}

fn inside(arguments: &Arguments) -> anyhow::Result<bool> {
    let seed = arguments.seed.context("--seed is missing")?;
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/faults");
    let named = |name: &str| {
        arguments
            .folder
            .clone()
            .unwrap_or_else(|| target.join(name))
    };
    let report = if arguments.what == "nemesis" {
        let folder = Folder::new(&named("nemesis"))?;
        let time = Duration::from_secs_f64(arguments.minutes * 60.0);
        nemesis::run(&folder, seed, time)?
    } else {
        let row = rows::find(&arguments.what).context("a row")?;
        let lasts = arguments.seconds.unwrap_or(row.lasts);
        let folder = Folder::new(&named(row.name))?;
        rows::run(row, &folder, seed, Duration::from_secs_f64(lasts))?
    };
    write!(io::stdout().lock(), "{report}")?;
    Ok(report.is_good())
}
