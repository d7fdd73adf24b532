//! Who sent for a slice after another had begun to.
//!
//! Decides by attempt records: an ownership of a slice begins with its first attempt, and ends for
//! all earlier ones then.

use std::collections::BTreeMap;

use crate::audit::Attempted;

/// Attempts that an earlier owner of their slice started after a later one had begun.
pub fn former(attempts: &[Attempted]) -> Vec<&Attempted> {
    let mut began: BTreeMap<(u16, u64), u64> = BTreeMap::new();
    for attempt in attempts {
        let began = began
            .entry((attempt.slice, attempt.epoch))
            .or_insert(u64::MAX);
        *began = (*began).min(attempt.started_ms);
    }
    let is_former = |attempt: &&Attempted| {
        let later = (attempt.slice, attempt.epoch + 1)..=(attempt.slice, u64::MAX);
        let mut later = began.range(later);
        later.any(|(_, began)| *began < attempt.started_ms)
    };
    attempts.iter().filter(is_former).collect()
}

#[cfg(test)]
mod tests {
    use super::former;
    use crate::audit::Attempted;
    use crate::audit::examples::attempted;

    #[test]
    fn an_owner_is_silent_once_its_successor_has_begun() {
        let by = |epoch, slice, started_ms| Attempted {
            epoch,
            slice,
            ..attempted(0, 1, started_ms)
        };
        let mut all = vec![by(1, 0, 10), by(2, 0, 20), by(1, 1, 30), by(2, 0, 40)];
        assert!(former(&all).is_empty());
        all.push(by(1, 0, 21));
        assert_eq!(former(&all), [&by(1, 0, 21)]);
    }
}
