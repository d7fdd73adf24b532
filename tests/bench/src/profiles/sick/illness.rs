//! What endpoints can have, and how many of them have it.
//!
//! Decides who is sick, by which way their requests come, and what the sink is told when they fall
//! ill. Leaves when that is, and what the healthy may feel of it, to the profile.

use clap::ValueEnum;
use serde::Serialize;

use crate::rig::Rig;
use crate::sink::order::{Behaviour, Connections};
use crate::sink::{Door, Sink};

/// Attempts in a second that an endpoint of [`Illness::Fifth`] takes.
pub const LIMIT: usize = 2;

/// An illness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Illness {
    /// Of 20 two never answer, one takes 5 s for each answer, one says 429
    Mixed,
    /// Of 5 one fails; all of these heal at once, and each has a limit of attempts in a second
    Fifth,
    /// Of 2 one takes 9.9 s for each answer
    Slow,
    /// Of 20 two do not answer to new connections
    Unreachable,
    /// Of 20 two do not answer within the TLS handshake; each request needs one
    Handshake,
}

const fn answer(status: u16, after_ms: u32) -> Behaviour {
    Behaviour::Answer { status, after_ms }
}

const SILENT: [Behaviour; 2] = [Behaviour::Hang; 2];
const MIXED: [Behaviour; 4] = [
    Behaviour::Hang,
    Behaviour::Hang,
    answer(200, 5_000),
    answer(429, 0),
];
const FAILING: [Behaviour; 1] = [answer(503, 0)];
const SLOW: [Behaviour; 1] = [answer(200, 9_900)];

impl Illness {
    /// What the first of each [`of`](Self::of) endpoints do while they are ill.
    const fn behaviours(self) -> &'static [Behaviour] {
        match self {
            Self::Mixed => &MIXED,
            Self::Fifth => &FAILING,
            Self::Slow => &SLOW,
            Self::Unreachable | Self::Handshake => &SILENT,
        }
    }

    const fn of(self) -> u32 {
        match self {
            Self::Mixed | Self::Unreachable | Self::Handshake => 20,
            Self::Fifth => 5,
            Self::Slow => 2,
        }
    }

    /// Whether an endpoint falls ill.
    pub const fn has(self, endpoint: u32) -> bool {
        ((endpoint % self.of()) as usize) < self.behaviours().len()
    }

    /// Attempts in a second that an endpoint takes; `None` = as many as come.
    pub fn limit(self, endpoint: u32) -> Option<usize> {
        (self == Self::Fifth && self.has(endpoint)).then_some(LIMIT)
    }

    /// By which way requests come to an endpoint, of so many.
    pub fn door(self, endpoint: u32, endpoints: u32) -> Door {
        match self {
            Self::Handshake => Door::Tls(endpoints),
            Self::Unreachable if self.has(endpoint) => Door::Side,
            Self::Mixed | Self::Fifth | Self::Slow | Self::Unreachable => Door::Main,
        }
    }

    /// What the sink does from the beginning on.
    ///
    /// # Errors
    /// The sink is gone.
    pub fn prepare(self, sink: &mut Sink) -> anyhow::Result<()> {
        match self {
            Self::Handshake => sink.connections(Connections::New),
            Self::Mixed | Self::Fifth | Self::Slow | Self::Unreachable => Ok(()),
        }
    }

    /// They fall ill, of so many endpoints.
    ///
    /// # Errors
    /// The sink is gone.
    pub fn begin(self, rig: &mut Rig, endpoints: u32) -> anyhow::Result<()> {
        if self == Self::Unreachable {
            return rig.sink.mute_side_door();
        }
        for (first, behaviour) in (0..).zip(self.behaviours()) {
            rig.sink.behave(first, endpoints, self.of(), *behaviour)?;
        }
        Ok(())
    }

    /// They are well again, all at once.
    ///
    /// # Errors
    /// The sink is gone.
    pub fn end(self, rig: &mut Rig, endpoints: u32) -> anyhow::Result<()> {
        if self == Self::Unreachable {
            return rig.sink.open_side_door();
        }
        rig.sink.behave(0, endpoints, 1, Behaviour::WELL)
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::Illness;

    #[test]
    fn as_many_are_sick_as_it_says() {
        let sick = |illness: &Illness| (0..1_000).filter(|number| illness.has(*number)).count();
        let counts: Vec<usize> = Illness::value_variants().iter().map(sick).collect();
        assert_eq!(counts, [200, 200, 500, 100, 100]);
    }
}
