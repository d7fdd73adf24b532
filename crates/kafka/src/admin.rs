//! Topics: which there should be, which there are, and making the rest.
//!
//! Decides that it is additive only: nothing is ever shrunk, re-partitioned or deleted. Leaves the
//! list of topics and their settings to `wire`, and whether to go on without them to the caller.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::error::RDKafkaErrorCode;

use crate::client::{ClientError, ClientSettings, LogContext, metadata};

/// A topic as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// Full name.
    pub name: String,
    /// At least one.
    pub partitions: i32,
    /// Replicas of each partition.
    pub replication: i32,
    /// Topic configuration, as Kafka spells it.
    pub configs: Vec<(String, String)>,
}

/// How what there is differs from what there should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Not there: [`apply`] makes them.
    pub missing: Vec<TopicSpec>,
    /// There, with the right number of partitions.
    pub present: Vec<TopicSpec>,
    /// There, with another number of partitions: nothing here changes that.
    pub wrong: Vec<WrongPartitions>,
    /// Replicas of each specified topic that is there: of the partition that has the fewest.
    pub replication: BTreeMap<String, i32>,
}

/// A topic whose number of partitions is not the installation's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("topic {topic} has {found} partitions, expected {expected}")]
pub struct WrongPartitions {
    /// Full name.
    pub topic: String,
    /// What the specification says.
    pub expected: i32,
    /// What the broker says.
    pub found: i32,
}

/// A topic that could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("topic {topic}: {reason}")]
pub struct TopicFailure {
    /// Full name.
    pub topic: String,
    /// The broker's reason.
    pub reason: String,
}

/// Compares the specifications with what the cluster has.
///
/// # Errors
/// No broker answered within `wait`.
pub fn plan(
    settings: &ClientSettings,
    specs: &[TopicSpec],
    wait: Duration,
) -> Result<Plan, ClientError> {
    Ok(compare(specs, &shapes(settings, wait)?))
}

/// Those of `names` that the cluster does not have.
///
/// # Errors
/// No broker answered within `wait`.
pub fn missing(
    settings: &ClientSettings,
    names: &[&str],
    wait: Duration,
) -> Result<Vec<String>, ClientError> {
    let found = shapes(settings, wait)?;
    let absent = names.iter().filter(|name| !found.contains_key(**name));
    Ok(absent.map(|name| (*name).to_owned()).collect())
}

/// Makes the missing topics and waits until every one has leaders; the failures, by topic. A topic
/// that somebody else made meanwhile is no failure.
///
/// # Errors
/// The request as a whole failed, or the new topics had no leaders after `wait`.
pub fn apply(
    settings: &ClientSettings,
    plan: &Plan,
    wait: Duration,
) -> Result<Vec<TopicFailure>, ClientError> {
    if plan.missing.is_empty() {
        return Ok(Vec::new());
    }
    let doing = "create topics";
    let client: AdminClient<LogContext> = settings
        .admin()
        .create_with_context(LogContext::new())
        .map_err(ClientError::refused(doing))?;
    let topics: Vec<NewTopic<'_>> = plan.missing.iter().map(new_topic).collect();
    let options = AdminOptions::new()
        .operation_timeout(Some(wait))
        .request_timeout(Some(wait));
    let results = futures_executor::block_on(client.create_topics(&topics, &options))
        .map_err(ClientError::refused(doing))?;
    let failures: Vec<TopicFailure> = results
        .into_iter()
        .filter_map(Result::err)
        .filter(|(_, code)| *code != RDKafkaErrorCode::TopicAlreadyExists)
        .map(|(topic, code)| TopicFailure {
            topic,
            reason: code.to_string(),
        })
        .collect();
    let made = plan
        .missing
        .iter()
        .filter(|spec| failures.iter().all(|failure| failure.topic != spec.name));
    await_leaders(settings, made.map(|spec| &*spec.name).collect(), wait)?;
    Ok(failures)
}

fn new_topic(spec: &TopicSpec) -> NewTopic<'_> {
    let replication = TopicReplication::Fixed(spec.replication);
    let mut topic = NewTopic::new(&spec.name, spec.partitions, replication);
    for (name, value) in &spec.configs {
        topic = topic.set(name, value);
    }
    topic
}

/// A created topic is for a moment known to no broker but the controller.
fn await_leaders(
    settings: &ClientSettings,
    names: Vec<&str>,
    wait: Duration,
) -> Result<(), ClientError> {
    let deadline = Instant::now() + wait;
    loop {
        let metadata = metadata(settings, wait)?;
        let led = |name: &&str| {
            let found = metadata.topics().iter().find(|topic| topic.name() == *name);
            found.is_some_and(|topic| {
                let partitions = topic.partitions();
                !partitions.is_empty() && partitions.iter().all(|p| p.leader() >= 0)
            })
        };
        if names.iter().all(led) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(ClientError::Refused {
                doing: "wait for the new topics to have leaders".to_owned(),
                source: rdkafka::error::KafkaError::AdminOp(RDKafkaErrorCode::LeaderNotAvailable),
            });
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A topic as it is.
#[derive(Clone, Copy, Debug)]
struct Shape {
    partitions: i32,
    replication: i32,
}

fn shapes(
    settings: &ClientSettings,
    wait: Duration,
) -> Result<BTreeMap<String, Shape>, ClientError> {
    let metadata = metadata(settings, wait)?;
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    let shape = |topic: &rdkafka::metadata::MetadataTopic| {
        let replicas = topic.partitions().iter().map(|p| p.replicas().len());
        let shape = Shape {
            partitions: count(topic.partitions().len()),
            replication: count(replicas.min().unwrap_or_default()),
        };
        (topic.name().to_owned(), shape)
    };
    Ok(metadata.topics().iter().map(shape).collect())
}

fn compare(specs: &[TopicSpec], found: &BTreeMap<String, Shape>) -> Plan {
    let mut plan = Plan::default();
    for spec in specs {
        let Some(shape) = found.get(&spec.name) else {
            plan.missing.push(spec.clone());
            continue;
        };
        plan.replication
            .insert(spec.name.clone(), shape.replication);
        if shape.partitions == spec.partitions {
            plan.present.push(spec.clone());
        } else {
            plan.wrong.push(WrongPartitions {
                topic: spec.name.clone(),
                expected: spec.partitions,
                found: shape.partitions,
            });
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_tells_missing_present_and_wrong_apart() {
        let spec = |name: &str| TopicSpec {
            name: name.to_owned(),
            partitions: 8,
            replication: 1,
            configs: Vec::new(),
        };
        let shape = |partitions, replication| Shape {
            partitions,
            replication,
        };
        let found = [("b".to_owned(), shape(8, 3)), ("c".to_owned(), shape(4, 1))].into();
        let plan = compare(&[spec("a"), spec("b"), spec("c")], &found);
        assert_eq!(plan.missing, [spec("a")]);
        assert_eq!(plan.present, [spec("b")]);
        let replication = [("b".to_owned(), 3), ("c".to_owned(), 1)].into();
        assert_eq!(plan.replication, replication);
        assert_eq!(
            plan.wrong[0].to_string(),
            "topic c has 4 partitions, expected 8"
        );
    }
}
