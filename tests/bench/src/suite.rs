//! Every experiment, one after the other.
//!
//! Decides which there are, in which order, how small they are for a look at every change, and which
//! a run that goes on takes from one before.
//! Leaves carrying one out to whoever reads the command lines, marks to the profiles.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use crate::compare;
use crate::facts::Facts;
use crate::report::{Report, Verdict, shown, write_table};

/// An experiment with its arguments.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its command.
    pub profile: &'static str,
    /// Beside the defaults.
    pub arguments: &'static str,
    /// In the short form; `None` = it has none there.
    pub quick: Option<&'static str>,
}

/// What all have in the short form: they share a broker.
pub const QUICK: &str = "--slices 6 --timeout-ms 2000 --padding 200";

impl Entry {
    /// Its command line; `None` = there is no such form.
    pub fn line(&self, quick: bool) -> Option<String> {
        let Self {
            profile, arguments, ..
        } = self;
        if !quick {
            return Some(format!("{profile} {arguments}"));
        }
        let short = self.quick?;
        Some(format!("{profile} {short} {QUICK}"))
    }
}

const fn entry(
    profile: &'static str,
    arguments: &'static str,
    quick: Option<&'static str>,
) -> Entry {
    Entry {
        profile,
        arguments,
        quick,
    }
}

/// What is cheap first: what is broken is seen soon.
pub const ALL: &[Entry] = &[
    entry(
        "max",
        "",
        Some("--endpoints 20 --seconds 1 --rounds 1 --open 50 --in-flight 4"),
    ),
    entry("idle", "", Some("--endpoints 20 --hosts 4 --seconds 2")),
    entry(
        "steady",
        "",
        Some("--endpoints 20 --hosts 4 --flood 1 --open 50 --lead 0.5 --seconds 1"),
    ),
    entry(
        "ordered",
        "",
        Some("--endpoints 20 --keys 3 --rate 40 --seconds 2 --most-seconds 1 --open 50"),
    ),
    entry("ordered", "--busiest 80 --most-seconds 5", None),
    entry(
        "replay",
        "",
        Some("--replays 200 --endpoints 20 --rate 40 --seconds 2 --rounds 1"),
    ),
    entry(
        "scale",
        "",
        Some("--endpoints 24 --seconds 1 --settle 1 --rounds 1 --open 20"),
    ),
    entry(
        "backlog",
        "",
        Some("--events 500 --endpoints 20 --seconds 1 --open 50"),
    ),
    entry(
        "sick",
        "",
        Some("--endpoints 20 --rate 40 --seconds 1 --warm-up 0.5 --rounds 1 --settle 60"),
    ),
    entry("sick", "--illness fifth --rounds 1 --seconds 30", None),
    entry("sick", "--illness slow --rounds 1 --seconds 30", None),
    entry(
        "sick",
        "--illness unreachable --rounds 1 --seconds 30",
        None,
    ),
    entry("sick", "--illness handshake --rounds 1 --seconds 30", None),
    entry(
        "down",
        "",
        Some(
            "--deliveries 500 --arrive 250 --limit 500 --neighbours 8 --rate 20 --before 1 --rest 1",
        ),
    ),
    entry("tls", "", None),
    entry("cold", "", None),
    entry("hot", "", None),
    entry("fanout", "", None),
    entry("burst", "", None),
    entry(
        "retries",
        "--rate 2500 --retries 300000 --spread 900",
        Some("--retries 100 --spread 3 --rate 100 --endpoints 10"),
    ),
    entry(
        "retries",
        "--direct --retries 5000000 --spread 600 --padding 200",
        None,
    ),
    entry("soak", "--minutes 120", None),
];

/// What an experiment showed in a run before: if it went to its end, with this very build, and so
/// that its figures may stand beside those of the others.
pub fn finished(folder: &Path, now: &Facts) -> Option<Report> {
    let report = compare::read(folder).ok()?;
    let is_known = !now.revision.ends_with("-dirty") && now.revision != "unknown";
    let then = report.facts.as_ref()?;
    (is_known && then.origin() == now.origin()).then_some(report)
}

/// What became of one.
pub enum Outcome {
    /// It was carried out.
    Done(Box<Report>),
    /// It could not be, and why.
    Failed(String),
}

/// What became of all, in order.
#[derive(Default)]
pub struct Suite {
    /// With their command lines.
    pub outcomes: Vec<(String, Outcome)>,
    /// Whether marks about speed count: not in the short form, which is too small for them.
    pub only_counts: bool,
}

impl Suite {
    /// Whether all were carried out and no mark was missed.
    pub fn is_good(&self) -> bool {
        self.outcomes.iter().all(|(_, outcome)| match outcome {
            Outcome::Done(report) => !report.marks.iter().any(|mark| {
                mark.verdict == Verdict::Missed && (mark.is_count() || !self.only_counts)
            }),
            Outcome::Failed(_) => false,
        })
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = Vec::new();
        for (command, outcome) in &self.outcomes {
            let report = match outcome {
                Outcome::Done(report) => report,
                Outcome::Failed(why) => {
                    let why = why.replace('\n', " ");
                    let nothing = String::new();
                    rows.push(vec![
                        command.clone(),
                        why,
                        nothing.clone(),
                        nothing,
                        "FAILED".into(),
                    ]);
                    continue;
                }
            };
            rows.extend(report.marks.iter().map(|mark| {
                let verdict = match mark.verdict {
                    Verdict::Kept => "kept",
                    Verdict::Missed if self.only_counts && !mark.is_count() => "missed, too small",
                    Verdict::Missed => "MISSED",
                    Verdict::NotJudged => "not judged",
                };
                vec![
                    command.clone(),
                    mark.what.clone(),
                    shown(mark.value),
                    mark.bound.clone(),
                    verdict.to_owned(),
                ]
            }));
        }
        let columns = ["experiment", "what", "value", "mark", "verdict"];
        write_table(f, "All marks", &columns, &rows)?;
        let all = self
            .outcomes
            .iter()
            .filter_map(|(_, outcome)| match outcome {
                Outcome::Done(report) => report.facts.as_ref(),
                Outcome::Failed(_) => None,
            });
        let facts = BTreeSet::from_iter(all.map(Facts::origin));
        let lines = facts.iter().map(|origin| format!("\n{origin}\n"));
        f.write_str(&lines.collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::{Outcome, Suite, finished};
    use crate::facts::Facts;
    use crate::report::{Folder, Report};

    #[test]
    fn only_what_the_same_build_finished_is_taken() {
        let path = tempfile::tempdir().unwrap();
        let folder = Folder::new(path.path()).unwrap();
        let facts = Facts {
            revision: "0123456789ab".to_owned(),
            ..Facts::now().unwrap()
        };
        assert!(finished(path.path(), &facts).is_none(), "there is none");
        let mut report = Report::new("p", &1);
        report.save(&folder).unwrap();
        assert!(finished(path.path(), &facts).is_none(), "no end");
        report.facts = Some(Facts {
            date: "another".to_owned(),
            ..facts.clone()
        });
        report.save(&folder).unwrap();
        assert!(finished(path.path(), &facts).is_some());
        for revision in ["0123456789ac", "0123456789ab-dirty"] {
            let revision = revision.to_owned();
            let other = Facts {
                revision,
                ..facts.clone()
            };
            assert!(finished(path.path(), &other).is_none());
            report.facts = Some(other.clone());
            report.save(&folder).unwrap();
            let is_same = finished(path.path(), &other).is_some();
            assert_eq!(is_same, !other.revision.ends_with("dirty"));
        }
    }

    #[test]
    fn a_missed_mark_or_a_failure_spoils_the_whole() {
        let mut report = Report::new("p", &1);
        report.none("lost", 0);
        report.at_most("p99 ms", 30.0, 20.0);
        let mut suite = Suite::default();
        suite
            .outcomes
            .push(("p".into(), Outcome::Done(report.into())));
        assert!(!suite.is_good());
        suite.only_counts = true;
        assert!(suite.is_good(), "{suite}");
        assert!(suite.to_string().contains("missed, too small"), "{suite}");
        let failed = Outcome::Failed("no\nbroker".into());
        suite.outcomes.push(("q".into(), failed));
        assert!(!suite.is_good());
        assert!(
            suite.to_string().contains("| q          | no broker |"),
            "{suite}"
        );
    }
}
