//! Tests through the binary against a real broker.
//!
//! Decides how an installation of a test's own is set up and watched: Postrider is only ever its
//! binary, events come from `kcat`, what Postrider wrote is read by `kcat`, and requests arrive at
//! the receivers of `test-support`. Leaves what has to hold to the tests.
//!
//! The binary is not built by `cargo test -p postrider-e2e`: `cargo build -p postrider` first.

pub mod canary;
pub mod churn;
pub mod installation;
pub mod kcat;
pub mod kill_and_stop;
pub mod kill_points;
pub mod process;
pub mod records;
pub mod secured;
mod senders;
pub mod withheld;

use std::fmt::Display;
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use installation::{Answer, Installation, Setup};
pub use process::Process;
pub use records::{Attempt, DeadLetter};

/// The signing secret of every endpoint here.
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// How often something awaited is looked at.
pub const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Waits until `look` finds something.
///
/// # Panics
/// When it does not within `limit`.
#[track_caller]
pub fn wait_until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        thread::sleep(LOOK_EVERY);
    }
}

/// Milliseconds since the epoch.
pub fn now_ms() -> u64 {
    millis(SystemTime::now())
}

/// Milliseconds since the epoch, rounded down.
pub fn millis(at: SystemTime) -> u64 {
    let since_epoch = at.duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from(since_epoch.as_millis()).expect("before the year 584 million")
}

/// Prints a report and what is wrong in it; how the program that made it ends.
///
/// # Errors
/// Nobody reads it.
pub fn conclude(report: &impl Display, wrong: &[String]) -> io::Result<ExitCode> {
    let mut out = io::stdout().lock();
    write!(out, "{report}")?;
    for words in wrong {
        writeln!(out, "WRONG: {words}")?;
    }
    Ok(if wrong.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// A port of 127.0.0.1, below the range that the kernel takes for outgoing connections, so that
/// nothing sits on it while a broker is down between two starts.
fn free_port() -> u16 {
    let mut ports = std::iter::repeat_with(|| fastrand::u16(20_000..32_000));
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    ports.find(is_free).expect("without an end")
}

/// A path as an argument.
///
/// # Panics
/// When it is not UTF-8, as all paths of tests are.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("the paths of tests are UTF-8")
}
