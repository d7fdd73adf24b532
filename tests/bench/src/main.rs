//! `bench PROFILE`: one load experiment; prints tables and marks, exits 1 when a mark is missed.
//! Uses the `postrider` built into the same folder.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use postrider_bench::profiles::{backlog, down, max, ordered, replay, retries, scale, sick, soak};
use postrider_bench::report::Folder;
use postrider_bench::rig::{Place, Setting};
use postrider_bench::{baseline, sink};

/// Load experiments against real workers on a real broker
#[derive(Parser)]
struct Arguments {
    /// Where the files of the run go [default: target/bench/PROFILE]
    #[arg(long, global = true)]
    folder: Option<PathBuf>,
    #[command(subcommand)]
    profile: Profile,
}

#[derive(Subcommand)]
enum Profile {
    /// 10 % of the endpoints hang, 5 % fail: what the healthy feel of it
    Sick(sick::Sick),
    /// How much it takes, and what a delivery costs beside a bare signed request
    Max(max::Max),
    /// One endpoint is away while very many deliveries for it arrive
    Down(down::Down),
    /// Very many retries wait: whether memory depends on how many
    Retries(retries::Retries),
    /// Very many events wait when the workers start
    Backlog(backlog::Backlog),
    /// Endpoints that take their events in order, beside those that do not
    Ordered(ordered::Ordered),
    /// Very many deliveries are sent again beside a live load
    Replay(replay::Replay),
    /// One, two and three dispatchers with the same CPU each
    Scale(scale::Scale),
    /// Hours of a steady load with a fault every so many minutes
    Soak(soak::Soak),
    /// Signed requests with nothing around them, as a process of its own
    #[command(hide = true)]
    Bare(baseline::Bare),
    /// The receivers, as a process of their own
    #[command(hide = true)]
    Sink {
        /// The file it writes
        #[arg(long)]
        log: PathBuf,
    },
}

impl Profile {
    fn name(&self) -> &'static str {
        match self {
            Self::Sick(_) => "sick",
            Self::Max(_) => "max",
            Self::Down(_) => "down",
            Self::Retries(_) => "retries",
            Self::Backlog(_) => "backlog",
            Self::Ordered(_) => "ordered",
            Self::Replay(_) => "replay",
            Self::Scale(_) => "scale",
            Self::Soak(_) => "soak",
            Self::Bare(_) => "bare",
            Self::Sink { .. } => "sink",
        }
    }

    fn setting(&self) -> Option<Setting> {
        match self {
            Self::Sick(plan) => Some(plan.setting),
            Self::Max(plan) => Some(plan.setting),
            Self::Down(plan) => Some(plan.setting),
            Self::Retries(plan) => Some(plan.setting),
            Self::Backlog(plan) => Some(plan.setting),
            Self::Ordered(plan) => Some(plan.setting),
            Self::Replay(plan) => Some(plan.setting),
            Self::Scale(plan) => Some(plan.setting),
            Self::Soak(plan) => Some(plan.setting),
            Self::Bare(_) | Self::Sink { .. } => None,
        }
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let Arguments { folder, profile } = Arguments::parse();
    match &profile {
        Profile::Sink { log } => {
            sink::run(log)?;
            return Ok(ExitCode::SUCCESS);
        }
        Profile::Bare(bare) => {
            baseline::run(bare)?;
            return Ok(ExitCode::SUCCESS);
        }
        _ => {}
    }
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/bench");
    let folder = Folder::new(&folder.unwrap_or_else(|| target.join(profile.name())))?;
    let Some(setting) = profile.setting() else {
        return Ok(ExitCode::SUCCESS);
    };
    let broker = setting.broker();
    let place = Place {
        broker: &broker,
        program: std::env::current_exe()?,
        folder,
    };
    let report = match &profile {
        Profile::Sick(plan) => sick::run(plan, &place)?,
        Profile::Max(plan) => max::run(plan, &place)?,
        Profile::Down(plan) => down::run(plan, &place)?,
        Profile::Retries(plan) => retries::run(plan, &place)?,
        Profile::Backlog(plan) => backlog::run(plan, &place)?,
        Profile::Ordered(plan) => ordered::run(plan, &place)?,
        Profile::Replay(plan) => replay::run(plan, &place)?,
        Profile::Scale(plan) => scale::run(plan, &place)?,
        Profile::Soak(plan) => soak::run(plan, &place)?,
        Profile::Bare(_) | Profile::Sink { .. } => return Ok(ExitCode::SUCCESS),
    };
    report.save(&place.folder)?;
    write!(io::stdout().lock(), "{report}")?;
    Ok(if report.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
