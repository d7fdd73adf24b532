//! What samples come to, and that they are taken and written.

use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::watched::{Cpu, Machine, Sockets, Switches};
use super::{More, OTHERS, STOLEN, Sample, Sampler, Taken, ThreadSample, usage};
use crate::now_us;
use crate::report::Folder;

const SECOND: u64 = 1_000_000;

fn at(second: u64, mib: u64, cpu: f64) -> Sample {
    Sample {
        at_us: second * SECOND,
        rss: mib << 20,
        cpu: Cpu {
            user: cpu,
            system: cpu,
        },
        descriptors: second as usize,
        ..Sample::default()
    }
}

#[test]
fn usage_is_the_difference_between_first_and_last() {
    let samples = [at(0, 10, 1.0), at(1, 30, 1.5), at(2, 20, 2.0)];
    let usage = usage("p", &samples.iter().collect::<Vec<_>>());
    assert_eq!((usage.rss_first_mib, usage.rss_max_mib), (10.0, 30.0));
    assert_eq!((usage.cpu_seconds, usage.system_seconds), (2.0, 1.0));
    assert_eq!(usage.cores, 1.0);
    assert_eq!(usage.descriptors_max, 2);
    assert!((usage.rss_mib_per_hour - 5.0 * 3_600.0).abs() < 1e-6);
}

#[test]
fn switches_are_counted_between_the_rounds_that_have_them() {
    let with = |second, voluntary, involuntary, established| Sample {
        more: Some(More {
            switches: Switches {
                voluntary,
                involuntary,
            },
            sockets: Sockets {
                established,
                ..Sockets::default()
            },
        }),
        ..at(second, 1, 0.0)
    };
    let samples = [
        at(0, 1, 0.0),
        with(1, 100, 10, 3),
        at(2, 1, 0.0),
        with(5, 500, 30, 9),
        with(6, 600, 35, 2),
    ];
    let usage = usage("p", &samples.iter().collect::<Vec<_>>());
    assert_eq!(usage.voluntary_per_second, 100.0);
    assert_eq!(usage.involuntary_per_second, 5.0);
    assert_eq!(usage.connections_max, 9);
}

#[test]
fn threads_and_the_rest_are_told_apart() {
    let cpu = |user| Cpu { user, system: 0.5 };
    let mut taken = Taken {
        names: vec!["p".into()],
        samples: vec![at(0, 1, 1.0), at(10, 1, 3.0)],
        machine: [(0, 100.0, 7.0), (10, 109.0, 8.0)]
            .map(|(second, busy, stolen)| {
                let machine = Machine {
                    busy,
                    stolen,
                    idle: 0.0,
                };
                (second * SECOND, machine)
            })
            .into(),
        ..Taken::default()
    };
    for (second, name, user) in [
        (0, "engine", 1.0),
        (0, "rdk", 4.0),
        (5, "engine", 3.5),
        (6, "rdk", 5.0),
        (7, "late", 1.0),
        (8, "late", 1.2),
        (20, "engine", 99.0),
    ] {
        taken.threads.push(ThreadSample {
            at_us: second * SECOND,
            process: 0,
            name: name.into(),
            cpu: cpu(user),
        });
    }
    let all = taken.usage(&(0..11 * SECOND));
    let named: Vec<(&str, f64)> = all
        .iter()
        .map(|usage| (usage.process.as_str(), usage.cpu_seconds))
        .collect();
    assert_eq!(named, [("p", 4.0), (OTHERS, 5.0), (STOLEN, 1.0)]);
    assert_eq!(all[1].cores, 0.5);
    let threads: Vec<(&str, f64)> = all[0]
        .threads
        .iter()
        .map(|(name, used)| (name.as_str(), (used * 10.0).round() / 10.0))
        .collect();
    assert_eq!(threads, [("engine", 2.5), ("rdk", 1.0), ("late", 0.2)]);
}

#[test]
fn what_this_process_does_is_found_again() {
    let sampler = Sampler::start(vec![("this".into(), std::process::id())]);
    let deadline = Instant::now() + Duration::from_secs(20);
    while sampler.of("th").is_empty() {
        assert!(Instant::now() < deadline, "no sample came");
        std::thread::sleep(Duration::from_millis(10));
    }
    let samples = sampler.of("this");
    assert!(samples[0].rss > 0 && samples[0].descriptors > 2);
    assert!(sampler.of("other").is_empty());
    let processes: Vec<String> = sampler
        .usage(&(0..now_us() + SECOND))
        .into_iter()
        .map(|usage| usage.process)
        .collect();
    assert_eq!(processes[0], "this");
    let folder = TempDir::new().unwrap();
    sampler.save(&Folder::new(folder.path()).unwrap()).unwrap();
    for (file, columns) in [("samples", 12), ("threads", 5), ("machine", 4)] {
        let text = std::fs::read_to_string(folder.path().join(format!("{file}.csv"))).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.len() > 1, "{file}");
        for line in lines {
            assert_eq!(line.split(',').count(), columns, "{file}: {line}");
        }
    }
}

#[test]
fn a_sampler_ends_at_once() {
    let sampler = Sampler::start(vec![("this".into(), std::process::id())]);
    let began = Instant::now();
    drop(sampler);
    assert!(began.elapsed().as_millis() < 900);
}
