//! Which event is for whom, and when it is meant to be written: fixed before anything runs.
//!
//! Decides the arrival times. They do not depend on how the system does, so that a slow one finds
//! all the events it has not taken yet, and their latency counts from the time they were meant for
//! (an open model). Leaves writing them to `load`.

use std::ops::Range;
use std::time::Duration;

/// One event to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// After the beginning of the plan, microseconds.
    pub at_us: u64,
    /// The endpoint it is for, counted from 0.
    pub endpoint: u32,
}

/// Events at an even pace, to endpoints in turn.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Who gets them.
    pub endpoints: Range<u32>,
    /// Events a second.
    pub rate: f64,
    /// How many.
    pub count: usize,
}

impl Stream {
    /// As many as come in `time`.
    pub fn lasting(endpoints: Range<u32>, rate: f64, time: Duration) -> Self {
        Self {
            endpoints,
            rate,
            count: (rate * time.as_secs_f64()).round() as usize,
        }
    }

    /// Each endpoint in turn; from turn to turn in another order, so that nothing that recurs
    /// always meets the same ones.
    fn planned(&self, random: &mut fastrand::Rng) -> Vec<Planned> {
        let mut order: Vec<u32> = self.endpoints.clone().collect();
        let mut planned = Vec::with_capacity(self.count);
        for number in 0..self.count {
            let place = number % order.len();
            if place == 0 {
                random.shuffle(&mut order);
            }
            planned.push(Planned {
                at_us: (number as f64 * 1e6 / self.rate) as u64,
                endpoint: order[place],
            });
        }
        planned
    }
}

/// The streams side by side, in order of time.
pub fn plan(streams: &[Stream], seed: u64) -> Vec<Planned> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut all: Vec<Planned> = streams
        .iter()
        .flat_map(|stream| stream.planned(&mut random))
        .collect();
    all.sort_by_key(|planned| planned.at_us);
    all
}

/// Events at an even pace, to endpoints drawn by Zipf's law: the one counted `n` gets a share in
/// proportion to (n + 1)^-`exponent`, so that few get much and most get little.
pub fn zipf(stream: &Stream, exponent: f64, seed: u64) -> Vec<Planned> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut sum = 0.0;
    let up_to: Vec<f64> = (1..=stream.endpoints.len())
        .map(|rank| {
            sum += (rank as f64).powf(-exponent);
            sum
        })
        .collect();
    let planned = (0..stream.count).map(|number| {
        let drawn = random.f64() * sum;
        let rank = up_to.partition_point(|up_to| *up_to <= drawn);
        Planned {
            at_us: (number as f64 * 1e6 / stream.rate) as u64,
            endpoint: stream.endpoints.start + rank as u32,
        }
    });
    planned.collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Stream, plan, zipf};

    #[test]
    fn few_get_much_and_most_get_little() {
        let stream = Stream::lasting(10..1_010, 1_000.0, Duration::from_secs(100));
        let planned = zipf(&stream, 1.0, 1);
        assert_eq!(planned.len(), 100_000);
        let mut counts = [0_u32; 1_000];
        for planned in &planned {
            counts[planned.endpoint as usize - 10] += 1;
        }
        // of the harmonic number of 1 000, which is 7.485
        let share = |rank: usize| f64::from(counts[rank - 1]) * 7.485 * rank as f64 / 100_000.0;
        assert!((share(1) - 1.0).abs() < 0.05, "{}", share(1));
        assert!((share(10) - 1.0).abs() < 0.15, "{}", share(10));
        let rare: u32 = counts[500..].iter().sum();
        assert!((8_000..11_000).contains(&rare), "{rare}");
    }

    #[test]
    fn events_come_evenly_and_to_all_in_turn() {
        let stream = Stream::lasting(0..4, 100.0, Duration::from_secs(2));
        let planned = plan(&[stream], 1);
        assert_eq!(planned.len(), 200);
        assert!(
            planned
                .windows(2)
                .all(|w| w[1].at_us - w[0].at_us == 10_000)
        );
        for turn in planned.chunks(4) {
            let mut endpoints: Vec<u32> = turn.iter().map(|planned| planned.endpoint).collect();
            endpoints.sort_unstable();
            assert_eq!(endpoints, [0, 1, 2, 3]);
        }
    }

    #[test]
    fn streams_run_side_by_side() {
        let one = Stream::lasting(0..1, 10.0, Duration::from_secs(1));
        let other = Stream::lasting(1..3, 100.0, Duration::from_secs(1));
        let planned = plan(&[one, other], 1);
        assert_eq!(planned.len(), 110);
        assert!(planned.windows(2).all(|w| w[0].at_us <= w[1].at_us));
        let first = planned.iter().filter(|planned| planned.endpoint == 0);
        assert_eq!(first.count(), 10);
    }
}
