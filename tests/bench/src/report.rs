//! What an experiment showed: tables, marks, and the files that hold it.
//!
//! Decides how a verdict is told. Leaves where the marks are to the profiles.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::facts::Facts;
use crate::samples::Usage;
use crate::stats::Spread;

/// Whether a mark was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It was.
    Kept,
    /// It was not.
    Missed,
    /// The experiment was too small to say.
    NotJudged,
}

impl Verdict {
    /// Kept, if so.
    pub const fn of(kept: bool) -> Self {
        if kept { Self::Kept } else { Self::Missed }
    }
}

/// Something that has to hold.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mark {
    /// What is measured.
    pub what: String,
    /// What it is.
    pub value: f64,
    /// What it has to be.
    pub bound: String,
    /// Whether it is.
    pub verdict: Verdict,
}

impl Mark {
    /// Whether it is about something that must not happen: that holds at any speed.
    pub fn is_count(&self) -> bool {
        self.bound == "0"
    }
}

/// Numbers with names.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Table {
    /// What it is about.
    pub title: String,
    /// The names of the columns.
    pub columns: Vec<String>,
    /// As many cells each.
    pub rows: Vec<Vec<String>>,
}

/// All of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Which experiment.
    pub profile: String,
    /// Its parameters.
    pub settings: serde_json::Value,
    /// Where and how it ran; `None` until it is over.
    pub facts: Option<Facts>,
    /// What has to hold.
    pub marks: Vec<Mark>,
    /// What was measured.
    pub tables: Vec<Table>,
}

impl Report {
    /// Empty.
    ///
    /// # Panics
    /// When the settings cannot be written as JSON.
    pub fn new(profile: &str, settings: &impl Serialize) -> Self {
        Self {
            profile: profile.to_owned(),
            settings: serde_json::to_value(settings).expect("numbers and words"),
            facts: None,
            marks: Vec::new(),
            tables: Vec::new(),
        }
    }

    /// It has to be at most this much.
    pub fn at_most(&mut self, what: &str, value: f64, bound: f64) {
        self.mark(
            what,
            value,
            format!("≤ {bound}"),
            Verdict::of(value <= bound),
        );
    }

    /// It has to be at least this much.
    pub fn at_least(&mut self, what: &str, value: f64, bound: f64) {
        self.mark(
            what,
            value,
            format!("≥ {bound}"),
            Verdict::of(value >= bound),
        );
    }

    /// It must not happen.
    pub fn none(&mut self, what: &str, count: usize) {
        self.mark(what, count as f64, "0".to_owned(), Verdict::of(count == 0));
    }

    /// A mark with a verdict of its own.
    pub fn mark(&mut self, what: &str, value: f64, bound: String, verdict: Verdict) {
        self.marks.push(Mark {
            what: what.to_owned(),
            value,
            bound,
            verdict,
        });
    }

    /// Adds a table.
    pub fn table(&mut self, title: &str, columns: &[&str], rows: Vec<Vec<String>>) {
        self.tables.push(Table {
            title: title.to_owned(),
            columns: columns.iter().map(|&name| name.to_owned()).collect(),
            rows,
        });
    }

    /// Adds single numbers.
    pub fn numbers(&mut self, title: &str, numbers: &[(&str, String)]) {
        let rows = numbers
            .iter()
            .map(|(name, value)| vec![(*name).to_owned(), value.clone()]);
        self.table(title, &["what", "value"], rows.collect());
    }

    /// Adds distributions of latencies.
    pub fn latencies(&mut self, title: &str, spreads: &[(String, Spread)]) {
        let rows = spreads.iter().map(|(name, spread)| {
            let times = [spread.p50, spread.p90, spread.p99, spread.p999, spread.max];
            let times = times.map(millis);
            [name.clone(), spread.count.to_string()]
                .into_iter()
                .chain(times)
                .collect()
        });
        let columns = [
            "of", "count", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms",
        ];
        self.table(title, &columns, rows.collect());
    }

    /// Adds what processes used, and their threads that used a hundredth of all that ours did.
    pub fn usage(&mut self, title: &str, usage: &[Usage]) {
        let rows = usage.iter().map(|usage| {
            // of what is not sampled there is only CPU
            let sampled = |shown: String| {
                let is = usage.rss_max_mib > 0.0;
                if is { shown } else { String::new() }
            };
            vec![
                usage.process.clone(),
                format!("{:.1}", usage.cpu_seconds),
                sampled(format!("{:.1}", usage.system_seconds)),
                format!("{:.2}", usage.cores),
                sampled(format!("{:.1}", usage.rss_first_mib)),
                sampled(format!("{:.1}", usage.rss_max_mib)),
                sampled(format!("{:+.1}", usage.rss_mib_per_hour)),
                sampled(usage.descriptors_max.to_string()),
                sampled(usage.connections_max.to_string()),
                sampled(format!("{:.0}", usage.voluntary_per_second)),
                sampled(format!("{:.0}", usage.involuntary_per_second)),
            ]
        });
        let columns = [
            "process",
            "CPU s",
            "in kernel s",
            "cores",
            "RSS first MiB",
            "RSS max MiB",
            "RSS MiB/h",
            "fds max",
            "open TCP max",
            "waits/s",
            "preempted/s",
        ];
        self.table(title, &columns, rows.collect());
        let sampled = usage.iter().filter(|usage| usage.rss_max_mib > 0.0);
        let all: f64 = sampled.map(|usage| usage.cpu_seconds).sum();
        let mut rows = Vec::new();
        for usage in usage {
            let most = usage.threads.iter().filter(|(_, cpu)| *cpu >= all / 100.0);
            rows.extend(most.map(|(name, cpu)| {
                let share = 100.0 * cpu / usage.cpu_seconds.max(f64::MIN_POSITIVE);
                let (cpu, share) = (format!("{cpu:.1}"), format!("{share:.0} %"));
                vec![usage.process.clone(), name.clone(), cpu, share]
            }));
        }
        let columns = ["process", "threads", "CPU s", "of the process"];
        self.table(&format!("{title}: threads"), &columns, rows);
    }

    /// Whether no mark was missed.
    pub fn is_good(&self) -> bool {
        self.marks
            .iter()
            .all(|mark| mark.verdict != Verdict::Missed)
    }

    /// Writes it as JSON and as it is printed.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn save(&self, folder: &Folder) -> anyhow::Result<()> {
        fs::write(folder.file("report.json"), serde_json::to_vec_pretty(self)?)?;
        fs::write(folder.file("report.md"), self.to_string())?;
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# {}\n\n`{}`", self.profile, self.settings)?;
        for table in &self.tables {
            let columns: Vec<&str> = table.columns.iter().map(String::as_str).collect();
            write_table(f, &table.title, &columns, &table.rows)?;
        }
        let rows = self.marks.iter().map(|mark| {
            let verdict = match mark.verdict {
                Verdict::Kept => "kept",
                Verdict::Missed => "MISSED",
                Verdict::NotJudged => "not judged",
            };
            vec![
                mark.what.clone(),
                shown(mark.value),
                mark.bound.clone(),
                verdict.to_owned(),
            ]
        });
        let rows: Vec<Vec<String>> = rows.collect();
        write_table(f, "Marks", &["what", "value", "mark", "verdict"], &rows)
    }
}

/// A number with three decimals at most.
pub(crate) fn shown(value: f64) -> String {
    let value = format!("{value:.3}");
    value.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Writes a table in Markdown that can be read as text too.
pub(crate) fn write_table(
    f: &mut fmt::Formatter<'_>,
    title: &str,
    columns: &[&str],
    rows: &[Vec<String>],
) -> fmt::Result {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([columns[column].chars().count()]).max()
    };
    let widths: Vec<usize> = (0..columns.len())
        .map(|column| width(column).unwrap_or_default())
        .collect();
    writeln!(f, "\n## {title}\n")?;
    let line = |f: &mut fmt::Formatter<'_>, cells: &[&str]| {
        for (cell, width) in cells.iter().zip(&widths) {
            write!(f, "| {cell:width$} ")?;
        }
        writeln!(f, "|")
    };
    line(f, columns)?;
    let rules: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    line(f, &rules.iter().map(String::as_str).collect::<Vec<_>>())?;
    for row in rows {
        line(f, &row.iter().map(String::as_str).collect::<Vec<_>>())?;
    }
    Ok(())
}

/// Microseconds as milliseconds.
pub fn millis(micros: i64) -> String {
    format!("{:.1}", micros as f64 / 1_000.0)
}

/// Where the files of a run are.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Made if it is not there; a run before this one is written over.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(path: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(path)?;
        Ok(Self(path.to_owned()))
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

#[cfg(test)]
mod tests {
    use super::{Report, Verdict};

    #[test]
    fn a_missed_mark_spoils_the_report_and_an_unjudged_one_does_not() {
        let mut report = Report::new("p", &1);
        report.none("lost", 0);
        report.at_most("ratio", 1.5, 1.5);
        report.mark("slope", 3.0, "≤ 1".to_owned(), Verdict::NotJudged);
        assert!(report.is_good());
        report.at_least("rate", 449.9, 450.0);
        assert!(!report.is_good());
        let shown = report.to_string();
        assert!(
            shown.contains("| rate  | 449.9 | ≥ 450 | MISSED"),
            "{shown}"
        );
    }
}
