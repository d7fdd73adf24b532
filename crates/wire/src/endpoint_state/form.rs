//! The values of `endpoint-state` as they are written.
//!
//! Decides names, units and shapes, and how lists of times and offsets are kept short: each entry
//! is the distance to the one before it.

use std::borrow::Cow;

use postrider_domain::{BacklogMemory, Head, LimiterMemory, Remembered, Reserved, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The version that is written, and the only one that is read.
pub(super) const VERSION: u64 = 1;

/// The value of a record of `endpoint-state`: a fence where the key is `@fence`, otherwise what is
/// remembered of the endpoint that is the key. Nothing remembered is a null value.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "EndpointState")]
pub(crate) enum StateForm<'a> {
    /// An ownership of the slice began.
    Fence(FenceForm<'a>),
    /// What is remembered of an endpoint.
    Memory(MemoryForm),
}

/// An ownership of the slice began: records of lower epochs that follow do not count.
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Fence")]
pub(crate) struct FenceForm<'a> {
    /// Version of this form, 1.
    pub(super) v: u64,
    /// The number of this ownership, also in the header `pr_epoch`.
    pub(super) epoch: u64,
    /// Who began it: 16 hex digits, unlike those of any other try to own a slice.
    #[serde(with = "hex")]
    #[schemars(with = "String", extend("pattern" = "^[0-9a-f]{16}$"))]
    pub(super) claimant: u64,
    /// The worker's name; for people.
    #[serde(default)]
    pub(super) worker: Option<Cow<'a, str>>,
    /// When, RFC 3339; for people.
    #[serde(default)]
    pub(super) at: Option<Cow<'a, str>>,
}

/// What the owner of a slice remembers of an endpoint. A part that is absent is not remembered.
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Memory")]
pub(crate) struct MemoryForm {
    /// Version of this form, 1.
    v: u64,
    /// The ownership that wrote it, also in the header `pr_epoch`.
    pub(super) epoch: u64,
    /// Attempts that count against its rate limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    limiter: Option<LimiterForm>,
    /// How far its backlog is settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    backlog: Option<BacklogForm>,
    /// The version of the endpoint whose receiver answered, confirmed, that it is gone (410).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gone: Option<u64>,
}

/// Attempts that count against a rate limit.
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Limiter")]
struct LimiterForm {
    /// Groups of attempts that started, oldest first: the latest start of the group, and how many.
    /// The first time is in microseconds since 1970, each further one in microseconds since the one
    /// before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    starts: Vec<(u64, u32)>,
    /// Attempts that may have started since this was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reserved: Option<ReservedForm>,
}

/// Attempts that may start without being written one by one.
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Reserved")]
struct ReservedForm {
    /// How many.
    attempts: u32,
    /// None of them starts later, in microseconds since 1970.
    until_us: u64,
}

/// How far a backlog is settled: everything below `position` but the holes.
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Backlog")]
struct BacklogForm {
    /// Offset in `backlog`.
    #[schemars(range(min = 0))]
    position: i64,
    /// Offsets below `position` that are not settled, ascending. The first is an offset, each
    /// further one the distance from the one before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    holes: Vec<i64>,
    /// Failed deliveries that later ones of their ordering key wait for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    heads: Vec<HeadForm>,
}

/// A failed delivery that later ones wait for.
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Head")]
struct HeadForm {
    /// Its offset in `backlog`.
    #[schemars(range(min = 0))]
    offset: i64,
    /// Hash of its ordering key, 16 hex digits.
    #[serde(with = "hex")]
    #[schemars(with = "String", extend("pattern" = "^[0-9a-f]{16}$"))]
    key: u64,
    /// Attempts made.
    attempts: u32,
    /// When it is tried again, in microseconds since 1970; absent = not before it is released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    due_us: Option<u64>,
}

impl MemoryForm {
    pub(super) fn of(epoch: u64, remembered: &Remembered) -> Self {
        Self {
            v: VERSION,
            epoch,
            limiter: remembered.limiter.as_ref().map(LimiterForm::of),
            backlog: remembered.backlog.as_ref().map(BacklogForm::of),
            gone: remembered.gone,
        }
    }

    /// What it says, or why it cannot be.
    pub(super) fn remembered(self) -> Result<Remembered, String> {
        Ok(Remembered {
            limiter: self.limiter.map(LimiterForm::memory).transpose()?,
            backlog: self.backlog.map(BacklogForm::memory).transpose()?,
            gone: self.gone,
        })
    }
}

impl LimiterForm {
    /// A time before the one ahead of it is written as that one: late, so that no limit is passed.
    fn of(memory: &LimiterMemory) -> Self {
        let mut last = 0;
        let mut distance = |(time, attempts): &(Timestamp, u32)| {
            let time = time.as_micros().max(last);
            (time - std::mem::replace(&mut last, time), *attempts)
        };
        Self {
            starts: memory.starts.iter().map(&mut distance).collect(),
            reserved: memory.reserved.map(|reserved| ReservedForm {
                attempts: reserved.attempts,
                until_us: reserved.until.as_micros(),
            }),
        }
    }

    fn memory(self) -> Result<LimiterMemory, String> {
        let mut last = 0_u64;
        let mut start = |(distance, attempts): (u64, u32)| {
            last = last.checked_add(distance)?;
            Some((Timestamp::from_micros(last), attempts))
        };
        let starts: Option<_> = self.starts.into_iter().map(&mut start).collect();
        Ok(LimiterMemory {
            starts: starts.ok_or("limiter.starts: a time past the last there is")?,
            reserved: self.reserved.map(|reserved| Reserved {
                attempts: reserved.attempts,
                until: Timestamp::from_micros(reserved.until_us),
            }),
        })
    }
}

impl BacklogForm {
    fn of(memory: &BacklogMemory) -> Self {
        let mut last = 0;
        let mut distance = |hole: &i64| hole.saturating_sub(std::mem::replace(&mut last, *hole));
        Self {
            position: memory.position,
            holes: memory.holes.iter().map(&mut distance).collect(),
            heads: memory.heads.iter().map(HeadForm::of).collect(),
        }
    }

    /// Whatever is an offset here is read from, so none is negative: to Kafka's clients negative
    /// offsets are words, such as "the end".
    fn memory(self) -> Result<BacklogMemory, String> {
        if self.position < 0 || self.heads.iter().any(|head| head.offset < 0) {
            return Err("backlog: a negative offset".to_owned());
        }
        let mut holes: Vec<i64> = Vec::with_capacity(self.holes.len());
        for distance in self.holes {
            let hole = match holes.last() {
                None => Some(distance).filter(|first| *first >= 0),
                Some(last) if distance > 0 => last.checked_add(distance),
                Some(_) => None,
            };
            match hole {
                Some(hole) if hole < self.position => holes.push(hole),
                _ => {
                    return Err(format!(
                        "backlog.holes: expected offsets below the position {}, ascending",
                        self.position
                    ));
                }
            }
        }
        Ok(BacklogMemory {
            position: self.position,
            holes,
            heads: self.heads.iter().map(HeadForm::head).collect(),
        })
    }
}

impl HeadForm {
    fn of(head: &Head) -> Self {
        Self {
            offset: head.offset,
            key: head.key,
            attempts: head.attempts,
            due_us: head.due.map(Timestamp::as_micros),
        }
    }

    fn head(&self) -> Head {
        Head {
            offset: self.offset,
            key: self.key,
            attempts: self.attempts,
            due: self.due_us.map(Timestamp::from_micros),
        }
    }
}

/// 64 bits as 16 hex digits: many readers of JSON round whole numbers above 2^53.
mod hex {
    use std::borrow::Cow;

    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    pub(super) fn serialize<S: Serializer>(bits: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{bits:016x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        let digits = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let bits = digits
            .then(|| u64::from_str_radix(&text, 16).ok())
            .flatten();
        bits.ok_or_else(|| D::Error::custom("expected 16 hex digits"))
    }
}
