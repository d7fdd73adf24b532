//! Which step of a delivery a sample of the profiler is of.
//!
//! Decides it by process, thread and the functions on the stack: the first rule that fits counts.
//! Leaves taking samples to the caller.

/// Which worker a sample is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Router,
    Dispatcher,
}

/// Steps in the order in which a delivery takes them; what is of none comes last.
pub(super) const ROUTER: [&str; 6] = ["fetch", "decode", "match", "produce", "commit", OTHER];
pub(super) const DISPATCHER: [&str; 9] = [
    "fetch",
    "decode",
    "engine",
    "prepare",
    "sign",
    "HTTP",
    "attempt record",
    "commit",
    OTHER,
];
/// Loops, timers, and what the profiler could not unwind.
const OTHER: &str = "other";

/// A step, and what tells it: a part of a thread's name, or of a function on its stack.
struct Rule {
    step: &'static str,
    threads: &'static [&'static str],
    functions: &'static [&'static str],
}

const fn rule(
    step: &'static str,
    threads: &'static [&'static str],
    functions: &'static [&'static str],
) -> Rule {
    Rule {
        step,
        threads,
        functions,
    }
}

/// librdkafka's, of a group: its coordinator is asked over the connections of a consumer.
const COMMIT: &[&str] = &[
    "OffsetCommit",
    "rd_kafka_cgrp",
    "postrider_kafka::membership",
    "postrider_router::progress",
    "::commit",
];
/// Threads of a consumer's connections, and of who takes records from it.
const FETCH: &[&str] = &[
    "rd_kafka_broker_consumer_serve",
    "rd_kafka_fetch_",
    "rd_kafka_broker_fetch",
    "rd_kafka_msgset_reader",
    "postrider_kafka::intake",
    "postrider_kafka::record::",
];
/// What is left of librdkafka's threads is of a producer.
const PRODUCER_THREADS: &[&str] = &["rdk:", "producer poll"];

const ROUTER_RULES: &[Rule] = &[
    rule("commit", &[], COMMIT),
    rule("fetch", &[], FETCH),
    rule(
        "decode",
        &[],
        &[
            "postrider_wire::mapping",
            "postrider_wire::event::decode",
            "postrider_wire::json",
            "cloudevents",
        ],
    ),
    rule(
        "produce",
        PRODUCER_THREADS,
        &[
            "postrider_router::writes",
            "postrider_kafka::producer",
            "postrider_wire::delivery::encode",
            "Router::take_answer",
            "Router::emit",
        ],
    ),
    rule(
        "match",
        &[],
        &["postrider_router::fan_out", "Router::begin"],
    ),
];

const DISPATCHER_RULES: &[Rule] = &[
    rule("commit", &["member"], COMMIT),
    rule("decode", &[], &["postrider_wire::delivery::decode"]),
    rule("fetch", &["read "], FETCH),
    rule(
        "attempt record",
        PRODUCER_THREADS,
        &[
            "postrider_wire::attempt",
            "postrider_kafka::producer",
            "postrider_dispatcher::records",
            "Shell::write",
        ],
    ),
    rule("sign", &[], &["postrider_signing"]),
    rule("HTTP", &[], &["postrider_egress", "hyper"]),
    rule("engine", &[], &["postrider_engine"]),
    rule(
        "prepare",
        &[],
        &[
            "Shell::start",
            "postrider_dispatcher::request",
            "tokio::task::spawn",
        ],
    ),
    // its runtime: waking, polling, sockets that are ready
    rule("HTTP", &["requests"], &[]),
];

/// The step of a sample, by its thread and its stack.
pub(super) fn step_of(role: Role, thread: &str, stack: &[&str]) -> &'static str {
    let rules = match role {
        Role::Router => ROUTER_RULES,
        Role::Dispatcher => DISPATCHER_RULES,
    };
    let fits = |rule: &&Rule| {
        rule.threads.iter().any(|part| thread.contains(part))
            || stack.iter().any(|function| {
                let mut parts = rule.functions.iter();
                parts.any(|part| function.contains(part))
            })
    };
    rules.iter().find(fits).map_or(OTHER, |rule| rule.step)
}

/// A sample as `perf script -F comm,pid,ip,sym` prints it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sample<'a> {
    pub(super) thread: &'a str,
    pub(super) pid: u32,
    /// Innermost first.
    pub(super) stack: Vec<&'a str>,
}

/// All samples of a text; what is none is left out.
pub(super) fn samples(text: &str) -> impl Iterator<Item = Sample<'_>> {
    text.split("\n\n").filter_map(|block| {
        let mut lines = block.lines().skip_while(|line| line.is_empty());
        let (thread, pid) = lines.next()?.trim().rsplit_once(' ')?;
        let functions = lines.filter_map(|line| line.trim().split_once(' '));
        Some(Sample {
            thread: thread.trim(),
            pid: pid.parse().ok()?,
            stack: functions.map(|(_, function)| function).collect(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::{
        DISPATCHER, DISPATCHER_RULES, ROUTER, ROUTER_RULES, Role, Sample, samples, step_of,
    };

    const TEXT: &str = "\
router 17140 \n\t         155a85b cnd_timedwait_abs\n\t          e9c375 postrider_kafka::intake::Intake::poll\n
rdk:broker1 17143 \n\t          1098eb clone3\n
producer pollin 17143 \n\tffffffffffffffff [unknown]\n";

    #[test]
    fn what_the_profiler_prints_is_read() {
        let found: Vec<Sample<'_>> = samples(TEXT).collect();
        let sample = |thread, pid, stack: &[&'static str]| Sample {
            thread,
            pid,
            stack: stack.to_vec(),
        };
        let poll = "postrider_kafka::intake::Intake::poll";
        assert_eq!(
            found,
            [
                sample("router", 17140, &["cnd_timedwait_abs", poll]),
                sample("rdk:broker1", 17143, &["clone3"]),
                sample("producer pollin", 17143, &["[unknown]"]),
            ]
        );
    }

    #[test]
    fn the_first_rule_that_fits_counts() {
        for (role, thread, stack, step) in [
            (
                Role::Router,
                "router",
                &["Intake", "postrider_kafka::intake::Intake::poll"][..],
                "fetch",
            ),
            (
                Role::Router,
                "rdk:broker1",
                &["rd_kafka_broker_consumer_serve"],
                "fetch",
            ),
            (
                Role::Router,
                "rdk:broker1",
                &["rd_kafka_ProduceRequest"],
                "produce",
            ),
            (Role::Router, "rdk:main", &["rd_kafka_cgrp_serve"], "commit"),
            (
                Role::Dispatcher,
                "requests",
                &["sha2", "postrider_signing::sign", "hyper"],
                "sign",
            ),
            (Role::Dispatcher, "requests", &["futex_wake"], "HTTP"),
            (
                Role::Dispatcher,
                "dispatcher",
                &["postrider_engine::worker"],
                "engine",
            ),
            (Role::Dispatcher, "dispatcher", &["recv_timeout"], "other"),
        ] {
            assert_eq!(step_of(role, thread, stack), step, "{thread} {stack:?}");
        }
    }

    #[test]
    fn every_rule_is_of_a_step_that_is_shown() {
        for (rules, steps) in [
            (ROUTER_RULES, &ROUTER[..]),
            (DISPATCHER_RULES, &DISPATCHER[..]),
        ] {
            assert!(rules.iter().all(|rule| steps.contains(&rule.step)));
        }
    }
}
