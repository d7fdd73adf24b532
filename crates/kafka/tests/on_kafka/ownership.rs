//! Who owns slices, how they are handed over, and how commits are answered.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use postrider_kafka::GroupProtocol;
use postrider_kafka::membership::{CommitOffset, CommitResult, MembershipEvent};

use crate::world::{LIMIT, SLICES, World};

fn next(happened: &Receiver<MembershipEvent>) -> MembershipEvent {
    happened
        .recv_timeout(LIMIT)
        .expect("an event of the member")
}

/// What is assigned after events that add up to `count` partitions.
fn assigned(happened: &Receiver<MembershipEvent>, count: usize) -> BTreeSet<i32> {
    let mut owned = BTreeSet::new();
    while owned.len() < count {
        match next(happened) {
            MembershipEvent::Assigned(partitions) => owned.extend(partitions),
            other => panic!("{other:?} before {count} partitions were assigned"),
        }
    }
    owned
}

fn hand_over(protocol: GroupProtocol, name: &str) {
    let world = World::new(name);
    let (first, of_first) = world.join(protocol);
    assert_eq!(assigned(&of_first, SLICES as usize).len(), SLICES as usize);

    let (second, of_second) = world.join(protocol);
    let revoked = match next(&of_first) {
        MembershipEvent::Revoked {
            number: 1,
            partitions,
        } => partitions,
        other => panic!("{other:?}"),
    };
    assert_eq!(revoked.len(), SLICES as usize / 2);
    // As long as the first has not answered, the second gets none of them, and the first may
    // commit for them.
    let offsets = revoked
        .iter()
        .map(|partition| world.offset(*partition, 7, "map"));
    first.commit(offsets.collect());
    assert_eq!(
        next(&of_first),
        MembershipEvent::CommitFinished(CommitResult::Accepted)
    );
    assert!(
        !of_second
            .try_iter()
            .any(|e| matches!(e, MembershipEvent::Assigned(p) if !p.is_empty())),
        "given away before they were handed back"
    );
    first.hand_back(1);
    let taken = assigned(&of_second, revoked.len());
    assert_eq!(taken, revoked.iter().copied().collect());

    // What the first committed last is what the second finds.
    let standings = world.standings(&(0..SLICES).collect::<Vec<_>>());
    for (partition, standing) in (0..).zip(standings) {
        let expected = revoked.contains(&partition).then(|| (7, "map".to_owned()));
        assert_eq!(standing.committed, expected, "partition {partition}");
    }

    // A member that leaves in order gives everything back at once.
    let left_at = Instant::now();
    first.leave();
    drop(first);
    assert!(
        left_at.elapsed() < Duration::from_secs(8),
        "closing took {:?}",
        left_at.elapsed()
    );
    assert_eq!(
        assigned(&of_second, SLICES as usize - revoked.len()).len(),
        3
    );
    second.leave();
}

/// The one that ends has a revocation to answer, and answers it by leaving only.
#[test]
fn a_member_that_is_dropped_without_leaving_keeps_its_slices_from_others() {
    let world = World::new("abandoned");
    let (first, of_first) = world.join(GroupProtocol::Consumer);
    assert_eq!(assigned(&of_first, SLICES as usize).len(), SLICES as usize);
    let (second, of_second) = world.join(GroupProtocol::Consumer);
    let revoked = next(&of_first);
    assert!(
        matches!(revoked, MembershipEvent::Revoked { number: 1, .. }),
        "{revoked:?}"
    );
    let dropped_at = Instant::now();
    drop(first);
    assert!(
        dropped_at.elapsed() < Duration::from_secs(2),
        "the end of a process is not held up"
    );
    // Six heartbeats; one that leaves hands over with the second. The end of the session cannot be
    // seen here, as it begins with the end of this process.
    let until = Instant::now() + Duration::from_secs(6);
    while let Ok(event) = of_second.recv_deadline(until) {
        match event {
            MembershipEvent::Assigned(partitions) if partitions.is_empty() => {}
            other => panic!("{other:?}"),
        }
    }
    second.leave();
}

#[test]
fn slices_are_handed_over_when_the_owner_says_so() {
    hand_over(GroupProtocol::Consumer, "hand-over");
}

#[test]
fn the_classic_protocol_runs_the_same_code() {
    hand_over(GroupProtocol::Classic, "hand-over-classic");
}

#[test]
fn a_commit_of_a_place_that_does_not_exist_is_told_apart() {
    let world = World::new("unknown-lane");
    let (member, happened) = world.join(GroupProtocol::Consumer);
    assert_eq!(assigned(&happened, SLICES as usize).len(), SLICES as usize);
    let commit = |offsets| {
        member.commit(offsets);
        next(&happened)
    };
    let unknown = MembershipEvent::CommitFinished(CommitResult::UnknownLane);
    let no_topic = CommitOffset {
        topic: "there-is-no-such-topic".into(),
        ..world.offset(0, 5, "")
    };
    assert_eq!(commit(vec![world.offset(0, 5, "map"), no_topic]), unknown);
    let no_partition = world.offset(SLICES, 5, "");
    assert_eq!(
        commit(vec![world.offset(0, 5, "map"), no_partition]),
        unknown
    );
    // Without it, the same request is taken.
    assert_eq!(
        commit(vec![world.offset(0, 5, "map")]),
        MembershipEvent::CommitFinished(CommitResult::Accepted)
    );
}
