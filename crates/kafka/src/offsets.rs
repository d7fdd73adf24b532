//! Committed offsets with their metadata, and the logs they point into, asked for without being a
//! member.
//!
//! Decides that an answer is whole or asked for again: a partition whose offset could not be
//! fetched is never taken for one without a commit, and one that lies outside its log is said to
//! only when a second look finds the same. Leaves what the metadata says, and what becomes of a
//! lane with a fault, to `engine`.

use std::ffi::CString;
use std::fmt;
use std::slice;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use rdkafka::bindings::rd_kafka_topic_partition_list_find;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use tracing::{error, warn};

use crate::background::{Background, Ended, Stopping, serve_errors};
use crate::client::{ClientError, ClientSettings, LogContext};
use crate::logs::look;
pub use crate::logs::{Log, Place};

/// What is committed for a place: offset and metadata; `None` = nothing ever was.
pub type CommittedOffset = Option<(i64, String)>;

/// What there is to know of a place before it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What is committed.
    pub committed: CommittedOffset,
    /// Its log.
    pub log: Log,
}

impl Standing {
    /// Why it cannot be read where it should be.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        match (self.log, &self.committed) {
            (Log::Absent, _) => Some(Fault::Absent),
            (Log::Holds { low, high }, Some((wanted, _))) if !(low..=high).contains(wanted) => {
                Some(Fault::OutOfRange {
                    wanted: *wanted,
                    low,
                    high,
                })
            }
            (Log::Holds { .. }, _) => None,
        }
    }

    /// One past the newest offset of the log; 0 when there is no log.
    #[must_use]
    pub const fn end(&self) -> i64 {
        match self.log {
            Log::Holds { high, .. } => high,
            Log::Absent => 0,
        }
    }
}

/// Why a place cannot be read where it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The committed offset is not in the log: retention overtook it, or the topic was made anew.
    OutOfRange {
        /// The committed offset.
        wanted: i64,
        /// The oldest offset there is.
        low: i64,
        /// The end of the log.
        high: i64,
    },
    /// There is no such topic or partition.
    Absent,
}

impl Fault {
    /// Whether a second look found the same. The log may have grown or lost more between the two,
    /// and does so for as long as somebody writes to it: that makes no other fault of it.
    const fn is_still(&self, now: &Self) -> bool {
        match (self, now) {
            (Self::Absent, Self::Absent) => true,
            (
                Self::OutOfRange { wanted, low, .. },
                Self::OutOfRange {
                    wanted: wanted_now,
                    low: low_now,
                    ..
                },
            ) => *wanted == *wanted_now && (*wanted < *low) == (*wanted_now < *low_now),
            _ => false,
        }
    }
}

/// Whether every fault there is now was there at the last look.
fn confirmed(before: &[Option<Fault>], now: &[Option<Fault>]) -> bool {
    now.iter().enumerate().all(|(place, now)| {
        let before = before.get(place).and_then(Option::as_ref);
        now.as_ref()
            .is_none_or(|now| before.is_some_and(|before| before.is_still(now)))
    })
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange { wanted, low, high } => {
                write!(
                    f,
                    "offset {wanted} is committed, the log holds {low}..{high}"
                )
            }
            Self::Absent => f.write_str("there is no such topic or partition"),
        }
    }
}

/// Answers questions about places, committed for one group, on a thread of its own, as the calls
/// block for as long as the coordinator is away. Dropping it waits for a call under way.
pub struct OffsetReader<T: Send + 'static> {
    requests: Sender<(T, Vec<Place>)>,
    thread: Background,
}

impl<T: Send + 'static> OffsetReader<T> {
    /// `on_answer` runs on the reader's thread, once per request, answers in the order of the
    /// places asked for.
    ///
    /// # Errors
    /// [`ClientError::Settings`] when librdkafka refuses a property.
    pub fn start(
        settings: &ClientSettings,
        group: &str,
        on_answer: impl Fn(T, Vec<Standing>) + Send + 'static,
    ) -> Result<Self, ClientError> {
        let client: BaseConsumer<LogContext> = settings
            .consumer(group)
            .create_with_context(LogContext::new())
            .map_err(ClientError::refused("make a consumer"))?;
        // At most one request per slice that is being acquired.
        let (requests, inbox) = unbounded();
        let mut asking = Asking {
            client,
            inbox,
            open: Vec::new(),
            on_answer,
            complained_at: None,
        };
        let thread = Background::repeat("offsets", move |stopping| asking.step(stopping))?;
        Ok(Self { requests, thread })
    }

    /// Whether its thread lives; it ends when this is dropped, or by a bug.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.thread.is_running()
    }

    /// Asks what is committed for some places, and where their logs begin and end.
    pub fn fetch(&self, tag: T, places: Vec<Place>) {
        // The thread ends only when this side is dropped.
        drop(self.requests.send((tag, places)));
    }
}

/// A request that is not answered yet.
struct Open<T> {
    tag: T,
    places: Vec<Place>,
    /// What the last look found wrong, per place.
    faults: Vec<Option<Fault>>,
}

/// The thread's side.
struct Asking<T, F> {
    client: BaseConsumer<LogContext>,
    inbox: Receiver<(T, Vec<Place>)>,
    open: Vec<Open<T>>,
    on_answer: F,
    complained_at: Option<Instant>,
}

impl<T, F: Fn(T, Vec<Standing>)> Asking<T, F> {
    const ASK: Duration = Duration::from_secs(3);
    const IDLE: Duration = Duration::from_millis(100);
    /// Between two looks; also paces repetitions while a broker is away.
    const AGAIN: Duration = Duration::from_millis(500);
    const COMPLAIN: Duration = Duration::from_secs(10);

    fn step(&mut self, stopping: &Stopping) -> Result<(), Ended> {
        if self.open.is_empty() {
            match self.inbox.recv_timeout(Self::IDLE) {
                Ok(request) => self.take(request),
                Err(RecvTimeoutError::Timeout) => serve_errors(&self.client, Duration::ZERO),
                Err(RecvTimeoutError::Disconnected) => return Err(Ended),
            }
        }
        // A whole assignment is answered by one round of requests.
        while let Ok(request) = self.inbox.try_recv() {
            self.take(request);
        }
        self.answer_what_is_whole(stopping)?;
        if !self.open.is_empty() {
            serve_errors(&self.client, Self::AGAIN);
        }
        Ok(())
    }

    fn take(&mut self, (tag, places): (T, Vec<Place>)) {
        self.open.push(Open {
            tag,
            places,
            faults: Vec::new(),
        });
    }

    fn answer_what_is_whole(&mut self, stopping: &Stopping) -> Result<(), Ended> {
        let places: Vec<&Place> = self.open.iter().flat_map(|open| &open.places).collect();
        let found = committed(&self.client, &places, Self::ASK).and_then(|committed| {
            let logs = look(&self.client, &places, Self::ASK)?;
            Ok(committed.into_iter().zip(logs).collect::<Vec<_>>())
        });
        stopping.check()?;
        let mut found = match found {
            Ok(found) => found.into_iter(),
            Err(error) => {
                self.complain(&format!("{error}"));
                return Ok(());
            }
        };
        for mut open in std::mem::take(&mut self.open) {
            let answers = found.by_ref().take(open.places.len());
            let whole = |(committed, log): (Result<_, KafkaError>, Option<Log>)| {
                Some(Standing {
                    committed: committed.ok()?,
                    log: log?,
                })
            };
            // Taken to the end, as the next request's answers follow.
            let answers: Vec<Option<Standing>> = answers.map(whole).collect();
            let Some(answers) = answers.into_iter().collect::<Option<Vec<_>>>() else {
                self.complain(
                    "a partition has no leader, may not be read, or its commits are not settled",
                );
                self.open.push(open);
                continue;
            };
            let faults: Vec<Option<Fault>> = answers.iter().map(Standing::fault).collect();
            // A broker that has just started may not know everything yet.
            if !confirmed(&open.faults, &faults) {
                open.faults = faults;
                self.open.push(open);
                continue;
            }
            for ((topic, partition), fault) in open.places.iter().zip(&faults) {
                if let Some(fault) = fault {
                    error!(%topic, partition, %fault, "a lane cannot be read where it was left");
                }
            }
            (self.on_answer)(open.tag, answers);
        }
        Ok(())
    }

    fn complain(&mut self, reason: &str) {
        if self
            .complained_at
            .is_none_or(|at| at.elapsed() >= Self::COMPLAIN)
        {
            warn!(reason, "cannot fetch committed offsets, will retry");
            self.complained_at = Some(Instant::now());
        }
    }
}

/// What is committed for each place.
fn committed(
    client: &BaseConsumer<LogContext>,
    places: &[&Place],
    wait: Duration,
) -> Result<Vec<Result<CommittedOffset, KafkaError>>, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(places.len());
    for (topic, partition) in places {
        list.add_partition(topic, *partition);
    }
    let list = client.committed_offsets(list, wait)?;
    let answer = |(topic, partition): &&Place| {
        let place = list
            .find_partition(topic, *partition)
            .ok_or(KafkaError::OffsetFetch(
                rdkafka::error::RDKafkaErrorCode::UnknownPartition,
            ))?;
        place.error()?;
        Ok(match place.offset() {
            Offset::Offset(offset) => Some((offset, metadata(&list, topic, *partition))),
            _ => None,
        })
    };
    Ok(places.iter().map(answer).collect())
}

/// The metadata of a place; what is not UTF-8 was not written by us and becomes a text that no map
/// decodes from. Not through the binding's own `metadata()`: it panics on such bytes.
#[expect(unsafe_code, reason = "the safe binding panics on foreign metadata")]
fn metadata(list: &TopicPartitionList, topic: &str, partition: i32) -> String {
    let Ok(name) = CString::new(topic) else {
        return String::new();
    };
    // SAFETY: list and name live through the calls; librdkafka answers with a pointer into the
    // list, or null. Metadata and its size describe bytes that the list owns.
    let bytes = unsafe {
        let place = rd_kafka_topic_partition_list_find(list.ptr(), name.as_ptr(), partition);
        if place.is_null() || (*place).metadata.is_null() {
            return String::new();
        }
        slice::from_raw_parts((*place).metadata.cast::<u8>(), (*place).metadata_size)
    };
    String::from_utf8(bytes.to_vec()).unwrap_or_else(|_| "not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Fault, confirmed};

    fn outside(wanted: i64, low: i64, high: i64) -> Option<Fault> {
        Some(Fault::OutOfRange { wanted, low, high })
    }

    #[test]
    fn a_fault_is_confirmed_by_a_second_look_at_a_log_that_moves_on() {
        let (below, absent) = (outside(1, 2, 4), Some(Fault::Absent));
        assert!(confirmed(&[], &[None, None]));
        assert!(!confirmed(&[], &[None, below]));
        assert!(confirmed(&[None, below], &[None, outside(1, 3, 9)]));
        assert!(confirmed(&[absent], &[absent]));
        // what is well again needs no second look
        assert!(confirmed(&[below, absent], &[None, absent]));
        for other in [None, absent, outside(2, 3, 4), outside(1, 0, 0)] {
            assert!(!confirmed(&[other], &[below]), "{other:?}");
        }
    }
}
