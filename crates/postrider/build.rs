//! Links the calls that `src/leaderless.rs`, `src/rebootstrap.rs` and `src/unheard.rs` stand in for
//! to them.

#[expect(clippy::disallowed_methods, reason = "how Cargo names the target")]
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        for function in [
            "rd_kafkap_leader_discovery_set_topic",
            "rd_kafka_rebootstrap_tmr_stop",
            "rd_kafka_ConsumerGroupHeartbeatRequest",
        ] {
            println!("cargo::rustc-link-arg-bins=-Wl,--wrap={function}");
        }
    }
}
