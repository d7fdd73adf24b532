//! A wall clock that is wrong for the programs that a test starts, and can be set while they run.
//!
//! How it is made wrong is decided by `clock/clock.c`, which those programs load; needs the C
//! compiler that the binary is built with. Their monotonic clock stays right.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// The clock of whatever is started within it.
pub struct WrongClock {
    library: PathBuf,
    setting: File,
    folder: TempDir,
}

impl WrongClock {
    /// Goes wrong by so many seconds: ahead, or behind where it is negative.
    pub fn new(seconds: i64) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("clock/clock.c");
        let folder = TempDir::new().expect("a folder for the clock");
        let library = folder.path().join("clock.so");
        let output = Command::new("cc")
            .args([
                "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o",
            ])
            .args([&library, &source])
            .output()
            .expect("scripts/setup.sh installs a C compiler");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}", source.display());
        let path = folder.path().join("seconds");
        fs::write(&path, seconds.to_ne_bytes()).expect("the folder is ours");
        let setting = File::options().write(true).open(path);
        Self {
            library,
            setting: setting.expect("the folder is ours"),
            folder,
        }
    }

    /// Wrong by so many seconds from now on: a step, for who runs already.
    pub fn step_to(&self, seconds: i64) {
        let written = self.setting.write_all_at(&seconds.to_ne_bytes(), 0);
        written.expect("the folder is ours");
    }

    /// The words of a command that becomes another, which has this clock.
    pub fn within(&self) -> Vec<String> {
        vec![
            "env".to_owned(),
            format!("LD_PRELOAD={}", self.library.display()),
            format!(
                "TEST_CLOCK={}",
                self.folder.path().join("seconds").display()
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::WrongClock;
    use std::process::Command;

    /// How far ahead of ours it is, s; a minute is allowed to whoever is asked.
    fn ahead(clock: &WrongClock) -> i64 {
        let words = clock.within();
        let asked = Command::new(&words[0])
            .args(&words[1..])
            .args(["date", "+%s"])
            .output();
        let theirs = String::from_utf8(asked.expect("there is a date").stdout).expect("a number");
        let ours = Command::new("date")
            .arg("+%s")
            .output()
            .expect("there is a date");
        let ours = String::from_utf8(ours.stdout).expect("a number");
        let seconds = |text: String| -> i64 { text.trim().parse().expect("a number") };
        let ahead = seconds(theirs) - seconds(ours);
        (ahead + 30).div_euclid(60) * 60
    }

    #[test]
    fn it_is_as_wrong_as_it_is_set() {
        let clock = WrongClock::new(3_600);
        assert_eq!(ahead(&clock), 3_600);
        clock.step_to(-3_600);
        assert_eq!(ahead(&clock), -3_600);
    }
}
