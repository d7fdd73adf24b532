//! What a receiver of the sink does with a request, and how that is changed while it runs.
//!
//! Decides the words between the sink and whoever started it: a line of JSON per order, a line
//! per answer.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// What a receiver does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Behaviour {
    /// It answers with this status after so many milliseconds.
    Answer {
        /// The status.
        status: u16,
        /// The delay.
        after_ms: u32,
    },
    /// It reads the request and never answers; where it is alone on a host that speaks TLS, it
    /// does not answer to new connections either.
    Hang,
    /// It answers a delivery's first attempts up to this number with this status, and 200 to
    /// those that follow.
    RefuseUpTo {
        /// The last attempt that is refused.
        attempt: u16,
        /// The status.
        status: u16,
    },
}

impl Behaviour {
    /// 200 at once: what a receiver does that was told nothing else.
    pub const WELL: Self = Self::Answer {
        status: 200,
        after_ms: 0,
    };

    /// The status and the delay of the answer to an attempt; `None` = no answer.
    pub const fn to(self, attempt: u16) -> Option<(u16, u32)> {
        match self {
            Self::Answer { status, after_ms } => Some((status, after_ms)),
            Self::Hang => None,
            Self::RefuseUpTo {
                attempt: last,
                status,
            } => Some((if attempt <= last { status } else { 200 }, 0)),
        }
    }
}

/// An order to the sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// From now on these receivers do this.
    Behave {
        /// Whom it concerns.
        receivers: Range<u32>,
        /// Only each so many of them, the first included.
        step: u32,
        /// What they do.
        behaviour: Behaviour,
    },
    /// The side door refuses connections, and those there are are cut.
    CloseSideDoor,
    /// The side door does not answer to new connections, and those there are are cut.
    MuteSideDoor,
    /// It takes connections again.
    OpenSideDoor,
    /// What happens to connections from now on.
    Connections(Connections),
}

/// What becomes of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Connections {
    /// They are kept after an answer, as at first; TLS sessions can be resumed.
    Kept,
    /// An answer ends its connection, so that the next request needs a new one; TLS sessions can
    /// be resumed.
    New,
    /// The same, and TLS sessions cannot be resumed, those of before neither.
    NewWithoutSessions,
}

/// What the sink says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// The port that is always open.
    pub port: u16,
    /// The port that can be closed.
    pub side_door: u16,
    /// The port that speaks TLS.
    pub tls: u16,
}

#[cfg(test)]
mod tests {
    use super::Behaviour;

    #[test]
    fn first_attempts_are_refused_and_later_ones_are_not() {
        let behaviour = Behaviour::RefuseUpTo {
            attempt: 2,
            status: 422,
        };
        let statuses = [1, 2, 3, 4].map(|attempt| behaviour.to(attempt).map(|answer| answer.0));
        assert_eq!(statuses, [Some(422), Some(422), Some(200), Some(200)]);
        assert_eq!(Behaviour::Hang.to(1), None);
    }
}
