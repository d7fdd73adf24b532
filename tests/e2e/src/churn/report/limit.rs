//! What became of a rate limit, in words.

use std::fmt;

use super::super::audit::{Limited, Peak, Why};

/// Least throughput outside the hand-over gaps, as a share of the limit.
const SHARE_MIN: f64 = 0.9;

/// What should not be.
pub(super) fn wrong(limited: &Limited) -> Vec<String> {
    let limit = limited.limit;
    let outside = limited.flow.outside();
    let least = f64::from(limit) * SHARE_MIN;
    let too_many = |peak: Peak, what: &str| {
        (peak.count > limit as usize).then(|| {
            format!(
                "{} attempts {what} within a second, limit {limit}",
                peak.count
            )
        })
    };
    let moved = [Why::Stopped, Why::Killed].map(|why| limited.moved(why));
    [
        too_many(limited.arrived, "arrived"),
        too_many(limited.started, "started"),
        (outside < least).then(|| format!("{outside:.1} a second outside the gaps, not {least}")),
        (limited.waiting_min < limit as usize)
            .then(|| format!("only {} waited at some time", limited.waiting_min)),
        moved
            .contains(&0)
            .then(|| format!("moved {} times in order, {} by a kill", moved[0], moved[1])),
    ]
    .into_iter()
    .flatten()
    .collect()
}

pub(super) fn write(
    f: &mut fmt::Formatter<'_>,
    limited: &Limited,
    at: impl Fn(u64) -> String,
) -> fmt::Result {
    let Limited { limit, flow, .. } = limited;
    let peak = |peak: Peak| format!("{}, {}, {}", peak.count, at(peak.at_ms).trim(), peak.above);
    let percent = |rate: f64| format!("{rate:.2}, {:.1}", rate * 100.0 / f64::from(*limit));
    let rows = [
        (
            "most that arrived in any second, when, windows above the limit",
            peak(limited.arrived),
        ),
        (
            "most that started in any second, when, windows above the limit",
            peak(limited.started),
        ),
        (
            "moves: in order, by a kill, when another joined",
            [Why::Stopped, Why::Killed, Why::Balanced]
                .map(|why| limited.moved(why).to_string())
                .join(", "),
        ),
        (
            "requests while events came, s, of them in gaps",
            format!(
                "{}, {:.1}, {:.1}",
                flow.requests,
                flow.span_ms as f64 / 1_000.0,
                flow.gaps_ms as f64 / 1_000.0
            ),
        ),
        (
            "requests a second outside the gaps, % of the limit",
            percent(flow.outside()),
        ),
        (
            "requests a second with the gaps, % of the limit",
            percent(flow.overall()),
        ),
        ("fewest events that waited", limited.waiting_min.to_string()),
    ];
    writeln!(
        f,
        "\n| an endpoint with a limit of {limit} a second | |\n| --- | --- |"
    )?;
    for (what, count) in rows {
        writeln!(f, "| {what} | {count} |")?;
    }
    writeln!(
        f,
        "\n| its move | why | from | to | gap ms |\n| --- | --- | --- | --- | ---: |"
    )?;
    for moved in &limited.moves {
        let why = match moved.why {
            Why::Stopped => "in order",
            Why::Killed => "killed",
            Why::Balanced => "another joined",
        };
        writeln!(
            f,
            "| {} | {why} | {} | {} | {} |",
            at(moved.from_ms).trim(),
            moved.old,
            moved.new,
            moved.to_ms - moved.from_ms
        )?;
    }
    Ok(())
}
