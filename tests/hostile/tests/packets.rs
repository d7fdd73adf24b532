//! Packets that leave for denied ranges: none, and were there any they would be counted.

mod run;

#[test]
fn no_packet_leaves_for_a_denied_range_whatever_url_name_redirect_or_environment() {
    run::hostile(&["packets"]);
}

#[test]
fn packets_leave_for_every_range_when_all_are_allowed() {
    run::hostile(&["packets", "--allowed"]);
}
