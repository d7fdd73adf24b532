//! What a course leaves behind: a folder of files with a JSON object per line, which is all that
//! the audit reads.
//!
//! | file | holds |
//! | --- | --- |
//! | `setting.json` | the [`Setting`] |
//! | `actions.jsonl` | an [`Action`] per thing done to a process, in order of time |
//! | `events.jsonl` | an [`Event`] per event published |
//! | `requests.jsonl` | a [`Receipt`] per request received |
//! | `attempts.jsonl` | an [`Attempted`] per record of `attempts` |
//! | `commits.jsonl` | a [`Committed`] per offset that Kafka took from a dispatcher |
//! | `sayings.jsonl` | a [`Saying`] per answer of the group that a dispatcher logged |
//! | `*.log` | what processes and broker logged |

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use postrider_test_support::Receipt;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::subject::Subject;

/// How the broker and Postrider are set, and how much traffic there is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Setting {
    /// What the course is called in the report.
    pub name: String,
    /// How long the group waits for a silent member, ms.
    pub session_ms: u64,
    /// How often members are heard, ms.
    pub heartbeat_ms: u64,
    /// Deadline of an attempt, ms: as long as a drain may take.
    pub timeout_ms: u64,
    /// Slices of the installation.
    pub slices: u16,
    /// Endpoints; each slice has the same number of them.
    pub endpoints: usize,
    /// Events a second, over all slices in turn.
    pub events_per_second: u32,
    /// What the experiment is about, beside them.
    #[serde(default)]
    pub subject: Option<Subject>,
}

impl Setting {
    /// How long the group waits for a silent member.
    pub fn session(&self) -> Duration {
        Duration::from_millis(self.session_ms)
    }

    /// A clean hand-over: drain, a heartbeat, 1 s.
    pub fn clean_bound_ms(&self) -> u64 {
        self.timeout_ms + self.heartbeat_ms + 1_000
    }

    /// A take-over after a crash: the session and 5 s.
    pub fn crash_bound_ms(&self) -> u64 {
        self.session_ms + 5_000
    }
}

/// Something done to a process, or seen of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Action {
    /// When, ms since the epoch; of a signal: before it was sent.
    pub at_ms: u64,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What was done to which dispatcher, by number from 1, or to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "what")]
pub enum What {
    /// A process was started.
    Start { worker: u32, pid: u32 },
    /// SIGTERM.
    Terminate { worker: u32 },
    /// SIGKILL.
    Kill { worker: u32 },
    /// SIGSTOP.
    Freeze { worker: u32 },
    /// SIGCONT; at this time it had been sent.
    Thaw { worker: u32 },
    /// It was found gone, with an exit code or by a signal.
    Ended {
        worker: u32,
        code: Option<i32>,
        signal: Option<i32>,
    },
    /// SIGKILL.
    KillBroker,
    /// It is ready again.
    BrokerReady,
    /// SIGSTOP.
    FreezeBroker,
    /// SIGCONT.
    ThawBroker,
}

/// An event that was published; exactly one endpoint wants it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Event {
    /// Its number, from 0; the id is `event_id` of it.
    pub number: usize,
    /// The slice of its endpoint.
    pub slice: u16,
    /// Its place among the events of the experiment's subject; `None` = it is of the trickle.
    #[serde(default)]
    pub subject: Option<usize>,
    /// When it was handed to the producer, ms since the epoch.
    pub sent_ms: u64,
    /// When Kafka acknowledged it; `None` = not yet.
    pub acked_ms: Option<u64>,
    /// How often it was handed over: more than once after a failure that may have written it.
    pub tries: u32,
}

/// The id of an event.
pub(super) fn event_id(number: usize) -> String {
    format!("event-{number:07}")
}

/// The number in the id of an event.
pub(super) fn event_number(id: &str) -> Option<usize> {
    id.strip_prefix("event-")?.parse().ok()
}

/// The number of the event that a request brought.
pub(super) fn event_of(receipt: &Receipt) -> Option<usize> {
    event_number(receipt.event.as_ref()?.as_str()?)
}

/// A record of `attempts`, as far as the audit asks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Attempted {
    /// Number of the event.
    pub event: usize,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// Ms since the epoch, as the next two.
    pub started_ms: u64,
    pub ended_ms: u64,
    pub written_ms: u64,
    pub outcome: String,
    /// Process id of the worker.
    pub pid: u32,
    pub slice: u16,
    pub epoch: u64,
}

/// An offset that Kafka took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// When the broker appended it, ms since the epoch.
    pub at_ms: u64,
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
}

/// What a dispatcher logged of the group's answers to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saying {
    /// Ms since the epoch.
    pub at_ms: u64,
    pub worker: u32,
    pub what: Said,
    /// The first place that an accepted commit named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// A place in a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
}

/// An answer of the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// It was given slices, or none, by a rebalance.
    Assigned,
    CommitAccepted,
    CommitRefused,
}

/// The folder.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// An empty one: what an earlier run left there is removed.
    ///
    /// # Errors
    /// It cannot be written to.
    pub fn create(path: PathBuf) -> anyhow::Result<Self> {
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    /// One that a run left.
    pub fn of(path: PathBuf) -> Self {
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(super) fn write<T: Serialize>(&self, name: &str, lines: &[T]) -> anyhow::Result<()> {
        let mut file = self.lines(name)?;
        lines.iter().try_for_each(|line| file.put(line))?;
        file.finish()
    }

    pub(super) fn lines(&self, name: &str) -> anyhow::Result<Lines> {
        Ok(Lines(BufWriter::new(File::create(self.file(name))?)))
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> anyhow::Result<Vec<T>> {
        let mut read = Vec::new();
        for line in BufReader::new(File::open(self.file(name))?).lines() {
            read.push(serde_json::from_str(&line?)?);
        }
        Ok(read)
    }
}

/// A file that is being written.
pub(super) struct Lines(BufWriter<File>);

impl Lines {
    pub(super) fn put<T: Serialize>(&mut self, line: &T) -> anyhow::Result<()> {
        serde_json::to_writer(&mut self.0, line)?;
        Ok(self.0.write_all(b"\n")?)
    }

    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        Ok(self.0.flush()?)
    }
}

/// All of a folder.
pub struct Journal {
    pub setting: Setting,
    pub actions: Vec<Action>,
    pub events: Vec<Event>,
    pub requests: Vec<Receipt>,
    pub attempts: Vec<Attempted>,
    pub commits: Vec<Committed>,
    pub sayings: Vec<Saying>,
}

impl Journal {
    /// Reads it.
    ///
    /// # Errors
    /// A file is missing, or holds something else.
    pub fn read(folder: &Folder) -> anyhow::Result<Self> {
        let setting = fs::read(folder.file("setting.json"))?;
        Ok(Self {
            setting: serde_json::from_slice(&setting)?,
            actions: folder.read("actions.jsonl")?,
            events: folder.read("events.jsonl")?,
            requests: folder.read("requests.jsonl")?,
            attempts: folder.read("attempts.jsonl")?,
            commits: folder.read("commits.jsonl")?,
            sayings: folder.read("sayings.jsonl")?,
        })
    }
}
