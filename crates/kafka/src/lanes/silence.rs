//! When a lane that says nothing is looked at, and what the looks come to.
//!
//! Decides when silence is suspicious and when it is an alarm: librdkafka says nothing of a deleted
//! topic, names no lane whose offset is out of range, and may forget a partition it should fetch.
//! No clock here, no Kafka: times and findings are arguments.

use std::time::{Duration, Instant};

/// How long what is waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Without a record until a lane is looked at, and between its looks.
    pub(crate) silence: Duration,
    /// Until a lane outside its log is looked at again: a new leader's log may end short for a
    /// moment.
    pub(crate) outside: Duration,
    /// Until one that does not exist is: a broker that just started may not know everything yet.
    pub(crate) absent: Duration,
    /// Without a record from any lane, while there are some to be read, until the reader as a whole
    /// counts as stalled.
    pub(crate) all: Duration,
}

impl Patience {
    pub(crate) const USUAL: Self = Self {
        silence: Duration::from_secs(10),
        outside: Duration::from_secs(1),
        absent: Duration::from_secs(5),
        all: Duration::from_secs(60),
    };
}

/// What a look at a lane found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// There is nothing to be read.
    AtEnd,
    /// There is a record to be read: another client was given it.
    Ahead {
        /// The end of the log.
        high: i64,
    },
    /// The next offset is not in the log.
    Outside {
        /// The oldest offset.
        low: i64,
        /// The end of the log.
        high: i64,
    },
    /// There is no such topic or partition.
    Absent,
    /// Nobody answered.
    Unknown,
}

/// What is to be done about a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    /// Nothing.
    None,
    /// Start to read it anew, at the same offset.
    Replace,
    /// The same, and say that it stalls.
    Stalled {
        /// The end of the log.
        high: i64,
    },
    /// Stop it: its offset is not in the log.
    OutOfRange {
        /// The oldest offset.
        low: i64,
        /// The end of the log.
        high: i64,
    },
    /// Stop it: it does not exist.
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Suspicion {
    None,
    Outside,
    Absent,
    /// Records are there; it was placed anew once.
    Ahead,
    /// That did not help, and was said.
    Stalled,
}

/// The silence of one lane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Silence {
    look_at: Instant,
    suspicion: Suspicion,
    /// librdkafka lost its place in some lane, perhaps in this one: it must be placed anew if the
    /// next look finds its offset in the log.
    astray: bool,
}

impl Silence {
    pub(crate) fn new(now: Instant, patience: &Patience) -> Self {
        Self {
            look_at: now + patience.silence,
            suspicion: Suspicion::None,
            astray: false,
        }
    }

    /// A record came.
    pub(crate) fn heard(&mut self, now: Instant, patience: &Patience) {
        *self = Self::new(now, patience);
    }

    /// librdkafka lost its place in some lane.
    pub(crate) fn astray(&mut self, now: Instant) {
        self.astray = true;
        self.look_at = self.look_at.min(now);
    }

    /// Whether the lane is to be looked at; one that is above suspicion may be by `soon`.
    pub(crate) fn is_due(&self, now: Instant, soon: Instant) -> bool {
        let calm = self.suspicion == Suspicion::None;
        self.look_at <= if calm { soon } else { now }
    }

    /// The last look found records that did not come.
    pub(crate) const fn is_ahead(&self) -> bool {
        matches!(self.suspicion, Suspicion::Ahead | Suspicion::Stalled)
    }

    /// Takes in a look. `crowded`: the receiver of the records was slow meanwhile, which explains
    /// that none came.
    pub(crate) fn judge(
        &mut self,
        now: Instant,
        patience: &Patience,
        finding: Finding,
        crowded: bool,
    ) -> Measure {
        self.look_at = now + patience.silence;
        let in_its_log = matches!(finding, Finding::AtEnd | Finding::Ahead { .. });
        let astray = in_its_log && std::mem::take(&mut self.astray);
        match finding {
            Finding::Ahead { high } if !crowded => {
                let before = self.suspicion;
                self.suspicion = match before {
                    Suspicion::Ahead | Suspicion::Stalled => Suspicion::Stalled,
                    _ => Suspicion::Ahead,
                };
                match before {
                    Suspicion::Ahead => Measure::Stalled { high },
                    _ => Measure::Replace,
                }
            }
            Finding::AtEnd | Finding::Ahead { .. } => {
                self.suspicion = Suspicion::None;
                if astray {
                    Measure::Replace
                } else {
                    Measure::None
                }
            }
            Finding::Outside { low, high } => {
                self.look_at = now + patience.outside;
                match std::mem::replace(&mut self.suspicion, Suspicion::Outside) {
                    Suspicion::Outside => Measure::OutOfRange { low, high },
                    _ => Measure::None,
                }
            }
            Finding::Absent => {
                self.look_at = now + patience.absent;
                match std::mem::replace(&mut self.suspicion, Suspicion::Absent) {
                    Suspicion::Absent => Measure::Lost,
                    _ => Measure::None,
                }
            }
            Finding::Unknown => Measure::None,
        }
    }
}

/// The silence of all lanes together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Standstill {
    /// Since when records are there and none came from any lane.
    since: Option<Instant>,
}

impl Standstill {
    /// A record came, or the receiver of the records was slow.
    pub(crate) fn heard(&mut self) {
        self.since = None;
    }

    /// Takes in how many lanes have records that do not come; `true` once in a while that this
    /// lasts.
    pub(crate) fn judge(&mut self, now: Instant, patience: &Patience, ahead: usize) -> bool {
        if ahead == 0 {
            self.since = None;
            return false;
        }
        let since = *self.since.get_or_insert(now);
        let stalled = now.duration_since(since) >= patience.all;
        if stalled {
            self.since = Some(now);
        }
        stalled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: Patience = Patience::USUAL;
    const AHEAD: Finding = Finding::Ahead { high: 9 };
    const OUTSIDE: Finding = Finding::Outside { low: 0, high: 3 };

    /// A lane whose looks are judged when they are due.
    struct Lane {
        now: Instant,
        silence: Silence,
    }

    impl Lane {
        fn new() -> Self {
            let now = Instant::now();
            let silence = Silence::new(now, &P);
            Self { now, silence }
        }

        fn look(&mut self, finding: Finding) -> Measure {
            self.now = self.silence.look_at;
            self.silence.judge(self.now, &P, finding, false)
        }

        fn looks(&mut self, findings: &[Finding]) -> Vec<Measure> {
            findings.iter().map(|f| self.look(*f)).collect()
        }

        fn waits(&self) -> Duration {
            self.silence.look_at - self.now
        }
    }

    #[test]
    fn a_lane_that_was_heard_is_left_alone_for_a_while() {
        let mut lane = Lane::new();
        assert_eq!(lane.waits(), P.silence);
        lane.now += P.silence / 2;
        lane.silence.heard(lane.now, &P);
        assert_eq!(lane.waits(), P.silence);
    }

    #[test]
    fn idle_lanes_may_be_looked_at_together_and_suspects_in_their_time() {
        let mut lane = Lane::new();
        let soon = |lane: &Lane| lane.now + lane.waits();
        assert!(!lane.silence.is_due(lane.now, lane.now));
        assert!(lane.silence.is_due(lane.now, soon(&lane)));
        lane.look(Finding::Absent);
        assert!(!lane.silence.is_due(lane.now, soon(&lane)));
        assert!(lane.silence.is_due(soon(&lane), soon(&lane)));
    }

    #[test]
    fn silence_at_the_end_is_as_it_should_be() {
        let mut lane = Lane::new();
        assert_eq!(lane.looks(&[Finding::AtEnd; 3]), [Measure::None; 3]);
        assert!(!lane.silence.is_ahead());
    }

    #[test]
    fn a_lane_that_misses_records_is_placed_anew_before_it_is_said() {
        let mut lane = Lane::new();
        assert_eq!(lane.look(AHEAD), Measure::Replace);
        assert_eq!(lane.waits(), P.silence);
        assert_eq!(lane.look(AHEAD), Measure::Stalled { high: 9 });
        // It is tried again and again, and said once.
        assert_eq!(lane.look(AHEAD), Measure::Replace);
        assert_eq!(lane.look(AHEAD), Measure::Replace);
        assert!(lane.silence.is_ahead());
        lane.silence.heard(lane.now, &P);
        assert!(!lane.silence.is_ahead());
        let measures = lane.looks(&[AHEAD, AHEAD]);
        assert_eq!(measures, [Measure::Replace, Measure::Stalled { high: 9 }]);
    }

    #[test]
    fn a_slow_receiver_explains_silence() {
        let mut lane = Lane::new();
        let now = lane.silence.look_at;
        assert_eq!(lane.silence.judge(now, &P, AHEAD, true), Measure::None);
        assert!(!lane.silence.is_ahead());
    }

    #[test]
    fn what_nobody_answered_changes_nothing() {
        let mut lane = Lane::new();
        let measures = lane.looks(&[AHEAD, Finding::Unknown, AHEAD]);
        let expected = [
            Measure::Replace,
            Measure::None,
            Measure::Stalled { high: 9 },
        ];
        assert_eq!(measures, expected);
        let measures = lane.looks(&[Finding::Absent, Finding::Unknown, Finding::Absent]);
        assert_eq!(measures, [Measure::None, Measure::None, Measure::Lost]);
    }

    #[test]
    fn only_a_second_look_stops_a_lane() {
        let mut lane = Lane::new();
        assert_eq!(lane.look(OUTSIDE), Measure::None);
        assert_eq!(lane.waits(), P.outside);
        // A new leader knows better.
        assert_eq!(lane.look(Finding::AtEnd), Measure::None);
        assert_eq!(lane.look(OUTSIDE), Measure::None);
        let stopped = Measure::OutOfRange { low: 0, high: 3 };
        assert_eq!(lane.look(OUTSIDE), stopped);

        let mut lane = Lane::new();
        assert_eq!(lane.look(Finding::Absent), Measure::None);
        assert_eq!(lane.waits(), P.absent);
        assert_eq!(lane.look(OUTSIDE), Measure::None);
        assert_eq!(lane.look(Finding::Absent), Measure::None);
        assert_eq!(lane.look(Finding::Absent), Measure::Lost);
    }

    #[test]
    fn a_lane_that_may_have_lost_its_place_is_looked_at_now_and_placed_anew() {
        let mut lane = Lane::new();
        lane.silence.astray(lane.now);
        assert_eq!(lane.waits(), Duration::ZERO);
        // What is not known yet does not absolve it.
        assert_eq!(lane.look(Finding::Unknown), Measure::None);
        assert_eq!(lane.look(Finding::AtEnd), Measure::Replace);
        assert_eq!(lane.look(Finding::AtEnd), Measure::None);
    }

    #[test]
    fn the_reader_stalls_when_no_lane_speaks_though_some_could() {
        let start = Instant::now();
        let mut all = Standstill::default();
        let mut judge = |seconds, ahead| {
            let now = start + Duration::from_secs(seconds);
            all.judge(now, &P, ahead)
        };
        assert!(!judge(0, 0));
        // Idle for long does not count, only since there is something to be read.
        assert!(!judge(500, 1));
        assert!(!judge(559, 3));
        assert!(judge(560, 3));
        assert!(!judge(570, 3));
        assert!(judge(620, 3), "as long as it lasts");
        assert!(!judge(630, 0));
        assert!(!judge(680, 1));
        all.heard();
        assert!(!all.judge(start + Duration::from_secs(745), &P, 1));
    }
}
