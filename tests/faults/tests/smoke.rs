//! Five faults, shortened, one after the other on one cluster.

use std::fs;
use std::path::Path;
use std::process::{self, Command};

#[test]
fn five_faults_lose_nothing_and_repeat_nothing_unexcused() {
    let binary = env!("CARGO_BIN_EXE_faults");
    // kept when it fails
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("faults-{}", process::id()));
    let mut run = Command::new(binary);
    run.args(["smoke", "--seed", "1", "--folder"]).arg(&folder);
    let run = run.output().expect("it starts");
    assert!(
        run.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&run.stderr),
        String::from_utf8_lossy(&run.stdout)
    );
    fs::remove_dir_all(&folder).expect("it is ours");
}
