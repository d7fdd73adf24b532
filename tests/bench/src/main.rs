//! `bench PROFILE`: one load experiment; prints tables and marks, exits 1 when a mark is missed.
//! `bench all`: every one of them. `bench compare`: two runs side by side.
//! Uses the `postrider` built into the same folder.

use std::fmt::Display;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use postrider_bench::compare::{self, Comparison};
use postrider_bench::facts::Facts;
use postrider_bench::profiles::{
    backlog, budget, burst, cold, down, fanout, hot, idle, max, ordered, replay, retries, scale,
    sick, soak, steady, tls,
};
use postrider_bench::report::{Folder, Report};
use postrider_bench::rig::{Place, Setting};
use postrider_bench::suite::{self, Outcome, Suite};
use postrider_bench::{baseline, sink};
use postrider_test_support::Broker;

/// Load experiments against real workers on a real broker
#[derive(Parser)]
struct Arguments {
    /// Where the files of the run go [default: target/bench/COMMAND]
    #[arg(long, global = true)]
    folder: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(flatten)]
    Profile(Profile),
    /// Every experiment, one after the other, also when one misses a mark
    All {
        /// In a short form, in which only what must never happen counts
        #[arg(long)]
        quick: bool,
        /// Leave one out by its name, such as the soak, which takes hours; may be given again
        #[arg(long, value_name = "NAME")]
        except: Vec<String>,
        /// Go on where a run with the same build was ended: what it finished is taken from its
        /// folder
        #[arg(long)]
        resume: bool,
    },
    /// Two runs side by side: their folders, or the report.json in them
    Compare {
        /// What it is compared with
        a: PathBuf,
        /// What is compared
        b: PathBuf,
    },
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
    /// A thousand hosts that speak TLS: connections that are kept, and handshakes
    Tls(tls::Tls),
    /// Very many endpoints on many hosts: memory, cost, start
    Cold(cold::Cold),
    /// One endpoint gets nine tenths of all events
    Hot(hot::Hot),
    /// One event for very many endpoints
    Fanout(fanout::Fanout),
    /// Several times the load for a minute
    Burst(burst::Burst),
    /// Hardly any load, beside two bare hops over topics
    Idle(idle::Idle),
    /// Half of what it takes
    Steady(steady::Steady),
    /// Where the CPU of a delivery goes, step by step; takes perf
    Budget(budget::Budget),
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
            Self::Tls(_) => "tls",
            Self::Cold(_) => "cold",
            Self::Hot(_) => "hot",
            Self::Fanout(_) => "fanout",
            Self::Burst(_) => "burst",
            Self::Idle(_) => "idle",
            Self::Steady(_) => "steady",
            Self::Budget(_) => "budget",
        }
    }

    fn setting(&self) -> Setting {
        match self {
            Self::Sick(plan) => plan.setting,
            Self::Max(plan) => plan.setting,
            Self::Down(plan) => plan.setting,
            Self::Retries(plan) => plan.setting,
            Self::Backlog(plan) => plan.setting,
            Self::Ordered(plan) => plan.setting,
            Self::Replay(plan) => plan.setting,
            Self::Scale(plan) => plan.setting,
            Self::Soak(plan) => plan.setting,
            Self::Tls(plan) => plan.setting,
            Self::Cold(plan) => plan.setting,
            Self::Hot(plan) => plan.setting,
            Self::Fanout(plan) => plan.setting,
            Self::Burst(plan) => plan.setting,
            Self::Idle(plan) => plan.setting,
            Self::Steady(plan) => plan.setting,
            Self::Budget(plan) => plan.setting,
        }
    }

    /// Carries it out and leaves its files.
    fn run(&self, broker: &Broker, folder: &Path) -> anyhow::Result<Report> {
        let place = Place {
            broker,
            program: std::env::current_exe()?,
            folder: Folder::new(folder)?,
        };
        let report = match self {
            Self::Sick(plan) => sick::run(plan, &place)?,
            Self::Max(plan) => max::run(plan, &place)?,
            Self::Down(plan) => down::run(plan, &place)?,
            Self::Retries(plan) => retries::run(plan, &place)?,
            Self::Backlog(plan) => backlog::run(plan, &place)?,
            Self::Ordered(plan) => ordered::run(plan, &place)?,
            Self::Replay(plan) => replay::run(plan, &place)?,
            Self::Scale(plan) => scale::run(plan, &place)?,
            Self::Soak(plan) => soak::run(plan, &place)?,
            Self::Tls(plan) => tls::run(plan, &place)?,
            Self::Cold(plan) => cold::run(plan, &place)?,
            Self::Hot(plan) => hot::run(plan, &place)?,
            Self::Fanout(plan) => fanout::run(plan, &place)?,
            Self::Burst(plan) => burst::run(plan, &place)?,
            Self::Idle(plan) => idle::run(plan, &place)?,
            Self::Steady(plan) => steady::run(plan, &place)?,
            Self::Budget(plan) => budget::run(plan, &place)?,
        };
        report.save(&place.folder)?;
        Ok(report)
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let Arguments { folder, command } = Arguments::parse();
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/bench");
    let folder = |name: &str| folder.unwrap_or_else(|| target.join(name));
    match command {
        Command::Sink { log } => {
            sink::run(&log)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Bare(bare) => {
            baseline::run(&bare)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Compare { a, b } => {
            let comparison = Comparison::of(&compare::read(&a)?, &compare::read(&b)?);
            say(&comparison, true)
        }
        Command::All {
            quick,
            except,
            resume,
        } => {
            let before = resume.then(Facts::now).transpose()?;
            let suite = all(quick, &except, before.as_ref(), &folder("all"))?;
            say(&suite, suite.is_good())
        }
        Command::Profile(profile) => {
            let broker = profile.setting().broker();
            let report = profile.run(&broker, &folder(profile.name()))?;
            say(&report, report.is_good())
        }
    }
}

fn say(what: &impl Display, good: bool) -> anyhow::Result<ExitCode> {
    write!(io::stdout().lock(), "{what}")?;
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// `build`: what this one has finished before need not be carried out again.
fn all(
    quick: bool,
    except: &[String],
    build: Option<&Facts>,
    folder: &Path,
) -> anyhow::Result<Suite> {
    let known = |name: &String| suite::ALL.iter().any(|entry| entry.profile == name);
    if let Some(unknown) = except.iter().find(|name| !known(name)) {
        anyhow::bail!("there is no experiment {unknown:?} to leave out; see bench --help");
    }
    let written = Folder::new(folder)?.file("all.md");
    let mut suite = Suite {
        only_counts: quick,
        ..Suite::default()
    };
    // brokers take seconds to start; for figures each experiment has one of its own
    let mut shared: Option<Broker> = None;
    for (number, entry) in suite::ALL.iter().enumerate() {
        let Some(line) = entry.line(quick) else {
            continue;
        };
        if except.iter().any(|name| entry.profile == name) {
            continue;
        }
        let profile = profile(&line)?;
        // one form is no run of the other
        let (form, name) = if quick {
            ("quick-", profile.name())
        } else {
            ("", line.trim())
        };
        let folder = folder.join(format!("{form}{}-{}", number + 1, profile.name()));
        let name = name.to_owned();
        if let Some(report) = build.and_then(|build| suite::finished(&folder, build)) {
            eprintln!("bench {name}: finished before");
            suite.outcomes.push((name, Outcome::Done(report.into())));
            continue;
        }
        eprintln!("bench {name}");
        let broker = match shared.take() {
            Some(broker) if quick => broker,
            _ => profile.setting().broker(),
        };
        // tests' own parts panic where they cannot go on; the next one can
        let ended = catch_unwind(AssertUnwindSafe(|| profile.run(&broker, &folder)));
        let outcome = match ended {
            Ok(Ok(report)) => Outcome::Done(report.into()),
            Ok(Err(error)) => Outcome::Failed(format!("{error:#}")),
            Err(_) => Outcome::Failed("it panicked; see above".to_owned()),
        };
        suite.outcomes.push((name, outcome));
        // hours may be still to come
        std::fs::write(&written, suite.to_string())?;
        shared = Some(broker);
    }
    Ok(suite)
}

/// The experiment of a command line.
fn profile(line: &str) -> anyhow::Result<Profile> {
    let words = ["bench"].into_iter().chain(line.split_whitespace());
    match Arguments::try_parse_from(words)?.command {
        Command::Profile(profile) => Ok(profile),
        _ => anyhow::bail!("{line:?} is no experiment"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory;
    use postrider_bench::suite;

    use super::{Arguments, profile};

    #[test]
    fn all_has_every_experiment_and_understands_each() {
        let mut listed = BTreeSet::new();
        for entry in suite::ALL {
            for line in [false, true].into_iter().filter_map(|q| entry.line(q)) {
                assert_eq!(profile(&line).unwrap().name(), entry.profile, "{line}");
            }
            listed.insert(entry.profile.to_owned());
        }
        let command = Arguments::command();
        let shown = command.get_subcommands().filter(|c| !c.is_hide_set());
        let names = shown.map(|c| c.get_name().to_owned());
        // a budget has no mark, and perf is not everywhere
        let others = ["all", "compare", "budget"];
        let there: BTreeSet<String> = names.filter(|n| !others.contains(&n.as_str())).collect();
        assert_eq!(listed, there);
    }
}
