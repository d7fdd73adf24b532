//! A steady load of TLS.

mod run;

#[test]
fn ninety_nine_of_a_hundred_requests_find_a_connection() {
    run::hostile(&["reuse", "--hosts", "200", "--rounds", "120"]);
}
