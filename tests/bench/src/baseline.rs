//! The bare loop: signed requests to the same receivers by the client that most Rust programs use,
//! with nothing around it. What anybody pays who sends signed requests at all, and so the measure
//! of what Postrider costs.
//!
//! Decides what a bare request is: the body, the headers and the signature of a delivery in the
//! default scheme, made anew for each. Leaves to the profiles what is compared with it.

use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clap::Args;
use hmac::{Hmac, KeyInit, Mac};
use postrider_e2e::SECRET;
use reqwest::Client;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use tokio::task::JoinSet;

use crate::now_us;
use crate::samples::cpu_seconds;
use crate::sink::{Sink, host, path};

/// Its receivers are counted from here, so that nobody takes its requests for deliveries.
pub const FIRST_RECEIVER: u32 = 1 << 30;

/// What it does.
#[derive(Clone, Debug, Args)]
pub struct Bare {
    /// The sink's port
    #[arg(long)]
    port: u16,
    /// Its hosts that get requests in turn
    #[arg(long)]
    hosts: u32,
    /// How many receivers get requests in turn
    #[arg(long)]
    receivers: u32,
    /// Bytes of a body beside its id, type and tenant
    #[arg(long)]
    padding: usize,
    /// Requests at once
    #[arg(long)]
    in_flight: u32,
    /// Seconds that are measured, after one that is not
    #[arg(long)]
    seconds: f64,
}

/// What it came to.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Pace {
    /// Requests that were answered with 200.
    pub requests: u64,
    /// The others.
    pub failed: u64,
    /// How long they took together, seconds.
    pub seconds: f64,
    /// The CPU of the whole process in that time, user and system, seconds.
    pub cpu_seconds: f64,
}

impl Pace {
    /// Requests a second.
    pub fn rate(&self) -> f64 {
        self.requests as f64 / self.seconds
    }

    /// CPU per request, microseconds.
    pub fn cpu_us(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.requests.max(1) as f64
    }
}

/// Runs the loop as a process of its own.
///
/// # Errors
/// It does not run, or a request failed.
pub fn measure(
    program: &Path,
    sink: &Sink,
    hosts: u32,
    receivers: u32,
    padding: usize,
    in_flight: u32,
    seconds: f64,
) -> anyhow::Result<Pace> {
    let output = Command::new(program)
        .args(["bare", "--port", &sink.port(false).to_string()])
        .args(["--hosts", &hosts.to_string()])
        .args(["--receivers", &receivers.to_string()])
        .args(["--padding", &padding.to_string()])
        .args(["--in-flight", &in_flight.to_string()])
        .args(["--seconds", &seconds.to_string()])
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(
        output.status.success(),
        "the bare loop ended with {}",
        output.status
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The loop; prints what it came to as JSON.
///
/// # Errors
/// The client cannot be made, or a request fails.
pub fn run(bare: &Bare) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let pace = runtime.block_on(loop_for(bare))?;
    writeln!(io::stdout(), "{}", serde_json::to_string(&pace)?)?;
    Ok(())
}

#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    next: AtomicU32,
}

async fn loop_for(bare: &Bare) -> anyhow::Result<Pace> {
    let key = SECRET.strip_prefix("whsec_").context("a secret of ours")?;
    let key: Arc<[u8]> = BASE64_STANDARD.decode(key)?.into();
    let client = Client::builder()
        .timeout(Duration::from_secs(15))
        .pool_max_idle_per_host(bare.in_flight as usize)
        .build()?;
    let counts: Arc<Counts> = Arc::default();
    let padding: Arc<str> = "x".repeat(bare.padding).into();
    let mut lanes = JoinSet::new();
    for _ in 0..bare.in_flight {
        let (client, counts, key) = (client.clone(), Arc::clone(&counts), Arc::clone(&key));
        let (bare, padding) = (bare.clone(), Arc::clone(&padding));
        lanes.spawn(async move {
            loop {
                let number = counts.next.fetch_add(1, Ordering::Relaxed);
                let sent = send(&client, &bare, number, &padding, &key).await;
                if let Err(error) = sent {
                    return error;
                }
                counts.requests.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    undisturbed(&mut lanes, Duration::from_secs(1)).await?;
    let so_far = || {
        let process = std::process::id();
        let requests = counts.requests.load(Ordering::Relaxed);
        cpu_seconds(process).map(|cpu| (Instant::now(), requests, cpu))
    };
    let first = so_far()?;
    undisturbed(&mut lanes, Duration::from_secs_f64(bare.seconds)).await?;
    let last = so_far()?;
    lanes.shutdown().await;
    Ok(Pace {
        requests: last.1 - first.1,
        failed: 0,
        seconds: (last.0 - first.0).as_secs_f64(),
        cpu_seconds: last.2 - first.2,
    })
}

/// For so long the requests go on; the first that fails ends it.
async fn undisturbed(lanes: &mut JoinSet<anyhow::Error>, time: Duration) -> anyhow::Result<()> {
    tokio::select! {
        () = tokio::time::sleep(time) => Ok(()),
        Some(ended) = lanes.join_next() => Err(ended?.context("a bare request failed")),
    }
}

async fn send(
    client: &Client,
    bare: &Bare,
    number: u32,
    padding: &str,
    key: &[u8],
) -> anyhow::Result<()> {
    let receiver = FIRST_RECEIVER + number % bare.receivers;
    let host = host(number % bare.receivers % bare.hosts);
    let body = format!(
        r#"{{"id":"b{number}","type":"payment.captured","tenant":"t{receiver}","padding":"{padding}"}}"#
    );
    let id = format!("bare_{number}");
    let timestamp = now_us() / 1_000_000;
    let mut mac = Hmac::<Sha256>::new_from_slice(key)?;
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body.as_bytes());
    let signature = BASE64_STANDARD.encode(mac.finalize().into_bytes());
    let response = client
        .post(format!("http://{host}:{}{}", bare.port, path(receiver)))
        .header("content-type", "application/json")
        .header("user-agent", "bare")
        .header("webhook-id", id)
        .header("webhook-timestamp", timestamp.to_string())
        .header("webhook-signature", format!("v1,{signature}"))
        .header("postrider-attempt", "1")
        .body(body)
        .send()
        .await?;
    let response = response.error_for_status()?;
    response.bytes().await?;
    Ok(())
}
