//! What many numbers come to: exact percentiles and straight lines.
//!
//! Decides how a percentile is read off (nearest rank) and how a line is fitted (least squares).
//! Leaves to the profiles what the numbers are and what they have to be.

use serde::Serialize;

/// A distribution of durations in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Spread {
    /// How many there are.
    pub count: usize,
    /// The median.
    pub p50: i64,
    /// Nine of ten are not above it.
    pub p90: i64,
    /// 99 of 100 are not above it.
    pub p99: i64,
    /// 999 of 1 000 are not above it.
    pub p999: i64,
    /// The largest.
    pub max: i64,
}

impl Spread {
    /// Of these values, in any order; all 0 without any.
    pub fn of(mut values: Vec<i64>) -> Self {
        values.sort_unstable();
        Self {
            count: values.len(),
            p50: percentile(&values, 500),
            p90: percentile(&values, 900),
            p99: percentile(&values, 990),
            p999: percentile(&values, 999),
            max: values.last().copied().unwrap_or_default(),
        }
    }
}

/// The smallest of the sorted values that `permille` of them are not above; 0 without any.
pub fn percentile(sorted: &[i64], permille: usize) -> i64 {
    let rank = (sorted.len() * permille).div_ceil(1_000).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

/// How much y grows with each x, by least squares; 0 where all x are the same.
pub fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len().max(1) as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x_mean, y_mean) = (mean(|point| point.0), mean(|point| point.1));
    let (mut together, mut alone) = (0.0, 0.0);
    for (x, y) in points {
        together += (x - x_mean) * (y - y_mean);
        alone += (x - x_mean) * (x - x_mean);
    }
    if alone > 0.0 { together / alone } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::{Spread, percentile, slope};

    #[test]
    fn a_percentile_is_a_value_that_was_measured() {
        let sorted: Vec<i64> = (1..=1_000).collect();
        let read = [500, 900, 990, 999, 1_000].map(|permille| percentile(&sorted, permille));
        assert_eq!(read, [500, 900, 990, 999, 1_000]);
        assert_eq!(percentile(&[7, 9], 500), 7);
        assert_eq!(percentile(&[7, 9], 501), 9);
        assert_eq!(percentile(&[], 990), 0);
    }

    #[test]
    fn a_spread_sorts_for_itself() {
        let spread = Spread::of(vec![30, 10, 20]);
        assert_eq!((spread.count, spread.p50, spread.max), (3, 20, 30));
        assert_eq!(Spread::of(Vec::new()), Spread::default());
    }

    #[test]
    fn a_line_is_found_in_noise() {
        let noise = [0.5, -0.5, 0.5, -0.5, -0.5, 0.5, -0.5, 0.5];
        let points: Vec<(f64, f64)> = noise
            .iter()
            .enumerate()
            .map(|(x, noise)| (x as f64, 3.0 * x as f64 + 100.0 + noise))
            .collect();
        assert!((slope(&points) - 3.0).abs() < 0.1, "{}", slope(&points));
        assert_eq!(slope(&[(1.0, 5.0), (1.0, 9.0)]), 0.0);
        assert_eq!(slope(&[]), 0.0);
    }
}
