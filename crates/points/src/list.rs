//! The names, each with what has happened when it is reached; in the order of a delivery's path.

/// A point or a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// `WHO.WHAT.STATE`, by which it is armed.
    pub name: &'static str,
    /// Of a point what has happened, of a fault what is done.
    pub what: &'static str,
}

const fn named(name: &'static str, what: &'static str) -> Named {
    Named { name, what }
}

/// Every point.
pub const POINTS: &[Named] = &[
    named(
        "router.record.read",
        "an intake record was read; nothing is known of it",
    ),
    named(
        "router.event.decoded",
        "it became an event; nobody knows for whom",
    ),
    named(
        "router.delivery.unwritten",
        "the next delivery of its fan-out is made and not written",
    ),
    named(
        "router.delivery.written",
        "the producer has it; nothing is acknowledged",
    ),
    named(
        "router.delivery.acked",
        "it is on the log; the router has not taken note",
    ),
    named(
        "router.fan_out.partly_acked",
        "some deliveries of an event are on the log, and not all",
    ),
    named(
        "router.fan_out.acked",
        "all deliveries of an event are on the log; its offset is not committed",
    ),
    named("router.commit.unsent", "offsets moved; no commit is sent"),
    named("router.commit.sent", "the commit is sent, not answered"),
    named(
        "router.commit.accepted",
        "the group has the offsets; the router has not taken note",
    ),
    named(
        "router.stop.begun",
        "it was told to stop; what is under way is not settled",
    ),
    named(
        "router.stop.committed",
        "told to stop, all is settled and committed; the group is not left",
    ),
    named(
        "dispatcher.slice.assigned",
        "the group gave slices; nothing is done with them",
    ),
    named(
        "dispatcher.offsets.fetched",
        "what a former owner committed of a slice is known",
    ),
    named(
        "dispatcher.fence.unwritten",
        "the slice's fence is made and not written",
    ),
    named(
        "dispatcher.fence.acked",
        "the fence is on the log; nothing of the slice is read",
    ),
    named(
        "dispatcher.state.loaded",
        "what former owners remembered of the slice's endpoints is known",
    ),
    named(
        "dispatcher.endpoints.loaded",
        "all endpoints of the slice are known",
    ),
    named(
        "dispatcher.record.read",
        "a record of a lane was read; the engine does not have it",
    ),
    named(
        "dispatcher.attempt.started",
        "the engine gave out an attempt; no body is made, nothing signed",
    ),
    named(
        "dispatcher.request.signed",
        "the request is made and signed; the client does not have it",
    ),
    named(
        "egress.connection.unmade",
        "a request needs a connection; no name is looked up",
    ),
    named("egress.connection.made", "connected; nothing is written"),
    named(
        "egress.request.written",
        "all of the request is with the operating system; no answer came",
    ),
    named("egress.head.read", "the status is known, the body is not"),
    named(
        "egress.answer.read",
        "the whole answer is read; the dispatcher does not know",
    ),
    named(
        "dispatcher.report.come",
        "what became of the attempt is known, and not judged",
    ),
    named(
        "dispatcher.attempt_record.unwritten",
        "it is judged; its attempt record is made and not written",
    ),
    named(
        "dispatcher.attempt_record.acked",
        "its attempt record is on the log; the delivery is not settled",
    ),
    named(
        "dispatcher.retry.unwritten",
        "a failed delivery's copy for a rung is made and not written",
    ),
    named(
        "dispatcher.retry.acked",
        "the copy is on the rung; its source is not settled",
    ),
    named(
        "dispatcher.backlog.unwritten",
        "a delivery's copy for the backlog is made and not written",
    ),
    named(
        "dispatcher.backlog.acked",
        "the copy is on the backlog; its source is not settled",
    ),
    named(
        "dispatcher.dead_letter.unwritten",
        "a delivery is given up; its dead letter is made and not written",
    ),
    named(
        "dispatcher.dead_letter.acked",
        "the dead letter is on the log; its source is not settled",
    ),
    named(
        "dispatcher.state.unwritten",
        "what the next owner must know of an endpoint (a reservation, a cursor) is not written",
    ),
    named(
        "dispatcher.state.acked",
        "it is on the log; nothing was done that rests on it",
    ),
    named(
        "dispatcher.commit.unsent",
        "the engine ordered a commit; the member does not have it",
    ),
    named("kafka.commit.sent", "the member sent it; no answer came"),
    named(
        "dispatcher.commit.accepted",
        "the group has the offsets; the engine does not know",
    ),
    named(
        "dispatcher.drain.begun",
        "it was told to stop; the engine does not know",
    ),
    named(
        "dispatcher.hand_back.unsent",
        "what a revoked slice had is settled and committed; the group is not answered",
    ),
    named(
        "dispatcher.leave.unsent",
        "told to stop, all is drained and committed; the group is not left",
    ),
    named(
        "kafka.group.left",
        "the group was told; the process goes on for a moment",
    ),
];

/// Every fault: what a broken Postrider would do, so that an audit can be seen to find it.
pub const FAULTS: &[Named] = &[
    named(
        "router.delivery.dropped",
        "deliveries of events whose id ends in 3 are not written and count as acknowledged",
    ),
    named(
        "dispatcher.attempt_record.dropped",
        "attempt records are not written and count as acknowledged",
    ),
    named(
        "dispatcher.retry.dropped",
        "copies for rungs are not written and count as acknowledged",
    ),
    named("dispatcher.retry.early", "copies for rungs are due at once"),
    named(
        "dispatcher.delivery.repeated",
        "every request is sent twice, but to endpoints with a limit or an order",
    ),
    named("dispatcher.limit.ignored", "endpoints have no rate limit"),
    named(
        "dispatcher.reservation.dropped",
        "what has to be remembered of endpoints with a limit is not written and counts as acknowledged",
    ),
    named(
        "dispatcher.order.swapped",
        "of two deliveries of one ordering key that are read together each comes at the place of the other",
    ),
    named(
        "dispatcher.signature.wrong_key",
        "requests are signed with a key that nobody has",
    ),
];
