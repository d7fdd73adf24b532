//! When a failed delivery is tried again, or that it is given up.
//!
//! Decides the next due time from the endpoint's policy: the wait of the schedule, its jitter, the
//! window. Leaves the way there (memory or a rung) to `slice`.

use std::time::Duration;

use postrider_domain::{DeadLetterReason, RetryPolicy, Timestamp};

/// The time before which attempt `attempts + 1` does not start.
///
/// `attempts` is how many were made, at least 1; `draw` is a random number in 0..1 that places the
/// wait within its jitter.
///
/// # Errors
/// [`DeadLetterReason::AttemptsExhausted`] after the last wait of the schedule,
/// [`DeadLetterReason::WindowPassed`] when the next attempt would fall after the window.
pub fn next_due(
    policy: &RetryPolicy,
    attempts: u32,
    accepted_at: Timestamp,
    now: Timestamp,
    draw: f64,
) -> Result<Timestamp, DeadLetterReason> {
    let made = attempts.saturating_sub(1) as usize;
    let wait = policy
        .schedule
        .get(made)
        .ok_or(DeadLetterReason::AttemptsExhausted)?;
    let due = now + with_jitter(*wait, policy.jitter_permille, draw);
    if due > accepted_at + policy.window {
        Err(DeadLetterReason::WindowPassed)
    } else {
        Ok(due)
    }
}

fn with_jitter(wait: Duration, permille: u16, draw: f64) -> Duration {
    let share = f64::from(permille) / 1_000.0;
    wait.mul_f64(1.0 + share * (2.0 * draw - 1.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy(schedule: &[u64], window: u64, jitter_permille: u16) -> RetryPolicy {
        RetryPolicy {
            schedule: schedule.iter().copied().map(Duration::from_secs).collect(),
            window: Duration::from_secs(window),
            jitter_permille,
        }
    }

    #[test]
    fn each_attempt_has_its_wait_and_then_it_ends() {
        let policy = policy(&[5, 300], 1_000, 0);
        let at = Timestamp::from_secs;
        let due = |attempts, now| next_due(&policy, attempts, at(100), at(now), 0.7);
        assert_eq!(due(1, 100), Ok(at(105)));
        assert_eq!(due(2, 200), Ok(at(500)));
        assert_eq!(due(3, 200), Err(DeadLetterReason::AttemptsExhausted));
    }

    #[test]
    fn nothing_is_due_after_the_window() {
        let policy = policy(&[5, 300], 400, 0);
        let at = Timestamp::from_secs;
        assert_eq!(next_due(&policy, 2, at(100), at(200), 0.5), Ok(at(500)));
        let late = next_due(&policy, 2, at(100), at(201), 0.5);
        assert_eq!(late, Err(DeadLetterReason::WindowPassed));
    }

    proptest! {
        #[test]
        fn a_wait_stays_within_its_jitter(
            wait in 0..200_000_u64,
            permille in 0..=RetryPolicy::JITTER_PERMILLE_MAX,
            draw in 0.0..1.0_f64,
        ) {
            let policy = policy(&[wait], 1_000_000, permille);
            let now = Timestamp::from_secs(1_000_000);
            let due = next_due(&policy, 1, now, now, draw).expect("within the window");
            let waited = due.since(now).as_secs_f64();
            let spread = wait as f64 * f64::from(permille) / 1_000.0;
            prop_assert!(waited >= wait as f64 - spread - 1e-3);
            prop_assert!(waited <= wait as f64 + spread + 1e-3);
        }
    }
}
