//! Runs the program of this crate.

use std::process::Command;

/// Runs it to its end, which has to be a good one.
pub(crate) fn hostile(arguments: &[&str]) {
    let program = env!("CARGO_BIN_EXE_hostile");
    let ended = Command::new(program).args(arguments).output();
    let ended = ended.expect("the program starts");
    let said = String::from_utf8_lossy(&ended.stdout);
    let complained = String::from_utf8_lossy(&ended.stderr);
    eprint!("{said}");
    assert!(
        ended.status.success(),
        "hostile {}: {said}{complained}",
        arguments.join(" ")
    );
}
