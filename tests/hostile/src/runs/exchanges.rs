//! Hostile exchanges without an end, and what is left of them.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use postrider_domain::AttemptResult;
use postrider_egress::Egress;
use postrider_guard::Policy;
use tokio::task::JoinSet;

use super::{World, client, send};
use crate::behaviour::{BEHAVIOURS, BODY_BYTES_MAX, Expected};
use crate::usage::{resident, sockets};

/// How many, how fast.
#[derive(clap::Args)]
pub struct Load {
    /// Exchanges in all.
    #[arg(long, default_value_t = 10_000)]
    count: usize,
    /// Exchanges after which memory is measured first.
    #[arg(long, default_value_t = 2_000)]
    warm: usize,
    /// Exchanges side by side.
    #[arg(long, default_value_t = 60)]
    concurrency: usize,
    /// Timeout of each, in milliseconds.
    #[arg(long, default_value_t = 300)]
    timeout: u64,
    /// KiB that memory may grow by from the first measurement to the last.
    #[arg(long, default_value_t = 6 * 1024)]
    growth: u64,
}

/// What the process holds when nothing is under way.
struct Held {
    kib: u64,
    sockets: usize,
    tasks: usize,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kib,
            sockets,
            tasks,
        } = self;
        write!(f, "{kib} KiB, {sockets} sockets, {tasks} tasks")
    }
}

/// Sends them, with receivers and name server in a process of their own.
///
/// # Errors
/// Memory grew by more than is allowed, or sockets or tasks were left.
pub async fn run(folder: &Path, load: &Load) -> Result<String> {
    let _others = Others::begin(folder)?;
    let egress = client(Policy::default())?;
    let mut ends = BTreeMap::new();
    let large = Bytes::from(vec![b'x'; BODY_BYTES_MAX]);
    let begin = Instant::now();
    let before = held().await?;
    exchange(&egress, load, &large, 0..load.warm, &mut ends).await;
    let warm = held().await?;
    exchange(&egress, load, &large, load.warm..load.count, &mut ends).await;
    let after = held().await?;
    let took = begin.elapsed();
    let growth = after.kib.saturating_sub(warm.kib);
    let shown = format!(
        "{} exchanges in {took:?}: {ends:?}\nbefore: {before}; after {}: {warm}; after all: {after}",
        load.count, load.warm
    );
    ensure!(
        growth <= load.growth,
        "{shown}\nmemory grew by {growth} KiB"
    );
    Ok(shown)
}

async fn exchange(
    egress: &Egress,
    load: &Load,
    large: &Bytes,
    numbers: std::ops::Range<usize>,
    ends: &mut BTreeMap<String, usize>,
) {
    let timeout = Duration::from_millis(load.timeout);
    let mut under_way = JoinSet::new();
    for number in numbers {
        if under_way.len() >= load.concurrency
            && let Some(end) = under_way.join_next().await
        {
            *ends.entry(end.expect("no panic")).or_default() += 1;
        }
        let behaviour = &BEHAVIOURS[number % BEHAVIOURS.len()];
        // An answer leaves an idle connection to its host: these are always the same few.
        let host = match behaviour.expected {
            Expected::Kind(_) => number / BEHAVIOURS.len() % HOSTS,
            Expected::Status(..) => 0,
        };
        let url = format!("https://{host}.{}.example/hooks", behaviour.name);
        let body = large.slice(..behaviour.body_bytes());
        let egress = egress.clone();
        under_way.spawn(async move {
            let report = send(&egress, &url, body, timeout).await;
            match report.result {
                AttemptResult::Error(error) => error.kind.as_str().to_owned(),
                AttemptResult::Response(response) => response.status.to_string(),
            }
        });
    }
    while let Some(end) = under_way.join_next().await {
        *ends.entry(end.expect("no panic")).or_default() += 1;
    }
}

/// What is held when nothing is under way but the end of connections, which is waited for.
async fn held() -> Result<Held> {
    let begin = Instant::now();
    loop {
        let tasks = tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks();
        let sockets = sockets()?;
        if tasks <= TASKS_MAX && sockets <= SOCKETS_MAX {
            let kib = resident()?;
            return Ok(Held {
                kib,
                sockets,
                tasks,
            });
        }
        ensure!(
            begin.elapsed() < PATIENCE,
            "{tasks} tasks and {sockets} sockets are left"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Hosts of each receiver: few enough for all names to be remembered when memory is first measured.
const HOSTS: usize = 16;

/// How long a connection may take to end after its attempt.
const PATIENCE: Duration = Duration::from_secs(2);

/// Sockets of the runtime and the resolver, and idle connections to the few hosts that answer.
const SOCKETS_MAX: usize = 40;

/// Tasks likewise.
const TASKS_MAX: usize = 40;

/// Name server and receivers in a process of their own, which ends with this value.
pub struct Others(Child);

impl Others {
    /// Starts them; they listen.
    ///
    /// # Errors
    /// They do not.
    pub fn begin(folder: &Path) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("serve")
            .arg("--inside")
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().context("a pipe")?;
        let others = Self(child);
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        ensure!(line == "ready\n", "the receivers did not start: {line:?}");
        Ok(others)
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().ok();
    }
}

/// The other side of [`Others`].
///
/// # Errors
/// They cannot listen.
pub async fn serve(folder: &Path) -> Result<String> {
    let _world = World::begin(folder, HashMap::new()).await?;
    writeln!(std::io::stdout(), "ready")?;
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    Ok(String::new())
}
