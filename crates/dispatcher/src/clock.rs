//! The clock the engine runs on.
//!
//! Decides that its time never goes back: the wall clock is read once, what follows is counted on
//! the monotonic clock, so that a step of the wall clock neither hastens nor holds a retry.
//! Signatures are stamped with the wall clock itself, as receivers compare it with theirs.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use postrider_domain::Timestamp;

/// Monotonic time since the start, told as wall time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Instant,
    started_at: Timestamp,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self {
            started: Instant::now(),
            started_at: wall_time(),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.started_at + self.started.elapsed()
    }
}

/// What the wall clock says; the epoch when it is set before that.
pub(crate) fn wall_time() -> Timestamp {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::default() + since_epoch
}
