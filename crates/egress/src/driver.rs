//! The task that reads and writes a connection.
//!
//! Decides that it ends when its connection is dropped, and all that the protocol's library still
//! holds with it: buffers, bodies, the socket. One that is released may say farewell first.

use tokio::task::{AbortHandle, JoinHandle};

/// Ends the task when it is dropped.
pub(crate) struct Driver(Option<AbortHandle>);

impl Driver {
    pub(crate) fn new(task: &JoinHandle<()>) -> Self {
        Self(Some(task.abort_handle()))
    }

    /// Lets the task end by itself, which it does when nobody holds the other end of the protocol.
    pub(crate) fn release(&mut self) {
        self.0 = None;
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
        }
    }
}
