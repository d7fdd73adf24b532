//! Scenarios of one limit. What holds whatever happens is in `laws`.

mod laws;

use super::window::GROUPS_MAX;
use super::*;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
const MICRO: Duration = Duration::from_micros(1);

fn limit(attempts: u32, per: Duration) -> RateLimit {
    RateLimit {
        attempts,
        per,
        smooth: false,
    }
}

fn smooth(attempts: u32, per: Duration) -> RateLimit {
    RateLimit {
        smooth: true,
        ..limit(attempts, per)
    }
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_secs(1_000_000 + seconds)
}

/// Starts what the limit and written reservations allow, each reservation acknowledged at once.
fn start_all(limiter: &mut Limiter, now: Timestamp) -> (u32, Timestamp) {
    let mut started = 0;
    loop {
        match limiter.start(now) {
            Ok(()) => started += 1,
            Err(Refusal::Unreserved) => {
                limiter.reserve(now).expect("of use");
                limiter.reserved();
            }
            Err(Refusal::Until(at)) => return (started, at),
            Err(Refusal::Awaited) => panic!("acknowledged at once"),
        }
    }
}

/// With endless demand: attempts per interval over this time, in percent of the limit. Each
/// reservation is acknowledged after `ack`, each wait ends late by up to `lateness`.
fn used(limit: RateLimit, over: Duration, ack: Duration, lateness: Duration) -> f64 {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut late = || Duration::from_micros(rng.u64(0..=lateness.as_micros() as u64));
    let mut limiter = Limiter::new(limit);
    let mut now = at(0);
    let mut started = 0_u64;
    while now < at(0) + over {
        match limiter.start(now) {
            Ok(()) => started += 1,
            Err(Refusal::Until(at)) => now = at + late(),
            Err(Refusal::Unreserved) => {
                limiter.reserve(now).expect("of use");
                now = now + ack + late();
                limiter.reserved();
            }
            Err(Refusal::Awaited) => panic!("acknowledged by now"),
        }
    }
    let intervals = over.as_secs_f64() / limit.per.as_secs_f64();
    100.0 * started as f64 / f64::from(limit.attempts) / intervals
}

#[test]
fn when_the_limit_is_used_up_the_next_waits_for_the_oldest_to_leave() {
    let mut limiter = Limiter::new(limit(2, SECOND));
    assert_eq!(limiter.start(at(0)), Ok(()));
    assert_eq!(limiter.start(at(0) + SECOND / 2), Ok(()));
    let free = at(1) + START_GRACE;
    assert_eq!(limiter.start(at(0) + SECOND / 2), Err(Refusal::Until(free)));
    assert_eq!(limiter.start(free - MICRO), Err(Refusal::Until(free)));
    assert_eq!(limiter.start(free), Ok(()));
    let free = free + SECOND / 2;
    assert_eq!(limiter.start(free - MICRO), Err(Refusal::Until(free)));
}

#[test]
fn one_a_day_is_exact() {
    let mut limiter = Limiter::new(limit(1, DAY));
    let mut now = at(5);
    for _ in 0..10 {
        let (started, free) = start_all(&mut limiter, now);
        assert_eq!((started, free), (1, now + DAY + START_GRACE));
        assert_eq!(start_all(&mut limiter, free - MICRO), (0, free));
        now = free;
    }
}

#[test]
fn endless_demand_uses_the_limit() {
    let none = Duration::ZERO;
    let millis = Duration::from_millis;
    assert!(used(limit(50, SECOND), 60 * SECOND, none, none) >= 95.0);
    assert!(used(limit(10_000, SECOND), 20 * SECOND, none, none) >= 95.0);
    assert!(used(limit(10_000, SECOND), 20 * SECOND, none, millis(1)) >= 95.0);
    let minute = 60 * SECOND;
    assert!(used(limit(600, minute), 20 * minute, millis(3), none) >= 95.0);
    assert!(used(limit(600, minute), 20 * minute, millis(3), millis(1)) >= 95.0);
    assert!(used(limit(1_000_000, DAY), 3 * DAY, millis(3), none) >= 95.0);
}

#[test]
fn spaced_starts_use_the_limit() {
    let none = Duration::ZERO;
    let almost = Duration::from_micros(900);
    for attempts in [7, 50, 1_000, 9_999, 10_000] {
        let exact = used(smooth(attempts, SECOND), 20 * SECOND, none, none);
        assert!(exact >= 95.0, "{attempts}: {exact} %");
        let late = used(smooth(attempts, SECOND), 20 * SECOND, none, almost);
        assert!(late >= 95.0, "{attempts}: {late} %, each late");
    }
    let minute = 60 * SECOND;
    let ack = Duration::from_millis(3);
    assert!(used(smooth(600, minute), 20 * minute, ack, almost) >= 95.0);
}

#[test]
fn a_demand_spread_over_the_interval_uses_the_limit() {
    let mut limiter = Limiter::new(limit(10_000, SECOND));
    let mut now = at(0);
    let mut started = 0;
    while now < at(20) {
        started += u32::from(limiter.start(now).is_ok());
        now = now + Duration::from_micros(90);
    }
    assert!(started >= 190_000, "{started}");
}

#[test]
fn spaced_starts_wait_for_each_other() {
    let mut limiter = Limiter::new(smooth(4, SECOND));
    assert_eq!(limiter.start(at(1)), Ok(()));
    let next = at(1) + SECOND / 4 - LATE_MAX;
    assert_eq!(limiter.start(at(1)), Err(Refusal::Until(next)));
    assert_eq!(limiter.start(next), Ok(()));
    let next = next + SECOND / 4;
    assert_eq!(limiter.start(next - MICRO), Err(Refusal::Until(next)));
    limiter.give_back(at(1) + SECOND / 4 - LATE_MAX);
    assert_eq!(limiter.start(next - SECOND / 4), Ok(()), "in its place");
    limiter.give_back(at(1));
    let refused = limiter.start(next - MICRO);
    assert_eq!(refused, Err(Refusal::Until(next)), "it was not the last");
}

#[test]
fn a_start_given_back_is_free_again() {
    let mut limiter = Limiter::new(limit(1, SECOND));
    assert_eq!(limiter.start(at(0)), Ok(()));
    limiter.give_back(at(0));
    assert!(limiter.is_idle(at(0)));
    assert_eq!(limiter.start(at(0)), Ok(()));
}

#[test]
fn the_place_of_another_start_stays_taken() {
    let mut limiter = Limiter::new(limit(2, SECOND));
    let later = at(0) + START_GRACE;
    assert_eq!(limiter.start(at(0)), Ok(()));
    assert_eq!(limiter.start(later), Ok(()));
    limiter.give_back(at(0));
    assert_eq!(limiter.start(later), Ok(()));
    let free = later + START_GRACE + SECOND;
    assert_eq!(limiter.start(free - MICRO), Err(Refusal::Until(free)));
}

#[test]
fn what_left_already_is_not_given_back_again() {
    let mut limiter = Limiter::new(limit(1, SECOND));
    assert_eq!(limiter.start(at(0)), Ok(()));
    assert_eq!(limiter.start(at(2)), Ok(()));
    limiter.give_back(at(0));
    assert!(limiter.start(at(2)).is_err());
}

#[test]
fn starts_go_on_counting_when_the_limit_changes() {
    let mut limiter = Limiter::new(limit(5, SECOND));
    for tenth in 0..5 {
        assert_eq!(limiter.start(at(0) + tenth * SECOND / 10), Ok(()));
    }
    limiter.change(limit(3, SECOND));
    let third = at(0) + SECOND / 5 + START_GRACE + SECOND;
    let now = at(0) + SECOND / 2;
    assert_eq!(limiter.start(now), Err(Refusal::Until(third)));
    limiter.change(limit(6, 60 * SECOND));
    assert_eq!(start_all(&mut limiter, now).0, 1);
    limiter.change(limit(6, SECOND));
    assert_eq!(start_all(&mut limiter, at(2)).0, 6, "they left");
    limiter.change(smooth(50, 5 * SECOND));
    let next = at(2) + SECOND / 10;
    assert_eq!(limiter.start(at(2)), Err(Refusal::Until(next)));
}

#[test]
fn a_long_interval_starts_nothing_without_a_written_reservation() {
    let mut limiter = Limiter::new(limit(128, 60 * SECOND));
    assert_eq!(limiter.start(at(0)), Err(Refusal::Unreserved));
    limiter.reserved();
    assert_eq!(limiter.start(at(0)), Err(Refusal::Unreserved), "of nothing");
    let memory = limiter.reserve(at(0)).expect("of use");
    let reserved = Reserved {
        attempts: 2,
        until: at(0) + RESERVED_MIN,
    };
    assert_eq!(memory.starts, []);
    assert_eq!(memory.reserved, Some(reserved));
    assert_eq!(limiter.start(at(0)), Err(Refusal::Awaited));
    assert_eq!(limiter.snapshot(at(0)), Some(memory), "it may be written");
    limiter.reserved();
    assert_eq!(limiter.start(at(0)), Ok(()));
    let left = limiter.snapshot(at(0)).expect("something counts");
    assert_eq!(left.starts, [(at(0) + START_GRACE, 1)]);
    assert_eq!(left.reserved.map(|left| left.attempts), Some(1));
    let after = at(0) + RESERVED_MIN + MICRO;
    assert_eq!(limiter.start(after), Err(Refusal::Unreserved), "too late");
    assert_eq!(limiter.start(after - MICRO), Ok(()));
    assert_eq!(limiter.start(after), Err(Refusal::Unreserved), "used up");
}

#[test]
fn a_used_up_limit_reserves_nothing() {
    let mut limiter = Limiter::new(limit(64, 60 * SECOND));
    assert_eq!(start_all(&mut limiter, at(0)).0, 64);
    assert_eq!(limiter.reserve(at(1)), None);
    let free = at(60) + START_GRACE;
    assert_eq!(limiter.start(at(1)), Err(Refusal::Until(free)));
    assert!(limiter.reserve(free).is_some());
    limiter.change(limit(64, RESERVED_ABOVE));
    assert!(limiter.is_idle(free), "the reservation is of no use");
    let mut short = Limiter::new(limit(64, RESERVED_ABOVE));
    assert_eq!(short.reserve(at(0)), None, "needs none");
    assert_eq!(short.start(at(0)), Ok(()));
}

#[test]
fn a_successor_counts_what_was_reserved_as_started() {
    let limit = limit(640, 64 * SECOND);
    let mut limiter = Limiter::new(limit);
    limiter.reserve(at(0)).expect("of use");
    limiter.reserved();
    for _ in 0..3 {
        assert_eq!(limiter.start(at(1)), Ok(()));
    }
    let written = limiter.reserve(at(2)).expect("of use");
    assert_eq!(
        written.starts,
        [(at(1) + START_GRACE, 3)],
        "7 are free again"
    );

    let mut soon = Limiter::restored(limit, &written, at(3));
    assert_eq!(start_all(&mut soon, at(3)).0, 640 - 3 - 10);
    let free = at(3) + START_GRACE + 64 * SECOND;
    assert_eq!(start_all(&mut soon, free - MICRO), (3, free));
    let counting = |now| Limiter::restored(limit, &written, now).memory(now);
    let until = at(2) + RESERVED_MIN + START_GRACE;
    let groups = counting(at(30)).expect("they count").starts;
    assert_eq!(groups, [(at(1) + START_GRACE, 3), (until, 10)]);
    assert_eq!(
        counting(until + 64 * SECOND - MICRO).map(|m| m.starts.len()),
        Some(1)
    );
    assert_eq!(counting(until + 64 * SECOND), None);
}

#[test]
fn a_clean_move_neither_loses_nor_gains() {
    for limit in [
        limit(100, SECOND),
        limit(1_000, SECOND),
        limit(1_000, 60 * SECOND),
        smooth(5, SECOND),
    ] {
        let mut moved = Limiter::new(limit);
        let mut stayed = Limiter::new(limit);
        let mut now = at(0);
        for turn in 0..2_000_u32 {
            if turn % 10 == 0 {
                moved = match moved.memory(now) {
                    Some(memory) => Limiter::restored(limit, &memory, now),
                    None => Limiter::new(limit),
                };
            }
            let each = [&mut moved, &mut stayed].map(|limiter| {
                loop {
                    match limiter.start(now) {
                        Err(Refusal::Unreserved) => {
                            limiter.reserve(now).expect("of use");
                            limiter.reserved();
                        }
                        answer => break answer,
                    }
                }
            });
            if !limit.smooth {
                assert_eq!(each[0], each[1], "{limit:?}, turn {turn}");
            }
            now = now + limit.per / (2 * limit.attempts);
        }
        // each move of a spaced one may cost it its lateness
        let last = |limiter: &Limiter| limiter.window.last().expect("some started");
        assert!(last(&moved).since(last(&stayed)) <= limit.per);
        assert!(last(&stayed).since(last(&moved)) <= limit.per);
    }
}

#[test]
fn a_predecessors_fast_clock_closes_nothing_for_longer_than_an_interval() {
    let limit = limit(2, SECOND);
    let memory = LimiterMemory {
        starts: vec![(at(3_600), 1), (at(7_200), 4_000_000_000), (at(1), 0)],
        reserved: None,
    };
    let mut limiter = Limiter::restored(limit, &memory, at(0));
    let free = at(0) + START_GRACE + SECOND;
    assert_eq!(limiter.start(at(0)), Err(Refusal::Until(free)));
    assert_eq!(start_all(&mut limiter, free).0, 2);
}

#[test]
fn a_record_out_of_order_is_read() {
    let starts = |n: u64| {
        (
            at(0) + 1_000 * MICRO * (n as u32 * 7_919 % 500_000),
            u32::MAX,
        )
    };
    let memory = LimiterMemory {
        starts: (0..100_000).map(starts).collect(),
        reserved: Some(Reserved {
            attempts: u32::MAX,
            until: Timestamp::MAX,
        }),
    };
    let mut limiter = Limiter::restored(limit(1, 600 * SECOND), &memory, at(550));
    let kept = limiter.memory(at(550)).expect("they count");
    assert!(kept.starts.len() <= GROUPS_MAX);
    assert_eq!(
        start_all(&mut limiter, at(550) + START_GRACE + 600 * SECOND).0,
        1
    );
}

#[test]
fn too_many_groups_are_put_together() {
    let starts = |n: u64| (at(0) + SECOND * n as u32 / 100, 2);
    let memory = LimiterMemory {
        starts: (0..60_000).map(starts).collect(),
        reserved: None,
    };
    let limit = limit(100, 600 * SECOND);
    let now = at(599) + SECOND / 2;
    let kept = Limiter::restored(limit, &memory, now).memory(now);
    let kept = kept.expect("they count").starts;
    assert!((128..=GROUPS_MAX).contains(&kept.len()), "{}", kept.len());
    assert!(kept.is_sorted());
    let counts = kept.iter().map(|(_, count)| count);
    assert_eq!(counts.sum::<u32>(), 120_000);
    let mut half = Limiter::restored(limit, &memory, now);
    half.change(RateLimit {
        attempts: 60_000,
        ..limit
    });
    let Err(Refusal::Until(free)) = half.start(now) else {
        panic!("120 000 count");
    };
    let exact = at(300) + 600 * SECOND;
    assert!(free >= exact - SECOND / 100 && free <= exact + 600 * SECOND / 128);
}

#[test]
fn an_endpoint_that_rests_may_be_forgotten() {
    let mut limiter = Limiter::new(limit(3, 60 * SECOND));
    assert!(limiter.is_idle(at(0)));
    assert_eq!(
        (limiter.memory(at(0)), limiter.snapshot(at(0))),
        (None, None)
    );
    limiter.reserve(at(0)).expect("of use");
    assert!(!limiter.is_idle(at(0)), "it was asked for");
    assert_eq!(limiter.memory(at(0)), None, "nothing started");
    limiter.reserved();
    assert_eq!(limiter.start(at(0)), Ok(()));
    let left = at(60) + START_GRACE;
    assert!(!limiter.is_idle(left - MICRO));
    assert!(limiter.is_idle(left));
    assert_eq!((limiter.memory(left), limiter.snapshot(left)), (None, None));
}

#[test]
fn a_limiter_remembers_groups_not_starts() {
    let per = 2_000 * SECOND;
    let mut limiter = Limiter::new(limit(20_000_000, per));
    let mut now = at(0);
    for _ in 0..40_000 {
        assert_eq!(start_all_of(&mut limiter, now, 5), 5);
        now = now + SECOND / 10;
    }
    let groups = limiter.memory(now).expect("they count").starts.len();
    assert!((100..=130).contains(&groups), "{groups}");
}

fn start_all_of(limiter: &mut Limiter, now: Timestamp, wanted: u32) -> u32 {
    let mut started = 0;
    while started < wanted {
        match limiter.start(now) {
            Ok(()) => started += 1,
            Err(Refusal::Unreserved) => {
                limiter.reserve(now).expect("of use");
                limiter.reserved();
            }
            Err(_) => break,
        }
    }
    started
}

#[test]
fn a_reservation_that_was_not_written_and_is_of_no_use_is_asked_for_again_later() {
    let mut limiter = Limiter::new(limit(2, 60 * SECOND));
    assert_eq!(start_all_of(&mut limiter, at(0), 1), 1);
    limiter.reserve(at(0)).expect("of use");
    limiter.change(limit(1, 60 * SECOND));
    assert_eq!(limiter.reserve(at(1)), None, "the limit is used up");
    assert_eq!(limiter.start(at(61)), Err(Refusal::Unreserved));
    limiter.reserve(at(61)).expect("of use");
    limiter.reserved();
    assert_eq!(limiter.start(at(61)), Ok(()));
}
