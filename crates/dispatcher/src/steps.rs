//! Which point a write is at, by what it is.

use postrider_engine::io::Write;
use postrider_points::reach;

/// It is made, and not given to the producer.
pub(crate) fn unwritten(write: &Write) {
    match write {
        Write::Attempt(_) => {
            reach!("dispatcher.attempt_record.unwritten");
        }
        Write::Retry { .. } => {
            reach!("dispatcher.retry.unwritten");
        }
        Write::Backlog { .. } => {
            reach!("dispatcher.backlog.unwritten");
        }
        Write::DeadLetter { .. } | Write::Unreadable { .. } => {
            reach!("dispatcher.dead_letter.unwritten");
        }
        Write::Fence { .. } => {
            reach!("dispatcher.fence.unwritten");
        }
        Write::State { .. } => {
            reach!("dispatcher.state.unwritten");
        }
    }
}

/// It is on the log, and the engine does not know.
pub(crate) fn acked(write: &Write) {
    match write {
        Write::Attempt(_) => {
            reach!("dispatcher.attempt_record.acked");
        }
        Write::Retry { .. } => {
            reach!("dispatcher.retry.acked");
        }
        Write::Backlog { .. } => {
            reach!("dispatcher.backlog.acked");
        }
        Write::DeadLetter { .. } | Write::Unreadable { .. } => {
            reach!("dispatcher.dead_letter.acked");
        }
        Write::Fence { .. } => {
            reach!("dispatcher.fence.acked");
        }
        Write::State { .. } => {
            reach!("dispatcher.state.acked");
        }
    }
}
