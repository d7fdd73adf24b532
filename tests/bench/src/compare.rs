//! Two runs side by side.
//!
//! Decides what of them belongs together (marks by name; numbers by table, row and column) and
//! when they should not be compared at all. Leaves what a difference means to the reader: between
//! two runs of one build a quarter is nothing unusual on a busy machine.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::Context;

use crate::report::{Mark, Report, Verdict, shown, write_table};

/// Less of a difference is not worth a line, in tables.
const SHOWN_FROM: f64 = 0.02;

/// A run by its folder or by its `report.json`.
///
/// # Errors
/// There is none, or it is of another version.
pub fn read(path: &Path) -> anyhow::Result<Report> {
    let path = if path.is_dir() {
        path.join("report.json")
    } else {
        path.to_owned()
    };
    let text = fs::read(&path).with_context(|| path.display().to_string())?;
    serde_json::from_slice(&text).with_context(|| path.display().to_string())
}

/// What differs between a run and another.
pub struct Comparison {
    warnings: Vec<String>,
    marks: Vec<Vec<String>>,
    numbers: Vec<Vec<String>>,
    changed: usize,
}

impl Comparison {
    /// Of A and B.
    pub fn of(a: &Report, b: &Report) -> Self {
        let mut marks = Vec::new();
        let mut changed = 0;
        for mark in &a.marks {
            let other = b.marks.iter().find(|other| other.what == mark.what);
            let verdicts = match other {
                Some(other) if other.verdict == mark.verdict => word(mark.verdict).to_owned(),
                Some(other) => {
                    changed += 1;
                    format!("{} → {}", word(mark.verdict), word(other.verdict))
                }
                None => format!("{} → not there", word(mark.verdict)),
            };
            marks.push(row(mark, other, verdicts));
        }
        for mark in &b.marks {
            if !a.marks.iter().any(|other| other.what == mark.what) {
                let verdict = format!("not there → {}", word(mark.verdict));
                let nothing = String::new();
                let value = shown(mark.value);
                marks.push(vec![
                    mark.what.clone(),
                    nothing.clone(),
                    value,
                    nothing,
                    verdict,
                ]);
            }
        }
        Self {
            warnings: warnings(a, b),
            marks,
            numbers: numbers(a, b),
            changed,
        }
    }
}

fn row(mark: &Mark, other: Option<&Mark>, verdicts: String) -> Vec<String> {
    vec![
        mark.what.clone(),
        shown(mark.value),
        other.map_or_else(String::new, |other| shown(other.value)),
        other.map_or_else(String::new, |other| ratio(mark.value, other.value)),
        verdicts,
    ]
}

fn ratio(a: f64, b: f64) -> String {
    if a == b {
        "1".to_owned()
    } else if a == 0.0 {
        String::new()
    } else {
        format!("{:.2}", b / a)
    }
}

const fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Kept => "kept",
        Verdict::Missed => "MISSED",
        Verdict::NotJudged => "not judged",
    }
}

/// Why the two may not be comparable.
fn warnings(a: &Report, b: &Report) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut differs = |what: &str, a: &str, b: &str| {
        if a != b {
            warnings.push(format!("{what}: {a} and {b}"));
        }
    };
    differs("not the same experiment", &a.profile, &b.profile);
    if let (Some(a), Some(b)) = (&a.facts, &b.facts) {
        let kafka =
            |version: &Option<String>| version.clone().unwrap_or_else(|| "another's".into());
        differs("build", &a.build, &b.build);
        differs("processor", &a.processor, &b.processor);
        differs("cores", &a.cores.to_string(), &b.cores.to_string());
        let memory = |mib: u64| format!("{mib} MiB");
        differs("memory", &memory(a.memory_mib), &memory(b.memory_mib));
        differs("kernel", &a.kernel, &b.kernel);
        differs("broker", &kafka(&a.kafka), &kafka(&b.kafka));
    } else {
        warnings.push("one of them does not say where it ran".to_owned());
    }
    let (a, b) = (a.settings.as_object(), b.settings.as_object());
    for (key, value) in a.into_iter().flatten() {
        let other = b.and_then(|b| b.get(key));
        // another seed is the same load
        if key != "seed" && other != Some(value) {
            let other = other.map_or_else(|| "nothing".to_owned(), ToString::to_string);
            warnings.push(format!("{key}: {value} and {other}"));
        }
    }
    warnings
}

/// Cells that are numbers in both, and differ.
fn numbers(a: &Report, b: &Report) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for table in &a.tables {
        let Some(other) = b.tables.iter().find(|other| other.title == table.title) else {
            continue;
        };
        for row in &table.rows {
            let Some(other_row) = other.rows.iter().find(|other| other[0] == row[0]) else {
                continue;
            };
            for (column, cell) in table.columns.iter().zip(row).skip(1) {
                let at = other.columns.iter().position(|other| other == column);
                let other_cell = at.map_or("", |at| other_row[at].as_str());
                let (Ok(x), Ok(y)) = (cell.parse::<f64>(), other_cell.parse::<f64>()) else {
                    continue;
                };
                if (x - y).abs() > SHOWN_FROM * x.abs().max(y.abs()) {
                    rows.push(vec![
                        table.title.clone(),
                        format!("{}, {column}", row[0]),
                        cell.clone(),
                        other_cell.to_owned(),
                        ratio(x, y),
                    ]);
                }
            }
        }
    }
    rows
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for warning in &self.warnings {
            writeln!(f, "not the same: {warning}")?;
        }
        let columns = ["table", "what", "A", "B", "B ÷ A"];
        write_table(f, "Numbers that differ", &columns, &self.numbers)?;
        let columns = ["what", "A", "B", "B ÷ A", "verdict"];
        write_table(f, "Marks", &columns, &self.marks)?;
        writeln!(f, "\n{} with another verdict", self.changed)
    }
}

#[cfg(test)]
mod tests {
    use super::Comparison;
    use crate::report::Report;

    #[test]
    fn what_changed_is_said_and_what_cannot_be_compared_too() {
        let report = |rate: f64, p99: &str| {
            let mut report = Report::new("p", &serde_json::json!({ "rate": rate, "seed": rate }));
            report.at_most("p99 ms", p99.parse().unwrap(), 20.0);
            report.none("lost", 0);
            let rows = vec![
                vec!["all".into(), p99.into(), "7".into()],
                vec!["b".into(), "".into(), "8".into()],
            ];
            report.table("Times", &["of", "p99", "count"], rows);
            report
        };
        let (a, b) = (report(100.0, "10"), report(200.0, "25"));
        let shown = Comparison::of(&a, &b).to_string();
        let has = |part: &str| assert!(shown.contains(part), "{part:?} is not in {shown}");
        has("not the same: rate: 100.0 and 200.0\n");
        has("one of them does not say where it ran");
        has("| Times | all, p99 | 10 | 25 | 2.50  |");
        has("| p99 ms | 10 | 25 | 2.50  | kept → MISSED |");
        has("| lost   | 0  | 0  | 1     | kept          |");
        has("\n1 with another verdict\n");
        assert!(
            !shown.contains("seed") && !shown.contains("count"),
            "{shown}"
        );
        let same = Comparison::of(&a, &a).to_string();
        assert!(same.contains("\n0 with another verdict\n"), "{same}");
    }
}
