//! How much CPU and memory processes may have, by control groups of the kernel.
//!
//! Decides which hierarchy is used: those of version 1 with the controllers, or version 2.
//! Needs the right to make groups (root, in most places), and says so where it is missing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;

/// The quota is given anew so often, microseconds: a process at its bound stands still for no
/// longer.
const PERIOD_US: f64 = 10_000.0;

/// A group of processes that share so much of something. Those still in it leave it when it is
/// dropped.
pub struct Budget {
    folder: PathBuf,
    version: u8,
}

impl Budget {
    /// Of so many cores; 0.1 is the least. `name` is another for each group of a process.
    ///
    /// # Errors
    /// In words: there is no controller, or groups cannot be made.
    pub fn of_cpu(name: &str, cores: f64) -> Result<Self, String> {
        let budget = Self::new("cpu", name)?;
        let quota = (cores * PERIOD_US).round();
        if budget.version == 1 {
            budget.set("cpu.cfs_period_us", &PERIOD_US.to_string())?;
            budget.set("cpu.cfs_quota_us", &quota.to_string())?;
        } else {
            budget.set("cpu.max", &format!("{quota} {PERIOD_US}"))?;
        }
        Ok(budget)
    }

    /// Of so many bytes, with nothing to swap to: who needs more is killed. As
    /// [`Budget::of_cpu`].
    ///
    /// # Errors
    /// In words: there is no controller, or groups cannot be made.
    pub fn of_memory(name: &str, bytes: u64) -> Result<Self, String> {
        let budget = Self::new("memory", name)?;
        let (limit, swap, least) = if budget.version == 1 {
            // memory and swap together
            (
                "memory.limit_in_bytes",
                "memory.memsw.limit_in_bytes",
                bytes,
            )
        } else {
            ("memory.max", "memory.swap.max", 0)
        };
        budget.set(limit, &bytes.to_string())?;
        // a kernel without swap has no such file
        if budget.folder.join(swap).exists() {
            budget.set(swap, &least.to_string())?;
        }
        Ok(budget)
    }

    /// The process, with all its threads, has no more from now on than what the group has left.
    ///
    /// # Errors
    /// In words: it is gone.
    pub fn hold(&self, pid: u32) -> Result<(), String> {
        self.set("cgroup.procs", &pid.to_string())
    }

    /// The words of a command that becomes another, which has no more than that from its first
    /// instruction on.
    pub fn within(&self) -> Vec<String> {
        let procs = self.folder.join("cgroup.procs");
        let script = format!("echo $$ >'{}' && exec \"$@\"", procs.display());
        ["sh", "-c", &script, "sh"].map(str::to_owned).into()
    }

    /// How many processes of a group of memory were killed for wanting more.
    ///
    /// # Panics
    /// When the kernel does not say.
    pub fn killed(&self) -> u64 {
        let file = if self.version == 1 {
            "memory.oom_control"
        } else {
            "memory.events"
        };
        self.counter(file, "oom_kill")
    }

    /// How many of the periods, of 10 ms each, a group of CPU stood still in.
    ///
    /// # Panics
    /// When the kernel does not say.
    pub fn throttled(&self) -> u64 {
        self.counter("cpu.stat", "nr_throttled")
    }

    fn counter(&self, file: &str, name: &str) -> u64 {
        let path = self.folder.join(file);
        let text = fs::read_to_string(&path).unwrap_or_default();
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        let found = lines.find(|(key, _)| *key == name);
        found
            .and_then(|(_, value)| value.parse().ok())
            .unwrap_or_else(|| panic!("{}: no {name}", path.display()))
    }

    fn new(controller: &str, name: &str) -> Result<Self, String> {
        let (parent, version) = hierarchy(controller)?;
        let folder = parent.join(format!("postrider-{}-{name}", process::id()));
        let explained = |error: io::Error| {
            let folder = folder.display();
            format!("{folder}: {error}: no right to make control groups? run this as root")
        };
        fs::create_dir(&folder).map_err(explained)?;
        Ok(Self { folder, version })
    }

    fn set(&self, file: &str, value: &str) -> Result<(), String> {
        let path = self.folder.join(file);
        let explained = |error: io::Error| format!("{}: {value}: {error}", path.display());
        fs::write(&path, value).map_err(explained)
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        let left = fs::read_to_string(self.folder.join("cgroup.procs")).unwrap_or_default();
        if let Some(parent) = self.folder.parent() {
            for pid in left.lines() {
                // it may have ended meanwhile
                drop(fs::write(parent.join("cgroup.procs"), pid));
            }
        }
        if let Err(error) = fs::remove_dir(&self.folder) {
            eprintln!("{}: {error}", self.folder.display());
        }
    }
}

/// Where groups with this controller can be made, and the version of that interface.
fn hierarchy(controller: &str) -> Result<(PathBuf, u8), String> {
    let said = |error: io::Error| format!("no control groups here: {error}");
    let own = fs::read_to_string("/proc/self/cgroup").map_err(said)?;
    let of = |controller: &str| {
        own.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let is = fields.next()?.split(',').any(|name| name == controller);
            is.then(|| fields.next())?
        })
    };
    let root = Path::new("/sys/fs/cgroup");
    if let Some(path) = of(controller) {
        let folder = root.join(controller).join(path.trim_start_matches('/'));
        return Ok((folder, 1));
    }
    let unified = of("").ok_or("no control groups here")?;
    let folder = root.join(unified.trim_start_matches('/'));
    let given = fs::read_to_string(folder.join("cgroup.subtree_control")).map_err(said)?;
    if !given.split_whitespace().any(|given| given == controller) {
        return Err(format!(
            "{}: the controller {controller} is not given to groups in it",
            folder.display()
        ));
    }
    Ok((folder, 2))
}
