//! Looking at lanes that say nothing, through another client than the one that reads them.
//!
//! Decides that a lane counts as ahead only when this client is given a record of it: offsets below
//! the end may hold none (transaction markers, aborted batches, compaction). A client of its own,
//! because a question waits behind a fetch on the same connection, and because one that does not
//! fetch may not answer well either. Leaves what findings come to, to `silence`.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Message, Offset, TopicPartitionList};
use tracing::{debug, warn};

use super::silence::Finding;
use crate::background::{Background, Ended, Stopping, serve_errors};
use crate::client::{ClientError, ClientSettings, LogContext};
use crate::logs::{Log, Place, look};

/// A lane to look at.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub(super) place: Place,
    /// Which placing of the lane is meant.
    pub(super) number: u64,
    /// The next offset to read; `None` = the first there is.
    pub(super) next: Option<i64>,
}

/// A thread that looks, one batch of lanes at a time.
pub(super) struct Looker {
    looks: Sender<Vec<Look>>,
    findings: Receiver<Vec<(Look, Finding)>>,
    busy: bool,
    _thread: Background,
}

impl Looker {
    pub(super) fn start(
        settings: &ClientSettings,
        group: &str,
        name: &str,
    ) -> Result<Self, ClientError> {
        let mut config = settings.consumer(group);
        config.set("enable.partition.eof", "true");
        let client: BaseConsumer<LogContext> = config
            .create_with_context(LogContext::silent())
            .map_err(ClientError::refused("make a consumer"))?;
        let (looks, inbox) = bounded(1);
        let (found, findings) = bounded(1);
        let looking = Looking {
            client,
            inbox,
            found,
        };
        let thread = Background::repeat(format!("look {name}"), move |stopping| {
            looking.step(stopping)
        })?;
        Ok(Self {
            looks,
            findings,
            busy: false,
            _thread: thread,
        })
    }

    /// Whether a batch is under way.
    pub(super) const fn is_busy(&self) -> bool {
        self.busy
    }

    /// Starts a batch; none may be under way.
    ///
    /// # Errors
    /// [`Ended`] when its thread is gone.
    pub(super) fn look(&mut self, looks: Vec<Look>) -> Result<(), Ended> {
        self.busy = true;
        self.looks.try_send(looks).map_err(|_| Ended)
    }

    /// The findings of the batch, once; empty until then.
    ///
    /// # Errors
    /// [`Ended`] when its thread is gone.
    pub(super) fn findings(&mut self) -> Result<Vec<(Look, Finding)>, Ended> {
        if !self.busy {
            return Ok(Vec::new());
        }
        match self.findings.try_recv() {
            Ok(findings) => {
                self.busy = false;
                Ok(findings)
            }
            Err(TryRecvError::Empty) => Ok(Vec::new()),
            Err(TryRecvError::Disconnected) => Err(Ended),
        }
    }
}

/// The thread's side.
struct Looking {
    client: BaseConsumer<LogContext>,
    inbox: Receiver<Vec<Look>>,
    found: Sender<Vec<(Look, Finding)>>,
}

impl Looking {
    const IDLE: Duration = Duration::from_millis(200);
    const ASK: Duration = Duration::from_secs(2);
    /// For the first record of a lane; and for those of all lanes of a batch.
    const PROBE: Duration = Duration::from_secs(2);
    const PROBES: Duration = Duration::from_secs(6);
    const POLL: Duration = Duration::from_millis(50);

    fn step(&self, stopping: &Stopping) -> Result<(), Ended> {
        match self.inbox.recv_timeout(Self::IDLE) {
            Ok(looks) => {
                let findings = self.look(looks, stopping)?;
                // There is room: one batch at a time.
                self.found.send(findings).map_err(|_| Ended)
            }
            Err(RecvTimeoutError::Timeout) => {
                serve_errors(&self.client, Duration::ZERO);
                Ok(())
            }
            Err(RecvTimeoutError::Disconnected) => Err(Ended),
        }
    }

    fn look(&self, looks: Vec<Look>, stopping: &Stopping) -> Result<Vec<(Look, Finding)>, Ended> {
        let places: Vec<&Place> = looks.iter().map(|look| &look.place).collect();
        let logs = look(&self.client, &places, Self::ASK).unwrap_or_else(|error| {
            debug!(%error, "cannot look at silent lanes");
            vec![None; looks.len()]
        });
        let until = Instant::now() + Self::PROBES;
        let mut findings = Vec::with_capacity(looks.len());
        for (look, log) in looks.into_iter().zip(logs) {
            stopping.check()?;
            let finding = match log {
                None => Finding::Unknown,
                Some(Log::Absent) => Finding::Absent,
                Some(Log::Holds { low, high }) => {
                    let next = look.next.unwrap_or(low);
                    if !(low..=high).contains(&next) {
                        Finding::Outside { low, high }
                    } else if next == high {
                        Finding::AtEnd
                    } else {
                        self.probe(&look.place, next, high, until, stopping)?
                    }
                }
            };
            findings.push((look, finding));
        }
        Ok(findings)
    }

    /// Whether there is a record from `next` on.
    fn probe(
        &self,
        place: &Place,
        next: i64,
        high: i64,
        until: Instant,
        stopping: &Stopping,
    ) -> Result<Finding, Ended> {
        let until = until.min(Instant::now() + Self::PROBE);
        let mut list = TopicPartitionList::new();
        let assigned = list
            .add_partition_offset(&place.0, place.1, Offset::Offset(next))
            .and_then(|()| self.client.incremental_assign(&list));
        if let Err(error) = assigned {
            warn!(topic = %place.0, partition = place.1, %error, "cannot look for records");
            return Ok(Finding::Unknown);
        }
        let finding = self.first_record(place, next, high, until, stopping);
        if let Err(error) = self.client.incremental_unassign(&list) {
            warn!(topic = %place.0, partition = place.1, %error, "cannot end a look");
        }
        finding
    }

    fn first_record(
        &self,
        place: &Place,
        next: i64,
        high: i64,
        until: Instant,
        stopping: &Stopping,
    ) -> Result<Finding, Ended> {
        while Instant::now() < until {
            stopping.check()?;
            match self.client.poll(Self::POLL) {
                Some(Ok(message))
                    if message.topic() == &*place.0
                        && message.partition() == place.1
                        && message.offset() >= next =>
                {
                    return Ok(Finding::Ahead { high });
                }
                // Nothing else is assigned.
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(Finding::AtEnd),
                _ => {}
            }
        }
        Ok(Finding::Unknown)
    }
}
