//! Every experiment, small: its course is gone through, its auditor finds everything, nothing is
//! lost. Marks about speed are for a quiet machine and a release build, and are not looked at here.
//!
//! Needs the binary: `cargo build -p postrider` first.

use std::path::PathBuf;

use postrider_bench::profiles::sick::illness::Illness;
use postrider_bench::profiles::{
    backlog, burst, cold, down, fanout, hot, idle, max, ordered, replay, retries, scale, sick,
    soak, steady, tls,
};
use postrider_bench::report::{Folder, Report, Verdict};
use postrider_bench::rig::{Place, Setting};
use postrider_test_support::Broker;
use tempfile::TempDir;

/// Of the tests' broker.
const SETTING: Setting = Setting {
    slices: 4,
    dispatchers: 1,
    timeout_ms: 2_000,
    padding: 200,
    seed: 1,
};

/// Runs an experiment; the marks in `needed` are kept, and the others that are counts too.
fn run(
    needed: &[&str],
    experiment: impl FnOnce(&Place<'_>) -> anyhow::Result<Report>,
) -> (TempDir, Report) {
    run_on(Broker::shared(), needed, experiment)
}

fn run_on(
    broker: &Broker,
    needed: &[&str],
    experiment: impl FnOnce(&Place<'_>) -> anyhow::Result<Report>,
) -> (TempDir, Report) {
    let folder = TempDir::new().expect("a folder for its files");
    let place = Place {
        broker,
        program: PathBuf::from(env!("CARGO_BIN_EXE_bench")),
        folder: Folder::new(folder.path()).expect("the folder is ours"),
    };
    let report = experiment(&place).expect("it can be carried out");
    report.save(&place.folder).expect("the folder is ours");
    for name in needed {
        assert!(
            report.marks.iter().any(|mark| mark.what == *name),
            "no mark {name:?}:\n{report}"
        );
    }
    let counts = report.marks.iter().filter(|mark| mark.is_count());
    for mark in counts {
        assert_eq!(mark.verdict, Verdict::Kept, "{}:\n{report}", mark.what);
    }
    for file in [
        "report.json",
        "report.md",
        "events.csv",
        "requests.bin",
        "samples.csv",
        "threads.csv",
        "machine.csv",
        "run.svg",
        "first-attempts.hgrm",
        "delivered.csv",
    ] {
        let size = place.folder.file(file).metadata().expect(file).len();
        assert!(size > 0, "{file} is empty");
    }
    (folder, report)
}

#[test]
fn max() {
    let plan = max::Max {
        endpoints: 20,
        hosts: 20,
        seconds: 1.0,
        rounds: 1,
        open: 50,
        in_flight: 4,
        setting: SETTING,
    };
    let needed = ["CPU, delivery ÷ bare request", "strays"];
    run(&needed, |place| max::run(&plan, place));
}

#[test]
fn sick() {
    let plan = sick::Sick {
        illness: Illness::Mixed,
        endpoints: 20,
        rate: 40.0,
        seconds: 1.0,
        warm_up: 0.5,
        rounds: 1,
        settle: 60.0,
        setting: SETTING,
    };
    let needed = [
        "healthy p99, sick ÷ well",
        "lost",
        "lost of healthy endpoints",
    ];
    run(&needed, |place| sick::run(&plan, place));
}

#[test]
fn down() {
    let plan = down::Down {
        deliveries: 500,
        arrive: 250.0,
        limit: 500,
        neighbours: 8,
        rate: 20.0,
        before: 1.0,
        rest: 1.0,
        setting: SETTING,
    };
    let needed = [
        "never attempted, not exactly one record in backlog",
        "overtook more than can be in flight with it",
        "requests without an attempt record",
    ];
    run(&needed, |place| down::run(&plan, place));
}

#[test]
fn retries() {
    let plan = retries::Retries {
        retries: 100,
        spread: 3.0,
        rate: 100.0,
        endpoints: 10,
        direct: false,
        setting: SETTING,
    };
    let (_folder, report) = run(&["early", "dead letters"], |place| {
        retries::run(&plan, place)
    });
    let slope = report
        .marks
        .iter()
        .find(|mark| mark.what == "bytes per waiting retry");
    assert_eq!(slope.expect("a mark").verdict, Verdict::NotJudged);
}

#[test]
fn soak() {
    let plan = soak::Soak {
        minutes: 0.5,
        rate: 40.0,
        endpoints: 20,
        // each of the five once
        every: 6.0,
        setting: Setting {
            dispatchers: 2,
            ..SETTING
        },
    };
    // it is frozen
    let broker = Broker::own();
    let needed = ["lost", "repeats without an excuse"];
    let (_folder, report) = run_on(&broker, &needed, |place| soak::run(&plan, place));
    let faults = report.tables.iter().find(|table| table.title == "Faults");
    assert_eq!(faults.expect("a table").rows.len(), 5);
}

#[test]
fn retries_direct() {
    let plan = retries::Retries {
        retries: 300,
        // the shortest topic
        spread: 30.0,
        rate: 100.0,
        endpoints: 10,
        direct: true,
        setting: SETTING,
    };
    let needed = ["rate, all due ÷ nothing waiting", "early", "lost"];
    run(&needed, |place| retries::run(&plan, place));
}

#[test]
fn ordered() {
    let plan = ordered::Ordered {
        endpoints: 20,
        keys: 3,
        busiest: 60,
        rate: 40.0,
        seconds: 2.0,
        most_seconds: 1.0,
        open: 50,
        setting: SETTING,
    };
    let needed = [
        "out of order",
        "lost",
        "first attempts of the other keys, p99, beside a busiest one ÷ without",
    ];
    run(&needed, |place| ordered::run(&plan, place));
}

#[test]
fn backlog() {
    let plan = backlog::Backlog {
        events: 500,
        endpoints: 20,
        seconds: 1.0,
        open: 50,
        setting: SETTING,
    };
    let needed = ["s until the first delivery", "lost"];
    let (_folder, report) = run(&needed, |place| backlog::run(&plan, place));
    let mut marks = report.marks.iter();
    let memory = marks.find(|mark| mark.what == "bytes per event more that waits");
    assert_eq!(memory.expect("a mark").verdict, Verdict::NotJudged);
}

#[test]
fn replay() {
    let plan = replay::Replay {
        replays: 200,
        endpoints: 20,
        rate: 40.0,
        seconds: 2.0,
        rounds: 1,
        setting: SETTING,
    };
    let needed = ["replays not delivered", "lost"];
    run(&needed, |place| replay::run(&plan, place));
}

#[test]
fn scale() {
    let plan = scale::Scale {
        endpoints: 24,
        cores: 0.3,
        seconds: 1.0,
        settle: 1.0,
        rounds: 2,
        open: 20,
        setting: SETTING,
    };
    let needed = ["rate, three dispatchers ÷ one", "lost"];
    let (_folder, report) = run(&needed, |place| scale::run(&plan, place));
    let pace = report.tables.iter().find(|table| table.title == "Pace");
    assert_eq!(pace.expect("a table").rows.len(), 6);
}

#[test]
fn tls() {
    let plan = tls::Tls {
        hosts: 20,
        rate: 40.0,
        seconds: 1.0,
        rounds: 1,
        open: 20,
        in_flight: 4,
        setting: SETTING,
    };
    let needed = [
        "full handshakes: rate, deliveries ÷ bare",
        "over a connection that was to end",
        "lost",
    ];
    run(&needed, |place| tls::run(&plan, place));
}

#[test]
fn cold() {
    let plan = cold::Cold {
        endpoints: 300,
        few: 10,
        hosts: 100,
        exponent: 1.1,
        rate: 50.0,
        greet_rate: 100.0,
        seconds: 1.0,
        rounds: 1,
        setting: SETTING,
    };
    let needed = [
        "CPU of a delivery, all ÷ few",
        "endpoints with events and no attempt",
        "few: lost",
        "lost",
    ];
    run(&needed, |place| cold::run(&plan, place));
}

#[test]
fn hot() {
    let plan = hot::Hot {
        neighbours: 8,
        rate: 10.0,
        limit: 50,
        answer_ms: 5,
        seconds: 1.0,
        rounds: 1,
        setting: SETTING,
    };
    let needed = ["neighbours' p99, hot ÷ alone", "lost"];
    let (_folder, report) = run(&needed, |place| hot::run(&plan, place));
    let most = "hot: most requests in any second";
    let most = report.marks.iter().find(|mark| mark.what == most);
    assert_eq!(most.expect("a mark").verdict, Verdict::Kept, "{report}");
}

#[test]
fn fanout() {
    let plan = fanout::Fanout {
        endpoints: 100,
        events: 2,
        seconds: 1.0,
        open: 50,
        setting: SETTING,
    };
    let needed = ["the last one's start, seconds", "lost", "strays"];
    run(&needed, |place| fanout::run(&plan, place));
}

#[test]
fn burst() {
    let plan = burst::Burst {
        endpoints: 20,
        rate: 20.0,
        times: 6.0,
        burst: 1.0,
        drain: 2.0,
        seconds: 1.0,
        setting: SETTING,
    };
    let needed = ["all of the burst delivered, seconds after it", "lost"];
    run(&needed, |place| burst::run(&plan, place));
}

#[test]
fn idle() {
    let plan = idle::Idle {
        endpoints: 20,
        hosts: 4,
        rate: 20.0,
        seconds: 2.0,
        setting: SETTING,
    };
    let needed = [
        "p50 from acknowledgement to arrival, ms",
        "p99 ÷ that of two bare hops",
        "dispatcher's memory, MiB",
        "lost",
    ];
    let (folder, _report) = run(&needed, |place| idle::run(&plan, place));
    for name in ["after-acknowledged.hgrm", "bare-hops.csv"] {
        let size = folder.path().join(name).metadata().expect(name).len();
        assert!(size > 0, "{name} is empty");
    }
}

#[test]
fn steady() {
    let plan = steady::Steady {
        endpoints: 20,
        hosts: 4,
        flood: 1.0,
        open: 50,
        lead: 0.5,
        seconds: 1.0,
        setting: SETTING,
    };
    let needed = ["p50, ms", "p99, ms", "lost"];
    let (folder, _report) = run(&needed, |place| steady::run(&plan, place));
    let size = folder.path().join("steady.hgrm").metadata();
    assert!(size.expect("of those that count").len() > 0);
}
