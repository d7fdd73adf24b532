//! What framed values are written in: the schemas that are known, and those that are asked for.
//!
//! Decides how many schemas are remembered, that one is asked for once, how long "there is none" is
//! believed, and what is told while the registry does not answer. Leaves asking to `registry`,
//! reading values to `schema`, and who waits to `standing`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use postrider_domain::Record;
use postrider_registry::{Answer, Event, Registry, RegistryError, RegistrySettings};
use postrider_schema::{Frame, Schema, SchemaId, Unreadable, frame};
use postrider_telemetry::Metrics;
use postrider_wire::{DecodeRule, EVENT_BYTES_MAX, Undeliverable, event};
use tracing::{error, info, warn};

/// Most schemas that are remembered, those that are none included; the one used longest ago goes.
const KNOWN_MAX: usize = 1_000;
/// What they may cost together, in bytes, about.
const BYTES_MAX: usize = 64 << 20;
/// What each costs beside what it says itself.
const COST_BESIDE: usize = 16 << 10;
/// After that, a schema that was none is asked for again.
const NONE_FOR: Duration = Duration::from_secs(60);
/// How often it is told that the registry does not answer.
const TELL: Duration = Duration::from_secs(60);

pub(crate) struct Schemas {
    registry: Option<Registry>,
    known: Known,
    /// Without an answer yet.
    asked: HashSet<SchemaId>,
    outage: Option<Outage>,
    metrics: Metrics,
}

struct Outage {
    since: Instant,
    told_at: Instant,
}

impl Schemas {
    pub(crate) fn start(
        settings: Option<RegistrySettings>,
        metrics: Metrics,
    ) -> Result<Self, RegistryError> {
        Ok(Self {
            registry: settings.map(Registry::start).transpose()?,
            known: Known::default(),
            asked: HashSet::new(),
            outage: None,
            metrics,
        })
    }

    /// The schemas without which a record cannot be read; they are asked for.
    pub(crate) fn missing(&mut self, record: &Record, rule: &DecodeRule) -> Vec<SchemaId> {
        let Some(registry) = &self.registry else {
            return Vec::new();
        };
        let Some(frames) = Frames::of(record, rule) else {
            return Vec::new();
        };
        let now = Instant::now();
        let (value, key) = (frames.value.schema, frames.key.map(|key| key.schema));
        let ids = [Some(value), key.filter(|key| *key != value)];
        let missing = ids.into_iter().flatten();
        let missing: Vec<_> = missing.filter(|id| !self.known.has(*id, now)).collect();
        for id in &missing {
            if self.asked.insert(*id) {
                registry.ask(*id);
            }
        }
        missing
    }

    /// The record with JSON in place of what is framed; `None` when nothing is. The caller has asked
    /// [`Self::missing`].
    pub(crate) fn unframed(
        &mut self,
        record: &Record,
        rule: &DecodeRule,
    ) -> Result<Option<Record>, Undeliverable> {
        let Some(frames) = Frames::of(record, rule) else {
            return Ok(None);
        };
        if self.registry.is_none() {
            return Err(Undeliverable::undecodable(format!(
                "its value is framed for a schema registry (schema {}), and there is none in the \
                 configuration (schema_registry.url)",
                frames.value.schema
            )));
        }
        let value = self.read("value", record.value.as_ref(), &frames.value)?;
        let key = match &frames.key {
            None => None,
            Some(frame) => Some(self.read("key", record.key.as_ref(), frame)?),
        };
        Ok(Some(event::unframed(record, value, key)))
    }

    fn read(
        &mut self,
        part: &str,
        bytes: Option<&Bytes>,
        frame: &Frame,
    ) -> Result<Bytes, Undeliverable> {
        let id = frame.schema;
        let schema = self.known.get(id).map_err(|why| {
            Undeliverable::undecodable(format!("its {part} is of schema {id}: {why}"))
        })?;
        let bytes = bytes.cloned().unwrap_or_default();
        schema
            .read(&bytes, frame, EVENT_BYTES_MAX)
            .map_err(|unreadable| {
                let why = format!("its {part} is of schema {id}: {unreadable}");
                match unreadable {
                    Unreadable::Malformed(_) => Undeliverable::undecodable(why),
                    Unreadable::TooLarge(_) => Undeliverable::oversized(why),
                }
            })
    }

    /// The next schema that there is an answer for.
    pub(crate) fn next_answer(&mut self) -> Option<SchemaId> {
        loop {
            match self.registry.as_ref()?.events().try_recv().ok()? {
                Event::Failed(reason) => self.failed(&reason),
                Event::Answer(id, answer) => {
                    self.answered(id, answer);
                    return Some(id);
                }
            }
        }
    }

    fn failed(&mut self, reason: &str) {
        self.metrics.schema_request_failed();
        let now = Instant::now();
        let since = self.outage.as_ref().map_or(now, |outage| outage.since);
        let told = self.outage.as_ref().map(|outage| outage.told_at);
        if told.is_none_or(|told| now.duration_since(told) >= TELL) {
            self.outage = Some(Outage {
                since,
                told_at: now,
            });
            error!(
                reason,
                seconds = now.duration_since(since).as_secs(),
                schemas = self.asked.len(),
                "alarm: the schema registry does not answer; intake partitions with a record of a \
                 schema that is not known yet stand still, all others go on; nothing is lost or \
                 skipped"
            );
        }
    }

    fn answered(&mut self, id: SchemaId, answer: Answer) {
        self.asked.remove(&id);
        if self.asked.is_empty()
            && let Some(outage) = self.outage.take()
        {
            let seconds = outage.since.elapsed().as_secs();
            info!(seconds, "the schema registry answers again");
        }
        if let Answer::None(why) = &answer {
            warn!(schema = %id, %why, "records of this schema become dead letters");
        }
        self.known.learn(id, answer, Instant::now());
    }
}

/// How a record is framed.
struct Frames {
    value: Frame,
    key: Option<Frame>,
}

impl Frames {
    /// `None` when its value is not, or a frame would mean nothing.
    fn of(record: &Record, rule: &DecodeRule) -> Option<Self> {
        let value = frame(record.value.as_deref()?, record.header("__value_schema_id"))?;
        if !event::takes_frames(record, rule) {
            return None;
        }
        let key = record.key.as_deref().filter(|_| event::reads_key(rule));
        let key = key.and_then(|key| frame(key, record.header("__key_schema_id")));
        Some(Self { value, key })
    }
}

/// What is known of schemas.
#[derive(Default)]
struct Known {
    schemas: HashMap<SchemaId, Entry>,
    bytes: usize,
    uses: u64,
}

struct Entry {
    what: What,
    cost: usize,
    /// Grows with each use of any.
    used: u64,
}

enum What {
    Schema(Arc<Schema>),
    None { why: Arc<str>, until: Instant },
}

impl Known {
    /// Whether a schema, or that there is none, is known.
    fn has(&self, id: SchemaId, now: Instant) -> bool {
        match self.schemas.get(&id).map(|entry| &entry.what) {
            None => false,
            Some(What::Schema(_)) => true,
            Some(What::None { until, .. }) => now < *until,
        }
    }

    /// The schema, or why there is none.
    fn get(&mut self, id: SchemaId) -> Result<Arc<Schema>, Arc<str>> {
        let Some(entry) = self.schemas.get_mut(&id) else {
            return Err("it is not known".into());
        };
        self.uses += 1;
        entry.used = self.uses;
        match &entry.what {
            What::Schema(schema) => Ok(Arc::clone(schema)),
            What::None { why, .. } => Err(Arc::clone(why)),
        }
    }

    fn learn(&mut self, id: SchemaId, answer: Answer, now: Instant) {
        let (what, bytes) = match answer {
            Answer::Schema(schema, cost) => (What::Schema(schema), cost),
            Answer::None(why) => {
                let (bytes, until) = (why.len(), now + NONE_FOR);
                (What::None { why, until }, bytes)
            }
        };
        self.forget(id);
        let cost = COST_BESIDE + bytes;
        while self.schemas.len() >= KNOWN_MAX || self.bytes + cost > BYTES_MAX {
            let oldest = self.schemas.iter().min_by_key(|(_, entry)| entry.used);
            let Some(oldest) = oldest.map(|(id, _)| *id) else {
                break;
            };
            self.forget(oldest);
        }
        self.uses += 1;
        self.bytes += cost;
        let used = self.uses;
        self.schemas.insert(id, Entry { what, cost, used });
    }

    fn forget(&mut self, id: SchemaId) {
        if let Some(entry) = self.schemas.remove(&id) {
            self.bytes -= entry.cost;
        }
    }
}

#[cfg(test)]
mod tests {
    use postrider_schema::Kind;

    use super::*;

    fn schema(cost: usize) -> Answer {
        let schema = Schema::new(Kind::Json, "", &[]).unwrap();
        Answer::Schema(Arc::new(schema), cost)
    }

    #[test]
    fn the_schema_used_longest_ago_goes_first() {
        let now = Instant::now();
        let mut known = Known::default();
        let ids: Vec<_> = (1..=KNOWN_MAX as u32).map(SchemaId::Number).collect();
        for id in &ids {
            known.learn(*id, schema(1), now);
        }
        known.get(ids[0]).unwrap();
        known.learn(SchemaId::Number(5_000), schema(1), now);
        assert!(known.has(ids[0], now) && !known.has(ids[1], now));
        assert_eq!(known.schemas.len(), KNOWN_MAX);
    }

    #[test]
    fn what_schemas_cost_together_is_bounded() {
        let now = Instant::now();
        let mut known = Known::default();
        for id in 1..=100 {
            known.learn(SchemaId::Number(id), schema(16 << 20), now);
            assert!(known.bytes <= BYTES_MAX);
        }
        assert_eq!(known.schemas.len(), 3);
        assert!(known.has(SchemaId::Number(100), now));
    }

    #[test]
    fn that_there_is_none_is_believed_for_a_while() {
        let now = Instant::now();
        let mut known = Known::default();
        let id = SchemaId::Number(1);
        known.learn(id, Answer::None("why".into()), now);
        assert!(known.has(id, now) && !known.has(id, now + NONE_FOR));
        assert_eq!(known.get(id).map(drop), Err("why".into()));
        known.learn(id, schema(1), now);
        assert!(known.has(id, now + NONE_FOR) && known.get(id).is_ok());
    }
}
