//! Facts about the loop around the engine.

use postrider_config::Config;
use postrider_domain::Format;

use super::*;
use crate::bodies::tests::start;

fn shell(runtime: &tokio::runtime::Runtime) -> Shell {
    let mut settings = DispatcherSettings::from_config(&Config::default(), Arc::default(), "test");
    // Nobody answers there, and nobody has to.
    settings.client.brokers = "127.0.0.1:9".to_owned();
    let metrics = Metrics::new("test");
    Shell::new(&settings, metrics, runtime.handle().clone(), never()).unwrap()
}

#[test]
fn nothing_is_carried_out_any_more_once_it_failed() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut shell = shell(&runtime);
    let tell = |event| shell.answer.send(Answer::Membership(event)).unwrap();
    tell(MembershipEvent::Assigned(vec![0]));
    tell(MembershipEvent::Fatal("for good".to_owned()));
    tell(MembershipEvent::Left);
    assert_eq!(shell.run(), Ended::Failed("for good".to_owned()));
    let order = shell.worker.poll_order();
    assert!(order.is_some(), "what it was to do is not done");
}

#[test]
fn a_write_is_counted_once_when_it_is_acknowledged() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut shell = shell(&runtime);
    let origin = postrider_domain::Origin {
        topic: "deliveries".into(),
        partition: 0,
        offset: 7,
    };
    let record = postrider_domain::Record {
        origin,
        timestamp: Timestamp::default(),
        key: None,
        value: None,
        headers: Vec::new(),
    };
    let write = || Write::Unreadable {
        record: Arc::new(record.clone()),
        reason: postrider_domain::DeadLetterReason::Undecodable,
        message: "".into(),
        without_value: false,
    };
    let id = WriteId {
        slice: Slice(0),
        claim: Claim(1),
        number: 1,
    };
    let counted = |shell: &Shell| {
        let text = shell.metrics.render();
        let line = text
            .lines()
            .find(|line| line.starts_with("postrider_dead_letters_total{"));
        line.map(|line| line.rsplit(' ').next().unwrap().to_owned())
    };
    shell.write(id, write());
    assert_eq!(counted(&shell), None, "it may have to be written again");
    let now = shell.clock.now();
    shell.take_answer(now, Answer::Acked(id, write(), Some(0)));
    assert_eq!(counted(&shell).as_deref(), Some("1"));
}

#[test]
fn a_dispatcher_that_can_read_nothing_drains_and_ends_with_a_failure() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut shell = shell(&runtime);
    let stalled = || LaneEvent::AllStalled { lanes: 3 };
    let now = shell.clock.now();
    // Without a slice there is nothing to be read.
    shell.take_record(now, stalled());
    assert!(shell.failing.is_none());

    shell.worker.handle_assigned([Slice(0)]);
    shell.take_record(now, stalled());
    let orders: Vec<Order> = std::iter::from_fn(|| shell.worker.poll_order()).collect();
    let leaves = orders.iter().any(|order| matches!(order, Order::Leave));
    assert!(leaves, "{orders:?}");
    shell.take_membership(now, MembershipEvent::Left);
    match shell.run() {
        Ended::Failed(reason) => assert!(reason.contains("nothing can be read"), "{reason}"),
        Ended::Stopped => panic!("it would not be started again"),
    }
}

/// The engine takes from it how much the machine has to do.
#[test]
fn an_attempt_is_taken_up_when_its_task_runs_not_when_it_was_made() {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().unwrap();
    let mut shell = shell(&runtime);
    shell.start(start(1, Format::Raw, b"{}"));
    let made = shell.clock.now();
    while shell.clock.now() == made {}
    let runs = shell.clock.now();
    let report = async {
        loop {
            match shell.answers.try_recv() {
                Ok(Answer::Report(_, taken_at, _)) => return taken_at,
                _ => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    };
    let soon = Duration::from_secs(30);
    let taken_at = runtime.block_on(async { tokio::time::timeout(soon, report).await });
    assert!(taken_at.expect("it is sent to nobody") >= runs);
}
