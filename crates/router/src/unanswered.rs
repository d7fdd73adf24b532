//! How long the oldest write has been waiting for its answer.
//!
//! Decides when that is too long and somebody is told, and when it is over. Pure: times are seconds
//! since a beginning of the caller's choice. Leaves what a write is, and the telling, to `writes`.

use std::collections::BTreeMap;

/// A second, since some beginning.
pub(crate) type Second = u64;

/// Every write that has no answer yet, by the second it was taken charge of.
#[derive(Debug, Default)]
pub(crate) struct Unanswered {
    /// Never zero; no more entries than writes.
    counts: BTreeMap<Second, usize>,
    /// It was told that the oldest is late: since when it had been waiting.
    told: Option<Second>,
}

/// What there is to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// The oldest has been waiting for so many seconds.
    Late(u64),
    /// None is late any more; what there was to wait for took so many seconds.
    Over(u64),
}

impl Unanswered {
    /// All is well while answers take milliseconds; a new leader takes a few seconds.
    const LATE: u64 = 30;
    /// Answers that come about as late as [`Self::LATE`] are one alarm, not many.
    const IN_TIME: u64 = 10;

    pub(crate) fn sent(&mut self, at: Second) {
        *self.counts.entry(at).or_default() += 1;
    }

    /// One of those [`Self::sent`] then has its answer.
    pub(crate) fn answered(&mut self, sent_at: Second) {
        if let Some(count) = self.counts.get_mut(&sent_at) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&sent_at);
            }
        }
    }

    /// What is new about it, once.
    pub(crate) fn look(&mut self, now: Second) -> Option<News> {
        let oldest = self.counts.first_key_value().map(|(second, _)| *second);
        let waited = oldest.map_or(0, |oldest| now.saturating_sub(oldest));
        match self.told {
            None if waited >= Self::LATE => {
                self.told = oldest;
                Some(News::Late(waited))
            }
            Some(since) if waited < Self::IN_TIME => {
                self.told = None;
                Some(News::Over(now.saturating_sub(since)))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_without_an_answer_is_told_of_once_and_its_end_too() {
        let mut unanswered = Unanswered::default();
        unanswered.sent(5);
        assert_eq!(unanswered.look(34), None);
        assert_eq!(unanswered.look(35), Some(News::Late(30)));
        assert_eq!(unanswered.look(500), None);
        unanswered.answered(5);
        assert_eq!(unanswered.look(501), Some(News::Over(496)));
        assert_eq!(unanswered.look(502), None);
    }

    #[test]
    fn the_oldest_counts_however_many_younger_ones_are_answered() {
        let mut unanswered = Unanswered::default();
        unanswered.sent(0);
        unanswered.sent(0);
        for second in 0..100 {
            unanswered.sent(second);
            unanswered.answered(second);
            let late = (second == 30).then_some(News::Late(30));
            assert_eq!(unanswered.look(second), late, "{second}");
        }
        unanswered.answered(0);
        assert_eq!(unanswered.look(100), None);
        unanswered.answered(0);
        assert_eq!(unanswered.look(101), Some(News::Over(101)));
        assert!(unanswered.counts.is_empty());
    }

    #[test]
    fn answers_that_are_late_again_and_again_are_one_alarm() {
        let mut unanswered = Unanswered::default();
        let mut told = Vec::new();
        for now in 0..200 {
            unanswered.sent(now);
            if now >= 31 {
                // Late by 31 s at first, then by 25 s, then in time.
                let late = if now < 100 { 31 } else { 25 };
                for sent_at in now.saturating_sub(31)..=now - late {
                    unanswered.answered(sent_at);
                }
            }
            told.extend(unanswered.look(now));
        }
        assert_eq!(told, [News::Late(30)]);
        for sent_at in 0..200 {
            unanswered.answered(sent_at);
        }
        assert_eq!(unanswered.look(200), Some(News::Over(200)));
    }

    #[test]
    fn nothing_to_wait_for_is_never_late() {
        assert_eq!(Unanswered::default().look(1_000), None);
    }
}
