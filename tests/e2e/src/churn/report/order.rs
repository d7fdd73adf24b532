//! What became of an order, in words.

use std::fmt;

use super::super::audit::Ordered;
use super::SHOWN;

/// The least that has to fail, in hundredths of the events, and the fewest events of a key.
const FAILED_MIN: usize = 8;
const EVENTS_MIN: usize = 2;

/// What should not be.
pub(super) fn wrong(ordered: &Ordered) -> Vec<String> {
    let rules = [
        (
            ordered.overtook.len(),
            "events taken before an earlier one of their key",
        ),
        (
            ordered.early.len(),
            "events that did not wait for the one ahead",
        ),
        (
            ordered.went_back.len(),
            "requests for an earlier event by the same worker",
        ),
    ];
    let broken = rules.into_iter().filter(|(count, _)| *count > 0);
    let broken = broken.map(|(count, what)| format!("{count} {what}"));
    let tried = ordered.keys == ordered.wanted
        && ordered.events.0 >= EVENTS_MIN
        && ordered.failed * 100 >= ordered.heads * FAILED_MIN;
    let tried = (!tried).then(|| {
        format!(
            "no trial of an order: {} keys, {} events of some, {} of {} failed",
            ordered.keys, ordered.events.0, ordered.failed, ordered.heads
        )
    });
    broken.chain(tried).collect()
}

pub(super) fn write(f: &mut fmt::Formatter<'_>, ordered: &Ordered) -> fmt::Result {
    let Ordered {
        heads,
        failed,
        events: (fewest, most),
        ..
    } = ordered;
    let share = *failed as f64 * 100.0 / (*heads).max(1) as f64;
    let rows = [
        (
            "keys, events, of a key",
            format!("{}, {heads}, {fewest} to {most}", ordered.keys),
        ),
        (
            "events refused at first, %",
            format!("{failed}, {share:.1}"),
        ),
        (
            "taken for the first time before an earlier one",
            ordered.overtook.len().to_string(),
        ),
        (
            "arrived before the one ahead was taken",
            ordered.early.len().to_string(),
        ),
        (
            "a worker went back to an earlier one",
            ordered.went_back.len().to_string(),
        ),
    ];
    writeln!(f, "\n| an endpoint with an order by key | |\n| --- | --- |")?;
    for (what, count) in rows {
        writeln!(f, "| {what} | {count} |")?;
    }
    for (what, events) in [
        ("out of order", &ordered.overtook),
        ("too early", &ordered.early),
        ("gone back to", &ordered.went_back),
    ] {
        let shown: Vec<String> = events.iter().take(SHOWN).map(usize::to_string).collect();
        if !shown.is_empty() {
            writeln!(f, "{what}: events {}", shown.join(", "))?;
        }
    }
    Ok(())
}
