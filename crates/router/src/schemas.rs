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
        if self.registry.is_none() {
            return Vec::new();
        }
        let Some(frames) = Frames::of(record, rule) else {
            return Vec::new();
        };
        let now = Instant::now();
        if frames.value.is_none() {
            return self.missing_for_key(&frames, now);
        }
        let missing = frames.ids().filter(|id| !self.known.has(*id, now));
        let missing: Vec<_> = missing.collect();
        for id in &missing {
            self.ask(*id);
        }
        missing
    }

    /// Those of a key alone. It is forwarded as it is when there is no schema, so one that was none
    /// is asked for again, but not waited for: a key of eight bytes may be a number that looks like
    /// a frame, and would stop its partition again and again.
    fn missing_for_key(&mut self, frames: &Frames, now: Instant) -> Vec<SchemaId> {
        let (mut missing, known) = (Vec::new(), &self.known);
        let unknown: Vec<_> = frames.ids().filter(|id| !known.has(*id, now)).collect();
        for id in unknown {
            self.ask(id);
            if !self.known.schemas.contains_key(&id) {
                missing.push(id);
            }
        }
        missing
    }

    fn ask(&mut self, id: SchemaId) {
        if let Some(registry) = &self.registry
            && self.asked.insert(id)
        {
            registry.ask(id);
        }
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
        let Some(value) = &frames.value else {
            let key = frames.key.as_ref().filter(|_| self.registry.is_some());
            // What cannot be read was not framed: any bytes may be a key.
            let read = key.and_then(|frame| self.read("key", record.key.as_ref(), frame).ok());
            return Ok(read.map(|key| event::unframed(record, None, Some(key))));
        };
        if self.registry.is_none() {
            return Err(Undeliverable::undecodable(format!(
                "its value is framed for a schema registry (schema {}), and there is none in the \
                 configuration (schema_registry.url)",
                value.schema
            )));
        }
        let value = self.read("value", record.value.as_ref(), value)?;
        let key = match &frames.key {
            None => None,
            Some(frame) => Some(self.read("key", record.key.as_ref(), frame)?),
        };
        Ok(Some(event::unframed(record, Some(value), key)))
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

/// How a record is framed: its value, its key or both.
struct Frames {
    value: Option<Frame>,
    key: Option<Frame>,
}

impl Frames {
    /// `None` when neither is, or a frame would mean nothing. A key is looked at whatever the value
    /// is: an event without data has the key, and the place in its order, of those with data.
    fn of(record: &Record, rule: &DecodeRule) -> Option<Self> {
        let value = record.value.as_deref();
        let value = value.and_then(|value| frame(value, record.header("__value_schema_id")));
        let key = record.key.as_deref();
        let key = key.and_then(|key| frame(key, record.header("__key_schema_id")));
        if (value.is_none() && key.is_none()) || !event::takes_frames(record, rule) {
            return None;
        }
        let key = key.filter(|_| event::reads_key(rule));
        (value.is_some() || key.is_some()).then_some(Self { value, key })
    }

    /// Their schemas, each once.
    fn ids(&self) -> impl Iterator<Item = SchemaId> {
        let id = |frame: &Option<Frame>| frame.as_ref().map(|frame| frame.schema);
        let (value, key) = (id(&self.value), id(&self.key));
        value.into_iter().chain(key.filter(|_| key != value))
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

    fn schemas() -> Schemas {
        let settings = RegistrySettings {
            url: "http://127.0.0.1:1".to_owned(),
            credentials: postrider_registry::Credentials::None,
            ca_file: None,
        };
        let mut schemas = Schemas::start(Some(settings), Metrics::new("test")).unwrap();
        let string = Schema::new(Kind::Avro, "\"string\"", &[]).unwrap();
        let string = Answer::Schema(Arc::new(string), 8);
        schemas
            .known
            .learn(SchemaId::Number(5), string, Instant::now());
        schemas
    }

    fn outbox_row(key: &'static [u8], value: Option<&'static [u8]>) -> Record {
        Record {
            origin: postrider_domain::Origin {
                topic: "outbox.event.payment".into(),
                partition: 0,
                offset: 0,
            },
            timestamp: postrider_domain::Timestamp::from_millis(0),
            key: Some(Bytes::from_static(key)),
            value: value.map(Bytes::from_static),
            headers: vec![("id".into(), Some(Bytes::from_static(b"evt_1")))],
        }
    }

    fn ordering_key(schemas: &mut Schemas, record: &Record) -> String {
        let rule = DecodeRule::Outbox(postrider_wire::OutboxMapping::default());
        assert_eq!(schemas.missing(record, &rule), []);
        let unframed = schemas.unframed(record, &rule).unwrap();
        let event = event::decode(unframed.as_ref().unwrap_or(record), &rule).unwrap();
        String::from(event.ordering_key.unwrap())
    }

    #[test]
    fn a_framed_key_is_the_same_whatever_the_value_is() {
        let mut schemas = schemas();
        for value in [Some(&b"\0\0\0\0\x05\x04{}"[..]), None, Some(b"{}")] {
            let row = outbox_row(b"\0\0\0\0\x05\x0apay_7", value);
            assert_eq!(ordering_key(&mut schemas, &row), "pay_7", "{value:?}");
        }
        // Without a registry it is what it was.
        let row = outbox_row(b"\0\0\0\0\x05\x0apay_7", None);
        let mut without = Schemas::start(None, Metrics::new("test")).unwrap();
        let key = ordering_key(&mut without, &row);
        assert_eq!(key, "\0\0\0\0\u{5}\npay_7");
    }

    #[test]
    fn a_key_that_only_looks_framed_stays_what_it_is_and_waits_once() {
        let mut schemas = schemas();
        let number = |n: u8| -> &'static [u8] { vec![0, 0, 0, 0, n, 0, 0, 9].leak() };
        // 9 is no text of that schema.
        let of_a_schema = outbox_row(number(5), Some(b"{}"));
        assert_eq!(
            ordering_key(&mut schemas, &of_a_schema),
            "\0\0\0\0\u{5}\0\0\t"
        );
        let of_none = outbox_row(number(6), Some(b"{}"));
        let rule = DecodeRule::Outbox(postrider_wire::OutboxMapping::default());
        let id = SchemaId::Number(6);
        assert_eq!(schemas.missing(&of_none, &rule), [id]);
        schemas.asked.remove(&id);
        let long_ago = Instant::now()
            .checked_sub(NONE_FOR)
            .expect("a clock that old");
        schemas
            .known
            .learn(id, Answer::None("none".into()), long_ago);
        assert_eq!(ordering_key(&mut schemas, &of_none), "\0\0\0\0\u{6}\0\0\t");
        assert!(schemas.asked.contains(&id), "asked for again");
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
