//! Once everything is healed, everything comes to its end.
//!
//! Decides how long that may take by the endpoint's schedule, window and limit.

use super::{Audit, Promise};
use crate::clock::{HOUR, Micros};

impl Audit {
    /// So much happened that it cannot be right.
    pub(crate) fn endless(&mut self, now: Micros) {
        self.broken(now, Promise::Progress, || {
            "the installation goes round in circles".to_owned()
        });
    }

    /// Long after everything was healed.
    pub(crate) fn check_progress(&mut self, now: Micros, all_committed: bool) {
        let Some(healed_at) = self.healed_at else {
            return;
        };
        let mut late = None;
        for &item in &self.open {
            let facts = self.items[item as usize]
                .endpoint
                .as_ref()
                .and_then(|id| self.endpoints.get(id));
            let waits = facts.map_or(0, |facts| {
                if facts.dead {
                    // What is never attempted ends with its window.
                    facts.window_max + 2 * facts.wait_max
                } else if facts.limits.ever() {
                    facts.window_max + 2 * facts.wait_max
                } else {
                    2 * facts.wait_max
                }
            });
            if now > healed_at + waits + 3 * HOUR {
                late = Some(item);
                break;
            }
        }
        if let Some(item) = late {
            let entry = &self.items[item as usize];
            let text = format!("{entry:?}");
            self.broken(now, Promise::Progress, || {
                format!("#{item} does not come to its end: {text}")
            });
        } else if self.open.is_empty()
            && !all_committed
            && now > self.last_closed.max(healed_at) + HOUR
        {
            self.broken(now, Promise::Progress, || {
                "a lane is not committed to its end".to_owned()
            });
        } else if self.open.is_empty()
            && all_committed
            && now > self.last_closed.max(healed_at) + HOUR
        {
            self.broken(now, Promise::Progress, || {
                "requests are in flight for ever".to_owned()
            });
        }
    }
}
