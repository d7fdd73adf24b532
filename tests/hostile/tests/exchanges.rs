//! Hostile exchanges, thousands of them.

mod run;

#[test]
fn memory_sockets_and_tasks_are_the_same_after_ten_thousand_hostile_exchanges() {
    run::hostile(&["exchanges", "--count", "10000"]);
}
