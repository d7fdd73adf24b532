//! Thousands of worlds, and that a seed means one of them for ever.
//!
//! A failure names its seed: `cargo run -p sim -- --seed N --trace` shows what happened.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use sim::run;

const SEEDS: u64 = 2_000;

#[test]
fn every_promise_is_kept_in_every_world() {
    let next = AtomicU64::new(0);
    let failures = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= SEEDS {
                        break;
                    }
                    if let Some(failure) = run(seed, None).failure {
                        failures
                            .lock()
                            .unwrap()
                            .push(format!("seed {seed}: {failure}"));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("one thread").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [3, 31, 311] {
        let traces = [Kept::default(), Kept::default()];
        let hours = traces
            .clone()
            .map(|trace| run(seed, Some(Box::new(trace))).hours);
        let [one, two] = traces.map(|trace| trace.0.lock().unwrap().clone());
        assert!(one.len() > 1_000 && one == two, "seed {seed}");
        assert!(hours[0] > 0.1 && hours[0] == hours[1]);
    }
}
