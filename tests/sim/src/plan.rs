//! What a seed means: how large the installation is, which faults it meets and for how long.
//!
//! Decides by swarm testing: each kind of fault is switched on or off for the whole run, as a mix
//! of few kinds reaches states that all kinds at once hide. Leaves when each fault strikes to
//! `nemesis`, what receivers do to `receiver`.

use std::time::Duration;

use crate::audit::Promise;
use crate::clock::{HOUR, MICROS, MINUTE, Micros};

/// One run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) slices: u16,
    pub(crate) workers: usize,
    pub(crate) endpoints: usize,
    /// How long faults strike and deliveries are made.
    pub(crate) faulty_for: Micros,
    /// Bursts of deliveries in that time.
    pub(crate) bursts: u32,
    /// Most events of a burst.
    pub(crate) burst_max: u32,
    /// Faults in that time.
    pub(crate) strikes: u32,
    pub(crate) in_flight_max: usize,
    pub(crate) session: Duration,
    pub(crate) heartbeat: Duration,
    pub(crate) faults: Faults,
    /// Whether endpoints have rate limits.
    pub(crate) limits: bool,
    /// Whether deliveries are sent again on request.
    pub(crate) replays: bool,
    /// Whether endpoints have an order.
    pub(crate) ordered: bool,
    /// Largest difference of a worker's wall clock from true time, either way.
    pub(crate) clock_offset: Micros,
    /// Largest error of a worker's clock rate, in millionths, either way.
    pub(crate) clock_rate: u32,
    /// Most records handed over at once by a reader.
    pub(crate) batch_max: usize,
    /// More at once than workers have room for.
    pub(crate) flood: Option<Flood>,
    /// Largest gap between two records of a log.
    pub(crate) gap_max: i64,
    /// Whether the process carries out orders after each record, or after a batch of them.
    pub(crate) orders_after_each: bool,
}

/// A burst that fills the memory of whoever reads it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flood {
    pub(crate) events: u32,
    /// Of each.
    pub(crate) bytes: usize,
}

/// Which faults strike.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub(crate) struct Faults {
    pub(crate) crash: bool,
    pub(crate) freeze: bool,
    pub(crate) stop: bool,
    pub(crate) cut: bool,
    pub(crate) coordinator: bool,
    /// The only member of the group is removed by hand.
    pub(crate) removal: bool,
    pub(crate) partition_outage: bool,
    /// Writes that fail and are not on the log.
    pub(crate) write_fails: bool,
    /// Writes that are reported failed and are on the log.
    pub(crate) write_lost: bool,
    /// Acknowledgements that come seconds late.
    pub(crate) write_late: bool,
    pub(crate) commit_refused: bool,
    /// Commits that count and whose answer says they do not.
    pub(crate) commit_lost: bool,
    pub(crate) commit_late: bool,
    pub(crate) router_repeats: bool,
    pub(crate) endpoint_changes: bool,
    pub(crate) retention: bool,
    pub(crate) garbage: bool,
    pub(crate) sick_receivers: bool,
}

/// From this seed on, worlds last for days: most of it is waiting, so an hour is cheap.
pub(crate) const LONG_FROM: u64 = 1_000_000;

impl Plan {
    pub(crate) fn of(seed: u64, rng: &mut fastrand::Rng) -> Self {
        let mut on = |permille: u32| rng.u32(..1_000) < permille;
        let faults = Faults {
            crash: on(500),
            freeze: on(400),
            stop: on(500),
            cut: on(300),
            coordinator: on(350),
            partition_outage: on(350),
            write_fails: on(350),
            write_lost: on(250),
            write_late: on(350),
            commit_refused: on(350),
            commit_lost: on(300),
            commit_late: on(300),
            router_repeats: on(400),
            endpoint_changes: on(450),
            retention: on(300),
            garbage: on(200),
            sick_receivers: on(850),
            removal: on(400),
        };
        let skewed = on(400);
        let any_skew = Promise::KEPT.contains(&Promise::AnySkew);
        let (largest, fastest) = if any_skew {
            (30 * MICROS, 100)
        } else {
            (8 * MICROS, 4)
        };
        let (limits, replays, ordered) = (on(500), on(300), on(350));
        let orders_after_each = on(500);
        let default_broker = on(700);
        let workers = [1, 1, 2, 2, 3, 4][rng.usize(..6)];
        let short = [
            5 * MINUTE,
            10 * MINUTE,
            20 * MINUTE,
            HOUR,
            3 * HOUR,
            12 * HOUR,
        ];
        let long = [1, 2, 4, 7, 14, 21].map(|days| days * 24 * HOUR);
        let times = if seed < LONG_FROM { short } else { long };
        let faulty_for = times[rng.usize(..6)];
        let (session, heartbeat) = if default_broker { (45, 5) } else { (30, 1) };
        Self {
            slices: rng.u16(1..=6),
            workers,
            endpoints: rng.usize(1..=10),
            faulty_for,
            bursts: rng.u32(4..40),
            burst_max: [1, 4, 12, 40][rng.usize(..4)],
            strikes: rng.u32(2..24),
            in_flight_max: [4, 16, 64, 2_048][rng.usize(..4)],
            session: Duration::from_secs(session),
            heartbeat: Duration::from_secs(heartbeat),
            faults,
            limits,
            replays,
            ordered,
            clock_offset: if skewed {
                [50_000, MICROS, largest][rng.usize(..3)]
            } else {
                0
            },
            clock_rate: if skewed { rng.u32(0..fastest) } else { 0 },
            batch_max: [1, 8, 100][rng.usize(..3)],
            flood: None,
            gap_max: 3,
            orders_after_each,
        }
    }

    /// Makes few worlds flooded: many records, large ones, or ones far apart, for few slices, and
    /// acknowledgements that come late. Drawn apart: all other worlds stay what they are.
    pub(crate) fn flooded(mut self, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(!seed);
        if rng.u32(..1_000) >= 40 {
            return self;
        }
        let (events, bytes, gap_max) = [
            (2_500, 100, 3),
            (500, 64 << 10, 3),
            (120, 400 << 10, 3),
            (400, 100, 200_000),
        ][rng.usize(..4)];
        self.flood = Some(Flood { events, bytes });
        self.gap_max = gap_max;
        self.slices = rng.u16(1..=2);
        self.endpoints = rng.usize(8..=12);
        self.limits = false;
        self.faults.write_late = true;
        self.batch_max = 100;
        self
    }

    /// Largest difference between two clocks of the installation at the end of a run of at most
    /// forty days, the broker's among them.
    pub(crate) fn clock_spread(&self) -> Micros {
        2 * self.clock_offset + 2 * (40 * 24 * HOUR / 1_000_000) * u64::from(self.clock_rate)
    }
}
