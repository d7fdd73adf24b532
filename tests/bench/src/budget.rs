//! How much CPU a process may have, by a control group of the kernel.
//!
//! Decides which hierarchy is used: that of version 1 with the controller `cpu`, or version 2.
//! Needs the right to make groups (root, in most places), and says so where it is missing.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// The quota is given anew so often, microseconds: a process at its bound stands still for no
/// longer.
const PERIOD_US: f64 = 10_000.0;

/// A group of processes that share so much CPU. Those still in it leave it when it is dropped.
pub struct Budget {
    folder: PathBuf,
}

impl Budget {
    /// Of so many cores; 0.1 is the least.
    ///
    /// # Errors
    /// There is no controller, or groups cannot be made.
    pub fn new(name: &str, cores: f64) -> anyhow::Result<Self> {
        let (parent, version) = hierarchy()?;
        let folder = parent.join(format!("postrider-bench-{}-{name}", std::process::id()));
        let explained = || format!("{}: no right to make control groups?", folder.display());
        fs::create_dir(&folder).with_context(explained)?;
        let budget = Self { folder };
        let quota = (cores * PERIOD_US).round();
        if version == 1 {
            budget.set("cpu.cfs_period_us", &PERIOD_US.to_string())?;
            budget.set("cpu.cfs_quota_us", &quota.to_string())?;
        } else {
            budget.set("cpu.max", &format!("{quota} {PERIOD_US}"))?;
        }
        Ok(budget)
    }

    /// The process, with all its threads, has no more from now on than what the group has left.
    ///
    /// # Errors
    /// It is gone.
    pub fn hold(&self, pid: u32) -> anyhow::Result<()> {
        self.set("cgroup.procs", &pid.to_string())
    }

    fn set(&self, file: &str, value: &str) -> anyhow::Result<()> {
        let path = self.folder.join(file);
        fs::write(&path, value).with_context(|| format!("{}: {value}", path.display()))
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

/// Where groups with the controller `cpu` can be made, and the version of that interface.
fn hierarchy() -> anyhow::Result<(PathBuf, u8)> {
    let own = fs::read_to_string("/proc/self/cgroup")?;
    let of = |controller: &str| {
        own.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let is = fields.next()?.split(',').any(|name| name == controller);
            is.then(|| fields.next())?
        })
    };
    let root = Path::new("/sys/fs/cgroup");
    if let Some(path) = of("cpu") {
        return Ok((root.join("cpu").join(path.trim_start_matches('/')), 1));
    }
    let unified = of("").context("no control groups here")?;
    let folder = root.join(unified.trim_start_matches('/'));
    let given = fs::read_to_string(folder.join("cgroup.subtree_control"))?;
    if !given
        .split_whitespace()
        .any(|controller| controller == "cpu")
    {
        bail!(
            "{}: the controller cpu is not given to groups in it",
            folder.display()
        );
    }
    Ok((folder, 2))
}
