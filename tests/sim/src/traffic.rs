//! Merchants' endpoints and the router: what is configured, what is to be delivered.
//!
//! Decides configurations (schedules from seconds to days), changes while deliveries are under way,
//! bursts of events with fan-out, repetitions by a router that crashed, and records that are no
//! deliveries.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use postrider_domain::{
    Delivery, DeliveryId, Endpoint, EndpointId, EndpointState, Event as Trigger, Lane, OnExhausted,
    Ordering, Origin, RateLimit, Record, RetryPolicy, RetryPreset, Slice, Timestamp,
};

use crate::agenda::Event;
use crate::clock::{MICROS, MINUTE, Micros};
use crate::engine::{LaneBody, WorkerSettings};
use crate::plan::Plan;
use crate::receiver::Mood;
use crate::world::World;

/// A merchant's endpoint and the receiver behind it.
#[derive(Debug)]
pub(crate) struct Merchant {
    pub(crate) id: EndpointId,
    pub(crate) slice: Slice,
    /// `None` = deleted.
    pub(crate) endpoint: Option<Endpoint>,
    version: u64,
    pub(crate) mood: Mood,
    /// It stays as it is when everything else heals.
    dead: bool,
}

/// What events bring, and how much of it most of them do.
static PAYLOAD: [u8; 512 << 10] = [0; 512 << 10];
const BYTES: usize = 100;

/// What events are ordered by.
const ORDERING_KEYS: [&str; 4] = ["k0", "k1", "k2", "k3"];

/// What the workers of an installation are told.
pub(crate) fn worker_settings(plan: &Plan, rng: &mut fastrand::Rng) -> WorkerSettings {
    WorkerSettings {
        in_flight_max: plan.in_flight_max,
        concurrency: rng.u16(1..=16),
        timeout: Duration::from_secs(15),
        retry: retry(rng),
        session: plan.session,
        heartbeat: plan.heartbeat,
    }
}

/// The item that a record which is no delivery stands for.
pub(crate) fn garbage_item(record: &Record) -> u32 {
    u32::try_from(record.origin.offset).expect("made here")
}

impl World {
    pub(crate) fn settle_merchants(&mut self) {
        for n in 0..self.plan.endpoints {
            let id: EndpointId = format!("ep{n}").parse().expect("a valid id");
            let slice = self.slice_count.slice_of(&id);
            let endpoint = self.configuration(&id);
            let sick = self.plan.faults.sick_receivers && self.rng.bool();
            let mood = if sick {
                Mood::sick(&mut self.rng)
            } else {
                Mood::healthy(&mut self.rng)
            };
            // One that only asks to wait would do so until its window is over.
            let asks = matches!(mood, Mood::Asks(_));
            let dead = sick && !asks && self.rng.u8(..4) == 0;
            self.merchants.push(Merchant {
                id,
                slice,
                endpoint: Some(endpoint),
                version: 1,
                mood,
                dead,
            });
            self.publish(n);
            if dead {
                self.audit.endpoint_dead(&self.merchants[n].id);
            }
            if self.plan.faults.sick_receivers {
                for _ in 0..self.rng.usize(..4) {
                    let at = self.rng.u64(..self.plan.faulty_for);
                    self.later(at, Event::Mood(n));
                }
            }
        }
    }

    pub(crate) fn mood_of(&self, id: &EndpointId) -> Mood {
        let merchant = self.merchants.iter().find(|merchant| merchant.id == *id);
        merchant.map_or(Mood::Refuses, |merchant| merchant.mood)
    }

    pub(crate) fn change_mood(&mut self, n: usize) {
        if self.healed || self.merchants[n].dead {
            return;
        }
        let sick = self.rng.bool();
        let mood = if sick {
            Mood::sick(&mut self.rng)
        } else {
            Mood::healthy(&mut self.rng)
        };
        self.merchants[n].mood = mood;
        self.trace(|world| format!("{} is now {mood:?}", world.merchants[n].id));
    }

    /// Receivers answer again, but for the dead ones; paused endpoints are resumed, blocked ones
    /// released.
    pub(crate) fn heal_merchants(&mut self) {
        for n in 0..self.merchants.len() {
            let healthy = Mood::healthy(&mut self.rng);
            let merchant = &mut self.merchants[n];
            if !merchant.dead {
                merchant.mood = healthy;
            }
            let waits = |endpoint: &&mut Endpoint| {
                endpoint.state == EndpointState::Paused
                    || endpoint.on_exhausted == OnExhausted::Block
            };
            if let Some(endpoint) = merchant.endpoint.as_mut().filter(waits) {
                if endpoint.state == EndpointState::Paused {
                    endpoint.state = EndpointState::Active;
                }
                endpoint.on_exhausted = OnExhausted::Continue;
                self.publish(n);
            }
        }
    }

    /// Someone changes an endpoint.
    pub(crate) fn change_endpoint(&mut self) {
        let n = self.rng.usize(..self.merchants.len());
        let mut fresh = self.configuration(&self.merchants[n].id.clone());
        if let Some(endpoint) = &self.merchants[n].endpoint
            && self.rng.u8(..4) > 0
        {
            fresh.ordering = endpoint.ordering;
        }
        let choice = self.rng.u8(..10);
        let merchant = &mut self.merchants[n];
        match (&mut merchant.endpoint, choice) {
            (None, _) => merchant.endpoint = Some(fresh),
            (endpoint, 0) => *endpoint = None,
            (Some(endpoint), 1) => endpoint.state = EndpointState::Disabled,
            (Some(endpoint), 2..4) => endpoint.state = EndpointState::Paused,
            (Some(endpoint), 4..7) => endpoint.state = EndpointState::Active,
            (Some(endpoint), _) => {
                let state = endpoint.state;
                *endpoint = fresh;
                endpoint.state = state;
            }
        }
        self.publish(n);
    }

    /// The catalogue hears of an endpoint's configuration.
    fn publish(&mut self, n: usize) {
        let merchant = &mut self.merchants[n];
        merchant.version += 1;
        if let Some(endpoint) = &mut merchant.endpoint {
            endpoint.version = merchant.version;
        }
        let (id, slice, endpoint) = (
            merchant.id.clone(),
            merchant.slice,
            merchant.endpoint.clone(),
        );
        self.trace(|_| {
            let shown = endpoint
                .as_ref()
                .map(|e| (e.state, e.concurrency, e.timeout, e.retry.as_ref()));
            let order = endpoint.as_ref().map(|e| (e.ordering, e.on_exhausted));
            format!("{id} of slice {slice} is configured: {shown:?}, {order:?}")
        });
        self.audit
            .endpoint_changed(self.now, &id, endpoint.as_ref(), &self.settings);
        self.logs.put(slice, id, endpoint);
        self.wake_followers(slice);
    }

    fn configuration(&mut self, id: &EndpointId) -> Endpoint {
        let rng = &mut self.rng;
        let concurrency = rng.bool().then(|| [1, 2, 4, 16][rng.usize(..4)]);
        let timeout = rng
            .bool()
            .then(|| Duration::from_secs([1, 5, 15, 20][rng.usize(..4)]));
        let policy = retry(rng);
        let rate_limit = (self.plan.limits && rng.bool()).then(|| limit(rng));
        let (ordering, on_exhausted) = if self.plan.ordered {
            order(rng)
        } else {
            (Ordering::None, OnExhausted::Continue)
        };
        let tenant = "acme".parse().expect("a valid tenant");
        Endpoint {
            concurrency,
            timeout,
            retry: rng.bool().then_some(policy),
            rate_limit,
            ordering,
            on_exhausted,
            ..Endpoint::new(id.clone(), tenant, "https://acme.example/")
        }
    }

    /// The router has read a few events.
    pub(crate) fn burst(&mut self) {
        let events = self.rng.u32(1..=self.plan.burst_max);
        for _ in 0..events {
            // Few, so that many wait for each other.
            let key = if self.plan.ordered {
                self.rng.usize(..ORDERING_KEYS.len() + 1)
            } else {
                ORDERING_KEYS.len()
            };
            let key = ORDERING_KEYS.get(key).copied();
            let fan_out = self.rng.usize(1..=self.merchants.len().min(3));
            let first = self.rng.usize(..self.merchants.len());
            for n in first..first + fan_out {
                let n = n % self.merchants.len();
                let replay = self.plan.replays && self.rng.u8(..6) == 0;
                let lane = if replay {
                    Lane::Redeliveries
                } else {
                    Lane::Deliveries
                };
                self.deliver(n, lane, key, BYTES);
            }
        }
        if self.plan.faults.garbage && self.rng.u8(..4) == 0 {
            self.write_garbage();
        }
    }

    /// More events at once than a worker has room for.
    pub(crate) fn flood(&mut self) {
        let Some(flood) = self.plan.flood else {
            return;
        };
        self.trace(|_| format!("a flood: {flood:?}"));
        for _ in 0..flood.events {
            let n = self.rng.usize(..self.merchants.len());
            self.deliver(n, Lane::Deliveries, None, flood.bytes);
        }
    }

    fn deliver(&mut self, n: usize, lane: Lane, key: Option<&str>, bytes: usize) {
        let merchant = &self.merchants[n];
        let routed = merchant
            .endpoint
            .as_ref()
            .is_some_and(|e| e.state != EndpointState::Disabled);
        if !routed {
            return;
        }
        let (endpoint, slice) = (merchant.id.clone(), merchant.slice);
        let number = u128::from(self.audit.next_item()) + 1;
        let id = DeliveryId::from_bytes(number.to_be_bytes());
        let item = self
            .audit
            .made(self.now, Some(id), Some(endpoint.clone()), slice);
        let accepted_at = Timestamp::from_millis(self.broker_clock.shows(self.now).as_millis());
        let delivery = Delivery {
            id,
            endpoint,
            event: Trigger {
                id: "e".into(),
                source: "s".into(),
                event_type: "t".into(),
                tenant: "acme".parse().expect("a valid tenant"),
                time: None,
                ordering_key: key.map(Into::into),
                content_type: None,
                traceparent: None,
                extensions: Vec::new(),
                data: Bytes::from_static(&PAYLOAD[..bytes]),
                accepted_at,
            },
            attempts: 0,
            due: None,
            test: false,
        };
        self.trace(|world| {
            format!(
                "router: {lane}/{slice} has #{item} for {}",
                world.merchants[n].id
            )
        });
        if lane == Lane::Redeliveries {
            self.audit.replayed(item);
        }
        self.audit.keyed(item, key);
        self.append(slice, lane, item, LaneBody::Delivery(Arc::new(delivery)));
        if lane != Lane::Redeliveries && self.plan.faults.router_repeats && self.chance(60) {
            let after = [MICROS, MINUTE, 30 * MINUTE][self.rng.usize(..3)];
            let after: Micros = self.rng.u64(..after);
            self.later(after, Event::Repeat(item));
        }
    }

    /// The router crashed, reads an event again and makes the same delivery of it.
    pub(crate) fn repeat(&mut self, item: u32) {
        let found = self.logs.lanes().find_map(|((slice, lane), log)| {
            let copy = log.records.iter().find(|stored| stored.item == item);
            copy.filter(|_| *lane == Lane::Deliveries)
                .map(|stored| (*slice, stored.body.clone()))
        });
        if let Some((slice, body)) = found {
            self.trace(|_| format!("router: deliveries/{slice} has #{item} again"));
            self.audit.repeated_by_router(item);
            self.append(slice, Lane::Deliveries, item, body);
        }
    }

    fn write_garbage(&mut self) {
        let slice = Slice(self.rng.u16(..self.plan.slices));
        let item = self.audit.made(self.now, None, None, slice);
        let record = Record {
            origin: Origin {
                topic: "deliveries".into(),
                partition: i32::from(slice.0),
                offset: i64::from(item),
            },
            timestamp: self.broker_clock.shows(self.now),
            key: None,
            value: Some(Bytes::from_static(b"?")),
            headers: Vec::new(),
        };
        self.trace(|_| format!("somebody: deliveries/{slice} has #{item}, which is no delivery"));
        self.append(
            slice,
            Lane::Deliveries,
            item,
            LaneBody::Garbage(Arc::new(record)),
        );
    }
}

/// A rule, and what becomes of a head that is given up.
fn order(rng: &mut fastrand::Rng) -> (Ordering, OnExhausted) {
    let rules = [
        Ordering::None,
        Ordering::Key,
        Ordering::Key,
        Ordering::Endpoint,
    ];
    let ends = [
        OnExhausted::Continue,
        OnExhausted::Continue,
        OnExhausted::Block,
    ];
    (rules[rng.usize(..4)], ends[rng.usize(..3)])
}

/// From one a day to 50 a second.
fn limit(rng: &mut fastrand::Rng) -> RateLimit {
    let (attempts, per) = [
        (1, 86_400),
        (5, 3_600),
        (70, 3_600),
        (10, 600),
        (1, 60),
        (30, 60),
        (200, 60),
        (2, 5),
        (3, 3),
        (1, 2),
        (1, 1),
        (5, 1),
        (50, 1),
    ][rng.usize(..13)];
    RateLimit {
        attempts,
        per: Duration::from_secs(per),
        smooth: rng.u8(..4) == 0,
    }
}

/// From seconds to days.
fn retry(rng: &mut fastrand::Rng) -> RetryPolicy {
    let schedule: &[u64] = match rng.u8(..8) {
        0 => {
            let mut policy = RetryPreset::ALL[rng.usize(..3)].policy();
            policy.window = policy.window.min(Duration::from_secs(3 * 86_400));
            return policy;
        }
        1 => &[],
        2 => &[1, 1, 1, 1],
        3 => &[5, 20, 60],
        4 => &[3, 10, 25, 40, 70, 200, 3_700],
        5 => &[29, 30, 31, 119, 120, 121, 599, 600, 601],
        6 => &[5, 300, 1_800, 7_200, 18_000, 36_000, 50_400],
        _ => &[60, 600, 3_600, 14_400, 43_200, 86_400],
    };
    RetryPolicy {
        schedule: schedule.iter().copied().map(Duration::from_secs).collect(),
        window: Duration::from_secs([600, 3_600, 21_600, 86_400][rng.usize(..4)]),
        jitter_permille: [0, 100][rng.usize(..2)],
    }
}
