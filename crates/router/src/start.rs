//! Starting a router and stopping it.
//!
//! Decides what is an error at once (a wrong setting) and what is waited for (everything else).
//! Leaves the work to the loop in `router`, on a thread of its own.

use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use postrider_kafka::ClientError;
use postrider_registry::RegistryError;
use postrider_telemetry::Metrics;
use tracing::error;

use crate::endpoints::Endpoints;
use crate::router::Ended;
use crate::run::run;
use crate::schemas::Schemas;
use crate::settings::RouterSettings;
use crate::sources::{InvalidSources, Sources};
use crate::writes::Writes;

/// The router role.
pub struct Router;

/// Why a router cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The sources cannot be read.
    #[error(transparent)]
    Sources(#[from] InvalidSources),
    /// The schema registry cannot be asked.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// librdkafka refuses the settings.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The system gives no thread.
    #[error("cannot start the router's thread: {0}")]
    Thread(#[from] std::io::Error),
}

impl Router {
    /// Starts a router. Absent brokers and topics are waited for.
    ///
    /// # Errors
    /// [`StartError`] when a setting is wrong.
    pub fn start(settings: RouterSettings, metrics: Metrics) -> Result<RouterHandle, StartError> {
        let sources = Sources::new(&settings.sources, &settings.topics)?;
        let schemas = Schemas::start(settings.schema_registry.clone(), metrics.clone())?;
        let writes = Writes::start(&settings.client, metrics.clone())?;
        let endpoints = Endpoints::start(
            &settings.client,
            &settings.topics,
            settings.slices,
            metrics.clone(),
        )?;
        let (orders, told) = bounded(1);
        let (failure, failed) = bounded(1);
        let thread = thread::Builder::new()
            .name("router".to_owned())
            .spawn(move || {
                match run(
                    settings, metrics, sources, schemas, endpoints, writes, &told,
                ) {
                    Ended::Stopped => true,
                    Ended::Failed(reason) => {
                        error!(reason, "the router failed");
                        // Has room for one, and there is only one.
                        drop(failure.try_send(reason));
                        false
                    }
                }
            })?;
        Ok(RouterHandle {
            orders,
            failed,
            thread: Some(thread),
        })
    }
}

/// A running router. Dropping it stops the router within about a second, so that what is
/// outstanding will be repeated.
pub struct RouterHandle {
    orders: Sender<Duration>,
    failed: Receiver<String>,
    thread: Option<JoinHandle<bool>>,
}

impl RouterHandle {
    /// Where the reason arrives when the router cannot go on. The channel is disconnected once the
    /// router has ended, for whatever reason.
    #[must_use]
    pub const fn failed(&self) -> &Receiver<String> {
        &self.failed
    }

    /// Stops reading, waits for outstanding writes, commits, leaves the group; at most `within` and
    /// about a second. `false` = it had failed before.
    pub fn stop(mut self, within: Duration) -> bool {
        // Fails only when the router has ended.
        self.orders.try_send(within).ok();
        self.join()
    }

    fn join(&mut self) -> bool {
        let ended = self.thread.take().map(JoinHandle::join);
        matches!(ended, Some(Ok(true)))
    }
}

impl Drop for RouterHandle {
    fn drop(&mut self) {
        self.orders.try_send(Duration::ZERO).ok();
        self.join();
    }
}
