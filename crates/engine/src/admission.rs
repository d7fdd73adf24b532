//! How much of an endpoint may wait in memory before the rest goes to its backlog.
//!
//! Decides the length of an endpoint's queue by what is left of the slice's room: each gets at
//! most a part of what is free (dynamic thresholds after Choudhury and Hahne, 1998), so that one
//! endpoint alone may use much, many busy ones share, and there is always room for one more that
//! was idle. An endpoint that does not admit (breaker open, gate closed, limit used up) gets less, a paused one
//! nothing. Leaves what is done with what does not fit to `slice`.

use crate::offsets::HOLES_MAX;
use crate::slice::HELD_BYTES_MAX;

/// Most records of an endpoint that wait in memory.
pub const QUEUE_MAX: usize = 64;

/// Most records of an endpoint that waits for its breaker, its gate, or for long for its limit.
pub const QUEUE_CLOSED_MAX: usize = 8;

/// How an endpoint takes deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admitting {
    /// One could start at once.
    Free,
    /// As fast as it can.
    Yes,
    /// Not before its breaker or its gate opens, or its limit allows it, in more than 5 s.
    Closed,
    /// Not before somebody says so.
    Paused,
}

/// What a slice holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    /// Records of the same lane, whose frontier waits for them.
    pub(crate) records: usize,
    /// Bytes of the records of all lanes.
    pub(crate) bytes: usize,
}

/// Whether one more record of `bytes` may join `queued` records of `queued_bytes`.
pub(crate) fn has_room(
    admitting: Admitting,
    held: Held,
    queued: usize,
    queued_bytes: usize,
    bytes: usize,
) -> bool {
    let free = HOLES_MAX.saturating_sub(held.records);
    let free_bytes = HELD_BYTES_MAX.saturating_sub(held.bytes);
    let (records, part) = match admitting {
        Admitting::Free if queued == 0 => return true,
        Admitting::Free | Admitting::Yes => ((free / 8).min(QUEUE_MAX), 8),
        Admitting::Closed => ((free / 32).min(QUEUE_CLOSED_MAX), 32),
        Admitting::Paused => return false,
    };
    queued < records && queued_bytes + bytes <= free_bytes / part
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(records: usize) -> Held {
        Held { records, bytes: 0 }
    }

    #[test]
    fn a_queue_shrinks_as_the_slice_fills() {
        let length = |admitting, records| {
            let fits = |n: &usize| !has_room(admitting, held(records), *n, 0, 100);
            (0..1_000).find(fits).expect("an end")
        };
        assert_eq!(length(Admitting::Yes, 0), QUEUE_MAX);
        assert_eq!(length(Admitting::Closed, 0), QUEUE_CLOSED_MAX);
        assert_eq!(length(Admitting::Yes, 900), 12);
        assert_eq!(length(Admitting::Closed, 900), 3);
        assert_eq!(length(Admitting::Yes, HOLES_MAX), 0);
        assert_eq!(length(Admitting::Paused, 0), 0);
    }

    #[test]
    fn however_many_are_busy_the_slice_is_never_full() {
        let mut used = 0;
        for _endpoint in 0..10_000 {
            let mut queued = 0;
            while has_room(Admitting::Closed, held(used), queued, 0, 100) {
                queued += 1;
                used += 1;
            }
        }
        assert!(used <= HOLES_MAX - 31, "{used}: an idle endpoint has room");
    }

    #[test]
    fn what_could_start_at_once_is_never_turned_away() {
        let full = Held {
            records: HOLES_MAX,
            bytes: HELD_BYTES_MAX,
        };
        assert!(has_room(Admitting::Free, full, 0, 0, 1 << 20));
        assert!(!has_room(Admitting::Yes, full, 0, 0, 1));
    }

    #[test]
    fn large_records_count_by_their_bytes() {
        let size = HELD_BYTES_MAX / 16;
        assert!(has_room(Admitting::Yes, held(0), 1, size, size));
        assert!(!has_room(Admitting::Yes, held(0), 2, 2 * size, size));
    }
}
