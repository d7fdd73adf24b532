//! What every group member of ours shares: the protocol, and commits whose result is seen.

use std::ptr;

use rdkafka::TopicPartitionList;
use rdkafka::bindings::{
    rd_kafka_commit_queue, rd_kafka_queue_destroy, rd_kafka_queue_get_consumer,
};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::types::RDKafkaRespErr;

/// Who decides which member reads which partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupProtocol {
    /// The broker (KIP-848); Kafka 4.0 and later.
    Consumer,
    /// The classic protocol, cooperative-sticky: a draining or dead member delays the commits of
    /// the others.
    Classic,
}

impl GroupProtocol {
    pub(crate) fn configure(self, config: &mut ClientConfig) {
        match self {
            Self::Consumer => config.set("group.protocol", "consumer"),
            Self::Classic => config.set("partition.assignment.strategy", "cooperative-sticky"),
        };
    }
}

/// Queues a commit whose result comes to `commit_callback` during a poll; the binding's own
/// asynchronous commit reports it to nobody. `false` = none was queued, no result will come.
#[expect(
    unsafe_code,
    reason = "the binding has no call for a commit with a result"
)]
pub(crate) fn commit_queued<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    list: &TopicPartitionList,
) -> bool {
    let client = consumer.client().native_ptr();
    // SAFETY: client and list live through the calls; librdkafka copies the list and keeps its own
    // reference to the queue, ours is given back.
    let answer = unsafe {
        let queue = rd_kafka_queue_get_consumer(client);
        let answer = rd_kafka_commit_queue(client, list.ptr(), queue, None, ptr::null_mut());
        rd_kafka_queue_destroy(queue);
        answer
    };
    answer == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
}
