//! What a run came to: counts, and the marks that every fault has to keep.
//!
//! Decides the marks. What lost, repeated, out of turn, too many, early and former mean is decided
//! by the audit of the load experiments.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;

use postrider_bench::audit::{
    self, Attempted, Joined, limits, order, owners, repeats::Repeats, timing,
};
use postrider_bench::load::{Event, Keys};
use postrider_bench::report::{Report, Verdict};
use postrider_bench::rig::{endpoint_id, slice_of};
use postrider_bench::sink::log::Arrival;
use postrider_bench::stats::Spread;
use postrider_e2e::churn::commits;
use postrider_e2e::churn::journal::Committed;
use serde_json::json;

use crate::load::{KEYS, Kind};
use crate::stage::{Evidence, Heal, PROGRESS_WITHIN, SESSION, SLICES, Stage};

/// The marks in words.
pub const ALWAYS: &str = "nothing lost, stray, dead, out of turn, over its limit, early or without \
    an attempt record; repeated only what a loss of its owner excuses; no attempt of a former \
    owner, no commit backwards (where connections are reset: none for longer than 10 s); an event written after the heal arrives within 15 s (30 s where a \
    worker was lost), one of every slice within 30 s";

/// Within which time a commit is made good that a broker stored late (ADR 0040).
const MADE_GOOD_WITHIN_MS: u64 = 10_000;
/// How late 99 of 100 retries may be while nothing is done.
const LATE_MAX_MS: f64 = 5_000.0;
/// How long after a heal what is due may still be late.
const AFTERMATH_US: u64 = 60_000_000;

/// Judges it, with what the row adds, and writes the evidence down.
///
/// # Errors
/// What has to be read cannot be.
pub fn judge(
    stage: &Stage,
    evidence: &Evidence,
    name: &str,
    settings: &serde_json::Value,
) -> anyhow::Result<Report> {
    let Evidence { load, arrivals } = evidence;
    let installation = &stage.installation;
    let client = installation.client();
    let attempts = audit::attempts(&client, &installation.topic("attempts"))?;
    save_attempts(stage, &attempts)?;
    let mut dead = 0;
    audit::read(&client, &installation.topic("dead-letters"), |_| dead += 1)?;
    let events = load.events();
    let joined = Joined::new(events, arrivals);
    let all: Vec<usize> = (0..events.len()).collect();
    let counts = joined.counts(&all);
    let is_taken = |event: &Event| stage.taken.iter().any(|taken| taken.holds(event));
    let taken: Vec<usize> = all
        .iter()
        .copied()
        .filter(|n| is_taken(&events[*n]))
        .collect();
    let missing = joined.counts(&taken).lost;
    let (losses, rerouted) = (stage.losses()?, stage.rerouted()?);
    let repeats = Repeats::of(arrivals, &attempts, &losses, &rerouted);
    let mut report = Report::new(name, settings);
    actions(&mut report, stage);
    report.numbers(
        "Counts",
        &[
            ("events", counts.events.to_string()),
            ("requests", counts.requests.to_string()),
            ("attempt records of requests", attempts.len().to_string()),
            (
                "requests without a record",
                repeats.unrecorded.len().to_string(),
            ),
            ("requests repeated", repeats.requests.to_string()),
            ("requests that may be repeated", repeats.bound.to_string()),
        ],
    );
    latencies(&mut report, stage, &joined);
    report.none("lost", counts.lost - missing);
    if !taken.is_empty() {
        let bound = taken.len() as f64;
        report.at_most("missing of what was taken away", missing as f64, bound);
    }
    let bound = repeats.bound;
    report.at_most("requests repeated", repeats.requests as f64, bound as f64);
    report.none("repeated without an excuse", repeats.unexcused.len());
    list(
        &mut report,
        "Repeated without an excuse",
        stage,
        &repeats.unexcused,
    );
    report.none("requests without an attempt record", repeats.untold.len());
    list(
        &mut report,
        "Without an attempt record",
        stage,
        &repeats.untold,
    );
    report.none("dead letters", dead);
    report.none("strays", joined.strays);
    let ordered = |number: usize| {
        let event = &events[number];
        Kind::of(event.endpoint).is_ordered() && !is_taken(event)
    };
    let wrong = order::out_of_turn(
        events,
        arrivals,
        |number| Keys::even(KEYS).of(number),
        ordered,
    );
    report.none("out of turn", wrong.len());
    let former = owners::former(&attempts);
    report.none("attempts of former owners", former.len());
    let group = installation.topic("dispatcher");
    let commits = commits::of_group(installation.bootstrap(), &group);
    // a topic made anew begins anew
    if stage.taken.iter().all(|taken| taken.slice.is_some()) {
        backwards(&mut report, stage, &commits);
    }
    over_limits(&mut report, events, &attempts, &repeats.unrecorded);
    retries(&mut report, stage, arrivals, &attempts);
    progress(&mut report, stage, events, arrivals);
    Ok(report)
}

fn actions(report: &mut Report, stage: &Stage) {
    let rows = stage
        .actions
        .iter()
        .map(|action| vec![seconds(stage, action.at_us), action.what.clone()]);
    report.table("What was done", &["s", "what"], rows.collect());
}

fn seconds(stage: &Stage, at_us: u64) -> String {
    format!("{:.1}", at_us.saturating_sub(stage.began_us) as f64 / 1e6)
}

fn list(report: &mut Report, title: &str, stage: &Stage, arrivals: &[Arrival]) {
    if arrivals.is_empty() {
        return;
    }
    let shown = arrivals.iter().take(20).map(|arrival| {
        vec![
            seconds(stage, arrival.at_us),
            format!("e{}", arrival.event),
            arrival.receiver.to_string(),
            arrival.attempt.to_string(),
            arrival.status.to_string(),
        ]
    });
    let columns = ["s", "event", "endpoint", "attempt", "answer"];
    report.table(title, &columns, shown.collect());
}

/// First attempts to plain endpoints: before the first fault, while there was one, and otherwise.
fn latencies(report: &mut Report, stage: &Stage, joined: &Joined<'_>) {
    let disturbed = disturbed(stage);
    let first_us = disturbed.first().map_or(u64::MAX, |span| span.start);
    let of = |within: &dyn Fn(u64) -> bool| {
        let numbers: Vec<usize> = (0..joined.events.len())
            .filter(|number| {
                let event = &joined.events[*number];
                Kind::of(event.endpoint) == Kind::Plain && within(event.intended_us)
            })
            .collect();
        Spread::of(joined.latencies(&numbers))
    };
    let is_disturbed = |at: u64| disturbed.iter().any(|span| span.contains(&at));
    let spreads = [
        ("before", of(&|at| at < first_us)),
        ("from fault to heal", of(&is_disturbed)),
        ("after", of(&|at| at >= first_us && !is_disturbed(at))),
    ];
    let spreads = spreads.map(|(name, spread)| (name.to_owned(), spread));
    report.latencies("First attempts, plain endpoints", &spreads);
}

/// From the beginning of the faults to their heal.
fn disturbed(stage: &Stage) -> Vec<Range<u64>> {
    let spans = stage.heals.iter().map(|heal| heal.began_us..heal.at_us);
    spans.collect()
}

/// A commit whose connection was reset may be stored behind a later one; else nothing undoes one.
fn backwards(report: &mut Report, stage: &Stage, commits: &[Committed]) {
    let undone = commits::backwards(commits);
    let made_good: Vec<Option<u64>> = undone
        .iter()
        .map(|undone| commits::made_good_after_ms(commits, undone))
        .collect();
    if stage.reset {
        let left = |after: &&Option<u64>| after.is_none_or(|ms| ms > MADE_GOOD_WITHIN_MS);
        let left = made_good.iter().filter(left).count();
        report.none("commits backwards, for longer than 10 s", left);
    } else {
        report.none("commits backwards", undone.len());
    }
    if undone.is_empty() {
        return;
    }
    let rows = undone
        .iter()
        .zip(&made_good)
        .map(|((commit, before), made_good)| {
            let at = |commit: &Committed| seconds(stage, commit.at_ms * 1_000);
            vec![
                format!("{} [{}]", commit.topic, commit.partition),
                at(before),
                before.offset.to_string(),
                at(commit),
                commit.offset.to_string(),
                made_good.map_or("never".to_owned(), |ms| ms.to_string()),
            ]
        });
    let columns = [
        "lane",
        "s",
        "offset",
        "s",
        "offset, later",
        "made good after, ms",
    ];
    report.table("Commits backwards", &columns, rows.collect());
}

fn over_limits(
    report: &mut Report,
    events: &[Event],
    attempts: &[Attempted],
    unrecorded: &[Arrival],
) {
    let limit = |endpoint| Kind::of(endpoint).limit();
    let fullest = limits::fullest(events, attempts, unrecorded, |endpoint| {
        limit(endpoint).map(|(_, per)| per)
    });
    let over = fullest
        .iter()
        .filter(|(endpoint, most, _)| limit(*endpoint).is_some_and(|(allowed, _)| *most > allowed));
    report.none("endpoints over their rate limit", over.count());
    let rows = fullest.iter().filter_map(|(endpoint, most, _)| {
        let (allowed, per) = limit(*endpoint)?;
        let limit = format!("{allowed} in {} s", per.as_secs());
        Some(vec![endpoint_id(*endpoint), limit, most.to_string()])
    });
    let columns = ["endpoint", "limit", "most in any interval"];
    report.table("Rate limits", &columns, rows.collect());
}

fn retries(report: &mut Report, stage: &Stage, arrivals: &[Arrival], attempts: &[Attempted]) {
    let all = timing::retries(arrivals, attempts);
    let early = all.iter().filter(|retry| retry.is_early()).count();
    let felt: Vec<Range<u64>> = disturbed(stage)
        .into_iter()
        .map(|span| span.start..span.end + AFTERMATH_US)
        .collect();
    let is_calm = |retry: &&timing::Retry| !felt.iter().any(|span| span.contains(&retry.due_us));
    let late = |retry: &timing::Retry| retry.late_us();
    let calm = Spread::of(all.iter().filter(is_calm).map(late).collect());
    let others = all.iter().filter(|retry| !is_calm(retry));
    let others = Spread::of(others.map(late).collect());
    report.latencies(
        "Retries, after they were due",
        &[
            ("in calm".to_owned(), calm),
            ("from fault to 60 s after the heal".to_owned(), others),
        ],
    );
    report.none("early retries", early);
    if stage.punctual {
        let p99 = others.p99 as f64 / 1_000.0;
        report.at_most(
            "late retries from fault to 60 s after, p99 ms",
            p99,
            LATE_MAX_MS,
        );
    }
    let verdict = if calm.count == 0 {
        Verdict::NotJudged
    } else {
        Verdict::of(calm.p99 as f64 / 1_000.0 <= LATE_MAX_MS)
    };
    let bound = format!("≤ {LATE_MAX_MS}");
    report.mark(
        "late retries in calm, p99 ms",
        calm.p99 as f64 / 1_000.0,
        bound,
        verdict,
    );
}

/// After each heal: the first arrival of an event written since, and the first for every slice.
fn progress(report: &mut Report, stage: &Stage, events: &[Event], arrivals: &[Arrival]) {
    for heal in &stage.heals {
        let (first_us, slices) = after(heal, events, arrivals);
        let took = |at_us: Option<u64>| at_us.map(|at| at.saturating_sub(heal.at_us));
        let mut mark = |what: &str, took_us: Option<u64>, bound: std::time::Duration| {
            let value = took_us.map_or(f64::INFINITY, |us| us as f64 / 1e6);
            let name = format!("{what} after: {}, s", heal.what);
            report.at_most(&name, value, bound.as_secs_f64());
        };
        mark("first arrival", took(first_us), heal.bound);
        let last_us = slices.values().copied().collect::<Option<Vec<u64>>>();
        let last_us = last_us.and_then(|all| all.into_iter().max());
        mark("every slice", took(last_us), SESSION + PROGRESS_WITHIN);
    }
}

/// Slices as far as they have plain endpoints: others may be held up by their own doing.
fn after(
    heal: &Heal,
    events: &[Event],
    arrivals: &[Arrival],
) -> (Option<u64>, BTreeMap<u16, Option<u64>>) {
    let slice = |endpoint| slice_of(&endpoint_id(endpoint), SLICES);
    let later = events.get(heal.event..).unwrap_or_default().iter();
    let plain = |endpoint: u32| matches!(Kind::of(endpoint), Kind::Plain | Kind::Slow);
    let of_them = later.filter(|event| plain(event.endpoint));
    let mut slices: BTreeMap<u16, Option<u64>> =
        of_them.map(|event| (slice(event.endpoint), None)).collect();
    let mut first_us = None;
    for arrival in arrivals {
        let number = usize::try_from(arrival.event).unwrap_or(usize::MAX);
        if number < heal.event || number >= events.len() {
            continue;
        }
        first_us = first_us.or(Some(arrival.at_us));
        if plain(arrival.receiver) {
            let first = slices.entry(slice(arrival.receiver)).or_default();
            *first = first.or(Some(arrival.at_us));
        }
    }
    (first_us, slices)
}

fn save_attempts(stage: &Stage, attempts: &[Attempted]) -> anyhow::Result<()> {
    let mut out = BufWriter::new(File::create(stage.folder.file("attempts.csv"))?);
    writeln!(
        out,
        "event,endpoint,attempt,status,delivered,started_ms,ended_ms,next_ms,pid,slice,epoch"
    )?;
    for attempt in attempts {
        let Attempted {
            event,
            endpoint,
            attempt,
            status,
            delivered,
            started_ms,
            ended_ms,
            next_ms,
            pid,
            slice,
            epoch,
        } = attempt;
        let next_ms = next_ms.map_or(String::new(), |ms| ms.to_string());
        writeln!(
            out,
            "{event},{endpoint},{attempt},{status},{delivered},{started_ms},{ended_ms},{next_ms},{pid},\
             {slice},{epoch}"
        )?;
    }
    Ok(out.flush()?)
}

/// The settings of a run, as its report has them.
pub fn settings(seed: u64, lasts: std::time::Duration) -> serde_json::Value {
    json!({ "seed": seed, "lasts_s": lasts.as_secs_f64() })
}
