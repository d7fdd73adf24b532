//! What processes use, from `/proc`, once a second.
//!
//! Decides what is sampled. Leaves what it may be to the profiles.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::now_us;
use crate::stats::slope;

/// Clock ticks per second in `/proc`: what Linux shows to programs on every architecture.
const TICKS: f64 = 100.0;
const EVERY: Duration = Duration::from_secs(1);
const MIB: f64 = (1 << 20) as f64;

/// A process at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// When, microseconds since the epoch.
    pub at_us: u64,
    /// Which of those that are sampled.
    pub process: usize,
    /// Resident memory, bytes.
    pub rss: u64,
    /// Seconds of CPU in user mode so far.
    pub user: f64,
    /// Seconds of CPU in the kernel so far.
    pub system: f64,
    /// Open file descriptors, sockets among them.
    pub descriptors: usize,
}

/// What a process used in an interval.
#[derive(Clone, Debug, Serialize)]
pub struct Usage {
    /// Its name here.
    pub process: String,
    /// Memory at the beginning, MiB.
    pub rss_first_mib: f64,
    /// The most, MiB.
    pub rss_max_mib: f64,
    /// How fast it grew, MiB an hour, by least squares.
    pub rss_mib_per_hour: f64,
    /// Seconds of CPU, user and system.
    pub cpu_seconds: f64,
    /// In cores.
    pub cores: f64,
    /// The most file descriptors.
    pub descriptors_max: usize,
}

/// Samples processes from [`Sampler::start`] until dropped.
pub struct Sampler {
    names: Vec<String>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    samples: Mutex<Vec<Sample>>,
    stopped: AtomicBool,
}

impl Shared {
    fn samples(&self) -> MutexGuard<'_, Vec<Sample>> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sampler {
    /// Of processes by name and id.
    pub fn start(processes: Vec<(String, u32)>) -> Self {
        let shared: Arc<Shared> = Arc::default();
        let (names, pids): (_, Vec<u32>) = processes.into_iter().unzip();
        let told = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            let mut next = Instant::now();
            while !told.stopped.load(Ordering::Relaxed) {
                let taken = pids.iter().enumerate();
                // one that ended has no more samples
                let taken = taken.filter_map(|(process, pid)| sample(process, *pid).ok());
                let taken: Vec<Sample> = taken.collect();
                told.samples().extend(taken);
                next += EVERY;
                thread::park_timeout(next.saturating_duration_since(Instant::now()));
            }
        });
        Self {
            names,
            shared,
            thread: Some(thread),
        }
    }

    /// The samples so far of the processes whose name begins so, in order of time.
    pub fn of(&self, name: &str) -> Vec<Sample> {
        let samples = self.shared.samples();
        let of_them = |sample: &&Sample| self.names[sample.process].starts_with(name);
        samples.iter().filter(of_them).copied().collect()
    }

    /// What each process used between two times, microseconds since the epoch.
    pub fn usage(&self, between: &Range<u64>) -> Vec<Usage> {
        let samples = self.shared.samples();
        let usage = self.names.iter().enumerate().map(|(process, name)| {
            let within =
                |sample: &&Sample| sample.process == process && between.contains(&sample.at_us);
            usage(name, &samples.iter().filter(within).collect::<Vec<_>>())
        });
        usage.collect()
    }

    /// Writes every sample as a line.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let mut out = BufWriter::new(File::create(path)?);
        writeln!(out, "at_us,process,rss_bytes,user_s,system_s,descriptors")?;
        for sample in self.shared.samples().iter() {
            let Sample {
                at_us,
                process,
                rss,
                user,
                system,
                descriptors,
            } = sample;
            let name = &self.names[*process];
            writeln!(
                out,
                "{at_us},{name},{rss},{user:.2},{system:.2},{descriptors}"
            )?;
        }
        out.flush()
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // it has nothing to say
            drop(thread.join());
        }
    }
}

/// The CPU a process has used so far, user and system, seconds.
///
/// # Errors
/// It is gone.
pub fn cpu_seconds(pid: u32) -> io::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (user, system) = ticks(&stat).ok_or(io::ErrorKind::InvalidData)?;
    Ok((user + system) / TICKS)
}

fn usage(name: &str, samples: &[&Sample]) -> Usage {
    let (first, last) = (samples.first(), samples.last());
    let seconds = |from: &Sample, to: &Sample| (to.at_us - from.at_us) as f64 / 1e6;
    let cpu = |sample: &Sample| sample.user + sample.system;
    let (took, cpu_seconds) = match (first, last) {
        (Some(from), Some(to)) => (seconds(from, to), cpu(to) - cpu(from)),
        _ => (0.0, 0.0),
    };
    let points = samples.iter().map(|sample| {
        let hours = seconds(samples[0], sample) / 3_600.0;
        (hours, sample.rss as f64 / MIB)
    });
    Usage {
        process: name.to_owned(),
        rss_first_mib: first.map_or(0.0, |sample| sample.rss as f64 / MIB),
        rss_max_mib: samples.iter().map(|s| s.rss).max().unwrap_or_default() as f64 / MIB,
        rss_mib_per_hour: slope(&points.collect::<Vec<_>>()),
        cpu_seconds,
        cores: if took > 0.0 { cpu_seconds / took } else { 0.0 },
        descriptors_max: samples
            .iter()
            .map(|s| s.descriptors)
            .max()
            .unwrap_or_default(),
    }
}

fn sample(process: usize, pid: u32) -> io::Result<Sample> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (user, system) = ticks(&stat).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Sample {
        at_us: now_us(),
        process,
        rss: rss(&status).ok_or(io::ErrorKind::InvalidData)?,
        user: user / TICKS,
        system: system / TICKS,
        descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
    })
}

/// Resident memory in bytes, from `/proc/PID/status`.
fn rss(status: &str) -> Option<u64> {
    let mut lines = status.lines();
    let line = lines.find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1_024)
}

/// User and system time in ticks, from `/proc/PID/stat` (proc(5): fields 14 and 15).
fn ticks(stat: &str) -> Option<(f64, f64)> {
    // the name before may hold anything
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(14 - 3);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{Sample, Sampler, rss, sample, ticks, usage};

    #[test]
    fn proc_is_read_by_field() {
        assert_eq!(rss("Name:\tx\nVmRSS:\t  2048 kB\n"), Some(2 << 20));
        let stat = "7 (a ) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0";
        assert_eq!(ticks(stat), Some((250.0, 50.0)));
    }

    #[test]
    fn this_process_can_be_sampled() {
        let taken = sample(0, std::process::id()).unwrap();
        assert!(taken.rss > 0 && taken.descriptors > 2, "{taken:?}");
    }

    #[test]
    fn usage_is_the_difference_between_first_and_last() {
        let at = |second: u64, mib: u64, cpu: f64| Sample {
            at_us: second * 1_000_000,
            process: 0,
            rss: mib << 20,
            user: cpu,
            system: cpu,
            descriptors: second as usize,
        };
        let samples = [at(0, 10, 1.0), at(1, 30, 1.5), at(2, 20, 2.0)];
        let usage = usage("p", &samples.iter().collect::<Vec<_>>());
        assert_eq!((usage.rss_first_mib, usage.rss_max_mib), (10.0, 30.0));
        assert_eq!((usage.cpu_seconds, usage.cores), (2.0, 1.0));
        assert_eq!(usage.descriptors_max, 2);
        assert!((usage.rss_mib_per_hour - 5.0 * 3_600.0).abs() < 1e-6);
    }

    #[test]
    fn a_sampler_ends_at_once() {
        let sampler = Sampler::start(vec![("this".into(), std::process::id())]);
        let began = std::time::Instant::now();
        drop(sampler);
        assert!(began.elapsed().as_millis() < 900);
    }
}
