//! What Postrider wrote, as anyone reads it: by the names of the contract, not by our own types.

use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::kcat::Read;
use crate::millis;

/// A record of `attempts`.
#[derive(Clone, Debug, Deserialize)]
pub struct Attempt {
    pub delivery_id: String,
    /// What was to be delivered.
    pub event: Event,
    pub endpoint_id: String,
    pub attempt: u32,
    started_at: String,
    duration_ms: f64,
    pub outcome: String,
    pub reason: Option<String>,
    next_attempt_at: Option<String>,
    pub worker: String,
    /// The slice of the endpoint.
    pub slice: u16,
    /// The ownership of the slice it was made under.
    pub epoch: u64,
    pub response: Option<Response>,
    pub error: Option<Error>,
    request: Option<IgnoredAny>,
    /// When the record was handed to the producer, ms since the epoch.
    #[serde(skip)]
    pub written_ms: u64,
}

/// The event in it.
#[derive(Clone, Debug, Deserialize)]
pub struct Event {
    pub id: String,
}

/// The response in it.
#[derive(Clone, Debug, Deserialize)]
pub struct Response {
    pub status: u16,
}

/// Why there is no response, or not all of it.
#[derive(Clone, Debug, Deserialize)]
pub struct Error {
    pub kind: String,
    pub message: String,
}

impl Attempt {
    /// When it began, ms since the epoch.
    pub fn started_ms(&self) -> u64 {
        instant(&self.started_at)
    }

    /// When it ended, ms since the epoch.
    pub fn ended_ms(&self) -> u64 {
        let took = Duration::from_secs_f64(self.duration_ms / 1_000.0);
        self.started_ms() + u64::try_from(took.as_millis()).expect("at most a minute")
    }

    /// When the next one is due, ms since the epoch.
    pub fn next_ms(&self) -> Option<u64> {
        self.next_attempt_at.as_deref().map(instant)
    }

    /// Whether there was a request; else the record says how the delivery ended without one.
    pub fn requested(&self) -> bool {
        self.request.is_some()
    }

    /// The id of the process that made it.
    pub fn pid(&self) -> u32 {
        let pid = self
            .worker
            .rsplit('-')
            .next()
            .and_then(|pid| pid.parse().ok());
        pid.unwrap_or_else(|| panic!("no process id at the end of {:?}", self.worker))
    }

    /// Whether the process of this id made it.
    pub fn is_by(&self, pid: u32) -> bool {
        self.worker.ends_with(&format!("-{pid}"))
    }
}

fn instant(text: &str) -> u64 {
    let parsed = humantime::parse_rfc3339(text);
    millis(parsed.unwrap_or_else(|error| panic!("{text:?}: {error}")))
}

pub(crate) fn attempt(read: &Read) -> Attempt {
    let value = read.value.as_deref().expect("an attempt has a value");
    attempt_of(value, read.timestamp_ms)
}

pub(crate) fn attempt_of(value: &[u8], written_ms: u64) -> Attempt {
    let mut attempt: Attempt = serde_json::from_slice(value)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(value)));
    attempt.written_ms = written_ms;
    attempt
}

/// A record of `dead-letters`.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    pub key: Option<String>,
    /// `None` = null.
    pub value: Option<Vec<u8>>,
    headers: Vec<(String, String)>,
}

impl DeadLetter {
    /// The last header of that name; empty when there is none.
    pub fn header(&self, name: &str) -> &str {
        let mut backwards = self.headers.iter().rev();
        let found = backwards.find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }
}

impl From<Read> for DeadLetter {
    fn from(read: Read) -> Self {
        let key = read.key;
        Self {
            key: key.map(|key| String::from_utf8(key).expect("endpoint ids are ASCII")),
            value: read.value,
            headers: read.headers,
        }
    }
}
