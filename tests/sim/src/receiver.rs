//! The receivers behind the endpoints.
//!
//! Decides what becomes of a request that arrived: the answer, when it comes, and whether the
//! receiver acted on it. A receiver changes its mood as the run goes on, and at the end it heals
//! or stays dead for good.

use std::time::Duration;

use bytes::Bytes;
use postrider_domain::{AttemptError, AttemptResult, ErrorKind, Response};

use crate::clock::{MICROS, MINUTE, Micros};

/// How a receiver behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Takes everything within so long.
    Healthy { latency_max: Micros },
    /// Takes everything, after seconds.
    Slow,
    /// Accepts the connection and never answers.
    Hangs,
    /// Answers an error.
    Fails(u16),
    /// 429; with `Retry-After` in seconds or without.
    Asks(Option<u32>),
    /// Takes the request and breaks the connection.
    Resets,
    /// No connection.
    Refuses,
    /// One or the other, by the minute.
    Flaps,
    /// Some fail, some are taken.
    Mixed,
}

/// What becomes of a request.
#[derive(Debug)]
pub(crate) struct Reaction {
    pub(crate) result: AttemptResult,
    /// `None` = never, the sender gives up.
    pub(crate) after: Option<Duration>,
    /// The receiver acted on it.
    pub(crate) taken: bool,
}

impl Mood {
    /// One of the sick ones.
    pub(crate) fn sick(rng: &mut fastrand::Rng) -> Self {
        match rng.u8(..14) {
            0 => Self::Slow,
            1 | 2 => Self::Hangs,
            3 => Self::Fails(500),
            4 => Self::Fails(503),
            5 => Self::Fails(404),
            6 => Self::Fails(410),
            7 => Self::Asks(None),
            8 => Self::Asks(Some(rng.u32(1..600))),
            9 => Self::Resets,
            10 => Self::Refuses,
            11 => Self::Flaps,
            _ => Self::Mixed,
        }
    }

    pub(crate) fn healthy(rng: &mut fastrand::Rng) -> Self {
        let latency_max = [20_000, 200_000, 900_000][rng.usize(..3)];
        Self::Healthy { latency_max }
    }

    pub(crate) fn react(self, now: Micros, rng: &mut fastrand::Rng) -> Reaction {
        let soon = rng.u64(1_000..60_000);
        match self {
            Self::Healthy { latency_max } => status(200, rng.u64(1_000..=latency_max), &[]),
            Self::Slow => status(200, rng.u64(MICROS..14 * MICROS), &[]),
            Self::Hangs => Reaction {
                after: None,
                ..failure(ErrorKind::TimeoutHead, 0, true)
            },
            Self::Fails(code) => status(code, soon, &[]),
            Self::Asks(None) => status(429, soon, &[]),
            Self::Asks(Some(seconds)) => status(429, soon, &[("retry-after", seconds)]),
            Self::Resets => Reaction {
                taken: true,
                ..failure(ErrorKind::ResetHead, soon, true)
            },
            Self::Refuses => failure(ErrorKind::Connect, soon, false),
            Self::Flaps if (now / MINUTE).is_multiple_of(2) => status(200, soon, &[]),
            Self::Flaps => status(500, soon, &[]),
            Self::Mixed => match rng.u8(..4) {
                0 => status(500, soon, &[]),
                1 => Self::Hangs.react(now, rng),
                _ => status(200, rng.u64(1_000..2 * MICROS), &[]),
            },
        }
    }
}

fn status(status: u16, after: Micros, headers: &[(&str, u32)]) -> Reaction {
    let headers = headers.iter();
    let headers = headers.map(|(name, value)| (name, value.to_string()));
    Reaction {
        result: AttemptResult::Response(Response {
            status,
            headers: headers.collect(),
            body: Bytes::new(),
            truncated: false,
        }),
        after: Some(Duration::from_micros(after)),
        taken: (200..300).contains(&status),
    }
}

fn failure(kind: ErrorKind, after: Micros, ambiguous: bool) -> Reaction {
    Reaction {
        result: AttemptResult::Error(AttemptError {
            kind,
            message: "".into(),
            ambiguous,
        }),
        after: Some(Duration::from_micros(after)),
        taken: false,
    }
}
