//! Latencies as HDR histograms, in the form that its plotters and other tools read.
//!
//! Decides precision and files: `NAME.hgrm`, the percentile distribution in milliseconds, and
//! `NAME.csv`, the same with a line per value. Marks are not taken from them: those are exact
//! (`stats`).

use std::fs;
use std::io::Write;

use anyhow::Context;
use hdrhistogram::Histogram;

use crate::report::Folder;

/// Of each value so many digits are kept.
const DIGITS: u8 = 3;
/// Percentiles lie this much closer with each halving of what is left.
const TICKS_PER_HALF: u32 = 5;
const MILLIS: f64 = 1_000.0;

/// Writes the distribution of some latencies in microseconds; nothing without any. One below 0
/// counts as 0.
///
/// # Errors
/// The folder cannot be written to.
pub fn write(folder: &Folder, name: &str, micros: &[i64]) -> anyhow::Result<()> {
    if micros.is_empty() {
        return Ok(());
    }
    let mut histogram: Histogram<u64> = Histogram::new(DIGITS).context("3 digits are few")?;
    for value in micros {
        histogram.record(u64::try_from(*value).unwrap_or_default())?;
    }
    fs::write(
        folder.file(&format!("{name}.hgrm")),
        distribution(&histogram)?,
    )?;
    fs::write(folder.file(&format!("{name}.csv")), values(&histogram)?)?;
    Ok(())
}

/// As `AbstractHistogram.outputPercentileDistribution` of the first implementation writes it.
fn distribution(histogram: &Histogram<u64>) -> anyhow::Result<Vec<u8>> {
    let mut out = Vec::new();
    writeln!(
        out,
        "{:>12} {:>14} {:>10} {:>14}\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    )?;
    let mut count = 0;
    for step in histogram.iter_quantiles(TICKS_PER_HALF) {
        count += step.count_since_last_iteration();
        let (value, share) = (
            step.value_iterated_to() as f64 / MILLIS,
            step.quantile_iterated_to(),
        );
        write!(out, "{value:12.3} {share:14.12} {count:10}")?;
        // the last has nothing above it
        if share < 1.0 {
            write!(out, " {:14.2}", 1.0 / (1.0 - share))?;
        }
        writeln!(out)?;
    }
    let (mean, deviation) = (histogram.mean() / MILLIS, histogram.stdev() / MILLIS);
    let (max, total) = (histogram.max() as f64 / MILLIS, histogram.len());
    writeln!(
        out,
        "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]"
    )?;
    writeln!(out, "#[Max     = {max:12.3}, Total count    = {total:12}]")?;
    let sub_buckets = 2 << (2 * 10_u32.pow(DIGITS.into()) - 1).ilog2();
    let buckets = histogram.buckets();
    writeln!(
        out,
        "#[Buckets = {buckets:12}, SubBuckets     = {sub_buckets:12}]"
    )?;
    Ok(out)
}

fn values(histogram: &Histogram<u64>) -> anyhow::Result<Vec<u8>> {
    let mut out = Vec::new();
    writeln!(out, "micros,count,share_not_above")?;
    for step in histogram.iter_recorded() {
        let (value, count) = (step.value_iterated_to(), step.count_at_value());
        writeln!(out, "{value},{count},{:.9}", step.quantile())?;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::write;
    use crate::report::Folder;

    #[test]
    fn the_distribution_is_in_milliseconds_and_complete() {
        let folder = TempDir::new().unwrap();
        let micros: Vec<i64> = (-1..1_000).map(|n| n * 1_000).collect();
        write(&Folder::new(folder.path()).unwrap(), "x", &micros).unwrap();
        let read = |file| std::fs::read_to_string(folder.path().join(file)).unwrap();
        let text = read("x.hgrm");
        let rows: Vec<Vec<f64>> = text
            .lines()
            .skip(2)
            .take_while(|line| !line.starts_with('#'))
            .map(|line| {
                line.split_whitespace()
                    .map(|n| n.parse().unwrap())
                    .collect()
            })
            .collect();
        assert_eq!(rows[0][..3], [0.0, 0.0, 2.0]);
        let half = rows.iter().find(|row| row[1] == 0.5).unwrap();
        assert!((half[0] - 499.0).abs() < 1.0, "{half:?}");
        assert_eq!(half[3], 2.0);
        assert_eq!(rows.last().unwrap()[1..], [1.0, 1_001.0]);
        assert!(text.contains("SubBuckets     =         2048]"), "{text}");
        let csv = read("x.csv");
        assert!(
            csv.starts_with("micros,count,share_not_above\n0,2,"),
            "{csv}"
        );
        assert!(csv.ends_with(",1.000000000\n"), "{csv}");
    }
}
