//! Keeps librdkafka from forgetting to connect again, which leaves a client without a broker for
//! good.
//!
//! Decides one thing: a start over at `bootstrap.servers` that was asked for is not taken back. A
//! metadata answer may name no broker (a single one that has just lost its registration says so of
//! itself): librdkafka (2.12.1) drops its last connection and asks for a start over, and, when the
//! same answer is handled to its end on another thread, takes the timer of that back, not the note
//! that it is under way. From then on nobody can be asked for anything, nor for a start over (ADR
//! 0026, confluentinc/librdkafka#5301).
//!
//! The linker sends the call of `rd_kafka_rebootstrap_tmr_stop` here (`--wrap`, see `build.rs`). To
//! be deleted once librdkafka takes back both or neither. Elsewhere than on Linux the library stays
//! as it is.
#![cfg(target_os = "linux")]
#![allow(unsafe_code, reason = "stands in for a function of librdkafka")]

use std::ffi::{c_int, c_void};

/// Takes nothing back. A start over that was not needed adds the brokers of `bootstrap.servers`
/// once more, as at the beginning; the next metadata answer puts the known ones in their place.
#[unsafe(no_mangle)]
extern "C" fn __wrap_rd_kafka_rebootstrap_tmr_stop(_client: *mut c_void) -> c_int {
    0
}

#[cfg(test)]
mod tests {
    use std::ffi::{c_int, c_void};

    unsafe extern "C" {
        /// By the name that librdkafka calls, which the linker sends to us.
        fn rd_kafka_rebootstrap_tmr_stop(client: *mut c_void) -> c_int;
    }

    #[test]
    fn a_start_over_is_not_taken_back() {
        // SAFETY: ours looks at no client; librdkafka's would read this one and end the test.
        let stopped = unsafe { rd_kafka_rebootstrap_tmr_stop(std::ptr::null_mut()) };
        assert_eq!(stopped, 0);
    }
}
