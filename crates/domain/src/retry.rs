//! How often and how long a failed delivery is tried again.
//!
//! Decides the presets and the bounds of a policy. Leaves the choice of the next due time (it needs
//! the clock and a random number) to `engine`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// An endpoint's retry policy: the waits between attempts, their jitter, and the window after which
/// a delivery is given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Wait before attempt 2, 3, …; a delivery has `schedule.len() + 1` attempts.
    pub schedule: Arc<[Duration]>,
    /// Counted from the event's broker timestamp; no attempt is due after it. At most 30 days.
    pub window: Duration,
    /// Each wait is drawn from ± this share of it, in thousandths (100 = ±10 %). At most 500.
    pub jitter_permille: u16,
}

impl RetryPolicy {
    /// Longest window an endpoint may ask for.
    pub const WINDOW_MAX: Duration = Duration::from_secs(30 * 86_400);
    /// Most waits a schedule may hold.
    pub const SCHEDULE_LEN_MAX: usize = 200;
    /// Largest jitter, in thousandths.
    pub const JITTER_PERMILLE_MAX: u16 = 500;
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPreset::Standard.policy()
    }
}

/// A named policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryPreset {
    /// Ten attempts over 67 h 35 min, close to the example of Standard Webhooks, inside 3 days.
    Standard,
    /// Exponential up to 12 h, within 3 days, as Stripe's live mode.
    Stripe,
    /// 2 m, 5 m, 10 m, 15 m, 30 m, 1 h, 2 h, 4 h, then every 8 h for 30 days, as Adyen.
    Adyen,
    /// Growing by one minute each time, 100 attempts, as Corefy.
    Corefy,
}

impl RetryPreset {
    /// Every preset, the default first.
    pub const ALL: [Self; 4] = [Self::Standard, Self::Stripe, Self::Adyen, Self::Corefy];

    /// The name in configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Stripe => "stripe",
            Self::Adyen => "adyen",
            Self::Corefy => "corefy",
        }
    }

    /// What the name stands for.
    #[must_use]
    pub fn policy(self) -> RetryPolicy {
        const MINUTE: u64 = 60;
        const HOUR: u64 = 3_600;
        const DAY: u64 = 86_400;
        let (schedule, window): (Vec<u64>, u64) = match self {
            Self::Standard => (
                vec![
                    5,
                    5 * MINUTE,
                    30 * MINUTE,
                    2 * HOUR,
                    5 * HOUR,
                    10 * HOUR,
                    14 * HOUR,
                    16 * HOUR,
                    20 * HOUR,
                ],
                3 * DAY,
            ),
            Self::Stripe => {
                let doubling = (0..10).map(|n| (MINUTE << n).min(12 * HOUR));
                (doubling.chain([12 * HOUR; 4]).collect(), 3 * DAY)
            }
            Self::Adyen => {
                let first = [2, 5, 10, 15, 30, 60, 120, 240].map(|m| m * MINUTE);
                (first.into_iter().chain([8 * HOUR; 88]).collect(), 30 * DAY)
            }
            Self::Corefy => ((1..100).map(|n| n * MINUTE).collect(), 7 * DAY),
        };
        RetryPolicy {
            schedule: schedule.into_iter().map(Duration::from_secs).collect(),
            window: Duration::from_secs(window),
            jitter_permille: 100,
        }
    }
}

impl FromStr for RetryPreset {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL
            .into_iter()
            .find(|preset| preset.name() == text)
            .ok_or(())
    }
}

impl fmt::Display for RetryPreset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_fit_their_windows_and_the_bounds() {
        for preset in RetryPreset::ALL {
            let policy = preset.policy();
            let total: Duration = policy.schedule.iter().sum();
            assert!(total <= policy.window, "{preset}: {total:?}");
            assert!(policy.window <= RetryPolicy::WINDOW_MAX);
            assert!(policy.schedule.len() <= RetryPolicy::SCHEDULE_LEN_MAX);
            assert_eq!(preset.name().parse(), Ok(preset));
        }
        assert_eq!("never".parse::<RetryPreset>(), Err(()));
    }
}
