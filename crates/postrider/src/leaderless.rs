//! Keeps librdkafka from reading memory that it never wrote, which is a crash when a broker starts.
//!
//! Decides one thing: a partition that nobody described has an id that no topic has. A broker that
//! refuses a fetch names the partition's leader (KIP-951), or -1 where it knows none yet. librdkafka
//! (2.12.1, and 2.15.1 still) makes room for every partition that was named, fills in those with a
//! leader, and then goes through all of them: the rest holds whatever the heap held, and serves as
//! an index (ADR 0025).
//!
//! The linker sends the calls of `rd_kafkap_leader_discovery_set_topic`, which makes the room, here
//! (`--wrap`, see `build.rs`). To be deleted together with `build.rs` once librdkafka fills in or
//! counts out the leaderless ones. Elsewhere than on Linux the library stays as it is.
#![cfg(target_os = "linux")]
#![allow(
    unsafe_code,
    reason = "stands in for a function of librdkafka, whose memory it writes to"
)]

use std::ffi::{c_char, c_int, c_void};

/// `rd_kafka_metadata_partition_t`.
#[repr(C)]
struct Partition {
    id: i32,
    error: c_int,
    leader: i32,
    replica_count: c_int,
    replicas: *mut i32,
    in_sync_count: c_int,
    in_sync: *mut i32,
}

/// `rd_kafka_metadata_topic_t`.
#[repr(C)]
struct Topic {
    name: *mut c_char,
    partition_count: c_int,
    partitions: *mut Partition,
    error: c_int,
}

/// `rd_kafka_metadata_t`, with which `rd_kafka_metadata_internal_t` begins.
#[repr(C)]
struct Metadata {
    broker_count: c_int,
    brokers: *mut c_void,
    topic_count: c_int,
    topics: *mut Topic,
    broker_id: i32,
    broker_name: *mut c_char,
}

/// `rd_kafka_Uuid_t`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Uuid {
    most_significant: i64,
    least_significant: i64,
    base64: [c_char; 23],
}

/// The id of a partition that is none: no topic has as many, so that librdkafka passes it over.
const NO_PARTITION: i32 = i32::MAX;

unsafe extern "C" {
    /// librdkafka's own.
    fn __real_rd_kafkap_leader_discovery_set_topic(
        room: *mut c_void,
        metadata: *mut Metadata,
        topic: c_int,
        topic_id: Uuid,
        topic_name: *mut c_char,
        partition_count: c_int,
    );
}

/// Makes room for the partitions of a topic, each of which is none until it is described.
///
/// # Safety
/// As librdkafka's: `metadata` has room for its topics, of which `topic` is one.
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_rd_kafkap_leader_discovery_set_topic(
    room: *mut c_void,
    metadata: *mut Metadata,
    topic: c_int,
    topic_id: Uuid,
    topic_name: *mut c_char,
    partition_count: c_int,
) {
    // SAFETY: what librdkafka's caller gave goes on to librdkafka, which then has made `topics`
    // and, of this topic, as many `partitions` as it says.
    unsafe {
        __real_rd_kafkap_leader_discovery_set_topic(
            room,
            metadata,
            topic,
            topic_id,
            topic_name,
            partition_count,
        );
        let Ok(topic) = usize::try_from(topic) else {
            return;
        };
        let topic = &*(*metadata).topics.add(topic);
        let count = usize::try_from(topic.partition_count).unwrap_or(0);
        // Written whole, for none of it was ever written.
        for number in 0..count {
            topic.partitions.add(number).write(Partition::NONE);
        }
    }
}

impl Partition {
    const NONE: Self = Self {
        id: NO_PARTITION,
        error: 0,
        leader: -1,
        replica_count: 0,
        replicas: std::ptr::null_mut(),
        in_sync_count: 0,
        in_sync: std::ptr::null_mut(),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `rd_tmpabuf_t`: memory to be handed out.
    #[repr(C)]
    struct Room {
        size: usize,
        used: usize,
        bytes: *mut u8,
        failed: c_int,
        assert_on_fail: c_char,
    }

    /// As much of `rd_kafka_metadata_internal_t` as is used.
    #[repr(C)]
    struct Internal {
        metadata: Metadata,
        brokers_sorted: *mut c_void,
        brokers: *mut c_void,
        topics: *mut [u64; 16],
        rest: [u64; 16],
    }

    unsafe extern "C" {
        /// By the name that librdkafka calls, which the linker sends to us.
        fn rd_kafkap_leader_discovery_set_topic(
            room: *mut c_void,
            metadata: *mut Metadata,
            topic: c_int,
            topic_id: Uuid,
            topic_name: *mut c_char,
            partition_count: c_int,
        );
    }

    #[test]
    fn a_partition_that_is_not_described_is_none() {
        // what the heap held: as an index it would be 43 690 of 3
        let mut heap = vec![0xaau64; 512];
        let mut room = Room {
            size: size_of_val(heap.as_slice()),
            used: 0,
            bytes: heap.as_mut_ptr().cast(),
            failed: 0,
            assert_on_fail: 1,
        };
        let mut topic = Topic {
            name: std::ptr::null_mut(),
            partition_count: 0,
            partitions: std::ptr::null_mut(),
            error: 0,
        };
        let mut internal_topic = [0; 16];
        let mut internal = Internal {
            metadata: Metadata {
                broker_count: 0,
                brokers: std::ptr::null_mut(),
                topic_count: 1,
                topics: &raw mut topic,
                broker_id: 1,
                broker_name: std::ptr::null_mut(),
            },
            brokers_sorted: std::ptr::null_mut(),
            brokers: std::ptr::null_mut(),
            topics: &raw mut internal_topic,
            rest: [0; 16],
        };
        let topic_id = Uuid {
            most_significant: 7,
            least_significant: 8,
            base64: [0; 23],
        };
        // SAFETY: room, one topic and what librdkafka keeps of it are there.
        unsafe {
            rd_kafkap_leader_discovery_set_topic(
                (&raw mut room).cast(),
                (&raw mut internal).cast(),
                0,
                topic_id,
                std::ptr::null_mut(),
                3,
            );
        }
        assert_eq!(topic.partition_count, 3);
        for number in 0..3 {
            // SAFETY: librdkafka made three, and we wrote them.
            let partition = unsafe { &*topic.partitions.add(number) };
            assert_eq!((partition.id, partition.leader), (NO_PARTITION, -1));
        }
    }
}
