//! Who is killed at each point, when it gets there, and how often at least.

use std::ops::RangeInclusive;

use postrider_points::{Named, POINTS};

/// Which worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Router,
    Dispatcher,
}

impl Role {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Router => "router",
            Self::Dispatcher => "dispatcher",
        }
    }
}

/// What it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// The load, or nothing.
    Load,
    /// That it is stopped (SIGTERM) with deliveries under way.
    Stop,
    /// That another worker joins.
    Join,
}

/// A point and how a worker comes there.
#[derive(Clone, Debug)]
pub struct Case {
    /// The point.
    pub point: &'static Named,
    /// At which arrivals a worker may be killed: the course comes there so often at least.
    pub arrivals: RangeInclusive<u32>,
    pub(super) who: Role,
    pub(super) when: When,
}

/// A case for each point, in their order.
///
/// # Panics
/// When one has none, or a case has no point.
#[must_use]
pub fn cases() -> Vec<Case> {
    assert_eq!(POINTS.len(), PLACES.len(), "each point has a case");
    let case = |point: &'static Named| {
        let place = PLACES.iter().find(|(name, ..)| *name == point.name);
        let (_, when, arrivals) = place.unwrap_or_else(|| panic!("{} has no case", point.name));
        let who = if point.name.starts_with("router.") {
            Role::Router
        } else {
            Role::Dispatcher
        };
        Case {
            point,
            arrivals: arrivals.clone(),
            who,
            when: *when,
        }
    };
    POINTS.iter().map(case).collect()
}

/// When a point is reached, and at which arrivals a worker may be killed. The first commits of a
/// dispatcher are those of its lease, before it has sent anything.
const PLACES: &[(&str, When, RangeInclusive<u32>)] = &[
    ("router.record.read", When::Load, 1..=45),
    ("router.event.decoded", When::Load, 1..=45),
    ("router.delivery.unwritten", When::Load, 1..=60),
    ("router.delivery.written", When::Load, 1..=60),
    ("router.delivery.acked", When::Load, 1..=60),
    ("router.fan_out.partly_acked", When::Load, 1..=8),
    ("router.fan_out.acked", When::Load, 1..=45),
    ("router.commit.unsent", When::Load, 1..=3),
    ("router.commit.sent", When::Load, 1..=3),
    ("router.commit.accepted", When::Load, 1..=3),
    ("router.stop.begun", When::Stop, 1..=1),
    ("router.stop.committed", When::Stop, 1..=1),
    ("dispatcher.slice.assigned", When::Load, 1..=1),
    ("dispatcher.offsets.fetched", When::Load, 1..=2),
    ("dispatcher.fence.unwritten", When::Load, 1..=2),
    ("dispatcher.fence.acked", When::Load, 1..=2),
    ("dispatcher.state.loaded", When::Load, 1..=2),
    ("dispatcher.endpoints.loaded", When::Load, 1..=2),
    ("dispatcher.record.read", When::Load, 1..=60),
    ("dispatcher.attempt.started", When::Load, 1..=60),
    ("dispatcher.request.signed", When::Load, 1..=60),
    ("egress.connection.unmade", When::Load, 1..=2),
    ("egress.connection.made", When::Load, 1..=2),
    ("egress.request.written", When::Load, 1..=60),
    ("egress.head.read", When::Load, 1..=60),
    ("egress.answer.read", When::Load, 1..=60),
    ("dispatcher.report.come", When::Load, 1..=60),
    ("dispatcher.attempt_record.unwritten", When::Load, 1..=60),
    ("dispatcher.attempt_record.acked", When::Load, 1..=60),
    ("dispatcher.retry.unwritten", When::Load, 1..=4),
    ("dispatcher.retry.acked", When::Load, 1..=4),
    ("dispatcher.backlog.unwritten", When::Load, 1..=16),
    ("dispatcher.backlog.acked", When::Load, 1..=16),
    ("dispatcher.dead_letter.unwritten", When::Load, 1..=4),
    ("dispatcher.dead_letter.acked", When::Load, 1..=4),
    ("dispatcher.state.unwritten", When::Load, 1..=6),
    ("dispatcher.state.acked", When::Load, 1..=6),
    ("dispatcher.commit.unsent", When::Load, 2..=7),
    ("kafka.commit.sent", When::Load, 2..=7),
    ("dispatcher.commit.accepted", When::Load, 2..=7),
    ("dispatcher.drain.begun", When::Stop, 1..=1),
    ("dispatcher.hand_back.unsent", When::Join, 1..=1),
    ("dispatcher.leave.unsent", When::Stop, 1..=1),
    ("kafka.group.left", When::Stop, 1..=1),
];
