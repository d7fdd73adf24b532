//! What the broker grants a group: session and heartbeat.
//!
//! Under KIP-848 the broker decides both, and a lease that rests on a longer session than it keeps
//! is none. Decides how they are read: by describing the group as a configuration resource, which
//! answers with its own override where there is one, else with the broker's
//! `group.consumer.session.timeout.ms` and `group.consumer.heartbeat.interval.ms`. Leaves to the
//! caller what to do when they are not what it was configured with, or cannot be read.

use std::ffi::{CStr, CString};
use std::ptr::{self, NonNull};
use std::slice;
use std::time::Duration;

use rdkafka::bindings as native;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::types::RDKafkaRespErr;
use tracing::debug;

use crate::client::{ClientSettings, LogContext};

/// What the broker grants a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// How long a member may be silent.
    pub session: Duration,
    /// How often it has to be heard of.
    pub heartbeat: Duration,
}

/// Asks what the broker grants a group; `None` when it does not say within `wait`: not allowed to
/// ask (`DescribeConfigs` on the group), a broker before 4.0, none there, the embedded one.
#[must_use]
pub fn granted(settings: &ClientSettings, group: &str, wait: Duration) -> Option<Granted> {
    let client: BaseConsumer<LogContext> = settings
        .consumer(group)
        .create_with_context(LogContext::silent())
        .ok()?;
    let configs = match describe_group(&client, group, wait) {
        Ok(configs) => configs,
        Err(reason) => {
            debug!(
                group,
                reason, "the broker does not say what it grants the group"
            );
            return None;
        }
    };
    let value = |wanted: &str| {
        let (_, value) = configs.iter().find(|(name, _)| name == wanted)?;
        value.parse().ok().map(Duration::from_millis)
    };
    Some(Granted {
        session: value("consumer.session.timeout.ms")?,
        heartbeat: value("consumer.heartbeat.interval.ms")?,
    })
}

/// Names and values of a group's configuration.
///
/// Not through the binding's own `describe_configs`: it refuses the answer for a group that has an
/// override, because it does not know that source.
#[expect(
    unsafe_code,
    reason = "the safe binding refuses groups that have settings of their own"
)]
fn describe_group(
    client: &BaseConsumer<LogContext>,
    group: &str,
    wait: Duration,
) -> Result<Vec<(String, String)>, String> {
    let name = CString::new(group).map_err(|e| e.to_string())?;
    let wait = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
    let client = client.client().native_ptr();
    // SAFETY: the client lives through the function. What is made here is owned by one of the
    // guards below, which give it back in reverse order; the request copies resource and options.
    // Texts are copied out while their event lives. A null pointer is never followed.
    unsafe {
        let queue = Owned::new(
            native::rd_kafka_queue_new(client),
            native::rd_kafka_queue_destroy,
        )?;
        let resource = Owned::new(
            native::rd_kafka_ConfigResource_new(
                native::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_GROUP,
                name.as_ptr(),
            ),
            native::rd_kafka_ConfigResource_destroy,
        )?;
        let options = Owned::new(
            native::rd_kafka_AdminOptions_new(
                client,
                native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS,
            ),
            native::rd_kafka_AdminOptions_destroy,
        )?;
        native::rd_kafka_AdminOptions_set_request_timeout(
            options.pointer(),
            wait,
            ptr::null_mut(),
            0,
        );
        let mut resources = [resource.pointer()];
        native::rd_kafka_DescribeConfigs(
            client,
            resources.as_mut_ptr(),
            resources.len(),
            options.pointer(),
            queue.pointer(),
        );
        let event = Owned::new(
            native::rd_kafka_queue_poll(queue.pointer(), wait),
            native::rd_kafka_event_destroy,
        )?;
        if native::rd_kafka_event_error(event.pointer())
            != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
        {
            return Err(text(native::rd_kafka_event_error_string(event.pointer())));
        }
        let result = native::rd_kafka_event_DescribeConfigs_result(event.pointer());
        if result.is_null() {
            return Err("another answer than to the question".to_owned());
        }
        let mut count = 0;
        let described = native::rd_kafka_DescribeConfigs_result_resources(result, &raw mut count);
        let Some(described) = list(described, count).first().copied() else {
            return Err("an empty answer".to_owned());
        };
        if native::rd_kafka_ConfigResource_error(described)
            != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
        {
            return Err(text(native::rd_kafka_ConfigResource_error_string(
                described,
            )));
        }
        let entries = native::rd_kafka_ConfigResource_configs(described, &raw mut count);
        let entry = |entry: &*const native::rd_kafka_ConfigEntry_t| {
            let name = text(native::rd_kafka_ConfigEntry_name(*entry));
            (name, text(native::rd_kafka_ConfigEntry_value(*entry)))
        };
        Ok(list(entries, count).iter().map(entry).collect())
    }
}

/// Something of librdkafka's that is given back when this is dropped.
struct Owned<T> {
    pointer: NonNull<T>,
    give_back: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    fn new(pointer: *mut T, give_back: unsafe extern "C" fn(*mut T)) -> Result<Self, String> {
        NonNull::new(pointer)
            .map(|pointer| Self { pointer, give_back })
            .ok_or_else(|| "no answer in time".to_owned())
    }

    fn pointer(&self) -> *mut T {
        self.pointer.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    #[expect(unsafe_code, reason = "gives back what librdkafka made")]
    fn drop(&mut self) {
        // SAFETY: the pointer came with this function, and goes back once.
        unsafe { (self.give_back)(self.pointer.as_ptr()) }
    }
}

/// A list of librdkafka's; empty when there is none.
///
/// # Safety
/// `items` is null or points to `count` items that outlive `'a`.
#[expect(unsafe_code, reason = "reads what librdkafka answered")]
unsafe fn list<'a, T>(items: *mut T, count: usize) -> &'a [T] {
    if items.is_null() {
        return &[];
    }
    // SAFETY: as above.
    unsafe { slice::from_raw_parts(items, count) }
}

/// # Safety
/// `text` is null or ends with a zero byte.
#[expect(unsafe_code, reason = "reads what librdkafka answered")]
unsafe fn text(text: *const std::ffi::c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: as above.
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned()
}
