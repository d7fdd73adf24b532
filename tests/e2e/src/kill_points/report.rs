//! A line for each point.

use std::fmt;

use super::Audit;

/// What came of a kill.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub(super) point: &'static str,
    pub(super) nth: u32,
    /// After the load began, ms.
    pub(super) reached_ms: u64,
    /// What is said of it.
    pub audit: Audit,
}

impl Outcome {
    /// The marks that were missed.
    #[must_use]
    pub fn missed(&self) -> Vec<&'static str> {
        self.audit.missed()
    }
}

/// Points and what came of them, or why nothing did.
#[derive(Debug, Default)]
pub struct Table(pub Vec<(&'static str, Result<Outcome, String>)>);

impl Table {
    /// What should not be, in words; empty when all is as promised.
    #[must_use]
    pub fn wrong(&self) -> Vec<String> {
        let wrong = self.0.iter().filter_map(|(point, outcome)| match outcome {
            Ok(outcome) => {
                let missed = outcome.missed();
                (!missed.is_empty()).then(|| format!("{point}: {}", missed.join(", ")))
            }
            Err(error) => Some(format!("{point}: {error}")),
        });
        wrong.collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<37} {:>4} {:>8} {:>9} {:>10} {:>9} {:>10} {:>5} {:>10}  verdict",
            "killed at",
            "nth",
            "after ms",
            "lost",
            "repeated",
            "reordered",
            "over limit",
            "early",
            "unrecorded",
        )?;
        for (point, outcome) in &self.0 {
            let Ok(outcome) = outcome else {
                writeln!(f, "{point:<37} ERROR")?;
                continue;
            };
            let Audit {
                deliveries,
                lost,
                repeated,
                bound,
                reordered,
                over_limit,
                early,
                unrecorded,
                ..
            } = outcome.audit;
            let missed = outcome.missed();
            let verdict = if missed.is_empty() {
                "kept".to_owned()
            } else {
                format!("MISSED {}", missed.join(", "))
            };
            writeln!(
                f,
                "{:<37} {:>4} {:>8} {:>9} {:>10} {reordered:>9} {over_limit:>10} {early:>5} \
                 {unrecorded:>10}  {verdict}",
                outcome.point,
                outcome.nth,
                outcome.reached_ms,
                format!("{lost} of {deliveries}"),
                format!("{repeated} of {bound}"),
            )?;
        }
        Ok(())
    }
}
