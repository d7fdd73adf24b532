//! Keeps librdkafka from missing slices that the group gave it, or wants back, in an answer that
//! came too late.
//!
//! Decides one thing: a heartbeat without an answer in time is told as a connection that broke. A
//! coordinator says once what a member shall have; a member that did not hear an answer has to ask
//! for all of it with a full heartbeat (KIP-848). After a broken connection librdkafka (2.12.1) does
//! so; after an answer that took longer than the heartbeat's interval it sends the next short one,
//! and what the answer said is never said again: a slice that nobody works, or one that nobody hands
//! over (ADR 0041).
//!
//! The linker sends the call of `rd_kafka_ConsumerGroupHeartbeatRequest` here (`--wrap`, see
//! `build.rs`). To be deleted once librdkafka asks for all after every error. Elsewhere than on Linux
//! the library stays as it is.
#![cfg(target_os = "linux")]
#![allow(unsafe_code, reason = "stands in for a function of librdkafka")]

use std::ffi::{c_int, c_void};
use std::sync::OnceLock;

/// `RD_KAFKA_RESP_ERR__TIMED_OUT` and `RD_KAFKA_RESP_ERR__TRANSPORT`.
const TIMED_OUT: c_int = -185;
const TRANSPORT: c_int = -195;

/// `rd_kafka_replyq_t`, as it is without the library's development flags.
#[repr(C)]
struct ReplyQueue {
    queue: *mut c_void,
    version: i32,
}

/// `rd_kafka_resp_cb_t`.
type Handler =
    extern "C" fn(*mut c_void, *mut c_void, c_int, *mut c_void, *mut c_void, *mut c_void);

/// The library's, which is the same for every heartbeat of a member that stays.
static HANDLER: OnceLock<Handler> = OnceLock::new();

unsafe extern "C" {
    fn __real_rd_kafka_ConsumerGroupHeartbeatRequest(
        broker: *mut c_void,
        group: *const c_void,
        member: *const c_void,
        epoch: i32,
        instance: *const c_void,
        rack: *const c_void,
        rebalance_timeout_ms: i32,
        topics: *const c_void,
        pattern: *mut c_void,
        assignor: *const c_void,
        assignment: *const c_void,
        answers: ReplyQueue,
        handler: Handler,
        opaque: *mut c_void,
    );
}

/// Sends it, with [`answered`] in place of its handler unless the member leaves by it.
///
/// # Safety
/// As of the original.
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_rd_kafka_ConsumerGroupHeartbeatRequest(
    broker: *mut c_void,
    group: *const c_void,
    member: *const c_void,
    epoch: i32,
    instance: *const c_void,
    rack: *const c_void,
    rebalance_timeout_ms: i32,
    topics: *const c_void,
    pattern: *mut c_void,
    assignor: *const c_void,
    assignment: *const c_void,
    answers: ReplyQueue,
    handler: Handler,
    opaque: *mut c_void,
) {
    // by its last one a member leaves; that has another handler, and nothing to miss
    let handler = if epoch < 0 {
        handler
    } else {
        HANDLER.get_or_init(|| handler);
        answered
    };
    // SAFETY: everything as it came; the handler in place of theirs has its type and calls it.
    unsafe {
        __real_rd_kafka_ConsumerGroupHeartbeatRequest(
            broker,
            group,
            member,
            epoch,
            instance,
            rack,
            rebalance_timeout_ms,
            topics,
            pattern,
            assignor,
            assignment,
            answers,
            handler,
            opaque,
        );
    }
}

extern "C" fn answered(
    client: *mut c_void,
    broker: *mut c_void,
    error: c_int,
    answer: *mut c_void,
    request: *mut c_void,
    opaque: *mut c_void,
) {
    if let Some(handler) = HANDLER.get() {
        handler(client, broker, told(error), answer, request, opaque);
    }
}

/// As what an error is told.
const fn told(error: c_int) -> c_int {
    if error == TIMED_OUT { TRANSPORT } else { error }
}

#[cfg(test)]
mod tests {
    use super::{TIMED_OUT, TRANSPORT, told};

    unsafe extern "C" {
        /// By the name that librdkafka calls, which the linker sends to us.
        fn rd_kafka_ConsumerGroupHeartbeatRequest();
    }

    #[test]
    fn heartbeats_pass_here() {
        let called = rd_kafka_ConsumerGroupHeartbeatRequest as *const ();
        let ours = super::__wrap_rd_kafka_ConsumerGroupHeartbeatRequest as *const ();
        assert_eq!(called, ours);
    }

    #[test]
    fn an_answer_that_did_not_come_in_time_is_a_broken_connection() {
        assert_eq!(told(TIMED_OUT), TRANSPORT);
        for other in [0, TRANSPORT, -197, 25, 110] {
            assert_eq!(told(other), other);
        }
    }
}
