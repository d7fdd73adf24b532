//! What the broker grants a group.

use std::time::Duration;

use futures_executor::block_on;
use postrider_kafka::{ClientSettings, EmbeddedBroker, Granted, granted};
use rdkafka::admin::{AdminOptions, AlterConfig, ResourceSpecifier};

use crate::world::{LIMIT, World};

#[test]
fn a_groups_own_settings_win_over_the_brokers() {
    let world = World::new("granted");
    // As in the settings of the tests' broker.
    let usual = Granted {
        session: Duration::from_secs(15),
        heartbeat: Duration::from_secs(1),
    };
    assert_eq!(granted(&world.settings, &world.group, LIMIT), Some(usual));

    let own = AlterConfig::new(ResourceSpecifier::Group(&world.group))
        .set("consumer.session.timeout.ms", "30000")
        .set("consumer.heartbeat.interval.ms", "2000");
    let altered = block_on(world.admin().alter_configs(&[own], &AdminOptions::new()));
    assert!(altered.unwrap().iter().all(Result::is_ok));
    let own = Granted {
        session: Duration::from_secs(30),
        heartbeat: Duration::from_secs(2),
    };
    let deadline = std::time::Instant::now() + LIMIT;
    while granted(&world.settings, &world.group, LIMIT) != Some(own) {
        assert!(std::time::Instant::now() < deadline, "still {usual:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_broker_that_does_not_say_grants_nothing_that_is_known() {
    let broker = EmbeddedBroker::start().unwrap();
    let settings = |brokers: &str| ClientSettings {
        brokers: brokers.to_owned(),
        properties: Vec::new(),
        client_id: "test".to_owned(),
    };
    let wait = Duration::from_secs(2);
    assert_eq!(granted(&settings(&broker.brokers()), "g", wait), None);
    assert_eq!(granted(&settings("127.0.0.1:9"), "g", wait), None);
}
