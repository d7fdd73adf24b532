//! What the brokers say of themselves, by tools that are not ours.
//!
//! Decides nothing: who leads a partition and whether its copies are in sync is kcat's word, who
//! is the active controller that of Kafka's own tool.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use serde::Deserialize;

/// What kcat says of a cluster.
#[derive(Debug, Deserialize)]
pub struct Metadata {
    topics: Vec<Topic>,
}

#[derive(Debug, Deserialize)]
struct Topic {
    topic: String,
    partitions: Vec<Partition>,
}

#[derive(Debug, Deserialize)]
struct Partition {
    partition: i32,
    leader: i64,
    replicas: Vec<Replica>,
    isrs: Vec<Replica>,
}

#[derive(Debug, Deserialize)]
struct Replica {
    id: i64,
}

impl Metadata {
    /// As the brokers that answer see it.
    ///
    /// # Errors
    /// None answers.
    pub fn ask(bootstrap: &str) -> anyhow::Result<Self> {
        let asked = Command::new("kcat")
            .args(["-L", "-J", "-m", "10", "-b", bootstrap])
            .output()
            .context("scripts/setup.sh test installs kcat")?;
        ensure!(asked.status.success(), "no broker answers kcat -L");
        serde_json::from_slice(&asked.stdout).context("kcat prints JSON")
    }

    /// The broker that leads a partition.
    pub fn leader(&self, topic: &str, partition: i32) -> Option<usize> {
        let mut topics = self.topics.iter().filter(|known| known.topic == topic);
        let mut partitions = topics.next()?.partitions.iter();
        let found = partitions.find(|known| known.partition == partition)?;
        usize::try_from(found.leader).ok()
    }

    /// Whether every partition of the topics that begin so has a leader and all its copies in sync.
    pub fn is_whole(&self, prefix: &str) -> bool {
        let of_it =
            |topic: &&Topic| topic.topic.starts_with(prefix) || topic.topic == "__consumer_offsets";
        let mut partitions = self
            .topics
            .iter()
            .filter(of_it)
            .flat_map(|topic| &topic.partitions);
        partitions.all(|known| {
            known.leader > 0
                && known.isrs.len() == known.replicas.len()
                && known.isrs.iter().all(|copy| copy.id > 0)
        })
    }
}

/// The broker that is the active controller.
///
/// # Errors
/// Kafka's tool gets no answer.
pub fn active_controller(bootstrap: &str) -> anyhow::Result<usize> {
    let described = tool(
        "org.apache.kafka.tools.MetadataQuorumCommand",
        &["--bootstrap-server", bootstrap, "describe", "--status"],
    )?;
    let mut lines = described.lines();
    let leader = lines.find_map(|line| line.strip_prefix("LeaderId:"));
    let leader = leader.with_context(|| format!("no leader in {described:?}"))?;
    Ok(leader.trim().parse()?)
}

/// What one of Kafka's own tools prints.
///
/// # Errors
/// It fails.
pub fn tool(class: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let support = Path::new(env!("CARGO_MANIFEST_DIR")).join("../support/kafka");
    let jars = Command::new(support.join("jars.sh")).output()?;
    let jars = String::from_utf8(jars.stdout)?;
    let output = Command::new("java")
        .args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
        .args(["-cp", &format!("{}/*", jars.trim()), class])
        .args(arguments)
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{class}: {said}");
    Ok(String::from_utf8(output.stdout)?)
}
