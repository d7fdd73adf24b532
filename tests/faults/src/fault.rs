//! What can be done to brokers, workers and the network, and undone.
//!
//! Decides how each fault is begun and ended, and what it may make a worker lose. Leaves how long
//! it lasts, and what has to hold, to rows and nemesis.

use std::fmt;
use std::time::Duration;

use postrider_bench::now_us;

use crate::network::{BROKERS, broker, broker_address};
use crate::stage::{PROGRESS_WITHIN, SESSION, Stage, dispatcher};

/// How long a worker that was told to stop may take.
const STOP_WITHIN: Duration = Duration::from_secs(90);

/// One of them; brokers and dispatchers by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL for these brokers.
    BrokersKilled(Vec<usize>),
    /// SIGSTOP for a broker.
    BrokerFrozen(usize),
    /// A broker and the other brokers hear nothing of one another; clients reach all of them.
    BrokerSplit(usize),
    /// A worker and these brokers hear nothing of one another.
    WorkerCut(String, Vec<usize>),
    /// A worker hears nothing of any broker; they hear it.
    WorkerDeaf(String),
    /// So many of 100 packets to every broker are answered with a reset.
    Resets(u32),
    /// SIGKILL for a dispatcher.
    DispatcherKilled(usize),
    /// SIGTERM for a dispatcher.
    DispatcherStopped(usize),
    /// SIGSTOP for a dispatcher.
    DispatcherFrozen(usize),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BrokersKilled(ids) => write!(f, "SIGKILL for brokers {ids:?}"),
            Self::BrokerFrozen(id) => write!(f, "SIGSTOP for broker {id}"),
            Self::BrokerSplit(id) => write!(f, "broker {id} cut from the other brokers"),
            Self::WorkerCut(name, ids) => write!(f, "{name} cut from brokers {ids:?}"),
            Self::WorkerDeaf(name) => write!(f, "{name} hears no broker"),
            Self::Resets(percent) => write!(f, "{percent} % of packets to brokers reset"),
            Self::DispatcherKilled(number) => write!(f, "SIGKILL for dispatcher {number}"),
            Self::DispatcherStopped(number) => write!(f, "SIGTERM for dispatcher {number}"),
            Self::DispatcherFrozen(number) => write!(f, "SIGSTOP for dispatcher {number}"),
        }
    }
}

/// A fault that was begun.
#[derive(Debug)]
pub struct Begun {
    fault: Fault,
    /// When, microseconds since the epoch.
    pub at_us: u64,
    /// The process of the worker it concerns.
    pid: Option<u32>,
}

impl Fault {
    /// Begins it.
    ///
    /// # Errors
    /// A tool fails.
    pub fn begin(self, stage: &mut Stage) -> anyhow::Result<Begun> {
        let at_us = now_us();
        stage.note(self.to_string());
        let pid = self.worker().map(|name| stage.worker(&name).process.pid());
        match &self {
            Self::BrokersKilled(ids) => ids.iter().for_each(|id| stage.cluster.kill(*id)),
            Self::BrokerFrozen(id) => stage.cluster.freeze(*id),
            Self::BrokerSplit(id) => {
                for other in others(*id) {
                    stage.network.cut(&broker(*id), &broker_address(other))?;
                }
            }
            Self::WorkerCut(name, ids) => {
                for id in ids {
                    stage.network.cut(name, &broker_address(*id))?;
                }
            }
            Self::WorkerDeaf(name) => {
                for id in BROKERS {
                    stage.network.deafen(name, &broker_address(id))?;
                }
            }
            Self::Resets(percent) => {
                stage.reset = true;
                for id in BROKERS {
                    stage.network.reset(&broker(id), *percent)?;
                }
            }
            Self::DispatcherKilled(number) => {
                let name = dispatcher(*number);
                stage.worker(&name).process.kill();
                stage.may_lose(pid, at_us);
                stage.bury(&name)?;
            }
            Self::DispatcherStopped(number) => {
                let name = dispatcher(*number);
                stage.worker(&name).process.terminate();
            }
            Self::DispatcherFrozen(number) => stage.worker(&dispatcher(*number)).process.freeze(),
        }
        Ok(Begun {
            fault: self,
            at_us,
            pid,
        })
    }

    fn worker(&self) -> Option<String> {
        match self {
            Self::DispatcherKilled(number)
            | Self::DispatcherStopped(number)
            | Self::DispatcherFrozen(number) => Some(dispatcher(*number)),
            Self::WorkerCut(name, _) | Self::WorkerDeaf(name) => Some(name.clone()),
            _ => None,
        }
    }
}

impl Begun {
    /// Within which time of the heal an event must arrive.
    pub fn bound(&self) -> Duration {
        match self.fault {
            Fault::DispatcherKilled(_) | Fault::DispatcherFrozen(_) => SESSION + PROGRESS_WITHIN,
            _ => PROGRESS_WITHIN,
        }
    }

    /// Undoes it. What brokers and workers then do to recover is not waited for.
    ///
    /// # Errors
    /// A tool fails, or a worker that was to stop did not end well.
    pub fn end(&self, stage: &mut Stage) -> anyhow::Result<()> {
        match &self.fault {
            Fault::BrokersKilled(ids) => stage.cluster.start_again(ids),
            Fault::BrokerFrozen(id) => stage.cluster.thaw(*id),
            Fault::BrokerSplit(id) => stage.network.heal(&broker(*id))?,
            Fault::WorkerCut(name, _) | Fault::WorkerDeaf(name) => stage.network.heal(name)?,
            Fault::Resets(_) => {
                for id in BROKERS {
                    stage.network.heal(&broker(id))?;
                }
            }
            Fault::DispatcherKilled(number) => stage.spawn(&dispatcher(*number)),
            Fault::DispatcherStopped(number) => {
                let name = dispatcher(*number);
                let code = stage.worker(&name).process.wait(STOP_WITHIN);
                anyhow::ensure!(code == Some(0), "{name} ended with {code:?} after SIGTERM");
                stage.bury(&name)?;
                stage.spawn(&name);
            }
            Fault::DispatcherFrozen(number) => {
                stage.worker(&dispatcher(*number)).process.thaw();
            }
        }
        match (&self.fault, self.pid) {
            (Fault::DispatcherFrozen(_), Some(pid)) => stage.may_lose_before(pid, self.at_us),
            // said when it happened; a stop in order loses nothing
            (Fault::DispatcherKilled(_) | Fault::DispatcherStopped(_), _) => {}
            (_, pid) => stage.may_lose(pid, self.at_us),
        }
        Ok(())
    }

    /// Waits until what was undone is whole again, so that the next fault meets a whole one.
    ///
    /// # Errors
    /// It is not, for long.
    pub fn recover(&self, stage: &mut Stage) -> anyhow::Result<()> {
        match &self.fault {
            Fault::DispatcherKilled(number) | Fault::DispatcherStopped(number) => {
                stage.wait_until_started(&dispatcher(*number));
                Ok(())
            }
            _ => stage.wait_until_whole(),
        }
    }
}

/// The other brokers.
pub fn others(id: usize) -> impl Iterator<Item = usize> {
    BROKERS.into_iter().filter(move |other| *other != id)
}
