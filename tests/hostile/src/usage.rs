//! What this process uses, and how late the machine lets it run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Resident memory, in KiB.
///
/// # Errors
/// `/proc` does not say.
pub fn resident() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.context("VmRSS")?.trim().trim_end_matches(" kB");
    Ok(kib.parse()?)
}

/// Open sockets.
///
/// # Errors
/// `/proc` does not say.
pub fn sockets() -> Result<usize> {
    let links = std::fs::read_dir("/proc/self/fd")?.flatten();
    let links = links.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    let is_socket = |link: &std::path::PathBuf| link.to_string_lossy().starts_with("socket:");
    Ok(links.filter(is_socket).count())
}

/// Threads that sleep for little and see how much later they wake: by so much is anything late on
/// this machine, whatever is measured.
pub struct Lateness {
    stop: Arc<AtomicBool>,
    worst: Arc<AtomicU64>,
    ticker: Option<JoinHandle<()>>,
}

impl Lateness {
    /// Begins to measure.
    #[must_use]
    pub fn watch() -> Self {
        let (stop, worst) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (stopped, seen) = (Arc::clone(&stop), Arc::clone(&worst));
        let ticker = std::thread::spawn(move || {
            let tick = Duration::from_millis(5);
            while !stopped.load(Ordering::Relaxed) {
                let begin = Instant::now();
                std::thread::sleep(tick);
                let late = begin.elapsed().saturating_sub(tick).as_micros();
                seen.fetch_max(u64::try_from(late).unwrap_or(u64::MAX), Ordering::Relaxed);
            }
        });
        Self {
            stop,
            worst,
            ticker: Some(ticker),
        }
    }

    /// The worst since the last time this was asked.
    #[must_use]
    pub fn worst(&self) -> Duration {
        Duration::from_micros(self.worst.swap(0, Ordering::Relaxed))
    }
}

impl Drop for Lateness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(ticker) = self.ticker.take() {
            ticker.join().ok();
        }
    }
}
