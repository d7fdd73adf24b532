//! When a lane that says nothing is looked at, and what the looks come to.
//!
//! Decides when silence is suspicious, when it costs a client its place, and when it is an alarm:
//! librdkafka says nothing of a deleted topic, names no lane whose offset is out of range, and may
//! forget a partition it should fetch.
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
    /// Without a record from any lane, while there are some to be read, until the client is made
    /// anew, and then between two renewals.
    pub(crate) renew: Duration,
    /// The same until the reader as a whole counts as stalled.
    pub(crate) all: Duration,
}

impl Patience {
    pub(crate) const USUAL: Self = Self {
        silence: Duration::from_secs(10),
        outside: Duration::from_secs(1),
        absent: Duration::from_secs(5),
        renew: Duration::from_secs(20),
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

/// What is to be done about the client that reads all lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// Nothing.
    None,
    /// Make it anew. Asked for at each judgement until [`Standstill::renewed`].
    Renew,
    /// Say that it is of no use, once in a while that this lasts.
    AllStalled,
}

/// The silence of all lanes together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Standstill {
    /// `None`: nothing waits, or some of it comes.
    waiting: Option<Waiting>,
}

/// Records are there and none came from any lane.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    /// Since it began, or the client was made anew.
    client: Instant,
    /// Since it began, or was said.
    said: Instant,
}

impl Standstill {
    /// A record came, or the receiver of the records was slow.
    pub(crate) fn heard(&mut self) {
        self.waiting = None;
    }

    /// The client was made anew.
    pub(crate) fn renewed(&mut self, now: Instant) {
        if let Some(waiting) = &mut self.waiting {
            waiting.client = now;
        }
    }

    /// Takes in how many lanes have records that do not come.
    pub(crate) fn judge(&mut self, now: Instant, patience: &Patience, ahead: usize) -> Remedy {
        if ahead == 0 {
            self.waiting = None;
            return Remedy::None;
        }
        let waiting = self.waiting.get_or_insert(Waiting {
            client: now,
            said: now,
        });
        if now.duration_since(waiting.said) >= patience.all {
            waiting.said = now;
            Remedy::AllStalled
        } else if now.duration_since(waiting.client) >= patience.renew {
            Remedy::Renew
        } else {
            Remedy::None
        }
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

    /// All lanes, judged at seconds from a start.
    struct All {
        start: Instant,
        standstill: Standstill,
    }

    impl All {
        fn new() -> Self {
            Self {
                start: Instant::now(),
                standstill: Standstill::default(),
            }
        }

        fn judge(&mut self, seconds: u64, ahead: usize) -> Remedy {
            let now = self.start + Duration::from_secs(seconds);
            self.standstill.judge(now, &P, ahead)
        }

        /// As a reader whose client can be made does.
        fn remedy(&mut self, seconds: u64, ahead: usize) -> Remedy {
            let remedy = self.judge(seconds, ahead);
            if remedy == Remedy::Renew {
                let now = self.start + Duration::from_secs(seconds);
                self.standstill.renewed(now);
            }
            remedy
        }
    }

    #[test]
    fn the_client_is_made_anew_every_20_s_that_records_wait_and_is_of_no_use_at_60() {
        let mut all = All::new();
        assert_eq!(all.remedy(0, 0), Remedy::None);
        // Idle for long does not count, only since there is something to be read.
        let remedies: Vec<(u64, Remedy)> = (500..=690)
            .map(|second| (second, all.remedy(second, 3)))
            .filter(|(_, remedy)| *remedy != Remedy::None)
            .collect();
        let expected = [
            (520, Remedy::Renew),
            (540, Remedy::Renew),
            // What is said goes first, and what is due is done next.
            (560, Remedy::AllStalled),
            (561, Remedy::Renew),
            (581, Remedy::Renew),
            (601, Remedy::Renew),
            (620, Remedy::AllStalled),
            (621, Remedy::Renew),
            (641, Remedy::Renew),
            (661, Remedy::Renew),
            (680, Remedy::AllStalled),
            (681, Remedy::Renew),
        ];
        assert_eq!(remedies, expected);
    }

    #[test]
    fn a_client_that_could_not_be_made_is_asked_for_again_at_the_next_judgement() {
        let mut all = All::new();
        assert_eq!(all.judge(0, 1), Remedy::None);
        assert_eq!(all.judge(20, 1), Remedy::Renew);
        assert_eq!(all.judge(30, 1), Remedy::Renew);
        assert_eq!(all.remedy(31, 1), Remedy::Renew);
        assert_eq!(all.judge(50, 1), Remedy::None);
        assert_eq!(all.judge(51, 1), Remedy::Renew);
        // It does not put off what is said.
        assert_eq!(all.judge(60, 1), Remedy::AllStalled);
    }

    #[test]
    fn a_record_or_nothing_to_be_read_ends_a_standstill() {
        let mut all = All::new();
        assert_eq!(all.judge(0, 1), Remedy::None);
        assert_eq!(all.judge(19, 0), Remedy::None);
        assert_eq!(all.judge(20, 1), Remedy::None);
        all.standstill.heard();
        // Late news of a renewal makes none.
        all.standstill.renewed(all.start);
        assert_eq!(all.judge(45, 1), Remedy::None);
        assert_eq!(all.judge(64, 1), Remedy::None);
        assert_eq!(all.judge(65, 1), Remedy::Renew);
    }
}
