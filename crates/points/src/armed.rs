//! What a test build does at its points: counts, and kills itself.
//!
//! Decides that the process ends by SIGKILL, from itself, so that nothing runs after the step: no
//! destructor, no flush, no farewell.

use std::io::{Write, stderr};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use rustix::process::{Signal, getpid, kill_process};

use crate::POINTS;

/// Where this process is to be killed.
struct Armed {
    place: usize,
    /// Arrivals until then, that one included; wraps around behind it.
    left: AtomicU32,
}

static ARMED: OnceLock<Armed> = OnceLock::new();
/// One more than the place of the fault; 0 = none.
static BROKEN: AtomicUsize = AtomicUsize::new(0);

/// The process is to be killed when the point at this place of [`POINTS`] is reached for the `nth`
/// time, from 1. Only the first call counts.
pub fn arm(place: usize, nth: u32) {
    ARMED.get_or_init(|| Armed {
        place,
        left: AtomicU32::new(nth),
    });
}

/// The process has the fault at this place of [`crate::FAULTS`] from now on.
pub fn break_it(place: usize) {
    BROKEN.store(place + 1, Ordering::Relaxed);
}

/// Whether it has that fault.
#[must_use]
pub fn is_broken(place: usize) -> bool {
    BROKEN.load(Ordering::Relaxed) == place + 1
}

/// A point is reached.
pub fn reached(place: usize) {
    let Some(armed) = ARMED.get().filter(|armed| armed.place == place) else {
        return;
    };
    if armed.left.fetch_sub(1, Ordering::Relaxed) == 1 {
        die(POINTS[place].name);
    }
}

fn die(name: &str) {
    // not by the logger, which may wait for a lock
    writeln!(stderr(), "killed at {name}").ok();
    kill_process(getpid(), Signal::KILL).ok();
    // every thread has the signal now, and none takes a step of the program any more
    loop {
        std::thread::park();
    }
}
