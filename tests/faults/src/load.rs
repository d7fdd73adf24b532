//! Who the endpoints are, what they do with requests, and how many events come for them.
//!
//! Decides the load that all faults meet: endpoints of every kind in turn, events at an even pace
//! until it is stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::anyhow;
use postrider_bench::load::{Keys, Load, tenant};
use postrider_bench::plan::{Stream, plan};
use postrider_bench::rig::endpoint_id;
use postrider_bench::sink::order::Behaviour;
use postrider_bench::sink::{Door, Sink};
use postrider_e2e::SECRET;
use serde_json::{Value, json};

use crate::network::{HUB, RECEIVERS};

/// Endpoints.
pub const ENDPOINTS: u32 = 24;
/// Events a second.
pub const RATE: f64 = 60.0;
/// Ordering keys among all events.
pub const KEYS: u32 = 16;
/// Longer than any run: the load is stopped.
const HOURS: Duration = Duration::from_secs(4 * 3_600);
/// A refusal that leaves the breaker closed.
const REFUSED: u16 = 422;

/// What an endpoint asks for, or does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing special.
    Plain,
    /// It answers after 300 ms, so that requests are in flight at any time.
    Slow,
    /// `ordering: key`.
    Ordered,
    /// `ordering: key`, and it refuses every first attempt.
    OrderedRefusing,
    /// It refuses every first attempt.
    Refusing,
    /// At most so many attempts start in any such interval.
    Limited(usize, Duration),
}

impl Kind {
    /// Of an endpoint.
    pub const fn of(endpoint: u32) -> Self {
        match endpoint % 8 {
            0 | 1 => Self::Plain,
            2 => Self::Slow,
            3 => Self::Ordered,
            4 => Self::OrderedRefusing,
            5 => Self::Refusing,
            6 => Self::Limited(16, Duration::from_secs(2)),
            _ => Self::Limited(40, Duration::from_secs(5)),
        }
    }

    /// Whether its events keep the order of their keys.
    pub const fn is_ordered(self) -> bool {
        matches!(self, Self::Ordered | Self::OrderedRefusing)
    }

    /// The limit and its interval.
    pub const fn limit(self) -> Option<(usize, Duration)> {
        match self {
            Self::Limited(attempts, per) => Some((attempts, per)),
            _ => None,
        }
    }
}

/// The endpoint, for `endpoint apply`.
pub fn endpoint(number: u32, sink: &Sink) -> Value {
    let url = sink.url(number, Door::Side);
    let parts = url.split_once(RECEIVERS);
    let (before, after) = parts.expect("the side door is where the network leads to");
    let url = format!("{before}{HUB}{after}");
    let mut endpoint = json!({
        "id": endpoint_id(number),
        "tenant": tenant(number),
        "url": url,
        "signing": { "scheme": "standard", "secrets": [{ "id": "s1", "value": SECRET }] },
        // the second wait takes a retry topic; the rest outlasts every fault
        "retry": { "schedule": ["2s", "35s", "20s", "20s", "20s", "60s", "60s"], "window": "1h" },
    });
    let kind = Kind::of(number);
    if kind.is_ordered() {
        endpoint["ordering"] = json!("key");
    }
    if let Some((attempts, per)) = kind.limit() {
        let per = format!("{}s", per.as_secs());
        endpoint["rate_limit"] = json!({ "attempts": attempts, "per": per });
    }
    endpoint
}

/// Tells every receiver what to do.
///
/// # Errors
/// The sink is gone.
pub fn behave(sink: &mut Sink) -> anyhow::Result<()> {
    for number in 0..ENDPOINTS {
        let behaviour = match Kind::of(number) {
            Kind::Slow => Behaviour::Answer {
                status: 200,
                after_ms: 300,
            },
            Kind::Refusing | Kind::OrderedRefusing => Behaviour::RefuseUpTo {
                attempt: 1,
                status: REFUSED,
            },
            _ => continue,
        };
        sink.behave(number, number + 1, 1, behaviour)?;
    }
    Ok(())
}

/// The load, running.
pub struct Writing {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicUsize>,
    thread: JoinHandle<Load>,
}

impl Writing {
    /// Begins.
    pub fn start(mut load: Load, seed: u64) -> Self {
        load.with_keys(Keys::even(KEYS));
        let stop = Arc::<AtomicBool>::default();
        let written = load.written();
        let told = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            load.write(
                &plan(&[Stream::lasting(0..ENDPOINTS, RATE, HOURS)], seed),
                &told,
            );
            load
        });
        Self {
            stop,
            written,
            thread,
        }
    }

    /// How many events there are so far.
    pub fn written(&self) -> usize {
        self.written.load(Ordering::Acquire)
    }

    /// Ends it, and waits until all events are acknowledged.
    ///
    /// # Errors
    /// They are not.
    pub fn stop(self) -> anyhow::Result<Load> {
        self.stop.store(true, Ordering::Relaxed);
        let load = self
            .thread
            .join()
            .map_err(|_| anyhow!("the load panicked"))?;
        load.settle(0)?;
        Ok(load)
    }
}
