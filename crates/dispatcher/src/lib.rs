//! The dispatcher role: deliveries in, requests out.
//!
//! Decides nothing about deliveries; it is the shell around [`postrider_engine::worker::Worker`]:
//! one thread feeds the engine with what Kafka and the receivers say and carries out what it
//! orders. The parts it joins:
//!
//! ```text
//! membership ─assigned, revoked, committed─►┐            ┌─► read, stop ──► lane readers (hot, cold)
//! offset reader ─────committed offsets─────►│            ├─► write ───────► producer
//! table readers ─────endpoints, state──────►│  engine    ├─► commit, hand back, leave ► membership
//! lane readers ──────records───────────────►│  thread    ├─► fetch offsets ► offset reader
//! producer ──────────acks──────────────────►│            ├─► follow ──────► table readers
//! requests ──────────reports───────────────►┘            └─► start ───────► requests (tokio tasks)
//! ```
//!
//! Only records can wait: their channels are bounded and readers stop when they are full. All else
//! is an answer to something the engine ordered within its bounds.

mod bodies;
mod clock;
mod endpoints;
mod faults;
mod followed;
mod formats;
mod records;
mod request;
mod settings;
mod shell;
mod states;
mod steps;

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use postrider_egress::EgressError;
use postrider_kafka::ClientError;
use postrider_telemetry::Metrics;

pub use settings::DispatcherSettings;

/// Why a dispatcher did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Kafka refuses the settings.
    #[error(transparent)]
    Kafka(#[from] ClientError),
    /// The HTTP client cannot be made.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// The system gives no random number.
    #[error("no random number: {0}")]
    Random(#[from] getrandom::Error),
    /// The system gives no thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// How a dispatcher ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// As asked: drained, committed, left the group.
    Stopped,
    /// It cannot go on, for this reason.
    Failed(String),
}

/// A running dispatcher.
pub struct Dispatcher {
    stop: Sender<()>,
    ended: Receiver<Ended>,
    thread: Option<JoinHandle<()>>,
}

impl Dispatcher {
    /// Joins the group and delivers until stopped. Absent brokers are waited for.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running.
    pub fn start(
        settings: &DispatcherSettings,
        metrics: Metrics,
        runtime: tokio::runtime::Handle,
    ) -> Result<Self, StartError> {
        let (stop, stopping) = bounded(1);
        let (report, ended) = bounded(1);
        let mut shell = shell::Shell::new(settings, metrics, runtime, stopping)?;
        let thread = thread::Builder::new()
            .name("dispatcher".to_owned())
            .spawn(move || {
                let end = shell.run();
                // The receiver may be gone with the process.
                drop(report.send(end));
            })?;
        Ok(Self {
            stop,
            ended,
            thread: Some(thread),
        })
    }

    /// Asks it to drain, commit and leave; [`Self::wait`] tells when it did.
    pub fn stop(&self) {
        // Full: it was asked before. Closed: it ended.
        let _asked = self.stop.try_send(());
    }

    /// Waits until it ended; `None` when it did not in time.
    pub fn wait(&mut self, timeout: Duration) -> Option<Ended> {
        let deadline = Instant::now() + timeout;
        let ended = match self.ended.recv_deadline(deadline) {
            Ok(ended) => ended,
            Err(RecvTimeoutError::Timeout) => return None,
            Err(RecvTimeoutError::Disconnected) => {
                Ended::Failed("the dispatcher thread panicked".to_owned())
            }
        };
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
        Some(ended)
    }
}
