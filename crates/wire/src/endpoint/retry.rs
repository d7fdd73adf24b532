//! The retry policy of an endpoint, from a preset's name or a schedule of its own.

use std::time::Duration;

use postrider_domain::{RetryPolicy, RetryPreset};

use super::check::{SECOND, at_most, duration, note};
use super::form::{RetryForm, ScheduleForm};
use super::read::Mistakes;
use crate::attributes::clip;

/// Shorter waits would make a failing endpoint's schedule a burst.
const WAIT_MIN: Duration = Duration::from_millis(100);
const WINDOW_DEFAULT: Duration = Duration::from_secs(3 * 86_400);
const JITTER_PERMILLE_DEFAULT: u16 = 100;

/// The policy, or `None` with a mistake noted.
pub(super) fn policy(form: RetryForm, mistakes: &mut Mistakes) -> Option<RetryPolicy> {
    match form {
        RetryForm::Preset(name) => preset(&name, mistakes),
        RetryForm::Custom(form) => schedule(form, mistakes),
    }
}

fn preset(name: &str, mistakes: &mut Mistakes) -> Option<RetryPolicy> {
    if let Ok(preset) = name.parse::<RetryPreset>() {
        return Some(preset.policy());
    }
    let known = RetryPreset::ALL.map(RetryPreset::name).join(", ");
    let message = format!(
        "expected one of {known}, or a schedule, found {:?}",
        clip(name)
    );
    note(mistakes, "retry", &message)
}

fn schedule(form: ScheduleForm, mistakes: &mut Mistakes) -> Option<RetryPolicy> {
    const MAX: usize = RetryPolicy::SCHEDULE_LEN_MAX;
    let Some(texts) = form.schedule else {
        return note(
            mistakes,
            "retry.schedule",
            "is required, such as [5s, 5m, 30m, 2h]",
        );
    };
    at_most("retry.schedule", "waits", texts.len(), MAX, mistakes);
    let bounds = WAIT_MIN..=RetryPolicy::WINDOW_MAX;
    let mut waits = Vec::with_capacity(texts.len().min(MAX));
    for (n, text) in texts.iter().enumerate().take(MAX) {
        waits.extend(duration(
            &format!("retry.schedule[{n}]"),
            text,
            bounds.clone(),
            mistakes,
        ));
    }
    let window = match form.window {
        None => WINDOW_DEFAULT,
        Some(text) => duration(
            "retry.window",
            &text,
            SECOND..=RetryPolicy::WINDOW_MAX,
            mistakes,
        )?,
    };
    let total = waits
        .iter()
        .try_fold(Duration::ZERO, |sum, wait| sum.checked_add(*wait));
    if total.is_none_or(|total| total > window) {
        let window = humantime::format_duration(window);
        let message = format!("its waits add up to more than the window of {window}");
        mistakes.push("retry.schedule", message);
    }
    let jitter_permille = match form.jitter {
        None => JITTER_PERMILLE_DEFAULT,
        Some(share) if (0.0..=0.5).contains(&share) => (share * 1_000.0).round() as u16,
        Some(share) => {
            let message = format!("expected 0 to 0.5, found {share}");
            return note(mistakes, "retry.jitter", &message);
        }
    };
    Some(RetryPolicy {
        schedule: waits.into(),
        window,
        jitter_permille,
    })
}
