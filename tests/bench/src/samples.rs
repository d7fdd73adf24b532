//! What processes, and everything else on the machine, use: from `/proc`, once a second.
//!
//! Decides what is sampled and what it comes to. Leaves what it may be to the profiles, reading one
//! process to [`watched`].

pub mod watched;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use procfs::ProcResult;
use serde::Serialize;

use crate::now_us;
use crate::report::Folder;
use crate::stats::slope;
use watched::{Cpu, Machine, Sockets, Switches, Table, Watched};

const EVERY: Duration = Duration::from_secs(1);
/// Sockets and switches cost a look at each descriptor and thread: only in one round of so many.
const ROUNDS_OF_MORE: u64 = 5;
const MIB: f64 = (1 << 20) as f64;
/// The row of whatever is not sampled.
pub const OTHERS: &str = "others";
/// The row of what the host did not give to this machine.
pub const STOLEN: &str = "stolen by the host";

/// A process at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// When, microseconds since the epoch.
    pub at_us: u64,
    /// Which of those that are sampled.
    pub process: usize,
    /// Resident memory, bytes.
    pub rss: u64,
    /// CPU so far.
    pub cpu: Cpu,
    /// Open file descriptors, sockets among them.
    pub descriptors: usize,
    /// In some rounds.
    pub more: Option<More>,
}

/// What is looked at less often.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct More {
    /// So far.
    pub switches: Switches,
    /// Its sockets.
    pub sockets: Sockets,
}

/// CPU of a family of threads at a time. There is none where nothing has changed.
#[derive(Clone, Debug, PartialEq)]
struct ThreadSample {
    at_us: u64,
    process: usize,
    name: Arc<str>,
    cpu: Cpu,
}

/// What a process used in an interval.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Usage {
    /// Its name here; [`OTHERS`] and [`STOLEN`] are none of ours, and have CPU only.
    pub process: String,
    /// Memory at the beginning, MiB.
    pub rss_first_mib: f64,
    /// The most, MiB.
    pub rss_max_mib: f64,
    /// How fast it grew, MiB an hour, by least squares.
    pub rss_mib_per_hour: f64,
    /// Seconds of CPU, user and system.
    pub cpu_seconds: f64,
    /// Of them, in the kernel.
    pub system_seconds: f64,
    /// In cores.
    pub cores: f64,
    /// The most file descriptors.
    pub descriptors_max: usize,
    /// The most open connections.
    pub connections_max: usize,
    /// Times a second that a thread had nothing to do.
    pub voluntary_per_second: f64,
    /// Times a second that something else got its core.
    pub involuntary_per_second: f64,
    /// Seconds of CPU by name of thread, user and system, most first.
    pub threads: Vec<(String, f64)>,
}

/// Samples processes from [`Sampler::start`] until dropped.
pub struct Sampler {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    taken: Mutex<Taken>,
    stopped: AtomicBool,
}

#[derive(Default)]
struct Taken {
    /// Of all processes there ever were, by number.
    names: Vec<String>,
    /// Those that are not looked at yet.
    new: Vec<(usize, u32)>,
    samples: Vec<Sample>,
    threads: Vec<ThreadSample>,
    machine: Vec<(u64, Machine)>,
}

impl Shared {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sampler {
    /// Of processes by name and id.
    pub fn start(processes: Vec<(String, u32)>) -> Self {
        let shared: Arc<Shared> = Arc::default();
        let told = Arc::clone(&shared);
        let sampler = Self {
            shared,
            thread: Some(thread::spawn(move || run(&told))),
        };
        for (name, pid) in processes {
            sampler.watch(&name, pid);
        }
        sampler
    }

    /// One more process. One that took the place of another needs a name of its own.
    pub fn watch(&self, name: &str, pid: u32) {
        let mut taken = self.shared.taken();
        let number = taken.names.len();
        taken.names.push(name.to_owned());
        taken.new.push((number, pid));
    }

    /// The samples so far of the processes whose name begins so, in order of time.
    pub fn of(&self, name: &str) -> Vec<Sample> {
        let taken = self.shared.taken();
        let of_them = |sample: &&Sample| taken.names[sample.process].starts_with(name);
        taken.samples.iter().filter(of_them).copied().collect()
    }

    /// Each process's CPU by name and time, seconds; with it what is not sampled.
    pub fn cpu_so_far(&self) -> Vec<(String, u64, f64)> {
        let taken = self.shared.taken();
        let named = |sample: &Sample| {
            let name = taken.names[sample.process].clone();
            (name, sample.at_us, sample.cpu.total())
        };
        let mut all: Vec<_> = taken.samples.iter().map(named).collect();
        // what each process has used so far, at each time of the machine's own count
        let mut so_far = vec![0.0; taken.names.len()];
        let mut samples = taken.samples.iter().peekable();
        for (at_us, machine) in &taken.machine {
            while let Some(sample) = samples.next_if(|sample| sample.at_us <= *at_us) {
                so_far[sample.process] = sample.cpu.total();
            }
            let others = machine.busy - so_far.iter().sum::<f64>();
            all.push((OTHERS.to_owned(), *at_us, others));
        }
        all
    }

    /// Each process's memory by name and time, bytes.
    pub fn memory(&self) -> Vec<(String, u64, u64)> {
        let taken = self.shared.taken();
        let named = |sample: &Sample| {
            let name = taken.names[sample.process].clone();
            (name, sample.at_us, sample.rss)
        };
        taken.samples.iter().map(named).collect()
    }

    /// What each process used between two times, microseconds since the epoch, and what else the
    /// machine did. A process that has no sample there is left out.
    pub fn usage(&self, between: &Range<u64>) -> Vec<Usage> {
        self.shared.taken().usage(between)
    }

    /// Writes every sample as a line.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn save(&self, folder: &Folder) -> io::Result<()> {
        let taken = self.shared.taken();
        taken.write_processes(File::create(folder.file("samples.csv"))?)?;
        taken.write_threads(File::create(folder.file("threads.csv"))?)?;
        taken.write_machine(File::create(folder.file("machine.csv"))?)
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

fn run(shared: &Shared) {
    let mut watched: Vec<(usize, Watched)> = Vec::new();
    let mut next = Instant::now();
    for round in 0.. {
        if shared.stopped.load(Ordering::Relaxed) {
            return;
        }
        for (number, pid) in std::mem::take(&mut shared.taken().new) {
            // one that is gone already has no samples
            watched.extend(Watched::new(pid).ok().map(|process| (number, process)));
        }
        let table = (round % ROUNDS_OF_MORE == 0)
            .then(Table::read)
            .and_then(Result::ok);
        // nor has one that has ended since
        watched
            .retain_mut(|(number, process)| look(*number, process, table.as_ref(), shared).is_ok());
        if let Ok(machine) = Machine::look() {
            shared.taken().machine.push((now_us(), machine));
        }
        next += EVERY;
        thread::park_timeout(next.saturating_duration_since(Instant::now()));
    }
}

fn look(
    number: usize,
    process: &mut Watched,
    table: Option<&Table>,
    shared: &Shared,
) -> ProcResult<()> {
    let at_us = now_us();
    let seen = process.look()?;
    let more = match table {
        Some(table) => Some(More {
            switches: process.look_at_switches()?,
            sockets: process.look_at_sockets(table)?,
        }),
        None => None,
    };
    let threads = process.look_at_threads()?;
    let mut taken = shared.taken();
    taken.samples.push(Sample {
        at_us,
        process: number,
        rss: seen.rss,
        cpu: seen.cpu,
        descriptors: seen.descriptors,
        more,
    });
    taken
        .threads
        .extend(threads.into_iter().map(|(name, cpu)| ThreadSample {
            at_us,
            process: number,
            name,
            cpu,
        }));
    Ok(())
}

impl Taken {
    fn usage(&self, between: &Range<u64>) -> Vec<Usage> {
        let mut all = Vec::new();
        for (process, name) in self.names.iter().enumerate() {
            let within =
                |sample: &&Sample| sample.process == process && between.contains(&sample.at_us);
            let samples: Vec<&Sample> = self.samples.iter().filter(within).collect();
            if !samples.is_empty() {
                all.push(Usage {
                    threads: self.thread_usage(process, between),
                    ..usage(name, &samples)
                });
            }
        }
        let ours: f64 = all.iter().map(|usage| usage.cpu_seconds).sum();
        all.extend(self.rest(between, ours));
        all
    }

    fn thread_usage(&self, process: usize, between: &Range<u64>) -> Vec<(String, f64)> {
        // what was so when it began, and what was so at the end
        let mut by_name: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
        for sample in &self.threads {
            if sample.process == process && sample.at_us < between.end {
                let total = sample.cpu.total();
                let (first, last) = by_name.entry(&sample.name).or_insert((total, total));
                if sample.at_us <= between.start {
                    *first = total;
                }
                *last = total;
            }
        }
        let used = by_name
            .into_iter()
            .map(|(name, (first, last))| (name.to_owned(), last - first));
        let mut used: Vec<(String, f64)> = used.filter(|(_, used)| *used > 0.0).collect();
        used.sort_by(|a, b| b.1.total_cmp(&a.1));
        used
    }

    fn rest(&self, between: &Range<u64>, ours: f64) -> Vec<Usage> {
        let mut within = self.machine.iter().filter(|(at, _)| between.contains(at));
        let (Some((began, first)), Some((ended, last))) = (within.next(), within.next_back())
        else {
            return Vec::new();
        };
        let took = (ended - began) as f64 / 1e6;
        let row = |name: &str, cpu_seconds: f64| Usage {
            process: name.to_owned(),
            cpu_seconds,
            cores: if took > 0.0 { cpu_seconds / took } else { 0.0 },
            ..Usage::default()
        };
        vec![
            // ticks of one and of many are rounded differently
            row(OTHERS, (last.busy - first.busy - ours).max(0.0)),
            row(STOLEN, last.stolen - first.stolen),
        ]
    }

    fn write_processes(&self, file: File) -> io::Result<()> {
        let mut out = BufWriter::new(file);
        writeln!(
            out,
            "at_us,process,rss_bytes,user_s,system_s,descriptors,voluntary,involuntary,\
             opening,established,close_wait,closing"
        )?;
        for sample in &self.samples {
            let name = &self.names[sample.process];
            let (at, rss, cpu) = (sample.at_us, sample.rss, sample.cpu);
            write!(out, "{at},{name},{rss},{:.2},{:.2},", cpu.user, cpu.system)?;
            write!(out, "{}", sample.descriptors)?;
            match sample.more {
                Some(More { switches, sockets }) => writeln!(
                    out,
                    ",{},{},{},{},{},{}",
                    switches.voluntary,
                    switches.involuntary,
                    sockets.opening,
                    sockets.established,
                    sockets.close_wait,
                    sockets.closing
                )?,
                None => writeln!(out, ",,,,,,")?,
            }
        }
        out.flush()
    }

    fn write_threads(&self, file: File) -> io::Result<()> {
        let mut out = BufWriter::new(file);
        writeln!(out, "at_us,process,thread,user_s,system_s")?;
        for sample in &self.threads {
            let (process, name) = (&self.names[sample.process], &sample.name);
            let Cpu { user, system } = sample.cpu;
            let at_us = sample.at_us;
            // threads may be called anything; a comma would be another column
            let name = name.replace(',', ";");
            writeln!(out, "{at_us},{process},{name},{user:.2},{system:.2}")?;
        }
        out.flush()
    }

    fn write_machine(&self, file: File) -> io::Result<()> {
        let mut out = BufWriter::new(file);
        writeln!(out, "at_us,busy_s,stolen_s,idle_s")?;
        for (at_us, machine) in &self.machine {
            let Machine { busy, stolen, idle } = machine;
            writeln!(out, "{at_us},{busy:.2},{stolen:.2},{idle:.2}")?;
        }
        out.flush()
    }
}

/// The CPU a process has used so far, user and system, seconds.
///
/// # Errors
/// It is gone.
pub fn cpu_seconds(pid: u32) -> io::Result<f64> {
    let seen = Watched::new(pid).and_then(|process| process.look());
    Ok(seen.map_err(io::Error::other)?.cpu.total())
}

fn usage(name: &str, samples: &[&Sample]) -> Usage {
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else {
        return Usage::default();
    };
    let seconds = |from: &Sample, to: &Sample| (to.at_us - from.at_us) as f64 / 1e6;
    let per = |much: f64, took: f64| if took > 0.0 { much / took } else { 0.0 };
    let took = seconds(first, last);
    let cpu_seconds = last.cpu.total() - first.cpu.total();
    let points = samples.iter().map(|sample| {
        let hours = seconds(first, sample) / 3_600.0;
        (hours, sample.rss as f64 / MIB)
    });
    let most = |of: fn(&Sample) -> usize| samples.iter().map(|sample| of(sample)).max();
    let connections = |sample: &Sample| sample.more.map_or(0, |more| more.sockets.established);
    let mut more = samples.iter().filter(|sample| sample.more.is_some());
    let (from, to) = (more.next(), more.next_back());
    let switched = |of: fn(Switches) -> u64| {
        let (Some(from), Some(to)) = (from, to) else {
            return 0.0;
        };
        let count = |sample: &Sample| sample.more.map_or(0, |more| of(more.switches));
        per((count(to) - count(from)) as f64, seconds(from, to))
    };
    Usage {
        process: name.to_owned(),
        rss_first_mib: first.rss as f64 / MIB,
        rss_max_mib: samples.iter().map(|s| s.rss).max().unwrap_or_default() as f64 / MIB,
        rss_mib_per_hour: slope(&points.collect::<Vec<_>>()),
        cpu_seconds,
        system_seconds: last.cpu.system - first.cpu.system,
        cores: per(cpu_seconds, took),
        descriptors_max: most(|sample| sample.descriptors).unwrap_or_default(),
        connections_max: most(connections).unwrap_or_default(),
        voluntary_per_second: switched(|switches| switches.voluntary),
        involuntary_per_second: switched(|switches| switches.involuntary),
        threads: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
