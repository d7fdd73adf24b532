//! Real Apache Kafka brokers that are one cluster, each in a network namespace of its own.
//!
//! Decides how they find one another and what they keep: three copies of everything, of which two
//! have to be in sync, as in production. Leaves the namespaces and what is done to brokers to the
//! caller.

use std::io;
use std::path::Path;

use crate::keeper::Keeper;

/// What every broker is started with, beside and in place of `kafka/server.properties`.
const SETTINGS: [(&str, &str); 7] = [
    ("default.replication.factor", "3"),
    ("min.insync.replicas", "2"),
    ("offsets.topic.replication.factor", "3"),
    ("transaction.state.log.replication.factor", "3"),
    ("transaction.state.log.min.isr", "2"),
    // Kafka's own: a busy machine must not look like a broker that failed
    ("broker.session.timeout.ms", "9000"),
    ("broker.heartbeat.interval.ms", "2000"),
];
const HEAP: (&str, &str) = ("KAFKA_HEAP_OPTS", "-Xms512m -Xmx512m");

/// A broker to be.
#[derive(Clone, Debug)]
pub struct Member {
    /// The words of a command that runs another in its network namespace.
    pub within: Vec<String>,
    /// Its address there; ports 9092 and 9093 are its own.
    pub host: String,
    /// Settings of its own, in place of the others'.
    pub settings: Vec<(String, String)>,
}

/// Brokers, numbered from 1. They end with the value.
pub struct Cluster {
    brokers: Vec<Keeper>,
    bootstrap: String,
}

impl Cluster {
    /// Starts them side by side, brokers and controllers in one, and waits until all are ready.
    ///
    /// # Panics
    /// When one of them is not.
    pub fn start(members: &[Member]) -> Self {
        let numbered = || members.iter().zip(1..);
        let voters = numbered().map(|(member, id)| format!("{id}@{}:9093", member.host));
        let voters = voters.collect::<Vec<String>>().join(",");
        let spawned = numbered().map(|(member, id)| {
            let id = id.to_string();
            let arguments = ["--member", &id, &member.host, &voters];
            let own = member.settings.iter();
            let own = own.map(|(name, value)| (name.as_str(), value.as_str()));
            let settings: Vec<(&str, &str)> = SETTINGS.into_iter().chain(own).collect();
            Keeper::spawn(&member.within, &arguments, &settings, &[HEAP])
        });
        let mut cluster = Self {
            brokers: spawned.collect(),
            bootstrap: String::new(),
        };
        let addresses = cluster.start_all(1..=members.len());
        cluster.bootstrap = addresses.join(",");
        cluster
    }

    /// What goes into `bootstrap.servers`.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// How many brokers there are.
    pub fn size(&self) -> usize {
        self.brokers.len()
    }

    /// Ends one without warning (SIGKILL).
    pub fn kill(&mut self, id: usize) {
        self.broker(id).order("kill", "stopped");
    }

    /// Ends one in order (SIGTERM) and waits until it is gone.
    pub fn stop(&mut self, id: usize) {
        self.broker(id).order("stop", "stopped");
    }

    /// Starts some that ended, with the same address and data, side by side, and waits until they
    /// are ready.
    ///
    /// # Panics
    /// When one of them is not.
    pub fn start_again(&mut self, ids: &[usize]) {
        self.start_all(ids.iter().copied());
    }

    /// Stops the threads of one (SIGSTOP): connections stay open and nothing is answered.
    pub fn freeze(&mut self, id: usize) {
        self.broker(id).order("freeze", "frozen");
    }

    /// Lets one go on after [`Cluster::freeze`].
    pub fn thaw(&mut self, id: usize) {
        self.broker(id).order("thaw", "thawed");
    }

    /// Copies what they have logged into a folder, a file for each start of each.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn copy_logs(&self, folder: &Path) -> io::Result<()> {
        let mut numbered = self.brokers.iter().zip(1..);
        numbered.try_for_each(|(broker, id)| broker.copy_logs(folder, &format!("{id}-")))
    }

    fn start_all(&mut self, ids: impl Iterator<Item = usize> + Clone) -> Vec<String> {
        // none is ready before a majority runs
        ids.clone().for_each(|id| self.broker(id).begin("start"));
        ids.map(|id| self.broker(id).started().bootstrap).collect()
    }

    fn broker(&mut self, id: usize) -> &mut Keeper {
        &mut self.brokers[id - 1]
    }
}
