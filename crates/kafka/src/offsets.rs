//! Committed offsets with their metadata, asked for without being a member.
//!
//! Decides that an answer is whole or asked for again: a partition whose offset could not be
//! fetched is never taken for one without a commit. Leaves what the metadata says to `engine`.

use std::ffi::CString;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use rdkafka::bindings::rd_kafka_topic_partition_list_find;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use tracing::warn;

use crate::client::{ClientError, ClientSettings, LogContext};

/// A topic and a partition of it.
pub type Place = (Arc<str>, i32);

/// What is committed for a place: offset and metadata; `None` = nothing ever was.
pub type CommittedOffset = Option<(i64, String)>;

/// Fetches committed offsets of one group on a thread of its own, as the call blocks for as long
/// as the coordinator is away. Dropping it waits for a call under way.
pub struct OffsetReader<T: Send + 'static> {
    requests: Option<Sender<(T, Vec<Place>)>>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
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
        on_answer: impl Fn(T, Vec<CommittedOffset>) + Send + 'static,
    ) -> Result<Self, ClientError> {
        let consumer: BaseConsumer<LogContext> = settings
            .consumer(group)
            .create_with_context(LogContext::new())
            .map_err(ClientError::refused("make a consumer"))?;
        // At most one request per slice that is being acquired.
        let (requests, inbox) = unbounded();
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopping);
        let thread = thread::Builder::new()
            .name("offsets".to_owned())
            .spawn(move || serve(&consumer, &inbox, &stop, on_answer))
            .map_err(|e| ClientError::Settings(format!("cannot start a thread: {e}")))?;
        Ok(Self {
            requests: Some(requests),
            stopping,
            thread: Some(thread),
        })
    }

    /// Whether its thread lives; it ends when this is dropped, or by a bug.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.thread
            .as_ref()
            .is_some_and(|thread| !thread.is_finished())
    }

    /// Asks for the committed offsets of some places.
    pub fn fetch(&self, tag: T, places: Vec<Place>) {
        if let Some(requests) = &self.requests {
            // The thread ends only when this side is dropped.
            drop(requests.send((tag, places)));
        }
    }
}

impl<T: Send + 'static> Drop for OffsetReader<T> {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        drop(self.requests.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("the offset reader panicked");
        }
    }
}

fn serve<T>(
    consumer: &BaseConsumer<LogContext>,
    inbox: &Receiver<(T, Vec<Place>)>,
    stopping: &AtomicBool,
    on_answer: impl Fn(T, Vec<CommittedOffset>),
) {
    while let Ok(first) = inbox.recv() {
        // A whole assignment is answered by one request.
        let requests: Vec<(T, Vec<Place>)> =
            std::iter::once(first).chain(inbox.try_iter()).collect();
        let places: Vec<&Place> = requests.iter().flat_map(|(_, places)| places).collect();
        let mut answer = loop {
            if stopping.load(Ordering::Relaxed) {
                return;
            }
            match committed(consumer, &places) {
                Ok(answer) => break answer.into_iter(),
                Err(error) => warn!(%error, "cannot fetch committed offsets, will retry"),
            }
            // Serves the error events and paces the repetition.
            drop(consumer.poll(Duration::from_millis(200)));
        };
        for (tag, places) in requests {
            on_answer(tag, answer.by_ref().take(places.len()).collect());
        }
    }
}

fn committed(
    consumer: &BaseConsumer<LogContext>,
    places: &[&Place],
) -> Result<Vec<CommittedOffset>, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(places.len());
    for (topic, partition) in places {
        list.add_partition(topic, *partition);
    }
    let list = consumer.committed_offsets(list, Duration::from_secs(5))?;
    let mut answer = Vec::with_capacity(places.len());
    for (topic, partition) in places {
        let place = list
            .find_partition(topic, *partition)
            .ok_or(KafkaError::OffsetFetch(
                rdkafka::error::RDKafkaErrorCode::UnknownPartition,
            ))?;
        place.error()?;
        answer.push(match place.offset() {
            Offset::Offset(offset) => Some((offset, metadata(&list, topic, *partition))),
            _ => None,
        });
    }
    Ok(answer)
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
