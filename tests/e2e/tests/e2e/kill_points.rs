//! A handful of the steps at which a worker can be killed, and whether the audit of them could see
//! that something is wrong; `cargo run -p postrider-e2e --bin kill-points` goes through all steps.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use postrider_e2e::installation::{beside, binary};
use postrider_e2e::kill_points::{Case, Table, cases, receivers, run};
use postrider_points::{FAULTS, Named, POINTS};
use postrider_test_support::Broker;

/// Where a wrong order of two steps would show: each has something written and something else not.
const HANDFUL: [(&str, u32); 5] = [
    ("router.fan_out.partly_acked", 5),
    ("dispatcher.attempt_record.acked", 25),
    ("dispatcher.retry.acked", 3),
    ("dispatcher.state.acked", 2),
    ("dispatcher.hand_back.unsent", 1),
];

/// What the audit has to say of each fault, and where a worker has to be killed for that.
const MARKS: [(&str, &str, Option<&str>); 9] = [
    ("router.delivery.dropped", "lost", None),
    ("dispatcher.attempt_record.dropped", "unrecorded", None),
    ("dispatcher.retry.dropped", "lost", None),
    ("dispatcher.retry.early", "early", None),
    ("dispatcher.delivery.repeated", "repeated", None),
    ("dispatcher.limit.ignored", "over limit", None),
    (
        "dispatcher.reservation.dropped",
        "over limit",
        Some("dispatcher.drain.begun"),
    ),
    ("dispatcher.order.swapped", "reordered", None),
    ("dispatcher.signature.wrong_key", "unverified", None),
];

#[test]
fn a_worker_that_is_killed_between_two_steps_loses_nothing() {
    let (broker, verifier) = (Broker::shared(), receivers());
    let run = |(name, nth)| {
        let outcome = run(broker, &verifier, Some((&case(name), nth)), None);
        (name, outcome.map_err(|error| format!("{error:#}")))
    };
    let run = &run;
    let outcomes = thread::scope(|scope| {
        let running = HANDFUL.map(|drawn| scope.spawn(move || run(drawn)));
        running.map(|thread| thread.join().expect("it says what is wrong"))
    });
    let table = Table(outcomes.into());
    eprintln!("{table}");
    assert_eq!(table.wrong(), Vec::<String>::new(), "{table}");
}

#[test]
fn each_fault_is_seen_by_the_mark_that_is_for_it_and_by_no_other() {
    let known: BTreeSet<&str> = FAULTS.iter().map(|fault| fault.name).collect();
    let with_mark: BTreeSet<&str> = MARKS.iter().map(|(name, ..)| *name).collect();
    assert_eq!(known, with_mark);
    let (broker, verifier) = (Broker::shared(), receivers());
    let run = |fault: Option<&Named>, point: Option<&str>| {
        let kill = point.map(case);
        let kill = kill.as_ref().map(|case| (case, 1));
        let outcome = run(broker, &verifier, kill, fault);
        outcome.expect("it can be carried out").audit
    };
    let run = &run;
    thread::scope(|scope| {
        let with_faults = MARKS.iter().map(|(name, mark, point)| {
            let fault = FAULTS.iter().find(|fault| fault.name == *name);
            (fault, vec![*mark], *point)
        });
        let running: Vec<_> = with_faults
            .chain([(None, Vec::new(), None)])
            .map(|(fault, marks, point)| (fault, marks, scope.spawn(move || run(fault, point))))
            .collect();
        for (fault, marks, thread) in running {
            let audit = thread.join().expect("it says what is wrong");
            eprintln!(
                "{}: {:?}",
                fault.map_or("none", |fault| fault.name),
                audit.missed()
            );
            assert_eq!(audit.missed(), marks, "{fault:?}: {audit:?}");
        }
    });
}

fn case(name: &str) -> Case {
    let mut all = cases().into_iter();
    all.find(|case| case.point.name == name)
        .expect("a point of the list")
}

#[test]
fn a_program_without_points_has_none_of_their_names() {
    let names: BTreeSet<&str> = POINTS
        .iter()
        .chain(FAULTS)
        .map(|named| named.name)
        .collect();
    let file = tempfile::NamedTempFile::new().expect("a file for the names");
    let list: Vec<&str> = names.iter().copied().collect();
    fs::write(&file, list.join("\n")).expect("the file is ours");
    // a debug build is large, and grep goes through it once
    let found = |program: &Path| {
        let mut grep = Command::new("grep");
        let output = grep.arg("-aohFf").args([file.path(), program]).output();
        let printed = String::from_utf8(output.expect("grep is everywhere").stdout);
        let printed = printed.expect("names are ASCII");
        printed.lines().map(str::to_owned).collect::<BTreeSet<_>>()
    };
    assert_eq!(found(&binary()), BTreeSet::new());
    let there = found(&beside("postrider-points"));
    assert!(there.iter().eq(&names), "{there:?}");
}

#[test]
fn a_program_with_points_says_so() {
    let version = |path| {
        let output = Command::new(path).arg("--version").output();
        String::from_utf8(output.expect("it runs").stdout).expect("text")
    };
    assert!(version(beside("postrider-points")).contains("test build"));
    assert!(!version(binary()).contains("test build"));
}
