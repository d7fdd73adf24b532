//! Five faults, shortened, one after the other on one cluster.

use std::process::Command;

#[test]
fn five_faults_lose_nothing_and_repeat_nothing_unexcused() {
    let binary = env!("CARGO_BIN_EXE_faults");
    let run = Command::new(binary).args(["smoke", "--seed", "1"]).output();
    let run = run.expect("it starts");
    assert!(
        run.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&run.stderr),
        String::from_utf8_lossy(&run.stdout)
    );
}
