//! The courses of `churn` at any size; prints tables, exits 1 when a promise does not hold. Uses
//! the `postrider` built into the same folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use postrider_e2e::churn::journal::Setting;
use postrider_e2e::churn::{Course, Experiment, audit, run};
use postrider_e2e::conclude;

/// Dispatchers join, leave, die and freeze, the broker fails, events trickle on; then the audit
#[derive(Parser)]
struct Arguments {
    /// How long
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// What is done when
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Do this instead, again and again
    #[arg(long)]
    experiment: Option<Experiment>,
    /// How often
    #[arg(long, default_value_t = 10)]
    times: usize,
    /// How the broker is set
    #[arg(long, value_enum, default_value_t = BrokerSetting::Short)]
    broker: BrokerSetting,
    /// Traffic [default: 50; 200 in an experiment about slices]
    #[arg(long)]
    events_per_second: Option<u32>,
    /// Endpoints that share it
    #[arg(long, default_value_t = 200)]
    endpoints: usize,
    /// Slices of the installation
    #[arg(long, default_value_t = 16)]
    slices: u16,
    /// Dispatchers to begin with
    #[arg(long, default_value_t = 4)]
    workers: u32,
    /// Where the journal goes [default: target/churn/NAME]
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Only audit the journal that is there
    #[arg(long)]
    audit: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum BrokerSetting {
    /// The shortest session that may be configured: 14 s, heartbeat 1 s, attempts 1 s
    Short,
    /// What a broker does by itself: 45 s, heartbeat 5 s, attempts 15 s
    Defaults,
    /// What is recommended: 30 s, heartbeat 1 s, attempts 15 s
    Recommended,
}

impl BrokerSetting {
    /// Session, heartbeat, deadline of an attempt, in ms.
    fn times(self) -> (u64, u64, u64) {
        match self {
            Self::Short => (14_000, 1_000, 1_000),
            Self::Defaults => (45_000, 5_000, 15_000),
            Self::Recommended => (30_000, 1_000, 15_000),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Defaults => "defaults",
            Self::Recommended => "recommended",
        }
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let name = name(&arguments);
    let churn = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/churn");
    let folder = arguments.folder.clone();
    let folder = folder.unwrap_or_else(|| churn.join(&name));
    let report = if arguments.audit {
        audit(folder)?
    } else {
        let (session_ms, heartbeat_ms, timeout_ms) = arguments.broker.times();
        let subject = arguments.experiment.and_then(Experiment::subject);
        let calm = arguments.experiment.is_some() && subject.is_none();
        let setting = Setting {
            name,
            session_ms,
            heartbeat_ms,
            timeout_ms,
            slices: arguments.slices,
            endpoints: arguments.endpoints,
            events_per_second: arguments
                .events_per_second
                .unwrap_or(if calm { 200 } else { 50 }),
            subject,
        };
        let course = match arguments.experiment {
            Some(experiment) => Course::Experiment(experiment, arguments.times),
            None => Course::Soak {
                time: Duration::from_secs_f64(arguments.minutes * 60.0),
                seed: arguments.seed,
            },
        };
        let report = run(setting, course, arguments.workers, folder.clone())?;
        fs::write(folder.join("report.md"), report.to_string())?;
        report
    };
    Ok(conclude(&report, &report.wrong())?)
}

/// The seed, or the experiment; and the broker's setting where it is not the short one.
fn name(arguments: &Arguments) -> String {
    let what = arguments.experiment.and_then(|e| e.to_possible_value());
    let what = what.map_or_else(
        || arguments.seed.to_string(),
        |value| value.get_name().to_owned(),
    );
    match arguments.broker {
        BrokerSetting::Short => what,
        BrokerSetting::Defaults | BrokerSetting::Recommended => {
            format!("{what}-{}", arguments.broker.name())
        }
    }
}
