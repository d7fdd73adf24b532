//! What a run's figures can be compared with: on which machine, with which build, by which command.

use std::fs;
use std::process::Command;
use std::time::SystemTime;

use anyhow::Context;
use postrider_e2e::installation::binary;
use postrider_test_support::Broker;
use procfs::Current;
use serde::{Deserialize, Serialize};

/// A run, apart from what it showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// When it ended, RFC 3339.
    pub date: String,
    /// What was run.
    pub command: String,
    /// The commit, with `-dirty` where files were changed.
    pub revision: String,
    /// `debug` or `release`: of the experiment, beside which the product lies.
    pub build: String,
    /// What `postrider --version` says.
    pub postrider: String,
    /// Of the broker, unless it is someone else's.
    pub kafka: Option<String>,
    /// The kernel's release.
    pub kernel: String,
    /// The processor's name.
    pub processor: String,
    /// Cores that may be used.
    pub cores: usize,
    /// Memory of the machine, MiB.
    pub memory_mib: u64,
}

impl Facts {
    /// Of this run.
    ///
    /// # Errors
    /// Something of it cannot be found out.
    pub fn now() -> anyhow::Result<Self> {
        let arguments: Vec<String> = std::env::args().collect();
        let processors = procfs::CpuInfo::current()?;
        Ok(Self {
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            command: arguments.join(" "),
            revision: revision().unwrap_or_else(|_| "unknown".to_owned()),
            build: if cfg!(debug_assertions) {
                "debug"
            } else {
                "release"
            }
            .to_owned(),
            postrider: said(Command::new(binary()).arg("--version"))?,
            kafka: Broker::version(),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?
                .trim()
                .to_owned(),
            processor: processors.model_name(0).unwrap_or("unknown").to_owned(),
            cores: std::thread::available_parallelism()?.get(),
            memory_mib: procfs::Meminfo::current()?.mem_total >> 20,
        })
    }
}

impl Facts {
    /// What is the same for runs whose figures may stand in one table.
    pub fn origin(&self) -> String {
        let Self {
            revision,
            build,
            processor,
            cores,
            memory_mib,
            kernel,
            ..
        } = self;
        let kafka = self.kafka.as_deref().unwrap_or("of someone else");
        format!(
            "A {build} build of {revision}; Kafka {kafka}; {cores} cores of {processor}, \
             {memory_mib} MiB, Linux {kernel}"
        )
    }
}

/// The commit of the sources, with `-dirty` where files were changed.
///
/// # Errors
/// The sources lie there without their history.
fn revision() -> anyhow::Result<String> {
    let mut git = Command::new("git");
    git.current_dir(env!("CARGO_MANIFEST_DIR"));
    said(git.args(["describe", "--always", "--dirty", "--abbrev=12"]))
}

fn said(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    anyhow::ensure!(output.status.success(), "{command:?}: {}", output.status);
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
