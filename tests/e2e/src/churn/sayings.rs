//! What the group answered the dispatchers, from their logs.
//!
//! Decides which log lines those are. Whose commit it was that Kafka took is in no record of
//! Kafka's: only the worker that was answered knows, and says which place it named. Leaves what
//! follows to `audit`.

use std::fs;

use anyhow::Context as _;
use jiff::Timestamp;

use super::journal::{Folder, Place, Said, Saying};

/// The log filter under which a dispatcher says all of it.
pub(super) const FILTER: &str = "info,postrider_dispatcher::shell=debug";

/// Of workers 1 to `started`, each in the order of its log.
///
/// # Errors
/// A log is missing, or a line of it that counts has no time.
pub(super) fn of_workers(folder: &Folder, started: u32) -> anyhow::Result<Vec<Saying>> {
    let mut sayings = Vec::new();
    for worker in 1..=started {
        let file = folder.file(&format!("worker-{worker}.log"));
        let log = fs::read(&file).with_context(|| file.display().to_string())?;
        // one that was killed may have left half a character
        for line in String::from_utf8_lossy(&log).lines() {
            sayings.extend(saying(worker, line)?);
        }
    }
    Ok(sayings)
}

fn saying(worker: u32, line: &str) -> anyhow::Result<Option<Saying>> {
    let said = [
        (": slices assigned", Said::Assigned),
        (": commit accepted", Said::CommitAccepted),
        (": commit refused", Said::CommitRefused),
    ];
    let Some((_, what)) = said.into_iter().find(|(words, _)| line.contains(words)) else {
        return Ok(None);
    };
    let time = line.split_whitespace().next().unwrap_or_default();
    let at: Timestamp = time.parse().with_context(|| line.to_owned())?;
    let at_ms = u64::try_from(at.as_millisecond())?;
    let place = if what == Said::CommitAccepted {
        let place = place(line);
        Some(place.with_context(|| format!("it names no place: {line}"))?)
    } else {
        None
    };
    Ok(Some(Saying {
        at_ms,
        worker,
        what,
        place,
    }))
}

fn place(line: &str) -> Option<Place> {
    let field = |name: &str| {
        let mut fields = line
            .split_whitespace()
            .filter_map(|word| word.split_once('='));
        fields.find(|(of, _)| *of == name).map(|(_, value)| value)
    };
    Some(Place {
        topic: field("topic")?.to_owned(),
        partition: field("partition")?.parse().ok()?,
        offset: field("offset")?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answers_of_the_group_are_read_and_nothing_else() {
        let what = |line: &str| saying(3, line).unwrap().map(|saying| saying.what);
        let line = |words| format!("1970-01-01T00:00:01.250999Z DEBUG postrider_x::shell: {words}");
        let accepted = line("commit accepted topic=p.deliveries partition=5 offset=256");
        assert_eq!(what(&accepted), Some(Said::CommitAccepted));
        let place = saying(3, &accepted).unwrap().unwrap().place.unwrap();
        assert_eq!(place.topic, "p.deliveries");
        assert_eq!((place.partition, place.offset), (5, 256));
        assert!(saying(3, &line("commit accepted")).is_err(), "of what?");
        let refused = line("commit refused: no member of the group any more");
        assert_eq!(what(&refused), Some(Said::CommitRefused));
        assert_eq!(what(&line("slices assigned count=0")), Some(Said::Assigned));
        assert_eq!(what(&line("slices revoked count=2")), None);
        let saying = saying(3, &refused).unwrap().unwrap();
        assert_eq!((saying.at_ms, saying.worker), (1_250, 3));
    }
}
