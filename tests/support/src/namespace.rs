//! Whether and how network namespaces can be made here.
//!
//! Needs no root where unprivileged user namespaces are allowed, else root.

use std::process::Command;

/// The arguments with which `unshare` makes a network and a mount namespace here.
///
/// # Errors
/// In words, why there are none.
pub fn unshare_arguments() -> Result<&'static [&'static str], String> {
    const USER: &[&str] = &["--user", "--map-root-user", "--net", "--mount"];
    const ROOT: &[&str] = &["--net", "--mount"];
    let mut said = String::new();
    for arguments in [USER, ROOT] {
        let tried = Command::new("unshare")
            .args(arguments)
            .args(["--", "true"])
            .output();
        let tried = tried
            .map_err(|error| format!("unshare (package util-linux) cannot be started: {error}"))?;
        if tried.status.success() {
            return Ok(arguments);
        }
        said = String::from_utf8_lossy(&tried.stderr).trim().to_owned();
    }
    Err(format!(
        "no network namespace can be made here ({said}); run this as root, with CAP_SYS_ADMIN \
         where it is a container, or allow unprivileged user namespaces"
    ))
}
