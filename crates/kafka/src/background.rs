//! A thread that works until its owner lets go of it.
//!
//! Decides how a reader's thread is stopped, waited for and looked at, and how it waits for room in
//! a channel without missing that it is to stop. Leaves what it does to each reader.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{SendTimeoutError, Sender};
use rdkafka::consumer::BaseConsumer;
use tracing::error;

use crate::client::{ClientError, LogContext};

/// The thread is to end: it was told to, or nobody listens to it.
pub(crate) struct Ended;

/// The thread's side of being told to stop.
#[derive(Default)]
pub(crate) struct Stopping(Arc<AtomicBool>);

impl Stopping {
    /// # Errors
    /// [`Ended`] once the owner let go.
    pub(crate) fn check(&self) -> Result<(), Ended> {
        if self.0.load(Ordering::Relaxed) {
            Err(Ended)
        } else {
            Ok(())
        }
    }
}

/// The owner's side. Dropping it stops the thread and waits for its end.
pub(crate) struct Background {
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// Repeats `step` on a thread of this name until it says [`Ended`]; it has to look at
    /// [`Stopping`] often, as the owner waits for it.
    ///
    /// # Errors
    /// [`ClientError::Settings`] when the system gives no thread.
    pub(crate) fn repeat(
        name: impl Into<String>,
        mut step: impl FnMut(&Stopping) -> Result<(), Ended> + Send + 'static,
    ) -> Result<Self, ClientError> {
        let stopping = Arc::new(AtomicBool::new(false));
        let told = Stopping(Arc::clone(&stopping));
        let thread = thread::Builder::new()
            .name(name.into())
            .spawn(move || while told.check().and_then(|()| step(&told)).is_ok() {})
            .map_err(|e| ClientError::Settings(format!("cannot start a thread: {e}")))?;
        Ok(Self {
            stopping,
            thread: Some(thread),
        })
    }

    /// Whether the thread lives.
    pub(crate) fn is_running(&self) -> bool {
        self.thread
            .as_ref()
            .is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else {
            return;
        };
        let name = thread.thread().name().unwrap_or_default().to_owned();
        if thread.join().is_err() {
            error!(thread = name, "a thread that talks to Kafka panicked");
        }
    }
}

/// Waits for room for at most `wait`; the event comes back when there was none.
///
/// # Errors
/// [`Ended`] when nobody listens.
pub(crate) fn offer<T>(to: &Sender<T>, event: T, wait: Duration) -> Result<Option<T>, Ended> {
    match to.send_timeout(event, wait) {
        Ok(()) => Ok(None),
        Err(SendTimeoutError::Timeout(back)) => Ok(Some(back)),
        Err(SendTimeoutError::Disconnected(_)) => Err(Ended),
    }
}

/// Lets a client that is only asked questions report its errors; they would pile up in it.
pub(crate) fn serve_errors(client: &BaseConsumer<LogContext>, wait: Duration) {
    const AT_ONCE: usize = 100;
    let mut wait = wait;
    for _ in 0..AT_ONCE {
        if client.poll(wait).is_none() {
            return;
        }
        wait = Duration::ZERO;
    }
}
