//! Where logs begin and end.
//!
//! Decides that any number of partitions is asked about with two requests per broker (and two per
//! topic where one of them is refused, so that a topic that is gone hides no other), and when a
//! topic or partition counts as absent: when the metadata says so, not when its leader is missing.
//! Leaves asking again, and what an answer means, to the readers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use tracing::debug;

use crate::client::LogContext;

/// A topic and a partition of it.
pub type Place = (Arc<str>, i32);

/// The log of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Log {
    /// It is there.
    Holds {
        /// The oldest offset.
        low: i64,
        /// One past the newest.
        high: i64,
    },
    /// There is no such topic, or it has no such partition.
    Absent,
}

/// Looks at the logs of all places; `None` = there is no answer for this one now (no leader). Takes
/// little more than `wait`.
///
/// # Errors
/// The question was not answered.
pub(crate) fn look(
    client: &BaseConsumer<LogContext>,
    places: &[&Place],
    wait: Duration,
) -> Result<Vec<Option<Log>>, KafkaError> {
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let deadline = Instant::now() + wait;
    let low = ends_by_topic(client, places, Offset::Beginning, deadline)?;
    let high = ends_by_topic(client, places, Offset::End, deadline)?;
    let mut topics = Topics {
        client,
        known: BTreeMap::new(),
        deadline,
    };
    let answer = |(place, ends): (&&Place, (Option<i64>, Option<i64>))| match ends {
        (Some(low), Some(high)) => Ok(Some(Log::Holds { low, high })),
        _ => Ok(topics.lacks(place)?.then_some(Log::Absent)),
    };
    places
        .iter()
        .zip(low.into_iter().zip(high))
        .map(answer)
        .collect()
}

/// One end of every log, where there is an answer.
///
/// librdkafka fails the whole question when a broker refuses one partition of it, and asks that
/// broker again for a topic that was deleted: nothing but our asking for the topic's metadata makes
/// it forget who led it. So the topics are asked about one by one then; those that are refused have
/// no ends.
fn ends_by_topic(
    client: &BaseConsumer<LogContext>,
    places: &[&Place],
    which: Offset,
    deadline: Instant,
) -> Result<Vec<Option<i64>>, KafkaError> {
    let refusal = match ends(client, places, which, deadline) {
        Err(error) if is_refusal(&error) => error,
        answer => return answer,
    };
    debug!(error = %refusal, "a topic is in the way of others: they are asked about one by one");
    let mut of_topic: BTreeMap<&Arc<str>, Vec<usize>> = BTreeMap::new();
    for (number, (topic, _)) in places.iter().enumerate() {
        of_topic.entry(topic).or_default().push(number);
    }
    let mut found = vec![None; places.len()];
    for numbers in of_topic.into_values() {
        let places: Vec<&Place> = numbers.iter().map(|number| places[*number]).collect();
        let answer = match ends(client, &places, which, deadline) {
            Err(error) if is_refusal(&error) => continue,
            answer => answer?,
        };
        for (number, end) in numbers.into_iter().zip(answer) {
            found[number] = end;
        }
    }
    Ok(found)
}

/// Whether a broker answered, for a partition asked about, that it does not tell.
fn is_refusal(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::UnknownTopicOrPartition
                | Code::NotLeaderForPartition
                | Code::LeaderNotAvailable
                | Code::ReplicaNotAvailable
                | Code::KafkaStorageError
                | Code::OffsetNotAvailable
                | Code::FencedLeaderEpoch
                | Code::UnknownLeaderEpoch
                | Code::TopicAuthorizationFailed
        )
    )
}

/// One end of every log that this one request is answered about.
fn ends(
    client: &BaseConsumer<LogContext>,
    places: &[&Place],
    which: Offset,
    deadline: Instant,
) -> Result<Vec<Option<i64>>, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(places.len());
    for (topic, partition) in places {
        // A place asked for twice is one question.
        if list.find_partition(topic, *partition).is_none() {
            list.add_partition_offset(topic, *partition, which)?;
        }
    }
    // What is said of times holds for the two ends: the request has numbers of its own for them.
    let list = match client.offsets_for_times(list, left(deadline)) {
        Ok(list) => list,
        // Not one of the places has a leader.
        Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::UnknownPartition) => {
            return Ok(vec![None; places.len()]);
        }
        Err(error) => return Err(error),
    };
    let end = |(topic, partition): &&Place| {
        let place = list.find_partition(topic, *partition)?;
        match (place.error(), place.offset()) {
            (Ok(()), Offset::Offset(offset)) => Some(offset),
            _ => None,
        }
    };
    Ok(places.iter().map(end).collect())
}

fn left(deadline: Instant) -> Duration {
    deadline
        .saturating_duration_since(Instant::now())
        .max(Duration::from_millis(1))
}

/// The partitions of topics, asked for once each.
struct Topics<'a> {
    client: &'a BaseConsumer<LogContext>,
    known: BTreeMap<Arc<str>, Partitions>,
    deadline: Instant,
}

enum Partitions {
    /// The topic is not there.
    Absent,
    /// These are there.
    Numbers(Vec<i32>),
    /// The brokers do not know at present.
    Unknown,
}

impl Topics<'_> {
    fn lacks(&mut self, (topic, partition): &Place) -> Result<bool, KafkaError> {
        if !self.known.contains_key(topic) {
            let partitions = self.ask(topic)?;
            self.known.insert(Arc::clone(topic), partitions);
        }
        Ok(match self.known.get(topic) {
            Some(Partitions::Absent) => true,
            Some(Partitions::Numbers(numbers)) => !numbers.contains(partition),
            Some(Partitions::Unknown) | None => false,
        })
    }

    fn ask(&self, topic: &str) -> Result<Partitions, KafkaError> {
        use rdkafka::types::RDKafkaRespErr as Code;
        let metadata = self
            .client
            .fetch_metadata(Some(topic), left(self.deadline))?;
        let found = metadata.topics().iter().find(|t| t.name() == topic);
        Ok(match found.map(|t| (t.error(), t.partitions())) {
            Some((Some(Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART), _)) => Partitions::Absent,
            Some((None, partitions)) if !partitions.is_empty() => {
                Partitions::Numbers(partitions.iter().map(|p| p.id()).collect())
            }
            _ => Partitions::Unknown,
        })
    }
}

#[cfg(test)]
mod tests {
    use futures_executor::block_on;
    use postrider_test_support::{Broker, unique_prefix};
    use rdkafka::admin::{AdminClient, AdminOptions};
    use rdkafka::client::DefaultClientContext;

    use super::*;
    use crate::ClientSettings;
    use crate::admin::{self, TopicSpec};

    const LIMIT: Duration = Duration::from_secs(30);

    fn topic(settings: &ClientSettings) -> Arc<str> {
        let spec = TopicSpec {
            name: format!("{}t", unique_prefix("logs")),
            partitions: 2,
            replication: 1,
            configs: Vec::new(),
        };
        let name = spec.name.as_str().into();
        let plan = admin::plan(settings, &[spec], LIMIT).unwrap();
        assert_eq!(admin::apply(settings, &plan, LIMIT).unwrap(), []);
        name
    }

    #[test]
    fn a_topic_that_was_deleted_since_the_last_look_is_absent_and_hides_no_other() {
        let settings = ClientSettings {
            brokers: Broker::shared().bootstrap().to_owned(),
            properties: Vec::new(),
            client_id: "test".to_owned(),
        };
        let (gone, stays) = (topic(&settings), topic(&settings));
        let client: BaseConsumer<LogContext> = settings
            .consumer("g")
            .create_with_context(LogContext::silent())
            .unwrap();
        let places: [Place; 4] = [
            (Arc::clone(&stays), 0),
            (Arc::clone(&gone), 0),
            (Arc::clone(&gone), 1),
            (Arc::clone(&stays), 1),
        ];
        let places: Vec<&Place> = places.iter().collect();
        let there = Some(Log::Holds { low: 0, high: 0 });
        let deadline = Instant::now() + LIMIT;
        // A topic just made may not have a leader yet.
        while look(&client, &places, LIMIT).unwrap() != [there; 4] {
            assert!(Instant::now() < deadline, "the topics did not come");
        }
        let admin: AdminClient<DefaultClientContext> = settings.admin().create().unwrap();
        let options = AdminOptions::new().operation_timeout(Some(LIMIT));
        block_on(admin.delete_topics(&[&*gone], &options)).unwrap();
        let absent = Some(Log::Absent);
        let deadline = Instant::now() + LIMIT;
        while look(&client, &places, LIMIT).unwrap() != [there, absent, absent, there] {
            assert!(Instant::now() < deadline, "the topic is not missed");
        }
    }
}
