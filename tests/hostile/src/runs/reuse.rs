//! A steady load over many hosts, and the handshakes it takes.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use postrider_domain::AttemptResult;
use postrider_guard::Policy;
use tokio::task::JoinSet;

use super::exchanges::Others;
use super::{client, end_of, send};

/// How many hosts, how often.
#[derive(clap::Args)]
pub struct Load {
    /// Hosts, each with a name of its own.
    #[arg(long, default_value_t = 200)]
    hosts: usize,
    /// Requests to each.
    #[arg(long, default_value_t = 120)]
    rounds: usize,
    /// Milliseconds from the beginning of a round to that of the next, unless it takes longer.
    #[arg(long, default_value_t = 0)]
    every: u64,
    /// Requests side by side.
    #[arg(long, default_value_t = 50)]
    concurrency: usize,
    /// Percent of requests that have to find a connection.
    #[arg(long, default_value_t = 99.0)]
    reused: f64,
}

/// Sends in rounds; an answer tells which request of its connection it is to.
///
/// # Errors
/// An attempt failed, or too many needed a handshake.
pub async fn run(folder: &Path, load: &Load) -> Result<String> {
    let _others = Others::begin(folder)?;
    let egress = client(Policy::default())?;
    let (mut handshakes, mut requests) = (0, 0);
    let begin = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(load.every.max(1)));
    for _ in 0..load.rounds {
        tick.tick().await;
        let mut under_way = JoinSet::new();
        for host in 0..load.hosts {
            if under_way.len() >= load.concurrency
                && let Some(first) = under_way.join_next().await
            {
                handshakes += usize::from(first??);
            }
            let egress = egress.clone();
            under_way.spawn(async move {
                let url = format!("https://{host}.serves.example/hooks");
                let body = Bytes::from_static(b"{\"a\":1}");
                let report = send(&egress, &url, body, Duration::from_secs(10)).await;
                match &report.result {
                    AttemptResult::Response(response) => Ok(&response.body[..] == b"1"),
                    AttemptResult::Error(_) => Err(anyhow::anyhow!("{url}: {}", end_of(&report))),
                }
            });
            requests += 1;
        }
        while let Some(first) = under_way.join_next().await {
            handshakes += usize::from(first??);
        }
    }
    let reused = 100.0 * (1.0 - handshakes as f64 / requests as f64);
    let shown = format!(
        "{requests} requests to {} hosts in {:?}: {handshakes} handshakes, {reused:.2} % reused",
        load.hosts,
        begin.elapsed()
    );
    ensure!(reused >= load.reused, "{shown}, not {} %", load.reused);
    Ok(shown)
}
