//! Links the call that `src/leaderless.rs` stands in for to it.

#[expect(clippy::disallowed_methods, reason = "how Cargo names the target")]
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo::rustc-link-arg-bins=-Wl,--wrap=rd_kafkap_leader_discovery_set_topic");
    }
}
