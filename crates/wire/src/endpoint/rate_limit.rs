//! The rate limit of an endpoint.
//!
//! Decides which limits there are: as fine as one attempt a day, as fast as 10 000 a second. Leaves
//! keeping them to `engine`.

use std::time::Duration;

use postrider_domain::RateLimit;

use super::check::{duration, note};
use super::form::RateLimitForm;
use super::read::Mistakes;

/// The limit, or `None` with a mistake noted.
pub(super) fn rate_limit(form: RateLimitForm, mistakes: &mut Mistakes) -> Option<RateLimit> {
    let per = match form.per {
        None => note(mistakes, "rate_limit.per", "is required, such as 1s"),
        Some(text) => duration(
            "rate_limit.per",
            &text,
            RateLimit::PER_MIN..=RateLimit::PER_MAX,
            mistakes,
        ),
    };
    let Some(found) = form.attempts else {
        return note(
            mistakes,
            "rate_limit.attempts",
            "is required, such as 100; without a limit leave rate_limit out",
        );
    };
    let per = per?;
    let max = attempts_max(per);
    let Some(attempts) = u32::try_from(found).ok().filter(|n| (1..=max).contains(n)) else {
        let per = humantime::format_duration(per);
        let message = format!("expected 1 to {max} for {per}, found {found}");
        return note(mistakes, "rate_limit.attempts", &message);
    };
    Some(RateLimit {
        attempts,
        per,
        smooth: form.smooth.unwrap_or_default(),
    })
}

/// Most attempts of an interval.
fn attempts_max(per: Duration) -> u32 {
    let max = per.as_nanos() * u128::from(RateLimit::PER_SECOND_MAX) / 1_000_000_000;
    u32::try_from(max).map_or(RateLimit::ATTEMPTS_MAX, |max| {
        max.min(RateLimit::ATTEMPTS_MAX)
    })
}
