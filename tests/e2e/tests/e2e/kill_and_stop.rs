//! No loss and few repetitions through a crash, none through a clean stop;
//! `cargo run -p postrider-e2e --bin kill-test` is the same at any size.

use postrider_e2e::kill_and_stop::{Plan, run};
use postrider_test_support::Broker;

#[test]
fn every_event_reaches_every_endpoint_through_kill_and_stop() {
    let plan = Plan {
        events: 2_000,
        endpoints: 50,
        slices: 8,
        calm: false,
    };
    let report = run(Broker::shared(), plan);
    eprintln!("{report}");
    assert_eq!(report.wrong(), Vec::<String>::new(), "{report}");
}
