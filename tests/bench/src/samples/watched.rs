//! What `/proc` says of one process, and of the whole machine.
//!
//! Decides how times of threads that come and go add up. Leaves when to look, and what is kept, to
//! the sampler.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use procfs::net::{TcpNetEntry, TcpState};
use procfs::process::{FDTarget, Process};
use procfs::{CurrentSI, KernelStats, ProcResult};
use serde::Serialize;

/// Seconds of CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cpu {
    /// In user mode.
    pub user: f64,
    /// In the kernel.
    pub system: f64,
}

impl Cpu {
    /// Both.
    pub fn total(self) -> f64 {
        self.user + self.system
    }

    fn of_ticks(user: u64, system: u64) -> Self {
        let seconds = |ticks: u64| ticks as f64 / procfs::ticks_per_second() as f64;
        Self {
            user: seconds(user),
            system: seconds(system),
        }
    }
}

/// TCP sockets by what they are about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sockets {
    /// Asked for and not answered.
    pub opening: usize,
    /// Open.
    pub established: usize,
    /// The other side has closed, ours has not.
    pub close_wait: usize,
    /// Ours has closed.
    pub closing: usize,
}

impl Sockets {
    fn count(&mut self, state: &TcpState) {
        match state {
            TcpState::SynSent | TcpState::SynRecv | TcpState::NewSynRecv => self.opening += 1,
            TcpState::Established => self.established += 1,
            TcpState::CloseWait => self.close_wait += 1,
            TcpState::FinWait1
            | TcpState::FinWait2
            | TcpState::TimeWait
            | TcpState::LastAck
            | TcpState::Closing => self.closing += 1,
            // of these there is nothing on the wire
            TcpState::Listen | TcpState::Close => {}
        }
    }
}

/// The TCP sockets of the machine.
pub(super) struct Table(HashMap<u64, TcpState>);

impl Table {
    pub(super) fn read() -> ProcResult<Self> {
        let entries = procfs::net::tcp()?.into_iter().chain(procfs::net::tcp6()?);
        let owned = entries.filter(|entry: &TcpNetEntry| entry.inode != 0);
        Ok(Self(
            owned.map(|entry| (entry.inode, entry.state)).collect(),
        ))
    }
}

/// What a process is at a time.
pub(super) struct Seen {
    pub(super) rss: u64,
    pub(super) cpu: Cpu,
    pub(super) descriptors: usize,
}

/// Times that a thread's scheduling ended: by itself, because it waits; and not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Switches {
    /// It had nothing to do.
    pub voluntary: u64,
    /// Something else got its core.
    pub involuntary: u64,
}

/// A process that is looked at again and again.
pub(super) struct Watched {
    process: Process,
    threads: HashMap<i32, (Cpu, Switches)>,
    /// Of all threads that ever were, by name.
    by_name: BTreeMap<Arc<str>, Cpu>,
    switches: Switches,
}

impl Watched {
    pub(super) fn new(pid: u32) -> ProcResult<Self> {
        Ok(Self {
            process: Process::new(pid.cast_signed())?,
            threads: HashMap::new(),
            by_name: BTreeMap::new(),
            switches: Switches::default(),
        })
    }

    pub(super) fn look(&self) -> ProcResult<Seen> {
        let stat = self.process.stat()?;
        if stat.state == 'Z' {
            return Err("it has ended".into());
        }
        Ok(Seen {
            rss: stat.rss * procfs::page_size(),
            cpu: Cpu::of_ticks(stat.utime, stat.stime),
            descriptors: self.process.fd_count()?,
        })
    }

    /// CPU so far by name of thread, of those for which it has changed. What a thread used after
    /// it was last looked at is not in it. Threads whose names differ in a number are one.
    pub(super) fn look_at_threads(&mut self) -> ProcResult<BTreeMap<Arc<str>, Cpu>> {
        let mut changed = BTreeMap::new();
        for task in self.process.tasks()?.flatten() {
            // one may end at any time
            let Ok(stat) = task.stat() else { continue };
            let now = Cpu::of_ticks(stat.utime, stat.stime);
            let (before, _) = self.threads.entry(task.tid).or_default();
            let name: Arc<str> = family(&stat.comm).into();
            let known = self.by_name.contains_key(&name);
            let sum = self.by_name.entry(Arc::clone(&name)).or_default();
            sum.user += now.user - before.user;
            sum.system += now.system - before.system;
            if !known || now != *before {
                changed.insert(name, *sum);
            }
            *before = now;
        }
        Ok(changed)
    }

    /// Of all its threads so far.
    pub(super) fn look_at_switches(&mut self) -> ProcResult<Switches> {
        for task in self.process.tasks()?.flatten() {
            let Ok(status) = task.status() else { continue };
            let now = Switches {
                voluntary: status.voluntary_ctxt_switches.unwrap_or_default(),
                involuntary: status.nonvoluntary_ctxt_switches.unwrap_or_default(),
            };
            let (_, before) = self.threads.entry(task.tid).or_default();
            self.switches.voluntary += now.voluntary - before.voluntary;
            self.switches.involuntary += now.involuntary - before.involuntary;
            *before = now;
        }
        Ok(self.switches)
    }

    pub(super) fn look_at_sockets(&self, table: &Table) -> ProcResult<Sockets> {
        let mut sockets = Sockets::default();
        for descriptor in self.process.fd()?.flatten() {
            if let FDTarget::Socket(inode) = descriptor.target
                && let Some(state) = table.0.get(&inode)
            {
                sockets.count(state);
            }
        }
        Ok(sockets)
    }
}

/// The name of a thread without the number at its end.
fn family(name: &str) -> &str {
    let name = name.trim_end_matches(|c: char| c.is_ascii_digit());
    name.trim_end_matches(['-', '#', '_', ' '])
}

/// Seconds of CPU of the whole machine since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Machine {
    /// Somebody's.
    pub busy: f64,
    /// Taken by other machines on the same host.
    pub stolen: f64,
    /// Nobody's.
    pub idle: f64,
}

impl Machine {
    pub(super) fn look() -> ProcResult<Self> {
        let total = KernelStats::current()?.total;
        let seconds = |ticks: u64| ticks as f64 / procfs::ticks_per_second() as f64;
        let interrupts = total.irq.unwrap_or_default() + total.softirq.unwrap_or_default();
        Ok(Self {
            busy: seconds(total.user + total.nice + total.system + interrupts),
            stolen: seconds(total.steal.unwrap_or_default()),
            idle: seconds(total.idle + total.iowait.unwrap_or_default()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::{Machine, Table, Watched, family};

    fn this() -> Watched {
        Watched::new(std::process::id()).unwrap()
    }

    #[test]
    fn threads_are_of_one_family_whose_names_differ_in_a_number() {
        let families = ["rdk:broker12", "GC Thread#3", "tokio-rt-worker", "w-1-2"].map(family);
        assert_eq!(
            families,
            ["rdk:broker", "GC Thread", "tokio-rt-worker", "w-1"]
        );
    }

    #[test]
    fn the_time_of_a_thread_that_ended_stays() {
        let mut watched = this();
        let stop = Arc::<AtomicBool>::default();
        let told = Arc::clone(&stop);
        let thread = thread::Builder::new().name("spinner-7".into());
        let spinner = thread.spawn(move || {
            while !told.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        let used = loop {
            let seen = watched.look_at_threads().unwrap();
            let used = seen.get("spinner").map_or(0.0, |used| used.total());
            if used > 0.0 {
                break used;
            }
            thread::yield_now();
        };
        stop.store(true, Ordering::Relaxed);
        spinner.unwrap().join().unwrap();
        watched.look_at_threads().unwrap();
        assert!(watched.by_name["spinner"].total() >= used);
    }

    #[test]
    fn a_connection_is_seen_from_both_ends() {
        let before = this().look_at_sockets(&Table::read().unwrap()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let server = listener.accept().unwrap();
        let open = this().look_at_sockets(&Table::read().unwrap()).unwrap();
        assert!(open.established >= before.established + 2, "{open:?}");
        drop(server);
        drop(client);
    }

    #[test]
    fn the_machine_and_switches_only_go_up() {
        let mut watched = this();
        let (machine, switches) = (
            Machine::look().unwrap(),
            watched.look_at_switches().unwrap(),
        );
        thread::sleep(std::time::Duration::from_millis(30));
        let later = Machine::look().unwrap();
        assert!(later.busy + later.idle > machine.busy + machine.idle);
        assert!(watched.look_at_switches().unwrap().voluntary > switches.voluntary);
    }
}
