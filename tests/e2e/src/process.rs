//! A worker process: started, killed, asked to stop, measured.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use crate::{millis, wait_until};

/// Clock ticks per second in `/proc`: what Linux shows to programs on every architecture.
const TICKS: f64 = 100.0;

/// A running `postrider run`. Killed when dropped, and when the test dies.
pub struct Process {
    child: Child,
    log: PathBuf,
    ended: Option<(ExitStatus, f64)>,
}

impl Process {
    /// `within` are the words of a command that becomes another.
    pub(crate) fn start<'a>(
        within: &[String],
        binary: &Path,
        arguments: impl Iterator<Item = &'a str>,
        authority: Option<&Path>,
        log: PathBuf,
    ) -> Self {
        let file = File::create(&log).expect("the folder is ours");
        let mut words = within.iter().map(OsStr::new).chain([OsStr::new("setpriv")]);
        let child = Command::new(words.next().expect("setpriv at least"))
            .args(words)
            .args([
                OsStr::new("--pdeathsig"),
                OsStr::new("KILL"),
                binary.as_os_str(),
            ])
            .args(arguments)
            .env("NO_COLOR", "1")
            // where libraries of TLS look for whom the system trusts
            .envs(authority.map(|file| ("SSL_CERT_FILE", file)))
            .stdin(Stdio::null())
            .stdout(Stdio::from(file.try_clone().expect("a second descriptor")))
            .stderr(Stdio::from(file))
            .spawn()
            .expect("setpriv is part of util-linux");
        Self {
            child,
            log,
            ended: None,
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// When it logged last, ms since the epoch; `None` = its log is gone.
    pub fn last_word_ms(&self) -> Option<u64> {
        let modified = fs::metadata(&self.log).and_then(|of| of.modified());
        modified.ok().map(millis)
    }

    /// Waits until a part of its log satisfies.
    ///
    /// # Panics
    /// When none does within `limit`, or it ended before.
    #[track_caller]
    pub fn wait_for_log(&mut self, limit: Duration, part: &str) {
        wait_until(&format!("{part:?} in the log"), limit, || {
            // asked before the log is read: what it logged last counts
            let ended = self.poll_end();
            if self.log().contains(part) {
                return Some(());
            }
            assert!(ended.is_none(), "it ended ({ended:?}) before {part:?}");
            None
        });
    }

    /// Ends it without warning (SIGKILL), and waits until it is gone.
    pub fn kill(&mut self) {
        self.signal("KILL");
        self.wait(Duration::from_secs(10));
    }

    /// Asks it to stop (SIGTERM).
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Stops its threads (SIGSTOP): its connections stay open and it answers nothing.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Lets it go on after [`Process::freeze`] (SIGCONT).
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    /// Whether it asked for SIGTERM: before, the kernel ends it.
    pub fn hears_sigterm(&self) -> bool {
        let caught = || {
            let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
            let mask = status
                .lines()
                .find_map(|line| line.strip_prefix("SigCgt:"))?;
            u64::from_str_radix(mask.trim(), 16).ok()
        };
        let number = 15;
        caught().is_some_and(|mask| mask >> (number - 1) & 1 == 1)
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.poll_end()
    }

    /// Resident memory in MiB; `None` once it ended.
    pub fn memory_mib(&self) -> Option<u64> {
        self.mib("VmRSS:")
    }

    /// The most resident memory it ever had, in MiB; `None` once it ended.
    pub fn memory_peak_mib(&self) -> Option<u64> {
        self.mib("VmHWM:")
    }

    /// One of the amounts of memory in `/proc/PID/status`.
    fn mib(&self, name: &str) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
        Some(kib / 1024)
    }

    /// How many files it has open.
    ///
    /// # Panics
    /// When it ended.
    pub fn open_files(&self) -> usize {
        let path = format!("/proc/{}/fd", self.pid());
        let entries = fs::read_dir(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        entries.count()
    }

    /// Waits until it ended; its exit code, `None` = ended by a signal.
    ///
    /// # Panics
    /// When it does not within `limit`.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> Option<i32> {
        let status = wait_until("the process ends", limit, || self.poll_end());
        status.code()
    }

    /// Seconds of CPU it used so far, in user and kernel mode.
    pub fn cpu_seconds(&self) -> f64 {
        match self.ended {
            Some((_, cpu)) => cpu,
            None => stat(self.pid()).1,
        }
    }

    fn poll_end(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            // a zombie's times are final and can still be read
            let (state, cpu) = stat(self.pid());
            if state == 'Z' {
                let status = self.child.wait().expect("it is our child");
                self.ended = Some((status, cpu));
            }
        }
        self.ended.map(|(status, _)| status)
    }

    fn signal(&self, name: &str) {
        assert!(self.ended.is_none(), "it ended: {:?}", self.ended);
        let order = format!("kill -{name} {}", self.pid());
        let status = Command::new("sh").args(["-c", &order]).status();
        assert!(status.expect("there is a shell").success(), "{order}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(40)..];
            eprintln!("end of the log of {}:\n{}", self.pid(), tail.join("\n"));
        }
        if self.ended.is_none() {
            // it may have ended since
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// State and seconds of CPU, from `/proc/PID/stat` (proc(5): fields 3, 14 and 15).
fn stat(pid: u32) -> (char, f64) {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    // the name before it may hold anything
    let (_, fields) = text.rsplit_once(") ").expect("a name in parentheses");
    let fields: Vec<&str> = fields.split(' ').collect();
    let ticks = |n: usize| -> f64 { fields[n - 3].parse().expect("a number") };
    let state = fields[0].chars().next().expect("a letter");
    (state, (ticks(14) + ticks(15)) / TICKS)
}
