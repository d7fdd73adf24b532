//! What the router still waits for, and telling it: intake topics that do not exist, partitions
//! that do not come.
//!
//! Decides how often it looks and how often it tells. Neither is an error: a topic is read as soon
//! as it exists.

use std::time::{Duration, Instant};

use postrider_kafka::intake::Intake;
use tracing::{info, warn};

/// How often topics that exist are looked for: one may be deleted.
const LOOK_RARELY: Duration = Duration::from_secs(60);
/// How often missing ones are.
const LOOK_OFTEN: Duration = Duration::from_secs(10);
/// How often the same ones are told again.
const TELL: Duration = Duration::from_secs(600);
/// Longest wait for the broker's answer, which holds up everything else.
const ANSWER: Duration = Duration::from_millis(500);
/// Joining takes less when all is well.
const JOIN: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(crate) struct Waiting {
    missing: Vec<String>,
    look_at: Instant,
    tell_at: Instant,
    /// `None` = partitions came, or it was told that none do.
    join_by: Option<Instant>,
}

#[derive(Debug, PartialEq, Eq)]
enum News {
    Missing,
    Found(Vec<String>),
    Nothing,
}

impl Waiting {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            missing: Vec::new(),
            look_at: now,
            tell_at: now,
            join_by: Some(now + JOIN),
        }
    }

    /// Partitions came.
    pub(crate) const fn joined(&mut self) {
        self.join_by = None;
    }

    /// Looks when it is time to.
    pub(crate) fn look(&mut self, now: Instant, intake: &Intake) {
        if now >= self.look_at {
            self.look_at = now + LOOK_OFTEN;
            // Without an answer nothing is known; the client's own complaints are in the log.
            if let Ok(missing) = intake.missing(ANSWER) {
                let missing = missing.into_iter().map(str::to_owned).collect();
                match self.learn(now, missing) {
                    News::Missing => warn!(
                        topics = ?self.missing,
                        "intake topics do not exist; each is read as soon as it does"
                    ),
                    News::Found(topics) => info!(?topics, "missing intake topics exist now"),
                    News::Nothing => {}
                }
            }
        }
        if self.join_by.is_some_and(|by| now >= by) {
            self.join_by = None;
            warn!(
                "no intake partition came yet: other routers may hold them all, no topic may \
                 exist, or the brokers are older than Kafka 4.0 and need ownership = \"classic\""
            );
        }
    }

    fn learn(&mut self, now: Instant, missing: Vec<String>) -> News {
        let mut found = std::mem::replace(&mut self.missing, missing);
        found.retain(|topic| !self.missing.contains(topic));
        if self.missing.is_empty() {
            self.look_at = now + LOOK_RARELY;
            // The next one that is missing is told at once.
            self.tell_at = now;
        } else if found.is_empty() && now >= self.tell_at {
            self.tell_at = now + TELL;
            return News::Missing;
        }
        if found.is_empty() {
            News::Nothing
        } else {
            News::Found(found)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_topic_is_told_once_then_rarely_then_found() {
        let start = Instant::now();
        let mut waiting = Waiting::new(start);
        let missing = || vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(waiting.learn(start, missing()), News::Missing);
        assert_eq!(waiting.learn(start + LOOK_OFTEN, missing()), News::Nothing);
        assert_eq!(waiting.learn(start + TELL, missing()), News::Missing);
        let later = start + TELL + LOOK_OFTEN;
        let found = waiting.learn(later, vec!["b".to_owned()]);
        assert_eq!(found, News::Found(vec!["a".to_owned()]));
        assert_eq!(
            waiting.learn(later, Vec::new()),
            News::Found(vec!["b".to_owned()])
        );
        assert_eq!(waiting.look_at, later + LOOK_RARELY);
        assert_eq!(
            waiting.learn(later, missing()),
            News::Missing,
            "deleted: told at once"
        );
    }
}
