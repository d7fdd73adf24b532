//! The audit in words: a table, the list of what is above its bound with what was done around it,
//! and what should not be.

mod limit;
mod order;

use std::fmt;

use super::audit::{Audit, Cause, Gap, Verdict};
use super::journal::{Action, Journal, What};

/// Actions so long before a gap may have to do with it, beside the session.
const AROUND_MS: u64 = 2_000;
/// Longest lists that are printed.
const SHOWN: usize = 30;

/// What came out.
pub struct Report {
    audit: Audit,
    actions: Vec<Action>,
    began_ms: u64,
}

impl Report {
    /// Audits a journal.
    pub fn of(journal: Journal) -> Self {
        Self {
            audit: Audit::of(&journal),
            began_ms: journal.actions.first().map_or(0, |action| action.at_ms),
            actions: journal.actions,
        }
    }

    /// What should not be, in words; empty when all is as promised.
    pub fn wrong(&self) -> Vec<String> {
        let audit = &self.audit;
        let beyond = audit.gaps.iter().filter(|g| g.verdict == Verdict::Beyond);
        let started: usize = self.past_session().map(|woken| woken.started).sum();
        let accepted: usize = self.past_session().map(|woken| woken.accepted).sum();
        let rules = [
            (audit.lost.len(), "events lost"),
            (audit.refused, "requests that do not verify"),
            (audit.unrecorded.len(), "events taken and not recorded"),
            (audit.repeats.unexcused.len(), "events repeated unexcused"),
            (audit.overlaps.len(), "double owners"),
            (beyond.count(), "gaps beyond any bound"),
            (started, "requests of woken workers for what they had owned"),
            (accepted, "commits of woken workers accepted"),
            (audit.backwards.len(), "commits backwards"),
        ];
        let broken = rules.into_iter().filter(|(count, _)| *count > 0);
        let broken = broken.map(|(count, what)| format!("{count} {what}"));
        let ends: Vec<String> = audit.failed.iter().copied().map(done).collect();
        let ends = (!ends.is_empty()).then(|| format!("unasked: {}", ends.join(", ")));
        let limited = audit.limited.iter().flat_map(limit::wrong);
        let ordered = audit.ordered.iter().flat_map(order::wrong);
        broken.chain(ends).chain(limited).chain(ordered).collect()
    }

    fn past_session(&self) -> impl Iterator<Item = &super::audit::Woken> {
        self.audit.woken.iter().filter(|woken| woken.past_session)
    }

    /// Since the beginning.
    fn at(&self, ms: u64) -> String {
        let ms = ms.saturating_sub(self.began_ms);
        format!("{:>3}:{:06.3}", ms / 60_000, (ms % 60_000) as f64 / 1_000.0)
    }

    fn write_handovers(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let setting = &self.audit.setting;
        let stated = |cause| match cause {
            Cause::Clean => format!("{} ms", setting.clean_bound_ms()),
            Cause::Crash | Cause::Freeze | Cause::Other => {
                format!("{} ms", setting.crash_bound_ms())
            }
            Cause::Outage => format!("{} ms + outage + 10 s", setting.crash_bound_ms()),
        };
        writeln!(
            f,
            "\n| time without an owner at work | count | p50 ms | p99 ms | max ms | stated | above, stacked | beyond |"
        )?;
        writeln!(f, "| --- | ---: | ---: | ---: | ---: | --- | ---: | ---: |")?;
        for handed_over in [true, false] {
            for cause in Cause::ALL {
                let of_it = |gap: &&Gap| gap.cause == cause && gap.handed_over == handed_over;
                let gaps: Vec<&Gap> = self.audit.gaps.iter().filter(of_it).collect();
                let mut ms: Vec<u64> = gaps.iter().map(|gap| gap.ms()).collect();
                ms.sort_unstable();
                let Some(max) = ms.last() else { continue };
                let count = |verdict| gaps.iter().filter(|gap| gap.verdict == verdict).count();
                let kind = if handed_over {
                    "hand-over"
                } else {
                    "standstill over 3 s"
                };
                writeln!(
                    f,
                    "| {kind}, {} | {} | {} | {} | {max} | {} | {} | {} |",
                    words(cause),
                    ms.len(),
                    ms[ms.len() / 2],
                    ms[(ms.len() * 99 / 100).min(ms.len() - 1)],
                    stated(cause),
                    count(Verdict::Stacked),
                    count(Verdict::Beyond)
                )?;
            }
        }
        Ok(())
    }

    /// Gaps that are alike (same owners, about the same time) are one line.
    fn write_above(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let above = self.audit.gaps.iter();
        let above = above.filter(|gap| gap.verdict != Verdict::Within);
        let mut groups: Vec<Vec<&Gap>> = Vec::new();
        for gap in above {
            let alike = |group: &&mut Vec<&Gap>| {
                let first = group[0];
                (first.old, first.new, first.verdict) == (gap.old, gap.new, gap.verdict)
                    && first.to_ms.abs_diff(gap.to_ms) < 1_000
            };
            match groups.iter_mut().find(alike) {
                Some(group) => group.push(gap),
                None => groups.push(vec![gap]),
            }
        }
        if !groups.is_empty() {
            writeln!(f, "\nabove the bound of one cause:")?;
        }
        for group in groups.iter().take(SHOWN) {
            let longest = group.iter().max_by_key(|gap| gap.ms()).expect("not empty");
            let slices: Vec<String> = group.iter().map(|gap| gap.slice.to_string()).collect();
            let what = match longest.verdict {
                Verdict::Within | Verdict::Stacked => "several causes",
                Verdict::Beyond => "BEYOND THEM ALL",
            };
            writeln!(
                f,
                "{} {:.1} s to {}, worker {} to {}, slices {}: {what}",
                self.at(longest.from_ms),
                longest.ms() as f64 / 1_000.0,
                self.at(longest.to_ms),
                longest.old,
                longest.new,
                slices.join(",")
            )?;
            let since_ms = longest
                .from_ms
                .saturating_sub(self.audit.setting.session_ms + AROUND_MS);
            for action in &self.actions {
                if (since_ms..=longest.to_ms).contains(&action.at_ms) {
                    writeln!(f, "    {} {}", self.at(action.at_ms), done(action.what))?;
                }
            }
        }
        Ok(())
    }

    fn write_wrong(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let audit = &self.audit;
        for overlap in audit.overlaps.iter().take(SHOWN) {
            writeln!(
                f,
                "double owner: slice {}, worker {} started {} requests within {} ms after worker \
                 {} had begun at {}",
                overlap.slice,
                overlap.old,
                overlap.requests,
                overlap.for_ms,
                overlap.new,
                self.at(overlap.from_ms)
            )?;
        }
        let unexcused = audit.repeats.unexcused.iter().take(SHOWN);
        let unexcused: Vec<String> = unexcused
            .map(|(event, at_ms)| format!("{event} ({})", self.at(*at_ms).trim()))
            .collect();
        if !unexcused.is_empty() {
            writeln!(
                f,
                "repeated without an excuse, with the time of the first: {}",
                unexcused.join(", ")
            )?;
        }
        for (commit, before) in audit.backwards.iter().take(SHOWN) {
            writeln!(
                f,
                "backwards: {} [{}] from {} to {} at {}, {} ms later",
                commit.topic,
                commit.partition,
                before.offset,
                commit.offset,
                self.at(commit.at_ms),
                commit.at_ms.saturating_sub(before.at_ms)
            )?;
        }
        let lost: Vec<String> = audit
            .lost
            .iter()
            .take(SHOWN)
            .map(usize::to_string)
            .collect();
        if !lost.is_empty() {
            writeln!(f, "lost: events {}", lost.join(", "))?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let audit = &self.audit;
        let setting = &audit.setting;
        writeln!(
            f,
            "{}: {:.1} min, session {} ms, heartbeat {} ms, attempts {} ms; {} slices, {} \
             endpoints, {} events/s\n",
            setting.name,
            audit.minutes,
            setting.session_ms,
            setting.heartbeat_ms,
            setting.timeout_ms,
            setting.slices,
            setting.endpoints,
            setting.events_per_second
        )?;
        let actions = audit.actions.iter();
        let actions: Vec<String> = actions.map(|(name, n)| format!("{name} {n}")).collect();
        let past: Vec<_> = self.past_session().collect();
        let rows = [
            ("actions", actions.join(", ")),
            (
                "events acknowledged, requests, attempt records",
                format!(
                    "{}, {}, {}",
                    audit.acknowledged, audit.requests, audit.attempts
                ),
            ),
            (
                "lost, taken and not recorded, not verified",
                format!(
                    "{}, {}, {}",
                    audit.lost.len(),
                    audit.unrecorded.len(),
                    audit.refused
                ),
            ),
            (
                "requests repeated, of them after an attempt without an answer",
                format!("{}, {}", audit.repeats.requests, audit.repeats.scheduled),
            ),
            (
                "bound on events repeated, repeated without an excuse",
                format!("{}, {}", audit.repeats.bound, audit.repeats.unexcused.len()),
            ),
            (
                "double owners, requests of the older",
                format!(
                    "{}, {}",
                    audit.overlaps.len(),
                    audit.overlaps.iter().map(|o| o.requests).sum::<usize>()
                ),
            ),
            (
                "workers frozen past the session, and woken",
                past.len().to_string(),
            ),
            (
                "their requests of before that arrived later",
                past.iter().map(|w| w.in_hand).sum::<usize>().to_string(),
            ),
            (
                "their requests started later as if still owners, after a successor's",
                format!(
                    "{}, {}",
                    past.iter().map(|w| w.started).sum::<usize>(),
                    past.iter().map(|w| w.taken_over).sum::<usize>()
                ),
            ),
            (
                "their commits of before, refused and accepted once they woke",
                format!(
                    "{}, {}",
                    past.iter().map(|w| w.refused).sum::<usize>(),
                    past.iter().map(|w| w.accepted).sum::<usize>()
                ),
            ),
            (
                "offsets committed, of them backwards",
                format!("{}, {}", audit.commits, audit.backwards.len()),
            ),
            (
                "requests without a record, of nobody known",
                audit.nobodys.to_string(),
            ),
        ];
        writeln!(f, "| what | |\n| --- | --- |")?;
        for (what, count) in rows {
            writeln!(f, "| {what} | {count} |")?;
        }
        if let Some(limited) = &audit.limited {
            limit::write(f, limited, |ms| self.at(ms))?;
        }
        if let Some(ordered) = &audit.ordered {
            order::write(f, ordered)?;
        }
        self.write_handovers(f)?;
        self.write_above(f)?;
        self.write_wrong(f)
    }
}

fn words(cause: Cause) -> &'static str {
    match cause {
        Cause::Clean => "in order",
        Cause::Crash => "owner killed",
        Cause::Freeze => "owner frozen",
        Cause::Other => "another killed or frozen",
        Cause::Outage => "broker away",
    }
}

fn done(what: What) -> String {
    match what {
        What::Start { worker, .. } => format!("worker {worker} started"),
        What::Terminate { worker } => format!("SIGTERM for worker {worker}"),
        What::Kill { worker } => format!("SIGKILL for worker {worker}"),
        What::Freeze { worker } => format!("SIGSTOP for worker {worker}"),
        What::Thaw { worker } => format!("SIGCONT for worker {worker}"),
        What::Ended {
            worker,
            code,
            signal,
        } => match (code, signal) {
            (Some(code), _) => format!("worker {worker} gone, code {code}"),
            (None, signal) => format!("worker {worker} gone, signal {}", signal.unwrap_or(0)),
        },
        What::KillBroker => "broker killed".to_owned(),
        What::BrokerReady => "broker ready".to_owned(),
        What::FreezeBroker => "broker frozen".to_owned(),
        What::ThawBroker => "broker goes on".to_owned(),
    }
}
